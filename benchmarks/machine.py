"""The machine and the versions that a measurement was made with, in one line for a table."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from invact.process.processors import processor

__all__ = ["machine"]


def machine() -> str:
    """Describe the processor, the number of its cores, and the versions of the libraries."""
    names = ("tensorflow", "keras", "mlflow", "optuna", "distributed")
    versions = ", ".join(f"{one} {metadata.version(one)}" for one in names)
    return f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"
