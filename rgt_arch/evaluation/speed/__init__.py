"""Time and memory of the network next to the official forward: what `rgt bench latency|memory|scaling|train` run."""
