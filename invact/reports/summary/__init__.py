"""The summary of several sweeps and claims: one table of their configurations, beside published figures."""
