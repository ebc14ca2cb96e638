"""What every experiment shares: training, workdirs, results, reports."""
