"""Option files: safe loading, overrides and validation."""
