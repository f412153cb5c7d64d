"""The conversion of values to MLflow text, and the longest text that a tag can have."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_TAG", "text_of"]


MAX_TAG = 8000


def text_of(value: Any) -> str:
    """Convert a value to text for MLflow: a string stays unchanged, any other value becomes JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
