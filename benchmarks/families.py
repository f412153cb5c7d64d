"""Several data sets in one graph: families of the simulated claims, and their family-wise error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated_claims import LADDER, MATCHED, POWER, RULES, TYPE_ONE, Claim, protocol
from benchmarks.worlds import MARGIN, SEED, follow
from invact.statistics.comparison.graph import graphical, ladders_graph

__all__ = ["FAMILIES", "SETS", "Families", "family_p_values", "sets_found"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Families:
    """Several data sets, each with a claim of its own, in one graph.

    Attributes:
        name: description of the world.
        sets: the claim of each data set.
        false: whether the hypotheses of each data set must not be rejected, one for each rung.
    """

    name: str
    sets: tuple[Claim, ...]
    false: tuple[tuple[bool, ...], ...]

    def errors(self, p_values: Mapping[Claim, Floats]) -> int:
        """Number of families with a false claim at any rung of any data set.

        Args:
            p_values: claim -> p values of its data sets, shape (families, sets, rungs).
        """
        weights, transitions = ladders_graph([len(rungs) for rungs in self.false])
        false, alpha, errors = np.concatenate(self.false), RULES.procedure.alpha, 0
        family = np.hstack([p_values[claim][:, k] for k, claim in enumerate(self.sets)])
        for values in family:
            errors += bool((graphical(values, weights, transitions) <= alpha)[false].any())
        return errors


def family_p_values(replications: int, seed: int = SEED) -> dict[Claim, Floats]:
    """Draw the p values of the data sets, which all families share; shape (replications, sets, rungs)."""
    most: dict[Claim, int] = {}
    for one in FAMILIES:
        for k, claim in enumerate(one.sets):
            most[claim] = max(most.get(claim, 0), k + 1)
    found = {}
    for k, (claim, sets) in enumerate(most.items()):
        rng = np.random.default_rng([seed, k])
        values = [_p_values(claim, rng) for _ in range(replications * sets)]
        found[claim] = np.reshape(values, (replications, sets, -1))
    return found


SETS = (1, 2, 3, 4, 5)
"""Numbers of data sets in the table of power."""


def sets_found(replications: int, seed: int = SEED) -> dict[int, tuple[float, float]]:
    """Find equal arms on each of several data sets.

    Returns:
        Number of data sets -> mean share of them whose claim the graph finds; and share of the families in
        which each set is SUPPORTED without any adjustment, as a claim on all data sets needs.
    """
    rng, alpha = np.random.default_rng(seed), RULES.procedure.alpha
    p_values = np.array([_p_values(_EQUAL, rng) for _ in range(replications * max(SETS))])
    p_values = p_values.reshape(replications, -1)
    found = {}
    for k in SETS:
        weights, transitions = ladders_graph([1] * k)
        rejected = [graphical(values, weights, transitions) <= alpha for values in p_values[:, :k]]
        every = (p_values[:, :k] <= alpha).all(axis=1)
        found[k] = (float(np.mean(rejected)), float(every.mean()))
    return found


def _p_values(claim: Claim, rng: np.random.Generator) -> Floats:
    """The p value of each rung; 1 for a rung that the claim did not come to."""
    course, _ = follow(claim.rules, claim.world, rng)
    values = np.ones(len(claim.rules.ratios) if claim.rules.ladder else 1)
    # A negative control that fails takes the claim back, so its p values count for nothing.
    if not course.taken_back:
        for rung, found in enumerate(course.rungs):
            values[rung] = found.macs_p_value if claim.macs else found.p_value
    return values


_NULL, _EQUAL = TYPE_ONE[0], POWER[0]
_NULL_MACS, _EQUAL_MACS = MATCHED[0], replace(_EQUAL, macs=True)
_ladder = partial(protocol, "ladder", rules=replace(LADDER, ladder=True))
_STEPS = _ladder((0, MARGIN, MARGIN))


def _one_false(k: int, null: Claim, equal: Claim, text: str) -> Families:
    sets, false = (null,) + (equal,) * (k - 1), ((True,),) + ((False,),) * (k - 1)
    return Families(f"{k} sets, one {text}, the others equal", sets, false)


FAMILIES = (
    Families("1 ladder, all at the margin", (_ladder((MARGIN, MARGIN, MARGIN)),), ((True, True, True),)),
    Families("1 ladder, the first ratio equal, the others at the margin", (_STEPS,), ((False, True, True),)),
    # The placebo of the last ratio is worse, because no claim is possible without assay sensitivity.
    Families(
        "1 ladder, equal to the first two placebos",
        (_ladder((0, 0, 0), (0, 0, 1)),),
        ((True, True, False),),
    ),
    Families(
        "1 ladder, equal to the matched arms, MACs",
        (_ladder((0, 0, 0), matched=(0, 0, 0), macs=True),),
        ((False, True, True),),
    ),
    Families(
        "2 ladders, the first ratio equal, the others at the margin",
        (_STEPS,) * 2,
        ((False, True, True),) * 2,
    ),
    *(Families(f"{k} sets, all at the margin", (_NULL,) * k, ((True,),) * k) for k in (2, 3, 4, 5)),
    *(_one_false(k, _NULL, _EQUAL, "at the margin") for k in (2, 5)),
    *(
        Families(f"{k} sets, all equal to the matched arm, MACs", (_NULL_MACS,) * k, ((True,),) * k)
        for k in (2, 3, 4, 5)
    ),
    _one_false(2, _NULL_MACS, _EQUAL_MACS, "equal to the matched arm, MACs"),
)
