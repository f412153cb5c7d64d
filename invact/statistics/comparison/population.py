"""The difference in accuracy for the population from which the images of the test set were drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from invact.errors import InputError
from invact.statistics.comparison.inference import RESOLUTION

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["image_variance", "population_interval"]


def population_interval(
    control: ArrayLike, treatment: ArrayLike, interval: tuple[float, float], level: float
) -> tuple[float, float]:
    """Extend a confidence interval of the difference from this test set to the population of images.

    The interval of a test counts the noise of the runs alone, so it is valid for exactly these images. Other
    images from the same population would give another difference. With h the distance of an end from the
    difference, V the result of `image_variance`, and z the normal quantile of 1 - level, the end moves to

        difference -+ sqrt(h^2 + z^2 V).

    Adding squared distances is the method of variance estimates recovery (MOVER). It needs no assumption
    about how the interval was adjusted for its looks. If the images add nothing, the result is the interval.

    Args:
        control: whether each run of the control classified each image correctly; shape (runs, images), bool
            or 0 and 1. Use the runs from which the interval was computed.
        treatment: the same for the treatment, with the same images in the same order; shape (runs, images).
            The runs are independent of those of the control, and their number may differ.
        interval: confidence interval of the difference treatment - control for this test set, as fractions.
        level: error of the interval on each side, in (0, 0.5).

    Returns:
        Lower and upper end, as fractions.

    Raises:
        InputError: fewer than two runs ("insufficient") or images, other images, a value that is not a bool,
            a level outside its range, or an interval that does not contain the difference of these runs.

    Source: Zou and Donner, Statistics in Medicine 27, 2008.

    Example:
        >>> control = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 0]]
        >>> treatment = [[1, 1, 1, 0, 1, 0], [1, 1, 1, 0, 1, 1]]
        >>> low, high = population_interval(control, treatment, (-0.09, 0.81), level=0.025)
        >>> round(low, 2), round(high, 2)
        (-0.21, 0.93)
    """
    if not 0 < level < 0.5:
        raise InputError(f"level: received {level!r}. Allowed: (0, 0.5)")
    old, new = _correct(control, "control"), _correct(treatment, "treatment")
    if old.shape[1] != new.shape[1]:
        raise InputError(
            f"treatment: received {new.shape[1]} images. Allowed: {old.shape[1]}, as for the control"
        )
    difference = float(new.mean(axis=1).mean() - old.mean(axis=1).mean())
    low, high = interval
    # NaN fails this comparison too. The usual mistake is to pass runs that the interval does not use.
    if not low - RESOLUTION <= difference <= high + RESOLUTION:
        raise InputError(f"interval: received {interval!r}. Allowed: one that contains {difference:.6g}")
    images = float(special.ndtri(level)) ** 2 * float(image_variance(old, new))
    return (
        difference - math.sqrt((difference - low) ** 2 + images),
        difference + math.sqrt((high - difference) ** 2 + images),
    )


def image_variance(control: NDArray[np.bool_], treatment: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Estimate the part of the variance of a difference in accuracy that comes from the choice of the images.

    In each arm, run i and image j are crossed random effects: y_ij = mu + a_i + b_j + e_ij. The effects b of
    an image in the two arms are correlated; all others are independent of each other. With n runs of an arm
    and N images, the difference of the mean accuracies has the variance

        sum over arms of (Var(a) / n + Var(e) / (n N)) + Var(b_T - b_C) / N.

    Welch's test estimates the sum: the variance between runs of the whole accuracy, s^2, has the expectation
    Var(a) + Var(e) / N. The last term remains. Let d_j be the difference of the arms' mean correctness on
    image j. All d_j have the effects a in common, so their sample variance over images has the expectation

        Var(b_T - b_C) + sum over arms of Var(e) / n.

    Let w^2 be the mean over images of the unbiased variance between runs on an image. Its expectation is
    Var(a) + Var(e). So Var(e) = N / (N - 1) (w^2 - s^2) without bias, and the estimate of the last term is

        V = max(0, Var_j(d_j) - sum over arms of N / (N - 1) (w^2 - s^2) / n) / N.

    Args:
        control: whether each run classified each image correctly; bool, shape (..., runs, images).
        treatment: the same for the treatment; shape (..., runs, images).

    Returns:
        V, in squared fractions; shape (...).

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (crossed effects); Owen,
    Annals of Applied Statistics 1, 2007 (they are uncorrelated for any function of run, image and noise).

    Example:
        >>> hard, easy = np.array([[True, False, False]] * 2), np.array([[True, True, True]] * 2)
        >>> round(float(image_variance(hard, easy)), 4)
        0.1111
    """
    images = control.shape[-1]
    within = np.zeros(control.shape[:-2])
    for arm in (control, treatment):
        runs = arm.shape[-2]
        share = arm.mean(axis=-2)
        on_an_image = runs / (runs - 1) * (share * (1 - share)).mean(axis=-1)
        whole = arm.mean(axis=-1).var(axis=-1, ddof=1)
        within = within + images / (images - 1) * (on_an_image - whole) / runs
    differences = treatment.mean(axis=-2) - control.mean(axis=-2)
    found: NDArray[np.float64] = np.maximum(differences.var(axis=-1, ddof=1) - within, 0) / images
    return found


def _correct(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    correct = np.asarray(values)
    if correct.ndim != 2:
        raise InputError(f"{name}: received shape {correct.shape}. Allowed: (runs, images)")
    runs, images = correct.shape
    if runs < 2 or images < 2:
        raise InputError(
            f"{name}: insufficient: received {runs} runs and {images} images. Allowed: 2 or more of each"
        )
    if not np.isin(correct, (0, 1)).all():
        raise InputError(
            f"{name}: received a value that is not a bool. Allowed: True (correct) and False (wrong)"
        )
    return correct.astype(bool)
