"""The processes of a table under torchrun: rank 0 plans, all measure, and each waits for the slowest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from rgt_arch.errors import UserError
from rgt_arch.training.ranks import (
    init_dist,
    launcher_here,
    leave,
    let_others_speak,
    lost_contact,
    on_rank_zero,
)

T = TypeVar("T")

# torch's own limit is half an hour, and one of Manga109's images takes RGT+ longer on a CPU, as a download may. A
# process that dies is noticed without a limit: its connections close, and torchrun ends the others.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process among those that measure together; by default it is alone."""

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None

    def on_first(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 and return its result on every rank; its UserError ends all, and rank 0 prints it."""
        return on_rank_zero(work, self.group)

    def gather(self, own: Any) -> list[Any]:
        """The objects of all ranks, in their order."""
        if self.count == 1:
            return [own]
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, own, group=self.group)
        return gathered


@contextmanager
def joined_ranks(cpu: bool) -> Iterator[Ranks]:
    """Join the processes that torchrun describes, if it does, and leave them at the end. cpu: leave the GPUs alone.

    Raises UserError where another one is gone.
    """
    if launcher_here() == "none":
        yield Ranks()
        return
    init_dist("pytorch", "gloo", cpu=cpu)  # only scores are exchanged
    try:
        # A group of its own: processes that do not find each other at the start say so in torch's time.
        group = dist.new_group(timeout=_PATIENCE)
        assert isinstance(group, dist.ProcessGroup)  # all ranks are in it
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        let_others_speak()
        raise UserError(
            "another process of this table is gone; its own message or that of torchrun says why; what was measured "
            "is kept: run it again"
        ) from error
    finally:
        leave()
