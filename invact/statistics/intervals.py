"""Helpers of all confidence intervals: quantiles of Student's t, and a check of the confidence level."""

from __future__ import annotations

from scipy import special

from invact.errors import InputError

__all__ = ["check_confidence", "t_quantile"]


def t_quantile(df: float, confidence: float) -> float:
    """Quantile of Student's t that is exceeded with probability (1 - confidence) / 2."""
    return float(special.stdtrit(df, (1 + confidence) / 2))


def check_confidence(confidence: float) -> None:
    """Raise InputError unless the confidence level is between 0 and 1."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence: received {confidence!r}. Allowed: (0, 1), such as 0.95")
