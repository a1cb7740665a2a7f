"""Upscale videos of every common kind frame by frame; sound and subtitles are copied."""

from rgt_arch.inference.video.reading import VIDEO_SUFFIXES, is_video, video_pixels
from rgt_arch.inference.video.upscaling import upscale_video
from rgt_arch.inference.video.writing import TARGET_SUFFIXES, target_suffix

__all__ = ["TARGET_SUFFIXES", "VIDEO_SUFFIXES", "is_video", "target_suffix", "upscale_video", "video_pixels"]
