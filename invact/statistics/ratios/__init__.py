"""Equivalence ratios: how many filters or MACs the treatment needs to be as accurate as the control."""
