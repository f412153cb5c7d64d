"""The ladder: ratios of filters tested from the easiest down, each against all that a claim has to beat."""
# Fixed sequence: each ratio is tested at the full level, and only after all easier ones have passed, so that
# the chance of any false claim is that of the first false one. Within a ratio every test has to pass
# (intersection-union), which needs no adjustment either.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from invact.errors import InputError
from invact.statistics.comparison.inference import holm
from invact.statistics.sequential.group_sequential import Decision
from invact.statistics.sequential.procedures import Procedure, ProcedureResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Comparison", "OverSets", "Rung", "Series", "Verdict", "climb", "compare", "over_sets", "overall"]


class Verdict(StrEnum):
    """What the evidence says about a claim of equal accuracy."""

    SUPPORTED = "SUPPORTED"
    """Non-inferior within the margin, and better than what it has to beat."""
    REFUTED = "REFUTED"
    """The treatment loses more than the margin."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Neither could be shown; not the same as equal."""
    NO_ASSAY_SENSITIVITY = "NO_ASSAY_SENSITIVITY"
    """The task cannot tell the control from a smaller network: nothing may be claimed on it."""


@dataclass(frozen=True, eq=False)
class Series:
    """Accuracies of one arm, in the order of the seeds.

    Args:
        accuracy: fractions, shape (n,). A run that failed counts at chance level.
        failed: which of them did, shape (n,); none unless given.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> len(Series([0.9, 0.1], [False, True]))
        2
    """

    accuracy: NDArray[np.float64]
    failed: NDArray[np.bool_]

    def __init__(self, accuracy: object, failed: object = None) -> None:
        values = np.array(accuracy, dtype=float)
        marks = np.zeros(values.shape, bool) if failed is None else np.array(failed, dtype=bool)
        if values.ndim != 1 or values.shape != marks.shape:
            raise InputError(
                f"accuracy, failed: received shapes {values.shape} and {marks.shape}. Allowed: equal, (n,)"
            )
        object.__setattr__(self, "accuracy", values)
        object.__setattr__(self, "failed", marks)

    def __len__(self) -> int:
        return len(self.accuracy)


@dataclass(frozen=True)
class Comparison:
    """A treatment against one other arm, as assigned and per protocol.

    Attributes:
        outcome: of all pairs, failed runs at chance level (intention to treat).
        excluded: pairs up to the stop in which a run failed.
        per_protocol: whether the test holds without those pairs as well.
    """

    outcome: ProcedureResult
    excluded: int
    per_protocol: bool

    @property
    def shown(self) -> bool:
        """Whether it is shown both ways."""
        return self.outcome.shown and self.per_protocol

    @property
    def ended(self) -> bool:
        """Whether no more pairs are needed."""
        return self.outcome.ended


def compare(treatment: Series, other: Series, margin: float, procedure: Procedure) -> Comparison | None:
    """Test a treatment against another arm on the pairs that both have; None with fewer than two.

    Args:
        treatment: its runs, in the order of the seeds.
        other: the other arm's, with the same seeds.
        margin: in [0, 1), as a fraction; 0 tests superiority.
        procedure: fixed beforehand.

    Raises:
        InputError: as `non_inferiority`.

    Example:
        >>> control = Series([0.90, 0.91, 0.90, 0.91, 0.90])
        >>> treatment = Series([0.90, 0.91, 0.91, 0.90, 0.90])
        >>> compare(treatment, control, 0.03, Procedure()).shown
        True
    """
    n = min(len(treatment), len(other), procedure.most)
    if n < 2:
        return None
    differences = treatment.accuracy[:n] - other.accuracy[:n]
    outcome = procedure.test(differences, margin)
    failed = (treatment.failed[:n] | other.failed[:n])[: outcome.n]
    holds = True
    if outcome.shown and failed.any():
        holds = procedure.holds(differences[: outcome.n][~failed], margin, outcome)
    return Comparison(outcome, int(failed.sum()), holds)


@dataclass(frozen=True)
class Rung:
    """One ratio of filters.

    Attributes:
        ratio: filters of the treatment over those of the control.
        macs_ratio: likewise for MACs, as counted.
        non_inferiority: treatment against control; None before its first two pairs.
        superiority: the same pairs with a margin of 0; None unless non-inferiority was shown.
        placebo: treatment against the control's activation at the treatment's filters, margin 0; None where
            it was not reached.
        matched: treatment against the control's activation at the treatment's MACs, margin 0; None where it
            was not reached, or the treatment saves no MACs.
        verdict: on fewer filters.
        macs_verdict: on fewer MACs; None where the ratio saves none.
        p_value: of the claim on filters, adjusted for the ladder: the largest p value up to this rung, of
            those that it needs.
        macs_p_value: of the claim on MACs, likewise over the rungs that save MACs.
        wanted: arm (`treatment`, `control`, `placebo`, `matched`) -> number of runs it needs next; empty once
            the rung is decided.
    """

    ratio: float
    macs_ratio: float
    non_inferiority: Comparison | None
    superiority: ProcedureResult | None
    placebo: Comparison | None
    matched: Comparison | None
    verdict: Verdict
    macs_verdict: Verdict | None
    p_value: float
    macs_p_value: float
    wanted: Mapping[str, int] = field(default_factory=dict)


def climb(
    control: Series,
    arms: Mapping[float, Mapping[str, Series]],
    macs_ratios: Mapping[float, float],
    margin: float,
    procedure: Procedure,
) -> tuple[Rung, ...]:
    """Judge the ladder as far as the runs allow, and say which runs are needed next.

    At each ratio, from the largest down: the treatment must be non-inferior to the control; then better than
    the placebo; and where it saves MACs, for the claim on MACs, better than the matched arm. A rung whose
    claim on filters is not SUPPORTED ends the ladder; one whose claim on MACs is not ends that claim alone.
    Placebo and matched arm are not needed before non-inferiority is shown.

    The chance of a false claim on filters at any ratio is at most alpha, and so is that of a false claim on
    MACs.

    Args:
        control: its runs, in the order of the seeds.
        arms: ratio -> arm (`treatment`, `placebo`, `matched`) -> its runs, with the control's seeds.
        macs_ratios: ratio -> MACs of the treatment over those of the control, as counted.
        margin: in (0, 1), as a fraction.
        procedure: fixed beforehand; each comparison follows it.

    Returns:
        The rungs that were begun, in order. The last one's `wanted` is empty when the ladder has ended.

    Raises:
        InputError: as `non_inferiority`.

    Source: Maurer, Hothorn and Lehmacher, Biometrie in der chemisch-pharmazeutischen Industrie 6, 1995 (fixed
    sequence); Berger, Technometrics 24, 1982 (intersection-union).

    Example:
        >>> same = Series([0.90, 0.91, 0.90, 0.91, 0.90])
        >>> less = Series([0.80, 0.81, 0.80, 0.80, 0.81])
        >>> (rung,) = climb(same, {0.5: {"treatment": same, "placebo": less, "matched": less}}, {0.5: 0.5},
        ...                 0.01, Procedure())
        >>> rung.verdict, rung.macs_verdict, dict(rung.wanted)
        (<Verdict.SUPPORTED: 'SUPPORTED'>, <Verdict.SUPPORTED: 'SUPPORTED'>, {})
    """
    rungs: list[Rung] = []
    p_value, macs_p_value, macs_open = 0.0, 0.0, True
    for ratio in sorted(arms, reverse=True):
        saves = macs_ratios[ratio] < 1
        rung = _judge(control, arms[ratio], saves and macs_open, margin, procedure)
        p_value = max(p_value, rung.p_value)
        if saves:
            macs_p_value = max(macs_p_value, p_value, rung.macs_p_value if macs_open else 1.0)
        macs_verdict = rung.macs_verdict if saves else None
        if saves and not macs_open:
            macs_verdict = Verdict.INCONCLUSIVE
        rungs.append(
            replace(
                rung,
                ratio=ratio,
                macs_ratio=macs_ratios[ratio],
                macs_verdict=macs_verdict,
                p_value=p_value,
                macs_p_value=macs_p_value if saves else 1.0,
            )
        )
        if rung.wanted or rung.verdict is not Verdict.SUPPORTED:
            break
        macs_open = macs_open and (not saves or macs_verdict is Verdict.SUPPORTED)
    return tuple(rungs)


def _judge(
    control: Series, arms: Mapping[str, Series], needs_matched: bool, margin: float, procedure: Procedure
) -> Rung:
    """Judge one rung by itself; its ratios and adjusted p values are the ladder's to fill in."""
    nothing = Series([])
    treatment = arms.get("treatment", nothing)
    first = compare(treatment, control, margin, procedure)
    superiority, others = None, {}
    wanted = _wanted(first, {"control": control, "treatment": treatment}, procedure)
    verdict = Verdict.INCONCLUSIVE
    if first and first.outcome.decision is Decision.INFERIOR:
        verdict = Verdict.REFUTED
    if first and first.shown:
        n = first.outcome.n
        superiority = procedure.test(treatment.accuracy[:n] - control.accuracy[:n], 0.0)
        for name in ("placebo", "matched") if needs_matched else ("placebo",):
            other = arms.get(name, nothing)
            others[name] = compare(treatment, other, 0.0, procedure)
            more = _wanted(others[name], {"treatment": treatment, name: other}, procedure)
            wanted = {arm: max(wanted.get(arm, 0), more.get(arm, 0)) for arm in {*wanted, *more}}
    placebo, matched = others.get("placebo"), others.get("matched")
    macs_verdict = verdict
    if placebo and placebo.shown:
        verdict = Verdict.SUPPORTED
        if matched and matched.shown:
            macs_verdict = Verdict.SUPPORTED
        elif matched and matched.outcome.decision is Decision.INFERIOR:
            macs_verdict = Verdict.REFUTED
    p_value = max(_p(first), _p(placebo))
    return Rung(
        ratio=1.0,
        macs_ratio=1.0,
        non_inferiority=first,
        superiority=superiority,
        placebo=placebo,
        matched=matched,
        verdict=verdict,
        macs_verdict=macs_verdict,
        p_value=p_value,
        macs_p_value=max(p_value, _p(matched)),
        wanted=wanted,
    )


def _wanted(found: Comparison | None, arms: Mapping[str, Series], procedure: Procedure) -> dict[str, int]:
    if found and found.ended:
        return {}
    n = procedure.next(min(len(series) for series in arms.values()))
    # Beyond the last look a comparison has ended.
    assert n is not None
    return dict.fromkeys(arms, n)


def _p(found: Comparison | None) -> float:
    if found is None or found.outcome.p_value is None or (found.outcome.shown and not found.per_protocol):
        return 1.0
    return found.outcome.p_value


def overall(rungs: tuple[Rung, ...]) -> tuple[Verdict, Verdict]:
    """Judge a claim from its ladder: on fewer filters, and on fewer MACs.

    Each is SUPPORTED where a rung below 1 (for MACs, one that saves any) is; otherwise REFUTED where the last
    rung that was judged is; otherwise INCONCLUSIVE.

    Example:
        >>> overall(())
        (<Verdict.INCONCLUSIVE: 'INCONCLUSIVE'>, <Verdict.INCONCLUSIVE: 'INCONCLUSIVE'>)
    """
    filters = [rung.verdict for rung in rungs if rung.ratio < 1]
    # Refuted at a ratio that saves no MACs, the ladder does not come to those that do.
    macs = [rung.verdict if rung.macs_verdict is None else rung.macs_verdict for rung in rungs]
    saved = [rung.macs_verdict for rung in rungs]
    return (
        _overall(filters, Verdict.SUPPORTED in filters),
        _overall(macs, Verdict.SUPPORTED in saved),
    )


def _overall(verdicts: list[Verdict], supported: bool) -> Verdict:
    if supported:
        return Verdict.SUPPORTED
    return Verdict.REFUTED if verdicts and verdicts[-1] is Verdict.REFUTED else Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class OverSets:
    """One ratio over several data sets.

    Attributes:
        on_which: p values adjusted after Holm: below alpha, the claim holds on that data set.
        on_all: the largest p value (intersection-union): below alpha, it holds on all of them.
    """

    on_which: tuple[float, ...]
    on_all: float


def over_sets(p_values: tuple[float, ...]) -> OverSets:
    """Combine the p values of one ratio over data sets; 1 where the ladder did not reach it.

    Example:
        >>> over_sets((0.01, 0.03))
        OverSets(on_which=(0.02, 0.03), on_all=0.03)
    """
    return OverSets(tuple(holm(p_values).tolist()), max(p_values))
