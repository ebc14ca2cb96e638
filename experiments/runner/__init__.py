"""Training, workdirs, results and reports, shared by all experiments."""
