import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import COST, a_result, write

from invact.config import Config
from invact.errors import InputError
from invact.tracking.table import COLUMNS, current
from invact.training.results import Scores, Status


def test_every_final_status_has_a_row_and_unmeasured_values_are_missing(store, record):
    config = Config()
    nothing = {"train": None, "validation": None, "test": None, "correct": b""}
    run_id = record.start(0, config, 0, 1, "", {})
    record.finish(run_id, a_result(config, status=Status.OVER_BUDGET, **nothing), {"overrun": 0.5})
    infinite = {
        "train": Scores(0.1, math.inf),
        "validation": Scores(0.1, math.nan),
        "test": Scores(0.1, -math.inf),
    }
    write(record, 1, config, status=Status.DIVERGED, error="loss inf", **infinite)
    write(record, 2, config, status=Status.FAILED, error="out of memory", cost=None, **nothing)
    record.start(3, config, 0, 1, "killed", {})
    record.close()
    table = store.latest("mine").table().set_index("trial")
    assert list(table["status"]) == ["OVER_BUDGET", "DIVERGED", "FAILED"]
    assert list(table["error"]) == ["", "loss inf", "out of memory"]
    assert table.loc[0, "overrun"] == 0.5
    assert table.loc[0, "macs"] == COST.macs
    assert table.loc[1, ["train_loss", "validation_loss", "test_loss"]].isna().all()
    assert table.loc[1, "test_accuracy"] == 0.1
    assert table.loc[2, ["macs", "params", "filters", "test_accuracy"]].isna().all()
    assert table["macs"].dropna().astype(int).tolist() == [COST.macs, COST.macs]
    with pytest.raises(InputError, match=r"has no file 'correct\.npy'"):
        record.correct(run_id, 8)


def test_a_failed_run_has_a_row_until_it_is_tried_again(record):
    config = Config()
    write(record, 0, config, status=Status.FAILED, error="no memory")
    assert list(record.table()["status"]) == ["FAILED"]
    again, _ = write(record, 0, config)
    write(record, 0, config, status=Status.FAILED)
    table = record.table()
    assert list(table["status"]) == ["FINISHED"]
    assert list(table["run_id"]) == [again]


def test_conditional_parameters_keep_their_type(record):
    for trial, varied in enumerate([{"a": 1}, {"b": True}, {"a": 3}]):
        record.finish(record.start(trial, Config(), 0, 1, "", varied), a_result(Config()))
    table = record.table()
    assert list(table["param.a"]) == [1, None, 3]
    assert [type(value) for value in table["param.a"]] == [int, type(None), int]
    assert list(table["param.b"]) == [None, True, None]


def test_an_empty_table_has_its_columns(record):
    table = record.table()
    assert tuple(table.columns) == (*COLUMNS, "config_json")
    assert table.empty


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 2), st.sampled_from(["FINISHED", "FAILED", "KILLED", "RUNNING"])
        )
    )
)
def test_one_run_counts_for_each_trial_and_seed(values):
    from types import SimpleNamespace as Some

    runs = [
        Some(
            info=Some(status=status, start_time=moment, number=moment),
            data=Some(tags={"invact.trial": str(trial), "invact.seed": str(seed)}),
        )
        for moment, (trial, seed, status) in enumerate(values)
    ]
    expected = {}
    for wanted in ("FAILED", "FINISHED"):
        for moment, (trial, seed, status) in enumerate(values):
            if status == wanted:
                expected[trial, seed] = moment
    assert [run.info.number for run in current(reversed(runs))] == [expected[key] for key in sorted(expected)]
