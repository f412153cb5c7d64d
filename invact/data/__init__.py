"""Data: where data sets come from, how they are split, and how training images are augmented."""

from invact.data.dataset import Dataset, Source, load

__all__ = ["Dataset", "Source", "load"]
