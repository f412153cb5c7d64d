"""Tracking: MLflow is the one record of results. A run that is FINISHED counts, nothing else does."""
