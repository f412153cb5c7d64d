"""What a report shows of sweeps and claims: rows with means over seeds, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from invact.fronts.confirmation import CONFIDENCE, Mean
from invact.text import html_of, leading

if TYPE_CHECKING:
    import pandas as pd

    from invact.reports.summary.reference import Reference

__all__ = ["CONFIDENCE", "Difference", "Recorded", "Row", "Summary"]


@dataclass(frozen=True)
class Difference:
    """The treatment of a claim compared with another arm, as the claim tested it.

    Attributes:
        of: the two arms, such as `treatment 0.5 - control`.
        value: difference of the mean test accuracies at the last look of the test, with its repeated
            confidence interval, as fractions.
        runs: number of runs of each arm at this look.
        margin: non-inferiority margin, as a fraction; 0 in a test of superiority.
    """

    of: str
    value: Mean
    runs: int
    margin: float


@dataclass(frozen=True)
class Row:
    """One configuration of a sweep, or one arm in the confirmation of a claim.

    Attributes:
        label: name of the configuration or of the arm.
        activation: its arm, or those of all stages joined by `/`.
        trial: number of its trial in the record.
        config: digest of the configuration.
        filters: number of filters over all layers; None if the network was never built. The same holds for
            `macs` (multiply-accumulates for one image) and `params` (parameters).
        runs: number of runs that trained. The means are those of these runs.
        failures: `diverged`, `collapsed` and `failed` -> number of runs that are left out of the means.
        pruned: number of seeds that the pruner of a sweep stopped or did not start.
        validation: mean validation accuracy with its t interval over seeds, as fractions; None without runs.
        test: the same for the test accuracy.
        loss: the same for the test loss, in nats.
        values: the parameters that the sweep varies; `arm` and `ratio` in a claim.
        difference: the comparison of the treatment with the control, or with this arm if it is neither; None
            if the claim has not made it.
        references: the published figures of this configuration.
    """

    label: str
    activation: str
    trial: int
    config: str
    filters: int | None
    macs: int | None
    params: int | None
    runs: int
    failures: Mapping[str, int]
    pruned: int
    validation: Mean | None
    test: Mean | None
    loss: Mean | None
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    difference: Difference | None = None
    references: tuple[Reference, ...] = ()

    @property
    def failed(self) -> int:
        """Number of all runs that failed in one way or another."""
        return sum(self.failures.values())


@dataclass(frozen=True)
class Recorded:
    """What the record of a sweep has, or that of a claim on one data set.

    Attributes:
        name: name of the sweep or claim.
        kind: `sweep` or `claim`.
        data: name of the data set.
        run_id: parent run in MLflow.
        rows: its rows. Those of a sweep are sorted by validation accuracy, the best first. In a claim, the
            control comes first, and then of each ratio the treatment and the other arms.
        notes: what a reader must know about the record, such as that it is not finished, as sentences.
        verdicts: `filters` and `macs` -> verdict of a claim; empty for a sweep and before the end.
        ratios: `filters` and `macs` -> the share that the treatment needs for equal accuracy, if the claim
            has estimated it.
    """

    name: str
    kind: str
    data: str
    run_id: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    verdicts: Mapping[str, str] = field(default_factory=dict, hash=False)
    ratios: Mapping[str, Mean] = field(default_factory=dict, hash=False)

    @property
    def title(self) -> str:
        """Name and data set."""
        return f"{self.name} on {self.data}"

    @property
    def empty(self) -> bool:
        """Whether the record has nothing to report yet."""
        return not self.rows and not self.verdicts


@dataclass(frozen=True)
class Summary:
    """Several sweeps and claims in one table; made by `invact.summarize`.

    Attributes:
        records: the sweeps, and the claims with one entry for each data set, in the order of the names.
    """

    records: tuple[Recorded, ...]

    def __repr__(self) -> str:
        """Name the records and count their rows.

        Example:
            >>> Summary((Recorded("digits", "sweep", "digits", "81a0", ()),))
            Summary(digits on digits: 0 rows)
        """
        return f"Summary({'; '.join(self._counts())})"

    def _repr_html_(self) -> str:
        return html_of(", ".join(one.name for one in self.records), self._counts(), self.to_pandas())

    def _counts(self) -> list[str]:
        return [f"{one.title}: {len(one.rows)} rows" for one in self.records]

    def to_pandas(self) -> pd.DataFrame:
        """Return all rows as a table; accuracies, differences and margins are fractions.

        Returns:
            The columns `label, record, data, macs, test_accuracy, test_low, test_high`, the other values of
            the rows, `difference*` if a claim has one, `param.<name>` for each of `values`, and for the n-th
            published figures of a row `reference`, `reference_test_accuracy` and so on, from the second on
            `reference_2` and so on.
        """
        import pandas as pd

        rows = [_columns(record, row) for record in self.records for row in record.rows]
        every = list(dict.fromkeys(name for row in rows for name in row))
        names = [name for name in every if not name.startswith(("param.", "reference"))]
        names += [name for name in every if name.startswith("param.")]
        names += sorted(name for name in every if name.startswith("reference"))
        table = pd.DataFrame(rows, columns=names or list(_FIRST))
        counted = [name for name in ("filters", "macs", "params", "difference_runs") if name in table]
        return leading(table.astype(dict.fromkeys(counted, "Int64")), *_FIRST)


_FIRST = ("label", "record", "data", "macs", "test_accuracy", "test_low", "test_high")


def _columns(record: Recorded, row: Row) -> dict[str, Any]:
    columns: dict[str, Any] = {
        **{name: getattr(row, name) for name in ("label", "macs", "params", "filters", "trial", "config")},
        "record": record.name,
        "kind": record.kind,
        "data": record.data,
        "runs": row.runs,
        **row.failures,
        "pruned": row.pruned,
        **_ends("validation_accuracy", "validation", row.validation),
        **_ends("test_accuracy", "test", row.test),
        **_ends("test_loss", "test_loss", row.loss),
        **{f"param.{name}": value for name, value in row.values.items()},
    }
    if (one := row.difference) is not None:
        columns |= {"difference_of": one.of, **_ends("difference", "difference", one.value)}
        columns |= {"difference_runs": one.runs, "margin": one.margin}
    for number, reference in enumerate(row.references, 1):
        key = "reference" if number == 1 else f"reference_{number}"
        columns |= {key: reference.source}
        columns |= {f"{key}_{name}": value for name, value in reference.figures.items()}
    return columns


def _ends(name: str, stem: str, mean: Mean | None) -> dict[str, float | None]:
    ends = (None, None, None) if mean is None else (mean.value, mean.low, mean.high)
    return dict(zip((name, f"{stem}_low", f"{stem}_high"), ends, strict=True))
