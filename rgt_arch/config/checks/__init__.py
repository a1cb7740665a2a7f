"""The checks behind `validate_options`, one module a subject; each notes what it finds in a Report."""
