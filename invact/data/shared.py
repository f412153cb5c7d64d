"""Data sets that the processes of one machine share: each maps the files of the arrays into memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from invact.data.dataset import Dataset, digest_of
from invact.files import cache_folder

if TYPE_CHECKING:
    from invact.data.dataset import Source

__all__ = ["KEPT", "share", "shared"]

KEPT = 4
"""How many data sets stay in the folder; the one that was shared longest ago is deleted first."""

ARRAYS = ("x_train", "y_train", "x_validation", "y_validation", "x_test", "y_test")
ABOUT = "about.json"


def share(data: Dataset) -> None:
    """Write the arrays of a data set to the folder `arrays` of `$INVACT_CACHE`, for `shared`.

    Nothing is written if the data set is there, or if the folder cannot be written.
    """
    folder = _folder(data.digest)
    draft = folder.with_name(f".{data.digest}.{os.getpid()}")
    with contextlib.suppress(OSError):
        if folder.is_dir():
            os.utime(folder)
            return
        draft.mkdir(parents=True)
        try:
            for name in ARRAYS:
                np.save(draft / f"{name}.npy", getattr(data, name))
            (draft / ABOUT).write_text(json.dumps(_about(data)), encoding="utf-8")
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        others = [each for each in folder.parent.iterdir() if not each.name.startswith(".")]
        # A process that has mapped a file keeps its content after the file is deleted.
        for old in sorted(others, key=lambda each: each.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def shared(source: Source, digest: str) -> Dataset | None:
    """Return the data set with this digest, mapped into memory; None if it is not shared, or is damaged.

    All processes that map it share one copy in memory, which is read from the disk when it is used.

    Args:
        source: the description of the data set, which gives its name.
        digest: the digest; the arrays are checked against it.
    """
    folder = _folder(digest)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        for name in ARRAYS:
            # A plain view, because functions of NumPy return the class of a mapped array.
            about[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
        data = Dataset(source.name, **about | {"pixel_range": tuple(about["pixel_range"])})
        found = digest_of(data)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return data if found == data.digest == digest else None


def _folder(digest: str) -> Path:
    return cache_folder() / "arrays" / digest


def _about(data: Dataset) -> dict[str, object]:
    names = ("classes", "split_seed", "validation_fraction", "pixel_range", "digest", "remark")
    return {name: getattr(data, name) for name in names}
