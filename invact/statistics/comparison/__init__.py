"""Comparisons of two arms: tests against a margin, confidence intervals, and checks of assumptions."""
