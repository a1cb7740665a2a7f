"""Checkpoints: reading, writing, inspecting and converting."""

from rgt_arch.weights.building import load_model
from rgt_arch.weights.inspecting import infer_config
from rgt_arch.weights.reading import Checkpoint, read_checkpoint
from rgt_arch.weights.writing import save_checkpoint

__all__ = ["Checkpoint", "infer_config", "load_model", "read_checkpoint", "save_checkpoint"]
