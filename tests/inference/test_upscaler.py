"""`Upscaler`: array types, tiles, alpha, precision, and devices that fail."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from skimage import data

from rgt_arch import rgt_t
from rgt_arch.errors import UsageError, UserError
from rgt_arch.inference import memory, precision, upscaler
from rgt_arch.inference.arrays import fill_transparent, keep_flat
from rgt_arch.inference.precision import has_native_bfloat16
from rgt_arch.inference.upscaler import Upscaler

from .conftest import Enlarge, nan, never

LARGEST = {"uint8": 255, "uint16": 65535, "float32": 1.0, "float64": 1.0}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return rgt_t(2, depth=[2], num_heads=[6]).eval()


def but_corners(result: np.ndarray, scale: int = 2) -> np.ndarray:
    """Mask (H, W), False at pixels made from the input's corners, where the upscaler limits the network's noise."""
    mask = np.ones(result.shape[:2], bool)
    for rows, columns in itertools.product((slice(None, scale), slice(-scale, None)), repeat=2):
        mask[rows, columns] = False
    return mask


def picture(dtype: str, *shape: int) -> np.ndarray:
    values = np.random.default_rng(5).random(shape) * LARGEST[dtype]
    return (values if dtype.startswith("float") else np.rint(values)).astype(dtype)


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_dtype_dimensions_and_values_are_kept(dtype, channels):
    image = picture(dtype, 9, 7, *channels)
    if channels in ((2,), (4,)) and dtype.startswith("uint"):
        image[..., -1] |= 1  # colours of fully transparent pixels may change
    result = Upscaler(Enlarge(), device="cpu").upscale(image)
    assert result.dtype == image.dtype
    expected = image.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(result, expected, rtol=0, atol=0 if dtype.startswith("uint") else 1e-6)


def test_result_is_the_rounded_output_of_the_network(network):
    image = data.astronaut()[40:70, 200:233]
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = (network(tensor)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no warning without a problem
        result = Upscaler(network, device="cpu").upscale(image)
    assert np.abs(result - expected)[but_corners(result)].max() <= 1  # 1, because sums may have another order


@pytest.mark.parametrize("weights", ["RGT_T_x2", "RGT_T_x3", "RGT_T_x4"])
def test_white_stays_white_and_transparent_stays_transparent_up_to_the_corners(weights):
    upscaler = Upscaler(weights, device="cpu")
    assert upscaler.upscale(np.full((20, 24, 3), 255, np.uint8)).min() == 255
    icon = np.zeros((20, 24, 4), np.uint8)
    icon[8:12, 9:15] = 200, 40, 40, 255
    alpha = upscaler.upscale(icon)[..., 3]
    flat = np.pad(np.zeros((8, 10), bool), ((6, 6), (7, 7)), constant_values=True)  # 2 or more pixels from the shape
    assert not alpha[np.kron(flat, np.ones((upscaler.scale,) * 2, bool))].any()
    assert alpha.max() > 250


@pytest.mark.parametrize(
    ("weights", "paper", "most"),  # away from the corners, weights sharpen noise a little
    [
        ("RGT_T_x2", (252, 251, 248), 8),
        ("RGT_T_x2", (5, 5, 5), 8),
        ("RGT_T_x3", (252, 251, 248), 10),
        ("RGT_T_x3", (5, 5, 5), 9),
        ("RGT_T_x4", (252, 251, 248), 8),
        ("RGT_T_x4", (5, 5, 5), 11),
    ],
)
def test_corners_of_a_scan_differ_no_more_than_its_noise(weights, paper, most):
    noise = np.random.default_rng(0).normal(0, 1.5, (24, 30, 3))
    scan = np.clip(np.array(paper) + noise, 0, 255).astype(np.uint8)
    upscaler = Upscaler(weights, device="cpu")
    before, after = (image - np.array(paper, float) for image in (scan, upscaler.upscale(scan)))
    corners = ~but_corners(after, upscaler.scale)
    assert np.abs(after[corners]).max() <= np.abs(before).max()
    assert np.abs(after).max() <= most
    assert after.std() <= 1.1 * before.std()


def test_keep_flat_changes_only_flat_areas():
    image = torch.rand(1, 3, 9, 11)
    image[..., :5, :5] = 0.25
    result = torch.rand(1, 3, 18, 22)
    kept = keep_flat(image, result.clone(), 2)
    assert (kept[..., :6, :6] == 0.25).all()
    changed = (kept != result).any(dim=1)[0]
    assert changed[:6, :6].all()
    assert changed.sum() == 36


@pytest.mark.parametrize("outscale", [0.5, 1, 2.5, 4])
def test_outscale_gives_the_requested_size(outscale):
    result = Upscaler(Enlarge(), device="cpu").upscale(picture("uint8", 30, 41, 4), outscale)
    assert result.shape == (round(30 * outscale), round(41 * outscale), 4)


def test_progress_counts_every_pixel_of_colour_and_alpha():
    calls = []
    Upscaler(Enlarge(), device="cpu", tile=16, overlap=4).upscale(
        picture("uint8", 40, 50, 4), progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == (2000, 2000)
    assert {total for _, total in calls} == {2000}
    assert all(before < after for (before, _), (after, _) in itertools.pairwise(calls))
    assert len(calls) > 10


@pytest.mark.parametrize(("options", "steps"), [({}, 3), ({"self_ensemble": True}, 24), ({"tile": 16}, 18)])
def test_progress_is_reported_after_each_block_and_may_end_the_work(network, options, steps):
    running, image = Upscaler(network, device="cpu", **options), picture("uint8", 20, 30, 3)
    calls = []
    running.upscale(image, progress=lambda *call: calls.append(call))
    assert calls[:2] == [(round(600 / steps), 600), (round(1200 / steps), 600)]
    assert calls[-2:] == [(round(600 - 600 / steps), 600), (600, 600)]
    assert len(calls) == steps

    class EndError(Exception):
        pass

    def end(done, total):
        calls.append((done, total))
        raise EndError

    calls.clear()
    with pytest.raises(EndError):
        running.upscale(image, progress=end)
    running.upscale(image)
    assert calls == [(round(600 / steps), 600)]


# --- alpha ---


@pytest.mark.parametrize("mode", ["rgt", "bicubic"])
def test_constant_alpha_stays_constant_and_is_not_upscaled(network, mode):
    image = picture("uint8", 12, 14, 4)
    image[..., 3] = 255
    calls = []
    running = Upscaler(network, device="cpu", alpha=mode)
    result = running.upscale(image, 1.5, progress=lambda *call: calls.append(call))
    assert (result[..., 3] == 255).all()
    assert calls[-1] == (12 * 14, 12 * 14)
    np.testing.assert_array_equal(result[..., :3], running.upscale(image[..., :3], 1.5))


def cut_out(hidden_colour: int) -> np.ndarray:
    """A white disc; the transparent pixels around it have the hidden colour."""
    rows, columns = np.mgrid[:40, :40]
    image = np.full((40, 40, 4), hidden_colour, np.uint8)
    image[(rows - 20) ** 2 + (columns - 20) ** 2 < 150] = 255
    image[..., 3] = np.where(image[..., 3] == 255, 255, 0)
    return image


@pytest.mark.parametrize("alpha", ["rgt", "bicubic"])
def test_hidden_colours_do_not_reach_visible_edges(alpha):
    blurred = Enlarge(torch.nn.AvgPool2d(7, 1, 3, count_include_pad=False))
    result = Upscaler(blurred, device="cpu", alpha=alpha).upscale(cut_out(0))
    visible = result[result[..., 3] > 0]
    assert len(visible) > 100
    assert visible[:, :3].min() == 255


def test_hidden_pixels_take_the_colour_of_the_nearest_visible_one():
    colour = np.zeros((6, 9, 3), np.uint8)
    alpha = np.zeros((6, 9, 1), np.uint8)
    colour[2, 1], alpha[2, 1] = (10, 20, 30), 7
    colour[3, 8], alpha[3, 8] = (90, 80, 70), 255
    filled = fill_transparent(colour, alpha)
    assert (filled[:, :4] == (10, 20, 30)).all()
    assert (filled[:, 6:] == (90, 80, 70)).all()


def test_alpha_can_be_dropped_and_needs_no_visible_pixel():
    image = cut_out(9)
    assert Upscaler(Enlarge(), device="cpu", alpha="drop").upscale(image).shape == (80, 80, 3)
    image[..., 3] = 0
    assert (Upscaler(Enlarge(), device="cpu").upscale(image)[..., 3] == 0).all()


# --- memory ---


def holding(pixels, error):
    """A network on a device that can hold `pixels` input pixels of all images together."""

    def change(image):
        if image[:, 0].numel() > pixels:
            raise error
        return image

    return Enlarge(change)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 50 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_tiles_also_for_later_pictures(error):
    image = picture("uint8", 210, 330, 3)
    running = Upscaler(holding(100 * 100, error), device="cpu")
    with pytest.warns(UserWarning, match="out of memory: going on with tiles of") as told:
        result = running.upscale(image)
    assert running.used_tile == 80  # 330, 160, 80
    assert len(told) == 2
    np.testing.assert_array_equal(result, image.repeat(2, 0).repeat(2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        running.upscale(picture("uint8", 330, 210, 3))
        assert running.used_tile == 80
        running.upscale(picture("uint8", 64, 80, 3))
        assert running.used_tile == 0


def test_tiles_on_a_gpu_need_no_gpu_memory_for_the_whole_result(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 << 30)
    with pytest.raises(UserError, match="2048 MiB are free"):
        memory.largest_tile(Enlarge(), 20000, 20000, torch.device("cpu"))
    assert memory.largest_tile(Enlarge(), 20000, 20000, torch.device("cuda")) > 1000


def test_memory_of_a_cpu_grows_with_its_threads(network, monkeypatch):
    estimates = {"cpu": [], "cuda": []}
    for threads, (kind, values) in itertools.product((1, 16), estimates.items()):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        values.append(memory.image_memory(network, 256, 256, torch.device(kind)))
    # in MiB; with 96 channels at ×4, the peak was 208 with 1 thread and 389 with 16
    assert 150 << 20 < estimates["cpu"][1] - estimates["cpu"][0] < 250 << 20
    assert estimates["cuda"][1] == estimates["cuda"][0]


@pytest.mark.parametrize("outscale", [None, 3])
def test_result_too_large_for_memory_is_refused_before_upscaling(monkeypatch, outscale):
    monkeypatch.setattr(upscaler, "free_memory", lambda device: 3 << 20)
    size = r"800x600" if outscale is None else r"1200x900"
    with pytest.raises(UserError, match=f"a result of {size} pixels needs about [0-9]+ MiB of memory, 3 MiB are free"):
        Upscaler(Enlarge(never), device="cpu").upscale(picture("uint8", 300, 400, 3), outscale)


def test_device_without_memory_for_the_smallest_tile_ends_in_one_line():
    network = holding(10, MemoryError())
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(UserError, match="do not fit into the memory"):
        Upscaler(network, device="cpu", tile=0).upscale(picture("uint8", 200, 200, 3))


def test_other_errors_are_not_treated_as_out_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        Upscaler(holding(0, RuntimeError("shapes")), device="cpu").upscale(picture("uint8", 20, 20, 3))


def test_auto_uses_the_whole_image_if_it_fits_else_the_largest_tile(monkeypatch):
    image = picture("uint8", 300, 400, 3)
    running = Upscaler(Enlarge(), device="cpu")
    needed = memory.image_memory(running.network, 300, 400, running.device) / memory._SHARE
    for free, whole in ((needed * 1.01, True), (needed * 0.99, False)):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: int(free))
        running.upscale(image)
        assert (running.used_tile == 0) is whole
    assert 200 < running.used_tile < 400
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 20)
    with pytest.raises(UserError, match="1 MiB are free"):
        running.upscale(image)


STAT = "anon 5\ninactive_file {0}\nactive_file {0}\ntotal_inactive_file {1}\ntotal_active_file {1}\n"


@pytest.mark.parametrize(
    ("lines", "root", "names"),
    [
        ("0::/slice/job\n", "", ("memory.max", "memory.current")),
        ("5:cpu:/\n4:hugetlb,memory:/slice/job\n", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ],
    ids=["version 2", "version 1"],
)
def test_free_memory_respects_control_groups_and_ignores_the_file_cache(tmp_path, monkeypatch, lines, root, names):
    (tmp_path / "process").write_text(lines)
    cached = (50, 0) if not root else (0, 50)
    groups = {"slice": ("1000", "900", STAT.format(*cached)), "slice/job": ("max", "700", STAT.format(0, 0))}
    for name, facts in groups.items():
        folder = tmp_path / root / name
        folder.mkdir(parents=True)
        for file, fact in zip((*names, "memory.stat"), facts, strict=True):
            (folder / file).write_text(fact)
    found = list(memory._free_in_groups(tmp_path / "process", tmp_path))
    assert found == [200]
    monkeypatch.setattr(memory, "_free_in_groups", lambda: found)
    assert memory.free_memory(torch.device("cpu")) == 200


# --- batches ---


def running_in_batches(batch, network, **options):
    """As on a GPU: on a CPU the batch is 1."""
    running = Upscaler(network, device="cpu", **options)
    running.batch = batch
    return running


@pytest.mark.parametrize("mode", upscaler.ALPHA_MODES)
@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
def test_results_of_a_batch_are_those_of_single_pictures(mode, channels):
    images = [picture("uint8", 9, 7, *channels) // (number + 1) for number in range(5)]
    for image in images[2:4] if channels in ((2,), (4,)) else ():
        image[..., -1] = 200  # constant alpha
    network, calls = Enlarge(), []
    running = running_in_batches(3, network, alpha=mode)
    results = running.upscale_many(images, 1.5, lambda *call: calls.append(call))
    colours = [(3, 9, 7), (2, 9, 7)]
    with_alpha = mode == "rgt" and channels in ((2,), (4,))
    assert network.seen == ([(3, 9, 7), (2, 9, 7), (2, 9, 7), (1, 9, 7)] if with_alpha else colours)
    assert calls[-1] == (5 * 63, 5 * 63)
    assert all(before < after for (before, _), (after, _) in itertools.pairwise(calls))
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, Upscaler(Enlarge(), device="cpu", alpha=mode).upscale(image, 1.5))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_grey_network_runs_colour_channels_separately_and_those_of_several_pictures_together(batch):
    network = Enlarge(in_chans=1)
    images = [picture("uint8", 9, 7, 3), picture("uint8", 9, 7, 3)[::-1]]
    results = running_in_batches(batch, network).upscale_many(images)
    assert network.seen == [(batch, 9, 7)] * (6 // batch)
    np.testing.assert_array_equal(results, [image.repeat(2, 0).repeat(2, 1) for image in images])


def test_pictures_in_tiles_run_one_after_the_other_and_their_tiles_together():
    network = Enlarge()
    images = [picture("uint8", 50, 40, 3)] * 2
    running = running_in_batches(3, network, tile=32, overlap=8)
    results = running.upscale_many(images)
    assert network.seen == [(3, 32, 32), (1, 32, 32)] * 2
    np.testing.assert_array_equal(results, [image.repeat(2, 0).repeat(2, 1) for image in images])


def test_out_of_memory_halves_the_batch_before_the_tiles():
    network = holding(3 * 80 * 70, MemoryError())
    images = [picture("uint8", 80, 70, 3)] * 5
    running = running_in_batches(5, network)
    with pytest.warns(UserWarning, match="out of memory: going on with a batch of 2"):
        results = running.upscale_many(images)
    assert network.seen == [(5, 80, 70), (2, 80, 70), (2, 80, 70), (1, 80, 70)]
    assert (running.used_tile, running.batch) == (0, 2)
    np.testing.assert_array_equal(results, [image.repeat(2, 0).repeat(2, 1) for image in images])
    with pytest.warns(UserWarning, match="out of memory") as told:
        running.upscale_many([picture("uint8", 160, 140, 3)] * 2)
    assert [str(warning.message).split()[-1] for warning in told] == ["1", "pixels"]
    assert (running.used_tile, running.batch) == (80, 1)


def test_a_cpu_runs_one_at_a_time_and_gives_the_same_bits(network):
    images = [data.astronaut()[n : n + 30, 200:233] for n in range(3)]
    with pytest.warns(UserWarning, match="batch 3 has no effect on a CPU"):
        running = Upscaler(network, device="cpu", batch=3)
    seen = []
    hook = network.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    results = running.upscale_many([image / np.float32(255) for image in images])
    hook.remove()
    assert seen == [1, 1, 1]
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, Upscaler(network, device="cpu").upscale(image / np.float32(255)))


def test_auto_runs_as_many_pictures_on_a_gpu_as_half_of_its_memory_holds(monkeypatch):
    running = Upscaler(Enlarge(), device="cpu")
    running.batch, running.device = "auto", torch.device("cuda")
    one = memory.image_memory(running.network, 300, 400, running.device)
    free = {"cuda": 100 * one, "cpu": 100 * one}
    for module in (memory, upscaler):
        monkeypatch.setattr(module, "free_memory", lambda device: free[device.type])
    for kind, amount, expected in (
        ("cuda", 100 * one, 8),
        ("cuda", 7 * one, 3),
        ("cuda", 1.5 * one, 1),
        ("cpu", 2 * 5 * 4 * 3 * 600 * 800, 5),  # results are kept in main memory
    ):
        free |= {"cuda": 100 * one, "cpu": 100 * one, kind: int(amount)}
        assert running.pictures_at_once(300, 400) == expected


def test_pictures_of_different_kinds_are_not_a_batch():
    for other in (picture("uint8", 9, 8, 3), picture("uint16", 9, 7, 3), picture("uint8", 9, 7)):
        with pytest.raises(ValueError, match="images differ"):
            Upscaler(Enlarge(), device="cpu").upscale_many([picture("uint8", 9, 7, 3), other])
    assert Upscaler(Enlarge(), device="cpu").upscale_many([]) == []


# --- precision ---


def overflowing(image):
    """NaN in reduced precision for bright tiles, like large activations in fp16."""
    return nan(image) if torch.is_autocast_enabled("cpu") and image.max() > 0.5 else image


def test_float32_replaces_bfloat16_that_is_not_native(monkeypatch):
    for native, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(precision, "has_native_bfloat16", lambda device, native=native: native)
        with warnings.catch_warnings(record=True) as told:
            assert Upscaler(Enlarge(), device="cpu", precision="bf16").dtype is expected
        assert ["float32 is used" in str(warning.message) for warning in told] == [True] * (not native)


def test_bfloat16_is_native_only_with_instructions_for_it(monkeypatch):
    cpu = torch.device("cpu")
    for has, supported, native in (
        (["avx512", "avx512_bf16"], True, True),
        (["avx512", "amx_tile"], True, True),
        (["avx512"], True, False),  # oneDNN imitates it there
        (["avx512", "avx512_bf16"], False, False),  # by ONEDNN_MAX_CPU_ISA
        ([], False, False),  # AVX2
        ([], True, True),  # Arm
    ):
        for name in ("avx512", "avx512_bf16", "amx_tile"):
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda known=name in has: known)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda supported=supported: supported)
        assert has_native_bfloat16(cpu) is native, has


def test_nan_in_reduced_precision_is_computed_again_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda device: True)
    image = np.zeros((64, 64, 3), np.float32)
    image[40:, 40:] = 0.75
    running = Upscaler(Enlarge(overflowing), device="cpu", precision="bf16", tile=32, overlap=0)
    with pytest.warns(UserWarning, match="computed again in float32") as told:
        result = running.upscale(image)
    assert len(told) == 1  # one of the four tiles is bright
    np.testing.assert_array_equal(result, image.repeat(2, 0).repeat(2, 1))


def test_nan_in_float32_is_an_error():
    with pytest.raises(UserError, match="not finite"):
        Upscaler(Enlarge(nan), device="cpu").upscale(picture("uint8", 8, 8, 3))


# --- mistakes ---


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device": "tpu9"}, "device is 'tpu9'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"alpha": "keep"}, "alpha is 'keep'"),
        ({"tile": -1}, "tile is -1"),
        ({"tile": "large"}, "tile is 'large'"),
        ({"tile": True}, "tile is True"),
        ({"tile": 15}, r"tile is 15; it must be a whole number of pixels from 16 up \(a tile may also be auto"),
        ({"tile": 16, "overlap": 9}, r"overlap is 9; it must be a whole number of pixels from 0 to half .* \(8\) \(a"),
        ({"tile": 32, "overlap": 32}, "overlap is 32"),
        ({"overlap": -1}, "overlap is -1"),
        ({"overlap": 1.5}, "overlap is 1.5"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": "all"}, "batch is 'all'"),
        ({"weights": None}, "weights are None"),
        ({"weights": "no/such.pth"}, "no/such.pth"),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(UsageError, match=text):
        Upscaler(**{"weights": Enlarge(), "device": "cpu", **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_device_that_is_not_available_is_named():
    with pytest.raises(UsageError, match="device cuda is not available"):
        Upscaler(Enlarge(), device="cuda")


def test_a_gpu_of_a_number_that_does_not_exist_is_named():
    name = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UsageError, match=f"device {name} is not available"):
        Upscaler(Enlarge(), device=name)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.int32),
        np.full((4, 4), np.nan),
        np.full((4, 4), 255.0),
        np.zeros(4, np.uint8),
        torch.zeros(4, 4),
        [[0, 0], [0, 0]],
    ],
)
def test_arrays_that_are_not_pictures_are_refused(image):
    running = Upscaler(Enlarge(), device="cpu")
    running.batch = 2  # as on a GPU
    for call in (running.upscale, lambda image: running.upscale_many([image, image])):
        with pytest.raises(ValueError, match="image"):
            call(image)


@pytest.mark.parametrize("outscale", [0, -1, float("nan"), float("inf")])
def test_invalid_outscale_is_refused(outscale):
    with pytest.raises(ValueError, match=f"outscale is {outscale}"):
        Upscaler(Enlarge(), device="cpu").upscale(np.zeros((4, 4), np.uint8), outscale)


def test_numpy_numbers_are_accepted():
    upscaler = Upscaler(Enlarge(), device="cpu", tile=np.int64(16), overlap=np.int32(4))
    assert (upscaler.tile, upscaler.overlap) == (16, 4)
