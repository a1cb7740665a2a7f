"""Shared by all tests: `rgt_arch` is imported first, because BasicSR 1.4.2 can be imported only after it."""

import rgt_arch  # noqa: F401
