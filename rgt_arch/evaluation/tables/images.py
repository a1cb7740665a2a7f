"""Where the images of a benchmark lie, and which belong together: HR with LR, or with what others super-resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rgt_arch.data.images import header_size
from rgt_arch.data.inspect import header_faults
from rgt_arch.data.pairing import Pair, PairingError, guess_template, list_images, lq_name, pairs_from_folders
from rgt_arch.errors import UsageError, UserError

_SSIM_WINDOW = 11
_DATA_SETS = "https://github.com/zhengchen1999/RGT"


class MissingError(Exception):
    """Something that is not here; the text says what and how to get it."""


@dataclass(frozen=True)
class Images:
    """HR images and the images that BasicSR reads beside them as LQ: LR, or SR of the same size."""

    benchmark: str
    hr: Path
    lq: Path
    template: str
    """BasicSR's `filename_tmpl`."""
    pairs: tuple[Pair, ...]
    """In order of names."""
    grey: frozenset[str]
    """Names of the pairs whose HR has one channel, such as Set14's bridge."""

    def shown(self, name: str) -> str:
        """How a pair is called in the table: without suffix, unless another one would be called the same."""
        stem = Path(name).stem
        return stem if sum(Path(pair.name).stem == stem for pair in self.pairs) == 1 else name


def lr_images(data: Path, benchmark: str, scale: int) -> Images:
    """HR and LR of a set in the layout of the benchmarks.

    Set5/HR/baby.png, Set5/LR_bicubic/X2/babyx2.png; LR names may have any other ending, such as Manga109's `_LRBI_x2`.
    Raises MissingError for folders that are not there or empty, UsageError for names or sizes that do not fit.
    """
    hr, lr = hr_folder(data, benchmark), data / benchmark / "LR_bicubic" / f"X{scale}"
    if not _has_images(lr):
        raise MissingError(f"{lr}: there are no images; make them with `rgt prepare lr {hr} --scale {scale}`")
    ending = "{}_LRBI_x" if benchmark == "Manga109" else "{}x"
    images = _paired(benchmark, hr, lr, f"{ending}{scale}")
    for _, message in header_faults(images.pairs, scale, exact=False):
        raise UsageError(f"{lr}: {message}")
    _check_ssim(images, scale)
    return images


def sr_images(folder: Path, data: Path, benchmark: str, scale: int, alone: bool) -> Images:
    """HR and images that were super-resolved already, in `Set5/x2`, `x2/Set5`, `visualization/Set5` or `Set5` of
    `folder`; where the set is `alone` in the table, in `x2` or in `folder` itself too.

    Raises MissingError for folders that are not there, UsageError for names or sizes that do not fit.
    """
    hr = hr_folder(data, benchmark)
    found = next((place for place in _places(folder, benchmark, scale, alone) if _has_images(place)), None)
    if found is None:
        raise MissingError(
            f"{folder / benchmark / f'x{scale}'}: there are no images; put the super-resolved ones there"
        )
    images = _paired(benchmark, hr, found, f"{{}}_x{scale}")
    for pair in images.pairs:
        try:
            wanted, size = tuple(side - side % scale for side in header_size(pair.gt)), header_size(pair.lq)
        except UserError as error:
            raise UsageError(f"{error}; replace it") from error
        if size != wanted:
            raise UsageError(
                f"{pair.lq}: has {size[1]}×{size[0]} pixels, but HR cut to a multiple of {scale} has "
                f"{wanted[1]}×{wanted[0]}; give the results for ×{scale} of this set"
            )
    _check_ssim(images, scale)
    return images


def _check_ssim(images: Images, scale: int) -> None:
    """Raise UsageError for HR images in which no window of SSIM fits, whose value BasicSR has not."""
    least = _SSIM_WINDOW + 2 * scale
    for pair in images.pairs:
        try:
            size = header_size(pair.gt)
        except UserError:  # a damaged one is found out when it is measured
            continue
        if min(side - side % scale for side in size) < least:
            raise UsageError(
                f"{pair.gt}: has {size[1]}×{size[0]} pixels; SSIM at ×{scale} needs {least} a side; remove it"
            )


def scales_of(folder: Path, benchmarks: Sequence[str], scales: Sequence[int]) -> list[int]:
    """Those scales that sub-folders of already super-resolved images name."""
    return [
        scale
        for scale in scales
        if any(_has_images(place) for name in benchmarks for place in _places_by_scale(folder, name, scale, True))
    ]


def hr_folder(data: Path, benchmark: str) -> Path:
    """The HR images of a set. Raises MissingError where there are none."""
    folder = data / benchmark / "HR"
    if _has_images(folder):
        return folder
    raise MissingError(
        f"{folder}: there are no images; get the testing data sets that {_DATA_SETS} links to, and unpack them so that "
        f"they lie there, or name another folder with --data"
    )


def _places_by_scale(folder: Path, benchmark: str, scale: int, alone: bool) -> list[Path]:
    names = (f"x{scale}", f"X{scale}")
    places = [folder / benchmark / name for name in names] + [folder / name / benchmark for name in names]
    return places + ([folder / name for name in names] if alone else [])


def _places(folder: Path, benchmark: str, scale: int, alone: bool) -> list[Path]:
    places = [*_places_by_scale(folder, benchmark, scale, alone), folder / "visualization" / benchmark]
    return [*places, folder / benchmark, *([folder] if alone else [])]


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(list_images(folder))


def _paired(benchmark: str, hr: Path, lq: Path, usual: str) -> Images:
    names_hr, names_lq = list_images(hr), list_images(lq)
    template = guess_template(names_hr, names_lq) or usual
    present = set(names_lq)
    missing = [name for name in names_hr if lq_name(name, template) not in present]
    if missing:
        raise UsageError(
            f"{lq}: there are no images for {len(missing)} of {len(names_hr)} in {hr}; put "
            f"{lq_name(missing[0], template)} there for {missing[0]}" + (", and so on" if len(missing) > 1 else "")
        )
    try:
        pairs = pairs_from_folders(names_hr, names_lq, hr, lq, template)
    except PairingError as error:
        raise UsageError(f"{lq}: {error}") from error
    grey = frozenset(pair.name for pair in pairs if _is_grey(pair.gt))
    return Images(benchmark, hr, lq, template, tuple(pairs), grey)


def _is_grey(file: Path) -> bool:
    """Whether a file has one channel; a damaged one is found out when it is measured."""
    try:
        with Image.open(file) as image:
            return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return False
