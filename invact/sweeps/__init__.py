"""Sweeps: from a file to a Pareto front, and what is done with a front afterwards."""
