"""Faults in images, folders, LMDBs and lists: by headers of a sample before a run, by all pixels in `prepare check`."""

from rgt_arch.data.inspect.pairs import header_faults
from rgt_arch.data.inspect.sections import LINES_SHOWN, Section, summary
from rgt_arch.data.inspect.targets import check_target

__all__ = ["LINES_SHOWN", "Section", "check_target", "header_faults", "summary"]
