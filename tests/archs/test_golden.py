"""Compare the network with stored outputs and gradients of the official code (tests/data/golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill, golden_input

from rgt_arch import RGT

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "index.json").read_text())


def arrays(prefix: str) -> list[tuple[str, str]]:
    """(case, array name) of every golden array whose name starts with `prefix`."""
    return [(case, name) for case in CASES for name in np.load(GOLDEN / f"{case}.npz").files if name.startswith(prefix)]


def network(case: str, dtype: torch.dtype) -> RGT:
    # the golden networks were filled in float32, which rounds, and then widened
    return fill(RGT(drop_path_rate=0.0, **CASES[case]["config"])).to(dtype)


@pytest.mark.parametrize("case", CASES)
def test_parameter_and_key_counts_equal_official(case: str) -> None:
    net = RGT(**CASES[case]["config"])
    assert sum(p.numel() for p in net.parameters()) == CASES[case]["params"]
    assert len(net.state_dict()) == CASES[case]["state_dict_keys"]


# Only a forward without gradients works in slices. Both kinds show rounding, so float32 runs once. RGT-S is large and
# tests nothing else that smaller networks do not.
@pytest.mark.parametrize(
    ("case", "name", "dtype", "grad"),
    [
        (case, name, dtype, grad)
        for case, name in arrays("eval_")
        for dtype, grad in ((torch.float32, False), (torch.float64, False), (torch.float64, True))
        if case != "RGT_S_x4" or dtype is torch.float32
    ],
)
def test_output_equals_official(case: str, name: str, dtype: torch.dtype, grad: bool) -> None:
    height, width = map(int, name.removeprefix("eval_").split("x"))
    batch = 1 if case == "RGT_S_x4" or height * width > 20000 else 2
    image = golden_input(batch, CASES[case]["config"]["in_chans"], height, width).to(dtype)
    expected = np.load(GOLDEN / f"{case}.npz")[name]
    with torch.set_grad_enabled(grad):
        out = network(case, dtype).eval()(image).detach().numpy()
    if out.shape != expected.shape:
        out = out[:1, :, ::3, ::3]
    tolerance = 1e-4 if dtype is torch.float32 else 1e-9 if expected.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("case", "size", "dtype"),
    [
        (case, name[6:-5], dtype)
        for case, name in arrays("train_")
        for dtype in (torch.float64, torch.float32)
        if name.endswith("_loss") and (dtype is torch.float64 or "64x64" not in name)  # small sizes show rounding
    ],
)
def test_training_loss_and_gradients_equal_official(case: str, size: str, dtype: torch.dtype) -> None:
    height, width = map(int, size.split("x"))
    golden = np.load(GOLDEN / f"{case}.npz")
    net = network(case, dtype).train()
    loss = net(golden_input(2, CASES[case]["config"]["in_chans"], height, width).to(dtype)).square().mean()
    loss.backward()
    exact = dtype is torch.float64
    assert loss.item() == pytest.approx(float(golden[f"train_{size}_loss"]), rel=1e-6 if exact else 1e-4)
    norms = {name: 0.0 if p.grad is None else p.grad.norm().item() for name, p in net.named_parameters()}
    expected = {name: float(golden[f"train_{size}_gradnorm/{name}"]) for name in norms}
    largest = max(expected.values())
    for name, value in norms.items():
        # float32: gradients that vanish in exact arithmetic are rounding noise, so the tolerance follows the largest
        assert value == pytest.approx(
            expected[name], rel=1e-5 if exact else 2e-3, abs=(1e-9 if exact else 2e-5) * largest
        ), name


def test_state_dict_keys_shapes_and_dtypes_equal_official() -> None:
    official = json.loads((GOLDEN / "official_state_dict_RGT_S_x4.json").read_text())
    state = RGT(**CASES["RGT_S_x4"]["config"]).state_dict()
    # list equality: optimiser states refer to parameters by their order
    assert list(state) == list(official)
    assert {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in state.items()} == official
