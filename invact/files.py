"""Files that are whole whenever someone reads them."""

from __future__ import annotations

import os
from pathlib import Path

from invact.errors import EnvironmentFault

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    # In the same folder, as a rename does not cross file systems.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # The folder may be no folder, which is the error being reported.
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)
