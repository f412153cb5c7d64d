"""The machine and the versions that a measurement was made with, in one line for a table."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["machine"]


def machine() -> str:
    """Describe the processor, the number of its cores, and the versions of the libraries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    names = ("tensorflow", "keras", "mlflow", "optuna", "distributed")
    versions = ", ".join(f"{one} {metadata.version(one)}" for one in names)
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"
