import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invact.config import Config
from invact.execution.schedule import HELD, Waiting, Worker, held_after, next_run, work_of

Choose = Callable[[Sequence[Waiting], Worker, Sequence[Worker]], Waiting]
COMPILE = 3.0


def first(waiting: Sequence[Waiting], free: Worker, others: Sequence[Worker]) -> Waiting:
    """First in, first out."""
    return waiting[0]


def run(configs: str, works: Sequence[float]) -> list[Waiting]:
    return [
        Waiting((number, 0), config, work)
        for number, (config, work) in enumerate(zip(configs, works, strict=True))
    ]


def simulate(
    runs: Sequence[Waiting], count: int, choose: Choose = next_run, compiling: float = 0.0
) -> tuple[float, int, list[tuple[int, int]]]:
    """Train runs whose work is their duration; return the end, the number of compilations, and the order.

    A worker without work while a run waits is an error.
    """
    waiting, now, compiled = list(runs), 0.0, 0
    workers = {str(number): Worker(str(number)) for number in range(count)}
    ends: list[tuple[float, str]] = []
    order = []
    while waiting or ends:
        for name, worker in workers.items():
            if waiting and not worker.trains:
                others = [other for key, other in workers.items() if key != name]
                chosen = choose(waiting, worker, others)
                waiting.remove(chosen)
                order.append(chosen.key)
                fresh = chosen.config not in worker.held
                compiled += fresh
                held = held_after(worker.held, chosen.config)
                workers[name] = replace(worker, trains=chosen.config, held=held)
                heapq.heappush(ends, (now + chosen.work + compiling * fresh, name))
        idle = sum(not worker.trains for worker in workers.values())
        assert not (idle and waiting)
        now, name = heapq.heappop(ends)
        workers[name] = replace(workers[name], trains="")
    return now, compiled, order


def test_the_seeds_of_a_configuration_stay_on_the_worker_that_has_compiled_it() -> None:
    runs = run("abababab", [1.0] * 8)
    assert simulate(runs, 2, compiling=COMPILE)[:2] == (4 + COMPILE, 2)
    more = run("aabbccdd" * 2, [1.0] * 16)
    assert simulate(more, 2, first, COMPILE)[1] == 8
    assert simulate(more, 2, compiling=COMPILE)[:2] == (8 + 2 * COMPILE, 4)


def test_a_configuration_is_split_rather_than_that_a_worker_idles() -> None:
    end, compiled, _ = simulate(run("aaaa", [1.0] * 4), 2)
    assert (end, compiled) == (2, 2)


@pytest.mark.parametrize("length", [8.0, 4.0])
def test_on_a_list_of_eight_trainings_the_longest_first_leaves_no_tail(length: float) -> None:
    """The longest of eight is proposed last, as a large network often is."""
    runs = run("abcdefgh", [1, 2, 1, 2, 1, 2, 1, length])
    least = max(length, sum(one.work for one in runs) / 2)
    assert simulate(runs, 2, first)[0] > 1.2 * least
    assert simulate(runs, 2)[0] <= math.ceil(least)


def test_each_rule_decides_where_the_earlier_ones_do_not() -> None:
    runs = run("abcd", [1, 2, 3, 3])
    others = [Worker("y", trains="d", held=("c", "d"))]
    assert next_run(runs, Worker("x", held=("a",)), others).config == "a"
    assert next_run(runs, Worker("x"), others).config == "b", "c and d are longer, and compiled elsewhere"
    assert next_run(run("cd", [1, 3]), Worker("x"), others).config == "c", "d trains elsewhere"
    assert next_run(run("ab", [1, 2]), Worker("x")).config == "b"
    assert next_run(run("abb", [1, 1, 1]), Worker("x")).config == "b"
    assert next_run(run("ab", [1, 1]), Worker("x")).config == "a"


def test_a_run_of_unknown_macs_and_one_of_many_epochs_have_work() -> None:
    assert 0 < work_of(Config(epochs=3), None) < work_of(Config(epochs=3), 1e3)
    assert work_of(Config(epochs=6), 1e6) == 2 * work_of(Config(epochs=3), 1e6)


def test_a_worker_keeps_a_few_networks() -> None:
    held: tuple[str, ...] = ()
    for config in "abcabcdef":
        held = held_after(held, config)
    assert held == tuple("cdef")
    assert len(held) == HELD


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 30)), min_size=1, max_size=25),
    st.integers(1, 5),
)
def test_every_run_is_trained_once_and_no_worker_idles_while_one_waits(
    given: list[tuple[str, int]], count: int
) -> None:
    lengths = {config: float(work) for config, work in given}
    runs = run("".join(config for config, _ in given), [lengths[config] for config, _ in given])
    end, compiled, order = simulate(runs, count)
    assert sorted(order) == [one.key for one in runs]
    total, longest = sum(one.work for one in runs), max(one.work for one in runs)
    # Graham's bound, which holds for every order without idle workers.
    assert end <= total / count + longest * (1 - 1 / count) + 1e-9
    assert len(set(lengths)) <= compiled <= min(len(runs), len(set(lengths)) * count)
    # The same runs in the same order give the same schedule, so a resume does too.
    assert simulate(runs, count) == (end, compiled, order)
