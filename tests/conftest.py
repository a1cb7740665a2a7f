"""Shared by all tests: `rgt_arch` is imported first, because BasicSR 1.4.2 can be imported only after it."""

import signal

import torch

import rgt_arch  # noqa: F401

# The networks here are tiny: a second thread costs more than it gives, and very much more on a busy machine.
torch.set_num_threads(1)

# Shells start background jobs with Ctrl-C ignored, and all that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
