"""Fronts as data: which configurations are worth their cost, and how sure that is."""
