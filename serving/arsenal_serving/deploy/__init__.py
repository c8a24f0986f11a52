"""Where a model runs beyond this process: one typed description, and for each kind of place a function to its files."""
