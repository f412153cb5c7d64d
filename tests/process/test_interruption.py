import os
import signal

import pytest

from invact.process.interruption import check_interruption, handle_interruptions, interrupted_later


@pytest.fixture(autouse=True)
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    handle_interruptions()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Finalized:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_while_an_object_is_finalized_is_not_lost() -> None:
    handle_interruptions()
    check_interruption()
    Finalized()  # Python ignores the exception that is raised here.
    with pytest.raises(KeyboardInterrupt):
        check_interruption()
    handle_interruptions()
    check_interruption()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number) -> None:
    handle_interruptions()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def interrupted(times: int) -> list[int]:
    """Interrupt a block; return how often it was still running afterwards."""
    handle_interruptions()
    survived = []

    def block() -> None:
        with interrupted_later():
            for number in range(1, times + 1):
                os.kill(os.getpid(), signal.SIGINT)
                survived.append(number)

    with pytest.raises(KeyboardInterrupt):
        block()
    return survived


def test_a_block_ends_before_the_first_interruption_and_a_second_one_ends_it() -> None:
    assert interrupted(times=1) == [1]
    assert interrupted(times=2) == [1]
