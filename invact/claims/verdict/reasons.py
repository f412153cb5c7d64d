"""The reasons for a verdict, as full sentences that a researcher can paste into a paper."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Write a difference in accuracy in points with its sign.

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
    pairs = f"from {outcome.n} pairs of seeds"
    if procedure.method is Method.SEQUENTIAL:
        looks = _listed(str(look.n) for look in outcome.taken)
        return f"{pairs} with looks at {looks} pairs; the numbers are adjusted for the looks"
    if procedure.method is Method.ANYTIME:
        return f"{pairs}; the numbers are valid at any time"
    return pairs


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def ratio_reasons(one: RatioResult, file: ClaimFile, procedure: Procedure) -> tuple[str, ...]:
    """Write what was found at one ratio, one sentence or two for each test.

    Args:
        one: result at the ratio; its own reasons are ignored.
        file: values of the claim's file.
        procedure: the procedure of the tests.
    """
    rung, level = one.rung, 1 - 2 * procedure.alpha
    first = rung.non_inferiority
    assert first is not None
    outcome = first.outcome
    assert outcome.estimate is not None
    assert outcome.p_value is not None
    assert outcome.p_inferior is not None
    margin = f"{100 * outcome.margin:.2g} points"
    interval = _interval(outcome, level)
    if one.population:
        low, high = (points(bound) for bound in one.population)
        interval += f"; for the population of images {low} to {high}"
    where = (
        f"At {rung.ratio:g} of the filters ({one.macs_ratio:.3g} of the MACs and {one.params_ratio:.3g} "
        f"of the parameters),"
    )
    if outcome.decision is Decision.NON_INFERIOR:
        shown = (
            f"{where} {file.treatment} loses less than {margin} of test accuracy against {file.control} "
            f"(p = {outcome.p_value:.2g})."
        )
    elif outcome.decision is Decision.INFERIOR:
        shown = (
            f"{where} {file.treatment} loses more than {margin} of test accuracy against {file.control} "
            f"(p = {outcome.p_inferior:.2g})."
        )
    else:
        futile = outcome.decision is Decision.FUTILE
        why = "was stopped for futility" if futile else "used all planned pairs"
        shown = (
            f"{where} the loss of {file.treatment} against {file.control} is shown neither to be less "
            f"than {margin} of test accuracy nor to be more; the test {why}."
        )
    reasons = [
        shown,
        f"The difference {file.treatment} - {file.control} is {points(outcome.estimate)} points "
        f"({interval}), {_pairs(outcome, procedure)}.",
    ]
    if outcome.decision is Decision.NON_INFERIOR:
        if rung.superiority and rung.superiority.shown:
            reasons.append(
                f"{file.treatment} is more accurate than {file.control} (p = {rung.superiority.p_value:.2g})."
            )
        elif outcome.interval and outcome.interval[1] < outcome.margin:
            reasons.append(f"The two are equivalent: the whole interval lies within {margin} of zero.")
    if first.excluded:
        pairs = "1 pair contains" if first.excluded == 1 else f"{first.excluded} pairs contain"
        reasons.append(f"{pairs} a run that diverged or collapsed; such a run counts at chance level.")
        if outcome.shown:
            kept = "also holds" if first.per_protocol else "does not hold"
            reasons.append(
                f"The result {kept} without {'this pair' if first.excluded == 1 else 'these pairs'}."
            )
    beats = (file.treatment, first, level)
    reasons += _beats(rung.placebo, f"{file.control} at the same filters", *beats)
    if rung.macs_verdict is not None:
        reasons += _beats(rung.matched, f"{file.control} at the same MACs", *beats)
    elif outcome.shown:
        reasons.append("This ratio saves no MACs.")
    for arm, other in one.also.items():
        reasons.append(
            f"Compared with {arm} at the same filters, the difference is {_numbers(other, level)}."
        )
    if one.diagnostics:
        reasons.append(_diagnostics(one.diagnostics))
    return tuple(reasons)


def _diagnostics(found: Diagnostics) -> str:
    exact = "exact " if found.sign_flip.exact else ""
    parts = [f"the {exact}sign-flip test gives p = {found.sign_flip.p_value:.2g}"]
    if found.left_out:
        parts.append(f"the largest p value without any one seed is {max(found.left_out):.2g}")
    parts.append(f"the smallest margin at which the test holds is {100 * found.smallest_margin:.2f} points")
    if found.spread_ratio is not None:
        parts.append(
            f"the standard deviation of the treatment is {found.spread_ratio:.2f} times that of the control"
        )
    return f"In the diagnostics, which are not adjusted for the looks, {_listed(parts)}."


def _beats(
    found: Comparison | None, other: str, treatment: str, first: Comparison, level: float
) -> list[str]:
    if found is None:
        return [f"{treatment} was not compared with {other}."] if first.shown else []
    if found.shown:
        how = "is more accurate than"
    elif found.outcome.decision is Decision.INFERIOR:
        how = "is less accurate than"
    else:
        how = "is not shown to be more accurate than"
    return [f"{treatment} {how} {other}: the difference is {_numbers(found, level)}."]


def _numbers(found: Comparison, level: float) -> str:
    outcome = found.outcome
    assert outcome.estimate is not None
    assert outcome.p_value is not None
    text = (
        f"{points(outcome.estimate)} points ({_interval(outcome, level)}; {outcome.n} pairs; "
        f"p = {outcome.p_value:.2g})"
    )
    if outcome.shown and not found.per_protocol:
        text += ", but the result does not hold without the pairs in which a run diverged or collapsed"
    return text


def set_reasons(result: SetResult, file: ClaimFile) -> tuple[str, ...]:
    """Write the reasons for the verdicts on one data set, one paragraph each.

    Args:
        result: result on the data set; its own reasons are ignored.
        file: values of the claim's file.
    """
    plan, registered = result.plan, result.preregistration
    gain = (
        f"{file.control} gains {points(plan.assay.gain)} points "
        f"(lower 95 % bound {points(plan.assay.bound)}) over itself at {min(file.ratios):g} of the filters"
    )
    if plan.margin is None:
        return (
            f"The task has no assay sensitivity: in the pilot of {file.pilot} seeds, {gain}. If shrinking "
            "the network costs no accuracy, the equal accuracy of a smaller arm is no evidence for this arm. "
            "No claim is allowed on this task with this recipe.",
        )
    margin = f"The margin of {100 * plan.margin:.2g} points was"
    source = f"{margin} planned from the pilot. In the pilot, {gain}."
    if file.margin is not None:
        source = f"{margin} fixed in the file. In the pilot, {gain}."
    reasons = [_headline(result), source]
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
    for one in result.ratios:
        reasons.append(" ".join(one.reasons))
    missed = sorted(set(file.ratios) - {one.rung.ratio for one in result.ratios}, reverse=True)
    if missed:
        those = "ratio" if len(missed) == 1 else "ratios"
        reasons.append(
            f"The ladder ended before the {those} {_listed(f'{ratio:g}' for ratio in missed)} of the "
            f"filters, so {'it was' if len(missed) == 1 else 'they were'} not tested."
        )
    if result.repeat:
        came = "came out equal" if result.repeat.equal else "did NOT come out equal"
        low, high = (points(bound) for bound in result.repeat.interval)
        reasons.append(
            f"The negative control, {file.control} against itself on {result.repeat.n} other seeds, {came}: "
            f"the difference is {points(result.repeat.mean)} points ({1 - 2 * file.level:.0%} interval {low} "
            f"to {high}; p = {result.repeat.test.p_value:.2g} for equivalence)."
        )
    if result.curve:
        reasons.append(_curve(result.curve, file))
    if result.reruns:
        count = len(result.reruns)
        runs = "1 run failed because of a fault of the machine and was"
        if count > 1:
            runs = f"{count} runs failed because of a fault of the machine and were"
        reasons.append(f"{runs} run again with the same seed.")
    if registered:
        reasons.append(
            f"The design was registered on {registered.made}; its SHA-256 begins with "
            f"{registered.sha256[:12]}."
        )
        reasons += [f"DEVIATION from the registered design, {one}." for one in registered.deviations]
    return tuple(reasons)


def _headline(result: SetResult) -> str:
    best = [one for one in result.ratios if one.rung.verdict is Verdict.SUPPORTED]
    cheap = [one for one in best if one.rung.macs_verdict is Verdict.SUPPORTED]
    filters = f"The claim of fewer filters at equal accuracy is {result.filters_verdict}"
    if best:
        filters += f", at {best[-1].rung.ratio:g} of the filters"
    macs = f"The claim of fewer MACs at equal accuracy is {result.verdict}"
    if result.verdict is Verdict.SUPPORTED and cheap:
        macs += f", at {cheap[-1].macs_ratio:.3g} of the MACs"
    elif cheap:
        macs += ": a ratio passed every test, but the equivalence ratio of MACs may be 1 or more"
    elif best and not any(one.rung.macs_verdict is not None for one in result.ratios):
        macs += ": no ratio that was tested saves MACs"
    return f"{macs}. {filters}."


def _curve(curve: CurveResult, file: ClaimFile) -> str:
    def one(ratio: Ratio, what: str, model: str) -> str:
        needed = f"By {model}, the share of the {what} that {file.treatment} needs"
        needed += f" for the accuracy of {file.control} is"
        if ratio.estimate is not None and ratio.interval is not None:
            low, high = ratio.interval
            return f"{needed} {ratio.estimate:.3f} (95 % interval {low:.3f} to {high:.3f})."
        read = ""
        if ratio.ratios:
            low, high = min(ratio.ratios), max(ratio.ratios)
            read = f" Read off at several accuracies, it is {low:.2f} to {high:.2f}."
        return f"{needed} not identifiable, because {'; '.join(ratio.reasons)}.{read}"

    return " ".join(
        (
            one(curve.filters, "filters", "the shared curve"),
            one(curve.macs, "MACs", "the shared curve"),
            one(curve.filters_line, "filters", "parallel lines"),
            one(curve.macs_line, "MACs", "parallel lines"),
        )
    )
