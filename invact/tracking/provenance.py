"""The provenance of results: versions of Python and of the libraries, and the commit of the working tree."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from invact._version import __version__

__all__ = ["commit", "versions"]

PACKAGES = ("tensorflow", "keras", "numpy", "optuna", "keras-tuner", "mlflow", "distributed")


def versions() -> dict[str, str]:
    """Return the versions of Python, invact and the libraries that affect results, without importing them.

    Example:
        >>> versions()["invact"] == __version__
        True
    """
    found = {"python": platform.python_version(), "invact": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # It has another name, such as tensorflow-cpu.
            continue
    return found


def commit(folder: Path | None = None) -> tuple[str, bool] | None:
    """Return the commit of the user's working tree.

    Args:
        folder: a folder in the working tree; default: the current folder.

    Returns:
        The hash of the commit, and whether tracked files differ from it; None outside a repository.

    Example:
        >>> commit(Path("/")) is None
        True
    """
    head = _git("rev-parse", "HEAD", folder=folder)
    if not head:
        return None
    return head, _git("status", "--porcelain", "--untracked-files=no", folder=folder) != ""


def _git(*arguments: str, folder: Path | None) -> str | None:
    # The timeout keeps a repository on a slow disk from delaying a sweep.
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
