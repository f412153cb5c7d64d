"""Execution: many trainings at once, on Dask workers, with one coordinator that writes the record."""
