import io
import json
import shutil
import sqlite3
from contextlib import closing, suppress
from types import SimpleNamespace as Some

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import BITS, write

from invact.claims.verdict.report import read_reports
from invact.config import Config
from invact.errors import EnvironmentFault, InputError, InvactError
from invact.sweeps.recorded import data_of, front_of
from invact.tracking.store import open_store
from invact.tracking.stored import bits_of, config_of, counts_of
from invact.tracking.table import COUNTED, METRICS, count, current, row_of

RUN = "0123456789abcdef"
TAGS = {
    "invact.trial": "3",
    "invact.seed": "7",
    "invact.label": "relu 8",
    "invact.config": "0123456789ab",
    "invact.config_json": Config().model_dump_json(),
    "invact.varied": '{"filters": 8}',
    "invact.status": "FINISHED",
    "invact.error": "",
}


def a_run(tags=(), metrics=(), start=1, status="FINISHED"):
    """An MLflow run with some tags and metrics replaced, or, with the value None, taken away."""
    both = [{**TAGS, **dict(tags)}, {"cost/macs": 10.0, **dict(metrics)}]
    kept = [{key: value for key, value in values.items() if value is not None} for values in both]
    return Some(
        info=Some(run_id=RUN, status=status, start_time=start), data=Some(tags=kept[0], metrics=kept[1])
    )


def read(run):
    runs = current([run])
    return [row_of(run) for run in runs], count(runs)


def test_a_whole_run_is_read():
    (row,), counts = read(a_run())
    assert (row["trial"], row["seed"], row["status"], row["param.filters"]) == (3, 7, "FINISHED", 8)
    assert counts == {"FINISHED": 1}


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        *(
            ("invact.trial", value)
            for value in (None, "", "x", "-1", "1.0", "1_0", "\u0663", "9" * 19, "9" * 9999)
        ),
        *(("invact.seed", value) for value in ("", "seven", "0x7", b"7")),
        *(("invact.status", value) for value in (None, "", "DONE", "finished", b"FINISHED")),
        *(("invact.config", value) for value in (None, 3)),
        *(
            ("invact.varied", value)
            for value in (None, "", "{", "[]", "null", '"a"', '{"a": null}', '{"a": [1]}')
        ),
        ("invact.varied", "[" * 9_000),
        *(("invact.config_json", value) for value in (None, "", "no", "[1]", "{" * 8_000)),
        ("invact.label", 3),
        ("invact.error", b"\xff"),
    ],
)
def test_a_damaged_tag_is_one_line_that_names_the_run(tag, value):
    with pytest.raises(EnvironmentFault) as caught:
        read(a_run({tag: value}))
    assert str(caught.value).startswith(f"run {RUN}: tag {tag!r}")
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1.5, -1.0, 1e30, float("inf"), "ten"])
def test_a_damaged_count_is_one_line_that_names_the_run(value):
    with pytest.raises(EnvironmentFault, match=rf"^run {RUN}: metric 'cost/macs': received "):
        read(a_run(metrics={"cost/macs": value}))


anything = st.none() | st.text() | st.binary() | st.integers() | st.floats()


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(list(TAGS)), anything | st.from_regex(r"[\[\]{}0-9\",:a-z]{0,20}")),
    st.dictionaries(st.sampled_from(list(METRICS.values())), anything),
    st.none() | st.integers(),
)
def test_whatever_a_run_holds_it_is_read_or_explained(tags, metrics, start):
    with suppress(EnvironmentFault):
        rows, counts = read(a_run(tags, metrics, start))
        has_seed = tags.get("invact.seed", "7") is not None
        assert len(rows) == sum(counts.values()) == has_seed


@settings(max_examples=60)
@given(
    st.text() | st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_counts_and_configurations_are_read_or_explained(content):
    with suppress(EnvironmentFault):
        assert all(type(number) is int for number in counts_of(RUN, "tag", content).values())
    with suppress(InvactError):
        config_of(RUN, content)


@pytest.mark.parametrize(
    "content", ['{"DONE": 3}', '{"FINISHED": "3"}', '{"FINISHED": true}', "[]", "", None]
)
def test_damaged_counts_are_refused(content):
    with pytest.raises(EnvironmentFault, match=f"run {RUN}: a: received .* Allowed: "):
        counts_of(RUN, "a", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "configuration: received ''. Allowed: a JSON object"),
        ('{"epochs": 0}', "configuration: epochs: received 0"),
        ('{"activation": "mine"}', "configuration: activation: received 'mine'"),
        ('{"new_key": 1}', "configuration: new_key: unknown key"),
    ],
)
def test_a_damaged_configuration_is_one_line_that_names_the_run(content, words):
    with pytest.raises(InvactError) as caught:
        config_of(RUN, content)
    assert str(caught.value).startswith(f"run {RUN}: {words}")


def npy(array, **options):
    with io.BytesIO() as file:
        np.save(file, array, **options)
        return file.getvalue()


def npz():
    with io.BytesIO() as file:
        np.savez(file, a=np.zeros(3))
        return file.getvalue()


WHOLE = npy(np.packbits(BITS))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", WHOLE[:-1], WHOLE[:8], npz()),
        *map(npy, (np.zeros(3), np.zeros((2, 2), np.uint8), np.uint8(3))),
        npy(np.array([{}]), allow_pickle=True),
    ],
)
def test_a_damaged_array_is_one_line_that_names_the_run(content):
    with pytest.raises(
        EnvironmentFault, match=rf"^run {RUN}: file 'correct\.npy': received .* Allowed: an array"
    ):
        bits_of(RUN, "file 'correct.npy'", content)


@given(st.data())
def test_every_damaged_array_is_read_or_explained(data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 130))] = data.draw(st.integers(0, 255))
    with suppress(EnvironmentFault):
        assert bits_of(RUN, "file", bytes(content)).dtype == np.uint8


SETTINGS = {"objective": {"cost": "macs", "max_macs": 100}, "imports": [], "seeds": [0]}
SOURCE = {"name": "digits", "split_seed": 0, "validation_fraction": 1 / 6, "digest": "abc"}


@pytest.fixture(scope="module")
def swept(empty_store, tmp_path_factory):
    """A store with a sweep and a claim, whose files a test replaces."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copy(empty_store, folder)
    store = open_store(folder)
    with store.record("mine", "sweep", "abc", {"settings.json": json.dumps(SETTINGS)}) as record:
        write(record, 0, Config())
    store.record("theirs", "claim", "abc").close()
    return store


GARBAGE = [b"", b"\xff\xfe", b"{", b"[]", b"null", b"3", b"{}"]


@pytest.mark.parametrize(
    "content",
    [
        *GARBAGE,
        b'{"objective": []}',
        b'{"objective": {"cost": "money"}}',
        b'{"objective": {"cost": []}}',
        b'{"objective": {"max_macs": "few"}}',
    ],
)
def test_damaged_settings_are_one_line_that_names_the_run(swept, content):
    record = swept.latest("mine")
    record.keep({"settings.json": content})
    with pytest.raises(EnvironmentFault, match=rf"^run {record.run_id}: file 'settings\.json'") as caught:
        front_of(record, record.table(), "mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        *GARBAGE,
        *(json.dumps(SOURCE | {key: []}).encode() for key in SOURCE),
        json.dumps(SOURCE | {"path": "/x"}).encode(),
    ],
)
def test_a_damaged_source_is_one_line_that_names_the_run(swept, content):
    record = swept.latest("mine")
    record.keep({"source.json": content})
    with pytest.raises(EnvironmentFault, match=rf"^run {record.run_id}: file 'source\.json'"):
        data_of(record, "mine")


@pytest.mark.parametrize("content", GARBAGE[:-1])
def test_a_damaged_report_of_a_claim_is_one_line_that_names_the_run(swept, tmp_path, content):
    record = swept.latest("theirs")
    (tmp_path / "report.md").write_text("# A report\n")
    (tmp_path / "claim.json").write_bytes(content)
    record.log_folder(tmp_path, "verdict")
    with pytest.raises(EnvironmentFault, match=rf"^run {record.run_id}: file 'verdict/claim\.json'"):
        read_reports(swept, "theirs")


@pytest.mark.parametrize("value", ["NULL", "x'ff00'"])
@pytest.mark.parametrize("place", ["invact.trial", COUNTED, "invact.kind", "start_time", "status"])
def test_whatever_the_database_holds_is_read_or_explained(folder, store, place, value):
    with store.record("mine", "sweep", "abc", driver="optuna") as record:
        write(record, 0, Config())
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        if place.startswith("invact."):
            connection.execute(f"UPDATE tags SET value = {value} WHERE key = ?", [place])
        else:
            with suppress(sqlite3.IntegrityError):
                connection.execute(f"UPDATE runs SET {place} = {value}")
        connection.commit()
    said = []
    for ask in (store.records, lambda: store.latest("mine"), record.table):
        try:
            ask()
        except (EnvironmentFault, InputError) as error:
            said.append(str(error))
    for line in said:
        assert "\n" not in line
        assert any(word in line for word in ("run ", "mlflow.db: ", "no records"))
