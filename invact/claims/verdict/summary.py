"""A claim in a few lines: one sentence for each verdict, and the most important reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from invact.claims.cells import cell_key
from invact.claims.verdict.reasons import FLAGGED, interval_text, listed, points, points_text
from invact.statistics.sequential.ladder import Rung, Verdict
from invact.statistics.sequential.procedure import Decision, Outcome

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile
    from invact.claims.verdict.result import RatioResult, SetResult

__all__ = ["COLUMNS", "MOST_LINES", "brief_reasons", "headlines", "within_lines"]

COLUMNS = 78
"""Most characters of a line of text."""
MOST_LINES = 10
"""Most lines of reasons below the table."""


def headlines(result: SetResult, file: ClaimFile) -> tuple[str, str]:
    """Write one sentence for the verdict on filters and one for the verdict on MACs.

    Args:
        result: result on the data set; its reasons are ignored.
        file: values of the claim's file.
    """
    blocked = _blocked(result, file)
    return (
        f"Fewer filters: {result.filters_verdict}. {blocked or _filters(result, file)}",
        f"Fewer MACs: {result.verdict}. {blocked or _macs(result, file)}",
    )


def _blocked(result: SetResult, file: ClaimFile) -> str:
    """The reason why no test counts, if there is one."""
    course = result.course
    control, _ = file.names
    if result.plan.assay is not None and result.plan.margin is None:
        return (
            f"In the pilot, {control} gains {points(result.plan.assay.gain)} points (lower 95 % bound "
            f"{points(result.plan.assay.bound)}) over itself at {min(file.ratios):g} of the filters, so the "
            "equal accuracy of a smaller network would be no evidence."
        )
    if course.taken_back and course.negative:
        return (
            f"Nothing counts as shown, because {control} in the confirmation differs from "
            f"{control} in the pilot by {points(course.negative.test.difference)} points "
            f"(p = {course.negative.p_value:.2g})."
        )
    if result.ratios:
        return ""
    failed = listed(cell_key(*network) for network in course.failed) if course.failed else ""
    return (
        f"Nothing was tested, because too many runs of {failed} failed." if failed else "Nothing was tested."
    )


def _filters(result: SetResult, file: ClaimFile) -> str:
    found = [one for one in result.ratios if one.rung.verdict is Verdict.SUPPORTED and one.rung.ratio < 1]
    one = found[-1] if found else result.ratios[-1]
    return _equal(one, file, f"{one.rung.ratio:g} of the filters")


def _macs(result: SetResult, file: ClaimFile) -> str:
    control, treatment = file.names
    saving = [one for one in result.ratios if one.rung.macs_verdict is not None]
    shown = [one for one in saving if one.rung.macs_verdict is Verdict.SUPPORTED]
    if shown:
        one = shown[-1]
        if result.verdict is not Verdict.SUPPORTED:
            return (
                f"With {one.macs_ratio:.3g} of the MACs every test passed, but by its curve {treatment} "
                f"needs more MACs than {control} for equal accuracy."
            )
        return _matched(one, file)
    # The first ratio that fails ends the claim on MACs; a ratio that saves none can end the ladder before.
    one = (saving or list(result.ratios[-1:]))[0]
    rung = one.rung
    if rung.non_inferiority.shown and rung.macs_verdict is None:
        return (
            f"No ratio that was tested saves MACs: with {rung.ratio:g} of the filters, {treatment} has "
            f"{one.macs_ratio:.3g} of the MACs."
        )
    if rung.verdict is Verdict.SUPPORTED:
        return _matched(one, file)
    return _equal(one, file, f"{one.macs_ratio:.3g} of the MACs")


def _equal(one: RatioResult, file: ClaimFile, share: str) -> str:
    """The sentence on the accuracy of the treatment against the control, and then against the placebo."""
    rung, outcome = one.rung, one.rung.non_inferiority
    control, treatment = file.names
    margin = f"the margin of {points_text(100 * outcome.margin)}"
    if rung.failed:
        return f"With {share}, too many runs of {listed(rung.failed)} failed."
    if outcome.estimate is None:
        return f"With {share}, there were too few runs for a comparison."
    if outcome.decision is Decision.INFERIOR:
        return (
            f"With {share}, {treatment} loses more than {margin} against {control}: the difference "
            f"is {_difference(outcome)}."
        )
    if not outcome.shown:
        return (
            f"With {share}, {treatment} is shown neither to stay within {margin} of {control} nor "
            f"to lose more: the difference is {_difference(outcome)}."
        )
    near = f"With {share}, {treatment} is as accurate as {control} within {margin}"
    if rung.verdict is Verdict.SUPPORTED:
        return f"{near}: the difference is {_difference(outcome)}."
    if rung.placebo is None or not rung.placebo.shown:
        return f"{near}, but {_against(rung.placebo, f'{control} with as few filters')}."
    if not rung.enough_runs:
        return f"{near}, but it has fewer runs than its number of failures asks for."
    return f"{near}, but no ratio below 1 was tested."


def _matched(one: RatioResult, file: ClaimFile) -> str:
    """The sentence on the treatment, which is not inferior, against the arm with as many MACs."""
    rung: Rung = one.rung
    control, treatment = file.names
    joint = "and" if rung.matched and rung.matched.shown else "but"
    against = _against(rung.matched, f"a {control} network with at least its MACs")
    return (
        f"With {one.macs_ratio:.3g} of the MACs, {treatment} is as accurate as {control} within "
        f"the margin of {points_text(100 * rung.non_inferiority.margin)}, {joint} {against}."
    )


def _against(found: Outcome | None, other: str) -> str:
    if found is None or found.estimate is None:
        return f"it was not compared with {other}"
    how = "more accurate than" if found.shown else "not shown to be more accurate than"
    if found.decision is Decision.INFERIOR:
        how = "less accurate than"
    return f"it is {how} {other}: {_difference(found)}"


def _difference(found: Outcome) -> str:
    assert found.estimate is not None
    assert found.interval is not None
    interval = interval_text(found.interval)
    return f"{points(found.estimate)} points (interval {interval}, {found.n} runs of each arm)"


def brief_reasons(result: SetResult, file: ClaimFile) -> tuple[str, ...]:
    """Write the reasons that a reader needs first, the most important one first.

    Args:
        result: result on the data set; its reasons are ignored.
        file: values of the claim's file.
    """
    plan, course = result.plan, result.course
    control, treatment = file.names
    reasons = []
    if result.preregistration and result.preregistration.deviations:
        reasons.append("The claim DEVIATES from its registered design; the report gives the reason.")
    if plan.margin is not None and plan.assay is not None:
        fixed = "planned from the pilot, where" if file.margin is None else "fixed in the file. In the pilot,"
        reasons.append(
            f"The margin of {points_text(100 * plan.margin)} was {fixed} {control} gains "
            f"{points(plan.assay.gain)} points over itself at {min(file.ratios):g} of the filters."
        )
    if plan.keeps is not None and plan.keeps < 0.5 - 1e-9:
        reasons.append(
            f"Caution: a loss within the margin may leave only {max(0.0, plan.keeps):.0%} of this gain."
        )
    if plan.power is not None and plan.power < file.power:
        reasons.append(f"Caution: if the arms are equal, the power is only {plan.power:.0%}.")
    alone = len(result.ratios) == 1
    named = [(one, "" if alone else f" with {one.rung.ratio:g} of the filters") for one in result.ratios]
    for one, where in named:
        reasons += _differences(one, file, where)
    if result.curve and result.curve.filters.estimate is not None and result.curve.macs.estimate is not None:
        reasons.append(
            f"By its curve, {treatment} needs {result.curve.filters.estimate:.3f} of the filters and "
            f"{result.curve.macs.estimate:.3f} of the MACs for equal accuracy."
        )
    if course.selected and not file.ladder and len(file.ratios) > 1:
        ratios = listed(f"{ratio:g}" for ratio in sorted(file.ratios, reverse=True))
        reasons.append(f"Of the ratios {ratios}, the screen selected {course.selected[0]:g}.")
    for one, where in named:
        failed = [
            f"{one.rung.failures[role][0]} of {one.rung.failures[role][1]} of {arm}"
            for role, arm in (("treatment", treatment), ("control", control))
        ]
        reasons.append(f"Failed runs{where}: {listed(failed)}.")
    return tuple(reasons)


def _differences(one: RatioResult, file: ClaimFile, where: str) -> list[str]:
    control, _ = file.names
    others = [
        (one.rung.placebo, f"{control} at the same filters"),
        (one.rung.matched, f"{control} at {1 + one.matched_excess:.3g} times its MACs"),
        *((outcome, f"{arm} at the same filters") for arm, outcome in one.also.items()),
    ]
    reasons = [
        f"Difference{where} to {other}: {points(found.estimate)} points ({interval_text(found.interval)})."
        for found, other in others
        if found is not None and found.estimate is not None and found.interval is not None
    ]
    if one.rung.macs_verdict is not None and one.matched_excess > FLAGGED:
        reasons.append(
            f"Caution{where}: the smallest {control} network with its MACs has {one.matched_excess:.1%} more."
        )
    return reasons


def within_lines(reasons: Iterable[str], most: int = MOST_LINES, columns: int = COLUMNS) -> list[str]:
    """Wrap reasons as a list, and leave out the last ones if there are more lines than allowed.

    Args:
        reasons: reasons, the most important one first.
        most: most lines.
        columns: most characters of a line.

    Example:
        >>> within_lines(["One reason.", "A reason of two lines.", "No room."], most=3, columns=15)
        ['- One reason.', '- A reason of', '  two lines.']
    """
    lines: list[str] = []
    for reason in reasons:
        wrapped = textwrap.wrap(reason, columns, initial_indent="- ", subsequent_indent="  ")
        if len(lines) + len(wrapped) > most:
            break
        lines += wrapped
    return lines
