"""Search: proposing configurations, and refusing those over a budget before any training."""
