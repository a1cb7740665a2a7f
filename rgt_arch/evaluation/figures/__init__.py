"""The figures of `rgt figure`, drawn with matplotlib."""
