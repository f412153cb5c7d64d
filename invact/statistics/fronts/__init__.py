"""Statistics of fronts: which points are non-dominated, and how that varies over training seeds."""
