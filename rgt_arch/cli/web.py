"""`rgt web`: upscale pictures on a page in the browser."""

from __future__ import annotations

import argparse
from typing import Any

from rgt_arch.cli.commands import command, flag


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


COMMANDS = (web,)
