"""Downloads that end whole or not at all: resumed after a break, tried again, checked before they get their name."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from rgt_arch.errors import UsageError, UserError
from rgt_arch.files import written_whole
from rgt_arch.progress import Progress
from rgt_arch.version import __version__

_TIMEOUTS = (15, 60)
"""Seconds to wait for a connection, and for the next bytes."""
_WAITS = (1, 3, 9)
"""Seconds before each further try; they start anew with every try that got further than all before it."""
_CHUNK = 1 << 16
_MEGA = 1_000_000
# Anything compressed on the way has no length or position that belongs to the file.
_HEADERS = {"User-Agent": f"rgt-arch/{__version__}", "Accept-Encoding": "identity"}


def download(url: str, target: Path, check: Callable[[Path], None]) -> None:
    """Fetch `url` into `target`, whose folder exists, with progress on stderr; proxies come from the environment.

    The bytes are collected in `target`.part, where an interrupted download goes on later, in this process or another
    one; two at once must be kept apart by the caller. check: raises UsageError for a file that is not what was wanted.
    Raises UserError in one line with the reason, the URL, and where to put the file by hand.
    """
    part = _Part(target.with_name(f"{target.name}.part"))
    try:
        resumed = _fetch_patiently(url, part, target.stem)
        try:
            check(part.path)
        except UsageError:
            if not resumed:
                raise
            _say(f"{target.stem}: the pieces do not fit together; downloading again from the start")
            part.discard()
            _fetch_patiently(url, part, target.stem)
            check(part.path)
        os.replace(part.path, target)
        part.discard()
    except UsageError as error:
        part.discard()
        reason = str(error).removeprefix(f"{part.path}: ")
        raise UserError(f"{url}: what came {reason}; {_by_hand(target)}") from error
    except requests.RequestException as error:
        raise UserError(f"{url}: cannot be downloaded: {_reason(error)}; {_by_hand(target)}") from error
    except OSError as error:
        raise UserError(
            f"{part.path}: cannot be written: {error.strerror or error}; free some space or take another folder "
            f"with RGT_CACHE (what came is kept, and the next try goes on from there), or download {url} by hand"
        ) from error


def _by_hand(target: Path) -> str:
    return f"try later, or download it by hand and save it as {target}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Version:
    """What a server said of the file that it began to send: only more of the very same file is put behind it."""

    url: str
    total: int | None
    """Bytes of the whole file; None where the server does not say."""
    etag: str | None
    modified: str | None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag or a date (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def continues(self, response: requests.Response, offset: int) -> bool:
        """Whether a 206 answer is the rest of this file from byte `offset` on."""
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if response.status_code != requests.codes.partial_content or given is None or int(given[1]) != offset:
            return False
        etag = response.headers.get("ETag")
        same_etag = self.etag is None or etag is None or etag == self.etag
        return same_etag and (given[3] == "*" or int(given[3]) == self.total)


@dataclass(frozen=True)
class _Part:
    """An unfinished download: the bytes so far, and beside them the version of the file that they are of."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> _Version | None:
        """What the bytes are of; None where there are none that more can be put behind."""
        try:
            version = _Version(**json.loads(self.note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        fits = version.url == url and isinstance(version.total, int) and 0 < self.size <= version.total
        return version if fits else None

    def start(self, version: _Version) -> None:
        """Forget what is there and note what comes now; the note is on the disk before the first byte."""
        self.discard()
        with written_whole(self.note) as beside:
            beside.write_text(json.dumps(asdict(version)), "utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _fetch_patiently(url: str, part: _Part, title: str) -> bool:
    """`_fetch` until the file is complete; passing failures are tried again, each try going on where that works."""
    furthest, failures = part.size, 0
    while True:
        try:
            return _fetch(url, part, title)
        except requests.RequestException as error:
            if part.size > furthest:
                furthest, failures = part.size, 0
            if not _may_pass(error) or failures == len(_WAITS):
                raise
            wait = _WAITS[failures]
            failures += 1
            _say(f"{title}: {_reason(error)}; trying again in {wait} s ({failures} of {len(_WAITS)})")
            time.sleep(wait)


def _fetch(url: str, part: _Part, title: str) -> bool:
    """One request for what is missing; whether it went on from bytes that were there. RequestException if cut short."""
    version = part.version(url)
    offset = part.size if version else 0
    if version and offset == version.total:
        return True
    headers = dict(_HEADERS)
    if version:
        headers["Range"] = f"bytes={offset}-"
        if version.validator:
            headers["If-Range"] = version.validator
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        if version is None or response.status_code == requests.codes.ok:  # the latter: no ranges, or another file now
            response.raise_for_status()
            version, offset = _version_of(url, response), 0
            part.start(version)
        elif not version.continues(response, offset):
            if response.status_code not in (requests.codes.partial_content, requests.codes.range_not_satisfiable):
                response.raise_for_status()
            part.discard()
            return _fetch(url, part, title)
        _append(response, part.path, offset, version.total, title)
    if version.total is not None and part.size != version.total:
        raise requests.ConnectionError(f"{part.size:,} of {version.total:,} bytes came")
    return offset > 0


def _version_of(url: str, response: requests.Response) -> _Version:
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    total = int(length) if length.isdecimal() and not encoded else None
    return _Version(url, total, response.headers.get("ETag"), response.headers.get("Last-Modified"))


def _append(response: requests.Response, path: Path, offset: int, total: int | None, title: str) -> None:
    """Write the body behind the `offset` bytes that are there, onto the disk; progress in millions of bytes."""
    if offset and total:
        title = f"{title} (the rest of {total / _MEGA:.0f} MB)"
    shown, in_all = 0, math.ceil((total - offset) / _MEGA) if total else 0
    with path.open("ab") as file, Progress(in_all, title, "MB") as progress:
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            done = math.ceil((file.tell() - offset) / _MEGA) - (file.tell() != total)
            if done > shown:
                shown = done
                progress.reach(done)
        file.flush()
        os.fsync(file.fileno())


def _may_pass(error: requests.RequestException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status >= 500 or status in (requests.codes.request_timeout, requests.codes.too_many_requests)
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)


def _reason(error: requests.RequestException) -> str:
    """What went wrong, in a few words; requests wraps the cause in several layers of its own and of urllib3."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off before the end"
    cause: BaseException = error
    while True:
        inner = [value for value in (*cause.args, getattr(cause, "reason", None)) if isinstance(value, BaseException)]
        if not inner:
            break
        cause = inner[-1]
    words = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return re.sub(r"^<?\w+Connection\(.*?\)>?: ", "", words).strip()
