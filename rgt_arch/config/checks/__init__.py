"""The checks behind `validate_options`, one module for each subject; they record problems in a Report."""
