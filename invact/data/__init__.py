"""Loading of data sets, their split into three parts, and augmentation of training images."""

from invact.data.dataset import Dataset, Source, load

__all__ = ["Dataset", "Source", "load"]
