"""Execution of many trainings at once on Dask workers; one coordinator writes the record."""
