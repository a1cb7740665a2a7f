"""Downloads from a real server on this machine that breaks in every way a network does."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from rgt_arch.errors import UsageError, UserError
from rgt_arch.weights import downloading
from rgt_arch.weights.downloading import download

CONTENT = random.Random(0).randbytes(2_000_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_WAITS", (0.01, 0.02, 0.03))
    monkeypatch.setattr(downloading, "_TIMEOUTS", (1, 0.3))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as state:
        yield state


def check(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise UsageError(f"{path}: is something else")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupt(server: FileServer, target: Path) -> None:
    """A download that ends after half of the file, with the server gone for good."""
    server.faults = ["cut", "404"]
    with pytest.raises(UserError):
        download(server.url, target, check)
    assert 900_000 < (target.parent / "net.pth.part").stat().st_size <= 1_000_000
    server.requests.clear()
    server.sent = 0


def test_a_file_comes_whole_and_alone(server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(server.url, tmp_path / "net.pth", check)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert files(tmp_path) == {"net.pth"}
    assert "net: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
def test_a_broken_connection_is_taken_up_where_it_broke(server: FileServer, tmp_path: Path, fault: str) -> None:
    server.faults = [fault, fault]
    download(server.url, tmp_path / "net.pth", check)
    assert files(tmp_path) == {"net.pth"}
    first, second, third = server.requests
    assert "Range" not in first
    assert second["If-Range"] == third["If-Range"] == '"one"'
    starts = [int(request["Range"].removeprefix("bytes=").removesuffix("-")) for request in (second, third)]
    assert 0 < starts[0] < starts[1] < len(CONTENT)


def test_a_later_call_goes_on_with_what_is_there(server: FileServer, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "net.pth")
    download(server.url, tmp_path / "net.pth", check)
    assert files(tmp_path) == {"net.pth"}
    assert server.sent < 1_200_000


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(server: FileServer, tmp_path: Path) -> None:
    server.pause = 0.05
    code = (
        "import sys; from pathlib import Path; from rgt_arch.weights.downloading import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path / "net.pth")])
    part = tmp_path / "net.pth.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 600_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert files(tmp_path) == {"net.pth.part", "net.pth.part.json"}
    kept, server.pause = part.stat().st_size, 0.0
    download(server.url, tmp_path / "net.pth", check)
    assert server.requests[-1]["Range"] == f"bytes={kept}-"


def test_a_complete_part_needs_no_request(server: FileServer, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "net.pth")
    (tmp_path / "net.pth.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "net.pth", check)
    assert server.requests == []


@pytest.mark.parametrize("fault", ["", "no ranges", "ignores If-Range"])
def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_part(
    server: FileServer, tmp_path: Path, fault: str
) -> None:
    changed = bytes(reversed(CONTENT))
    interrupt(server, tmp_path / "net.pth")
    server.content, server.etag, server.faults = changed, '"two"', [fault]
    download(server.url, tmp_path / "net.pth", lambda path: None)
    assert (tmp_path / "net.pth").read_bytes() == changed


@pytest.mark.parametrize("size", [500_000, 3_000_000])
def test_a_changed_size_shows_without_etags(server: FileServer, tmp_path: Path, size: int) -> None:
    server.etag = None
    interrupt(server, tmp_path / "net.pth")
    server.content = random.Random(1).randbytes(size)  # the smaller one has no bytes at that place: 416
    download(server.url, tmp_path / "net.pth", lambda path: None)
    assert (tmp_path / "net.pth").read_bytes() == server.content


def test_pieces_that_do_not_fit_are_downloaded_again(server: FileServer, tmp_path: Path) -> None:
    interrupt(server, tmp_path / "net.pth")
    part = tmp_path / "net.pth.part"
    part.write_bytes(bytes(part.stat().st_size))  # as after a power cut
    download(server.url, tmp_path / "net.pth", check)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_again_from_the_start(server: FileServer, tmp_path: Path) -> None:
    server.faults, server.always = ["cut"], "no ranges"
    download(server.url, tmp_path / "net.pth", check)
    assert files(tmp_path) == {"net.pth"}


@pytest.mark.parametrize(
    "faults",
    [["500", "503", "429"], ["redirect"], ["no length"], ["redirect", "cut", "redirect"], ["cut"] * 4 + ["500"] * 2],
)
def test_these_faults_pass(server: FileServer, tmp_path: Path, faults: list[str]) -> None:
    server.faults = list(faults)
    download(server.url, tmp_path / "net.pth", check)
    assert files(tmp_path) == {"net.pth"}


@pytest.mark.parametrize(
    ("fault", "words", "requests"),
    [
        ("404", "the server answers 404 Not Found", 1),
        ("500", "the server answers 500 Internal Server Error", 4),
        ("silence", "the server does not answer in time", 4),
        ("claims more", "the connection broke off before the end", None),
        ("claims less", "what came is something else", 1),
        ("no length, cut", "what came is something else", 1),
        ("html", "what came is something else", 1),
    ],
)
def test_these_faults_end_in_one_line(
    server: FileServer, tmp_path: Path, fault: str, words: str, requests: int | None
) -> None:
    server.always = fault
    with pytest.raises(UserError) as caught:
        download(server.url, tmp_path / "net.pth", check)
    text = str(caught.value)
    assert words in text
    assert server.url in text
    assert f"download it by hand and save it as {tmp_path / 'net.pth'}" in text
    assert "\n" not in text
    assert "net.pth" not in files(tmp_path)
    assert requests in (None, len(server.requests))


def test_no_network_ends_in_one_line_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be downloaded: .*(resolve|refused).*; try later") as caught:
        download("http://127.0.0.1:9/net.pth", tmp_path / "net.pth", check)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot be downloaded: .*resolve.*; try later"):
        download("http://weights.invalid/net.pth", tmp_path / "net.pth", check)
    assert files(tmp_path) == set()


def test_a_full_disk_ends_in_one_line_and_keeps_what_came(server: FileServer, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))  # the system refuses to write on, as when full
    try:
        with pytest.raises(UserError, match=r"cannot be written: File too large; free some space .*RGT_CACHE"):
            download(server.url, tmp_path / "net.pth", check)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "net.pth.part").stat().st_size > 1_000_000
    server.sent = 0
    download(server.url, tmp_path / "net.pth", check)
    assert server.sent < 1_000_000


def test_the_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/net.pth"))
    download("http://weights.invalid/net.pth", tmp_path / "net.pth", check)
    assert server.requests[0]["path"] == "http://weights.invalid/net.pth"
