"""Run `rgt table FLAGS` with a short default timeout of torch and a rank 1 that sleeps before its first image.

The environment gives PATIENCE (the timeout) and LATE (the sleep) in seconds. Rank 1 first creates a file `late`.
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
