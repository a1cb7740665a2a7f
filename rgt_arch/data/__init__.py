"""Data preparation and training-side data handling."""
