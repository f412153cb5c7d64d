"""Equivalence ratios: how many filters, or MACs, the treatment needs for the accuracy of the control."""
