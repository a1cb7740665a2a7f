"""`rgt upscale` and `rgt web`: enlarge pictures and videos from the command line, and pictures in the browser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from rgt_arch.cli.commands import command, flag


def _number_or(word: str, what: str) -> Callable[[str], int | str]:
    """Return a converter for a flag that takes a word or a whole number."""

    def convert(text: str) -> int | str:
        if text != word and not text.isdecimal():
            raise argparse.ArgumentTypeError(f"{text} is neither {word} nor a number {what}")
        return text if text == word else int(text)

    return convert


@command(
    "upscale",
    "enlarge pictures and videos",
    "Enlarge pictures (PNG, JPEG, TIFF, WebP, AVIF, BMP; 8 and 16 bit, with alpha) and videos. Colour "
    "profiles, EXIF and XMP data, alpha and sound are kept where the format has a place for them. Nothing is "
    "overwritten unless asked for.",
    """examples:
  rgt upscale photo.jpg                              writes photo_x4.jpg beside it
  rgt upscale photos/ -o larger/ -w RGT_x2 --tile 256
  rgt upscale film.mp4 --outscale 2.5 --crf 20
  torchrun --nproc_per_node=4 -m rgt_arch.cli upscale photos/ -o larger/    on four GPUs
""",
    flag("inputs INPUT", "file, folder with its sub-folders, or pattern", nargs="+"),
    flag("-o --output OUT", "folder, or for one input a file (default: photo_x4.jpg beside photo.jpg)", dest="place"),
    flag(
        "-w --weights WEIGHTS",
        "a name that `rgt weights` lists, or a file (default: RGT_T_x4, and RGT_T_x4_photo for JPEG, lossy WebP, AVIF "
        "and videos)",
    ),
    [
        flag("-s --outscale FACTOR", "final size by a resize, such as 2.5 (default: the scale of the weights)", float),
        flag("--width N", "final width in pixels, by a resize; the height follows", int),
        flag("--height N", "final height in pixels, by a resize; the width follows", int),
        flag("--long-side N", "final pixels of the longer side, by a resize", int),
    ],
    flag(
        "-t --tile auto|0|N",
        "side in pixels; 0: whole; auto: whole if the memory suffices (default: auto)",
        _number_or("auto", "of pixels"),
    ),
    flag("--overlap N", "pixels that tiles share (default: 32, at most half a tile)", int),
    flag(
        "--batch auto|N",
        "tiles, pictures of equal size or frames that a GPU runs together; a CPU runs one (default: auto)",
        _number_or("auto", "of them"),
    ),
    flag("--self-ensemble", "RGT+: the mean of 8 runs, in 8 times the time"),
    flag("--precision", "inside the network (default: auto)", choices=("auto", "fp32", "bf16", "fp16")),
    flag("--device auto|cpu|cuda|mps", "where to compute (default: auto)"),
    flag("--alpha", "how transparency is enlarged (default: rgt)", choices=("rgt", "bicubic", "drop")),
    flag("--suffix SUFFIX", "end of output names; auto: x and the factor, or side and pixels (default: auto)"),
    flag(
        "--ext",
        "format of pictures; auto: the input's (default: auto)",
        dest="extension",
        choices=("auto", "png", "jpg", "webp", "avif", "tif"),
    ),
    flag(
        "--quality 1-100|lossless",
        "of JPEG, WebP and AVIF (default: 95, lossless for a lossless WebP); lossless: WebP and AVIF",
        _number_or("lossless", "from 1 to 100"),
    ),
    flag("--crf 0-63", "of videos: lower is better and larger (default: 17 in H.264, 24 in VP9)", int),
    flag("--overwrite", "replace outputs that exist"),
    flag("--compare", "also write pictures beside bicubic, …_compare.png"),
)
def upscale(inputs: Sequence[str], **given: Any) -> int:
    """Upscale all inputs; 1 if one of them failed."""
    from rgt_arch.inference.jobs import upscale_files
    from rgt_arch.inference.planning import Output

    output = Output(**{name: given.pop(name) for name in Output.__dataclass_fields__ if name in given})
    outcome = upscale_files(inputs, output, **given)
    print(outcome.line())
    return outcome.exit_code


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port, a number from 1 to 65535")
    return int(text)


@command(
    "web",
    "upscale pictures on a page in the browser",
    "Serve a page on which pictures are upscaled as by `rgt upscale`, and compared with bicubic. It works offline, and "
    "only this computer can open it. Needs Gradio: pip install 'rgt-arch[web]'.",
    """examples:
  rgt web
  rgt web -w RGT_x4 net_g_latest.pth --port 8000
  rgt web --host 0.0.0.0                             other computers of the network can open it
""",
    flag(
        "-w --weights WEIGHTS",
        "names or files to choose from; the first is preset (default: as `rgt upscale` does, or a name that needs no "
        "download)",
        nargs="+",
    ),
    flag("--host ADDRESS", "address to listen at (default: 127.0.0.1, this computer only)"),
    flag("--port N", "port to listen at (default: the first free one from 7860)", _port),
    flag("--share", "also make a public address by Gradio's service, for a week"),
)
def web(**given: Any) -> None:
    from rgt_arch.web import serve

    serve(**given)


COMMANDS = (upscale, web)
