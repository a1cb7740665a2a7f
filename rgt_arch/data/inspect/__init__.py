"""Find faults in images, folders, LMDBs and lists: by a sample of headers before a run, by all pixels on request."""

from rgt_arch.data.inspect.pairs import header_faults
from rgt_arch.data.inspect.sections import LINES_SHOWN, Section, summary
from rgt_arch.data.inspect.targets import check_target

__all__ = ["LINES_SHOWN", "Section", "check_target", "header_faults", "summary"]
