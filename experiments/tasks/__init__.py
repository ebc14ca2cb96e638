"""The experiments: what each of them trains and measures."""
