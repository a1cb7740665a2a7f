"""BasicSR's own models under `basicsr train`: they train, save, and resume bit for bit."""

from __future__ import annotations

import pytest

from .comparisons import assert_same_content, logged

SWINIR = {"type": "SwinIR", "upscale": 2, "in_chans": 3, "img_size": 16, "window_size": 8, "img_range": 1.0}
SWINIR |= {"depths": [2], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 1, "upsampler": "pixelshuffledirect"}
RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "num_grow_ch": 2, "scale": 2}
GAN = {"type": "GANLoss", "gan_type": "vanilla", "real_label_val": 1.0, "fake_label_val": 0.0, "loss_weight": 0.1}
UNET = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
ADVERSARIAL = {"gan_opt": GAN, "net_d_iters": 1, "net_d_init_iters": 0, "optim_d": {"type": "Adam", "lr": 1e-3}}

MODELS = {
    "SRModel": {},  # with RGT, whose drop path draws random numbers in every step
    "SwinIRModel": {"network_g": SWINIR},
    "SRGANModel": {"network_g": RRDB, "network_d": UNET},
    "ESRGANModel": {"network_g": RRDB, "network_d": UNET},
}


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_ends_as_an_uninterrupted_one_bit_for_bit(run, basicsr_command, model):
    del run.options["train"]["grad_clip"]
    run.options.update(model_type=model, **MODELS[model])
    labels = ["g", "d"] if "network_d" in run.options else ["g"]
    if "d" in labels:
        run.options["train"].update(ADVERSARIAL)
    last = ["--force_yml", "train:total_iter=6"]
    code, printed = basicsr_command(*last)
    assert code == 0, printed
    assert f"[{model}] is created" in printed
    run.run_folder.rename(run.root / "unbroken")
    code, printed = basicsr_command("--force_yml", "train:total_iter=3")
    assert code == 0, printed
    code, printed = basicsr_command("--auto_resume", *last)
    assert code == 0, printed
    assert "Resuming training from epoch: 0, iter: 3" in printed
    networks = [f"models/net_{label}_{iteration}.pth" for label in labels for iteration in (3, 6, "latest")]
    for name in (*networks, "training_states/3.state", "training_states/6.state"):
        assert_same_content(run.run_folder / name, run.root / "unbroken" / name)
    assert logged(run.run_folder, 6) == logged(run.root / "unbroken", 6)
    assert (run.run_folder / "metrics.csv").read_text() == (run.root / "unbroken/metrics.csv").read_text()
