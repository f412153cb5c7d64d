"""The ladder: a claim's ratios of filters, tested from the largest to the smallest, and their verdicts."""
# Fixed sequence: each ratio is tested at the full level, and only after all larger ratios have passed. The
# probability of any false claim is therefore at most that of the first false one. Within a ratio all tests
# must pass (intersection-union), which needs no adjustment either.

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
    """Verdict on a claim of equal accuracy with fewer filters or MACs."""

    SUPPORTED = "SUPPORTED"
    """The treatment is non-inferior within the margin, and better than all arms that it has to beat."""
    REFUTED = "REFUTED"
    """The treatment loses more than the margin."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Neither is shown. This does not mean that the arms are equal."""
    NO_ASSAY_SENSITIVITY = "NO_ASSAY_SENSITIVITY"
    """The task does not show that the control is better than a smaller network: no claim is possible."""


@dataclass(frozen=True, eq=False)
class Series:
    """Accuracies of one arm, in the order of the seeds.

    Args:
        accuracy: accuracies as fractions, shape (n,). A failed run has the accuracy of chance level.
        failed: whether each run failed, shape (n,); no failed runs unless given.

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
            shapes = f"{values.shape} and {marks.shape}"
            raise InputError(f"accuracy, failed: received shapes {shapes}. Allowed: equal shapes, (n,)")
        object.__setattr__(self, "accuracy", values)
        object.__setattr__(self, "failed", marks)

    def __len__(self) -> int:
        return len(self.accuracy)


@dataclass(frozen=True)
class Comparison:
    """Comparison of the treatment with one other arm, with and without failed runs.

    Attributes:
        outcome: result on all pairs, with failed runs at chance level (intention to treat).
        excluded: number of pairs up to the stop in which a run failed.
        per_protocol: whether the test is also significant without these pairs (per protocol).
    """

    outcome: ProcedureResult
    excluded: int
    per_protocol: bool

    @property
    def shown(self) -> bool:
        """Whether the result is shown with and without the pairs in which a run failed."""
        return self.outcome.shown and self.per_protocol

    @property
    def ended(self) -> bool:
        """Whether no more pairs are needed."""
        return self.outcome.ended


def compare(treatment: Series, other: Series, margin: float, procedure: Procedure) -> Comparison | None:
    """Test the treatment against another arm on the pairs that both have; None with fewer than two pairs.

    Args:
        treatment: runs of the treatment, in the order of the seeds.
        other: runs of the other arm, with the same seeds.
        margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.
        procedure: test that was fixed beforehand.

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
    """Results and verdicts of one ratio of filters, which is one rung of the ladder.

    Attributes:
        ratio: filters of the treatment divided by filters of the control.
        macs_ratio: counted MACs of the treatment divided by counted MACs of the control.
        non_inferiority: treatment against control; None before its first two pairs.
        superiority: the same pairs with a margin of 0; None unless non-inferiority is shown.
        placebo: treatment against the placebo (the control's activation with the treatment's filters), margin
            0; None if the test did not come to it.
        matched: treatment against the matched arm (the control's activation with the treatment's MACs),
            margin 0; None if the test did not come to it, or if the treatment saves no MACs.
        verdict: verdict of the claim on filters.
        macs_verdict: verdict of the claim on MACs; None if the ratio saves no MACs.
        p_value: p value of the claim on filters, adjusted for the ladder: the largest of all p values that
            the claim needs, up to this rung.
        macs_p_value: the same for the claim on MACs, over the rungs that save MACs.
        wanted: arm (`treatment`, `control`, `placebo`, `matched`) -> number of runs that it needs next; empty
            if the rung is decided.
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
    """Compute the verdicts of the ladder from the runs so far, and the runs that are needed next.

    The ratios are tested from the largest to the smallest. At each ratio the treatment must be non-inferior
    to the control and then better than the placebo. If the ratio saves MACs, the claim on MACs also needs a
    treatment that is better than the matched arm. If the claim on filters is not SUPPORTED at a ratio, the
    ladder ends there. If only the claim on MACs is not SUPPORTED, only the claim on MACs ends. Placebo and
    matched arm are not needed before non-inferiority is shown.

    The probability of a false claim on filters at any ratio is at most alpha. The same is true for a false
    claim on MACs.

    Args:
        control: runs of the control, in the order of the seeds.
        arms: ratio -> arm (`treatment`, `placebo`, `matched`) -> its runs, with the seeds of the control.
        macs_ratios: ratio -> counted MACs of the treatment divided by counted MACs of the control.
        margin: non-inferiority margin, in (0, 1), as a fraction.
        procedure: test that was fixed beforehand; each comparison uses it.

    Returns:
        The rungs that were started, in order. If the ladder has ended, `wanted` of the last one is empty.

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
    """Compute the verdicts of one rung alone; `climb` sets its ratios and its adjusted p values."""
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
    # A comparison that has not ended always has a further look.
    assert n is not None
    return dict.fromkeys(arms, n)


def _p(found: Comparison | None) -> float:
    if found is None or found.outcome.p_value is None or (found.outcome.shown and not found.per_protocol):
        return 1.0
    return found.outcome.p_value


def overall(rungs: tuple[Rung, ...]) -> tuple[Verdict, Verdict]:
    """Compute the verdicts of a claim from its ladder: on fewer filters, and on fewer MACs.

    A verdict is SUPPORTED if a rung with a ratio below 1 (for MACs, a rung that saves MACs) is SUPPORTED.
    Otherwise it is REFUTED if the last tested rung is REFUTED. Otherwise it is INCONCLUSIVE.

    Example:
        >>> overall(())
        (<Verdict.INCONCLUSIVE: 'INCONCLUSIVE'>, <Verdict.INCONCLUSIVE: 'INCONCLUSIVE'>)
    """
    filters = [rung.verdict for rung in rungs if rung.ratio < 1]
    # If a ratio that saves no MACs is refuted, the ladder never reaches the ratios that save MACs. So a rung
    # without a verdict on MACs counts with its verdict on filters.
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
    """Combined p values of one ratio over several data sets.

    Attributes:
        on_which: p values adjusted by Holm's method, one for each data set. If a value is below alpha, the
            claim holds on this data set.
        on_all: largest p value (intersection-union). If it is below alpha, the claim holds on all data sets.
    """

    on_which: tuple[float, ...]
    on_all: float


def over_sets(p_values: tuple[float, ...]) -> OverSets:
    """Combine the p values of one ratio over data sets; use 1 for a ladder that did not reach the ratio.

    Example:
        >>> over_sets((0.01, 0.03))
        OverSets(on_which=(0.02, 0.03), on_all=0.03)
    """
    return OverSets(tuple(holm(p_values).tolist()), max(p_values))
