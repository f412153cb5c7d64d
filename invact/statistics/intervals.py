"""What all intervals share: quantiles of Student's t, and a check of the confidence."""

from __future__ import annotations

from scipy import special

from invact.errors import InputError

__all__ = ["check_confidence", "t_quantile"]


def t_quantile(df: float, confidence: float) -> float:
    """Student's t that leaves (1 - confidence) / 2 above."""
    return float(special.stdtrit(df, (1 + confidence) / 2))


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no probability."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence: received {confidence!r}. Allowed: (0, 1), such as 0.95")
