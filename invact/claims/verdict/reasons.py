"""A claim's reasons in words, as a researcher may paste them into a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invact.statistics.ratios.equivalence import Ratio
from invact.statistics.sequential.group_sequential import Decision
from invact.statistics.sequential.ladder import Comparison, Verdict
from invact.statistics.sequential.procedures import Method, Procedure, ProcedureResult

if TYPE_CHECKING:
    from invact.claims.keys import ClaimFile
    from invact.claims.verdict.result import CurveResult, RatioResult, SetResult
    from invact.statistics.comparison.diagnostics import Diagnostics

__all__ = ["points", "ratio_reasons", "set_reasons"]


def points(fraction: float) -> str:
    """Write a difference in accuracy in points, with its sign.

    Example:
        >>> points(-0.0012)
        '-0.12'
    """
    return f"{100 * fraction:+.2f}"


def _interval(outcome: ProcedureResult, level: float) -> str:
    if outcome.interval is None:
        return ""
    low, high = (points(bound) for bound in outcome.interval)
    return f"{level:.0%} interval {low} to {high}"


def _pairs(outcome: ProcedureResult, procedure: Procedure) -> str:
    if procedure.method is Method.SEQUENTIAL:
        looks = ", ".join(str(look.n) for look in outcome.taken)
        return f"{outcome.n} pairs of seeds, looks at {looks}, adjusted for the looks"
    if procedure.method is Method.ANYTIME:
        return f"{outcome.n} pairs of seeds, valid at any time"
    return f"{outcome.n} pairs of seeds"


def ratio_reasons(one: RatioResult, file: ClaimFile, procedure: Procedure) -> tuple[str, ...]:
    """Say what was found at one ratio, test by test.

    Args:
        one: its result; the reasons in it are not read.
        file: the claim's values.
        procedure: what the tests followed.
    """
    rung, level = one.rung, 1 - 2 * procedure.alpha
    first = rung.non_inferiority
    assert first is not None
    outcome = first.outcome
    assert outcome.estimate is not None
    assert outcome.p_value is not None
    assert outcome.p_inferior is not None
    margin = 100 * outcome.margin
    interval = _interval(outcome, level)
    if one.population:
        low, high = (points(bound) for bound in one.population)
        interval += f", {low} to {high} for the population of images"
    found = f"{points(outcome.estimate)} points ({interval}; {_pairs(outcome, procedure)})"
    where = (
        f"At {rung.ratio:g} of the filters ({one.macs_ratio:.3g} of the MACs, {one.params_ratio:.3g} of the "
        f"parameters) {file.treatment}"
    )
    reasons = []
    if outcome.decision is Decision.NON_INFERIOR:
        reasons.append(
            f"{where} loses less than {margin:.2g} points of test accuracy to {file.control}: {found}, "
            f"p = {outcome.p_value:.2g}."
        )
        if rung.superiority and rung.superiority.shown:
            reasons.append(f"It is better than {file.control}: p = {rung.superiority.p_value:.2g}.")
        elif outcome.interval and outcome.interval[1] < outcome.margin:
            reasons.append(f"The two are equivalent: the whole interval is within {margin:.2g} points.")
    elif outcome.decision is Decision.INFERIOR:
        reasons.append(
            f"{where} loses more than {margin:.2g} points of test accuracy to {file.control}: {found}, "
            f"p = {outcome.p_inferior:.2g}."
        )
    else:
        why = "the test was stopped as futile" if outcome.decision is Decision.FUTILE else "nothing is shown"
        reasons.append(
            f"{where} is not shown to lose less than {margin:.2g} points of test accuracy to {file.control}, "
            f"nor to lose more: {found}; {why}."
        )
    if first.excluded:
        kept = "holds" if first.per_protocol else "does not hold"
        reasons.append(
            f"{first.excluded} of the pairs have a run that diverged or collapsed; it counts at chance. "
            + (f"Without these pairs the result {kept}." if outcome.shown else "")
        )
    reasons += _beats(rung.placebo, f"{file.control} at the same filters", first)
    if rung.macs_verdict is not None:
        reasons += _beats(rung.matched, f"{file.control} at the same MACs", first)
    elif outcome.shown:
        reasons.append("It saves no MACs.")
    for arm, other in one.also.items():
        reasons.append(_difference(f"{arm} at the same filters", other))
    if one.diagnostics:
        reasons.append(_diagnostics(one.diagnostics))
    return tuple(reason.strip() for reason in reasons)


def _diagnostics(found: Diagnostics) -> str:
    parts = [f"{'exact ' if found.sign_flip.exact else ''}sign flips p = {found.sign_flip.p_value:.2g}"]
    if found.left_out:
        parts.append(f"without any one seed p is at most {max(found.left_out):.2g}")
    parts.append(f"the smallest margin that holds is {100 * found.smallest_margin:.2f} points")
    if found.spread_ratio is not None:
        parts.append(f"the treatment's spread is {found.spread_ratio:.2f} times the control's")
    return f"Diagnostics, not adjusted for the looks: {', '.join(parts)}."


def _beats(found: Comparison | None, other: str, first: Comparison) -> list[str]:
    if found is None:
        return [] if not first.shown else [f"It was not compared with {other}."]
    if found.shown:
        return [f"It is better than {other}: {_numbers(found)}."]
    if found.outcome.decision is Decision.INFERIOR:
        return [f"It is worse than {other}: {_numbers(found)}."]
    return [f"It is not shown to be better than {other}: {_numbers(found)}."]


def _numbers(found: Comparison) -> str:
    outcome = found.outcome
    assert outcome.estimate is not None
    assert outcome.interval is not None
    assert outcome.p_value is not None
    low, high = (points(bound) for bound in outcome.interval)
    text = (
        f"{points(outcome.estimate)} points ({low} to {high}), {outcome.n} pairs, p = {outcome.p_value:.2g}"
    )
    if outcome.shown and not found.per_protocol:
        text += ", but not without the pairs in which a run diverged or collapsed"
    return text


def _difference(other: str, found: Comparison) -> str:
    return f"Against {other}: {_numbers(found)}."


def set_reasons(result: SetResult, file: ClaimFile) -> tuple[str, ...]:
    """Say what the claim came to on one data set.

    Args:
        result: its result; the reasons in it are not read.
        file: the claim's values.
    """
    plan, registered = result.plan, result.preregistration
    gain = f"{points(plan.assay.gain)} points, lower 95 % bound {points(plan.assay.bound)}"
    if plan.margin is None:
        return (
            f"No assay sensitivity: in the pilot of {file.pilot} seeds {file.control} gains {gain}, over "
            f"itself at {min(file.ratios):g} of the filters. Where shrinking alone costs nothing, that an "
            "arm loses nothing says nothing. No claim is allowed on this task with this recipe.",
        )
    source = "fixed in the file" if file.margin is not None else "planned from the pilot"
    reasons = [
        f"{_headline(result)}",
        f"The margin, {100 * plan.margin:.2g} points, was {source}, where {file.control} gains {gain}, over "
        f"itself at {min(file.ratios):g} of the filters.",
    ]
    if plan.keeps is not None and plan.keeps < 0.5 - 1e-9:
        reasons.append(
            f"Beware: a margin this wide may give up all but {max(0.0, plan.keeps):.0%} of that gain."
        )
    if plan.power is not None and plan.power < file.power:
        reasons.append(f"The power, were the arms equal, is {plan.power:.0%}, less than planned.")
    for one in result.ratios:
        reasons.append(" ".join(one.reasons))
    missed = sorted(set(file.ratios) - {one.rung.ratio for one in result.ratios}, reverse=True)
    if missed:
        tested = ", ".join(f"{ratio:g}" for ratio in missed)
        reasons.append(f"Not tested, as the ladder had ended: {tested} of the filters.")
    if result.repeat:
        came = "came out equal" if result.repeat.equal else "did NOT come out equal"
        low, high = (points(bound) for bound in result.repeat.interval)
        reasons.append(
            f"The negative control, {file.control} against itself on {result.repeat.n} other seeds, {came}: "
            f"{points(result.repeat.mean)} points ({low} to {high}), p = {result.repeat.test.p_value:.2g}."
        )
    if result.curve:
        reasons.append(_curve(result.curve, file))
    if result.reruns:
        reasons.append(
            f"{len(result.reruns)} runs failed for a fault of the machine and were run again with their seed."
        )
    if registered:
        reasons.append(f"Registered on {registered.made} as {registered.sha256[:12]}.")
        reasons += [f"DEVIATION, {one}." for one in registered.deviations]
    return tuple(reasons)


def _headline(result: SetResult) -> str:
    best = [one for one in result.ratios if one.rung.verdict is Verdict.SUPPORTED]
    cheap = [one for one in best if one.rung.macs_verdict is Verdict.SUPPORTED]
    filters = f"Fewer filters at equal accuracy: {result.filters_verdict}"
    if best:
        filters += f", at {best[-1].rung.ratio:g} of the filters"
    macs = f"Fewer MACs at equal accuracy: {result.verdict}"
    if result.verdict is Verdict.SUPPORTED and cheap:
        macs += f", at {cheap[-1].macs_ratio:.3g} of the MACs"
    elif cheap:
        macs += ": a ratio is shown, but the equivalence ratio of MACs may be 1 or more"
    elif best and not any(one.rung.macs_verdict is not None for one in result.ratios):
        macs += ": no ratio that was tested saves any"
    return f"{macs}. {filters}."


def _curve(curve: CurveResult, file: ClaimFile) -> str:
    def one(ratio: Ratio) -> str:
        if ratio.estimate is None or ratio.interval is None:
            read = (
                f" (read off at several accuracies: {min(ratio.ratios):.2f} to {max(ratio.ratios):.2f})"
                if ratio.ratios
                else ""
            )
            return f"not identifiable, as {'; '.join(ratio.reasons)}{read}"
        low, high = ratio.interval
        return f"{ratio.estimate:.3f} (95 % interval {low:.3f} to {high:.3f})"

    return (
        f"For the accuracy of {file.control}, {file.treatment} needs this part of the filters: "
        f"{one(curve.filters)}; of the MACs: {one(curve.macs)}. By parallel lines: of the filters "
        f"{one(curve.filters_line)}; of the MACs {one(curve.macs_line)}."
    )
