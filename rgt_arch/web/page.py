"""The page: pictures of visitors go through the plan and the jobs of `rgt upscale`, one job at a time."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import skimage.data
from PIL import Image
from tqdm import tqdm

from rgt_arch.errors import UserError
from rgt_arch.inference.jobs import run_jobs
from rgt_arch.inference.pictures.reading import read_picture
from rgt_arch.inference.pictures.writing import panels
from rgt_arch.inference.planning import Output, Plan, plan_jobs
from rgt_arch.inference.upscaler import Upscaler
from rgt_arch.progress import Progress
from rgt_arch.weights.zoo import DEFAULT_WEIGHTS

_LARGEST_FILE = 100 << 20  # bytes of an upload
_MOST_PIXELS = 100_000_000  # of a result: browsers hold it twice for the comparison
_KEPT = 3600  # seconds that uploads and results are kept
_FORMATS: Mapping[str, dict[str, Any]] = {
    "PNG, lossless": {"extension": "png"},
    "WebP, lossless": {"extension": "webp", "quality": "lossless"},
    "as the original": {},
}


class _CancelledError(Exception):
    """The visitor has cancelled the job."""


class _Bar(Progress):
    """Progress that is also shown on the page, and that ends the work when `stop` is set."""

    def __init__(self, stop: threading.Event, show: gr.Progress, notes: list[str], total: int, *how: Any, **named: Any):
        super().__init__(total, *how, **named)
        self._stop, self._show, self._notes = stop, show, notes
        self.reach(0)

    def reach(self, done: int) -> None:
        if self._stop.is_set():
            raise _CancelledError
        super().reach(done)
        share = done / max(1, self._total)
        text = "starting" if not share else "finishing"
        if 0 < share < 1:
            text = f"{tqdm.format_interval(round((time.monotonic() - self._start) * (1 / share - 1)))} left"
        self._show(share, text)

    def note(self, text: str) -> None:
        super().note(text)
        self._notes.append(text.removesuffix("; -w chooses others"))


class Page:
    """The page and its server."""

    def __init__(self, upscalers: Mapping[str, Upscaler], choices: Mapping[str, str | None], folder: Path) -> None:
        """upscalers: by weights. choices: weights by the texts that visitors choose from, the first is preset; None:
        those for the kind of each file. folder: Gradio's, for uploads and results.
        """
        self._upscalers, self._choices, self._folder = upscalers, choices, folder
        self._stops: dict[str | None, threading.Event] = {}
        """By session: set when the visitor cancels."""
        self._at_work = threading.Lock()  # Gradio starts the next job while a cancelled one is still inside a block
        self._blocks = self._build()

    def launch(self, host: str, port: int | None, share: bool) -> str:
        """Start the server and return its address. Raises UserError if host and port cannot be used."""
        try:
            self._blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
                max_file_size=_LARGEST_FILE,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            place = f"--host {host}" if port is None else f"--host {host} --port {port}"
            raise UserError(f"{place}: cannot be used; another program may use it: choose another --port") from error
        return str(self._blocks.share_url or self._blocks.local_url)

    def close(self) -> None:
        """End all jobs and the server, and wait for the end of the block in which a job is."""
        for stop in list(self._stops.values()):  # visitors may still arrive
            stop.set()
        self._blocks.close(verbose=False)
        with self._at_work:  # a thread inside torch would abort the process
            pass

    def _build(self) -> gr.Blocks:
        example = self._folder / "cat.png"
        Image.fromarray(skimage.data.chelsea()).reduce(2).save(example)
        with gr.Blocks(title="RGT", analytics_enabled=False, delete_cache=(_KEPT // 6, _KEPT)) as blocks:
            gr.Markdown(
                f"# RGT: larger pictures\nFiles of up to {_LARGEST_FILE >> 20} MB, results of up to "
                f"{_MOST_PIXELS // 10**6} million pixels. Files are deleted after an hour, and when the program ends."
            )
            with gr.Row():
                names = list(self._choices)
                weights = gr.Dropdown(names, value=names[0], label="weights", elem_id="weights")
                factor = gr.Number(self._scale(names[0]), label="factor", elem_id="factor")
                weights.change(self._scale, weights, factor, queue=False, api_visibility="private")
                form = gr.Dropdown(list(_FORMATS), value=next(iter(_FORMATS)), label="format", elem_id="format")
            settings = [weights, factor, form]
            with gr.Tab("One picture"), gr.Row():
                with gr.Column(scale=2):
                    picture = gr.Image(
                        type="filepath", sources=["upload", "clipboard"], label="picture", height=300, elem_id="picture"
                    )
                    one = self._buttons("one")
                    gr.Examples([str(example)], [picture], label="example")
                with gr.Column(scale=3):
                    slider = gr.ImageSlider(
                        format="png", label="bicubic | RGT", buttons=["fullscreen"], max_height=600, elem_id="slider"
                    )
                    result = gr.DownloadButton(elem_id="result")
                    report = gr.Textbox(label="report", interactive=False, elem_id="report")
            with gr.Tab("Several files"), gr.Row():
                with gr.Column(scale=2):
                    files = gr.File(label="pictures", file_count="multiple", height=300, elem_id="files")
                    several = self._buttons("several")
                with gr.Column(scale=3):
                    summary = gr.Textbox(label="report", lines=8, interactive=False, elem_id="summary")
                    archive = gr.DownloadButton(elem_id="archive")
            self._connect(one, slider, [picture, *settings], [report, result, slider])
            self._connect(several, summary, [files, *settings], [summary, archive])
            blocks.unload(self._leave)
        return blocks

    def _scale(self, choice: str) -> int:
        return self._upscalers[self._choices[choice] or DEFAULT_WEIGHTS].scale

    @staticmethod
    def _buttons(name: str) -> tuple[gr.Button, gr.Button]:
        with gr.Row():
            return (
                gr.Button("Upscale", variant="primary", elem_id=f"{name}-start"),
                gr.Button("Cancel", variant="stop", elem_id=f"{name}-cancel"),
            )

    def _connect(self, buttons: Sequence[gr.Button], shown: Any, inputs: list[Any], outputs: list[Any]) -> None:
        start, cancel = buttons
        # without Gradio's preprocessing, which decodes and encodes pictures again
        job = start.click(self._arm, queue=False, api_visibility="private").then(
            self._upscale,
            inputs,
            outputs,
            preprocess=False,
            show_progress_on=shown,
            concurrency_limit=1,
            concurrency_id="job",  # of both tabs together
            api_visibility="private",
        )
        cancel.click(self._cancel, queue=False, cancels=[job], api_visibility="private")

    def _arm(self, request: gr.Request) -> None:
        stop = self._stops.get(request.session_hash)
        if stop is None or stop.is_set():
            self._stops[request.session_hash] = threading.Event()

    def _cancel(self, request: gr.Request) -> None:
        if stop := self._stops.get(request.session_hash):
            stop.set()

    def _leave(self, request: gr.Request) -> None:
        if stop := self._stops.pop(request.session_hash, None):
            stop.set()

    def _upscale(
        self,
        chosen: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        weights: str,
        factor: float | None,
        form: str,
        request: gr.Request,
        show: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it here
    ) -> tuple[Any, ...]:
        """Upscale one upload, or a list of uploads. Returns report, file and, for one, pictures before and after."""
        stop = self._stops.setdefault(request.session_hash, threading.Event())
        notes: list[str] = []
        bar = partial(_Bar, stop, show, notes)
        place = Path(tempfile.mkdtemp(dir=self._folder))
        with self._at_work:
            try:
                return self._results(chosen, weights, factor, form, place, bar, notes)
            except UserError as error:
                failure = self._plain(str(error))
            except _CancelledError:
                failure = "cancelled"
            except BaseException:
                shutil.rmtree(place)
                raise
            shutil.rmtree(place)
        # outside of `except`, whose exception keeps the network's tensors alive
        raise gr.Error(failure, duration=None, print_exception=False)

    def _results(
        self,
        chosen: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        weights: str,
        factor: float | None,
        form: str,
        place: Path,
        bar: Callable[..., Progress],
        notes: list[str],
    ) -> tuple[Any, ...]:
        start = time.monotonic()
        uploads = [chosen] if isinstance(chosen, Mapping) else chosen or []
        files = [upload["path"] for upload in uploads]
        if not files:
            raise UserError("there is no picture yet: drop, paste or choose one")
        # Gradio 6.31 checks the path of a picture only if the request has the field `meta`; `plan_jobs` would also take
        # a folder or a pattern, and with it the files of other visitors
        if not all(os.path.isfile(file) and Path(file).resolve().is_relative_to(self._folder) for file in files):
            raise UserError("only uploaded files are read")
        for name, count in Counter(Path(file).name for file in set(files)).items():
            if count > 1:
                raise UserError(f"{name}: {count} files have this name; rename them, or upscale one after the other")
        scale, output = self._scale(weights), Output(place=place, outscale=factor, **_FORMATS[form])
        plan = plan_jobs(files, output, scale, self._choices[weights])
        _check_bounds(plan, max(scale, factor or 0))
        outcome = run_jobs(plan, lambda name: self._upscalers[str(name)], output, bar)
        if not (made := outcome.made):
            raise UserError("\n".join(outcome.failures))
        if chosen is uploads:
            archive = place / "upscaled.zip"
            with zipfile.ZipFile(archive, "x") as file:
                for picture in made:
                    file.write(picture, picture.name)
                    picture.unlink()
            return self._plain("\n".join([f"{len(made)} made", *notes])), str(archive)
        before, after = panels(*(read_picture(file).pixels for file in (files[0], made[0])))
        facts = f"{after.width}×{after.height} pixels in {time.monotonic() - start:.1f} s"
        return self._plain("\n".join([facts, *notes])), str(made[0]), (before, after)

    def _plain(self, text: str) -> str:
        """Remove the folders of uploads and results, which mean nothing to visitors."""
        return re.sub(rf"{re.escape(str(self._folder))}\S*[/\\]", "", text)


def _check_bounds(plan: Plan, factor: float) -> None:
    """Raise UserError for videos, and for results of too many pixels."""
    for job in plan.jobs:
        if job.is_video:
            raise UserError(f"{job.source}: is a video; this page takes pictures, and `rgt upscale` takes videos")
        pixels = job.pixels * factor**2
        if pixels > _MOST_PIXELS:
            raise UserError(
                f"{job.source}: the result would have {pixels / 1e6:.0f} million pixels, and this page makes "
                f"{_MOST_PIXELS / 1e6:.0f} million at most; use `rgt upscale`, or cut the picture"
            )
