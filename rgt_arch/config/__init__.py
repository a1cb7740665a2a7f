"""Option files: safe loading, overrides from the command line, checks before a run, and the reference of keys."""
