"""Fronts to draw and to write."""

import numpy as np
import pandas as pd

from invact.fronts.pareto import pareto_front_of


def a_front(seeds=3):
    rows = []
    for arm, gain in (("relu", 0.0), ("inverse", 0.02), ("elu", -0.01)):
        for filters in (4, 8, 16, 32):
            rows += [
                {
                    "trial": len(rows),
                    "config": f"{arm}{filters}",
                    "label": f"{arm} {filters}",
                    "seed": seed,
                    "status": "OVER_BUDGET" if filters == 32 else "FINISHED",
                    "macs": 10_000 * filters**2,
                    "params": 99 * filters,
                    "filters": 2 * filters,
                    "validation_accuracy": None
                    if filters == 32
                    else 0.9 + gain + filters / 300 + seed / 3000,
                    "test_accuracy": None if filters == 32 else 0.89 + gain,
                    "run_id": f"run-{arm}-{filters}-{seed}",
                    "param.activation": arm,
                    "param.filters": filters,
                }
                for seed in range(seeds)
            ]
    rows += [
        {**rows[0], "config": "wild", "status": "DIVERGED", "macs": 300_000},
        {**rows[0], "config": "broken", "status": "FAILED", "macs": None, "params": None, "filters": None},
        {**rows[0], "config": "vast", "status": "OVER_BUDGET", "macs": 10**10},
    ]
    return pareto_front_of(pd.DataFrame(rows), "filters & activation", budget=5_000_000)


def a_front_over(measure, budget=None, seeds=3):
    """A front of configurations that were timed on each seed, except those over the budget."""
    rows = [
        {
            "trial": 4 * number + size,
            "config": f"{arm}{size}",
            "label": f"{arm} {size}",
            "seed": seed,
            "status": status,
            "macs": 10_000 * 4**size,
            "params": 99 * 2**size,
            "filters": 2 * 2**size,
            "activation_bytes": 3_072 * 2**size + number,
            "bytes_moved": 12_288 * 2**size + number,
            "latency_ms": None if status == "OVER_BUDGET" else 0.11 * 2**size + 0.02 * number + 0.01 * seed,
            "validation_accuracy": None if status == "OVER_BUDGET" else 0.9 + size / 50 + gain + seed / 3000,
            "test_accuracy": None if status == "OVER_BUDGET" else 0.89 + size / 50 + gain + seed / 5000,
            "run_id": f"run-{arm}-{size}-{seed}",
            "param.activation": arm,
        }
        for number, (arm, gain) in enumerate({"relu": 0.0, "inverse": 0.01}.items())
        for size, status in enumerate(["FINISHED", "FINISHED", "FINISHED", "OVER_BUDGET"])
        for seed in range(seeds)
    ]
    return pareto_front_of(pd.DataFrame(rows), "timed", budget=budget, measure=measure)


def noisy_front():
    rng = np.random.default_rng(0)
    rows = [
        {
            "trial": 3 * number + size,
            "config": f"{arm}{size}",
            "label": f"{arm} {size}",
            "seed": seed,
            "status": "FINISHED",
            "macs": 1_000 * (size + 1) + number,
            "params": 10,
            "filters": 4,
            "validation_accuracy": 0.8 + 0.03 * size + 0.002 * number + rng.normal(0, 0.01),
            "test_accuracy": 0.8 + 0.03 * size + 0.002 * number + rng.normal(0, 0.01),
            "run_id": "r",
            "param.activation": arm,
        }
        for number, arm in enumerate(["relu", "inverse"])
        for size in range(3)
        for seed in range(4)
    ]
    return pareto_front_of(pd.DataFrame(rows), "noisy")


EMPTY = pareto_front_of(pd.DataFrame(), "empty")
