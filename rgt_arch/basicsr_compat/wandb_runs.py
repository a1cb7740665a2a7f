"""Weights & Biases with today's wandb, where a training stays one run however often it is resumed.

Where: basicsr/utils/logger.py:125 (used at train.py:20). What goes wrong: `wandb.util.generate_id` is gone (an
AttributeError), and each resume begins a run of its own. Delete it once BasicSR lets wandb make the id and keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rgt_arch.errors import UserError
from rgt_arch.files import written_whole

KEPT = "wandb_id.txt"


def init_wandb_logger(opt: dict[str, Any]) -> None:
    """Begin or go on with a run of wandb, to which it sends what TensorBoard gets; on rank 0 alone.

    Its id is kept in the run's folder for a resume; `logger.wandb.resume_id` comes first. Raises UserError for what
    wandb refuses.
    """
    if opt["rank"]:
        return
    import wandb
    from basicsr.utils import get_root_logger

    settings = opt["logger"]["wandb"]
    kept = Path(opt["path"]["experiments_root"], KEPT)
    resume_id = settings.get("resume_id") or None
    if resume_id is None and opt.get("start_iter") and kept.is_file():
        resume_id = kept.read_text().strip() or None
    try:
        run = wandb.init(
            project=settings["project"],
            name=opt["name"],
            config=opt,
            id=resume_id,
            resume="allow",
            sync_tensorboard=True,
        )
    except wandb.Error as error:
        raise UserError(
            f"logger:wandb: {' '.join(str(error).split()).rstrip('.')}; or set WANDB_MODE=offline, or project: ~"
        ) from error
    with written_whole(kept) as beside:
        beside.write_text(run.id)
    get_root_logger().info(f"{'Going on with' if resume_id else 'Begun:'} wandb run {run.id} of project {run.project}")
