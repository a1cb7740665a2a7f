"""A state goes with the networks of its own save, whole, or another one is taken."""

from __future__ import annotations

import pytest
import torch

from rgt_arch.basicsr_compat import notices, resume
from rgt_arch.basicsr_compat.checkpoint_pairs import check_network, digest, read_state
from rgt_arch.errors import UserError


@pytest.fixture
def opt(tmp_path):
    """Options of a run with checkpoints of the iterations 2 and 4 of 6."""
    folders = {key: tmp_path / "experiments/run" / key for key in ("models", "training_states")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    opt = {
        "name": "run",
        "is_train": True,
        "auto_resume": True,
        "rank": 0,
        "manual_seed": 7,
        "network_g": {},
        "train": {"total_iter": 6, "optim_g": {}},
        "path": {"experiments_root": str(tmp_path / "experiments/run"), **{k: str(v) for k, v in folders.items()}},
    }
    for iteration in (2, 4):
        save(opt, iteration)
    return opt


def save(opt, iteration, network=True, **more):
    content = {"params": {"weight": torch.full((400,), float(iteration))}, "rgt_info": {"iteration": iteration}}
    if network:
        torch.save(content, f"{opt['path']['models']}/net_g_{iteration}.pth")
    state = {"epoch": 0, "iter": iteration, "optimizers": [{"moment": torch.zeros(400)}], "schedulers": [], "seed": 7}
    state["networks"] = {"network_g": digest(content)}
    torch.save({**state, **more}, f"{opt['path']['training_states']}/{iteration}.state")


def flip_a_byte(path, position=0.4):
    """Somewhere in the numbers, where PyTorch reads on without a word."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 0x40
    path.write_bytes(content)


def other_weights(path):
    content = torch.load(path, weights_only=True)
    content["params"]["weight"][3] += 1e-6 + 1
    torch.save(content, path)


def other_iteration(path):
    torch.save({**torch.load(path, weights_only=True), "rgt_info": {"iteration": 2}}, path)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("models/net_g_4.pth", flip_a_byte, "another checksum"),
        ("training_states/4.state", flip_a_byte, "another checksum"),
        ("models/net_g_4.pth", other_weights, "does not hold the weights that were saved with its training state"),
        ("models/net_g_4.pth", other_iteration, "is of iteration 2, its training state of 4"),
        ("models/net_g_4.pth", lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated"),
        ("models/net_g_4.pth", lambda path: path.write_bytes(b""), "empty"),
        ("models/net_g_4.pth", lambda path: path.unlink(), "no such file"),
        ("training_states/4.state", lambda path: torch.save({"params": {}}, path), "no BasicSR training state"),
        ("training_states/4.state", lambda path: path.write_bytes(b"\0" * 5000), "is not a PyTorch checkpoint"),
        (
            "training_states/4.state",
            lambda path: path.write_bytes(path.with_name("2.state").read_bytes()),
            "is of iteration 2, not of that in its name",
        ),
    ],
)
def test_the_newest_whole_checkpoint_is_taken_with_one_line(opt, tmp_path, name, spoil, words):
    path = tmp_path / "experiments/run" / name
    before = torch.load(path, weights_only=True)
    spoil(path)
    if spoil is flip_a_byte:  # that it would have been read is what makes the test one
        assert torch.load(path, weights_only=True).keys() == before.keys()
    notices.take()
    state = resume.load_resume_state(opt)
    assert (state["iter"], opt["start_iter"]) == (2, 2)
    [line] = notices.take()
    assert path.name in line
    assert words in line
    assert line.endswith("resuming from " + str(tmp_path / "experiments/run/training_states/2.state"))


def test_a_whole_checkpoint_passes(opt):
    assert resume.load_resume_state(opt)["iter"] == 4
    assert notices.take() == []


def test_states_without_digest_pass(opt):
    save(opt, 4, networks={})
    assert resume.load_resume_state(opt)["iter"] == 4
    with pytest.raises(UserError, match="does not hold the weights"):
        check_network(f"{opt['path']['models']}/net_g_4.pth", 4, "0" * 64)


@pytest.mark.parametrize("value", ["4", None, 4.0])
def test_a_state_whose_iteration_is_no_number_is_none(tmp_path, value):
    torch.save({"epoch": 0, "iter": value, "optimizers": [], "schedulers": []}, tmp_path / "4.state")
    with pytest.raises(UserError, match="no BasicSR training state"):
        read_state(tmp_path / "4.state")


def latest(opt, iteration):
    torch.save({"params": {}, "rgt_info": {"iteration": iteration}}, f"{opt['path']['models']}/net_g_latest.pth")


def test_finished_is_a_run_whose_last_weights_are_there(opt, capsys):
    opt["train"]["total_iter"] = 5  # no multiple of what it was saved every
    assert resume.load_resume_state(opt)["iter"] == 4
    latest(opt, 4)
    assert resume.load_resume_state(opt)["iter"] == 4
    latest(opt, 5)
    with pytest.raises(SystemExit) as leaving:
        resume.load_resume_state(opt)
    assert leaving.value.code == 0
    assert "this run is finished (5 iterations)" in capsys.readouterr().out


@pytest.mark.parametrize("killed", ["before the last weights", "in the last validation"])
def test_a_run_killed_at_its_very_end_is_not_finished(opt, killed):
    save(opt, 6, owes_validation=killed != "before the last weights")
    if killed != "before the last weights":
        latest(opt, 6)
    assert resume.load_resume_state(opt)["iter"] == 6


def test_half_files_of_a_killed_run_go_and_nothing_else(opt, tmp_path):
    run = tmp_path / "experiments/run"
    (run / "visualization/img").mkdir(parents=True)
    half = [run / "models/.net_g_6.4711.part.pth", run / "training_states/.6.4711.part.state"]
    half += [run / ".metrics.4711.part.csv", run / ".options.4711.part.yml", run / ".options.4711.part"]
    half += [run / "visualization/img/.img_6.4711.part.png"]
    mine = [run / "models/.mine.part.pth", run / "models/.net_g_6.pth", run / "models/net_g_6.part.pth"]
    for path in (*half, *mine):
        path.write_bytes(b"half")
    resume.load_resume_state(opt)
    assert not any(path.exists() for path in half)
    assert all(path.exists() for path in mine)


@pytest.mark.parametrize("drawn", [True, False])
def test_the_seed_that_a_run_began_with_goes_on(opt, drawn):
    opt.update(manual_seed=3, seed_is_drawn=drawn)
    resume.load_resume_state(opt)
    assert opt["manual_seed"] == (7 if drawn else 3)
    assert notices.take() == (
        [] if drawn else ["manual_seed: is 3, and 7 in the state resumed from: other samples follow"]
    )
