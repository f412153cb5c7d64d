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
from invact.statistics.ratios.equivalence import Ratio
from invact.statistics.ratios.local import LocalRatio
from invact.statistics.sequential.course import Course
from invact.statistics.sequential.ladder import Rung, Verdict
from invact.statistics.sequential.procedure import Outcome
from invact.text import html_of, leading

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ClaimResult", "CurveResult", "OverSets", "RatioResult", "SetResult", "row_of", "values_of"]


@dataclass(frozen=True)
class RatioResult:
    """The result at one ratio of filters that was tested.

    Attributes:
        rung: the tests and the verdicts.
        filters_ratio: filters of the treatment divided by those of the control, counted over all layers.
        hidden_filters_ratio: the same without the units of the classifier, which do not shrink.
        macs_ratio: MACs of the treatment divided by those of the control.
        params_ratio: parameters of the treatment divided by those of the control.
        matched_excess: MACs of the matched arm divided by those of the treatment, minus 1; 0 or more.
        control: test accuracies of the control's runs that were used, as fractions. Failed runs are left out.
        treatment: the same for the treatment.
        population: interval of the difference for the population of images; None before the first look.
        diagnostics: checks of the assumptions of the t test; None before the first look.
        also: further arm -> comparison of the treatment with that arm at the same number of filters and a
            margin of 0; None if too many runs failed. It does not change the verdict.
        reasons: the reasons for the verdict, as sentences.
    """

    rung: Rung
    filters_ratio: float
    hidden_filters_ratio: float
    macs_ratio: float
    params_ratio: float
    matched_excess: float
    control: tuple[float, ...]
    treatment: tuple[float, ...]
    population: tuple[float, float] | None
    diagnostics: Diagnostics | None
    also: Mapping[str, Outcome | None]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CurveResult:
    """The equivalence ratios: the share of filters and MACs that the treatment needs for equal accuracy.

    Attributes:
        filters: ratio of filters.
        macs: ratio of MACs.
        additions: `filters_line`, `macs_line` (parallel lines), `filters_shared` and `macs_shared` (shared
            curve): the same ratios by other models, if the file gives a curve of the control.
        arms: control and treatment as short texts.
        control: filters and MACs of the control, and its test accuracies in the pilot.
        runs: (filters, MACs, accuracy, whether the run belongs to the treatment) of each run of the curve.
        failed: number of failed runs of the curve, which are left out.
    """

    filters: LocalRatio
    macs: LocalRatio
    additions: Mapping[str, Ratio]
    arms: tuple[str, str]
    control: tuple[int, int, tuple[float, ...]]
    runs: tuple[tuple[int, int, float, bool], ...]
    failed: int


@dataclass(frozen=True)
class SetResult:
    """The result of the protocol on one data set.

    Attributes:
        data: name of the data set.
        run_id: parent run in MLflow.
        verdict: verdict on equal accuracy with fewer MACs, the headline.
        filters_verdict: verdict on equal accuracy with fewer filters.
        reasons: one sentence for each verdict, on filters and on MACs, and then the reasons, as sentences.
        plan: what pilot and screen have fixed.
        course: every test of the claim, with its failed arms and its negative control.
        ratios: results of the ratios that were tested, largest ratio first.
        curve: the equivalence ratios; None if the file does not ask for them, or if nothing was tested.
        preregistration: the registered design.
        reruns: runs that were repeated after a fault of the machine.
        table: table of runs, one row for each (network, seed).
        brief: the reasons that a reader needs first, in short sentences.
        time: where the time of the last session that trained went, in one line; empty if none has.
    """

    data: str
    run_id: str
    verdict: Verdict
    filters_verdict: Verdict
    reasons: tuple[str, ...]
    plan: Plan
    course: Course
    ratios: tuple[RatioResult, ...]
    curve: CurveResult | None
    preregistration: Preregistration | None
    reruns: tuple[Mapping[str, Any], ...]
    table: pd.DataFrame
    brief: tuple[str, ...] = ()
    time: str = ""

    def __repr__(self) -> str:
        return f"SetResult({self.data!r}: {self.verdict}, fewer filters: {self.filters_verdict})"

    def to_pandas(self) -> pd.DataFrame:
        """Return the tested ratios as a table with one row for each; accuracies are fractions."""
        import pandas as pd

        return pd.DataFrame([row_of(one) for one in self.ratios])


@dataclass(frozen=True)
class OverSets:
    """One claim (on filters or on MACs) over several data sets.

    Attributes:
        on_all: p value of the claim on all data sets, the largest of the sets (intersection-union).
        on_which: data set -> p value of the claim on this set, adjusted for the number of sets by the
            graphical procedure.
    """

    on_all: float
    on_which: Mapping[str, float]


@dataclass(frozen=True)
class ClaimResult:
    """The result of a claim.

    Attributes:
        name: name of the claim.
        sets: one result for each data set.
        over: `filters` and `macs` -> the claim over all data sets; empty with a single data set.
        alpha: one-sided error rate.
    """

    name: str
    sets: tuple[SetResult, ...]
    over: Mapping[str, OverSets]
    alpha: float

    def __repr__(self) -> str:
        return f"ClaimResult({self.name!r}: {self._verdicts()})"

    def _repr_html_(self) -> str:
        return html_of(self.name, [self._verdicts()], self.to_pandas())

    def _verdicts(self) -> str:
        return f"{self.verdict}, fewer filters: {self.filters_verdict}"

    def to_pandas(self) -> pd.DataFrame:
        """Return the tested ratios of all data sets as a table with one row for each.

        The first columns are `label`, the ratio of MACs, and the difference of the test accuracies, as a
        fraction. The others are those of `SetResult.to_pandas`.
        """
        import pandas as pd

        rows = [
            {"label": f"{one.data}, ratio {ratio.rung.ratio:g}", "data": one.data} | row_of(ratio)
            for one in self.sets
            for ratio in one.ratios
        ]
        columns = ["label", "macs_ratio", "difference"]
        return leading(pd.DataFrame(rows, columns=None if rows else columns), *columns)

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
    low, high = first.interval or (None, None)
    row = {
        "ratio": rung.ratio,
        "verdict": str(rung.verdict),
        "macs_verdict": None if rung.macs_verdict is None else str(rung.macs_verdict),
        "filters_ratio": one.filters_ratio,
        "hidden_filters_ratio": one.hidden_filters_ratio,
        "macs_ratio": one.macs_ratio,
        "params_ratio": one.params_ratio,
        "matched_excess": one.matched_excess,
        "looks": " ".join(str(look.n) for look in first.taken),
        "n": first.n,
        "difference": first.estimate,
        "low": low,
        "high": high,
        "population_low": one.population[0] if one.population else None,
        "population_high": one.population[1] if one.population else None,
        "margin": first.margin,
        "p_value": first.p_value,
        "p_inferior": first.p_inferior,
        "p_adjusted": rung.p_value,
        "macs_p_adjusted": rung.macs_p_value if rung.macs_verdict is not None else None,
        "p_placebo": _p(rung.placebo),
        "p_matched": _p(rung.matched),
    }
    for role in ("control", "treatment"):
        row[f"{role}_failed"], row[f"{role}_runs"] = rung.failures[role]
    return row


def _p(found: Outcome | None) -> float | None:
    return None if found is None else found.p_value


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
        return {_name(key): values_of(each) for key, each in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return values_of(value.tolist())
    if isinstance(value, list | tuple):
        return [values_of(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _name(key: Any) -> str:
    """Write a network, or a step with a network, as text."""
    return " ".join(map(_name, key)) if isinstance(key, tuple) else str(key)
