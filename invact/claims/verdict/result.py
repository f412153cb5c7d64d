"""What a claim came to: verdicts with their reasons in words, and every number behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claims.planning.plan import Plan
from invact.claims.planning.registration import Preregistration
from invact.statistics.comparison.diagnostics import Diagnostics
from invact.statistics.comparison.inference import Equivalence
from invact.statistics.comparison.population import Scopes
from invact.statistics.ratios.equivalence import Ratio
from invact.statistics.sequential.ladder import Comparison, OverSets, Rung, Verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ClaimResult", "CurveResult", "RatioResult", "Repeat", "SetResult", "values_of"]


@dataclass(frozen=True)
class RatioResult:
    """One ratio of filters that the ladder came to.

    Attributes:
        rung: the tests and the verdicts.
        filters_ratio: filters of the treatment over those of the control, as counted over all layers.
        macs_ratio: likewise for MACs.
        params_ratio: likewise for parameters.
        differences: test accuracy of treatment minus control for each pair used, in fractions, failed runs at
            chance level.
        scopes: the difference on this test set and for the population of images, as after a fixed number of
            pairs.
        population: interval of the difference for the population of images, adjusted for the looks.
        diagnostics: what the t test rests on.
        also: arm -> treatment against that arm at the same filters, margin 0; no part of the verdict.
        reasons: in words.
    """

    rung: Rung
    filters_ratio: float
    macs_ratio: float
    params_ratio: float
    differences: tuple[float, ...]
    scopes: Scopes | None
    population: tuple[float, float] | None
    diagnostics: Diagnostics | None
    also: Mapping[str, Comparison]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Repeat:
    """The negative control: the control against itself, on other seeds.

    Attributes:
        n: pairs.
        mean: of the differences, second series minus first, in fractions.
        interval: of the mean, at 1 - 2 alpha.
        test: two one-sided tests against the margin.
        equal: whether it came out equal, as it must.
    """

    n: int
    mean: float
    interval: tuple[float, float]
    test: Equivalence
    equal: bool


@dataclass(frozen=True)
class CurveResult:
    """How much of the control's filters and MACs the treatment needs for the same accuracy.

    Attributes:
        filters: by the shared curve.
        macs: likewise.
        filters_line: by parallel lines and Fieller's interval, as a sensitivity analysis.
        macs_line: likewise.
        arms: names of control and treatment.
        runs: (filters, MACs, accuracy, whether of the treatment) of each run of the curve.
    """

    filters: Ratio
    macs: Ratio
    filters_line: Ratio
    macs_line: Ratio
    arms: tuple[str, str]
    runs: tuple[tuple[int, int, float, bool], ...]


@dataclass(frozen=True)
class SetResult:
    """What the protocol came to on one data set.

    Attributes:
        data: its name.
        run_id: the parent run in MLflow.
        verdict: the headline: equal accuracy with fewer MACs.
        filters_verdict: equal accuracy with fewer filters.
        reasons: in words.
        plan: what the pilot settled.
        ratios: the ladder as far as it went, largest ratio first.
        repeat: the negative control; None where it was not asked for or nothing was tested.
        curve: the equivalence ratios; None where they were not asked for or nothing was tested.
        preregistration: what the claim is bound to; None without assay sensitivity.
        reruns: runs that failed for the machine's fault and were tried again.
        table: one row for each (network, seed).
    """

    data: str
    run_id: str
    verdict: Verdict
    filters_verdict: Verdict
    reasons: tuple[str, ...]
    plan: Plan
    ratios: tuple[RatioResult, ...]
    repeat: Repeat | None
    curve: CurveResult | None
    preregistration: Preregistration | None
    reruns: tuple[Mapping[str, Any], ...]
    table: pd.DataFrame

    def to_pandas(self) -> pd.DataFrame:
        """Return the ladder as a table, one row for each ratio; accuracies are fractions."""
        import pandas as pd

        return pd.DataFrame([row_of(one) for one in self.ratios])


@dataclass(frozen=True)
class ClaimResult:
    """What a claim came to.

    Attributes:
        name: the claim's.
        sets: one result for each data set.
        over: ratio -> the claim on filters over the data sets; empty with a single one.
        alpha: one-sided error rate.
    """

    name: str
    sets: tuple[SetResult, ...]
    over: Mapping[float, OverSets]
    alpha: float

    @property
    def verdict(self) -> Verdict:
        """The headline: equal accuracy with fewer MACs; with several data sets, on all of them."""
        return _all([one.verdict for one in self.sets])

    @property
    def filters_verdict(self) -> Verdict:
        """Equal accuracy with fewer filters; with several data sets, on all of them."""
        return _all([one.filters_verdict for one in self.sets])


def _all(verdicts: list[Verdict]) -> Verdict:
    """Intersection-union: SUPPORTED only if it is on each; one that refutes it on its own refutes it."""
    if all(verdict is Verdict.SUPPORTED for verdict in verdicts):
        return Verdict.SUPPORTED
    for verdict in (Verdict.REFUTED, Verdict.NO_ASSAY_SENSITIVITY):
        if verdict in verdicts:
            return verdict
    return Verdict.INCONCLUSIVE


def row_of(one: RatioResult) -> dict[str, Any]:
    """One ratio as one row: what `claim.csv` holds."""
    rung, first = one.rung, one.rung.non_inferiority
    outcome = first.outcome if first else None
    low, high = (outcome.interval if outcome else None) or (None, None)
    return {
        "ratio": rung.ratio,
        "verdict": str(rung.verdict),
        "macs_verdict": None if rung.macs_verdict is None else str(rung.macs_verdict),
        "filters_ratio": one.filters_ratio,
        "macs_ratio": one.macs_ratio,
        "params_ratio": one.params_ratio,
        "looks": " ".join(str(look.n) for look in outcome.taken) if outcome else "",
        "n": outcome.n if outcome else 0,
        "difference": outcome.estimate if outcome else None,
        "low": low,
        "high": high,
        "population_low": one.population[0] if one.population else None,
        "population_high": one.population[1] if one.population else None,
        "margin": outcome.margin if outcome else None,
        "p_value": outcome.p_value if outcome else None,
        "p_inferior": outcome.p_inferior if outcome else None,
        "p_adjusted": rung.p_value,
        "macs_p_adjusted": rung.macs_p_value if rung.macs_verdict is not None else None,
        "p_superior": rung.superiority.p_value if rung.superiority else None,
        "p_placebo": _p(rung.placebo),
        "p_matched": _p(rung.matched),
        "excluded": first.excluded if first else 0,
        "per_protocol": first.per_protocol if first else None,
    }


def _p(found: Comparison | None) -> float | None:
    return None if found is None else found.outcome.p_value


def values_of(value: Any) -> Any:
    """Put results in JSON-like values: tables are left out, what is not finite is None.

    Example:
        >>> values_of({0.5: (math.inf, Verdict.SUPPORTED)})
        {'0.5': [None, 'SUPPORTED']}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: values_of(getattr(value, each.name)) for each in fields(value) if each.name != "table"
        }
    if isinstance(value, Mapping):
        return {str(key): values_of(each) for key, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return values_of(value.tolist())
    if isinstance(value, list | tuple):
        return [values_of(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
