"""Run a claim: one record for each data set, and one verdict over all data sets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invact.claims.file import Claim, identity_of, load_claim
from invact.claims.planning.design import procedure_of
from invact.claims.planning.pilots import earlier_pilots
from invact.claims.planning.registration import Preregistration, read
from invact.claims.protocol import Protocol
from invact.claims.verdict.result import ClaimResult, OverSets, SetResult
from invact.errors import InputError
from invact.files import read_text
from invact.process.quiet import check_backend
from invact.process.spawning import check_script
from invact.process.streams import tell
from invact.statistics.comparison.graph import graphical, ladders_graph
from invact.statistics.sequential.ladder import Verdict
from invact.tracking.reader import SETTINGS

if TYPE_CHECKING:
    from invact.tracking.record import Record
    from invact.tracking.store import Store

__all__ = ["run_claim"]


def run_claim(
    claim: Claim | str | Path,
    *,
    deviation: str | None = None,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    show: bool = True,
) -> ClaimResult:
    """Run the protocol of a claim, or continue it. Finished runs are not trained again.

    The steps are: the preregistration; the tuning of every arm, if the file asks for it; a pilot of control
    and placebo, which fixes the margin; the screen of the treatment at each ratio, which selects one; the
    confirmation on new seeds; and the curve of the equivalence ratios. Each data set has its own record.

    Args:
        claim: a claim, the name of a shipped claim, or the path of a file.
        deviation: the reason why the file differs from the registered design. Without a reason such a file is
            refused.
        store: folder of the MLflow store; `mlruns` unless given.
        tracking_uri: address of an MLflow tracking server or database, used instead of a folder.
        workers: number of processes to train with; one for each core unless given.
        scheduler: address of a running Dask cluster, used instead of local processes.
        show: whether to show progress on standard error.

    Raises:
        InputError: the input is wrong, or the file was changed after the registration without a deviation.
        EnvironmentFault: the data, the store or the cluster cannot be reached, or the registered design was
            altered; or Keras uses another backend than TensorFlow; or each worker would run the calling
            script again, see `invact.process.spawning.check_script`.
        Incomplete: a run failed repeatedly.
    """
    check_backend()
    if scheduler is None:
        check_script()

    from invact.claims.trainer import ClaimTrainer
    from invact.execution.display.stages import stage
    from invact.execution.usage import record_usage
    from invact.execution.workers.template import start_template
    from invact.process.quiet import load_tensorflow
    from invact.tracking.store import open_store

    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    with contextlib.ExitStack() as resources:
        if scheduler is None:
            # The workers load TensorFlow at the same time as this process.
            start_template(resources)
        settings = claim.file.settings()
        procedure_of(claim.file).prepare()
        # Every error of the file is found here, before a store is created.
        with stage("loading TensorFlow and the data, and counting the networks", show=show):
            load_tensorflow()
            prepared = [(data := source.load(), claim.costs(data)) for source in claim.sources]
        for data, _ in prepared:
            data.report()
        opened = open_store(store, tracking_uri)
        results: list[SetResult] = []
        records: list[Record] = []
        for name, source, (data, costs) in zip(claim.file.data, claim.sources, prepared, strict=True):
            # Checked before the record is opened, because that stores the file; a refused one is not stored.
            registered = _bound(claim, opened, name, settings, deviation)
            with opened.record(
                claim.name,
                "claim",
                identity_of(name),
                files={
                    claim.path.name: read_text(claim.path),
                    SETTINGS: claim.file.model_dump_json(indent=1),
                },
                params=settings,
                data=data,
                imports=claim.file.imports,
            ) as record:
                record.show(["param.step", "param.key"], ["test_accuracy", "validation_accuracy", "macs"])
                with ClaimTrainer(
                    claim.name,
                    record,
                    source,
                    data,
                    imports=claim.file.imports,
                    workers=workers,
                    scheduler=scheduler,
                    show=show,
                ) as runs:
                    # Only a registration lists them.
                    pilots = () if registered else earlier_pilots(opened, record, claim, data)
                    protocol = Protocol(claim, data, costs, record, runs, registered, deviation, pilots)
                    result = replace(protocol.run(), time=record_usage(record, runs.usage))
                    if show and runs.usage.trainings:
                        tell(f"{claim.name}: {result.time}")
                _write(ClaimResult(claim.name, (result,), {}, claim.file.alpha), record)
            results.append(result)
            records.append(record)
        found = ClaimResult(claim.name, tuple(results), _over(results), claim.file.alpha)
        if found.over:
            for record in records:
                _keep(found, record, "over_data_sets")
        return found


def _bound(
    claim: Claim, store: Store, name: str, settings: Mapping[str, Any], deviation: str | None
) -> Preregistration | None:
    """The registered design; None before the registration, or if the user gives a deviation from it."""
    try:
        record = store.latest(claim.name, "claim", identity=identity_of(name))
    except InputError:
        return None
    registered = read(record)
    if registered is None or not (changes := registered.changes(settings)):
        return registered
    if deviation is None:
        key, (was, now) = next(iter(changes.items()))
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise InputError(
            f"{claim.path}: {key}: received {now!r}, registered {was!r}{more} on {registered.made}. Allowed: "
            'the registered value, a new file name for a new claim, or --deviation "REASON" (it is printed)'
        )
    return None


def _over(results: list[SetResult]) -> dict[str, OverSets]:
    """The claims on filters and on MACs over several data sets, each with its own ladder."""
    if len(results) < 2:
        return {}
    ladders: dict[str, list[list[float]]] = {"filters": [], "MACs": []}
    for result in results:
        # A verdict that the negative control or the equivalence ratio has lowered is no evidence.
        for what, verdict in (("filters", result.filters_verdict), ("MACs", result.verdict)):
            shown = verdict is Verdict.SUPPORTED
            ladders[what].append(
                [
                    (one.rung.p_value if what == "filters" else one.rung.macs_p_value) if shown else 1.0
                    for one in result.ratios
                ]
                or [1.0]
            )
    found = {}
    for what, ladder in ladders.items():
        sizes = [len(p_values) for p_values in ladder]
        adjusted = graphical(np.concatenate(ladder), *ladders_graph(sizes))
        each = np.split(adjusted, np.cumsum(sizes)[:-1])
        found[what] = OverSets(
            on_all=max(min(p_values) for p_values in ladder),
            on_which={
                result.data: float(p_values.min()) for result, p_values in zip(results, each, strict=True)
            },
        )
    return found


def _keep(result: ClaimResult, record: Record, under: str) -> None:
    from invact.claims.verdict.report import write_claim

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
        if ratio:
            ends = {"": ratio.estimate, "_low": ratio.low, "_high": ratio.high}
            metrics |= {f"claim/{name}_ratio{end}": at for end, at in ends.items() if at is not None}
    record.summarize(
        {name: value for name, value in metrics.items() if np.isfinite(value)},
        tags={
            "invact.verdict": str(one.verdict),
            "invact.filters_verdict": str(one.filters_verdict),
            # MLflow shows the tag of this name on the page of the run.
            "mlflow.note.content": "\n\n".join(filter(None, (*one.reasons, one.time))),
        },
    )
