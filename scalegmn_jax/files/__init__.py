"""Files of networks of any program, read and written back as they were."""
