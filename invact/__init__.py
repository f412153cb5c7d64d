"""Can a network do with fewer filters, at equal accuracy, when its activation keeps both signs?

Importing invact loads neither TensorFlow nor MLflow; the first use of a name that needs them does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invact.arms import ARMS, Arm, register_arm
    from invact.check import check_model
    from invact.claim import Claim, ClaimResult, load_claim, plan_claim, test_claim
    from invact.config import Config
    from invact.confirmation import Confirmation
    from invact.cost import Cost, count_macs
    from invact.errors import EnvironmentFault, Incomplete, InputError, InvactError
    from invact.export import Exported, export_point
    from invact.latency import Latencies, measure_latency
    from invact.layers import InverseActivation
    from invact.macs import register_macs
    from invact.objectives import Objective
    from invact.pareto import ParetoFront
    from invact.results import Status, TrialResult
    from invact.retraining import confirm_front
    from invact.spaces import SearchSpace, load_space
    from invact.sweep import Sweep, SweepResult, load_sweep, pareto_front, run_sweep
    from invact.training import train

__version__ = "0.1.0"

_HOMES = {
    "arms": ("ARMS", "Arm", "register_arm"),
    "check": ("check_model",),
    "claim": ("Claim", "ClaimResult", "load_claim", "plan_claim", "test_claim"),
    "config": ("Config",),
    "confirmation": ("Confirmation",),
    "cost": ("Cost", "count_macs"),
    "errors": ("EnvironmentFault", "Incomplete", "InputError", "InvactError"),
    "export": ("Exported", "export_point"),
    "latency": ("Latencies", "measure_latency"),
    "layers": ("InverseActivation",),
    "macs": ("register_macs",),
    "objectives": ("Objective",),
    "pareto": ("ParetoFront",),
    "results": ("Status", "TrialResult"),
    "retraining": ("confirm_front",),
    "spaces": ("SearchSpace", "load_space"),
    "sweep": ("Sweep", "SweepResult", "load_sweep", "pareto_front", "run_sweep"),
    "training": ("train",),
}
_MODULES = {*_HOMES, "augmentation", "data", "models", "runtimes", "statistics"}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ARMS",
    "Arm",
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
    "Sweep",
    "SweepResult",
    "TrialResult",
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
    "run_sweep",
    "test_claim",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"invact.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"invact.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
