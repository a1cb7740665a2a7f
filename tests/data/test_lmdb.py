"""LMDB folders, read back through BasicSR's own data set and file client."""

import multiprocessing
import os
import runpy
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import FileClient, imfrombytes
from PIL import Image

from rgt_arch.cli import main
from rgt_arch.data import lmdb as lmdb_module
from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb, create_lmdb_of_folder
from rgt_arch.errors import UsageError, UserError


def write_images(folder, count=3, size=(24, 32), suffix=""):
    folder.mkdir()
    rng = np.random.default_rng(7)
    files = []
    for index in range(count):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        files.append(folder / f"photo{index}{suffix}.png")
        cv2.imwrite(str(files[-1]), image)
    return files


def test_basicsr_reads_pairs_with_the_very_samples_of_the_files(tmp_path):
    hr_files = write_images(tmp_path / "HR")
    (tmp_path / "LR").mkdir()
    lr_files = []
    for file in hr_files:
        lr_files.append(tmp_path / "LR" / f"{file.stem}x2.png")
        cv2.imwrite(str(lr_files[-1]), hr_lr_pair(cv2.imread(str(file)), 2)[1])
    create_lmdb(hr_files, tmp_path / "hr.lmdb", progress=False)
    create_lmdb(lr_files, tmp_path / "lr.lmdb", keys=[file.stem for file in hr_files], progress=False)

    dataset = PairedImageDataset(
        {
            "dataroot_gt": str(tmp_path / "hr.lmdb"),
            "dataroot_lq": str(tmp_path / "lr.lmdb"),
            "io_backend": {"type": "lmdb"},
            "phase": "val",
            "scale": 2,
        }
    )
    assert len(dataset) == 3
    for item, hr, lr in zip(dataset, hr_files, lr_files, strict=True):
        for tensor, file in ((item["gt"], hr), (item["lq"], lr)):
            samples = (tensor.numpy().transpose(1, 2, 0)[..., ::-1] * 255).round().astype(np.uint8)
            np.testing.assert_array_equal(samples, cv2.imread(str(file)))


def test_png_files_are_kept_byte_for_byte_and_listed_in_basicsrs_format(tmp_path):
    files = write_images(tmp_path / "in", count=2)
    # Encoded unlike OpenCV's default, so that decoding and encoding anew would show.
    cv2.imwrite(str(files[0]), cv2.imread(str(files[0])), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(tmp_path / "in" / "grey.png"), np.zeros((5, 6), np.uint8))
    files.append(tmp_path / "in" / "grey.png")
    create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    client = FileClient("lmdb", db_paths=str(tmp_path / "out.lmdb"))
    for file in files:
        assert bytes(client.get(file.stem)) == file.read_bytes()
    lines = (tmp_path / "out.lmdb" / "meta_info.txt").read_text().splitlines()
    assert lines == ["photo0.png (24,32,3) 1", "photo1.png (24,32,3) 1", "grey.png (5,6,1) 1"]


def test_other_formats_are_stored_as_png_with_the_same_samples(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    create_lmdb([tmp_path / "a.jpg"], tmp_path / "out.lmdb", progress=False)
    content = FileClient("lmdb", db_paths=str(tmp_path / "out.lmdb")).get("a")
    assert bytes(content[:4]) == b"\x89PNG"
    np.testing.assert_array_equal(imfrombytes(content), cv2.imread(str(tmp_path / "a.jpg")))


def with_orientation(jpeg, orientation):
    """The JPEG bytes with an EXIF block that says how the camera was held (TIFF tag 0x112)."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("kind", ["turned.jpg", "grey.jpg", "deep.tiff"])
def test_a_data_set_gives_the_same_tensors_from_lmdb_and_from_the_files(tmp_path, kind):
    samples = np.random.default_rng(0).integers(0, 65536, (16, 24, 3), dtype=np.uint16)
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / kind
    if kind == "deep.tiff":
        cv2.imwrite(str(file), samples)
    else:
        image = (samples[..., 0] if kind == "grey.jpg" else samples) >> 8
        cv2.imwrite(str(file), image.astype(np.uint8))
    if kind == "turned.jpg":
        file.write_bytes(with_orientation(file.read_bytes(), 6))
    create_lmdb([file], tmp_path / "out.lmdb", progress=False)
    options = {"phase": "val", "scale": 1}
    disk = {"dataroot_lq": str(tmp_path / "in"), "dataroot_gt": str(tmp_path / "in"), "io_backend": {"type": "disk"}}
    stored = dict.fromkeys(("dataroot_lq", "dataroot_gt"), str(tmp_path / "out.lmdb"))
    one, other = (
        PairedImageDataset({**options, **where})[0] for where in (disk, {**stored, "io_backend": {"type": "lmdb"}})
    )
    assert torch.equal(one["gt"], other["gt"])
    assert one["gt"].shape == ((3, 24, 16) if kind == "turned.jpg" else (3, 16, 24))


def test_the_map_holds_images_that_are_far_larger_than_the_first(tmp_path):
    small = write_images(tmp_path / "small", count=1, size=(2, 2))
    large = write_images(tmp_path / "large", count=4, size=(700, 700), suffix="L")
    create_lmdb(small + large, tmp_path / "out.lmdb", progress=False)
    assert len((tmp_path / "out.lmdb" / "meta_info.txt").read_text().splitlines()) == 5


def test_a_failure_leaves_nothing_behind(tmp_path):
    files = write_images(tmp_path / "in")
    files[2].write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"photo2\.png: is not an image"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    files[2].write_bytes(files[1].read_bytes()[:-60])
    with pytest.raises(UserError, match=r"photo2\.png: is truncated"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def in_fork(*arguments, prepare=None):
    """The command in a process of its own, without the seconds that imports take."""

    def run():
        if prepare is not None:
            prepare()
        sys.exit(main(["prepare", "lmdb", *map(str, arguments)]))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


forks = pytest.mark.skipif(sys.platform != "linux", reason="forks a process")


@forks
def test_a_full_disk_is_a_plain_message(tmp_path, capfd):
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


def test_a_target_that_cannot_be_written_is_a_plain_message(tmp_path):
    files = write_images(tmp_path / "in")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"out\.lmdb: could not be written") as caught:
        create_lmdb(files, tmp_path / "file" / "out.lmdb", progress=False)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "in"]


def test_an_existing_folder_is_not_touched(tmp_path):
    files = write_images(tmp_path / "in")
    (tmp_path / "out.lmdb").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    assert not list((tmp_path / "out.lmdb").iterdir())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "b.1", "c"], r"photo1\.png: LMDB key 'b\.1'"),
        (["a", "b c", "d"], "without dots and spaces"),
        (["a", "ü", "d"], "must be ASCII"),
        (["a", "b", "a"], r"photo2\.png and .*photo0\.png have the same LMDB key 'a'"),
        (["a" * 512, "b", "c"], "512 characters"),
        (["a", "b"], "3 images were given with 2 keys"),
    ],
)
def test_keys_that_basicsr_could_not_read_back_are_refused(tmp_path, keys, message):
    files = write_images(tmp_path / "in")
    with pytest.raises(UsageError, match=message):
        create_lmdb(files, tmp_path / "out.lmdb", keys=keys, progress=False)


def test_misuse_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"must end with \.lmdb"):
        create_lmdb([tmp_path / "a.png"], tmp_path / "out", progress=False)
    with pytest.raises(UsageError, match="no images"):
        create_lmdb([], tmp_path / "out.lmdb", progress=False)
    with pytest.raises(UserError, match=r"a\.png: no such file"):
        create_lmdb([tmp_path / "a.png"], tmp_path / "out.lmdb", progress=False)


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "lock.mdb"}


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_command_packs_subfolders_and_odd_names_for_hr_and_lr_alike(tmp_path, capsys):
    (tmp_path / "HR" / "sub dir").mkdir(parents=True)
    (tmp_path / "LR" / "sub dir").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name in ("0001_s001", "img.v1", "sub dir/bébé", "photo (1)"):
        hr, lr = hr_lr_pair(rng.integers(0, 256, (16, 12, 3), dtype=np.uint8), 2)
        cv2.imwrite(str(tmp_path / "HR" / f"{name}.png"), hr)
        cv2.imwrite(str(tmp_path / "LR" / f"{name}x2.png"), lr)
    assert main(["prepare", "lmdb", str(tmp_path / "HR")]) == 0
    assert main(["prepare", "lmdb", str(tmp_path / "LR"), "--ending", "x2", "-o", str(tmp_path / "X2.lmdb")]) == 0
    assert "images: 4 made, 0 already there, 0 failed" in capsys.readouterr().out
    lines = (tmp_path / "X2.lmdb" / "meta_info.txt").read_text().splitlines()
    keys = ["0001_s001", "img%2Ev1", "photo%20(1)", "sub%20dir/b%C3%A9b%C3%A9"]
    assert lines == [f"{key}.png (8,6,3) 1" for key in keys]
    options = {"dataroot_gt": str(tmp_path / "HR.lmdb"), "dataroot_lq": str(tmp_path / "X2.lmdb")}
    dataset = PairedImageDataset({**options, "io_backend": {"type": "lmdb"}, "phase": "val", "scale": 2})
    assert [item["gt"].shape[1] for item in dataset] == [16] * 4


def test_any_number_of_processes_gives_the_same_bytes_in_a_map_hardly_larger_than_the_data(tmp_path, monkeypatch):
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


@pytest.mark.parametrize("transaction", [500, 1 << 30])
def test_many_tiny_images_in_any_order_fit_the_map(tmp_path, monkeypatch, transaction):
    monkeypatch.setattr(lmdb_module, "_TRANSACTION_BYTES", transaction)
    (file,) = write_images(tmp_path / "in", count=1, size=(2, 2))
    keys = [f"{key:0200d}" for key in np.random.default_rng(0).permutation(2000)]  # long: few fit on a page of the tree
    create_lmdb([file] * 2000, tmp_path / "out.lmdb", keys=keys, progress=False)
    client = FileClient("lmdb", db_paths=str(tmp_path / "out.lmdb"))
    assert all(bytes(client.get(key)) == file.read_bytes() for key in keys)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1", "16 bits"])
def test_compression_encodes_anew_what_is_read_the_same(tmp_path, mode):
    (tmp_path / "in").mkdir()
    samples = np.random.default_rng(0).integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    file = tmp_path / "in" / "a.png"
    if mode == "16 bits":
        cv2.imwrite(str(file), samples[..., :3])
    else:
        Image.fromarray((samples[..., :3] >> 8).astype(np.uint8)).convert(mode).save(file)
    packed = create_lmdb_of_folder(tmp_path / "in", compression=9)
    stored = FileClient("lmdb", db_paths=str(packed.path)).get("a")
    assert bytes(stored) != file.read_bytes()
    np.testing.assert_array_equal(imfrombytes(stored), cv2.imread(str(file)))
    assert (packed.path / "meta_info.txt").read_text().endswith(" 9\n")


def test_damaged_files_are_left_out_one_line_each_and_found_again_by_the_next_run(tmp_path, capsys):
    files = write_images(tmp_path / "in")
    files[0].write_bytes(files[0].read_bytes()[:-100])
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "photo1.txt").write_text("the photo of the same name")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    for state in ("2 made, 0 already there, 4 failed", "0 made, 2 already there, 4 failed"):
        assert main(["prepare", "lmdb", str(tmp_path / "in")]) == 1
        out, err = capsys.readouterr()
        assert state in out
        for name in (
            "photo0.png: is truncated",
            "empty.png: is empty",
            "photo1.txt: is not an image",
            "gone.png: no such file",
        ):
            assert err.count(name) == 1
    assert (tmp_path / "in.lmdb" / "meta_info.txt").read_text().count("\n") == 2


def test_nothing_is_made_of_damaged_files_alone(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    assert main(["prepare", "lmdb", str(tmp_path / "in")]) == 1
    assert "none of its 1 files can be stored" in capsys.readouterr().err
    assert names(tmp_path) == ["in"]


def test_a_complete_lmdb_is_kept_and_one_of_other_images_refused(tmp_path):
    files = write_images(tmp_path / "in")
    jpeg = tmp_path / "in" / "turned.jpg"
    jpeg.write_bytes(with_orientation(cv2.imencode(".jpg", cv2.imread(str(files[0])))[1].tobytes(), 6))
    path = create_lmdb_of_folder(tmp_path / "in").path
    before = content(path)

    def again(**options):
        return create_lmdb_of_folder(tmp_path / "in", **options).summary

    assert again().kept == 4
    os.utime(files[1])
    assert again().kept == 4  # newer, but the same
    for change, reason in (
        (lambda: files[1].write_bytes(files[0].read_bytes()), r".*photo1\.png is stored otherwise"),
        (lambda: cv2.imwrite(str(jpeg), np.zeros((9, 9, 3), np.uint8)), r".*turned\.jpg is stored otherwise"),
        (lambda: (tmp_path / "in" / "new.png").write_bytes(files[0].read_bytes()), r"it lacks .*new\.png"),
        (lambda: files[2].rename(tmp_path / "moved.png"), r"it has 1 keys without a file, such as 'photo2'"),
    ):
        saved = {file: file.read_bytes() for file in (tmp_path / "in").iterdir()}
        change()
        with pytest.raises(UsageError, match=rf"exists and is not what .*: {reason}; name another -o, or --overwrite"):
            again()
        for file in (tmp_path / "in").iterdir():
            file.unlink()
        for file, data in saved.items():
            file.write_bytes(data)
    with pytest.raises(UsageError, match="compression level is 1, not 7"):
        again(compression=7)
    assert content(path) == before
    assert again(compression=7, overwrite=True).made == 4
    assert content(path) != before
    assert names(tmp_path) == ["in", "in.lmdb", "moved.png"]


def test_an_lmdb_that_lacks_images_is_refused_at_the_first(tmp_path, monkeypatch):
    more = write_images(tmp_path / "in", count=5)[1:]
    saved = {file: file.read_bytes() for file in more}
    for file in more:
        file.unlink()
    create_lmdb_of_folder(tmp_path / "in")
    for file, data in saved.items():
        file.write_bytes(data)
    encode, encoded = lmdb_module.encode, []
    monkeypatch.setattr(lmdb_module, "encode", lambda image: encoded.append(image) or encode(image))
    with pytest.raises(UsageError, match=r"it lacks .*photo1\.png"):
        create_lmdb_of_folder(tmp_path / "in")
    assert [image.key for image in encoded] == ["photo0", "photo1"]  # one to compare, one that is missing


@forks
def test_a_truncated_lmdb_is_said_to_be_so_and_can_be_overwritten(tmp_path, capfd):
    """Reading behind its end would kill the process."""
    write_images(tmp_path / "in")
    path = create_lmdb_of_folder(tmp_path / "in").path
    before = content(path)
    os.truncate(path / "data.mdb", (path / "data.mdb").stat().st_size // 2)
    process = in_fork(tmp_path / "in")
    process.join()
    assert process.exitcode == 2
    assert "its data.mdb is truncated: " in capfd.readouterr().err
    create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(path) == before


def test_overwrite_keeps_the_old_lmdb_until_the_new_one_is_complete_and_never_takes_other_folders(tmp_path):
    files = write_images(tmp_path / "in")
    path = create_lmdb_of_folder(tmp_path / "in").path
    before = content(path)
    for file in files:
        file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="none of its 3 files"):
        create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(path) == before
    (path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"in\.lmdb: exists and holds notes\.txt"):
        create_lmdb_of_folder(tmp_path / "in", overwrite=True)
    assert content(path) == {**before, "notes.txt": b"mine"}


def test_output_in_the_input_and_two_images_of_one_key_are_refused(tmp_path):
    files = write_images(tmp_path / "in")
    with pytest.raises(UsageError, match=r"x\.lmdb: lies in"):
        create_lmdb_of_folder(tmp_path / "in", tmp_path / "in" / "x.lmdb")
    cv2.imwrite(str(tmp_path / "in" / "photo1.jpg"), cv2.imread(str(files[0])))
    with pytest.raises(UsageError, match=r"photo1\.jpg and .*photo1\.png"):
        create_lmdb_of_folder(tmp_path / "in")
    assert names(tmp_path) == ["in"]


@forks
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_leaves_no_lmdb_and_the_next_one_gives_the_same_bytes(tmp_path, number, capfd, monkeypatch):
    monkeypatch.setattr(lmdb_module, "_TRANSACTION_BYTES", 300_000)
    write_images(tmp_path / "in", count=60, size=(200, 250))

    def stuck_at_50(writer, key, *image):
        if key == "photo50":  # so that the signal is never too late
            time.sleep(600)
        put(writer, key, *image)

    put = lmdb_module._Writer.put
    run = in_fork(tmp_path / "in", "--jobs", 2, prepare=lambda: setattr(lmdb_module._Writer, "put", stuck_at_50))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until a part of it is on the disk
        if any(file.stat().st_size > 300_000 for file in tmp_path.glob(".in.*.new.lmdb/data.mdb")):
            break
        time.sleep(0.005)
    os.kill(run.pid, number)
    run.join()
    assert run.exitcode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert "in.lmdb" not in names(tmp_path)
    assert len(names(tmp_path)) == (1 if number == signal.SIGINT else 2)
    assert "Traceback" not in capfd.readouterr().err
    other = create_lmdb_of_folder(tmp_path / "in", tmp_path / "other.lmdb")
    create_lmdb_of_folder(tmp_path / "in")
    assert names(tmp_path) == ["in", "in.lmdb", "other.lmdb"]
    assert content(other.path) == content(tmp_path / "in.lmdb")


def test_what_killed_runs_left_is_removed_and_a_running_ones_is_not(tmp_path):
    write_images(tmp_path / "in")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    running = tmp_path / f".in.{os.getppid()}.new.lmdb"
    for folder in (running, tmp_path / f".in.{dead.pid}.new.lmdb"):
        folder.mkdir()
    create_lmdb_of_folder(tmp_path / "in")
    assert names(tmp_path) == [running.name, "in", "in.lmdb"]


def test_plain_basicsr_reads_it(tmp_path):
    """No module of ours in the process; torchvision's old module name is all that BasicSR needs to be imported."""
    write_images(tmp_path / "in", count=2, size=(20, 24))
    path = create_lmdb_of_folder(tmp_path / "in").path
    code = f"""
import sys, types
import torchvision.transforms.functional as functional
name = "torchvision.transforms.functional_tensor"
sys.modules[name] = types.ModuleType(name)
sys.modules[name].rgb_to_grayscale = functional.rgb_to_grayscale
from basicsr.data.single_image_dataset import SingleImageDataset
data = SingleImageDataset({{"dataroot_lq": {str(path)!r}, "io_backend": {{"type": "lmdb"}}}})
print([(item["lq_path"], tuple(item["lq"].shape)) for item in data])
assert not [module for module in sys.modules if module.startswith("rgt_arch")]
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.stdout.strip() == "[('photo0', (3, 20, 24)), ('photo1', (3, 20, 24))]", run.stderr


def test_script_is_the_command(tmp_path, monkeypatch):
    write_images(tmp_path / "in", suffix="x2")
    script = Path(__file__).parents[2] / "realesrgan_style_scripts" / "create_lmdb.py"
    monkeypatch.setattr(
        sys, "argv", [str(script), str(tmp_path / "in"), "-o", str(tmp_path / "o.lmdb"), "--ending", "x2"]
    )
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "o.lmdb" / "meta_info.txt").read_text().startswith("photo0.png (24,32,3) 1\n")
