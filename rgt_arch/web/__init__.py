"""`rgt web`: serve a page on which pictures are upscaled."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rgt_arch.errors import UserError
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.weights.zoo import DEFAULT_WEIGHTS, PHOTO_WEIGHTS, ZOO, local_file


def serve(weights: Sequence[str] = (), host: str = "127.0.0.1", port: int | None = None, share: bool = False) -> None:
    """Serve the page until a signal ends the process. All its files are in one temporary folder, which is then deleted.

    weights: names or files to choose from; the first is preset. None given: all names that need no download, and preset
    is the choice of `rgt upscale`, by the kind of each file.
    host: address to listen at; 0.0.0.0 also for other computers. port: by default the first free one from 7860.
    share: make a public address by Gradio's service.
    Raises UserError if Gradio is missing or the address cannot be used; UsageError for weights that cannot be loaded.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page is made with Gradio, which is not installed; pip install 'rgt-arch[web]'")
    local = [entry.name for entry in ZOO.values() if local_file(entry)]
    upscalers = {name: Upscaler(name) for name in weights or dict.fromkeys((DEFAULT_WEIGHTS, PHOTO_WEIGHTS, *local))}
    choices = ({} if weights else {"by the kind of file": None}) | {name: name for name in upscalers}
    with tempfile.TemporaryDirectory(prefix="rgt-web-") as name:
        folder = Path(name).resolve()
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder)}  # read by its import
        from rgt_arch.web.page import Page

        page = Page(upscalers, choices, folder)
        try:
            print(f"the page is at {page.launch(host, port, share)} until Ctrl-C", flush=True)
            threading.Event().wait()
        finally:
            page.close()
