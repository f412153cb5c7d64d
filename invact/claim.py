"""Claims: fewer filters at equal accuracy, tested over many seeds on the test set."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from invact.augmentation import check
from invact.config import (
    ArmName,
    Config,
    Frozen,
    Scalar,
    Seed,
    Seeds,
    beside,
    check_name,
    digest,
    find,
    import_all,
    override,
    read_toml,
    validate,
)
from invact.data import Source
from invact.errors import Incomplete, InputError, within
from invact.results import Status
from invact.statistics.inference import RatioVerdict, Verdict, non_inferiority, overall, verdicts

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from invact.coordinator import Trial
    from invact.data import Dataset

__all__ = ["Claim", "ClaimResult", "RatioResult", "load_claim", "test_claim"]

SETTINGS = "settings.json"


class ClaimFile(Frozen):
    """The keys of a claim's TOML file.

    Attributes:
        data: a data set's name, or a path relative to the file.
        split_seed: decides which training images validate.
        validation_fraction: how many of them.
        control: the arm that the treatment is held against, at the filters of `config`.
        treatment: the arm that is to do with fewer.
        ratios: the treatment's filters over the control's, one test for each.
        margin: the loss of accuracy that still counts as equal, in points (1 point = 0.01).
        alpha: one-sided error rate of the family of ratios.
        seeds: the training seeds; each is one pair of each test.
        imports: modules that register the user's own arms and MAC rules.
        config: the network and its recipe, but for the activation.
    """

    data: str
    split_seed: Seed = 0
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1 / 6
    control: ArmName = "relu"
    treatment: ArmName = "inverse"
    ratios: Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=1)], ...], Field(min_length=1)]
    margin: Annotated[float, Field(strict=True, gt=0, lt=100)]
    alpha: Annotated[float, Field(strict=True, gt=0, lt=0.5)] = 0.05
    seeds: Seeds
    imports: tuple[str, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim that was read and checked.

    Attributes:
        name: the file's stem; names the experiment in MLflow.
        path: the file.
        file: its values, with the overrides in them.
        source: where the data come from.
        control: the control's configuration.
        treatments: the treatment's configuration for each ratio, largest ratio first.
    """

    name: str
    path: Path
    file: ClaimFile
    source: Source
    control: Config
    treatments: Mapping[float, Config]

    def identity(self, data: Dataset) -> str:
        """Hash what decides the trainings and the tests: all but the name.

        Running a claim of the same name and identity continues it; a change of margin, alpha, seeds or
        anything else is another claim.
        """
        return digest(self.file.model_dump(mode="json", exclude={"data"}) | {"data": data.digest})


@dataclass(frozen=True)
class RatioResult:
    """The test of one ratio.

    Attributes:
        verdict: the decision, its Holm-adjusted p-values, and the non-inferiority test behind it.
        differences: test accuracy of the treatment minus that of the control, for each seed, in fractions.
        filters_ratio: filters of the treatment over those of the control, as counted.
        macs_ratio: likewise for MACs.
        params_ratio: likewise for parameters.
    """

    verdict: RatioVerdict
    differences: tuple[float, ...]
    filters_ratio: float
    macs_ratio: float
    params_ratio: float

    def __str__(self) -> str:
        test = self.verdict.test
        low, high = (100 * bound for bound in test.interval)
        return (
            f"{self.verdict.verdict} at {self.filters_ratio:.3g} of the filters, {self.macs_ratio:.3g} of "
            f"the MACs and {self.params_ratio:.3g} of the parameters: accuracy {100 * test.mean:+.2f} points "
            f"({1 - 2 * test.alpha:.0%} interval {low:+.2f} to {high:+.2f}, {test.n} pairs), margin "
            f"{100 * test.margin:g}, p = {self.verdict.p_value:.2g} (Holm)"
            f"{'; no fewer MACs' if self.macs_ratio >= 1 else ''}"
        )


@dataclass(frozen=True)
class ClaimResult:
    """What a claim came to.

    Attributes:
        name: the claim's.
        run_id: its parent run in MLflow.
        verdict: over all ratios.
        ratios: the test of each ratio, largest ratio first.
        table: one row for each (configuration, seed).
    """

    name: str
    run_id: str
    verdict: Verdict
    ratios: tuple[RatioResult, ...]
    table: pd.DataFrame

    def to_pandas(self) -> pd.DataFrame:
        """Return the tests as a table: one row for each ratio; accuracies are fractions."""
        import pandas as pd

        return pd.DataFrame(
            {
                "ratio": one.verdict.ratio,
                "verdict": str(one.verdict.verdict),
                "filters_ratio": one.filters_ratio,
                "macs_ratio": one.macs_ratio,
                "params_ratio": one.params_ratio,
                "n": one.verdict.test.n,
                "difference": one.verdict.test.mean,
                "sd": one.verdict.test.sd,
                "low": one.verdict.test.interval[0],
                "high": one.verdict.test.interval[1],
                "margin": one.verdict.test.margin,
                "alpha": one.verdict.test.alpha,
                "p_value": one.verdict.p_value,
                "p_inferior": one.verdict.p_inferior,
            }
            for one in self.ratios
        )


def load_claim(reference: str | Path, overrides: Mapping[str, Any] | None = None) -> Claim:
    """Read and check a claim.

    Args:
        reference: a shipped claim's name, or a path to a TOML file.
        overrides: values that replace the file's, by dotted key: `{"config.epochs": 3}`.

    Raises:
        InputError: names the file, the key, what was received and what is allowed.

    Example:
        >>> load_claim("digits_claim", {"margin": 0})
        Traceback (most recent call last):
        ...
        invact.errors.InputError: ...digits_claim.toml: margin: received 0. Allowed: greater than 0
    """
    path = find("sweeps", reference)
    values = override(read_toml(path), overrides or {})
    if "space" in values:
        raise InputError(f"{path}: this is a sweep. Allowed: a claim (for a sweep: invact sweep {reference})")
    imports = values.get("imports")
    # First, as they may register the arms that it names; what is no list of texts is refused below.
    if isinstance(imports, list):
        with within(str(path)):
            import_all(name for name in imports if isinstance(name, str))
    file = validate(ClaimFile, values, str(path))
    with within(str(path)):
        if len(file.seeds) < 2:
            raise InputError("seeds: received 1, which is insufficient. Allowed: at least 2")
        with within("config"):
            control = _arm_config(file, file.control)
            check(control.augmentations, file.data)
            treatments = {ratio: _scaled(file, ratio) for ratio in sorted(file.ratios, reverse=True)}
        if len({config.digest() for config in treatments.values()}) < len(file.ratios):
            raise InputError(
                f"ratios: received {list(file.ratios)}. Allowed: each gives another number of filters"
            )
        return Claim(
            name=check_name(path.stem),
            path=path,
            file=file,
            source=Source(beside(path, file.data), file.split_seed, file.validation_fraction),
            control=control,
            treatments=treatments,
        )


def _arm_config(file: ClaimFile, arm: str, **changes: Any) -> Config:
    for key in ("activation", "width_rule", "reference"):
        if key in file.config:
            raise InputError(f"{key}: received {file.config[key]!r}. Allowed: nothing, the claim decides it")
    return validate(Config, {**file.config, "activation": arm, **changes}, "values")


def _scaled(file: ClaimFile, ratio: float) -> Config:
    width = _arm_config(file, file.treatment).filters
    filters = tuple(max(1, round(ratio * each)) for each in (width if isinstance(width, tuple) else (width,)))
    return _arm_config(file, file.treatment, filters=filters if isinstance(width, tuple) else filters[0])


def test_claim(
    claim: Claim | str | Path,
    *,
    store: str | Path | None = None,
    tracking_uri: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    show: bool = True,
) -> ClaimResult:
    """Train control and treatments with every seed, and test each ratio of filters on the test set.

    For each ratio, the accuracies of treatment and control with the same seed are paired, and
    H0: mean(treatment - control) <= -margin is tested, one-sided, by a t test; p-values are Holm-adjusted
    over the ratios. A diverged run stays in with the accuracy that it has. A run that failed leaves the
    claim incomplete: run it again.

    Args:
        claim: a claim, a shipped claim's name, or a path.
        store: the folder of the MLflow store; `mlruns` unless given.
        tracking_uri: an MLflow tracking server or database instead.
        workers: processes to train with; one for each core unless given.
        scheduler: the address of a Dask cluster that is up already.
        show: whether to show progress on standard error.

    Raises:
        InputError: bad input.
        EnvironmentFault: the data, the store or the cluster is out of reach.
        Incomplete: a run failed.
    """
    from invact.coordinator import Coordinator
    from invact.engine import Engine
    from invact.progress import make_progress
    from invact.tracking import open_store

    if not isinstance(claim, Claim):
        claim = load_claim(claim)
    file = claim.file
    data = claim.source.load()
    _check_builds(claim, data)
    with open_store(None if store is None else Path(store), tracking_uri).record(
        claim.name,
        "claim",
        claim.identity(data),
        files={
            claim.path.name: claim.path.read_text(encoding="utf-8"),
            SETTINGS: file.model_dump_json(indent=1),
        },
        params=file.model_dump(mode="json"),
        data=data,
    ) as record:
        trials = _trials(claim, record.table())
        missing = [trial for trial in trials if len(trial.recorded) < len(trial.seeds)]
        if missing:
            done = sum(len(trial.recorded) for trial in trials)
            queue = iter(missing)
            with (
                make_progress(len(trials) * len(file.seeds), done, show=show) as progress,
                Engine(
                    claim.source, data, workers=workers, scheduler=scheduler, imports=file.imports
                ) as engine,
            ):
                progress.message(f"{claim.name}: {engine.slots} workers, {data!r}")
                coordinator = Coordinator(engine, record, progress)
                coordinator.run(lambda: next(queue, None), lambda trial, runs: None)
        table = record.table()
        failed = table[table["status"] == Status.FAILED]
        if len(failed):
            first = failed.iloc[0]
            raise Incomplete(
                f"{claim.name}: {len(failed)} of {len(trials) * len(file.seeds)} runs failed, so no verdict; "
                "the same command tries them again. The first: "
                f"{first['label']}, seed {first['seed']}: {first['error']}"
            )
        result = judge(claim, table, record.run_id)
        with tempfile.TemporaryDirectory() as folder:
            write_claim(result, Path(folder))
            record.log_folder(Path(folder), "verdict")
        record.summarize({}, tags={"invact.verdict": str(result.verdict)})
    return result


def _check_builds(claim: Claim, data: Dataset) -> None:
    from invact.models import build_model

    with within(str(claim.path)):
        for config in (claim.control, *claim.treatments.values()):
            build_model(config, data.input_shape, data.classes, data.maximum)


def _trials(claim: Claim, table: pd.DataFrame) -> list[Trial]:
    from invact.coordinator import Trial

    arms = {(claim.file.control, 1.0, "control"): claim.control}
    arms |= {(claim.file.treatment, ratio, "treatment"): config for ratio, config in claim.treatments.items()}
    trials = []
    for number, ((arm, ratio, role), config) in enumerate(arms.items()):
        ended = table.loc[(table["trial"] == number) & (table["status"] != Status.FAILED), "seed"]
        values: dict[str, Scalar] = {"activation": arm, "ratio": ratio, "role": role}
        label = f"{arm}, {ratio:g} of the filters"
        trials.append(Trial(number, config, claim.file.seeds, label, values, frozenset(ended)))
    return trials


def judge(claim: Claim, table: pd.DataFrame, run_id: str = "") -> ClaimResult:
    """Test each ratio on the table of runs, one row for each (trial, seed); trial 0 is the control."""
    seeds = list(claim.file.seeds)
    by_trial = [
        table[table["trial"] == number].set_index("seed").loc[seeds]
        for number in range(1 + len(claim.treatments))
    ]
    control = by_trial[0]
    differences = {
        ratio: (by_trial[number]["test_accuracy"] - control["test_accuracy"]).to_numpy()
        for number, ratio in enumerate(claim.treatments, start=1)
    }
    judged = verdicts(
        {
            ratio: non_inferiority(values, claim.file.margin / 100, claim.file.alpha)
            for ratio, values in differences.items()
        }
    )

    def ratio_of(number: int, column: str) -> float:
        return float(by_trial[number][column].iloc[0] / control[column].iloc[0])

    ratios = tuple(
        RatioResult(
            verdict,
            tuple(map(float, differences[verdict.ratio])),
            *(ratio_of(number, column) for column in ("filters", "macs", "params")),
        )
        for number, verdict in enumerate(judged, start=1)
    )
    return ClaimResult(claim.name, run_id, overall(judged), ratios, table)


def claim_values(result: ClaimResult) -> dict[str, Any]:
    """Put a result in JSON-like values."""
    ratios = [
        row | {"differences": list(one.differences), "text": str(one)}
        for row, one in zip(result.to_pandas().to_dict("records"), result.ratios, strict=True)
    ]
    return {"name": result.name, "run_id": result.run_id, "verdict": str(result.verdict), "ratios": ratios}


def claim_table(result: ClaimResult) -> Table:
    """Tabulate the tests for the terminal; accuracies in points."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"{result.name}: {result.verdict}", style="bold"),
        caption=Text("\n".join(map(str, result.ratios))),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
    )
    columns = ("ratio", "verdict", "filters", "MACs", "params", "pairs", "difference", "interval", "p (Holm)")
    for column in columns:
        table.add_column(column, justify="left" if column == "verdict" else "right", no_wrap=True)
    for one in result.ratios:
        test = one.verdict.test
        table.add_row(
            f"{one.verdict.ratio:g}",
            str(one.verdict.verdict),
            *(f"{ratio:.3f}" for ratio in (one.filters_ratio, one.macs_ratio, one.params_ratio)),
            str(test.n),
            f"{100 * test.mean:+.2f}",
            f"{100 * test.interval[0]:+.2f} to {100 * test.interval[1]:+.2f}",
            f"{one.verdict.p_value:.3g}",
        )
    return table


def write_claim(result: ClaimResult, folder: Path) -> None:
    """Write `claim.csv`, `claim.json`, `runs.csv` and a forest plot, `claim.png`."""
    from invact.report import claim_figure, picture, write_atomically

    tests = [one.verdict.test for one in result.ratios]
    figure = claim_figure(
        [one.verdict.ratio for one in result.ratios],
        [one.differences for one in result.ratios],
        [test.interval for test in tests],
        [one.verdict.verdict for one in result.ratios],
        tests[0].margin,
        title=f"{result.name}: {result.verdict}",
        level=1 - 2 * tests[0].alpha,
    )
    files = {
        "claim.csv": result.to_pandas().to_csv(index=False).encode(),
        "claim.json": json.dumps(claim_values(result), indent=1, allow_nan=False).encode(),
        "claim.png": picture(figure, "png"),
        "runs.csv": result.table.to_csv(index=False).encode(),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
