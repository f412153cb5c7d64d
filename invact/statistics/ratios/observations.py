"""Checked observations of the models of ratios, and least squares on their design matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Observations",
    "block_columns",
    "cell_columns",
    "check_doses",
    "check_numbers",
    "estimates",
    "observations",
    "residual",
]


def block_columns(blocks: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """A constant column, and one column for each block except the first."""
    if blocks is None:
        return np.ones((n, 1))
    labels = np.asarray(blocks)
    if labels.shape != (n,):
        raise InputError(f"blocks: received shape {labels.shape}. Allowed: ({n},), one for each response")
    _, index = np.unique(labels, return_inverse=True)
    return np.column_stack([np.ones(n), np.eye(index.max() + 1)[index][:, 1:]])


def residual(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Residual sum of squares of y, which has shape (n,) or (n, m), and its degrees of freedom."""
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    rank = int((singular > singular[0] * len(y) * np.finfo(float).eps).sum())
    basis = left[:, :rank]
    return np.square(y - basis @ (basis.T @ y)).sum(axis=0), len(y) - rank


def estimates(
    design: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares coefficients of y, which has shape (n,) or (n, m), and their covariance at variance 1."""
    inverse = np.linalg.pinv(design)
    return inverse @ y, inverse @ inverse.T


@dataclass(frozen=True)
class Observations:
    """Checked doses and responses of two preparations; all arrays have shape (n,)."""

    doses: NDArray[np.float64]
    responses: NDArray[np.float64]
    test: NDArray[np.bool_]

    def cell_columns(self) -> NDArray[np.float64]:
        """Indicator matrix with one column for each (preparation, dose)."""
        return cell_columns(self.test, self.doses)


def cell_columns(preparation: NDArray[np.generic], doses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Indicator matrix with one column for each (preparation, dose), from two arrays of shape (n,)."""
    _, index = np.unique(np.column_stack([preparation, doses]), axis=0, return_inverse=True)
    return np.eye(index.max() + 1)[index.ravel()]


def observations(doses: ArrayLike, responses: ArrayLike, test: ArrayLike, least: int = 3) -> Observations:
    """Check doses, responses and preparations.

    Raises:
        InputError: shapes differ, a dose is not positive, a response is not finite, `test` has a value that
            is not a bool, or a preparation has fewer than `least` doses.
    """
    z = np.asarray(test)
    x, y = check_numbers(doses, responses, z, "test")
    if not np.isin(z, (0, 1)).all():
        raise InputError("test: received a value that is not a bool. Allowed: True (test), False (standard)")
    z = z.astype(bool)
    for name, arm in (("standard", ~z), ("test", z)):
        check_doses(x[arm], name, least)
    return Observations(x, y, z)


def check_numbers(
    doses: ArrayLike, responses: ArrayLike, labels: NDArray[np.generic], argument: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrays of doses and responses, which must be finite and have the shape of the labels of `argument`."""
    x, y = np.asarray(doses, dtype=float), np.asarray(responses, dtype=float)
    if x.ndim != 1 or not x.shape == y.shape == labels.shape:
        shapes = f"{x.shape}, {y.shape} and {labels.shape}"
        raise InputError(
            f"doses, responses, {argument}: received shapes {shapes}. Allowed: equal shapes, (n,)"
        )
    if not (np.isfinite(x) & (x > 0)).all():
        raise InputError("doses: received a value that is not a positive number. Allowed: above 0")
    if not np.isfinite(y).all():
        raise InputError(
            "responses: received a value that is not finite. Allowed: numbers (chance level for a failed run)"
        )
    return x, y


def check_doses(doses: NDArray[np.float64], name: str, least: int) -> None:
    """Raise InputError if the preparation has fewer than `least` different doses."""
    if (count := len(np.unique(doses))) < least:
        raise InputError(f"doses: {name}: received {count} different doses. Allowed: {least} or more")
