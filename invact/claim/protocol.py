"""The protocol of a claim: tune, pilot, plan, preregister, confirm, and estimate the ratios."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claim.cells import (
    CONTROL,
    MATCHED,
    PLACEBO,
    TREATMENT,
    Cell,
    Recipe,
    curve_of,
    key_of,
)
from invact.claim.design import BINDING, RATIO_CONFIDENCE, design_of
from invact.claim.file import Claim, load_claim
from invact.claim.plan import Plan, Step, piloted, planned, speed_of, steps_of
from invact.claim.preregistration import Preregistration, changes_between, read, register
from invact.claim.result import ClaimResult, CurveResult, RatioResult, Repeat, SetResult
from invact.claim.tuning import points_of, tuned
from invact.claim.wording import ratio_reasons, set_reasons
from invact.config import digest
from invact.errors import EnvironmentFault, InputError, within
from invact.statistics.diagnostics import diagnose
from invact.statistics.inference import equivalence, one_sided
from invact.statistics.ladder import (
    Comparison,
    Rung,
    Series,
    Verdict,
    climb,
    compare,
    over_sets,
    overall,
)
from invact.statistics.population import population_interval, scopes
from invact.statistics.procedures import Procedure
from invact.statistics.ratios import curve_ratio, line_ratio

if TYPE_CHECKING:
    import pandas as pd

    from invact.claim.runs import Runs
    from invact.cost import Cost
    from invact.data import Dataset
    from invact.record import Record
    from invact.store import Store

__all__ = ["plan_claim", "test_claim"]

SETTINGS = "settings.json"


def test_claim(
    claim: Claim | str | Path,
    *,
    deviation: str | None = None,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    show: bool = True,
) -> ClaimResult:
    """Run the protocol of a claim, or continue it: what is trained is not trained again.

    Tuning of every arm (where the file asks for it), a pilot of control and placebo that fixes margin, pairs
    and looks, the preregistration, the confirmation on seeds of its own from the easiest ratio down, the
    negative control, and the curve of the equivalence ratios. Each data set has its own record.

    Args:
        claim: a claim, a shipped claim's name, or a path.
        deviation: the reason why the file differs from what was registered; without one it is refused.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        workers: processes to train with; one for each core unless given.
        scheduler: the address of a Dask cluster that is up already.
        show: whether to show progress on standard error.

    Raises:
        InputError: bad input, or the file was changed after the registration and no deviation is given.
        EnvironmentFault: the data, the store or the cluster is out of reach, or the registration was altered.
        Incomplete: a run failed again and again.
    """
    from invact.claim.runs import Runs
    from invact.tracking import open_store

    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    settings = claim.file.model_dump(mode="json")
    # All that can be wrong with the file shows before there is a store.
    prepared = [(data := source.load(), _costs(claim, data)) for source in claim.sources]
    opened = open_store(None if store is None else Path(store), tracking_uri)
    results: list[SetResult] = []
    records: list[Record] = []
    for name, source, (data, costs) in zip(claim.file.data, claim.sources, prepared, strict=True):
        # Before the record is opened, which keeps the file: a refused one leaves no trace.
        registered = _bound(claim, opened, name, settings, deviation)
        with opened.record(
            claim.name,
            "claim",
            _identity(name),
            files={
                claim.path.name: claim.path.read_text(encoding="utf-8"),
                SETTINGS: claim.file.model_dump_json(indent=1),
            },
            params=settings,
            data=data,
        ) as record:
            with Runs(
                claim.name,
                record,
                source,
                data,
                imports=claim.file.imports,
                workers=workers,
                scheduler=scheduler,
                show=show,
            ) as runs:
                protocol = _Protocol(claim, data, costs, record, runs, registered, deviation)
                result = protocol.run()
            _write(ClaimResult(claim.name, (result,), {}, claim.file.level), record)
        results.append(result)
        records.append(record)
    found = ClaimResult(claim.name, tuple(results), _over(claim, results), claim.file.level)
    if found.over:
        for record in records:
            _keep(found, record, "over_data_sets")
    return found


def plan_claim(
    claim: Claim | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
) -> dict[str, tuple[Plan | None, tuple[Step, ...]]]:
    """Say what the protocol will take, and train nothing: trainings, MACs and hours of each step.

    After the pilot, its plan is there too; before it, the looks are the file's or the default.

    Args:
        claim: a claim, a shipped claim's name, or a path.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        workers: processes to train with; one for each core unless given.

    Returns:
        For each data set: the plan, None before the pilot, and the steps.

    Raises:
        InputError: bad input.
        EnvironmentFault: the data or the store are out of reach.
    """
    import os

    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    found = {}
    for name, source in zip(claim.file.data, claim.sources, strict=True):
        data = source.load()
        costs = _costs(claim, data)
        plan = _known_plan(claim, name, data, store, tracking_uri)
        speed = speed_of(claim.cells()[CONTROL], data)
        count = workers or len(os.sched_getaffinity(0))
        found[name] = plan, steps_of(claim, plan, costs, data, speed, count)
    return found


def _known_plan(
    claim: Claim, name: str, data: Dataset, store: str | Path | None, tracking_uri: str | None
) -> Plan | None:
    """The plan that the record's pilot gives; None where there is no record, or the pilot has not ended."""
    from invact.claim.runs import Results
    from invact.tracking import open_store

    if tracking_uri is None and not Path("mlruns" if store is None else store).exists():
        return None
    try:
        opened = open_store(None if store is None else Path(store), tracking_uri)
        record = opened.latest(claim.name, "claim", identity=_identity(name))
    except InputError:
        return None
    results = Results(record.table(), data)
    recipes = tuned(claim, results)
    return None if recipes is None else planned(claim, results, claim.cells(recipes))


def _identity(data: str) -> str:
    # What is trained and tested may change until it is registered: it is still this claim.
    return digest({"data": data})


def _costs(claim: Claim, data: Dataset) -> dict[str, Cost]:
    """Build every network of the protocol once: what cannot be built is refused before any training."""
    from invact.cost import count_macs
    from invact.models import build_model

    cells = claim.cells() | curve_of(claim.file, claim.ratios, {})
    with within(str(claim.path)):
        return {
            key: count_macs(build_model(cell.config, data.input_shape, data.classes, data.maximum))
            for key, cell in cells.items()
        }


def _bound(
    claim: Claim, store: Store, name: str, settings: Mapping[str, Any], deviation: str | None
) -> Preregistration | None:
    """What the claim is bound to; None where it may still be planned, or the user departs from it."""
    try:
        registered = read(store.latest(claim.name, "claim", identity=_identity(name)))
    except InputError:
        return None
    if registered is None or not (changes := registered.changes(settings)):
        return registered
    if deviation is None:
        key, (was, now) = next(iter(changes.items()))
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise InputError(
            f"{claim.path}: {key}: received {now!r}, registered {was!r}{more} on {registered.made}. Allowed: "
            'as registered, a new name for a new claim, or --deviation "REASON", which the report will print'
        )
    return None


def _over(claim: Claim, results: list[SetResult]) -> dict[float, Any]:
    if len(results) < 2:
        return {}
    found = {}
    for ratio in claim.ratios:
        p_values = [
            next((one.rung.p_value for one in result.ratios if one.rung.ratio == ratio), 1.0)
            for result in results
        ]
        found[ratio] = over_sets(tuple(p_values))
    return found


def _keep(result: ClaimResult, record: Record, under: str) -> None:
    from invact.claim.report import write_claim

    with tempfile.TemporaryDirectory() as folder:
        write_claim(result, Path(folder))
        record.log_folder(Path(folder), under)


def _write(result: ClaimResult, record: Record) -> None:
    (one,) = result.sets
    _keep(result, record, "verdict")
    metrics = {}
    if one.plan.margin is not None:
        metrics["claim/margin"] = one.plan.margin
    for name, ratio in (("filters", one.curve and one.curve.filters), ("macs", one.curve and one.curve.macs)):
        if ratio and ratio.estimate is not None and ratio.interval is not None:
            metrics[f"claim/{name}_ratio"] = ratio.estimate
            metrics[f"claim/{name}_ratio_low"], metrics[f"claim/{name}_ratio_high"] = ratio.interval
    record.summarize(
        {name: value for name, value in metrics.items() if np.isfinite(value)},
        tags={
            "invact.verdict": str(one.verdict),
            "invact.filters_verdict": str(one.filters_verdict),
            # MLflow shows this one on the run's page.
            "mlflow.note.content": "\n\n".join(one.reasons),
        },
    )


@dataclass
class _Protocol:
    """One data set's way through the steps."""

    claim: Claim
    data: Dataset
    costs: Mapping[str, Cost]
    record: Record
    runs: Runs
    registered: Preregistration | None
    deviation: str | None

    def run(self) -> SetResult:
        """Take every step, and judge."""
        claim = self.claim
        recipes = self._tune()
        cells = claim.cells(recipes)
        plan = self._pilot(cells)
        if plan.margin is None or plan.procedure is None:
            return self._result(plan, (), None, None, None)
        procedure, margin = plan.procedure, plan.margin
        curve = curve_of(claim.file, claim.ratios, recipes)
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

    def _tune(self) -> dict[str, Recipe]:
        """Give every arm the same number of trials, judged on validation alone."""
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
        """Register the design, or make sure that it is the one that was registered."""
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
                    f"{self.claim.name}: this version of invact makes {key} {now!r} of the file, registered "
                    f'is {was!r}. Allowed: the version that registered it, or --deviation "REASON"'
                )
        self.registered = register(self.record, design, self.deviation or "")

    def _confirm(self, cells: Mapping[str, Cell], procedure: Procedure, margin: float) -> tuple[Rung, ...]:
        """Climb the ladder, training at each look what the next needs."""
        ratios = self.claim.ratios
        macs = {r: self._relative(key_of(TREATMENT, r), "macs") for r in ratios}
        while True:
            arms = {
                ratio: {
                    role: self._series(cells[key_of(role, ratio)], procedure)
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
                    (cells[key_of(role, last.ratio)], self._seeds("confirmation", count))
                    for role, count in sorted(last.wanted.items())
                ],
                f"{last.ratio:g} of the filters, {max(last.wanted.values())} pairs",
            )

    def _series(self, cell: Cell, procedure: Procedure) -> Series:
        return self.runs.results.series("confirmation", cell, self._seeds("confirmation", procedure.most))

    def _also(self, cells: Mapping[str, Cell], arm: str, ratio: float, procedure: Procedure) -> Comparison:
        """Compare the treatment with one more arm at the same filters, under the same procedure."""
        pair = (cells[key_of(TREATMENT, ratio)], cells[key_of(arm, ratio)])
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
        pair = (cells[CONTROL], cells[key_of(TREATMENT, rung.ratio)])
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
        """The control against itself on other seeds, over all the pairs there could be."""
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
        # A run at chance level stays in: it counts, and the gates see it.
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
        # The counted ratio is exact, but the ratio at equal accuracy is an estimate: its bound counts too.
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
