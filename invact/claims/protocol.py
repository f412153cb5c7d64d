"""The protocol of a claim: tune, pilot, plan, preregister, confirm, and estimate the ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claims.cells import (
    CONTROL,
    MATCHED,
    PLACEBO,
    TREATMENT,
    Cell,
    Hyperparameters,
    cell_key,
    curve_of,
)
from invact.claims.file import Claim
from invact.claims.planning.design import BINDING, RATIO_CONFIDENCE, design_of
from invact.claims.planning.plan import Plan, piloted, planned
from invact.claims.planning.registration import Preregistration, changes_between, register
from invact.claims.planning.tuning import points_of, tuned
from invact.claims.verdict.reasons import ratio_reasons, set_reasons
from invact.claims.verdict.result import CurveResult, RatioResult, Repeat, SetResult
from invact.errors import EnvironmentFault
from invact.statistics.comparison.diagnostics import diagnose
from invact.statistics.comparison.inference import equivalence, one_sided
from invact.statistics.comparison.population import population_interval, scopes
from invact.statistics.ratios.equivalence import curve_ratio, line_ratio
from invact.statistics.sequential.ladder import (
    Comparison,
    Rung,
    Series,
    Verdict,
    climb,
    compare,
    overall,
)
from invact.statistics.sequential.procedures import Procedure

if TYPE_CHECKING:
    import pandas as pd

    from invact.claims.trainer import ClaimTrainer
    from invact.cost.count import Cost
    from invact.data.dataset import Dataset
    from invact.tracking.record import Record

__all__ = ["Protocol"]


@dataclass
class Protocol:
    """The steps of the protocol on one data set."""

    claim: Claim
    data: Dataset
    costs: Mapping[str, Cost]
    record: Record
    runs: ClaimTrainer
    registered: Preregistration | None
    deviation: str | None

    def run(self) -> SetResult:
        """Run every step and return the verdict with its evidence."""
        claim = self.claim
        tuned_values = self._tune()
        cells = claim.cells(tuned_values)
        plan = self._pilot(cells)
        if plan.margin is None or plan.procedure is None:
            return self._result(plan, (), None, None, None)
        procedure, margin = plan.procedure, plan.margin
        curve = curve_of(claim.file, claim.ratios, tuned_values)
        self._register(design_of(claim, self.data, plan, procedure, cells, curve, self.costs))
        rungs = self._confirm(cells, procedure, margin)
        decisive = next((one for one in reversed(rungs) if one.verdict is Verdict.SUPPORTED), rungs[0])
        also = {arm: self._also(cells, arm, decisive.ratio, procedure) for arm in claim.file.also}
        ratios = tuple(
            self._ratio(cells, rung, procedure, also if rung is decisive else {}) for rung in rungs
        )
        repeat = self._repeat(cells[CONTROL], procedure, margin) if claim.file.repeat else None
        return self._result(plan, ratios, repeat, self._curve(curve), self.registered)

    def _seeds(self, block: str, count: int) -> tuple[int, ...]:
        return self.claim.seeds(block, count)

    def _tune(self) -> dict[str, Hyperparameters]:
        """Tune every arm with the same number of trials; validation accuracy selects."""
        tuning = self.claim.file.tuning
        if tuning is None:
            return {}
        seeds = self._seeds("tuning", tuning.seeds)
        tried = [cells for _, cells in points_of(self.claim, tuning)]
        self.runs.train("tuning", [(cell, seeds) for cells in tried for cell in cells.values()])
        return tuned(self.claim, self.runs.results) or {}

    def _pilot(self, cells: Mapping[str, Cell]) -> Plan:
        seeds = self._seeds("pilot", self.claim.file.pilot)
        self.runs.train("pilot", [(cell, seeds) for cell in piloted(self.claim, cells)])
        plan = planned(self.claim, self.runs.results, cells)
        assert plan is not None
        return plan

    def _register(self, design: Mapping[str, Any]) -> None:
        """Register the design, or check that it equals the registered one."""
        if self.registered is not None:
            now = json.loads(json.dumps(design))
            changes = changes_between(
                {key: self.registered.design[key] for key in BINDING}, {key: now[key] for key in BINDING}
            )
            if not changes:
                return
            if self.deviation is None:
                key, (was, now) = next(iter(changes.items()))
                raise EnvironmentFault(
                    f"{self.claim.name}: {key}: this version of invact computes {now!r} from the file, but "
                    f"{was!r} is registered. Allowed: the version of invact that registered it, or "
                    '--deviation "REASON"'
                )
        self.registered = register(self.record, design, self.deviation or "")

    def _confirm(self, cells: Mapping[str, Cell], procedure: Procedure, margin: float) -> tuple[Rung, ...]:
        """Test the ladder of ratios, and train before each look the runs that it needs."""
        ratios = self.claim.ratios
        macs = {r: self._relative(cell_key(TREATMENT, r), "macs") for r in ratios}
        while True:
            arms = {
                ratio: {
                    role: self._series(cells[cell_key(role, ratio)], procedure)
                    for role in (TREATMENT, PLACEBO, MATCHED)
                }
                for ratio in ratios
            }
            rungs = climb(self._series(cells[CONTROL], procedure), arms, macs, margin, procedure)
            last = rungs[-1]
            if not last.wanted:
                return rungs
            self.runs.train(
                "confirmation",
                [
                    (cells[cell_key(role, last.ratio)], self._seeds("confirmation", count))
                    for role, count in sorted(last.wanted.items())
                ],
                f"{last.ratio:g} of the filters, {max(last.wanted.values())} pairs",
            )

    def _series(self, cell: Cell, procedure: Procedure) -> Series:
        return self.runs.results.series("confirmation", cell, self._seeds("confirmation", procedure.most))

    def _also(self, cells: Mapping[str, Cell], arm: str, ratio: float, procedure: Procedure) -> Comparison:
        """Compare the treatment with a further arm with as many filters, by the same procedure."""
        pair = (cells[cell_key(TREATMENT, ratio)], cells[cell_key(arm, ratio)])
        while True:
            treatment, other = (self._series(cell, procedure) for cell in pair)
            found = compare(treatment, other, 0.0, procedure)
            if found and found.ended:
                return found
            count = procedure.next(min(len(treatment), len(other)))
            assert count is not None
            seeds = self._seeds("confirmation", count)
            self.runs.train("confirmation", [(cell, seeds) for cell in pair], f"{arm}, {count} pairs")

    def _ratio(
        self, cells: Mapping[str, Cell], rung: Rung, procedure: Procedure, also: Mapping[str, Comparison]
    ) -> RatioResult:
        pair = (cells[CONTROL], cells[cell_key(TREATMENT, rung.ratio)])
        first = rung.non_inferiority
        assert first is not None
        assert first.outcome.interval is not None
        assert first.outcome.estimate is not None
        n = first.outcome.n
        seeds = self._seeds("confirmation", n)
        control, treatment = (self.runs.results.series("confirmation", cell, seeds) for cell in pair)
        old, new = (self._correct(self.runs.results.rows("confirmation", cell, seeds)) for cell in pair)
        both = scopes(old, new, 1 - 2 * procedure.alpha)
        counted = {name: self._relative(pair[1].key, name) for name in ("filters", "macs", "params")}
        result = RatioResult(
            rung=rung,
            filters_ratio=counted["filters"],
            macs_ratio=counted["macs"],
            params_ratio=counted["params"],
            differences=tuple((treatment.accuracy - control.accuracy).tolist()),
            scopes=both,
            population=population_interval(both, first.outcome.estimate, first.outcome.interval),
            diagnostics=diagnose(control.accuracy, treatment.accuracy, first.outcome.margin, procedure.alpha),
            also=also,
            reasons=(),
        )
        return replace(result, reasons=ratio_reasons(result, self.claim.file, procedure))

    def _correct(self, rows: pd.DataFrame) -> np.ndarray:
        return np.array([self.record.correct(run, self.data.test_count) for run in rows["run_id"]])

    def _relative(self, key: str, what: str) -> float:
        return float(getattr(self.costs[key], what) / getattr(self.costs[CONTROL], what))

    def _repeat(self, control: Cell, procedure: Procedure, margin: float) -> Repeat:
        """Compare the control with itself on other seeds, with as many pairs as the procedure allows."""
        n = procedure.most
        blocks = {"confirmation": self._seeds("confirmation", n), "repeat": self._seeds("repeat", n)}
        for step, seeds in blocks.items():
            self.runs.train(step, [(control, seeds)], "negative control")
        first, second = (self.runs.results.series(step, control, seeds) for step, seeds in blocks.items())
        differences = second.accuracy - first.accuracy
        test = one_sided(differences, margin, procedure.alpha)
        both = equivalence(differences, margin)
        return Repeat(n, test.mean, test.interval, both, both.p_value < procedure.alpha)

    def _curve(self, cells: Mapping[str, Cell]) -> CurveResult | None:
        file = self.claim.file
        if file.curve is None:
            return None
        seeds = self._seeds("curve", file.curve.seeds)
        self.runs.train("curve", [(cell, seeds) for cell in cells.values()])
        # Runs at chance level are kept, so that the gates of the ratio can detect them.
        points = tuple(
            (cell.config.filters, self.costs[key].macs, float(accuracy), cell.role == TREATMENT)
            for key, cell in cells.items()
            if isinstance(cell.config.filters, int)
            for accuracy in self.runs.results.series("curve", cell, seeds).accuracy
        )
        widths, macs, accuracies, treated = zip(*points, strict=True)
        return CurveResult(
            filters=curve_ratio(widths, accuracies, treated, RATIO_CONFIDENCE),
            macs=curve_ratio(macs, accuracies, treated, RATIO_CONFIDENCE),
            filters_line=line_ratio(widths, accuracies, treated, confidence=RATIO_CONFIDENCE),
            macs_line=line_ratio(macs, accuracies, treated, confidence=RATIO_CONFIDENCE),
            arms=(file.control, file.treatment),
            runs=points,
        )

    def _result(
        self,
        plan: Plan,
        ratios: tuple[RatioResult, ...],
        repeat: Repeat | None,
        curve: CurveResult | None,
        registered: Preregistration | None,
    ) -> SetResult:
        if registered is None:
            verdict = filters_verdict = Verdict.NO_ASSAY_SENSITIVITY
        else:
            filters_verdict, verdict = overall(tuple(one.rung for one in ratios))
        # The ratio at equal accuracy is an estimate, so its upper bound must be below 1 as well.
        interval = curve.macs.interval if curve else None
        if verdict is Verdict.SUPPORTED and interval and not interval[1] < 1:
            verdict = Verdict.INCONCLUSIVE
        result = SetResult(
            data=self.data.name,
            run_id=self.record.run_id,
            verdict=verdict,
            filters_verdict=filters_verdict,
            reasons=(),
            plan=plan,
            ratios=ratios,
            repeat=repeat,
            curve=curve,
            preregistration=registered,
            reruns=tuple(self.runs.reruns),
            table=self.runs.results.table,
        )
        return replace(result, reasons=set_reasons(result, self.claim.file))
