"""Read pictures ahead, and enlarge those of equal size that follow one another together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from numpy.typing import NDArray

from rgt_arch.errors import UserError
from rgt_arch.inference.pictures.picture import Picture
from rgt_arch.inference.pictures.reading import read_picture
from rgt_arch.inference.pictures.writing import check_writable
from rgt_arch.inference.planning import Job, Output
from rgt_arch.inference.upscaler import Advance, Upscaler

Enlarged = tuple[Picture, NDArray[Any]]
"""A picture, with all lines for the user in its notices, and its larger pixels."""


class Batches:
    """Iterates over the numbers of jobs; `enlarged` returns a job's picture, and prepares those of the next jobs."""

    def __init__(
        self, numbers: Iterable[int], jobs: Sequence[Job], upscalers: Sequence[Upscaler], output: Output, most: int
    ) -> None:
        """numbers: of the jobs to do, taken as late as possible. upscalers: of each job.

        most: how many pictures to enlarge together at most, so that other processes have their share.
        """
        self.jobs, self.upscalers, self.output = jobs, upscalers, output
        self._numbers, self._most = iter(numbers), most
        self._ahead: dict[int, Enlarged | None] = {}
        """Numbers that were taken before their turn, in their order, and their pictures if these are enlarged."""
        self._own: Enlarged | None = None
        """The picture of the job whose turn it is, once it is enlarged, until `enlarged` returns it."""

    def __iter__(self) -> Iterator[int]:
        while (number := next(chain(self._ahead, self._numbers), None)) is not None:
            self._own = self._ahead.pop(number, None)
            yield number

    def is_ahead(self) -> bool:
        """Check whether pictures of later jobs are enlarged already."""
        return any(self._ahead.values())

    def enlarged(self, number: int, advance: Advance) -> Enlarged:
        """Read and enlarge the picture of a job, if that has not happened together with an earlier one.

        advance: as `progress` of `Upscaler.upscale_many`, for all pictures that are enlarged together.
        Raises the errors of `read_picture`, `check_writable` and `Upscaler.upscale` for this job only: pictures for
        which they are raised are left out of the batches of other jobs.
        """
        group = {} if self._own else self._read_alike(number)
        while not self._own:
            pixels = [picture.pixels for picture in group.values()]
            try:
                results = self.upscalers[number].upscale_many(pixels, self.output.scaling(), advance)
                self._own, *others = zip(group.values(), results, strict=True)
                self._ahead.update(zip([*group][1:], others, strict=True))
            except (UserError, MemoryError, RuntimeError):
                if len(group) == 1:
                    raise
                group = dict(list(group.items())[: len(group) // 2])  # the others are done in their own turn
        own, self._own = self._own, None
        return own

    def _read_alike(self, number: int) -> dict[int, Picture]:
        """Read the picture of a job and those of the next jobs that can be enlarged together with it."""
        upscaler, group = self.upscalers[number], {number: self._read(number)}
        pixels = group[number].pixels
        at_once = min(self._most, upscaler.pictures_at_once(*pixels.shape[:2]))
        for other in self._next() if at_once > 1 else ():
            is_alike = self.jobs[other].pixels == self.jobs[number].pixels and self.upscalers[other] is upscaler
            if self.jobs[other].is_video or not is_alike:
                break
            with suppress(UserError, OSError, MemoryError):  # raised again in that job's own turn
                picture = self._read(other)
                if (picture.pixels.shape, picture.pixels.dtype) != (pixels.shape, pixels.dtype):
                    break
                group[other] = picture
            if len(group) == at_once:
                break
        return group

    def _next(self) -> Iterator[int]:
        """The numbers of the next jobs, which `__iter__` yields later."""
        yield from tuple(self._ahead)
        for number in self._numbers:
            self._ahead[number] = None
            yield number

    def _read(self, number: int) -> Picture:
        """Read the picture of a job, and check before any work is done that its result can be written."""
        upscaler, picture = self.upscalers[number], read_picture(self.jobs[number].source)
        height, width = picture.pixels.shape[:2]
        channels = picture.channels - (upscaler.alpha == "drop" and picture.has_alpha)
        losses = check_writable(
            self.jobs[number].target,
            upscaler.output_size(height, width, self.output.scaling()),
            channels,
            picture.pixels.dtype,
            quality=self.output.quality,
            bits=picture.bits,
        )
        return replace(picture, notices=(*picture.notices, *losses))
