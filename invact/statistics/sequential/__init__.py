"""Sequential tests: when to look, what to conclude, and how many runs to plan."""
