"""The result of a claim: verdicts, their reasons as sentences, and every number behind them."""

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
    """The result at one ratio of filters that the ladder tested.

    Attributes:
        rung: the tests and the verdicts.
        filters_ratio: filters of the treatment divided by those of the control, counted over all layers.
        macs_ratio: MACs of the treatment divided by those of the control.
        params_ratio: parameters of the treatment divided by those of the control.
        differences: test accuracy of treatment minus control for each pair that was used, as fractions. A run
            that diverged or collapsed counts at chance level.
        scopes: the difference on this test set and for the population of images, computed as for a fixed
            number of pairs.
        population: interval of the difference for the population of images, adjusted for the looks.
        diagnostics: checks of the assumptions of the t test.
        also: further arm -> comparison of the treatment with that arm at the same number of filters and a
            margin of 0. It does not change the verdict.
        reasons: the reasons for the verdict, as sentences.
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
    """The negative control: the control compared with itself on other seeds.

    Attributes:
        n: number of pairs.
        mean: mean of the differences, second series minus first, as a fraction.
        interval: confidence interval of the mean, at level 1 - 2 alpha.
        test: two one-sided tests of equivalence within the margin.
        equal: whether equivalence was shown, as expected.
    """

    n: int
    mean: float
    interval: tuple[float, float]
    test: Equivalence
    equal: bool


@dataclass(frozen=True)
class CurveResult:
    """The equivalence ratios: the share of filters and MACs that the treatment needs for equal accuracy.

    Attributes:
        filters: ratio of filters, estimated by the shared curve.
        macs: ratio of MACs, estimated by the shared curve.
        filters_line: ratio of filters by parallel lines and Fieller's interval, as a sensitivity analysis.
        macs_line: ratio of MACs by parallel lines and Fieller's interval, as a sensitivity analysis.
        arms: names of control and treatment.
        runs: (filters, MACs, accuracy, whether the run belongs to the treatment) of each run of the curve.
    """

    filters: Ratio
    macs: Ratio
    filters_line: Ratio
    macs_line: Ratio
    arms: tuple[str, str]
    runs: tuple[tuple[int, int, float, bool], ...]


@dataclass(frozen=True)
class SetResult:
    """The result of the protocol on one data set.

    Attributes:
        data: name of the data set.
        run_id: parent run in MLflow.
        verdict: verdict on equal accuracy with fewer MACs, the headline.
        filters_verdict: verdict on equal accuracy with fewer filters.
        reasons: the reasons for the verdicts, as sentences.
        plan: the plan that the pilot fixed.
        ratios: results of the ratios that were tested, largest ratio first.
        repeat: the negative control; None if the file does not ask for it, or if nothing was tested.
        curve: the equivalence ratios; None if the file does not ask for them, or if nothing was tested.
        preregistration: the registered design; None without assay sensitivity.
        reruns: runs that were repeated after a fault of the machine.
        table: table of runs, one row for each (network, seed).
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
        """Return the tested ratios as a table with one row for each; accuracies are fractions."""
        import pandas as pd

        return pd.DataFrame([row_of(one) for one in self.ratios])


@dataclass(frozen=True)
class ClaimResult:
    """The result of a claim.

    Attributes:
        name: name of the claim.
        sets: one result for each data set.
        over: ratio -> p values of the claim on filters over all data sets; empty with a single data set.
        alpha: one-sided error rate.
    """

    name: str
    sets: tuple[SetResult, ...]
    over: Mapping[float, OverSets]
    alpha: float

    @property
    def verdict(self) -> Verdict:
        """Verdict on equal accuracy with fewer MACs, the headline; with several data sets, on all of them."""
        return _all([one.verdict for one in self.sets])

    @property
    def filters_verdict(self) -> Verdict:
        """Verdict on equal accuracy with fewer filters; with several data sets, on all of them."""
        return _all([one.filters_verdict for one in self.sets])


def _all(verdicts: list[Verdict]) -> Verdict:
    """Combine verdicts: SUPPORTED only if each one is (intersection-union); one REFUTED refutes the claim."""
    if all(verdict is Verdict.SUPPORTED for verdict in verdicts):
        return Verdict.SUPPORTED
    for verdict in (Verdict.REFUTED, Verdict.NO_ASSAY_SENSITIVITY):
        if verdict in verdicts:
            return verdict
    return Verdict.INCONCLUSIVE


def row_of(one: RatioResult) -> dict[str, Any]:
    """Put the result of one ratio in one row of `claim.csv`: column -> value."""
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
    """Convert results to JSON-like values. Tables are left out; a number that is not finite becomes None.

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
