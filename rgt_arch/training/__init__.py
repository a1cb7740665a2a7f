"""`basicsr train` and `basicsr test`: a loop over BasicSR's data sets, models, losses, schedulers and metrics."""
