"""The `Champions`: which networks are stored, because their trials are on the front or may come there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from invact.execution.agenda import Candidate, Ended, Key, best, candidate_of

if TYPE_CHECKING:
    from invact.execution.agenda import Trial

__all__ = ["Champions"]


class Champions:
    """The front of a session so far, and the networks that it needs or may still need.

    Args:
        measure: the measure of cost of the front; None means that no network is stored.
    """

    def __init__(self, measure: str | None) -> None:
        self._measure = measure
        self._front: tuple[Candidate, ...] = ()
        # The networks of this session that may still be needed, and the runs whose network is stored.
        self._models: dict[Key, bytes] = {}
        self._stored: set[Key] = set()

    @property
    def wanted(self) -> bool:
        """Whether networks are stored at all."""
        return self._measure is not None

    def leads(self, trial: Trial, key: Key, runs: Mapping[Key, Ended]) -> bool:
        """Return whether a run would represent its trial on the front if the trial ended now."""
        mine = self._candidate(trial, runs)
        return mine is not None and mine.key == key and mine in best((*self._front, mine))

    def store(self, key: Key) -> None:
        """Note that the network of a run is stored."""
        self._stored.add(key)

    def set_aside(self, trial: Trial, key: Key, model: bytes) -> None:
        """Keep the network of a run that does not lead, because a later seed may bring its trial forward."""
        if self.wanted and key[1] == min(trial.seeds):
            self._models[key] = model

    def complete(self, trial: Trial, runs: Mapping[Key, Ended]) -> bytes:
        """Update the front with a complete trial; return its network if that must be stored now."""
        mine = self._candidate(trial, runs)
        model = self._models.pop((trial.number, min(trial.seeds)), b"")
        if mine is None:
            return b""
        self._front = best((*self._front, mine))
        if mine not in self._front or not model:
            return b""
        self._stored.add(mine.key)
        return model

    def missing(self) -> Iterator[Key]:
        """Yield each run of the front whose network this session has not stored, once."""
        for key in [one.key for one in self._front if one.key not in self._stored]:
            self._stored.add(key)
            yield key

    def _candidate(self, trial: Trial, runs: Mapping[Key, Ended]) -> Candidate | None:
        return None if self._measure is None else candidate_of(trial, runs, self._measure)
