"""Read pictures ahead, and enlarge those of equal size that follow one another together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from numpy.typing import NDArray

from rgt_arch.errors import UserError
from rgt_arch.inference.pictures.picture import Picture
from rgt_arch.inference.pictures.reading import read_picture
from rgt_arch.inference.pictures.writing import check_writable
from rgt_arch.inference.planning import Job, Output
from rgt_arch.inference.upscaler import Progress, Upscaler


class Enlarged(NamedTuple):
    """A picture, lines for the user, and its larger pixels."""

    picture: Picture
    notices: list[str]
    pixels: NDArray[Any]


class Batches:
    """Iterates over the numbers of jobs; `enlarged` returns a job's picture, and prepares those of the next jobs."""

    def __init__(
        self,
        numbers: Iterable[int],
        jobs: Sequence[Job],
        sizes: Sequence[int],
        upscalers: Sequence[Upscaler],
        output: Output,
        most: int,
    ) -> None:
        """numbers: of the jobs to do, taken as late as possible. sizes: input pixels of each job.

        most: how many pictures to enlarge together at most, so that other processes have their share.
        """
        self.jobs, self.sizes, self.upscalers, self.output = jobs, sizes, upscalers, output
        self._numbers, self._most = iter(numbers), most
        self._taken: deque[int] = deque()
        self._ready: dict[int, Enlarged] = {}

    def __iter__(self) -> Iterator[int]:
        while True:
            number = self._taken.popleft() if self._taken else next(self._numbers, None)
            if number is None:
                return
            yield number
            self._ready.pop(number, None)  # there if the job failed before it called `enlarged`

    def is_ahead(self) -> bool:
        """Check whether pictures of later jobs are enlarged already."""
        return not self._ready.keys().isdisjoint(self._taken)

    def enlarged(self, number: int, advance: Progress) -> Enlarged:
        """Read and enlarge the picture of a job, if that has not happened together with an earlier one.

        advance: as `progress` of `Upscaler.upscale_many`, for all pictures that are enlarged together.
        Raises the errors of `read_picture`, `check_writable` and `Upscaler.upscale` for this job only: pictures for
        which they are raised are left out of the batches of other jobs.
        """
        group = {} if number in self._ready else self._read_alike(number)
        while number not in self._ready:
            pixels = [picture.pixels for picture, _ in group.values()]
            try:
                results = self.upscalers[number].upscale_many(pixels, self.output.scaling(), advance)
                for (other, read), result in zip(group.items(), results, strict=True):
                    self._ready[other] = Enlarged(*read, result)
            except (UserError, MemoryError, RuntimeError):
                if len(group) == 1:
                    raise
                group = dict(list(group.items())[: len(group) // 2])  # the others are done in their own turn
        return self._ready.pop(number)

    def _read_alike(self, number: int) -> dict[int, tuple[Picture, list[str]]]:
        """Read the picture of a job and those of the next jobs that can be enlarged together with it."""
        upscaler = self.upscalers[number]
        group = {number: self._read(number)}
        pixels = group[number][0].pixels
        at_once = min(self._most, upscaler.pictures_at_once(*pixels.shape[:2]))
        for other in self._next() if at_once > 1 else ():
            is_alike = self.sizes[other] == self.sizes[number] and self.upscalers[other] is upscaler
            if self.jobs[other].is_video or not is_alike:
                break
            with suppress(UserError, OSError, MemoryError):  # raised again in that job's own turn
                picture, notices = self._read(other)
                if (picture.pixels.shape, picture.pixels.dtype) != (pixels.shape, pixels.dtype):
                    break
                group[other] = picture, notices
            if len(group) == at_once:
                break
        return group

    def _next(self) -> Iterator[int]:
        """The numbers of the next jobs, which `__iter__` yields later."""
        yield from tuple(self._taken)
        for number in self._numbers:
            self._taken.append(number)
            yield number

    def _read(self, number: int) -> tuple[Picture, list[str]]:
        """Read the picture of a job, and check before any work is done that its result can be written."""
        upscaler, picture = self.upscalers[number], read_picture(self.jobs[number].source)
        height, width = picture.pixels.shape[:2]
        channels = picture.channels - (upscaler.alpha == "drop" and picture.has_alpha)
        size = upscaler.output_size(height, width, self.output.scaling())
        losses = check_writable(
            self.jobs[number].target,
            size,
            channels,
            picture.pixels.dtype,
            quality=self.output.quality,
            bits=picture.bits,
        )
        return picture, [*picture.notices, *losses]
