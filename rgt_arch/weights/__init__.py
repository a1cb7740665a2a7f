"""Checkpoints: reading, writing and inspecting."""
