"""LMDB folders, read back through BasicSR's own data set and file client."""

import errno
import struct

import cv2
import numpy as np
import pytest
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import FileClient, imfrombytes

from rgt_arch.data.bicubic import hr_lr_pair
from rgt_arch.data.lmdb import create_lmdb
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
    with pytest.raises(UsageError, match=r"photo2\.png: not an image"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    files[2].write_bytes(files[1].read_bytes()[:60])
    with pytest.raises(UsageError, match=r"photo2\.png: not an image"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_full_disk_is_a_plain_message(tmp_path, monkeypatch):
    files = write_images(tmp_path / "in")
    monkeypatch.setattr("rgt_arch.data.lmdb._map_size", lambda images: 4096 * 4)
    with pytest.raises(UserError, match=r"out\.lmdb: could not be written"):
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_target_that_cannot_be_written_is_a_plain_message(tmp_path, monkeypatch):
    files = write_images(tmp_path / "in")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"out\.lmdb: could not be written"):
        create_lmdb(files, tmp_path / "file" / "out.lmdb", progress=False)

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(UserError, match=r"out\.lmdb: could not be written \(Permission denied\)") as caught:
        create_lmdb(files, tmp_path / "out.lmdb", progress=False)
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
    with pytest.raises(UsageError, match=r"a\.png: cannot be read"):
        create_lmdb([tmp_path / "a.png"], tmp_path / "out.lmdb", progress=False)
