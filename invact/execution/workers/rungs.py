"""Rungs, the epochs at whose end a worker waits until the coordinator decides about its training."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import TYPE_CHECKING

from invact.execution.workers.cluster import address, send

if TYPE_CHECKING:
    from invact.training.results import Epoch

__all__ = ["ANSWER_SECONDS", "abandon", "deliver", "reporter"]

ANSWER_SECONDS = 600.0
"""Longest time that a worker waits. A coordinator that was killed on another machine never answers."""

# The state of one worker: the answers that no training has read yet, and the topics that nobody answers.
_answers: dict[tuple[str, str, int], bool] = {}
_abandoned: set[str] = set()
_news = threading.Condition()


def reporter(
    key: str, rungs: Collection[int], topic: str, seconds: float = ANSWER_SECONDS
) -> Callable[[Epoch], bool | None]:
    """Return the `on_epoch` of a job on a worker: it sends each epoch, and waits for an answer at a rung.

    Args:
        key: the key of the job.
        rungs: the epochs after which it waits.
        topic: the topic that the coordinator has subscribed to.
        seconds: the longest time to wait.
    """

    def report(epoch: Epoch) -> bool | None:
        # A training that has diverged ends by itself, so its accuracy competes with no other.
        finite = math.isfinite(epoch.train.loss) and math.isfinite(epoch.validation.loss)
        asks = finite and epoch.number in rungs
        send(topic, (key, asdict(epoch), address() if asks else ""))
        return _wait((topic, key, epoch.number), seconds) if asks else None

    return report


def deliver(topic: str, key: str, epoch: int, goes_on: bool) -> None:
    """Answer a training; the coordinator lets the worker call this."""
    with _news:
        _answers[topic, key, epoch] = goes_on
        _news.notify_all()


def abandon(topic: str) -> None:
    """End the trainings that wait for a coordinator which has ended."""
    with _news:
        _abandoned.add(topic)
        _news.notify_all()


def _wait(question: tuple[str, str, int], seconds: float) -> bool:
    with _news:
        if not _news.wait_for(lambda: question in _answers or question[0] in _abandoned, seconds):
            raise TimeoutError(f"no answer from the coordinator within {seconds:g} s")
        return _answers.pop(question, False)
