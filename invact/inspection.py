"""What there is, and what it costs: the tables of `invact list` and `invact cost`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.arms import ARMS
from invact.config import Config, beside, find, read_toml, shipped, validate
from invact.data import Source
from invact.errors import InputError, one_line, within
from invact.locations import DATASETS, locate

if TYPE_CHECKING:
    from rich.table import Table

    from invact.cost import Cost

__all__ = ["cost_tables", "cost_values", "costs_of", "inventory", "inventory_tables"]


def costs_of(reference: str) -> dict[str, Cost]:
    """Count what the networks of a file cost.

    Args:
        reference: a `.keras` model; or a TOML file or shipped name: of a sweep, the networks it enqueues,
            or else its smallest; of a claim, each arm; of a configuration, its network. A configuration's
            file has the keys of `Config`, and `data`.

    Returns:
        A name for each network -> its cost.

    Raises:
        InputError: not such a file, or the model cannot be read or counted.
    """
    from invact.cost import count_macs

    if reference.endswith(".keras"):
        return {Path(reference).name: count_macs(_read_model(Path(reference)))}
    path = find("sweeps", reference)
    configs, source = _networks(path)
    data = source.load()
    from invact.models import build_model

    with within(str(path)):
        return {
            name: count_macs(build_model(config, data.input_shape, data.classes, data.maximum))
            for name, config in configs.items()
        }


def _networks(path: Path) -> tuple[dict[str, Config], Source]:
    values = read_toml(path)
    if "ratios" in values:
        from invact.claim import load_claim

        claim = load_claim(path)
        # What it costs is that of its first data set's images.
        return {cell.label: cell.config for cell in claim.cells().values()}, claim.sources[0]
    if "space" in values:
        from invact.search import small_configurations
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


def _read_model(path: Path) -> Any:
    import keras

    from invact import layers  # noqa: F401 registers the layers that the file names

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        # Safe mode stays on: a model from elsewhere must not run code.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise InputError(f"{path}: not a .keras model that can be read safely ({one_line(error)})") from None


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
                "layers": cost.to_pandas().to_dict("records"),
            }
            for name, cost in costs.items()
        ]
    }


def cost_tables(costs: Mapping[str, Cost]) -> list[Table]:
    """Tabulate costs for the terminal, a table for each network."""
    return [
        _table(
            name,
            ("layer", "kind", "output", "MACs", "parameters", "filters", "elementwise"),
            [
                *(
                    (
                        layer.name,
                        layer.kind,
                        " x ".join(map(str, layer.output_shape)),
                        *(f"{n:,}" for n in (layer.macs, layer.params, layer.filters, layer.elementwise)),
                    )
                    for layer in cost.layers
                ),
                (
                    "total",
                    "",
                    "",
                    *(f"{n:,}" for n in (cost.macs, cost.params, cost.filters, cost.elementwise)),
                ),
            ],
            numbers=4,
        )
        for name, cost in costs.items()
    ]


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
        _table(
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
        tables.append(_table(kind.replace("_", " "), columns, rows))
    return tables


def _counts(runs: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in runs.items())


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]], numbers: int = 0) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE)
    names = list(columns)
    for index, column in enumerate(names):
        table.add_column(column, justify="right" if index >= len(names) - numbers and numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
def _maker(record: Mapping[str, Any]) -> str:
    return str(record["kind"] if record["kind"] == "confirmation" else record["driver"])


