"""What `rgt prepare check` checks: folders, LMDBs, meta-info texts and option files, and how HR and LR fit together.

Each image is decoded once in a worker process; what is kept of it are its size, kind and a hash.
"""

from rgt_arch.data.checks.report import LINES_SHOWN, Section, summary
from rgt_arch.data.checks.targets import check_target

__all__ = ["LINES_SHOWN", "Section", "check_target", "summary"]
