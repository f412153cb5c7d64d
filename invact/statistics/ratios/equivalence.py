"""Equivalence ratios: how many filters, or MACs, does the treatment need for the accuracy of the control?"""
# A ratio is given only where its assumptions hold. Elsewhere it is "not identifiable", with the reasons, and
# what remains is the ratio read off at several accuracies: a description, not an estimate.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from invact.errors import InputError
from invact.statistics.ratios.parallel_line import Observations, ParallelLine, observations, parallel_line
from invact.statistics.ratios.shared_curve import SharedCurve, shared_curve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Gates", "Ratio", "curve_ratio", "line_ratio", "ratio_by_level"]


@dataclass(frozen=True)
class Gates:
    """What a ratio must pass to be given as one number.

    Attributes:
        g: must be below this.
        slope_bounds: must contain the whole 90 % interval of the ratio of slopes (equivalence at 5 %).
        lack_of_fit: the p value of lack of fit must be at least this.
        widths: each arm needs this many within the range of accuracies that both reach.

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
            raise InputError(f"slope_bounds: received {self.slope_bounds!r}. Allowed: one below 1, one above")
        if not 0 < self.lack_of_fit < 1:
            raise InputError(f"lack_of_fit: received {self.lack_of_fit!r}. Allowed: (0, 1)")
        if self.widths < 3:
            raise InputError(f"widths: received {self.widths!r}. Allowed: three or more")


@dataclass(frozen=True)
class Ratio:
    """An equivalence ratio, or why there is none.

    Attributes:
        estimate: width of the treatment over that of the control at equal accuracy; None where it is not
            identifiable. Below 1 the treatment needs less.
        interval: of it; None with the estimate.
        reasons: the gates that failed, in words; empty where the ratio is identifiable.
        levels: accuracies that both arms reach, ascending; empty where there are none.
        ratios: the ratio read off the arms' means at each level, whether identifiable or not.
        fit: all figures behind it. Its own ratio assumes that the gates were passed.
    """

    estimate: float | None
    interval: tuple[float, float] | None
    reasons: tuple[str, ...]
    levels: tuple[float, ...]
    ratios: tuple[float, ...]
    fit: SharedCurve | ParallelLine

    @property
    def identifiable(self) -> bool:
        """Whether every gate was passed."""
        return not self.reasons


def curve_ratio(
    widths: ArrayLike,
    accuracies: ArrayLike,
    treatment: ArrayLike,
    confidence: float = 0.95,
    gates: Gates | None = None,
) -> Ratio:
    """Estimate the equivalence ratio from the shared curve; the interval is the t-based one.

    Args:
        widths: shape (n,): filters, or MACs; five or more staggered ones in each arm, on the steep part.
        accuracies: shape (n,), one for each training.
        treatment: shape (n,), True for the treatment.
        confidence: two-sided.
        gates: the defaults unless given.

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

    It is 1 / the relative potency of the treatment.

    Args:
        widths: shape (n,): filters, or MACs.
        accuracies: shape (n,), one for each training.
        treatment: shape (n,), True for the treatment.
        blocks: as for `parallel_line`.
        confidence: two-sided.
        gates: the defaults unless given.

    Raises:
        InputError: as `parallel_line`.

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
    p_linearity = {row.source: row.p_value for row in fit.anova}["Non-linearity"]
    reasons = _reasons(data, gates or Gates(), fit.g, fit.slope_interval, p_linearity)
    low, high = fit.interval
    return _gated(data, fit, 1 / fit.potency, (1 / high, 1 / low if low > 0 else float("inf")), reasons)


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
    # Each gate is put so that NaN fails it.
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
    """Widths, mean accuracies and replicates of the control and of the treatment, by increasing width."""
    arms = []
    for arm in (~data.test, data.test):
        widths, index, counts = np.unique(data.doses[arm], return_inverse=True, return_counts=True)
        means = np.bincount(index, data.responses[arm]) / counts
        arms.append((widths.tolist(), means.tolist(), counts.tolist()))
    return arms[0], arms[1]


def _common(data: Observations) -> tuple[list[float], list[float]]:
    """The widths of each arm whose mean accuracy lies in the range that both arms reach."""
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
    """Read the ratio off at several accuracies, without a model of the curve.

    Each arm's means are made monotone in the width (isotonic least squares, weighted by replicates) and
    joined by lines over ln(width). At an accuracy, the ratio is the treatment's width over the control's.

    Args:
        widths: shape (n,).
        accuracies: shape (n,).
        treatment: shape (n,), True for the treatment.
        count: levels, at least two, evenly over the range of accuracies that both arms reach.

    Returns:
        Levels, ascending, and ratios, of length `count`; both empty where the arms share no range.

    Raises:
        InputError: as `parallel_line`, or `count` is below two.

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
        # Of a flat stretch, the cheapest width is what its accuracy takes.
        first = np.concatenate(([True], np.diff(rising) > 0))
        steps.append((rising[first], np.log(doses)[first]))
    low, high = max(steps[0][0][0], steps[1][0][0]), min(steps[0][0][-1], steps[1][0][-1])
    if not low < high:
        return (), ()
    levels = np.linspace(low, high, count)
    control, treated = (np.interp(levels, *step) for step in steps)
    return tuple(levels.tolist()), tuple(np.exp(treated - control).tolist())
