"""Where the files of a store are: the addresses in the database of a store that was moved or copied."""
# MLflow keeps an absolute address for each experiment and run. A relative one is not possible: the server and
# each client would start from their own current folder.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["ARTIFACTS", "location_of", "moved", "place_of"]

ARTIFACTS = "artifacts"
"""The folder beside the database that has a folder for each experiment."""


def location_of(folder: Path, experiment: str) -> str:
    """Return the address of an experiment's files in a store.

    Example:
        >>> location_of(Path("/home/ann/mlruns"), "digits")
        'file:///home/ann/mlruns/artifacts/digits'
    """
    return (folder / ARTIFACTS / experiment).as_uri()


def moved(experiments: Iterable[tuple[str, str]], folder: Path) -> dict[str, str]:
    """Return the experiments whose files are in another folder than the one in the database.

    The files of an experiment are in `artifacts` beside the database, whatever the database says. Only an
    experiment that neither invact nor its server has made can have its files elsewhere.

    Args:
        experiments: the name and the address of each experiment, from the database.
        folder: the folder of the database.

    Returns:
        The address beside the database, by the address in the database.

    Example:
        >>> moved([("digits", "file:///cluster/artifacts/digits")], Path("/home"))
        {'file:///cluster/artifacts/digits': 'file:///home/artifacts/digits'}
        >>> moved([("digits", "file:///home/artifacts/digits"), ("mine", "s3://bucket/1")], Path("/home"))
        {}
    """
    found = {}
    for name, address in experiments:
        try:
            scheme, _, path, _, _ = urlsplit(address)
        except ValueError:
            continue
        if scheme not in ("", "file"):
            continue
        known = Path(unquote(path) if scheme else address)
        beside = folder / ARTIFACTS / known.name
        # The server names a folder after the experiment's number, as a user's own folder may be named.
        ours = known.name == name or beside.is_dir()
        if known.parent.name == ARTIFACTS and ours and known != beside:
            found[address] = beside.as_uri()
    return found


def place_of(address: str, moved: Mapping[str, str]) -> str:
    """Return where the files at an address of the database are.

    Args:
        address: the address of an experiment, a run or a model.
        moved: the result of `moved`.

    Example:
        >>> place_of("file:///a/artifacts/t/81/artifacts", {"file:///a/artifacts/t": "file:///b/artifacts/t"})
        'file:///b/artifacts/t/81/artifacts'
    """
    for old, new in moved.items():
        if address == old or address.startswith(f"{old}/"):
            return new + address.removeprefix(old)
    return address
