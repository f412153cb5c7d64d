"""Comparisons of two arms: tests against a margin, intervals, and checks of their assumptions."""
