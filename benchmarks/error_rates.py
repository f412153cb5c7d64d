"""Error rates, power and cost of whole claims, from simulations with a known truth.

    python -m benchmarks.error_rates [--replications N] [--only PART ...]

The printed tables are part of docs/statistics.md. Accuracies are points (percent) here.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from benchmarks.families import FAMILIES, family_p_values, sets_found
from benchmarks.simulated_claims import (
    CLOSEST,
    CONTROLS,
    LIMIT,
    LIMITS,
    MATCHED,
    PLANNED,
    POWER,
    PROTOCOL,
    RULES,
    TYPE_ONE,
    Claim,
)
from benchmarks.worlds import MARGIN, SD, SEED, Simulated, simulate
from invact.statistics.sequential.failures import FIRST
from invact.statistics.sequential.ladder import Verdict
from invact.statistics.sequential.power import sample_size

__all__ = ["CURVE", "needed", "run"]

CURVE = 5 * 4
"""Trainings of the curve: five extra widths with four runs each. No test needs them."""
PLAIN = 3 * 3 * 30
"""Trainings of the plain design: three ratios, three arms, 30 runs each."""


def run(claim: Claim, replications: int, seed: int = SEED) -> Simulated:
    """Simulate a row."""
    return simulate(claim.rules, claim.world, replications, seed)


def needed(claim: Claim) -> int:
    """Number of runs that the power of the claim needs with the true standard deviation of its arms."""
    rules = claim.rules
    assert rules.margin is not None
    assert rules.power is not None
    drawn = claim.world.noise["treatment"](np.random.default_rng(SEED), 1_000_000)
    sd = float(drawn.std()) / 100
    return max(FIRST, sample_size(sd, rules.margin, 0.0, rules.procedure.alpha, rules.power))


def row(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |",
        flush=True,
    )


def head(title: str, *cells: str) -> None:
    print(f"\n### {title}\n")
    row(*cells)
    row("---", *["---:"] * (len(cells) - 1))


def type_one(replications: int) -> None:
    head(f"Type I error, {replications} claims", "world", "SUPPORTED", "ended by failures", "trainings")
    for claim in TYPE_ONE:
        found = run(claim, replications)
        row(claim.name, found.share(), found.failed / replications, f"{found.trainings:.1f}")


def matched(replications: int) -> None:
    head(f"Matched arm, {replications} claims", "world", "SUPPORTED, MACs")
    for claim in (*MATCHED, *CLOSEST):
        row(claim.name, run(claim, replications).share(macs=True))


def limits(replications: int) -> None:
    head(f"Not guaranteed, {replications} claims", "world", "SUPPORTED", "ended by failures")
    for claim in LIMITS:
        found = run(claim, replications)
        row(claim.name, found.share(), found.failed / replications)


def power(replications: int) -> None:
    head(
        f"Power, {replications} claims",
        *("world", "SUPPORTED", "REFUTED", "interval covers", "runs an arm", "trainings"),
    )
    for claim in POWER:
        found = run(claim, replications)
        shares = (found.share(), found.share(Verdict.REFUTED), found.covered)
        row(claim.name, *shares, f"{found.runs:.1f}", f"{found.trainings:.1f}")


def whole(replications: int) -> None:
    head(
        f"Whole protocol, {replications} claims with the ratios 0.75, 0.625, 0.5; the plain design: {PLAIN}",
        *("world", "trainings", "of plain", "0.5 selected", "SUPPORTED", "SUPPORTED, MACs", "REFUTED"),
    )
    for claim in PROTOCOL:
        found = run(claim, replications)
        trainings = found.trainings + CURVE
        verdicts = (found.share(), found.share(macs=True), found.share(Verdict.REFUTED))
        share = f"{trainings / PLAIN:.2f}"
        row(claim.name, f"{trainings:.1f}", share, found.selected[0.5] / replications, *verdicts)


def controls(replications: int) -> None:
    head(f"Negative control, {replications} claims", "world", "false alarms", "ended by failures")
    for claim in CONTROLS:
        found = run(claim, replications)
        row(claim.name, found.alarms / found.controlled, found.failed / replications)


def planning(replications: int) -> None:
    head(
        f"Planned runs of `fixed` for a power of {PLANNED[0].rules.power}, {replications} claims",
        *("world", "needed", "median planned", "10 to 90 % of the plans", "median / needed", "SUPPORTED"),
    )
    for claim in PLANNED:
        found, least = run(claim, replications), needed(claim)
        low, middle, high = np.quantile(found.planned, (0.1, 0.5, 0.9))
        row(
            claim.name,
            least,
            f"{middle:g}",
            f"{low:g} to {high:g}",
            f"{middle / least:.2f}",
            found.share(),
        )


def families(replications: int) -> None:
    level = RULES.procedure.alpha
    head(f"Family-wise error, {replications} families, level {level}", "world", "any false claim")
    p_values = family_p_values(replications)
    for one in FAMILIES:
        row(one.name, one.errors(p_values) / replications)


def sets(replications: int) -> None:
    head(
        f"Equal arms on every data set, {replications} families",
        *("data sets", "found by the graph", "all SUPPORTED without adjustment"),
    )
    for k, shares in sets_found(replications).items():
        row(k, *shares)


PARTS = {
    "type_one": type_one,
    "matched": matched,
    "limits": limits,
    "power": power,
    "protocol": whole,
    "controls": controls,
    "planning": planning,
    "families": families,
    "sets": sets,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replications", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    error = math.sqrt(LIMIT * (1 - LIMIT) / asked.replications)
    print(f"Margin {MARGIN} points, sd {SD} points. One Monte Carlo error of a rate of {LIMIT}: {error:.4f}")
    for name in asked.only:
        PARTS[name](asked.replications)


if __name__ == "__main__":
    main()
