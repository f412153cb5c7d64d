"""What there is, and what it costs: the tables of `invact list` and `invact cost`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.archives import read_model
from invact.arms import ARMS
from invact.config import Config, beside, find, read_toml, shipped, validate
from invact.data import Source
from invact.errors import InputError, within
from invact.locations import DATASETS, locate
from invact.tables import table_of

if TYPE_CHECKING:
    from rich.table import Table

    from invact.cost import Cost, LayerCost
    from invact.latency import Latencies

__all__ = [
    "cost_csv",
    "cost_tables",
    "cost_values",
    "costs_of",
    "inventory",
    "inventory_tables",
    "latency_tables",
    "latency_values",
    "models_of",
]


def costs_of(reference: str, input_shape: Sequence[str] | None = None) -> dict[str, Cost]:
    """Count what the networks of a file cost.

    Args:
        reference: a `.keras` model; or a TOML file or shipped name: of a sweep, the networks it enqueues,
            or else its smallest; of a claim, each arm; of a configuration, its network. A configuration's
            file has the keys of `Config`, and `data`.
        input_shape: for a `.keras` model with open dimensions: the shape of each input as text, without
            the batch, e.g. `"224,224,3"`.

    Returns:
        A name for each network -> its cost.

    Raises:
        InputError: not such a file, or the model cannot be read or counted.
    """
    from invact.cost import count_macs

    shapes = [_shape(text) for text in input_shape or ()]
    if shapes and not reference.endswith(".keras"):
        raise InputError(f"input_shape: received {input_shape}. Allowed: with a .keras model")
    models = models_of(reference)
    with within(reference):
        return {name: count_macs(model, shapes or None) for name, model in models.items()}


def models_of(reference: str) -> dict[str, Any]:
    """Build the networks of a file, or read them; see `costs_of`.

    Returns:
        A name for each network -> the Keras model.

    Raises:
        InputError: not such a file, or a model cannot be read or built.
    """
    if reference.endswith(".keras"):
        path = Path(reference)
        return {path.name: read_model(path)}
    path = find("sweeps", reference)
    configs, source = _networks(path)
    data = source.load()
    from invact.models import build_model

    with within(str(path)):
        return {
            name: build_model(config, data.input_shape, data.classes, data.maximum)
            for name, config in configs.items()
        }


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(f"input_shape: received {text!r}. Allowed: sizes without the batch, e.g. 224,224,3")
    return shape


def _networks(path: Path) -> tuple[dict[str, Config], Source]:
    values = read_toml(path)
    if "ratios" in values:
        from invact.claim import load_claim

        claim = load_claim(path)
        # What it costs is that of its first data set's images.
        return {cell.label: cell.config for cell in claim.cells().values()}, claim.sources[0]
    if "space" in values:
        from invact.gate import small_configurations
        from invact.sweep import load_sweep

        sweep = load_sweep(path)
        chosen = sweep.file.enqueue or (next(small_configurations(sweep.space)),)
        checked = [sweep.space.check(each, str(path)) for each in chosen]
        configs = [sweep.space.config(each) for each in checked]
        return {f"{n}: {c.activation}, filters {c.filters}": c for n, c in enumerate(configs)}, sweep.source
    if "data" not in values:
        raise InputError(
            f"{path}: data: missing key. Allowed: {', '.join(DATASETS)}, or a path to an .npz file"
        )
    data = values.pop("data")
    if not isinstance(data, str):
        raise InputError(f"{path}: data: received {data!r}. Allowed: a name or a path, as text")
    return {path.stem: validate(Config, values, str(path))}, Source(beside(path, data))


def cost_values(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Put costs in JSON-like values."""
    return {
        "networks": [
            {
                "name": name,
                "macs": cost.macs,
                "params": cost.params,
                "filters": cost.filters,
                "elementwise": cost.elementwise,
                "bytes_written": cost.bytes_written,
                "bytes_moved": cost.bytes_moved,
                "activation_bytes": cost.activation_bytes,
                "relu_macs": cost.relu_macs,
                "saved": cost.saved,
                "layers": [asdict(layer) for layer in cost.layers],
            }
            for name, cost in costs.items()
        ]
    }


def cost_csv(costs: Mapping[str, Cost]) -> str:
    """Put costs in CSV: a row for each call of a layer, its network in the first column."""
    import pandas as pd

    tables = [cost.to_pandas() for cost in costs.values()]
    named = pd.concat(tables, keys=list(costs), names=["network", None]).reset_index(level="network")
    text: str = named.to_csv(index=False)
    return text


def cost_tables(costs: Mapping[str, Cost]) -> list[Table]:
    """Tabulate costs for the terminal, a table for each network."""
    numbers = ("macs", "params", "filters", "elementwise", "bytes_written", "bytes_moved", "activation_bytes")

    def row(named: Sequence[str], of: Cost | LayerCost) -> tuple[str, ...]:
        return (*named, *(f"{getattr(of, number):,}" for number in numbers))

    return [
        table_of(
            name,
            (
                "layer",
                "kind",
                "output",
                "MACs",
                "parameters",
                "filters",
                "elementwise",
                "bytes written",
                "bytes moved",
                "bytes alive",
            ),
            [
                *(
                    row((layer.name, layer.kind, " x ".join(map(str, layer.output_shape))), layer)
                    for layer in cost.layers
                ),
                row(("total, peak", "", ""), cost),
            ],
            len(numbers),
            _saving(cost),
        )
        for name, cost in costs.items()
    ]


def latency_values(found: Latencies) -> dict[str, Any]:
    """Put latencies in JSON-like values."""
    return asdict(found)


def latency_tables(found: Latencies) -> list[Table]:
    """Tabulate latencies for the terminal."""
    where = f"{len(found.processors)} pinned processors" if found.processors else "not pinned"
    about = ", ".join([found.machine, f"{found.threads} threads, {where}", *found.versions.values()])
    rows = [
        (
            row.name,
            row.runtime,
            f"{row.p50_ms:.3f}",
            f"{row.p90_ms:.3f}",
            f"{row.ratio:.2f}",
            f"{row.ratio_low:.2f} to {row.ratio_high:.2f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.1f}",
        )
        for row in found.rows
    ]
    columns = ("network", "runtime", "p50 ms", "p90 ms", "ratio", "quartiles", "peak MiB")
    return [table_of(f"one inference of {found.batch}", columns, rows, 5, about)]


def _saving(cost: Cost) -> str:
    if cost.relu_macs is None or cost.saved is None:
        return "there is no ReLU network of equal channels to compare with"
    if cost.relu_macs == cost.macs:
        return ""
    return f"saves {cost.saved:.1%} of the {cost.relu_macs:,} MACs of the ReLU network of equal channels"


def inventory(store: Path | None = None, tracking_uri: str | None = None) -> dict[str, Any]:
    """List what is shipped: sweeps, claims, spaces, arms and data sets, and where each stands in the store.

    Raises:
        EnvironmentFault: the store is there but cannot be read.
    """
    from invact.tracking import open_store

    # Looking makes no store.
    there = tracking_uri is not None or (store or Path("mlruns")).exists()
    records = open_store(store, tracking_uri).records() if there else []
    standing: dict[str, list[dict[str, Any]]] = {}
    for info in records:
        counts = {str(status): count for status, count in info.counts.items()}
        standing.setdefault(info.name, []).append(
            {"kind": info.kind, "driver": info.driver, "status": info.status, "runs": counts}
            | {"run_id": info.run_id}
        )
    files: dict[str, list[dict[str, Any]]] = {"sweeps": [], "claims": []}
    for name in shipped("sweeps"):
        path = find("sweeps", name)
        kind = "claims" if "ratios" in read_toml(path) else "sweeps"
        files[kind].append({"name": name, "about": _about(path), "records": standing.pop(name, [])})
    return {
        **files,
        "others": [{"name": name, "records": found} for name, found in standing.items()],
        "search_spaces": [
            {"name": name, "about": _about(find("search_spaces", name))} for name in shipped("search_spaces")
        ],
        "arms": [
            {"name": arm.name, "multiplicity": arm.multiplicity, "formula": arm.summary}
            for arm in ARMS.values()
        ],
        "data": [
            {"name": name, "about": about, "location": str(locate(name))} for name, about in DATASETS.items()
        ],
    }


def _about(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def inventory_tables(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate an inventory for the terminal."""

    def standing(records: Iterable[Mapping[str, Any]]) -> str:
        return "; ".join(
            " ".join(filter(None, (_maker(one), one["status"], _counts(one["runs"])))) for one in records
        )

    tables = [
        table_of(
            kind,
            ("name", "about", "stands"),
            [(each["name"], each.get("about", ""), standing(each["records"])) for each in found[kind]],
        )
        for kind in ("sweeps", "claims", "others")
        if found[kind]
    ]
    for kind in ("search_spaces", "arms", "data"):
        columns = list(found[kind][0]) if found[kind] else []
        rows = [tuple(map(str, each.values())) for each in found[kind]]
        tables.append(table_of(kind.replace("_", " "), columns, rows))
    return tables


def _maker(record: Mapping[str, Any]) -> str:
    return str(record["kind"] if record["kind"] == "confirmation" else record["driver"])


def _counts(runs: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in runs.items())
