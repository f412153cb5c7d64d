"""`invact list`: list the shipped files, arms and data sets, and the records in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invact.arms import ARMS
from invact.cli.options import Json, Store, TrackingUri, show
from invact.files import find, read_toml, shipped
from invact.reports.tables import Column, Listing

__all__ = ["inventory", "inventory_tables", "list_"]


def list_(store: Store = None, tracking_uri: TrackingUri = None, as_json: Json = False) -> None:
    """List the shipped files, the arms and the data sets.

    For each sweep and claim, the list shows the state of its records in the store.
    """
    found = inventory(store, tracking_uri)
    show(as_json, found, *inventory_tables(found))


def inventory(store: Path | None = None, tracking_uri: str | None = None) -> dict[str, Any]:
    """List the shipped sweeps, claims, spaces, recipes, arms and data sets, and the records in the store.

    Raises:
        EnvironmentFault: the store exists but cannot be read.
    """
    from invact.data.sources import DATASETS, locate
    from invact.tracking.store import has_store, open_store

    records = []
    if has_store(store, tracking_uri):
        records = open_store(store, tracking_uri, read_only=True).records()
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
        "search_spaces": _described("search_spaces"),
        "recipes": _described("recipe"),
        "arms": [
            {"name": arm.name, "multiplicity": arm.multiplicity, "formula": arm.summary}
            for arm in ARMS.values()
        ],
        "data": [
            {"name": name, "about": about, "location": str(locate(name))} for name, about in DATASETS.items()
        ],
    }


def _described(kind: str) -> list[dict[str, str]]:
    return [{"name": name, "about": _about(find(kind, name))} for name in shipped(kind)]


def _about(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def inventory_tables(found: Mapping[str, Any]) -> list[Listing]:
    """Build the tables of an inventory for the terminal."""
    about = Column("about", "prose", least=20)
    others = {"multiplicity": Column("multiplicity"), "about": about}

    def standing(records: Iterable[Mapping[str, Any]]) -> str:
        return "; ".join(
            " ".join(filter(None, (_maker(one), one["status"], _counts(one["runs"])))) for one in records
        )

    tables = [
        Listing(
            kind,
            (Column("name", "text", least=20), about, Column("state", "prose", least=20)),
            tuple((each["name"], each.get("about", ""), standing(each["records"])) for each in found[kind]),
        )
        for kind in ("sweeps", "claims", "others")
        if found[kind]
    ]
    for kind in ("search_spaces", "recipes", "arms", "data"):
        names = list(found[kind][0]) if found[kind] else []
        columns = [others.get(name, Column(name, "text" if name == "name" else "prose")) for name in names]
        rows = [tuple(map(str, each.values())) for each in found[kind]]
        tables.append(Listing(kind.replace("_", " "), tuple(columns), tuple(rows)))
    return tables


def _maker(record: Mapping[str, Any]) -> str:
    return str(record["kind"] if record["kind"] == "confirmation" else record["driver"])


def _counts(runs: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in runs.items())
