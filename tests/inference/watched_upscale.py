"""`rgt`, with a record of the files of each process, and with a signal to itself in the middle of a file.

WATCH, a JSON object: log, a folder for the records; rank, files, signal: that rank sends itself the signal in its file
number `files`; patience: looks at a process without a sign of life.
"""

import json
import os
import sys
import time
from pathlib import Path

from rgt_arch.cli import main
from rgt_arch.inference import jobs, sharing
from rgt_arch.launchers import environment_rank

WATCH = json.loads(os.environ["WATCH"])
RANK = environment_rank()
attempt, write_picture = jobs._attempt, jobs.write_picture
begun = []


def recorded(job, *arguments):
    begun.append(str(job.source))
    with (Path(WATCH["log"]) / str(RANK)).open("a") as log:
        log.write(f"{job.source}\n")
    return attempt(job, *arguments)


def blown(target, *arguments, **keywords):
    if WATCH.get("rank") == RANK and len(begun) == WATCH["files"]:
        if WATCH.get("after") == RANK:
            time.sleep(WATCH["after"])
        os.kill(os.getpid(), WATCH["signal"])
    return write_picture(target, *arguments, **keywords)


jobs._attempt, jobs.write_picture = recorded, blown
sharing._LOOKS_OF_A_DEAD_PROCESS = WATCH.get("patience", sharing._LOOKS_OF_A_DEAD_PROCESS)
if __name__ == "__main__":
    sys.exit(main())
