"""Prefetchers that make one iterator, and pass an error on instead of hanging.

Where: basicsr/data/prefetch_dataloader.py:72 and :99 (constructor) against :81 and :124 (reset); :25-28 (thread).
What goes wrong: `iter(loader)` in the constructor and again in `reset()` starts all workers twice and uses up a
resume offset; an exception in the thread of `prefetch_mode: cpu` leaves the training waiting for ever. Delete it once
the constructor makes no iterator and the thread hands exceptions over.
"""

from __future__ import annotations

import torch


def lazy_cpu(original: type) -> type:
    """CPUPrefetcher whose iterator is made by `reset()`, which BasicSR's loop calls first."""

    class CPUPrefetcher(original):
        def __init__(self, loader: object) -> None:
            self.ori_loader = loader

    return CPUPrefetcher


def lazy_cuda(original: type) -> type:
    """CUDAPrefetcher, likewise."""

    class CUDAPrefetcher(original):
        def __init__(self, loader: object, opt: dict[str, object]) -> None:
            self.ori_loader = loader
            self.opt = opt
            self.stream = torch.cuda.Stream()
            self.device = torch.device("cuda" if opt["num_gpu"] != 0 else "cpu")

    return CUDAPrefetcher


def raising_errors(original: type) -> type:
    """PrefetchGenerator whose thread hands its exception to the consumer."""

    class PrefetchGenerator(original):
        failure: Exception | None = None

        def run(self) -> None:
            try:
                for item in self.generator:
                    self.queue.put(item)
            except Exception as error:  # whatever it is, the consumer raises it
                self.failure = error
            self.queue.put(None)

        def __next__(self) -> object:
            item = self.queue.get()
            if item is not None:
                return item
            if self.failure is not None:
                raise self.failure
            raise StopIteration

    return PrefetchGenerator
