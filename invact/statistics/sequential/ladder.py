"""The ladder: ratios of filters, tested from the largest to the smallest, and the verdict at each."""
# Fixed sequence: each ratio is tested at the full level, and only after all larger ratios have passed. The
# probability of any false claim is therefore at most that of the first false one. Within a ratio all tests
# must pass (intersection-union), which needs no adjustment either. A claim usually tests only the ratio
# that its screen has selected; the ladder then has one rung.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from invact.statistics.sequential.failures import Arm, runs_needed
from invact.statistics.sequential.procedure import Decision, Outcome, Procedure

__all__ = ["Rung", "Verdict", "climb", "compare", "overall"]


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


@dataclass(frozen=True)
class Rung:
    """Results and verdicts of one ratio of filters, which is one rung of the ladder.

    Attributes:
        ratio: filters of the treatment divided by filters of the control.
        macs_ratio: counted MACs of the treatment divided by counted MACs of the control.
        non_inferiority: treatment against control.
        placebo: treatment against the placebo (the control's activation with the treatment's filters), margin
            0; None if the test did not come to it.
        matched: treatment against the matched arm (the control's activation with at least the treatment's
            MACs), margin 0; None if the test did not come to it, or if the treatment saves no MACs.
        failures: arm -> (failed runs, all runs), those of pilot and screen included.
        failed: the arms with more failed runs than are allowed; they end the claim.
        enough_runs: whether the treatment has as many runs as its number of failures asks for.
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
    non_inferiority: Outcome
    placebo: Outcome | None
    matched: Outcome | None
    failures: Mapping[str, tuple[int, int]]
    failed: tuple[str, ...]
    enough_runs: bool
    verdict: Verdict
    macs_verdict: Verdict | None
    p_value: float
    macs_p_value: float
    wanted: Mapping[str, int] = field(default_factory=dict)


def compare(
    treatment: Arm, other: Arm, margin: float, procedure: Procedure, floor: float = 0.0
) -> tuple[Outcome, tuple[int, int]]:
    """Test the runs of the treatment that trained against those of another arm.

    Args:
        treatment: the treatment.
        other: the other arm, whose runs have other seeds.
        margin: non-inferiority margin, in [0, 1), as a fraction; 0 tests superiority.
        procedure: test that was fixed beforehand.
        floor: smallest standard deviation of an arm, see `welch`.

    Returns:
        The outcome; and the numbers of runs that the two arms need for the next look. They are the numbers
        of runs that they have if the test has ended.

    Raises:
        InputError: as `welch`.
    """
    outcome = procedure.test(treatment.trained, other.trained, margin, floor)
    following = None if outcome.ended else procedure.next(outcome.n)
    if following is None:
        return outcome, (len(treatment.runs), len(other.runs))
    return outcome, (treatment.wanted(following), other.wanted(following))


def climb(
    control: Arm,
    arms: Mapping[float, Mapping[str, Arm]],
    macs_ratios: Mapping[float, float],
    margin: float,
    procedure: Procedure,
    floor: float = 0.0,
) -> tuple[Rung, ...]:
    """Compute the verdicts of the ladder from the runs so far, and the runs that are needed next.

    The ratios are tested from the largest to the smallest. At each ratio the treatment must be non-inferior
    to the control and then better than the placebo, and it needs `runs_needed` runs. If the ratio saves MACs,
    the claim on MACs also needs a treatment that is better than the matched arm. If the claim on filters is
    not SUPPORTED at a ratio, the ladder ends there. If the claim on MACs alone is not SUPPORTED, only that
    claim ends. Placebo and matched arm are not needed before non-inferiority is shown.

    The probability of a false claim on filters at any ratio is at most alpha. The same is true for a false
    claim on MACs.

    Args:
        control: the control.
        arms: ratio -> arm (`treatment`, `placebo`, `matched`) -> its runs.
        macs_ratios: ratio -> counted MACs of the treatment divided by counted MACs of the control.
        margin: non-inferiority margin, in (0, 1), as a fraction.
        procedure: test that was fixed beforehand; each comparison uses it.
        floor: smallest standard deviation of an arm, see `welch`.

    Returns:
        The rungs that were started, in order. If the ladder has ended, `wanted` of the last one is empty.

    Raises:
        InputError: as `welch`.

    Source: Maurer, Hothorn and Lehmacher, Biometrie in der chemisch-pharmazeutischen Industrie 6, 1995 (fixed
    sequence); Berger, Technometrics 24, 1982 (intersection-union).

    Example:
        >>> from invact.statistics.sequential.failures import Runs
        >>> same = Arm(Runs([0.90, 0.91, 0.90, 0.91, 0.90, 0.90, 0.91, 0.91, 0.90, 0.90]), 0.01)
        >>> less = Arm(Runs([0.80, 0.81, 0.80, 0.80, 0.81, 0.80]), 0.01)
        >>> (rung,) = climb(same, {0.5: {"treatment": same, "placebo": less, "matched": less}}, {0.5: 0.5},
        ...                 0.01, Procedure())
        >>> rung.verdict, rung.macs_verdict, dict(rung.wanted)
        (<Verdict.SUPPORTED: 'SUPPORTED'>, <Verdict.SUPPORTED: 'SUPPORTED'>, {})
    """
    rungs: list[Rung] = []
    p_value, macs_p_value, macs_open = 0.0, 0.0, True
    for ratio in sorted(arms, reverse=True):
        saves = macs_ratios[ratio] < 1
        rung = _judge(control, arms[ratio], saves and macs_open, margin, procedure, floor)
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
    control: Arm,
    arms: Mapping[str, Arm],
    needs_matched: bool,
    margin: float,
    procedure: Procedure,
    floor: float,
) -> Rung:
    """Compute the verdicts of one rung alone; `climb` sets its ratios and its adjusted p values."""
    treatment = arms["treatment"]
    met = {"control": control, "treatment": treatment}
    first, (ours, theirs) = compare(treatment, control, margin, procedure, floor)
    wanted = {"treatment": ours, "control": theirs}
    others: dict[str, Outcome] = {}
    verdict = Verdict.REFUTED if first.decision is Decision.INFERIOR else Verdict.INCONCLUSIVE
    if first.shown:
        for name in ("placebo", "matched") if needs_matched else ("placebo",):
            met[name] = arms[name]
            if name == "matched" and arms[name].ended:
                continue  # Only the claim on MACs needs the matched arm.
            others[name], (ours, theirs) = compare(treatment, arms[name], 0.0, procedure, floor)
            wanted |= {"treatment": max(wanted["treatment"], ours), name: theirs}
    placebo, matched = others.get("placebo"), others.get("matched")
    if placebo and placebo.ended and not placebo.shown:
        wanted = {}  # Both claims need the placebo, so more runs of the matched arm could change nothing.
    # Trained after all other tests, because a claim that fails one of them needs no more runs.
    needed = runs_needed(treatment.failures)
    enough = treatment.total >= needed
    if placebo and placebo.shown and not enough:
        wanted["treatment"] = max(wanted["treatment"], needed - len(treatment.earlier))
    failed = tuple(name for name, arm in met.items() if arm.ended)
    if set(failed) - {"matched"}:
        wanted, verdict, placebo_shown = {}, Verdict.INCONCLUSIVE, False
    else:
        placebo_shown = placebo is not None and placebo.shown
    macs_verdict = verdict
    if placebo_shown and enough:
        verdict, macs_verdict = Verdict.SUPPORTED, Verdict.INCONCLUSIVE
        if matched and matched.shown:
            macs_verdict = Verdict.SUPPORTED
        elif matched and matched.decision is Decision.INFERIOR:
            macs_verdict = Verdict.REFUTED
    p_value = max(_p(first), _p(placebo)) if enough and not set(failed) - {"matched"} else 1.0
    macs_p_value = max(p_value, _p(matched))
    return Rung(
        ratio=1.0,
        macs_ratio=1.0,
        non_inferiority=first,
        placebo=placebo,
        matched=matched,
        failures={name: (arm.failures, arm.total) for name, arm in met.items()},
        failed=failed,
        enough_runs=enough,
        verdict=verdict,
        macs_verdict=macs_verdict,
        p_value=p_value,
        macs_p_value=macs_p_value,
        wanted={name: count for name, count in wanted.items() if count > len(met[name].runs)},
    )


def _p(found: Outcome | None) -> float:
    return 1.0 if found is None or found.p_value is None else found.p_value


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
