"""Statistics of fronts: which points are non-dominated, and how this varies over training seeds."""
