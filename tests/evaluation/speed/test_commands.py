"""`rgt bench latency|memory|train`: what is compared with what, ratios, and refusals before anything is measured."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from rgt_arch.cli import main
from rgt_arch.errors import UserError
from rgt_arch.evaluation.speed import agreement, arithmetic, latency, memory, networks, training
from rgt_arch.evaluation.speed.apart import Outcome
from rgt_arch.evaluation.speed.latency import LatencySettings
from rgt_arch.evaluation.speed.memory import MemorySettings
from rgt_arch.evaluation.speed.report import deliver
from rgt_arch.evaluation.speed.training import TrainSettings, check_training

FLAGS = ["--network", "rgt_t", "--scale", "2", "--device", "cpu", "--threads", "1"]


@pytest.fixture(autouse=True)
def small_rates(monkeypatch):
    monkeypatch.setattr(arithmetic, "_SHAPES", dict.fromkeys(arithmetic.KINDS, ((16, 16, 16),)))


def test_latency_prints_rates_and_ratios_to_the_peers_float32(tiny, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert main(["bench", "latency", *FLAGS, "--sizes", "24x40", "--rounds", "2", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    report = json.loads(file.read_text())
    rows = {(row["maker"], row["dtype"]): row for row in report["rows"]}
    assert list(rows) == [("official", "fp32"), ("official", "bf16"), ("ours", "fp32"), ("ours", "bf16")]
    base = rows["official", "fp32"]
    flops = report["plain_flops"][0]["flops"]
    for (maker, dtype), row in rows.items():
        assert len(row["times"]) == 2
        assert row["seconds"] == pytest.approx(sum(row["times"]) / 2)
        assert row["speedup"] == pytest.approx(base["seconds"] / row["seconds"])
        assert row["flops_per_second"] == pytest.approx(flops / row["seconds"])
        best = max(report["best_flops_per_second"][dtype].values())
        assert row["share_of_best"] == pytest.approx(row["flops_per_second"] / best)
        name = f"{maker} {'float32' if dtype == 'fp32' else 'bfloat16'}"
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert line.split()[2:4] == [f"{row['seconds']:.3f}", f"{row['speedup']:.2f}"]
    assert base["done_flops"] == flops
    assert base["agreement"] is None
    assert rows["ours", "fp32"]["agreement"]["difference"] < 1e-4
    assert 40 < rows["ours", "bf16"]["agreement"]["psnr"] < 90, "bfloat16 was on"


def test_outputs_that_differ_are_an_error_before_anything_is_timed(tiny, monkeypatch, capsys):
    def other_weights(maker, config, seed, device):
        return networks.build(maker, config, seed + (maker == "ours"), device)

    monkeypatch.setattr(latency, "build", other_weights)
    monkeypatch.setattr(latency, "in_turns", lambda *args: pytest.fail("was timed"))
    assert main(["bench", "latency", *FLAGS, "--sizes", "24x40"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rgt bench latency: error: outputs differ at 24×40: max |difference| ")


def test_without_the_peer_ours_in_float32_is_the_base():
    assert LatencySettings(peer=False, dtypes=("bf16",)).variants() == [("ours", "fp32"), ("ours", "bf16")]
    assert LatencySettings(dtypes=("bf16",)).variants() == [
        ("official", "fp32"),
        ("official", "bf16"),
        ("ours", "bf16"),
    ]


def test_memory_ratios_are_to_the_peers_float32_and_shortage_is_no_abort(tiny, monkeypatch, capsys):
    sizes = {(32, 32): Outcome(400_000_000, 1.0), (64, 64): Outcome(needed=7 * 10**9)}
    monkeypatch.setattr(
        memory, "run_apart", lambda task: sizes[task.size] if task.maker == "official" else Outcome(100_000_000, 1.0)
    )
    assert main(["bench", "memory", *FLAGS, "--sizes", "32x32", "64x64", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["ratio"] for row in report["rows"]] == [1.0, 0.25, None, None]
    assert report["agreement"]["difference"] < 1e-4
    assert main(["bench", "memory", *FLAGS, "--sizes", "32x32", "64x64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].split()[-2:] == ["0.400", "1.000"]
    assert lines[-3].split()[-2:] == ["0.100", "0.250"]
    assert "out of memory (needed > 7.00 GB)" in lines[-2]


def test_memory_refuses_networks_that_do_not_agree(tiny, monkeypatch):
    monkeypatch.setattr(memory, "run_apart", lambda task: pytest.fail("was measured"))
    monkeypatch.setattr(
        agreement,
        "build",
        lambda maker, config, seed, device: networks.build(maker, config, seed + (maker == "ours"), device),
    )
    with pytest.raises(UserError, match="outputs differ at 64×64"):
        memory.run_memory(MemorySettings("rgt_t", 2, device="cpu"))


def test_train_measures_every_variant_and_leaves_out_what_does_not_fit(tiny, monkeypatch, capsys):
    tasks = []

    def measured(task):
        tasks.append((task.maker, task.dtype, task.config["use_chk"], task.kind, task.batch))
        if task.maker == "official" and task.dtype == "bf16":
            return Outcome(needed=10**9)
        return Outcome(800_000_000 if task.maker == "official" else 200_000_000, 1.0)

    monkeypatch.setattr(training, "run_apart", measured)
    monkeypatch.setattr(training, "PATCH", type(training.PATCH)(16, 16))
    assert main(["bench", "train", *FLAGS, "--rounds", "1", "--batch", "2", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert tasks == [
        (row["maker"], row["dtype"], row["use_chk"], "train", 2) for row in rows
    ] == [
        ("official", "fp32", False, "train", 2),
        ("official", "bf16", False, "train", 2),
        ("ours", "fp32", False, "train", 2),
        ("ours", "bf16", False, "train", 2),
        ("ours", "fp32", True, "train", 2),
        ("ours", "bf16", True, "train", 2),
    ]  # fmt: skip
    assert [row["memory_ratio"] for row in rows] == [1.0, None, *[0.25] * 4]
    assert rows[1]["seconds"] is None
    for row in (rows[0], *rows[2:]):
        assert row["speedup"] == pytest.approx(rows[0]["seconds"] / row["seconds"])


def test_train_refuses_gradients_that_differ(tiny, monkeypatch):
    settings = TrainSettings("rgt_t", 2, device="cpu")
    gradients = training._gradients(settings, "ours")
    assert check_training(settings).gradient < 1e-4
    changed = (gradients[0], gradients[1] * 1.01)
    monkeypatch.setattr(training, "_gradients", lambda settings, maker: changed if maker == "ours" else gradients)
    with pytest.raises(UserError, match="gradients differ"):
        check_training(settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["latency", "--sizes", "0x5"], "--sizes: '0x5' is no size; give HEIGHTxWIDTH in input pixels"),
        (["memory", "--sizes", "abc"], "--sizes: 'abc' is no size"),
        (["scaling", "--sizes", "-1x5"], None),
        (["scaling", "--sizes", "64x64"], "--sizes: growth needs two sizes"),
        (["latency", "--sizes", "20x1024"], "--sizes 20×1024: the peer crashes on images so small or thin"),
        (["memory", "--sizes", "15x15"], "--sizes 15×15: the peer crashes"),
        (["latency", "--sizes", "9000x9000"], "the peer needs more than"),
        (["latency", "--rounds", "0"], "--rounds is 0; it must be at least 1"),
        (["train", "--batch", "0"], "--batch is 0; it must be at least 1"),
        (["memory", "--groups", "9"], "--groups is 9; rgt has 1 to 8 residual groups"),
        (["memory", "--memory-limit", "nan"], "--memory-limit is nan"),
        (["latency", "--scale", "5"], "no RGT has these arguments: upscale 5"),
        (["latency", "--threads", "100000"], "--threads is 100000; it must be from 1 to 1024"),
        (["latency", "--seed", "9" * 23], "it must be from 0 to 9223372036854775806"),
        (["latency", "--threads", "0"], "--threads is 0; it must be from 1 to 1024"),
        (["scaling", "--plot", "plot.svg"], "--plot plot.svg: only .png can be written"),
        (["train", "--json", "no_such/x.json"], "--json no_such/x.json: there is no folder no_such"),
        (["scaling", "--plot", "a.png", "--json", "a.png"], "--plot a.png: is one of the inputs, or another output"),
        (["latency", "--device", "abacus"], None),
    ],
)
def test_wrong_usage_exits_2_in_one_line(arguments, words, capsys):
    if words is None:  # argparse's own
        with pytest.raises(SystemExit) as ended:
            main(["bench", *arguments])
        assert ended.value.code == 2
        return
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rgt bench {arguments[0]}: error: ")
    assert words in error
    assert error.count("\n") == 1


def test_file_that_exists_is_replaced_only_on_request(tiny, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text("mine")
    command = ["bench", "train", *FLAGS, "--no-peer", "--dtypes", "fp32", "--rounds", "1", "--json", str(file)]
    assert main(command) == 2
    assert f"--json {file}: exists; --overwrite replaces it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert json.loads(file.read_text())["command"] == "train"


def test_figures_are_in_their_file_before_stdout_fails(tmp_path, monkeypatch):
    def closed(*args, **kwargs):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    file = tmp_path / "figures.json"
    with pytest.raises(BrokenPipeError):
        deliver({"command": "train"}, "a table", str(file))
    assert json.loads(file.read_text()) == {"command": "train"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_told(capsys):
    assert main(["bench", "latency", "--device", "cuda"]) == 2
    assert "PyTorch finds no CUDA GPU here" in capsys.readouterr().err


def test_missing_spandrel_is_told_with_the_remedy(tiny, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "spandrel.architectures.RGT", None)
    assert main(["bench", "train", *FLAGS]) == 1
    error = capsys.readouterr().err
    assert "spandrel, is not installed: pip install 'rgt-arch[bench]'" in error
    assert error.count("\n") == 1


def test_table_says_which_allocator_was_preloaded(tiny, monkeypatch, capsys):
    monkeypatch.setattr(memory, "run_apart", lambda task: Outcome(1000, 1.0))
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libtcmalloc_minimal.so.4")
    assert main(["bench", "memory", *FLAGS, "--no-peer", "--sizes", "32x32"]) == 0
    assert "memory allocator: tcmalloc (LD_PRELOAD)\n" in capsys.readouterr().out
    monkeypatch.delenv("LD_PRELOAD")
    assert main(["bench", "memory", *FLAGS, "--no-peer", "--sizes", "32x32"]) == 0
    assert "allocator" not in capsys.readouterr().out
