"""Upscale videos of every common kind frame by frame; sound and subtitles are copied."""
