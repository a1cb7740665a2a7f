"""What a resume refuses before anything is built, and what it leaves to the model."""

from __future__ import annotations

import pytest
import torch
from basicsr.utils.registry import MODEL_REGISTRY

from rgt_arch.basicsr_compat import resume
from rgt_arch.errors import UsageError


def test_optimisers_are_counted_for_models_whose_sections_are_known(tmp_path, monkeypatch):
    class OwnModel:
        """With two optimisers from one section."""

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, "OwnModel", OwnModel)
    state = tmp_path / "5.state"
    torch.save({"epoch": 0, "iter": 5, "optimizers": [{}, {}], "schedulers": []}, state)
    opt = {"train": {"optim_g": {}}, "path": {"models": str(tmp_path)}}
    resume._refuse_unfit({**opt, "model_type": "OwnModel"}, str(state))
    for known in ("SRModel", "RGTModel"):
        with pytest.raises(UsageError, match="is of 2 optimisers, and train has 1"):
            resume._refuse_unfit({**opt, "model_type": known}, str(state))
