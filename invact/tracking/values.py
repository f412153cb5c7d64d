"""How values become MLflow's text, and how long a text may be."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_TAG", "text_of"]


MAX_TAG = 8000


def text_of(value: Any) -> str:
    """Write a value as MLflow's text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
