"""The process around the library: its standard streams, its processors, and what other libraries print."""
