import os
import signal

import pytest

from invact.process.interruption import check_interruption, handle_interruptions


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
