"""Demo, tables, figures and measurements."""
