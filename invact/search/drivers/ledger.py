"""The ledger of a search: numbers, duplicates, what is enqueued and what is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from invact.config import Scalar
from invact.search.drivers import Proposal
from invact.spaces.space import SearchSpace, Values

__all__ = ["Key", "Ledger", "proposal_key", "sampler_seed", "startup"]

Key: TypeAlias = tuple[tuple[tuple[str, Scalar], ...], int | None]

_ENUMERABLE = 10_000
_DRAWS = 1_000


def proposal_key(values: Values, epochs: int | None = None) -> Key:
    """Identify a configuration and its epochs."""
    return tuple(sorted(values.items())), epochs


def sampler_seed(*numbers: int) -> int:
    """Mix numbers into a seed from 1 to 2**32 - 1: to Keras Tuner, 0 means random.

    Example:
        >>> sampler_seed(0, 1) != sampler_seed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) or 1


def startup(trials: int) -> int:
    """Return how many trials come before a model, or make a generation: a quarter, from 4 to 10.

    The libraries' own (10 in TPE, 50 in NSGA, 3 for each parameter in Keras Tuner) would spend a search of
    20 trials wholly or mostly at random.

    Example:
        >>> [startup(trials) for trials in (8, 20, 200)]
        [4, 5, 10]
    """
    return min(10, max(4, trials // 4))


class Ledger:
    """What was proposed and what may still be.

    Args:
        space: what is searched.
        seed: of the draws that replace duplicates.
        trials: proposals at most, known results included.
        enqueue: complete configurations to propose first.
    """

    def __init__(self, space: SearchSpace, seed: int, trials: int, enqueue: Sequence[Values]) -> None:
        self._space = space
        self._size = space.size()
        self._trials = trials
        self._queue = deque(enqueue)
        self._seen: set[Key] = set()
        self._rng = np.random.default_rng([seed, 1])
        self.count = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._seen

    def record(self, key: Key) -> int:
        """Count a configuration as proposed and return its number."""
        self._seen.add(key)
        self.count += 1
        return self.count - 1

    def propose(self, values: Values, epochs: int | None = None) -> Proposal:
        """Record and number a configuration."""
        return Proposal(self.record(proposal_key(values, epochs)), dict(values), epochs)

    @property
    def exhausted(self) -> bool:
        """All trials are proposed."""
        return self.count >= self._trials

    def dequeue(self, epochs: int | None = None) -> Values | None:
        """Take the next enqueued configuration that was not proposed yet."""
        while self._queue:
            values = self._queue.popleft()
            if proposal_key(values, epochs) not in self._seen:
                return values
        return None

    def unseen(self) -> Values | None:
        """Draw a configuration that was not proposed yet; None if there is none.

        For when a sampler insists on a configuration whose result is known.
        """
        if self._size <= _ENUMERABLE:
            left = [values for values in self._space.grid() if proposal_key(values) not in self._seen]
            return left[int(self._rng.integers(len(left)))] if left else None
        draws = (self._space.sample(self._rng) for _ in range(_DRAWS))
        return next((values for values in draws if proposal_key(values) not in self._seen), None)
