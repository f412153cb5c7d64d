"""The protocol of a claim: register, tune, then `follow` the course and train what it wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claims.cells import CONTROL, TREATMENT, Cell, Hyperparameters, cell_key, curve_of
from invact.claims.file import BLOCK, Claim
from invact.claims.planning.design import BINDING, RATIO_CONFIDENCE, design_of, matched_excess, rules_of
from invact.claims.planning.pilots import Pilot
from invact.claims.planning.plan import fixed_by, plan_of
from invact.claims.planning.registration import Preregistration, changes_between, fix, register
from invact.claims.planning.tuning import points_of, tuned
from invact.claims.verdict.reasons import ratio_reasons, set_reasons
from invact.claims.verdict.result import CurveResult, RatioResult, SetResult
from invact.claims.verdict.summary import brief_reasons, headlines
from invact.errors import EnvironmentFault
from invact.statistics.comparison.diagnostics import diagnose
from invact.statistics.comparison.population import population_interval
from invact.statistics.ratios.equivalence import curve_ratio, line_ratio
from invact.statistics.ratios.local import fits_cubic, local_ratio
from invact.statistics.sequential.course import (
    CONFIRMATION,
    PILOT,
    SCREEN,
    Course,
    Network,
    Rules,
    confirmation_arm,
    follow,
)
from invact.statistics.sequential.failures import Arm, Runs
from invact.statistics.sequential.ladder import Rung, Verdict, compare
from invact.statistics.sequential.procedure import Outcome

if TYPE_CHECKING:
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
    pilots: tuple[Pilot, ...] = ()

    def run(self) -> SetResult:
        """Run every step and return the verdict with its evidence."""
        claim = self.claim
        self._register(design_of(claim, self.data, self.costs))
        tuned_values = self._tune()
        cells = claim.cells(tuned_values)
        rules = rules_of(claim, self.data, self.costs)
        course, trained = self._follow(rules, cells)
        ratios: tuple[RatioResult, ...] = ()
        if course.rungs:
            decisive = next(
                (one for one in reversed(course.rungs) if one.verdict is Verdict.SUPPORTED), course.rungs[0]
            )
            also = {
                arm: self._also(rules, course, cells, trained, arm, decisive.ratio)
                for arm in claim.file.further
            }
            ratios = tuple(
                self._ratio(rules, course, cells, rung, also if rung is decisive else {})
                for rung in course.rungs
            )
        curve = self._curve(rules, course, cells, curve_of(claim.file, claim.ratios, tuned_values))
        return self._result(rules, course, ratios, curve)

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
        self.registered = register(self.record, design, self.deviation or "", self.pilots)

    def _tune(self) -> dict[str, Hyperparameters]:
        """Tune every arm with the same number of trials; validation accuracy selects."""
        tuning = self.claim.file.tuning
        if tuning is None:
            return {}
        self.runs.train(
            "tuning",
            [
                (cell, self.claim.seeds("tuning", key, tuning.seeds))
                for _, cells in points_of(self.claim, tuning)
                for key, cell in cells.items()
            ],
        )
        return tuned(self.claim, self.runs.results) or {}

    def _follow(
        self, rules: Rules, cells: Mapping[str, Cell]
    ) -> tuple[Course, Mapping[tuple[str, Network], int]]:
        """Train what the course wants, until it wants nothing more; return the number of runs of each."""

        def reached(course: Course) -> None:
            if course.selected:
                assert self.registered is not None
                recipes = {key: cell.config.model_dump(mode="json") for key, cell in cells.items()}
                self.registered = fix(self.record, self.registered, fixed_by(course, recipes), self.deviation)
            for step in dict.fromkeys(step for step, _ in course.wanted):
                wanted = {network: count for (at, network), count in course.wanted.items() if at == step}
                self._train(step, [(cells[cell_key(*network)], count) for network, count in wanted.items()])

        # The record may have more runs than the course asks for, because a further arm needs them.
        return follow(
            rules,
            lambda step, network, count: self._seen(step, cells[cell_key(*network)], count),
            reached,
        )

    def _seen(self, step: str, cell: Cell, count: int = BLOCK) -> Runs:
        return self.runs.results.runs(step, cell, self.claim.seeds(step, cell.key, count))

    def _train(self, step: str, wanted: list[tuple[Cell, int]]) -> None:
        networks = ", ".join(f"{cell.key} to {count} runs" for cell, count in wanted)
        self.runs.train(
            step,
            [(cell, self.claim.seeds(step, cell.key, count)) for cell, count in wanted],
            networks if step == CONFIRMATION else "",
        )

    def _arm(self, course: Course, cell: Cell, rules: Rules, count: int = BLOCK) -> Arm:
        """The first runs of a network in the confirmation, as the course judges them."""
        assert course.margin is not None
        assert course.procedure is not None
        return confirmation_arm(
            rules,
            lambda step, _: self._seen(step, cell, count if step == CONFIRMATION else BLOCK),
            (cell.role, cell.ratio),
            course.margin,
            course.procedure,
        )

    def _also(
        self,
        rules: Rules,
        course: Course,
        cells: Mapping[str, Cell],
        trained: Mapping[tuple[str, Network], int],
        name: str,
        ratio: float,
    ) -> Outcome | None:
        """Compare the treatment with a further arm with as many filters; None if too many runs fail."""
        assert course.procedure is not None
        pair = (cells[cell_key(TREATMENT, ratio)], cells[cell_key(name, ratio)])
        counts = (trained.get((CONFIRMATION, (TREATMENT, ratio)), 0), 0)
        while True:
            treatment, other = (
                self._arm(course, cell, rules, count) for cell, count in zip(pair, counts, strict=True)
            )
            if treatment.ended or other.ended:
                return None
            found, counts = compare(treatment, other, 0.0, course.procedure, rules.floor)
            if found.ended:
                return found
            self._train(CONFIRMATION, list(zip(pair, counts, strict=True)))

    def _ratio(
        self,
        rules: Rules,
        course: Course,
        cells: Mapping[str, Cell],
        rung: Rung,
        also: Mapping[str, Outcome | None],
    ) -> RatioResult:
        assert course.procedure is not None
        first, pair = rung.non_inferiority, (cells[CONTROL], cells[cell_key(TREATMENT, rung.ratio)])
        arms = [self._arm(course, cell, rules) for cell in pair]
        control, treatment = (arm.trained[: first.n] for arm in arms)
        population = diagnostics = None
        if first.n and first.interval:
            old, new = (self._correct(cell, arm, first.n) for cell, arm in zip(pair, arms, strict=True))
            level = first.taken[-1].level
            population = population_interval(old, new, first.interval, level)
            diagnostics = diagnose(control, treatment, first.margin, course.procedure.alpha, rules.floor)
        key = pair[1].key
        result = RatioResult(
            rung=rung,
            filters_ratio=self._relative(key, "filters"),
            hidden_filters_ratio=self._relative(key, "hidden_filters"),
            macs_ratio=self._relative(key, "macs"),
            params_ratio=self._relative(key, "params"),
            matched_excess=matched_excess(self.costs, rung.ratio),
            control=tuple(control.tolist()),
            treatment=tuple(treatment.tolist()),
            population=population,
            diagnostics=diagnostics,
            also=also,
            reasons=(),
        )
        return replace(result, reasons=ratio_reasons(result, self.claim.file))

    def _correct(self, cell: Cell, arm: Arm, n: int) -> np.ndarray:
        """Whether each of the first n runs that trained is correct on each test image."""
        seeds = self.claim.seeds(CONFIRMATION, cell.key, BLOCK)
        rows = self.runs.results.rows(CONFIRMATION, cell, seeds)[~arm.failed].iloc[:n]
        return np.array([self.record.correct(run, self.data.test_count) for run in rows["run_id"]])

    def _relative(self, key: str, what: str) -> float:
        return float(getattr(self.costs[key], what) / getattr(self.costs[CONTROL], what))

    def _curve(
        self, rules: Rules, course: Course, cells: Mapping[str, Cell], curve: Mapping[str, Cell]
    ) -> CurveResult | None:
        file = self.claim.file
        if file.curve is None or course.margin is None or course.failed:
            return None
        self._train("curve", [(cell, file.curve.seeds) for cell in curve.values()])
        screened = [(SCREEN, cells[cell_key(TREATMENT, ratio)], rules.screen) for ratio in rules.ratios]
        points: list[tuple[int, int, float, bool]] = []
        failed = 0
        for step, cell, first in [*screened, *(("curve", cell, file.curve.seeds) for cell in curve.values())]:
            assert isinstance(cell.config.filters, int)
            arm = Arm(self._seen(step, cell), course.margin, first=first)
            failed += arm.failures
            macs = self.costs[cell.key].macs
            points += [
                (cell.config.filters, macs, float(accuracy), cell.role == TREATMENT)
                for accuracy in arm.trained
            ]
        level = Arm(self._seen(PILOT, cells[CONTROL]), course.margin, first=rules.pilot).trained
        width = cells[CONTROL].config.filters
        assert isinstance(width, int)
        ours = [point for point in points if point[3]]
        widths, macs_of, accuracies, _ = zip(*ours, strict=True) if ours else ((), (), (), ())
        if len(level) < 2 or not fits_cubic(widths) or not fits_cubic(macs_of):
            return None
        lines = {}
        if file.curve.control:
            every, every_macs, all_accuracies, treated = zip(*points, strict=True)
            for name, doses in (("filters", every), ("macs", every_macs)):
                lines[f"{name}_line"] = line_ratio(
                    doses, all_accuracies, treated, confidence=RATIO_CONFIDENCE
                )
                lines[f"{name}_shared"] = curve_ratio(doses, all_accuracies, treated, RATIO_CONFIDENCE)
        return CurveResult(
            filters=local_ratio(widths, accuracies, width, level, RATIO_CONFIDENCE, rules.floor),
            macs=local_ratio(
                macs_of, accuracies, self.costs[CONTROL].macs, level, RATIO_CONFIDENCE, rules.floor
            ),
            additions=lines,
            arms=file.names,
            control=(width, self.costs[CONTROL].macs, tuple(level.tolist())),
            runs=tuple(points),
            failed=failed,
        )

    def _result(
        self, rules: Rules, course: Course, ratios: tuple[RatioResult, ...], curve: CurveResult | None
    ) -> SetResult:
        verdict = course.macs_verdict
        # A ratio at equal accuracy that cannot be identified is no evidence; one above 1 contradicts.
        if verdict is Verdict.SUPPORTED and curve and curve.macs.above_one:
            verdict = Verdict.INCONCLUSIVE
        result = SetResult(
            data=self.data.name,
            run_id=self.record.run_id,
            verdict=verdict,
            filters_verdict=course.verdict,
            reasons=(),
            plan=plan_of(course, rules, self.claim.file.power),
            course=course,
            ratios=ratios,
            curve=curve,
            preregistration=self.registered,
            reruns=tuple(self.runs.reruns),
            table=self.runs.results.table,
        )
        file = self.claim.file
        return replace(
            result,
            reasons=(*headlines(result, file), *set_reasons(result, file)),
            brief=brief_reasons(result, file),
        )
