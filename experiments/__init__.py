"""Command line programs: run, apply, bench."""
