"""LMDB folders, read back through BasicSR's own data set and file client."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import FileClient, imfrombytes
from PIL import Image

from rgt_arch.data import lmdb as lmdb_module
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb_of_folder
from rgt_arch.errors import UsageError, UserError

from .image_files import TURNED, files, noise, prepare, read, save


def write_images(folder, count=3, size=(24, 32), suffix=""):
    return [save(folder / f"photo{index}{suffix}.png", noise(*size, 3, seed=index)) for index in range(count)]


pack = partial(prepare, "lmdb")


def value(path, key):
    return bytes(FileClient("lmdb", db_paths=str(path)).get(key))


def content(path):
    return {name: data for name, data in files(path).items() if name != "lock.mdb"}


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_png_files_are_kept_byte_for_byte_and_listed_in_basicsrs_format(tmp_path):
    images = write_images(tmp_path / "in", count=2)
    # Not OpenCV's default encoding, so that decoding and encoding again would change the bytes.
    cv2.imwrite(str(images[0]), read(images[0]), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    images.append(save(tmp_path / "in" / "grey.png", noise(5, 6)))
    create_lmdb_of_folder(tmp_path / "in")
    assert all(value(tmp_path / "in.lmdb", file.stem) == file.read_bytes() for file in images)
    lines = (tmp_path / "in.lmdb" / "meta_info.txt").read_text().splitlines()
    assert lines == ["grey.png (5,6,1) 1", "photo0.png (24,32,3) 1", "photo1.png (24,32,3) 1"]


@pytest.mark.parametrize("kind", ["turned.jpg", "grey.jpg", "deep.tiff"])
def test_a_data_set_gives_the_same_tensors_from_lmdb_and_from_the_files(tmp_path, kind):
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / kind
    if kind == "deep.tiff":
        save(file, noise(16, 24, 3, dtype=np.uint16))
    else:
        Image.fromarray(noise(16, 24, 3)).convert("L" if kind == "grey.jpg" else "RGB").save(
            file, exif=TURNED if kind == "turned.jpg" else b""
        )
    create_lmdb_of_folder(tmp_path / "in")
    options = {"phase": "val", "scale": 1}
    disk = {"dataroot_lq": str(tmp_path / "in"), "dataroot_gt": str(tmp_path / "in"), "io_backend": {"type": "disk"}}
    stored = dict.fromkeys(("dataroot_lq", "dataroot_gt"), str(tmp_path / "in.lmdb"))
    one, other = (
        PairedImageDataset({**options, **where})[0] for where in (disk, {**stored, "io_backend": {"type": "lmdb"}})
    )
    assert torch.equal(one["gt"], other["gt"])
    assert one["gt"].shape == ((3, 24, 16) if kind == "turned.jpg" else (3, 16, 24))


def test_failure_leaves_nothing_behind(tmp_path):
    (image,) = write_images(tmp_path / "in", count=1)
    (tmp_path / "file").touch()
    for place, message in (("file/out.lmdb", "could not be written"), ("out.lmdb", "none of the images")):
        with pytest.raises(UserError, match=message) as caught:
            create_lmdb_of_folder(tmp_path / "in", tmp_path / place)
        assert "\n" not in str(caught.value)
        assert names(tmp_path) == ["file", "in"]
        image.write_bytes(b"not an image")


def test_misuse_is_reported_and_changes_nothing(tmp_path):
    write_images(tmp_path / "in")
    (tmp_path / "old.lmdb").mkdir()
    for name, message in (("old.lmdb", "exists, but is not an up-to-date LMDB"), ("out", r"must end with \.lmdb")):
        with pytest.raises(UsageError, match=message):
            create_lmdb_of_folder(tmp_path / "in", tmp_path / name)
    with pytest.raises(UsageError, match=r"x\.lmdb would lie inside the input folder"):
        create_lmdb_of_folder(tmp_path / "in", tmp_path / "in" / "x.lmdb")
    with pytest.raises(UsageError, match="no image's name ends with 'x2'"):
        create_lmdb_of_folder(tmp_path / "in", ending="x2")
    save(tmp_path / "in" / "photo1.jpg", noise(8, 8, 3))
    with pytest.raises(UsageError, match=r"photo1\.jpg and .*photo1\.png"):
        create_lmdb_of_folder(tmp_path / "in")
    assert names(tmp_path) == ["in", "old.lmdb"]
    assert not names(tmp_path / "old.lmdb")


def test_command_packs_subfolders_and_unusual_names_of_hr_and_lr_alike(tmp_path, capsys):
    for seed, name in enumerate(("0001_s001", "img.v1", "sub dir/bébé", "photo (1)")):
        hr, lr = hr_lr_pair(noise(16, 12, 3, seed=seed), 2)
        save(tmp_path / "HR" / f"{name}.png", hr)
        save(tmp_path / "LR" / f"{name}x2.png", lr)
    assert pack(tmp_path / "HR") == pack(tmp_path / "LR", "--ending", "x2", "-o", tmp_path / "X2.lmdb") == 0
    assert "images: 4 made, 0 already there, 0 failed" in capsys.readouterr().out
    lines = (tmp_path / "X2.lmdb" / "meta_info.txt").read_text().splitlines()
    keys = ["0001_s001", "img%2Ev1", "photo%20(1)", "sub%20dir/b%C3%A9b%C3%A9"]
    assert lines == [f"{key}.png (8,6,3) 1" for key in keys]
    options = {"dataroot_gt": str(tmp_path / "HR.lmdb"), "dataroot_lq": str(tmp_path / "X2.lmdb")}
    dataset = PairedImageDataset({**options, "io_backend": {"type": "lmdb"}, "phase": "val", "scale": 2})
    for item in dataset:
        hr = item["gt"].numpy().transpose(1, 2, 0)[..., ::-1] * 255
        lr = item["lq"].numpy().transpose(1, 2, 0)[..., ::-1] * 255
        np.testing.assert_array_equal(hr_lr_pair(hr.round().astype(np.uint8), 2)[1], lr.round())
    assert len(dataset) == 4


def test_any_number_of_processes_gives_the_same_lmdb_hardly_larger_than_its_data(tmp_path, monkeypatch):
    write_images(tmp_path / "in", count=40, size=(40, 60))
    monkeypatch.setattr(lmdb_module, "_TRANSACTION_BYTES", 20_000)  # several transactions
    create_lmdb_of_folder(tmp_path / "in", tmp_path / "one.lmdb", jobs=1)
    create_lmdb_of_folder(tmp_path / "in", tmp_path / "two.lmdb", jobs=2)
    assert content(tmp_path / "one.lmdb") == content(tmp_path / "two.lmdb")
    data = sum(file.stat().st_size for file in (tmp_path / "in").iterdir())
    assert (tmp_path / "one.lmdb" / "data.mdb").stat().st_size < data + 60 * 4096
    with lmdb.open(str(tmp_path / "one.lmdb"), readonly=True, lock=False) as environment:
        assert environment.info()["last_txnid"] > 5
        assert environment.stat()["entries"] == 40


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1", "16 bits"])
def test_compressed_images_have_new_bytes_and_the_same_pixels(tmp_path, mode):
    file = save(tmp_path / "in" / "a.png", noise(20, 24, 3, dtype=np.uint16))
    if mode != "16 bits":
        Image.fromarray(noise(20, 24, 3)).convert(mode).save(file)
    create_lmdb_of_folder(tmp_path / "in", compression=9)
    stored = value(tmp_path / "in.lmdb", "a")
    assert stored != file.read_bytes()
    np.testing.assert_array_equal(imfrombytes(stored), cv2.imread(str(file)))
    assert (tmp_path / "in.lmdb" / "meta_info.txt").read_text().endswith(" 9\n")


def test_damaged_files_are_skipped_with_one_line_each_in_every_run(tmp_path, capsys):
    images = write_images(tmp_path / "in")
    images[0].write_bytes(images[0].read_bytes()[:-100])
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "photo1.txt").write_text("the photo of the same name")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    for state in ("2 made, 0 already there, 3 failed", "0 made, 2 already there, 3 failed"):
        assert pack(tmp_path / "in") == 1
        out, err = capsys.readouterr()
        assert state in out
        assert "passed over: 1 .txt" in out.splitlines()
        for name in ("photo0.png: is truncated", "empty.png: is empty", "gone.png: no such file"):
            assert err.count(name) == 1
    assert (tmp_path / "in.lmdb" / "meta_info.txt").read_text().count("\n") == 2


def test_complete_lmdb_is_kept_and_one_of_other_images_refused(tmp_path, capsys):
    images = write_images(tmp_path / "in")
    spare = save(tmp_path / "new.png", noise(8, 8, 3))
    assert pack(tmp_path / "in") == 0
    before = content(tmp_path / "in.lmdb")
    time.sleep(0.02)  # file systems round timestamps
    refusal = "in.lmdb: exists, but is not an up-to-date LMDB of exactly these images"

    def refused(*arguments):
        return pack(tmp_path / "in", *arguments) == 2 and refusal in capsys.readouterr().err

    assert pack(tmp_path / "in") == 0
    assert "0 made, 3 already there" in capsys.readouterr().out
    assert refused("--compression", "7")
    spare.rename(tmp_path / "in" / "new.png")
    assert refused()
    (tmp_path / "in" / "new.png").rename(spare)
    assert pack(tmp_path / "in") == 0
    images[2].rename(tmp_path / "2.png")
    assert refused()
    (tmp_path / "2.png").rename(images[2])  # its ctime is newer now
    assert refused()
    assert content(tmp_path / "in.lmdb") == before
    assert pack(tmp_path / "in", "--compression", "7", "--overwrite") == 0
    assert content(tmp_path / "in.lmdb") != before
    assert pack(tmp_path / "in", "--compression", "7") == 0
    assert "0 made, 3 already there" in capsys.readouterr().out
    assert names(tmp_path) == ["in", "in.lmdb", "new.png"]


def test_overwrite_keeps_the_old_lmdb_until_the_new_one_is_complete_and_replaces_no_other_folder(tmp_path):
    images = write_images(tmp_path / "in")
    create_lmdb_of_folder(tmp_path / "in")
    path = tmp_path / "in.lmdb"
    before = content(path)
    for file in images:
        file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="none of the images"):
        create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(path) == before
    (path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"in\.lmdb: exists, and holds files other than an LMDB's"):
        create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(path) == {**before, "notes.txt": b"mine"}


def in_fork(*arguments, prepare=lambda: None):
    """Start the command in a forked process, which spends no time on imports."""

    def run():
        prepare()
        sys.exit(pack(*arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


forks = pytest.mark.skipif(sys.platform != "linux", reason="forks a process")


@forks
def test_full_disk_is_an_error_without_traceback(tmp_path, capfd):
    import resource

    write_images(tmp_path / "in", size=(200, 200))

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = in_fork(tmp_path / "in", "--jobs", 2, prepare=limit)
    run.join()
    assert run.exitcode == 1
    error = capfd.readouterr().err
    assert "in.lmdb: could not be written" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert names(tmp_path) == ["in"]


@forks
def test_truncated_lmdb_is_reported_and_can_be_overwritten(tmp_path, capfd):
    """Reading beyond its end would kill the process."""
    write_images(tmp_path / "in")
    create_lmdb_of_folder(tmp_path / "in")
    before = content(tmp_path / "in.lmdb")
    os.truncate(tmp_path / "in.lmdb/data.mdb", len(before["data.mdb"]) // 2)
    process = in_fork(tmp_path / "in")
    process.join()
    assert process.exitcode == 2
    assert "data.mdb: is truncated: " in capfd.readouterr().err
    create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(tmp_path / "in.lmdb") == before


@forks
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run_leaves_no_lmdb_and_the_next_run_gives_the_same_bytes(tmp_path, number, capfd, monkeypatch):
    write_images(tmp_path / "in", count=20, size=(100, 100))
    (tmp_path / f".in.{os.getppid()}.new.lmdb").mkdir()  # belongs to a running process
    encode = lmdb_module.encode

    def stuck_at_15(compression, image):
        if image.name == "photo15":  # so that the signal always comes in time
            time.sleep(600)
        return encode(compression, image)

    monkeypatch.setattr(lmdb_module, "encode", stuck_at_15)
    monkeypatch.setattr(lmdb_module, "_TRANSACTION_BYTES", 50_000)
    run = in_fork(tmp_path / "in", "--jobs", 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until a part of the LMDB is on the disk
        if any(file.stat().st_size > 50_000 for file in tmp_path.glob(".in.*.new.lmdb/data.mdb")):
            break
        time.sleep(0.005)
    os.kill(run.pid, number)
    run.join()
    assert run.exitcode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "in.lmdb" not in names(tmp_path)
    assert len(names(tmp_path)) == (2 if number == signal.SIGINT else 3)
    assert "Traceback" not in capfd.readouterr().err
    monkeypatch.setattr(lmdb_module, "encode", encode)
    create_lmdb_of_folder(tmp_path / "in")
    create_lmdb_of_folder(tmp_path / "in", tmp_path / "other.lmdb")
    assert names(tmp_path) == [f".in.{os.getppid()}.new.lmdb", "in", "in.lmdb", "other.lmdb"]
    assert content(tmp_path / "other.lmdb") == content(tmp_path / "in.lmdb")


def test_basicsr_without_our_package_reads_the_lmdb(tmp_path):
    """BasicSR's import needs only torchvision's old module name."""
    write_images(tmp_path / "in", count=2, size=(20, 24))
    create_lmdb_of_folder(tmp_path / "in")
    code = f"""
import sys, types
import torchvision.transforms.functional as functional
name = "torchvision.transforms.functional_tensor"
sys.modules[name] = types.ModuleType(name)
sys.modules[name].rgb_to_grayscale = functional.rgb_to_grayscale
from basicsr.data.single_image_dataset import SingleImageDataset
data = SingleImageDataset({{"dataroot_lq": {str(tmp_path / "in.lmdb")!r}, "io_backend": {{"type": "lmdb"}}}})
print([(item["lq_path"], tuple(item["lq"].shape)) for item in data])
assert not [module for module in sys.modules if module.startswith("rgt_arch")]
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.stdout.strip() == "[('photo0', (3, 20, 24)), ('photo1', (3, 20, 24))]", run.stderr
