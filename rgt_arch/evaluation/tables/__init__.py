"""The paper's Table 2: benchmark sets measured with BasicSR's metrics, next to the published numbers."""
