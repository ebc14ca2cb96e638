"""Command line programs: run, apply."""
