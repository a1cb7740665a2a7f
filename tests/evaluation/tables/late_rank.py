"""`rgt table` where torch waits seconds by default, and rank 1 sleeps before its first image: `late_rank.py FLAGS`.

The environment says how long: PATIENCE and LATE, in seconds. Rank 1 makes a file `late` before.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed.distributed_c10d as c10d

from rgt_arch.cli import main
from rgt_arch.evaluation.tables import measuring

measure = measuring.score_image


def late(*image, **more):
    mark = Path("late")
    if os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        time.sleep(float(os.environ["LATE"]))
    return measure(*image, **more)


if __name__ == "__main__":
    c10d.default_pg_timeout = timedelta(seconds=float(os.environ["PATIENCE"]))
    measuring.score_image = late
    sys.exit(main(sys.argv[1:]))
