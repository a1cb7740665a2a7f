"""Weights by name: from the package, from the cache, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from file_server import FileServer, serving

from rgt_arch import load_model, rgt_t
from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.cli import main
from rgt_arch.errors import UsageError, UserError
from rgt_arch.weights import zoo
from rgt_arch.weights.building import resolve_path
from rgt_arch.weights.converting import convert_checkpoint
from rgt_arch.weights.zoo import ZOO, ZooEntry


def content_of(network: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save({"params": network.state_dict()}, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return rgt_t(2, img_range=255.0)


@pytest.fixture(scope="module")
def content(network: torch.nn.Module) -> bytes:
    return content_of(network)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty folder of the package."""
    monkeypatch.setenv("RGT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo, "BUNDLED", tmp_path / "bundled")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bundled").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


@pytest.fixture
def server(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves RGT-T ×2 for the name RGT_T_web."""
    with serving(content) as state:
        monkeypatch.setitem(ZOO, "RGT_T_web", ZooEntry("RGT_T_web", "RGT-T", 2, "none", url=state.url))  # type: ignore[arg-type]
        yield state


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


# --- names ---


def test_the_table_names_every_published_network_and_the_small_ones() -> None:
    names = {f"{preset.replace('-', '_')}_x{scale}" for preset in ("RGT", "RGT-S") for scale in (2, 3, 4)}
    assert set(ZOO) == names | {"RGT_T_x2", "RGT_T_x4"}
    for name, entry in ZOO.items():
        assert entry.name == name == f"{entry.preset.replace('-', '_')}_x{entry.scale}"
        assert entry.preset in PRESETS
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.bundled == name.startswith("RGT_T")


def test_case_and_dashes_do_not_matter(server: FileServer) -> None:
    paths = {resolve_path(name) for name in ("RGT_T_web", "rgt-t-WEB", "Rgt_T-web")}
    assert len(paths) == 1
    assert len(server.requests) == 1


def test_an_unknown_name_gets_the_nearest_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "rgt_s_5"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("rgt info: error: rgt_s_5: no such file, and no weights of that name; did you mean RGT_S_x")
    assert all(name in text for name in ZOO)
    assert text.count("\n") == 1


def test_an_existing_file_goes_before_a_name(content: bytes) -> None:
    Path("RGT_x4").write_bytes(content)
    assert resolve_path("RGT_x4") == Path("RGT_x4")
    assert load_model("RGT_x4").upscale == 2


def test_a_folder_does_not_hide_a_name(server: FileServer, cache: Path) -> None:
    Path("RGT_T_web").mkdir()
    assert resolve_path("RGT_T_web") == cache / "RGT_T_web.pth"


def test_paths_stay_paths() -> None:
    for path in ("net.pth", "models/net", "./net", Path("some") / "net_g_5000.pth"):
        assert resolve_path(path) == Path(path)
    with pytest.raises(UsageError, match=r"models/RGT_x4\.pth: no such file; .* by the bare name RGT_x4"):
        resolve_path("models/RGT_x4.pth")


# --- the package's own files ---


def bundle(network: torch.nn.Module, folder: Path) -> Path:
    """What the maker of a release does: slim safetensors of a training's file, and its sum."""
    torch.save({"params": network.state_dict(), "params_ema": network.state_dict()}, folder.parent / "net_g.pth")
    target = folder / "RGT_T_x2.safetensors"
    convert_checkpoint(folder.parent / "net_g.pth", target, known={"img_range": 255.0})
    sums = subprocess.run(["sha256sum", target.name], cwd=folder, check=True, capture_output=True, text=True).stdout
    (folder / "SHA256SUMS").write_text(sums)
    return target


def test_bundled_weights_load_by_name(network: torch.nn.Module, tmp_path: Path) -> None:
    target = bundle(network, tmp_path / "bundled")
    loaded = load_model("RGT_T_x2")
    assert equal(loaded, network)
    assert loaded.img_range == 255.0
    assert main(["info", "rgt-t-x2"]) == 0
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match=r"RGT_T_x2.safetensors: is damaged, or not the file that SHA256SUMS"):
        load_model("RGT_T_x2")


def test_missing_bundled_weights_are_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "RGT_T_x4"]) == 2
    text = capsys.readouterr().err
    assert "RGT_T_x4.safetensors, a part of the package, is missing" in text
    assert text.count("\n") == 1


def test_what_the_package_bundles_is_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "BUNDLED", Path(zoo.__file__).parent / "bundled")
    present = [entry for entry in ZOO.values() if entry.bundled and zoo.local_file(entry)]
    if not present:
        pytest.skip("no weights are in rgt_arch/weights/bundled")
    for entry in present:
        assert load_model(entry.name).upscale == entry.scale


def test_a_built_package_holds_the_bundled_files(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="the build backend that pyproject.toml asks for")
    root = Path(__file__).parents[2]
    source = tmp_path / "source"
    folder = source / "rgt_arch" / "weights" / "bundled"
    folder.mkdir(parents=True)
    for file in ("pyproject.toml", "README.md", "LICENSE", "rgt_arch/__init__.py", "rgt_arch/version.py"):
        (source / file).write_bytes((root / file).read_bytes())
    (source / "rgt_arch/weights/__init__.py").touch()
    for name in ("RGT_T_x2.safetensors", "RGT_T_x2.json", "SHA256SUMS"):
        (folder / name).write_bytes(b"content")
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('out'))"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next((source / "out").glob("*.whl"))) as wheel:
        names = {Path(name).name for name in wheel.namelist() if name.startswith("rgt_arch/weights/bundled/")}
    assert names == {"RGT_T_x2.safetensors", "RGT_T_x2.json", "SHA256SUMS"}


# --- the cache ---


def test_weights_are_downloaded_once_and_their_sum_is_noted(
    server: FileServer, cache: Path, content: bytes, network: torch.nn.Module
) -> None:
    assert equal(load_model("RGT_T_web"), network)
    load_model("RGT_T_web")
    assert len(server.requests) == 1
    record = json.loads((cache / "RGT_T_web.json").read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["url"], record["bytes"]) == (server.url, len(content))


def test_a_changed_file_is_refused_and_a_new_download_held_to_the_first_sum(server: FileServer, cache: Path) -> None:
    file = resolve_path("RGT_T_web")
    original = file.read_bytes()
    damaged = bytearray(original)
    damaged[len(original) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UsageError, match=r"RGT_T_web.pth: has changed since .*; delete it, and it is downloaded again"):
        load_model("RGT_T_web")
    file.unlink()
    assert load_model("RGT_T_web").upscale == 2
    file.unlink()
    server.content = content_of(rgt_t(2))
    with pytest.raises(UsageError, match=r"if the new one is right, delete .*RGT_T_web.json"):
        load_model("RGT_T_web")
    (cache / "RGT_T_web.json").unlink()
    assert load_model("RGT_T_web").upscale == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("404", "cannot be downloaded: the server answers 404 Not Found"),
        ("500", "cannot be downloaded: the server answers 500 Internal Server Error"),
        ("cut", "cannot be downloaded: Connection broken"),
        ("claims more", "cannot be downloaded: Connection broken"),
        ("claims less", "the downloaded file is truncated"),
        ("no length, cut", "the downloaded file is truncated"),
        ("html", "the downloaded file is a web page"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing_that_is_taken_for_weights(
    server: FileServer, cache: Path, fault: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = fault
    assert main(["info", "RGT_T_web"]) == 1
    _, error = capsys.readouterr().err.splitlines()  # the first line says what is downloaded
    assert words in error
    assert server.url in error
    assert f"download it by hand and save it as {cache / 'RGT_T_web.pth'}" in error
    assert {file.name for file in cache.iterdir()} <= {"RGT_T_web.lock"}
    server.fault = "redirect"
    assert main(["info", "RGT_T_web"]) == 0


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1:9", "refused"), ("weights.invalid", "resolve")])
def test_no_network_is_one_line_that_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, host: str, words: str
) -> None:
    entry = ZooEntry("RGT_T_web", "RGT-T", 2, "none", url=f"http://{host}/net.pth")
    with pytest.raises(
        UserError, match=rf"http://{host}/net.pth: cannot be downloaded: .*{words}.*save it as"
    ) as caught:
        zoo.fetch(entry)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_nothing(server: FileServer, cache: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))  # the system refuses to write on, as when full
    try:
        with pytest.raises(UserError, match=r"RGT_T_web.pth: cannot be written: File too large"):
            resolve_path("RGT_T_web")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name for file in cache.iterdir()} <= {"RGT_T_web.lock"}


def test_the_proxy_of_the_environment_is_used(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/net.pth"))
    zoo.fetch(ZooEntry("RGT_T_web", "RGT-T", 2, "none", url="http://weights.invalid/net.pth"))
    assert server.requests == ["http://weights.invalid/net.pth"]


def test_another_network_and_damaged_bytes_are_refused(server: FileServer, cache: Path, content: bytes) -> None:
    server.content = content_of(rgt_t(4))
    with pytest.raises(UserError, match=r"the downloaded file is not RGT_T_web but an RGT ×4"):
        resolve_path("RGT_T_web")
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    server.content = bytes(damaged)
    with pytest.raises(UserError, match=r"the downloaded file is damaged"):
        resolve_path("RGT_T_web")
    assert not (cache / "RGT_T_web.pth").exists()


def test_two_processes_download_once(server: FileServer, cache: Path) -> None:
    server.pause = 0.02
    code = (
        "import sys; from rgt_arch.weights import zoo\n"
        "zoo.fetch(zoo.ZooEntry('RGT_T_web', 'RGT-T', 2, 'none', url=sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.DEVNULL) as other:
        while not server.requests:
            assert other.poll() is None
            time.sleep(0.01)
        assert resolve_path("RGT_T_web") == cache / "RGT_T_web.pth"
    assert other.returncode == 0
    assert len(server.requests) == 1


def test_a_cache_that_cannot_be_written_is_one_clear_line(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("RGT_CACHE", "file/cache")
    with pytest.raises(UserError, match=r"file/cache: the cache cannot be written: Not a directory; .*RGT_CACHE"):
        resolve_path("RGT_T_web")


def test_the_cache_is_the_users_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RGT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setenv("HOME", "/somewhere")
    assert "rgt-arch" in zoo.cache_folder().parts
    assert zoo.cache_folder().is_relative_to("/somewhere") or os.name == "nt"


def test_weights_without_a_link_say_where_they_are_and_are_found_when_put_there(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"Google Drive .*github.com/zhengchen1999/RGT.*give its path") as caught:
        load_model("RGT_S_x2")
    target = cache / "RGT_S_x2.pth"
    assert str(target) in str(caught.value)
    cache.mkdir()
    target.write_bytes(content)
    with pytest.raises(UsageError, match=r"RGT_S_x2.pth: is not RGT_S_x2 but an RGT ×2 of depth \[4, 4\]"):
        load_model("RGT_S_x2")
    monkeypatch.setitem(ZOO, "RGT_S_x2", ZooEntry("RGT_S_x2", "RGT-T", 2, "none"))  # type: ignore[arg-type]
    assert load_model("RGT_S_x2").upscale == 2
    assert (cache / "RGT_S_x2.json").is_file()


def test_a_damaged_record_is_one_clear_line(server: FileServer, cache: Path) -> None:
    resolve_path("RGT_T_web")
    (cache / "RGT_T_web.json").write_text("{")
    with pytest.raises(UsageError, match=r"RGT_T_web.json: cannot be read .*; delete it if you trust"):
        resolve_path("RGT_T_web")


# --- the command ---


def test_the_command_lists_names_and_prints_paths(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in listed for name in ZOO)
    assert str(cache) in listed
    assert main(["weights", "rgt-t-web"]) == 0
    assert capsys.readouterr().out == f"{cache / 'RGT_T_web.pth'}\n"
    main(["weights"])
    assert f"{cache / 'RGT_T_web.pth'}, " in capsys.readouterr().out
    assert main(["weights", "RGT_x4", "RGT_x9"]) == 2
    assert "RGT_x9: no such file, and no weights of that name" in capsys.readouterr().err
