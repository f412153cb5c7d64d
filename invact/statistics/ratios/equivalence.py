"""Equivalence ratios: how many filters or MACs does the treatment need to be as accurate as the control?"""
# A ratio is estimated only where its assumptions hold. Otherwise the result is "not identifiable", with the
# reasons, and gives only the ratio at several accuracies, as a description of the data.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from invact.errors import InputError
from invact.statistics.ratios.observations import Observations, observations
from invact.statistics.ratios.parallel_line import ParallelLine, parallel_line
from invact.statistics.ratios.shared_curve import SharedCurve, shared_curve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Gates", "Ratio", "curve_ratio", "line_ratio", "ratio_by_level"]


@dataclass(frozen=True)
class Gates:
    """Conditions under which a ratio may be reported as one number.

    Attributes:
        g: upper limit of `Fieller.g`; a small g means that the slope is known precisely.
        slope_bounds: limits that must contain the whole 90 % interval of the ratio of slopes (an equivalence
            test at 5 %).
        lack_of_fit: smallest allowed p value of the test of lack of fit.
        widths: number of widths that each arm needs within the range of accuracies that both arms reach.

    Raises:
        InputError: a value is out of range.
    """

    g: float = 0.1
    slope_bounds: tuple[float, float] = (0.8, 1.25)
    lack_of_fit: float = 0.05
    widths: int = 3

    def __post_init__(self) -> None:
        low, high = self.slope_bounds
        if not 0 < self.g < 1:
            raise InputError(f"g: received {self.g!r}. Allowed: (0, 1)")
        if not 0 < low < 1 < high:
            raise InputError(
                f"slope_bounds: received {self.slope_bounds!r}. Allowed: one number below 1 and one above"
            )
        if not 0 < self.lack_of_fit < 1:
            raise InputError(f"lack_of_fit: received {self.lack_of_fit!r}. Allowed: (0, 1)")
        if self.widths < 3:
            raise InputError(f"widths: received {self.widths!r}. Allowed: three or more")


@dataclass(frozen=True)
class Ratio:
    """An equivalence ratio, or the reasons why it cannot be estimated.

    Attributes:
        estimate: width of the treatment divided by the width of the control at equal accuracy; None if the
            ratio is not identifiable. Below 1, the treatment needs less.
        interval: confidence interval of the estimate; None if the estimate is None.
        reasons: the gates that failed, in words; empty if the ratio is identifiable.
        levels: accuracies that both arms reach, ascending; empty if there are none.
        ratios: ratio at each level, read from the means of the arms, also if it is not identifiable.
        fit: the fitted model with all its figures. Its own ratio is valid only if all gates were passed.
    """

    estimate: float | None
    interval: tuple[float, float] | None
    reasons: tuple[str, ...]
    levels: tuple[float, ...]
    ratios: tuple[float, ...]
    fit: SharedCurve | ParallelLine

    @property
    def identifiable(self) -> bool:
        """Whether all gates were passed."""
        return not self.reasons


def curve_ratio(
    widths: ArrayLike,
    accuracies: ArrayLike,
    treatment: ArrayLike,
    confidence: float = 0.95,
    gates: Gates | None = None,
) -> Ratio:
    """Estimate the equivalence ratio from a shared curve, with an interval from Student's t.

    Args:
        widths: shape (n,), filters or MACs. Use five or more in each arm, different in the two arms, on the
            steep part of the curve.
        accuracies: shape (n,), one for each training.
        treatment: shape (n,), True for the treatment.
        confidence: two-sided confidence level.
        gates: conditions that the fit must pass; the default values of `Gates` unless given.

    Raises:
        InputError: as `shared_curve`.

    Example:
        >>> width = np.array([6, 9, 13, 19, 28] * 4)
        >>> treated = np.arange(20) >= 10
        >>> noise = np.random.default_rng(0).normal(0, 0.001, 20)
        >>> found = curve_ratio(width, 0.92 - 0.4 / (width * np.where(treated, 1.5, 1)) + noise, treated)
        >>> found.identifiable, round(found.estimate, 1)
        (True, 0.7)
    """
    data = observations(widths, accuracies, treatment)
    fit = shared_curve(widths, accuracies, treatment, confidence)
    problems = fit.problems
    reasons = _reasons(data, gates or Gates(), fit.g, fit.slope_interval, fit.p_lack_of_fit)
    return _gated(data, fit, fit.ratio, fit.interval, problems + reasons)


def line_ratio(
    widths: ArrayLike,
    accuracies: ArrayLike,
    treatment: ArrayLike,
    blocks: ArrayLike | None = None,
    confidence: float = 0.95,
    gates: Gates | None = None,
) -> Ratio:
    """Estimate the equivalence ratio from parallel lines in ln(width), with Fieller's interval.

    The ratio is 1 / (relative potency of the treatment).

    Args:
        widths: shape (n,), filters or MACs.
        accuracies: shape (n,), one for each training.
        treatment: shape (n,), True for the treatment.
        blocks: as for `parallel_line`.
        confidence: two-sided confidence level.
        gates: conditions that the fit must pass; the default values of `Gates` unless given.

    Raises:
        InputError: as `parallel_line`; an arm has fewer than three widths, so that nothing shows whether the
            lines are straight.

    Example:
        >>> width = np.array([8, 11, 16, 22, 32] * 4)
        >>> treated = np.arange(20) >= 10
        >>> noise = np.random.default_rng(0).normal(0, 0.001, 20)
        >>> accuracy = 0.8 + 0.03 * np.log(width * np.where(treated, 1.25, 1)) + noise
        >>> found = line_ratio(width, accuracy, treated)
        >>> found.identifiable, round(found.estimate, 1)
        (True, 0.8)
    """
    data = observations(widths, accuracies, treatment)
    fit = parallel_line(widths, accuracies, treatment, blocks, confidence)
    reasons = _reasons(data, gates or Gates(), fit.g, fit.slope_interval, fit.p_linearity)
    # Without a slope the potency may be 0, and its inverse is infinite.
    ratio, high, low = (1 / value if value != 0 else float("inf") for value in (fit.potency, *fit.interval))
    return _gated(data, fit, ratio, (low, high), reasons)


def _gated(
    data: Observations,
    fit: SharedCurve | ParallelLine,
    ratio: float,
    interval: tuple[float, float],
    reasons: tuple[str, ...],
) -> Ratio:
    levels, ratios = ratio_by_level(data.doses, data.responses, data.test)
    if reasons:
        return Ratio(None, None, reasons, levels, ratios, fit)
    return Ratio(ratio, interval, (), levels, ratios, fit)


def _reasons(
    data: Observations,
    gates: Gates,
    g: float,
    slopes: tuple[float, float],
    p_fit: float | None,
) -> tuple[str, ...]:
    # Every comparison is written so that NaN fails the gate.
    reasons = []
    if not g < gates.g:
        reasons.append(f"g is {g:.3g}, not below {gates.g:g}: the accuracy hardly rises with the width")
    low, high = gates.slope_bounds
    if not (low <= slopes[0] and slopes[1] <= high):
        reasons.append(
            f"the arms are not shown to be parallel: the ratio of their slopes is between {slopes[0]:.3g} and"
            f" {slopes[1]:.3g}, not within {low:g} and {high:g}"
        )
    if p_fit is None:
        reasons.append("lack of fit cannot be tested: widths are not replicated, or are too few")
    elif not p_fit >= gates.lack_of_fit:
        reasons.append(f"the model does not fit: p of lack of fit is {p_fit:.2g}")
    counts = [len(widths) for widths in _common(data)]
    if min(counts) < gates.widths:
        reasons.append(
            f"only {counts[0]} widths of the control and {counts[1]} of the treatment are in the range of"
            f" accuracies that both reach; {gates.widths} are needed"
        )
    return tuple(reasons)


Arm = tuple[list[float], list[float], list[int]]


def _arms(data: Observations) -> tuple[Arm, Arm]:
    """Widths, mean accuracies and numbers of replicates of control and treatment, by increasing width."""
    arms = []
    for arm in (~data.test, data.test):
        widths, index, counts = np.unique(data.doses[arm], return_inverse=True, return_counts=True)
        means = np.bincount(index, data.responses[arm]) / counts
        arms.append((widths.tolist(), means.tolist(), counts.tolist()))
    return arms[0], arms[1]


def _common(data: Observations) -> tuple[list[float], list[float]]:
    """Widths of each arm whose mean accuracy lies in the range that both arms reach."""
    control, treatment = _arms(data)
    low = max(min(control[1]), min(treatment[1]))
    high = min(max(control[1]), max(treatment[1]))
    inside = [
        [width for width, mean in zip(*arm[:2], strict=True) if low <= mean <= high]
        for arm in (control, treatment)
    ]
    return inside[0], inside[1]


def ratio_by_level(
    widths: ArrayLike, accuracies: ArrayLike, treatment: ArrayLike, count: int = 5
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the ratio at several accuracies, without a model of the curve.

    The means of each arm are made monotone in the width (isotonic least squares, weighted by replicates) and
    interpolated linearly over ln(width). The ratio at an accuracy is the width of the treatment divided by
    the width of the control.

    Args:
        widths: shape (n,).
        accuracies: shape (n,).
        treatment: shape (n,), True for the treatment.
        count: number of levels, at least two, spaced evenly over the accuracies that both arms reach.

    Returns:
        Levels, ascending, and ratios, of length `count`; both empty if the arms share no range.

    Raises:
        InputError: as `observations`; `count` is below two.

    Example:
        >>> width = [1, 2, 4, 8, 1, 2, 4, 8]
        >>> accuracy = [0.5, 0.6, 0.7, 0.8, 0.6, 0.7, 0.8, 0.9]
        >>> levels, ratios = ratio_by_level(width, accuracy, [False] * 4 + [True] * 4, 3)
        >>> [round(level, 2) for level in levels], [round(ratio, 2) for ratio in ratios]
        ([0.6, 0.7, 0.8], [0.5, 0.5, 0.5])
    """
    if count < 2:
        raise InputError(f"count: received {count!r}. Allowed: two or more")
    data = observations(widths, accuracies, treatment)
    steps = []
    for doses, means, counts in _arms(data):
        rising = optimize.isotonic_regression(means, weights=counts).x
        # Several widths may have the same accuracy: the cheapest one is what this accuracy needs.
        first = np.concatenate(([True], np.diff(rising) > 0))
        steps.append((rising[first], np.log(doses)[first]))
    low, high = max(steps[0][0][0], steps[1][0][0]), min(steps[0][0][-1], steps[1][0][-1])
    if not low < high:
        return (), ()
    levels = np.linspace(low, high, count)
    control, treated = (np.interp(levels, *step) for step in steps)
    return tuple(levels.tolist()), tuple(np.exp(treated - control).tolist())
