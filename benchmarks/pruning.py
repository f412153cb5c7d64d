"""Pruning on recorded learning curves: what a search saves when hopeless trainings stop early.

    python -m benchmarks.pruning record NAME     trains every network of curves/NAME.toml to the end
    python -m benchmarks.pruning settings NAME   compares settings of the rule, by random searches
    python -m benchmarks.pruning replay NAME     compares searches with and without pruning
    python -m benchmarks.pruning told NAME       compares what samplers may be told of pruned trials

NAME is `digits` or `fashion_mnist`. `record` writes curves/NAME.csv, and continues where it was stopped. The
others train nothing: they replay searches on the recorded curves. Drivers of invact propose networks of
the table, and two simulated workers train them, so that arrivals at rungs interleave as in a real sweep.
The tables that they print are those of docs/performance.md.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invact import Objective, Status, load_sweep, run_sweep
from invact.search.drivers import Outcome, Proposal, make_driver
from invact.search.drivers.ledger import Key, proposal_key
from invact.search.halving import Arrival, SuccessiveHalving, noise
from invact.spaces.space import SearchSpace, Values
from invact.statistics.fronts.dominance import hypervolume, non_dominated

FOLDER = Path(__file__).parent / "curves"
SAMPLERS = ("random", "tpe", "nsga2")
TOLD = ("pruned", "failed", "zero", "rung", "truth")
WORKERS = 2
MOST = 4
"""Most trials of a search with pruning, in those of the full search; it ends earlier, with its epochs."""
IMAGES = {"digits": 225, "fashion_mnist": 10_000}
"""Images of the validation splits, which decide the default slack."""
FIRST, ETAS, SLACKS = (1, 2), (2, 3, 4), (0.0, 0.5, 1.0, 2.0)
"""The settings to compare; a slack is given in those of `noise`."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One network: its values in the space, its MACs, and the recorded training with seed 0.

    Attributes:
        accuracy: validation accuracy after each epoch, the last one is final.
        test: test accuracy at the end.
    """

    values: Values
    macs: int
    accuracy: tuple[float, ...]
    test: float

    @property
    def final(self) -> float:
        """Validation accuracy after the last epoch."""
        return self.accuracy[-1]

    def seconds(self, epochs: int) -> float:
        """Simulated time of this many epochs; the unit is an epoch of a network without any MACs."""
        return epochs * (1 + self.macs / 100_000)


@dataclass(frozen=True)
class Table:
    """The curves of all networks of a space."""

    space: SearchSpace
    curves: Mapping[Key, Curve]

    @property
    def epochs(self) -> int:
        """Epochs of a whole training."""
        return len(next(iter(self.curves.values())).accuracy)

    @property
    def reference(self) -> tuple[float, float]:
        """The point that bounds the hypervolume, with MACs on a logarithmic scale.

        It is one point below the least accurate network of the front, and as expensive as the most expensive
        network of the table, plus 10 %.
        """
        curves = list(self.curves.values())
        accuracy = np.array([curve.final for curve in curves])
        front = non_dominated(accuracy, [curve.macs for curve in curves])
        return accuracy[front].min() - 0.01, float(np.log(1.1 * max(curve.macs for curve in curves)))

    def part(self, values: Mapping[str, Any]) -> Table:
        """Return the table of the networks that have the given values."""
        curves = {
            key: curve
            for key, curve in self.curves.items()
            if all(curve.values[name] == value for name, value in values.items())
        }
        return Table(self.space.fixed(values, "--only: "), curves)

    def volume(self, curves: Sequence[Curve], accuracy: Sequence[float] | None = None) -> float:
        """Compute the hypervolume of networks, by the accuracies that are given or by validation."""
        gains = [curve.final for curve in curves] if accuracy is None else accuracy
        return hypervolume(gains, np.log([curve.macs for curve in curves]), self.reference)


@dataclass(frozen=True)
class Ended:
    """A training of a search that ended.

    Attributes:
        curve: its network.
        epochs: epochs that it trained; fewer than all if it was pruned.
        spent: epochs that the whole search had spent by then.
        time: simulated time by then.
    """

    curve: Curve
    epochs: int
    spent: int
    time: float

    @property
    def whole(self) -> bool:
        """Whether it was not pruned."""
        return self.epochs == len(self.curve.accuracy)


# Recording.


def record(name: str, store: Path) -> None:
    """Train every network of a space, and write the curves from the record of the sweep."""
    from mlflow import MlflowClient

    from invact.tracking.store import open_store

    sweep = load_sweep(FOLDER / f"{name}.toml")
    table = run_sweep(sweep, store=store).table
    client = MlflowClient(open_store(store, read_only=True).uri)
    names = [parameter.name for parameter in sweep.space.parameters if parameter.domain.size > 1]
    rows = []
    for _, run in table[table["status"] == Status.FINISHED].iterrows():
        history = client.get_metric_history(run["run_id"], "validation/accuracy")
        accuracy = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
        rows.append(
            [
                *(run[f"param.{name}"] for name in names),
                int(run["macs"]),
                *(round(one, 5) for one in (run["test_accuracy"], *accuracy)),
            ]
        )
    epochs = range(1, len(rows[0]) - len(names) - 1)
    with (FOLDER / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "macs", "test", *(f"epoch {number}" for number in epochs)])
        writer.writerows(sorted(rows))


def read(name: str) -> Table:
    """Read the recorded curves of all networks of a space."""
    space = load_sweep(FOLDER / f"{name}.toml").space
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            proposal_key(values): row
            for row, values in ((row, _values(space, row)) for row in csv.DictReader(file))
        }
    curves = {
        key: Curve(
            dict(key[0]),
            int(row["macs"]),
            tuple(float(cell) for title, cell in row.items() if title.startswith("epoch ")),
            float(row["test"]),
        )
        for key, row in rows.items()
    }
    return Table(space, curves)


def _values(space: SearchSpace, row: Mapping[str, str]) -> Values:
    values: dict[str, Any] = {}
    for parameter in space.parameters:
        known = parameter.domain.values()
        told = {str(value): value for value in known}
        values[parameter.name] = told[row[parameter.name]] if len(known) > 1 else known[0]
    return values


# Replaying.


def told(how: str, curve: Curve, epoch: int) -> Outcome:
    """What the driver is told of a trial that was pruned at an epoch.

    Args:
        how: `pruned`, as in a sweep; `failed`, the trial does not count; `zero`, its accuracy is 0; `rung`,
            its accuracy at the rung as if it were final; `truth`, its accuracy after all epochs.
        curve: the network of the trial.
        epoch: the epoch.
    """
    costs, at_rung = {"macs": float(curve.macs)}, curve.accuracy[epoch - 1]
    return {
        "pruned": Outcome(Status.PRUNED, costs, at_rung, epoch),
        "failed": Outcome(Status.FAILED, costs),
        "zero": Outcome(Status.FINISHED, costs, 0.0),
        "rung": Outcome(Status.FINISHED, costs, at_rung),
        "truth": Outcome(Status.FINISHED, costs, curve.final),
    }[how]


def search(
    table: Table,
    sampler: str,
    seed: int,
    trials: int,
    rule: SuccessiveHalving | None,
    how: str = "pruned",
    epochs: float = np.inf,
) -> list[Ended]:
    """Replay one search with simulated workers; the trainings are in the order in which they end.

    Args:
        table: the curves.
        sampler: the sampler of the driver.
        seed: its seed.
        trials: most trials.
        rule: the rule of pruning; None trains every network to the end.
        how: what the driver is told of pruned trials.
        epochs: most epochs; the search ends with the last training that it can pay for.
    """
    driver = make_driver("optuna", sampler, table.space, Objective(kind="pareto"), seed, trials)
    arrivals: list[Arrival] = []
    ended: list[Ended] = []
    order = itertools.count()
    # The next end of an epoch of each worker: time, tie-break, proposal, epoch.
    events: list[tuple[float, int, Proposal, int]] = []
    spent = 0

    def begin(time: float) -> None:
        if (proposal := driver.ask()) is not None:
            curve = table.curves[proposal_key(proposal.values)]
            heapq.heappush(events, (time + 1 + curve.seconds(1), next(order), proposal, 1))

    for _ in range(WORKERS):
        begin(0.0)
    while events and spent < epochs:
        time, _, proposal, epoch = heapq.heappop(events)
        spent += 1
        curve = table.curves[proposal_key(proposal.values)]
        arrival = Arrival(proposal.number, epoch, curve.accuracy[epoch - 1], float(curve.macs))
        whole = epoch == len(curve.accuracy)
        goes_on = not whole
        if goes_on and rule is not None and epoch in rule.rungs:
            goes_on = rule.goes_on(arrivals, arrival)
            arrivals.append(arrival)
        if goes_on:
            heapq.heappush(events, (time + curve.seconds(1), next(order), proposal, epoch + 1))
            continue
        ended.append(Ended(curve, epoch, spent, time))
        done = Outcome(Status.FINISHED, {"macs": curve.macs}, curve.final)
        driver.tell(proposal, done if whole else told(how, curve, epoch))
        begin(time)
    return ended


def volumes(table: Table, ended: Sequence[Ended]) -> Floats:
    """Hypervolume of the finished trainings after each training that ended."""
    finished = [[one.curve for one in ended[:count] if one.whole] for count in range(1, len(ended) + 1)]
    return np.array([table.volume(curves) for curves in finished])


def tested(table: Table, ended: Sequence[Ended]) -> float:
    """Hypervolume of the test accuracies of the networks that validation puts on the front."""
    curves = [one.curve for one in ended if one.whole]
    front = non_dominated([curve.final for curve in curves], [curve.macs for curve in curves])
    chosen = list(itertools.compress(curves, front))
    return table.volume(chosen, [curve.test for curve in chosen])


def reached(ended: Sequence[Ended], volume: Floats, goal: float) -> tuple[float, float]:
    """Epochs and simulated time until the hypervolume is at least the goal; infinite if it never is."""
    for one, found in zip(ended, volume, strict=True):
        if found >= goal * (1 - 1e-12):
            return one.spent, one.time
    return np.inf, np.inf


def lost(ended: Sequence[Ended], front: Sequence[Curve]) -> tuple[int, int]:
    """Count the members of a front that were pruned, and those that the search has proposed."""
    members = [one for one in ended if one.curve in front]
    return sum(not one.whole for one in members), len(members)


def front_of(curves: Sequence[Curve]) -> list[Curve]:
    mask = non_dominated([curve.final for curve in curves], [curve.macs for curve in curves])
    return list(itertools.compress(curves, mask))


@dataclass(frozen=True)
class Comparison:
    """A search with pruning against the full search with the same sampler and seed.

    Epochs are shares of the epochs of the full search, times of its time, and hypervolumes of its final one.

    Attributes:
        full_at: epochs until the full search has its final hypervolume.
        at, nearly_at: epochs until the search with pruning has it, and 99.5 % of it; infinite if never. It
            goes on with further trials for as many epochs as the full search.
        time_at: simulated time until it has it.
        full_half, half: hypervolumes at half of the epochs.
        volume, tested: its hypervolume after as many epochs, by validation accuracy and by test accuracy.
        spent: epochs of a search with pruning that ends after as many trials.
        same: its hypervolume.
        lost, members: members of the true front of the trials that it has seen, pruned and all.
        lost_best, members_best: members of the front of the whole table that it has seen, pruned and all.
    """

    full_at: float
    at: float
    nearly_at: float
    time_at: float
    full_half: float
    half: float
    volume: float
    tested: float
    spent: float
    same: float
    lost: int
    members: int
    lost_best: int
    members_best: int


def compare(
    table: Table,
    sampler: str,
    seed: int,
    full: Sequence[Ended],
    rule: SuccessiveHalving,
    how: str = "pruned",
) -> Comparison:
    """Search with pruning, and compare the search with the full one of the same sampler and seed."""
    trials = len(full)
    same = search(table, sampler, seed, trials, rule, how)
    epochs, time = full[-1].spent, full[-1].time
    most = min(len(table.curves), MOST * trials)
    longer = search(table, sampler, seed, most, rule, how, epochs)
    full_volumes, long_volumes = volumes(table, full), volumes(table, longer)
    goal = full_volumes[-1]

    def half(ended: Sequence[Ended], found: Floats) -> float:
        count = sum(one.spent <= epochs / 2 for one in ended)
        return float(found[count - 1] / goal) if count else 0.0

    at, time_at = reached(longer, long_volumes, goal)
    seen, best = [one.curve for one in same], list(table.curves.values())
    return Comparison(
        reached(full, full_volumes, goal)[0] / epochs,
        at / epochs,
        reached(longer, long_volumes, 0.995 * goal)[0] / epochs,
        time_at / time,
        half(full, full_volumes),
        half(longer, long_volumes),
        float(long_volumes[-1] / goal),
        tested(table, longer) / tested(table, full),
        same[-1].spent / epochs,
        float(volumes(table, same)[-1] / goal),
        *lost(same, front_of(seen)),
        *lost(same, front_of(best)),
    )


def comparisons(
    table: Table, sampler: str, trials: int, seeds: int, rule: SuccessiveHalving, how: str = "pruned"
) -> list[Comparison]:
    fulls = (search(table, sampler, seed, trials, None) for seed in range(seeds))
    return [compare(table, sampler, seed, full, rule, how) for seed, full in enumerate(fulls)]


# Printing.


def quartiles(values: Sequence[float], digits: int = 2) -> str:
    """Median and quartiles; values that are infinite count as the largest."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(titles: str) -> None:
    print()
    row(titles)
    row(*["---"] * len(titles.split(" | ")))


def shares(found: Sequence[Comparison]) -> tuple[str, str, str]:
    """Replays that lost a member of the true front; members lost; members of the table's front lost."""
    replays = np.mean([one.lost > 0 for one in found])
    members = sum(one.lost for one in found) / sum(one.members for one in found)
    best = sum(one.lost_best for one in found) / max(1, sum(one.members_best for one in found))
    return f"{replays:.0%}", f"{members:.1%}", f"{best:.1%}"


def print_settings(table: Table, trials: int, seeds: int, images: int) -> None:
    """Compare settings of the rule, by random searches."""
    head(
        "first rung | eta | slack | epochs to the full hypervolume | epochs of as many trials "
        "| its hypervolume | replays that lost a member | members lost | members of the table's front lost"
    )
    fulls = [search(table, "random", seed, trials, None) for seed in range(seeds)]
    for first, eta, factor in itertools.product(FIRST, ETAS, SLACKS):
        slack = factor * noise(images)
        rule = SuccessiveHalving(table.epochs, first, eta, slack)
        found = [compare(table, "random", seed, full, rule) for seed, full in enumerate(fulls)]
        at, spent = (quartiles([getattr(one, name) for one in found]) for name in ("at", "spent"))
        row(first, eta, f"{slack:.4f}", at, spent, quartiles([one.same for one in found], 4), *shares(found))


def print_searches(table: Table, trials: int, seeds: int, rule: SuccessiveHalving) -> None:
    """Compare searches with and without pruning, for each sampler."""
    found = {sampler: comparisons(table, sampler, trials, seeds, rule) for sampler in SAMPLERS}

    def cells(sampler: str, *names: str, digits: int = 2) -> list[str]:
        return [quartiles([getattr(one, name) for one in found[sampler]], digits) for name in names]

    print(f"{len(table.curves)} networks, {table.epochs} epochs, {trials} trials, {seeds} seeds, {rule}")
    head(
        "sampler | full search: epochs to its hypervolume | pruning: epochs to it | to 99.5 % of it "
        "| simulated time to it | never"
    )
    for sampler in SAMPLERS:
        never = np.mean([np.isinf(one.at) for one in found[sampler]])
        row(sampler, *cells(sampler, "full_at", "at", "nearly_at", "time_at"), f"{never:.0%}")
    head(
        "sampler | full search: hypervolume at half of the epochs | pruning: at half | at all "
        "| by test accuracy"
    )
    for sampler in SAMPLERS:
        row(sampler, *cells(sampler, "full_half", "half", "volume", "tested", digits=3))
    head(
        "sampler | epochs of as many trials | its hypervolume | replays that lost a member | members lost "
        "| members of the table's front lost"
    )
    for sampler in SAMPLERS:
        row(sampler, *cells(sampler, "spent"), *cells(sampler, "same", digits=4), *shares(found[sampler]))


def print_told(table: Table, trials: int, seeds: int, rule: SuccessiveHalving) -> None:
    """Compare what the samplers that learn may be told of pruned trials."""
    head("sampler | told of a pruned trial | epochs to the full hypervolume | hypervolume at all epochs")
    for sampler, how in itertools.product(SAMPLERS[1:], TOLD):
        found = comparisons(table, sampler, trials, seeds, rule, how)
        at, volume = [one.at for one in found], [one.volume for one in found]
        row(sampler, how, quartiles(at), quartiles(volume, 4))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("record", "settings", "replay", "told"))
    parser.add_argument("name", choices=("digits", "fashion_mnist"))
    parser.add_argument(
        "--store", type=Path, default=Path("pruning_store"), help="folder of record's trainings"
    )
    parser.add_argument("--seeds", type=int, default=50, help="number of seeds of the searches")
    parser.add_argument("--trials", type=int, help="trials of a full search; default: 5/16 of the networks")
    parser.add_argument("--only", metavar="KEY=VALUE", help="replay on the networks with this text value")
    parser.add_argument("--first", type=int, default=1, help="epoch of the first rung")
    parser.add_argument("--eta", type=int, default=3, help="factor from rung to rung")
    given = parser.parse_args()
    if given.command == "record":
        record(given.name, given.store)
        return
    table, images = read(given.name), IMAGES[given.name]
    if given.only:
        table = table.part(dict([given.only.split("=")]))
    trials = given.trials or 5 * len(table.curves) // 16
    if given.command == "settings":
        print_settings(table, trials, given.seeds, images)
    else:
        rule = SuccessiveHalving(table.epochs, given.first, given.eta, noise(images))
        {"replay": print_searches, "told": print_told}[given.command](table, trials, given.seeds, rule)


if __name__ == "__main__":
    main()
