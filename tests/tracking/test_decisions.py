"""Decisions of a race are tags of their runs, also of runs that were killed."""

from types import SimpleNamespace

import pytest
from recording import write

from invact.config import Config
from invact.errors import EnvironmentFault
from invact.tracking.decisions import Decision, begun, decisions_of, tag_of_decision
from invact.tracking.store import open_store
from invact.training.results import Status


def a_run(trial: int, *decisions: Decision, seed: int = 0, **tags: str) -> SimpleNamespace:
    found = {"invact.trial": str(trial), "invact.seed": str(seed)} | tags
    for decision in decisions:
        found |= tag_of_decision(decision)
    return SimpleNamespace(data=SimpleNamespace(tags=found), info=SimpleNamespace(run_id=f"run {trial}"))


FOUR = [
    Decision(0, 3, 1, 0.1, 2000.0, True),
    Decision(1, 1, 1, 0.30000000000000004, None, False),
    Decision(2, 3, 3, float("inf"), 0.5, True),
    Decision(3, 2, 1, 1.0, 1e12, True),
]


def test_decisions_are_read_as_they_were_written_and_in_their_order() -> None:
    runs = [a_run(2, FOUR[3]), a_run(5), a_run(3, FOUR[2], FOUR[0]), a_run(1, FOUR[1])]
    assert decisions_of(runs) == FOUR


def test_a_trial_is_begun_if_it_has_a_decision_and_no_run_that_has_ended() -> None:
    parent = a_run(7, FOUR[0])
    del parent.data.tags["invact.seed"]
    runs = [a_run(3, FOUR[0]), a_run(1, FOUR[1]), a_run(4), parent, a_run(3)]
    assert begun(runs, [a_run(1)]) == [runs[0]]
    assert begun(runs, []) == [runs[1], runs[0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x", "received 'x'. Allowed: a JSON object"),
        ('{"order": 1}', "accuracy: received nothing. Allowed: a number"),
        ('{"order": "1", "accuracy": 0.5, "goes_on": true}', "order: received '1'. Allowed: a whole number"),
        ('{"order": 1, "accuracy": 0.5, "goes_on": "no"}', "goes_on: received 'no'. Allowed: true or false"),
        (
            '{"order": 1, "accuracy": 0.5, "goes_on": true, "cost": "1"}',
            "cost: received '1'. Allowed: a number",
        ),
    ],
)
def test_a_damaged_decision_is_an_error_of_one_line(content: str, words: str) -> None:
    with pytest.raises(EnvironmentFault) as fault:
        decisions_of([a_run(3, **{"invact.rung.9": content})])
    assert str(fault.value) == f"run run 3: tag 'invact.rung.9': {words}"


def test_a_killed_run_keeps_its_decisions_and_its_trial_is_begun_until_a_run_ends(folder) -> None:
    config = Config(filters=7)
    with open_store(folder).record("a", "sweep", "1") as record:
        killed = record.start(3, config, 0, 1, "relu 7", {"filters": 7})
        record.decide(killed, FOUR[0])
    with open_store(folder).record("a", "sweep", "1") as record:
        decisions, table = record.race()
        assert decisions == FOUR[:1]
        (row,) = table.to_dict("records")
        assert (row["trial"], row["seed"], row["status"], row["param.filters"]) == (3, 0, "", 7)
        assert Config.model_validate_json(row["config_json"]) == config
        assert not len(record.table()), "a killed run does not count"
        write(record, 3, config, status=Status.PRUNED, test=None)
        decisions, table = record.race()
        assert decisions == FOUR[:1]
        assert not len(table)
        (row,) = record.table().to_dict("records")
        assert (row["status"], row["epochs"]) == ("PRUNED", 0)
