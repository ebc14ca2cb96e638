"""Command line programs and the experiments that they run."""
