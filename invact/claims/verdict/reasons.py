"""The reasons for a verdict, as full sentences that a researcher can paste into a paper."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from invact.claims.cells import cell_key
from invact.statistics.ratios.equivalence import Ratio
from invact.statistics.ratios.local import LocalRatio
from invact.statistics.sequential.failures import failure_bound
from invact.statistics.sequential.procedure import Decision, Outcome

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile
    from invact.claims.verdict.result import CurveResult, RatioResult, SetResult
    from invact.statistics.comparison.diagnostics import Diagnostics

__all__ = [
    "FLAGGED",
    "interval_text",
    "listed",
    "points",
    "points_text",
    "ratio_reasons",
    "set_reasons",
]

FLAGGED = 0.05
"""A matched arm with more excess MACs than this is flagged: it is a harder opponent than the claim needs."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def points(fraction: float) -> str:
    """Write a difference in accuracy in points with its sign.

    Example:
        >>> points(-0.0012)
        '-0.12'
    """
    return f"{100 * fraction:+.2f}"


def listed(words: Iterable[str]) -> str:
    """Join words by commas and "and".

    Example:
        >>> listed(["1", "2", "3"])
        '1, 2 and 3'
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def points_text(count: float) -> str:
    """Write a number of points, in points and without a sign.

    Example:
        >>> points_text(0.5), points_text(1)
        ('0.5 points', '1 point')
    """
    return f"{count:.2g} point" if count == 1 else f"{count:.2g} points"


def interval_text(interval: tuple[float, float]) -> str:
    """Write an interval of differences in points.

    Example:
        >>> interval_text((-0.004, 0.0045))
        '-0.40 to +0.45'
    """
    low, high = (points(bound) for bound in interval)
    return f"{low} to {high}"


def ratio_reasons(one: RatioResult, file: ClaimFile) -> tuple[str, ...]:
    """Write what was found at one ratio, one sentence or two for each test.

    Args:
        one: result at the ratio; its own reasons are ignored.
        file: values of the claim's file.
    """
    rung = one.rung
    control, treatment = file.names
    outcome = rung.non_inferiority
    reasons = [_failures(one, file)]
    if outcome.estimate is not None and outcome.interval is not None:
        reasons = [*_accuracy(one, file, outcome), *reasons]
    beats = (treatment, outcome)
    reasons += _beats(rung.placebo, f"{control} at the same filters", *beats)
    if rung.macs_verdict is not None:
        matched = f"{control} at {1 + one.matched_excess:.3g} times its MACs"
        reasons += _beats(rung.matched, matched, *beats)
        if one.matched_excess > FLAGGED:
            reasons.append(
                f"Caution: the smallest {control} network with at least its MACs has "
                f"{one.matched_excess:.1%} more."
            )
    elif outcome.shown:
        reasons.append("This ratio saves no MACs.")
    for arm, other in one.also.items():
        if other is None:
            reasons.append(f"Too many runs failed to compare it with {arm} at the same filters.")
        else:
            reasons.append(f"Compared with {arm} at the same filters, the difference is {_numbers(other)}.")
    if one.diagnostics:
        reasons.append(_diagnostics(one.diagnostics))
    return tuple(reasons)


def _accuracy(one: RatioResult, file: ClaimFile, outcome: Outcome) -> list[str]:
    assert outcome.estimate is not None
    assert outcome.interval is not None
    control, treatment = file.names
    margin = points_text(100 * outcome.margin)
    where = (
        f"At {one.rung.ratio:g} of the filters ({one.macs_ratio:.3g} of the MACs and {one.params_ratio:.3g} "
        f"of the parameters),"
    )
    if outcome.decision is Decision.NON_INFERIOR:
        shown = f"{treatment} loses less than {margin} of test accuracy against {control}"
        reasons = [f"{where} {shown} (p = {outcome.p_value:.2g})."]
    elif outcome.decision is Decision.INFERIOR:
        shown = f"{treatment} loses more than {margin} of test accuracy against {control}"
        reasons = [f"{where} {shown} (p = {outcome.p_inferior:.2g})."]
    else:
        why = {
            Decision.FUTILE: "was stopped for futility",
            Decision.CONTINUE: "was ended before its last look",
        }.get(outcome.decision, "used all planned runs")
        reasons = [
            f"{where} the loss of {treatment} against {control} is shown neither to be less "
            f"than {margin} of test accuracy nor to be more; the test {why}."
        ]
    interval = f"repeated confidence interval {interval_text(outcome.interval)}"
    if one.population:
        interval += f"; for the population of images {interval_text(one.population)}"
    looks = listed(str(look.n) for look in outcome.taken)
    reasons.append(
        f"The difference {treatment} - {control} is {points(outcome.estimate)} points "
        f"({interval}), from {outcome.n} runs of each arm that trained, on different seeds, with looks at "
        f"{looks} runs."
    )
    if outcome.shown and outcome.interval[0] > 0:
        reasons.append(f"{treatment} is more accurate than {control}: the whole interval is above 0.")
    elif outcome.shown and outcome.interval[1] < outcome.margin:
        reasons.append(f"The two are equivalent: the whole interval lies within {margin} of zero.")
    return reasons


def _failures(one: RatioResult, file: ClaimFile) -> str:
    parts = []
    control, treatment = file.names
    for role, arm in (("treatment", treatment), ("control", control)):
        failed, runs = one.rung.failures[role]
        parts.append(
            f"{failed} of {runs} runs of {arm} failed (95 % upper bound of the probability "
            f"{failure_bound(failed, runs):.2f})"
        )
    text = f"Pilot and screen included, {listed(parts)}."
    if one.rung.failed:
        networks = listed(one.rung.failed)
        text += f" More runs failed than a claim allows: {networks}."
    elif not one.rung.enough_runs and one.rung.placebo and one.rung.placebo.shown:
        text += " The treatment has fewer runs than its number of failures asks for."
    return text


def _diagnostics(found: Diagnostics) -> str:
    exact = "exact " if found.permutation.exact else ""
    parts = [f"the {exact}permutation test gives p = {found.permutation.p_value:.2g}"]
    if found.left_out:
        parts.append(f"the largest p value without any one run is {max(found.left_out):.2g}")
    parts.append(f"the smallest margin at which the test holds is {100 * found.smallest_margin:.2f} points")
    if found.spread_ratio is not None:
        parts.append(
            f"the standard deviation of the treatment is {found.spread_ratio:.2f} times that of the control"
        )
    return f"In the diagnostics, which are not adjusted for the looks, {listed(parts)}."


def _beats(found: Outcome | None, other: str, treatment: str, first: Outcome) -> list[str]:
    if found is None or found.estimate is None:
        return [f"{treatment} was not compared with {other}."] if first.shown else []
    if found.shown:
        how = "is more accurate than"
    elif found.decision is Decision.INFERIOR:
        how = "is less accurate than"
    else:
        how = "is not shown to be more accurate than"
    return [f"{treatment} {how} {other}: the difference is {_numbers(found)}."]


def _numbers(found: Outcome) -> str:
    assert found.estimate is not None
    assert found.interval is not None
    p_value = "" if found.p_value is None else f"; p = {found.p_value:.2g}"
    return (
        f"{points(found.estimate)} points (repeated confidence interval {interval_text(found.interval)}; "
        f"{found.n} runs of each arm{p_value})"
    )


def set_reasons(result: SetResult, file: ClaimFile) -> tuple[str, ...]:
    """Write the reasons for the verdicts on one data set, one paragraph each; `headlines` gives the verdicts.

    Args:
        result: result on the data set; its own reasons are ignored.
        file: values of the claim's file.
    """
    plan, course = result.plan, result.course
    control, _ = file.names
    reasons = []
    if course.failed:
        networks = listed(cell_key(*network) for network in course.failed)
        reasons.append(f"More runs failed than a claim allows: {networks}. This ends what needs these runs.")
    if plan.assay is not None:
        gain = (
            f"{control} gains {points(plan.assay.gain)} points "
            f"(lower 95 % bound {points(plan.assay.bound)}) over itself at {min(file.ratios):g} of the "
            "filters"
        )
        if plan.margin is None:
            reasons = [
                f"The task has no assay sensitivity: in the pilot of {file.pilot} runs, {gain}. If shrinking "
                "the network costs no accuracy, the equal accuracy of a smaller arm is no evidence for this "
                "arm. No claim is allowed on this task with this recipe."
            ]
        else:
            fixed = "planned from the pilot" if file.margin is None else "fixed in the file"
            reasons.append(
                f"The margin of {points_text(100 * plan.margin)} was {fixed}. In the pilot, {gain}."
            )
    if plan.keeps is not None and plan.keeps < 0.5 - 1e-9:
        reasons.append(
            "Caution: the margin is wide. A loss within it may leave only "
            f"{max(0.0, plan.keeps):.0%} of this gain."
        )
    if plan.power is not None and plan.power < file.power:
        reasons.append(
            f"If the arms are equal, the power is {plan.power:.0%}, less than the {file.power:.0%} that "
            "the file asks for."
        )
    if course.selected and not file.ladder and len(file.ratios) > 1:
        reasons.append(
            f"The screen on validation accuracy selected the ratio {course.selected[0]:g} of "
            f"{listed(f'{ratio:g}' for ratio in sorted(file.ratios, reverse=True))}; only this one was "
            "tested."
        )
    for one in result.ratios:
        reasons.append(" ".join(one.reasons))
    missed = sorted(set(course.selected) - {one.rung.ratio for one in result.ratios}, reverse=True)
    if missed:
        reasons.append(
            f"The ladder ended before {listed(f'{ratio:g}' for ratio in missed)} of the filters, so this "
            "was not tested."
        )
    if course.negative:
        test, passed = course.negative.test, course.negative.passed
        text = (
            f"The negative control, {control} in the pilot against {control} in the confirmation, "
            f"{'passed' if passed else 'FAILED'}: the difference is {points(test.difference)} points "
            f"(p = {course.negative.p_value:.2g})."
        )
        if not passed:
            text += " Something changed between the two steps, so no verdict is SUPPORTED."
        reasons.append(text)
    if result.curve:
        reasons.append(_curve(result.curve))
    elif file.curve and plan.margin is not None and not course.failed:
        reasons.append(
            "There is no ratio at equal accuracy: too many runs of the curve failed, or the MACs of its "
            "widths are too unevenly spaced."
        )
    return (*reasons, *_provenance(result))


def _provenance(result: SetResult) -> list[str]:
    reasons = []
    if result.reruns:
        count = len(result.reruns)
        runs = "1 run failed because of a fault of the machine and was"
        if count > 1:
            runs = f"{count} runs failed because of a fault of the machine and were"
        reasons.append(f"{runs} run again with the same seed.")
    if registered := result.preregistration:
        before = len(registered.pilots)
        which = ORDINALS[before] if before < len(ORDINALS) else f"{before + 1}th"
        text = f"This is the {which} pilot with these data, arms and network in the store"
        if before:
            text += f", after {listed(f'{one.claim} ({one.started})' for one in registered.pilots)}"
        reasons += [
            f"{text}.",
            f"The design was registered on {registered.made}, before the first run; its SHA-256 begins with "
            f"{registered.sha256[:12]}.",
        ]
        reasons += [f"DEVIATION from the registered design, {one}." for one in registered.deviations]
    return reasons


def _curve(curve: CurveResult) -> str:
    control, treatment = curve.arms

    def needed(what: str) -> str:
        return f"the share of the {what} that {treatment} needs for the accuracy of {control} is"

    def local(ratio: LocalRatio, what: str) -> str:
        low, high = ("open" if end is None else f"{end:.3f}" for end in (ratio.low, ratio.high))
        about = "not identified" if ratio.estimate is None else f"{ratio.estimate:.3f}"
        text = f"By the treatment's curve, {needed(what)} {about} (95 % interval {low} to {high})."
        if ratio.reasons:
            text += f" It counts as no evidence where it is open: {'; '.join(ratio.reasons)}."
        return text

    def other(ratio: Ratio, what: str, model: str) -> str:
        if ratio.estimate is not None and ratio.interval is not None:
            low, high = ratio.interval
            return f"By {model}, {needed(what)} {ratio.estimate:.3f} (95 % interval {low:.3f} to {high:.3f})."
        return f"By {model}, {needed(what)} not identifiable, because {'; '.join(ratio.reasons)}."

    models = {"line": "parallel lines", "shared": "the shared curve"}
    names = {"filters": "filters", "macs": "MACs"}
    sentences = [local(curve.filters, "filters"), local(curve.macs, "MACs")]
    for key, ratio in curve.additions.items():
        what, model = key.split("_")
        sentences.append(other(ratio, names[what], models[model]))
    if curve.failed:
        sentences.append(f"{curve.failed} failed runs of the curve are left out.")
    return " ".join(sentences)
