"""The provenance of results: versions of Python and of the libraries, variables, and the user's commit."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from invact._version import __version__
from invact.arms import SHIPPED, get_arm
from invact.config import Config
from invact.process.quiet import warn
from invact.process.sources import source_digest

__all__ = [
    "CODE",
    "NO_CODE",
    "UNKNOWN_CODE",
    "code_of",
    "commit",
    "continued",
    "differences",
    "environment",
    "numerics",
    "numerics_in",
    "provenance_tags",
    "versions",
]

PACKAGES = ("tensorflow", "keras", "numpy", "optuna", "keras-tuner", "mlflow", "distributed")

DECISIVE = ("python", "tensorflow", "keras", "numpy")
"""What computes the numbers of a training; another version may give other last digits."""

VARIABLES = (
    # oneDNN and other kernels of the processor
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_ENABLE_ONEDNN_SPMM",
    "TF_ENABLE_ZENDNN_OPTS",
    "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "TF_USE_DEEP_CONV2D",
    # compilers and precision
    "XLA_FLAGS",
    "TF_XLA_FLAGS",
    "TF_DISABLE_JIT_KERNELS",
    "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LEVEL",
    "TF_DETERMINISTIC_OPS",
    "TF_USE_DETERMINISTIC_SEGMENT_REDUCTIONS",
    # GPUs
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "TF_CONV2D_USE_FP16_ACCUMULATE",
    "TF_CUDNN_DETERMINISTIC",
    "TF_CUDNN_DISABLE_CONV_1X1_OPTIMIZATION",
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_CUDNN_USE_RUNTIME_FUSION",
    "TF_CUDNN_WORKSPACE_LIMIT_IN_MB",
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_FP16_CONV_USE_FP32_COMPUTE",
    "TF_FP16_MATMUL_USE_FP32_COMPUTE",
    "TF_MATMUL_AUTOTUNE_ENABLE",
    "TF_USE_CUBLASLT",
    "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT",
    "TF_USE_DEFAULT_CONV_ALGO",
)
"""Environment variables that choose how TensorFlow computes, and so change last digits.

The numbers of threads are not among them, because a worker always uses one thread.
"""

VERSION, VARIABLE, UNSET = "version.", "environment.", "unset"
"""Prefixes of tags, and the value of a variable that is not set."""

CODE, NO_CODE, UNKNOWN_CODE = "invact.code", "none", "unknown"
"""The tag of a run that has the hash of the user's code, and its value without code or without a hash."""


def versions() -> dict[str, str]:
    """Return the versions of Python, invact and the libraries that affect results, without importing them.

    Example:
        >>> versions()["invact"] == __version__
        True
    """
    found = {package: version for package in PACKAGES if (version := _installed(package))}
    return {"python": platform.python_version(), "invact": __version__} | found


@functools.cache  # A worker asks before each training.
def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # It has another name, such as tensorflow-cpu.
        return None


def environment() -> dict[str, str]:
    """Return the environment variables of `VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def numerics() -> dict[str, str]:
    """Return what decides the last digits of a training: versions in `DECISIVE`, and `environment`.

    Example:
        >>> sorted(numerics())[-3:]
        ['numpy', 'python', 'tensorflow']
    """
    found = versions()
    return {name: found[name] for name in DECISIVE if name in found} | environment()


def numerics_in(tags: Mapping[str, str]) -> dict[str, str]:
    """Return `numerics` as they were when a run was made, from its tags; a name that they lack is left out.

    Example:
        >>> numerics_in(provenance_tags()) == numerics()
        True
    """
    found = {name: tags[f"{VERSION}{name}"] for name in DECISIVE if f"{VERSION}{name}" in tags}
    return found | {
        key.removeprefix(VARIABLE): value for key, value in tags.items() if key.startswith(VARIABLE)
    }


def code_of(
    config: Config,
    imports: Iterable[str] = (),
    digest_of: Callable[[tuple[str, ...]], str | None] = source_digest,
) -> str:
    """Return the hash of the user's code that may decide the numbers of a run, for the tag `CODE`.

    The code is that of the modules in `imports`, of the builder, and of the arms that are not invact's.

    Args:
        config: the configuration of the run.
        imports: the modules of the user that each worker imports.
        digest_of: from names of modules to the hash of their code, or None if it is not known.

    Returns:
        The hash, `NO_CODE`, or `UNKNOWN_CODE` if the code of one of them cannot be found.

    Example:
        >>> code_of(Config()), code_of(Config(model="no_such_module:build"))
        ('none', 'unknown')
    """
    modules = {*imports}
    if ":" in config.model:
        modules.add(config.model.partition(":")[0])
    for name in {*config.activations, *config.references} - {*SHIPPED}:
        layer = get_arm(name).layer
        modules.add(getattr(layer, "__module__", None) or type(layer).__module__)
    return (digest_of(tuple(sorted(modules))) or UNKNOWN_CODE) if modules else NO_CODE


def differences(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Compare two sets of versions or variables; a name that is missing is unset.

    Example:
        >>> differences({"keras": "3.14", "numpy": "2"}, {"keras": "3.15", "numpy": "2", "XLA_FLAGS": "a"})
        {'keras': ('3.14', '3.15'), 'XLA_FLAGS': ('unset', 'a')}
    """
    pairs = {name: (was.get(name, UNSET), now.get(name, UNSET)) for name in dict.fromkeys([*was, *now])}
    return {name: (before, after) for name, (before, after) in pairs.items() if before != after}


def provenance_tags() -> dict[str, str]:
    """Return the tags that every run of a session has: versions, variables and the commit."""
    tags = {f"{VERSION}{name}": version for name, version in versions().items()}
    tags |= {f"{VARIABLE}{name}": value for name, value in environment().items()}
    tags |= {"mlflow.source.name": "invact", "mlflow.source.type": "LOCAL"}
    if found := commit():
        tags |= {"mlflow.source.git.commit": found[0], "mlflow.source.git.dirty": str(found[1]).lower()}
    return tags


def continued(was: Mapping[str, str], now: Mapping[str, str], what: str) -> dict[str, str]:
    """Warn in one line if a record is continued under other versions or variables.

    Args:
        was: the tags of the record's parent run, from the last session.
        now: the tags of this session.
        what: words for the record.

    Returns:
        The tags that the parent run needs, because this session does not set a variable that it has.
    """
    kinds = (VERSION, VARIABLE)
    old, new = ({key: value for key, value in tags.items() if key.startswith(kinds)} for tags in (was, now))
    changes = differences(old, new)
    if changes:
        words = (f"{key.partition('.')[2]} {before} -> {after}" for key, (before, after) in changes.items())
        warn(
            f"{what} continues under other versions or variables, which may change last digits: "
            f"{', '.join(words)}. Each run keeps its own"
        )
    return {key: UNSET for key in old if key.startswith(VARIABLE) and key not in new}


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
