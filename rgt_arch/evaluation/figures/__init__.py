"""Pictures of results: comparisons drawn with Pillow, and the figures of `rgt figure`, drawn with matplotlib."""

from rgt_arch.evaluation.figures.side_by_side import Box, Panel, comparison_figure, save_figure

__all__ = ["Box", "Panel", "comparison_figure", "save_figure"]
