"""Workers: a Dask cluster on this machine or on several, and what runs in its processes."""
