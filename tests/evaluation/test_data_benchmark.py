"""`rgt bench data` measures what it says: plain BasicSR's loader as it is, next to that of `basicsr train`."""

from __future__ import annotations

import contextlib
import multiprocessing
from pathlib import Path

import basicsr.data.prefetch_dataloader
import basicsr.train
import cv2
import numpy as np
import pytest
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.file_client import FileClient, LmdbBackend
from lmdb import open as open_lmdb

from rgt_arch.data.loading import TrainingDataset
from rgt_arch.data.sampling import IterationSampler
from rgt_arch.errors import UsageError
from rgt_arch.evaluation import data_benchmark, data_benchmark_loaders
from rgt_arch.evaluation.data_benchmark import EPOCH_STEPS, BenchSettings, Waits
from rgt_arch.evaluation.data_benchmark_loaders import LOADERS, batches, training_options
from rgt_arch.evaluation.data_benchmark_material import FULL_SIZE, Material, make_material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """One 2K image with sub-images of 480, of which 16 make an epoch: 8 steps with batch 2."""
    folder = tmp_path_factory.mktemp("material")
    return make_material(folder, None, scale=2, size=480, full_images=1, epoch_images=2 * EPOCH_STEPS, seed=0)


def options(pairs, workers=1, steps=3 * EPOCH_STEPS):
    return training_options(pairs, scale=2, batch=2, workers=workers, steps=steps, num_gpu=0, seed=0)


def workers_in_each_epoch(loader, pairs):
    """Process ids of the data workers at the batches of three epochs."""
    seen = []
    with contextlib.closing(batches(loader, options(pairs, workers=2))) as stream:
        for _ in range(3):
            epoch = set()
            for _ in range(EPOCH_STEPS - 1):  # with the last batch of all, ours let their workers go
                next(stream)
                epoch |= {process.pid for process in multiprocessing.active_children()}
            next(stream)
            seen.append(epoch)
    return seen


def test_plain_basicsr_starts_its_workers_anew_every_epoch(material):
    first, second, third = workers_in_each_epoch("BasicSR", material.epoch)
    assert len(second) == len(third) == 2
    assert not first & second
    assert not second & third


def test_our_workers_stay_over_epoch_ends(material):
    first, second, third = workers_in_each_epoch("ours", material.epoch)
    assert len(first) == 2
    assert first == second == third


@pytest.fixture
def parts(monkeypatch):
    """Prefetcher, sampler, data set and LMDB client that each stream's loop gets."""
    seen = []
    loop = data_benchmark_loaders._loop

    def spied(prefetcher, sampler, epochs):
        seen.append((prefetcher, sampler, prefetcher.ori_loader.dataset, FileClient._backends["lmdb"]))
        yield from loop(prefetcher, sampler, epochs)

    monkeypatch.setattr(data_benchmark_loaders, "_loop", spied)
    return seen


def test_plain_loader_consists_of_basicsr_own_classes(material, parts):
    ours = FileClient._backends["lmdb"]
    with contextlib.closing(batches("BasicSR", options(material.epoch))) as stream:
        next(stream)
    assert [type(part) for part in parts[0][:3]] == [
        basicsr.data.prefetch_dataloader.CPUPrefetcher,
        EnlargedSampler,
        PairedImageDataset,
    ]
    assert parts[0][0].__class__.__init__.__module__ == "basicsr.data.prefetch_dataloader"
    assert parts[0][3] is LmdbBackend
    assert LmdbBackend.__module__ == "basicsr.utils.file_client"
    assert FileClient._backends["lmdb"] is ours, "and ours is back afterwards"


def test_our_loader_is_that_of_basicsr_train(material, parts, monkeypatch):
    calls = []
    create = basicsr.train.create_train_val_dataloader
    monkeypatch.setattr(basicsr.train, "create_train_val_dataloader", lambda *args: calls.append(args) or create(*args))
    with contextlib.closing(batches("ours", options(material.epoch))) as stream:
        next(stream)
    assert len(calls) == 1
    assert [type(part) for part in parts[0][:3]] == [basicsr.train.CPUPrefetcher, IterationSampler, TrainingDataset]
    assert parts[0][3] is not LmdbBackend


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("form", ["sub_images", "lmdb", "epoch"])
def test_batches_are_pairs_of_patches(material, loader, form):
    with contextlib.closing(batches(loader, options(getattr(material, form)))) as stream:
        batch = next(stream)
    assert batch["lq"].shape == (2, 3, 64, 64)
    assert batch["gt"].shape == (2, 3, 128, 128)


def test_the_first_batch_of_an_epoch_is_what_counts_as_epoch_end(material, monkeypatch):
    """A loader that is slow at epoch ends alone has its waits there, and none inside."""

    class Clock:
        now = 0.0

    def slow(loader, opt):
        for number in range(opt["train"]["total_iter"]):
            Clock.now += 5 if number == 0 else 3 if number % EPOCH_STEPS == 0 else 0
            yield {"number": number}

    def step(iteration, batch):
        assert batch["number"] == iteration - 1
        Clock.now += 1

    monkeypatch.setattr(data_benchmark, "batches", slow)
    monkeypatch.setattr(data_benchmark.time, "perf_counter", lambda: Clock.now)
    with data_benchmark.Progress(20, "training", "it") as progress:
        waits = data_benchmark._train("ours", options(material.epoch, steps=20), step, progress)
    assert waits == Waits(5, [0] * 17, [3, 3], [1] * 20)
    assert waits.share == 6 / 26


@pytest.mark.parametrize(("ours", "verdict"), [(0.4, "met."), (0.6, "missed: ")])
def test_table_has_the_share_the_longest_wait_and_whether_the_target_is_met(ours, verdict):
    runs = {
        "ours": [Waits(1, [ours] * 14, [ours, 2 * ours], [10] * 17)],
        "BasicSR": [Waits(2, [0.0] * 14, [5, 7], [10] * 17)],
    }
    rows = data_benchmark.format_waits(runs, BenchSettings(step_ms=100)).splitlines()
    assert rows[0].startswith("Simulated (a sleep of 100 ms a step) ×2 training")
    numbers = {row[:34].strip(): row[34:].split() for row in rows[3:-1]}
    assert numbers["waiting for data, % of time"][1] == f"{100 * 12 / 182:.2f}"
    assert numbers["longest wait at an epoch end, ms"] == [f"{2000 * ours:.1f}", "7000.0", f"{2 * ours / 7:.3f}"]
    assert numbers["median wait inside an epoch, ms"][1:] == ["0.0", "inf"]
    assert numbers["training step, ms"] == ["10000.0", "10000.0", "1.000"]
    assert verdict in rows[-1]


def test_same_seed_same_data(tmp_path, material):
    make_material(tmp_path, None, scale=2, size=480, full_images=1, epoch_images=2 * EPOCH_STEPS, seed=0)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    assert len(made) == 2 + 2 * material.sub_images.count
    root = material.full.hr.parents[1]
    assert all((tmp_path / name).read_bytes() == (root / name).read_bytes() for name in made)
    assert (tmp_path / "epoch/HR.lmdb/meta_info.txt").read_text() == Path(
        material.epoch.hr, "meta_info.txt"
    ).read_text()


def test_material_is_one_set_of_pixels_in_three_forms(material):
    assert read(material.full.hr / "0000.png").shape == (*FULL_SIZE, 3)
    lr = read(material.full.lr / "0000.png")
    assert lr.shape == (678, 1020, 3)
    assert material.sub_images.count == material.lmdb.count == 5 * 8
    last = read(material.sub_images.lr / "0000_s040.png")
    np.testing.assert_array_equal(last, lr[-240:, -240:])
    with open_lmdb(str(material.lmdb.lr), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert transaction.get(b"0000_s040") == (material.sub_images.lr / "0000_s040.png").read_bytes()


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def noise(path, height, width):
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_2k_photographs_are_used_as_they_are_and_damaged_files_passed_over(tmp_path):
    noise(tmp_path / "b.png", FULL_SIZE[1], FULL_SIZE[0])  # upright
    (tmp_path / "a.png").write_bytes(b"no image")
    made = make_material(tmp_path / "out", tmp_path, scale=2, size=1356, full_images=1, epoch_images=2, seed=0)
    assert made.source == f"1 image of {tmp_path}"
    np.testing.assert_array_equal(read(made.full.hr / "0000.png"), np.rot90(read(tmp_path / "b.png")))


def test_smaller_photographs_become_mosaics_and_the_output_says_so(tmp_path):
    noise(tmp_path / "small.png", 400, 400)
    noise(tmp_path / "tiny.png", 40, 40)
    made = make_material(tmp_path / "out", tmp_path, scale=3, size=480, full_images=1, epoch_images=2, seed=0)
    assert made.source == f"1 mosaic of 1 smaller image of {tmp_path}"
    assert read(made.full.hr / "0000.png").shape == (*FULL_SIZE, 3)


def test_folder_without_a_photograph_of_use_is_refused(tmp_path):
    noise(tmp_path / "tiny.png", 40, 40)
    with pytest.raises(UsageError, match="no image in it has 340×339 pixels or more"):
        make_material(tmp_path / "out", tmp_path, scale=2, size=480, full_images=1, epoch_images=2, seed=0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"batch": 0}, "--batch is 0; it must be at least 1"),
        ({"workers": 0}, "--workers is 0; it must be at least 1"),
        ({"steps": EPOCH_STEPS}, "--steps is 8; it must be at least 9"),
        ({"size": 126}, "--size is 126; it must be at least 128"),
        ({"step_ms": float("nan")}, "--step-ms is nan; it must be at least 0"),
        ({"work_dir": Path("no such")}, "--work-dir no such: no such folder"),
    ],
)
def test_settings_that_cannot_be_measured_name_the_flag(setting, words):
    with pytest.raises(UsageError, match=f"^{words}"):
        BenchSettings(**setting).check()
