"""The public names of invact, a framework for one question about activations that keep both signs.

The question: can a network use fewer filters, at equal accuracy, when its activation keeps both signs?

Importing invact does not load TensorFlow or MLflow. The first use of a name that needs them loads them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from invact._version import __version__
from invact.process.noise import hide_start_messages

if TYPE_CHECKING:
    from invact.arms import ARMS, Arm, register_arm
    from invact.claims.file import Claim, load_claim
    from invact.claims.planning.forecast import plan_claim
    from invact.claims.run import run_claim
    from invact.claims.verdict.result import ClaimResult
    from invact.config import Config
    from invact.cost.count import Cost, count_macs
    from invact.cost.rules import register_macs
    from invact.deploy.latency import Latencies, measure_latency
    from invact.errors import BuildError, EnvironmentFault, Incomplete, InputError, InvactError
    from invact.fronts.confirmation import Confirmation
    from invact.fronts.pareto import ParetoFront
    from invact.layers import InverseActivation
    from invact.networks.check import check_model
    from invact.reports.summary.reading import summarize
    from invact.reports.summary.rows import Summary
    from invact.search.objectives import Objective
    from invact.spaces.space import SearchSpace, load_space
    from invact.sweeps.confirm import confirm_front
    from invact.sweeps.export import Exported, export_point
    from invact.sweeps.file import Sweep, load_sweep
    from invact.sweeps.recorded import pareto_front
    from invact.sweeps.run import SweepResult, run_sweep
    from invact.training.loop import train
    from invact.training.results import Status, TrialResult

_HOMES = {
    "arms": ("ARMS", "Arm", "register_arm"),
    "claims.file": ("Claim", "load_claim"),
    "claims.planning.forecast": ("plan_claim",),
    "claims.run": ("run_claim",),
    "claims.verdict.result": ("ClaimResult",),
    "config": ("Config",),
    "cost.count": ("Cost", "count_macs"),
    "cost.rules": ("register_macs",),
    "deploy.latency": ("Latencies", "measure_latency"),
    "errors": ("BuildError", "EnvironmentFault", "Incomplete", "InputError", "InvactError"),
    "fronts.confirmation": ("Confirmation",),
    "fronts.pareto": ("ParetoFront",),
    "layers": ("InverseActivation",),
    "networks.check": ("check_model",),
    "reports.summary.reading": ("summarize",),
    "reports.summary.rows": ("Summary",),
    "search.objectives": ("Objective",),
    "spaces.space": ("SearchSpace", "load_space"),
    "sweeps.confirm": ("confirm_front",),
    "sweeps.export": ("Exported", "export_point"),
    "sweeps.file": ("Sweep", "load_sweep"),
    "sweeps.recorded": ("pareto_front",),
    "sweeps.run": ("SweepResult", "run_sweep"),
    "training.loop": ("train",),
    "training.results": ("Status", "TrialResult"),
}
# Keras loads TensorFlow, and most modules of invact load Keras.
hide_start_messages()

_PACKAGES = ("analysis", "cost", "data", "deploy", "networks", "statistics", "testing")
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ARMS",
    "Arm",
    "BuildError",
    "Claim",
    "ClaimResult",
    "Config",
    "Confirmation",
    "Cost",
    "EnvironmentFault",
    "Exported",
    "Incomplete",
    "InputError",
    "InvactError",
    "InverseActivation",
    "Latencies",
    "Objective",
    "ParetoFront",
    "SearchSpace",
    "Status",
    "Summary",
    "Sweep",
    "SweepResult",
    "TrialResult",
    "__version__",
    "check_model",
    "confirm_front",
    "count_macs",
    "export_point",
    "load_claim",
    "load_space",
    "load_sweep",
    "measure_latency",
    "pareto_front",
    "plan_claim",
    "register_arm",
    "register_macs",
    "run_claim",
    "run_sweep",
    "summarize",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"invact.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"invact.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
