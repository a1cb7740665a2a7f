"""Running a network on pictures: tiling and self-ensemble."""
