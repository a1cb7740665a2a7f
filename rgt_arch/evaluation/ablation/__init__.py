"""Ablations: variants of a network, trained with equal seeds and data, and compared."""
