"""Sweeps: running them, reading their fronts, retraining points of a front, and exporting networks."""
