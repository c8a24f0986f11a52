"""Engines: how the trials of a sweep are trained, as lanes of one compiled program or as processes."""
