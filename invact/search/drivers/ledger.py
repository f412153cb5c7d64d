"""The `Ledger` that both drivers share: it numbers proposals, detects duplicates and holds enqueued ones."""

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
    """Return a hashable key for a configuration and its epochs."""
    return tuple(sorted(values.items())), epochs


def sampler_seed(*numbers: int) -> int:
    """Mix numbers into a seed from 1 to 2**32 - 1; it is never 0, because Keras Tuner takes 0 as random.

    Example:
        >>> sampler_seed(0, 1) != sampler_seed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0]) or 1


def startup(trials: int) -> int:
    """Return the number of random trials before a model, and the size of a generation: a quarter, 4 to 10.

    With the defaults of the libraries (10 in TPE, 50 in NSGA, 3 for each parameter in Keras Tuner), all or
    most trials of a search of 20 would be random.

    Example:
        >>> [startup(trials) for trials in (8, 20, 200)]
        [4, 5, 10]
    """
    return min(10, max(4, trials // 4))


class Ledger:
    """The proposals made so far, and those that are still possible.

    Args:
        space: the search space.
        seed: seed of the draws that replace duplicates.
        trials: most proposals, including results of earlier sessions.
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
        """Mark a configuration as proposed and return its number."""
        self._seen.add(key)
        self.count += 1
        return self.count - 1

    def propose(self, values: Values, epochs: int | None = None) -> Proposal:
        """Record a configuration and return it as a numbered proposal."""
        return Proposal(self.record(proposal_key(values, epochs)), dict(values), epochs)

    @property
    def exhausted(self) -> bool:
        """Whether all trials have been proposed."""
        return self.count >= self._trials

    def dequeue(self, epochs: int | None = None) -> Values | None:
        """Remove and return the next enqueued configuration that is not proposed yet, or None."""
        while self._queue:
            values = self._queue.popleft()
            if proposal_key(values, epochs) not in self._seen:
                return values
        return None

    def unseen(self) -> Values | None:
        """Draw a configuration that was not proposed yet; None if there is none.

        It is used when a sampler repeatedly proposes configurations with known results.
        """
        if self._size <= _ENUMERABLE:
            left = [values for values in self._space.grid() if proposal_key(values) not in self._seen]
            return left[int(self._rng.integers(len(left)))] if left else None
        draws = (self._space.sample(self._rng) for _ in range(_DRAWS))
        return next((values for values in draws if proposal_key(values) not in self._seen), None)
