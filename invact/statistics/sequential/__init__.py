"""Sequential tests: when to look at the data, what to conclude, and how many runs to plan."""
