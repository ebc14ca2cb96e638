"""Generated parts of README.md and docs/: tables of results, config reference."""
