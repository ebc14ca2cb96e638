"""Generated parts of README.md and docs/: tables, config reference."""
