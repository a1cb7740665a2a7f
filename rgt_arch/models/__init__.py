"""The BasicSR model class that trains and tests the network."""
