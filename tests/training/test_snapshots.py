"""A state is used only with the intact networks of its own save; otherwise an earlier state is used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import MODEL_REGISTRY

from rgt_arch.errors import UsageError, UserError
from rgt_arch.training.snapshots import Snapshot, digest, find_snapshot, finished_iterations


@pytest.fixture
def opt(tmp_path):
    """Options of a run with checkpoints of iterations 2 and 4 of 6."""
    folders = {key: tmp_path / "experiments/run" / key for key in ("models", "training_states")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    opt = {
        "seed_is_drawn": False,
        "manual_seed": 7,
        "network_g": {},
        "train": {"total_iter": 6, "optim_g": {}},
        "path": {"experiments_root": str(tmp_path / "experiments/run"), **{k: str(v) for k, v in folders.items()}},
    }
    for iteration in (2, 4):
        save(opt, iteration)
    return opt


def state_file(opt, iteration):
    return Path(opt["path"]["training_states"], f"{iteration}.state")


def find(opt, notices=None, *, auto_resume=True, restart=False):
    return find_snapshot(opt, auto_resume=auto_resume, restart=restart, notices=[] if notices is None else notices)


def save(opt, iteration, **more):
    content = {"params": {"weight": torch.full((400,), float(iteration))}, "rgt_info": {"iteration": iteration}}
    torch.save(content, f"{opt['path']['models']}/net_g_{iteration}.pth")
    state = {"epoch": 0, "iter": iteration, "optimizers": [{"moment": torch.zeros(400)}], "schedulers": [], "seed": 7}
    state["networks"] = {"network_g": digest(content)}
    torch.save({**state, **more}, state_file(opt, iteration))


def flip_a_byte(path, position=0.4):
    """Change a byte of the numbers, which PyTorch reads without an error."""
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
        ("models/net_g_4.pth", other_iteration, "holds iteration 2, its training state 4"),
        ("models/net_g_4.pth", lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated"),
        ("models/net_g_4.pth", lambda path: path.write_bytes(b""), "empty"),
        ("models/net_g_4.pth", lambda path: path.unlink(), "no such file"),
        ("training_states/4.state", lambda path: torch.save({"params": {}}, path), "is not a BasicSR training state"),
        ("training_states/4.state", lambda path: path.write_bytes(b"\0" * 5000), "is not a PyTorch checkpoint"),
        (
            "training_states/4.state",
            lambda path: path.write_bytes(path.with_name("2.state").read_bytes()),
            "holds iteration 2, but its name has another",
        ),
    ],
)
def test_newest_intact_checkpoint_is_used_with_one_notice(opt, tmp_path, name, spoil, words):
    path = tmp_path / "experiments/run" / name
    before = torch.load(path, weights_only=True)
    spoil(path)
    if spoil is flip_a_byte:  # PyTorch alone does not detect the damage
        assert torch.load(path, weights_only=True).keys() == before.keys()
    notices: list[str] = []
    assert find(opt, notices).iteration == 2
    [line] = notices
    assert path.name in line
    assert words in line
    assert line.endswith("resuming from " + str(state_file(opt, 2)))

    opt["path"]["resume_state"] = str(state_file(opt, 4))  # the same if the damaged state is named
    named: list[str] = []
    assert find(opt, named, auto_resume=False).iteration == 2
    assert named == notices


def test_run_begins_again_with_a_notice_if_all_states_are_damaged(opt):
    for iteration in (2, 4):
        flip_a_byte(state_file(opt, iteration))
    notices: list[str] = []
    assert find(opt, auto_resume=False) is None
    assert find(opt, notices) is None
    [line] = notices
    assert "2.state" in line
    assert "4.state" in line
    assert line.endswith("nothing is left to resume from, so the run begins again")


def test_intact_checkpoints_and_basicsr_states_without_digest_are_accepted(opt):
    notices: list[str] = []
    assert find(opt, notices).iteration == 4
    content = torch.load(state_file(opt, 4), weights_only=True)
    content["networks"] = {"network_g": "0" * 64}
    torch.save(content, state_file(opt, 4))
    with pytest.raises(UserError, match="does not hold the weights"):
        Snapshot.open(state_file(opt, 4), opt)
    del content["networks"], content["seed"]
    torch.save(content, state_file(opt, 4))
    assert find(opt, notices).iteration == 4
    assert notices == []


def test_each_kind_of_change_to_the_weights_changes_the_digest():
    weights = {"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(())}
    others = [
        {"params": {**weights, "a": torch.tensor([-0.0, 1.0])}},
        {"params": {**weights, "a": torch.tensor([0.0, 1.0], dtype=torch.float64)}},
        {"params": {**weights, "a": torch.tensor([[0.0, 1.0]])}},
        {"params": {"c": weights["a"], "b": weights["b"]}},
        {"params": weights, "params_ema": weights},
    ]
    assert len({digest(content) for content in [{"params": weights}, *others]}) == 1 + len(others)
    assert digest({"params": weights, "rgt_info": {"iteration": 3}}) == digest({"params": weights})


@pytest.mark.parametrize("value", ["4", None, 4.0])
def test_state_without_an_integer_iteration_is_refused(opt, value):
    save(opt, 4, iter=value)
    with pytest.raises(UserError, match="is not a BasicSR training state"):
        Snapshot.open(state_file(opt, 4), opt)


def test_run_is_finished_if_its_latest_weights_are_of_the_last_iteration(opt):
    save(opt, 6)
    assert finished_iterations(opt) is None  # killed before the latest weights were saved
    latest = Path(opt["path"]["models"], "net_g_latest.pth")
    for iteration, finished in ((4, None), (6, 6), (7, 7)):
        torch.save({"params": {"weight": torch.ones(1)}, "rgt_info": {"iteration": iteration}}, latest)
        assert finished_iterations(opt) == finished
    torch.save({"params": {"weight": torch.ones(1)}}, latest)  # as saved by BasicSR's models
    assert finished_iterations(opt) == 6
    for state in Path(opt["path"]["training_states"]).iterdir():
        state.unlink()
    assert finished_iterations(opt) is None
    latest.write_bytes(b"damaged")
    assert finished_iterations(opt) is None


@pytest.mark.parametrize("drawn", [True, False])
def test_resumed_run_keeps_a_drawn_seed_and_reports_a_changed_one(opt, drawn):
    opt.update(manual_seed=3, seed_is_drawn=drawn)
    opt["path"]["pretrain_network_g"] = "of the start.pth"
    notices: list[str] = []
    find(opt).prepare(opt, notices)
    assert opt["manual_seed"] == (7 if drawn else 3)
    told = ["manual_seed is 3, but 7 in the resumed state: the samples will differ"]
    assert notices == ([] if drawn else told)
    assert opt["path"]["pretrain_network_g"] is None


def test_restart_and_a_state_of_the_same_run_exclude_each_other(opt):
    opt["path"]["resume_state"] = str(state_file(opt, 4))
    with pytest.raises(UsageError, match="--restart would archive the run"):
        find(opt, auto_resume=False, restart=True)


def test_older_state_of_the_same_run_that_auto_resume_replaces_is_reported(opt):
    for named, expected in ((2, 1), (4, 0)):
        opt["path"]["resume_state"] = str(state_file(opt, named))
        notices = []
        assert find(opt, notices).iteration == 4
        assert len(notices) == expected
        assert all(f"{named}.state is not used: --auto_resume takes the newest, " in line for line in notices)
    opt["path"]["resume_state"] = "another/training_states/2.state"
    assert find(opt, notices := []).iteration == 4
    assert notices == []


def test_named_state_that_is_missing_or_unreadable_is_an_error(opt):
    for iteration in (2, 4):
        state_file(opt, iteration).unlink()
    opt["path"]["resume_state"] = str(state_file(opt, 4))
    with pytest.raises(UsageError, match=r"path:resume_state = .*4.state: no such file"):
        find(opt, auto_resume=False)
    state_file(opt, 4).write_text("text")
    with pytest.raises(UserError, match=r"4.state: is not a PyTorch checkpoint .* no other state beside it"):
        find(opt, auto_resume=False)


def test_state_of_another_run_loads_its_networks_and_owes_no_validation(opt, tmp_path):
    save(opt, 4, owes_validation=True)
    other = {**opt, "path": {key: value.replace("/run", "/other") for key, value in opt["path"].items()}}
    other["path"]["resume_state"] = str(state_file(opt, 4))
    found = find(other, auto_resume=False)
    assert (found.in_run, found.owes_validation) == (False, False)
    assert found.networks["g"]["params"]["weight"][0] == 4
    own = find(opt)
    assert (own.in_run, own.owes_validation) == (True, True)


def test_number_of_optimisers_is_checked_only_for_known_models(opt, monkeypatch):
    class OwnModel:
        """Has two optimisers from one section."""

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, "OwnModel", OwnModel)
    save(opt, 4, optimizers=[{}, {}])
    assert find({**opt, "model_type": "OwnModel"}).iteration == 4
    for known in ("SRModel", "RGTModel"):
        with pytest.raises(UsageError, match="holds 2 optimisers, but train has 1"):
            find({**opt, "model_type": known})


def test_network_that_does_not_match_the_options_is_refused_before_building(opt):
    network = {"type": "MSRResNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    with pytest.raises(UsageError, match=r"net_g_4\.pth: does not fit MSRResNet"):
        find({**opt, "model_type": "SRModel", "network_g": network})
    ignoring = {**opt, "network_d": {}, "path": {**opt["path"], "ignore_resume_networks": ["network_d"]}}
    assert find(ignoring).networks.keys() == {"g"}


def test_a_state_beyond_the_last_iteration_is_refused(opt):
    opt["path"]["resume_state"] = str(state_file(opt, 4))
    opt["train"]["total_iter"] = 3
    with pytest.raises(UsageError, match=r"4\.state: is of iteration 4, and train:total_iter is 3; raise it"):
        find(opt, auto_resume=False)
