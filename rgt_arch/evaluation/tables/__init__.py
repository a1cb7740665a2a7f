"""The paper's Table 2: benchmark sets measured through BasicSR, next to the published numbers."""
