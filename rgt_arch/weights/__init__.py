"""Checkpoints: reading, writing, inspecting and converting."""
