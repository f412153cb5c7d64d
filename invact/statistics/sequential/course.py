"""The course of a claim: which runs it needs next, and what it concludes, from the runs so far."""
# A pure function of the runs. The protocol trains what it wants, a simulation draws it, and a forecast counts
# it: the error rates in the docs are therefore those of the code that gives the verdict.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from invact.statistics.comparison.inference import Welch, welch
from invact.statistics.sequential.failures import FIRST, Arm, Runs
from invact.statistics.sequential.ladder import Rung, Verdict, climb, overall
from invact.statistics.sequential.power import MarginPlan, plan_margin, planning_spread, power, sample_size
from invact.statistics.sequential.procedure import Procedure

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONFIRMATION",
    "PILOT",
    "SCREEN",
    "Course",
    "NegativeControl",
    "Network",
    "Rules",
    "advance",
    "confirmation_arm",
    "follow",
    "select_ratio",
]

PILOT, SCREEN, CONFIRMATION = "pilot", "screen", "confirmation"
ALARM = 0.01
"""Two-sided level of the negative control: a claim that is in order is stopped by it this often."""

MOST = 100
"""Largest number of runs that is planned: only margins that are too small to matter need more."""

Network = tuple[str, float]
"""A role (`control`, `treatment`, `placebo` or `matched`) and a ratio of filters; 1 for the control."""

_CONTROL: Network = ("control", 1.0)


@dataclass(frozen=True)
class Rules:
    """The rules of a claim, which are fixed before its first run.

    Attributes:
        ratios: filters of the treatment divided by filters of the control, from the largest to the smallest.
        macs_ratios: ratio -> MACs of the treatment divided by MACs of the control.
        margin: non-inferiority margin, as a fraction; None if the pilot fixes it by `plan_margin`.
        cap: largest margin that the pilot may fix, as a fraction.
        procedure: the test of every comparison.
        pilot: number of runs of the control, and of the placebo at the smallest ratio, in the pilot.
        screen: number of runs of the treatment at each ratio in the screen.
        ladder: whether all ratios are tested in a fixed sequence, instead of the one that the screen selects.
        floor: smallest standard deviation of an arm, as a fraction: half an image.
        power: if given, the test has one look, and pilot and screen plan its number of runs for this power;
            `procedure` then gives only the level.
    """

    ratios: tuple[float, ...]
    macs_ratios: Mapping[float, float]
    margin: float | None
    cap: float
    procedure: Procedure
    pilot: int = 8
    screen: int = 4
    ladder: bool = False
    floor: float = 0.0
    power: float | None = None

    @property
    def smallest(self) -> Network:
        """The placebo at the smallest ratio, which the pilot trains."""
        return ("placebo", self.ratios[-1])

    def before_confirmation(self, network: Network) -> tuple[str, int] | None:
        """The earlier step that trains a network, and its number of runs there; None if there is none."""
        if network[0] == "treatment":
            return SCREEN, self.screen
        return (PILOT, self.pilot) if network in (_CONTROL, self.smallest) else None


@dataclass(frozen=True)
class NegativeControl:
    """The control compared with itself: its runs in the pilot against its first runs in the confirmation.

    Attributes:
        test: Welch's test of confirmation - pilot; no runs are trained for it.
        p_value: two-sided p value.
        passed: whether the p value is at least `ALARM`. If not, something changed between the two steps.
    """

    test: Welch
    p_value: float
    passed: bool


@dataclass(frozen=True)
class Course:
    """What a claim has found so far, and what it needs next.

    Attributes:
        verdict: verdict on fewer filters so far.
        macs_verdict: verdict on fewer MACs so far.
        wanted: (step, network) -> number of runs that the network needs in the step; empty at the end.
        assay: gain of the control over the placebo; None before the end of the pilot.
        margin: the margin; None before the end of the pilot, and without assay sensitivity.
        fences: network -> validation accuracy below which a run has failed, where it is fixed before the
            confirmation.
        screened: ratio -> mean validation accuracy of the runs that trained; empty before the screen's end.
        selected: the ratios that are tested, from the largest; empty before the screen's end.
        spread: standard deviation of the accuracy of an arm, the root of the mean of the variances of the
            control in the pilot and the treatment in the screen; None before the screen's end.
        procedure: the test of every comparison; None before the screen's end.
        rungs: results of the tests.
        negative: the negative control; None before the first look.
        failed: the networks with more failed runs than are allowed; they end the claim.
    """

    verdict: Verdict = Verdict.INCONCLUSIVE
    macs_verdict: Verdict = Verdict.INCONCLUSIVE
    wanted: Mapping[tuple[str, Network], int] = field(default_factory=dict)
    assay: MarginPlan | None = None
    margin: float | None = None
    fences: Mapping[Network, float] = field(default_factory=dict)
    screened: Mapping[float, float] = field(default_factory=dict)
    selected: tuple[float, ...] = ()
    spread: float | None = None
    procedure: Procedure | None = None
    rungs: tuple[Rung, ...] = ()
    negative: NegativeControl | None = None
    failed: tuple[Network, ...] = ()

    @property
    def taken_back(self) -> bool:
        """Whether the negative control has failed, so that no verdict is SUPPORTED."""
        return self.negative is not None and not self.negative.passed


def follow(
    rules: Rules,
    runs: Callable[[str, Network, int], Runs],
    reached: Callable[[Course], None] = lambda course: None,
) -> tuple[Course, Counter[tuple[str, Network]]]:
    """Follow a claim from its first run to its end.

    The course sees only the runs that it has asked for, also if there are more. Therefore a claim that is
    continued has the same end as one that was not interrupted.

    Args:
        rules: the rules.
        runs: returns the first runs of a network in a step; the number is the third argument.
        reached: called with each course, the last one included, before its runs are read.

    Returns:
        The end, and the number of runs that it has asked for, by step and network.

    Raises:
        InputError: as `advance`.

    Example:
        >>> from invact.statistics.sequential.procedure import Procedure
        >>> rules = Rules((0.5,), {0.5: 0.5}, None, 0.003, Procedure())
        >>> course, trained = follow(rules, lambda step, network, count: Runs([0.1] * count))
        >>> str(course.verdict), trained.total()
        ('NO_ASSAY_SENSITIVITY', 16)
    """
    trained: Counter[tuple[str, Network]] = Counter()

    def asked(step: str, network: Network) -> Runs:
        return runs(step, network, trained[step, network])

    while True:
        course = advance(rules, asked)
        reached(course)
        if not course.wanted:
            return course, +trained
        trained |= Counter(course.wanted)


def advance(rules: Rules, runs: Callable[[str, Network], Runs]) -> Course:
    """Compute the course of a claim from the runs so far.

    1. Pilot: the control and the placebo at the smallest ratio. It fixes the margin.
    2. Screen: the treatment at each ratio. `select_ratio` selects one on validation accuracy.
    3. Confirmation on new seeds: `climb`, with test accuracy.

    In each step a failed run is replaced by the next seed of its network. More than two failed runs of a
    network end what needs it: the claim, a ratio of the screen, or the claim on MACs.

    Args:
        rules: the rules.
        runs: returns the runs of a network in a step, in the order of the seeds.

    Raises:
        InputError: as `welch`.

    Example:
        >>> from invact.statistics.sequential.procedure import Procedure
        >>> rules = Rules((0.5,), {0.5: 0.5}, None, 0.003, Procedure())
        >>> dict(advance(rules, lambda step, network: Runs()).wanted)
        {('pilot', ('control', 1.0)): 8, ('pilot', ('placebo', 0.5)): 8}
    """
    # Before the margin is fixed, the fence uses the largest margin that is allowed.
    widest = rules.cap if rules.margin is None else rules.margin
    pilot = {
        network: Arm(runs(PILOT, network), widest, first=rules.pilot)
        for network in (_CONTROL, rules.smallest)
    }
    if failed := _ended(pilot):
        return Course(failed=failed)
    if wanted := _wanted(PILOT, pilot, rules.pilot):
        return Course(wanted=wanted)
    control, placebo = (arm.trained[: rules.pilot] for arm in pilot.values())
    assay = plan_margin(control, placebo, rules.cap, floor=rules.floor)
    if not assay.assay_sensitivity:
        nothing = Verdict.NO_ASSAY_SENSITIVITY
        return Course(nothing, nothing, assay=assay)
    margin = assay.margin if rules.margin is None else rules.margin
    arms = {
        network: Arm(runs(PILOT, network), margin, first=rules.pilot)
        for network in (_CONTROL, rules.smallest)
    }
    found = Course(assay=assay, margin=margin)
    if failed := _ended(arms):
        return replace(found, failed=failed)
    return _screen(rules, runs, arms, found)


def confirmation_arm(
    rules: Rules, runs: Callable[[str, Network], Runs], network: Network, margin: float, procedure: Procedure
) -> Arm:
    """A network in the confirmation. Its runs in the pilot or the screen set its fence, if it has any.

    Args:
        rules: the rules.
        runs: as for `advance`.
        network: the network.
        margin: the margin, as a fraction.
        procedure: the test of every comparison.
    """
    new, before = runs(CONFIRMATION, network), rules.before_confirmation(network)
    if before is None:
        return Arm(new, margin, first=min(FIRST, procedure.looks[0]))
    step, first = before
    return Arm(new, margin, runs(step, network), first)


def _screen(
    rules: Rules, runs: Callable[[str, Network], Runs], arms: Mapping[Network, Arm], found: Course
) -> Course:
    assert found.margin is not None
    treated = {
        ("treatment", ratio): Arm(runs(SCREEN, ("treatment", ratio)), found.margin, first=rules.screen)
        for ratio in rules.ratios
    }
    open_arms = {network: arm for network, arm in treated.items() if not arm.ended}
    if wanted := _wanted(SCREEN, open_arms, rules.screen):
        return replace(found, wanted=wanted)
    screened = {ratio: arm.validated for (_, ratio), arm in open_arms.items()}
    one = select_ratio(arms[_CONTROL].validated, screened, rules.ratios, found.margin)
    selected = rules.ratios if rules.ladder else (one,)
    spread = _spread(arms[_CONTROL], treated["treatment", selected[-1]], rules.floor)
    found = replace(
        found,
        screened={ratio: float(values.mean()) for ratio, values in screened.items()},
        selected=selected,
        spread=spread,
        procedure=_planned(rules, spread, found.margin),
        fences={network: arm.fence for network, arm in {**arms, **treated}.items() if arm.fence is not None},
    )
    return _confirm(rules, runs, arms[_CONTROL], found)


def _confirm(rules: Rules, runs: Callable[[str, Network], Runs], pilot: Arm, found: Course) -> Course:
    assert found.margin is not None
    assert found.procedure is not None
    margin, procedure = found.margin, found.procedure
    control = confirmation_arm(rules, runs, _CONTROL, margin, procedure)
    arms = {
        ratio: {
            role: confirmation_arm(rules, runs, (role, ratio), margin, procedure)
            for role in ("treatment", "placebo", "matched")
        }
        for ratio in found.selected
    }
    rungs = climb(control, arms, rules.macs_ratios, margin, procedure, rules.floor)
    last = rungs[-1]
    filters, macs = overall(rungs)
    negative = _negative(pilot.trained, control.trained, procedure, rules.floor)
    if negative and not negative.passed:
        filters, macs = (_at_most_inconclusive(verdict) for verdict in (filters, macs))
    named = {role: _CONTROL if role == "control" else (role, last.ratio) for role in last.failures}
    return replace(
        found,
        verdict=filters,
        macs_verdict=macs,
        wanted={(CONFIRMATION, named[role]): count for role, count in last.wanted.items()},
        rungs=rungs,
        negative=negative,
        failed=tuple(named[role] for role in last.failed),
    )


def _spread(control: Arm, treatment: Arm, floor: float) -> float:
    arms = [arm.trained for arm in (control, treatment) if len(arm.trained) > 1]
    return math.sqrt(float(np.mean([max(float(values.var(ddof=1)), floor**2) for values in arms])))


def _planned(rules: Rules, spread: float, margin: float) -> Procedure:
    """The test of the rules; if it has a planned number of runs, the number that the power needs."""
    if rules.power is None:
        return rules.procedure
    spread, alpha = planning_spread(spread, margin), rules.procedure.alpha
    runs = MOST
    if power(MOST, spread, margin, 0.0, alpha) >= rules.power:
        runs = max(FIRST, sample_size(spread, margin, 0.0, alpha, rules.power))
    return replace(rules.procedure, looks=(runs,))


def _negative(
    pilot: NDArray[np.float64], confirmation: NDArray[np.float64], procedure: Procedure, floor: float
) -> NegativeControl | None:
    # Later runs are not used: the test stops sooner if the control happens to be low, so its mean over all
    # runs is biased.
    first = confirmation[: procedure.looks[0]]
    if len(first) < procedure.looks[0] or len(pilot) < 2:
        return None
    test = welch(first, pilot, 0.0, floor)
    p_value = 2 * min(test.p_value, test.p_inferior, 0.5)
    return NegativeControl(test, p_value, p_value >= ALARM)


def _at_most_inconclusive(verdict: Verdict) -> Verdict:
    return Verdict.INCONCLUSIVE if verdict is Verdict.SUPPORTED else verdict


def select_ratio(
    control: NDArray[np.float64],
    treatment: Mapping[float, NDArray[np.float64]],
    ratios: tuple[float, ...],
    margin: float,
) -> float:
    """Select the ratio that is confirmed: the smallest one whose loss in the screen is below half a margin.

    Args:
        control: validation accuracies of the control's runs that trained, as fractions; shape (n,).
        treatment: ratio -> validation accuracies of the treatment's runs that trained; a ratio at which too
            many runs failed is left out.
        ratios: all ratios.
        margin: non-inferiority margin, as a fraction.

    Returns:
        The smallest ratio whose mean is at least the control's mean - margin / 2. If there is none, the
        largest ratio that is not left out.

    Example:
        >>> import numpy as np
        >>> screened = {0.75: np.array([0.90, 0.91]), 0.5: np.array([0.86, 0.85])}
        >>> select_ratio(np.array([0.90, 0.91]), screened, (0.75, 0.5), margin=0.01)
        0.75
    """
    least = control.mean() - margin / 2
    near = [ratio for ratio, values in treatment.items() if values.mean() >= least]
    return min(near) if near else max(treatment or ratios)


def _ended(arms: Mapping[Network, Arm]) -> tuple[Network, ...]:
    return tuple(network for network, arm in arms.items() if arm.ended)


def _wanted(step: str, arms: Mapping[Network, Arm], n: int) -> dict[tuple[str, Network], int]:
    return {
        (step, network): count for network, arm in arms.items() if (count := arm.wanted(n)) > len(arm.runs)
    }
