"""Weights by name: from the package, from the cache and from a local server."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_server import FileServer, serving
from safetensors.torch import save

from rgt_arch import load_model, rgt_t
from rgt_arch.archs.rgt_arch import PRESETS
from rgt_arch.cli import main
from rgt_arch.errors import UsageError, UserError
from rgt_arch.weights import zoo
from rgt_arch.weights.writing import convert_checkpoint
from rgt_arch.weights.zoo import ZOO, ZooEntry, resolve_path


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
    """An empty cache, which is returned, an empty folder of bundled weights and an empty working directory."""
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
    """Serve RGT-T ×2 under the name RGT_T_web."""
    with serving(content) as state:
        monkeypatch.setitem(ZOO, "RGT_T_web", ZooEntry("RGT_T_web", "RGT-T", 2, "none", url=state.url))  # type: ignore[arg-type]
        yield state


def assert_equal(first: torch.nn.Module, second: torch.nn.Module) -> None:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_table_names_every_published_network_the_communitys_and_the_small_ones() -> None:
    names = {f"{preset.replace('-', '_')}_x{scale}" for preset in ("RGT", "RGT-S") for scale in (2, 3, 4)}
    groups: dict[str, set[str]] = {}
    for name, entry in ZOO.items():
        groups.setdefault(entry.group, set()).add(name)
        assert entry.name == name
        assert name.removesuffix("_photo").endswith(f"_x{entry.scale}")
        assert entry.preset in PRESETS
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert ("CC-BY-4.0, https://openmodeldb.info/models/" in entry.licence) is ("community" in entry.group)
    authors, community, ours = (groups[group] for group in zoo._GROUPS)
    assert authors == names
    textures = ("TexturesGTAV", "TexturesGTAV_dither")
    assert community == {f"{name}_RGT_S_x4" for name in ("NomosUni", "RealWebPhoto", *textures)}
    small = {"RGT_T_x3", *(f"RGT_T_x{scale}{kind}" for scale in (2, 4) for kind in ("", "_photo"))}
    assert {name for name in ZOO if ZOO[name].bundled} == ours == small
    methods = {"RGT", "RGT-S", "RGT-T", "RGT_T_photo", *(name.removesuffix("_x4") for name in community)}
    assert {entry.method for entry in ZOO.values()} == methods


def test_names_and_paths_are_distinguished(server: FileServer, cache: Path, content: bytes) -> None:
    Path("RGT_T_web").mkdir()  # a folder does not hide a name
    for name in ("RGT_T_web", "rgt-t-WEB", "Rgt_T-web"):
        assert resolve_path(name) == cache / "RGT_T_web.pth"
    assert len(server.requests) == 1
    Path("RGT_x4").write_bytes(content)  # a file takes precedence over a name
    assert resolve_path("RGT_x4") == Path("RGT_x4")
    assert load_model("RGT_x4").upscale == 2
    for path in ("net.pth", "models/net", "./net", Path("some") / "net_g_5000.pth"):
        assert resolve_path(path) == Path(path)
    with pytest.raises(UsageError, match="no such file, and no weights of that name") as caught:
        resolve_path("rgt_s_5")
    assert all(name in str(caught.value) for name in ZOO)


def test_bundled_weights_load_by_name(network: torch.nn.Module, tmp_path: Path) -> None:
    """Files as in a release: slim safetensors converted from a training file, and the output of sha256sum."""
    torch.save({"params": network.state_dict(), "params_ema": network.state_dict()}, tmp_path / "net_g.pth")
    target = tmp_path / "bundled" / "RGT_T_x2.safetensors"
    convert_checkpoint(tmp_path / "net_g.pth", target, known={"img_range": 255.0})
    (target.parent / "SHA256SUMS").write_text(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}\n")
    loaded = load_model("rgt-t-x2")
    assert_equal(loaded, network)
    assert loaded.img_range == 255.0
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match=r"RGT_T_x2.safetensors: is damaged or has changed .*; install rgt-arch again"):
        load_model("RGT_T_x2")
    with pytest.raises(UsageError, match=r"RGT_T_x4.safetensors, a part of the package, is missing"):
        load_model("RGT_T_x4")


def test_the_bundled_files_are_intact_and_in_a_built_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    bundled = root / "rgt_arch" / "weights" / "bundled"
    monkeypatch.setattr(zoo, "BUNDLED", bundled)
    for entry in ZOO.values():
        if entry.bundled:
            assert load_model(entry.name).upscale == entry.scale
    pytest.importorskip("setuptools", minversion="77", reason="the build backend that pyproject.toml asks for")
    source = tmp_path / "source"
    (source / "rgt_arch/weights/bundled").mkdir(parents=True)
    names = ("pyproject.toml", "README.md", "LICENSE", "rgt_arch/__init__.py", "rgt_arch/version.py")
    for file in (*map(root.joinpath, names), *bundled.iterdir()):
        (source / file.relative_to(root)).write_bytes(file.read_bytes())
    (source / "rgt_arch/weights/__init__.py").touch()
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('out'))"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next((source / "out").glob("*.whl"))) as wheel:
        assert {f"rgt_arch/weights/bundled/{file.name}" for file in bundled.iterdir()} <= set(wheel.namelist())


def test_weights_are_downloaded_once_and_checked_against_their_first_checksum(
    server: FileServer, cache: Path, content: bytes, network: torch.nn.Module
) -> None:
    file, sums = cache / "RGT_T_web.pth", cache / "SHA256SUMS"
    for _ in range(2):
        assert_equal(load_model("RGT_T_web"), network)
    assert len(server.requests) == 1
    assert sums.read_text() == f"{hashlib.sha256(content).hexdigest()}  RGT_T_web.pth\n"
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UsageError, match=r"RGT_T_web.pth: is damaged or has changed .*; delete it and download it"):
        load_model("RGT_T_web")
    file.unlink()
    assert load_model("RGT_T_web").upscale == 2
    file.unlink()
    server.content = content_of(rgt_t(2))
    with pytest.raises(UsageError, match=rf"if it is the right one, delete its line in {re.escape(str(sums))}"):
        load_model("RGT_T_web")
    sums.write_text("")
    assert load_model("RGT_T_web").upscale == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [("404", "404 Client Error"), ("cut", "Connection broken"), ("html", "web page"), ("another", "an RGT ×4")],
)
def test_failed_download_ends_in_one_line_and_leaves_no_weights_file(
    server: FileServer, cache: Path, content: bytes, fault: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = fault
    if fault == "html":
        server.content = b"<!DOCTYPE html><html>please sign in</html>"
    elif fault == "another":
        server.content = content_of(rgt_t(4))
    assert main(["info", "RGT_T_web"]) == 1
    _, error = capsys.readouterr().err.splitlines()  # the first line names the download
    assert f"{server.url}: the download failed (" in error
    assert words in error
    assert f"download it by hand and save it as {cache / 'RGT_T_web.pth'}" in error
    assert {file.name for file in cache.iterdir()} <= {"RGT_T_web.lock"}
    server.fault, server.content = "", content
    assert main(["info", "RGT_T_web"]) == 0


def test_missing_network_and_unwritable_cache_end_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("127.0.0.1:9", "weights.invalid"):
        with pytest.raises(UserError, match=rf"http://{host}/net.pth: the download failed .*save it as") as caught:
            zoo.fetch(ZooEntry("RGT_T_web", "RGT-T", 2, "none", url=f"http://{host}/net.pth"))
        assert "\n" not in str(caught.value)
    Path("file").touch()
    monkeypatch.setenv("RGT_CACHE", "file/cache")
    assert main(["info", "RGT_x4"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("file/cache: Not a directory")


def test_two_simultaneous_requests_download_once(server: FileServer, cache: Path) -> None:
    server.pause = 0.02
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(resolve_path, ["RGT_T_web"] * 2)) == [cache / "RGT_T_web.pth"] * 2
    assert len(server.requests) == 1


def test_weights_put_into_the_cache_by_hand_are_taken_with_a_checksum_of_their_own(
    server: FileServer, cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published checksum belongs to the file at the URL, not to the name."""
    cache.mkdir()
    (cache / "RGT_S_x2.pth").write_bytes(content)
    with pytest.raises(UsageError, match=r"RGT_S_x2.pth: is not RGT_S_x2 but an RGT ×2 of depth \[4, 4\]"):
        load_model("RGT_S_x2")
    monkeypatch.setitem(ZOO, "RGT_T_web", replace(ZOO["RGT_T_web"], sha256="0" * 64))  # type: ignore[arg-type]
    (cache / "RGT_T_web.pth").write_bytes(content)
    assert load_model("RGT_T_web").upscale == 2
    assert (cache / "SHA256SUMS").is_file()
    assert not server.requests


def test_first_download_names_author_and_licence_follows_redirects_and_checks_the_published_checksum(
    server: FileServer,
    cache: Path,
    network: torch.nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def publish(sha256: str) -> None:
        url = server.url.replace("/net.pth", "/moved/net.safetensors")
        entry = ZooEntry("RGT_T_web", "RGT-T", 2, "A. Author, CC-BY-4.0, https://example.org", url, sha256)
        monkeypatch.setitem(ZOO, "RGT_T_web", entry)  # type: ignore[arg-type]

    apart = {key: tensor.clone() for key, tensor in network.state_dict().items()}  # safetensors refuses shared memory
    server.content = save(apart, metadata={"format": "pt"})  # without a record, as other programs write it
    publish("0" * 64)
    assert main(["weights", "RGT_T_web"]) == 1
    credit, error = capsys.readouterr().err.splitlines()
    assert credit.startswith("RGT_T_web (A. Author, CC-BY-4.0, https://example.org): downloading http://127.0.0.1:")
    assert f"is not the published file, whose SHA-256 is {'0' * 64}: do not use it" in error
    assert {file.name for file in cache.iterdir()} <= {"RGT_T_web.lock"}
    publish(hashlib.sha256(server.content).hexdigest())
    assert load_model("RGT_T_web").upscale == 2
    assert server.requests == ["/moved/net.safetensors", "/net.safetensors"] * 2
    assert resolve_path("RGT_T_web") == cache / "RGT_T_web.safetensors"
    main(["weights"])
    listed = capsys.readouterr().out
    assert re.search(
        r"the community's weights:\n(.+\n)*RGT_T_web .*A. Author, CC-BY-4.0, https://example.org\n", listed
    )


def test_the_command_lists_names_and_prints_paths(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.delenv("RGT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert zoo.cache_folder() == Path("/somewhere/rgt-arch")
