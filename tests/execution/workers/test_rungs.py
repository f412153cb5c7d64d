"""Workers wait at rungs for the answer of the coordinator, and never for ever."""

import os
import signal
import threading
import time

import pytest
import warm
from helpers import free, numbers

from invact.config import Config
from invact.data.dataset import Dataset, Source
from invact.execution.workers import rungs
from invact.execution.workers.engine import Engine, EpochDone, Job, JobDone
from invact.training.loop import train
from invact.training.results import Epoch, Scores, Status, TrialResult

# Keras 3.15 converts TensorFlow variables with a method that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DIGITS = Source("digits")
TINY = Config(filters=3, depth=1, epochs=5, batch_size=64)


def question(engine: Engine) -> EpochDone:
    """Wait until a worker waits."""
    deadline = time.monotonic() + 120
    while not (isinstance(event := engine.next_event(timeout=1), EpochDone) and event.worker):
        assert time.monotonic() < deadline
        assert not isinstance(event, JobDone), event
    return event


def end(engine: Engine) -> TrialResult:
    while not isinstance(event := engine.next_event(timeout=120), JobDone):
        assert event is not None
        assert not event.worker, "the worker waits again"
    return event.result


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_training_goes_on_or_ends_as_it_is_told(cluster: str, digits: Dataset, goes_on: bool) -> None:
    with Engine(DIGITS, digits, scheduler=cluster) as engine:
        engine.submit(Job("a", TINY, 0, rungs=(1, 3)), free(engine))
        for epoch, answer in ((1, True), (3, goes_on)):
            event = question(engine)
            assert event.epoch.number == epoch
            assert engine.next_event(timeout=0.2) is None, "the worker trains on while it should wait"
            engine.answer(event, answer)
        result = end(engine)
    here = train(TINY, 0, digits, on_epoch=lambda epoch: goes_on or epoch.number < 3)
    assert numbers(result) == numbers(here)
    assert (result.status, len(result.epochs)) == ((Status.FINISHED, 5) if goes_on else (Status.PRUNED, 3))


def test_the_end_of_a_session_sets_a_waiting_worker_free(cluster: str, digits: Dataset) -> None:
    with Engine(DIGITS, digits, scheduler=cluster) as engine:
        for key in "ab":  # one for each worker
            engine.submit(Job(key, TINY, 0, rungs=(1,)), free(engine))
        for _ in "ab":
            question(engine)
    with Engine(DIGITS, digits, scheduler=cluster) as engine:
        for key in "ab":
            engine.submit(Job(key, TINY, 0), free(engine))
        for _ in "ab":
            assert end(engine).status is Status.FINISHED


def test_a_worker_that_dies_at_a_rung_is_replaced_and_asks_again(digits: Dataset) -> None:
    warm.context()
    with Engine(DIGITS, digits, workers=1) as engine:
        (victim,) = engine._client.run(os.getpid).values()
        engine.submit(Job("a", TINY, 0, rungs=(2,)), free(engine))
        first = question(engine)
        os.kill(victim, signal.SIGKILL)
        second = question(engine)
        assert second.worker != first.worker
        assert (first.epoch.number, first.epoch.validation) == (2, second.epoch.validation)
        start = time.monotonic()
        engine.answer(first, True)  # nobody reads this
        assert time.monotonic() - start < 15, "the session waits for a worker that has died"
        engine.answer(second, False)
        assert end(engine).status is Status.PRUNED


def an_epoch(number: int, loss: float = 1.0) -> Epoch:
    return Epoch(number, Scores(0.5, loss), Scores(0.5, loss), 0.1)


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, int, str]]:
    """What a worker that this process plays has sent: key, epoch and address."""
    found: list[tuple[str, int, str]] = []
    monkeypatch.setattr(rungs, "address", lambda: "here")
    monkeypatch.setattr(
        rungs, "send", lambda topic, message: found.append((message[0], message[1]["number"], message[2]))
    )
    return found


def test_a_worker_waits_only_at_rungs_and_not_if_its_training_diverged(sent) -> None:
    report = rungs.reporter("a", (2, 4), "topic", seconds=0.01)
    assert report(an_epoch(1)) is None
    assert report(an_epoch(2, loss=float("nan"))) is None
    rungs.deliver("topic", "a", 4, False)
    rungs.deliver("topic", "b", 2, False)
    assert report(an_epoch(4)) is False
    assert sent == [("a", 1, ""), ("a", 2, ""), ("a", 4, "here")]
    with pytest.raises(TimeoutError, match=r"^no answer from the coordinator within 0\.01 s$"):
        report(an_epoch(2))


def test_a_session_that_ends_frees_only_its_own_trainings(sent) -> None:
    rungs.abandon("one")
    assert rungs.reporter("a", (1,), "one")(an_epoch(1)) is False
    timer = threading.Timer(0.05, rungs.deliver, ("other", "b", 1, True))
    timer.start()
    assert rungs.reporter("b", (1,), "other", seconds=60)(an_epoch(1)) is True
    timer.join()
