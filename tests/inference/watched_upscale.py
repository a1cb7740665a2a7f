"""`rgt`, with a record of each process's files, and with a signal to itself in the middle of a file.

WATCH, a JSON object: log, a folder for the records; blow: rank, file and signal, where the rank sends itself the signal
before it writes the result of that file, counted from 1, when each rank has begun a file. The other ranks wait in their
second file until it has begun that file. patience: looks at a process without a sign of life.
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
SIZE = int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"])
VICTIM, FILE, SIGNAL = WATCH.get("blow", (RANK, 0, 0))
attempt, write_picture = jobs._attempt, jobs.write_picture
begun = []


def record(rank):
    return Path(WATCH["log"]) / str(rank)


def recorded(batches, number, *arguments):
    begun.append(number)
    with record(RANK).open("a") as file:
        file.write(f"{batches.jobs[number].source.name}\n")
    while RANK != VICTIM and len(begun) > 1 and files_of_victim() < FILE:
        time.sleep(0.01)
    return attempt(batches, number, *arguments)


def files_of_victim():
    return len(record(VICTIM).read_text().splitlines()) if record(VICTIM).exists() else 0


def blown(*arguments, **keywords):
    if (RANK, len(begun)) == (VICTIM, FILE):
        while not all(record(rank).exists() for rank in range(SIZE)):
            time.sleep(0.01)
        os.kill(os.getpid(), SIGNAL)
    return write_picture(*arguments, **keywords)


jobs._attempt, jobs.write_picture = recorded, blown
sharing._LOOKS_OF_A_DEAD_PROCESS = WATCH.get("patience", sharing._LOOKS_OF_A_DEAD_PROCESS)
sys.exit(main())
