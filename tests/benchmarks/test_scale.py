import pytest

from benchmarks.scale import COMMANDS, fill, proposal_seconds, run, show_filled
from invact.sweeps.recorded import find_sweep, pareto_front


def test_a_made_up_sweep_is_recorded_with_one_write_for_each_event(tmp_path, capsys, quick_stores) -> None:
    filled = fill(tmp_path, 5, epochs=2)
    # For each run: its begin, its data set, two epochs, the files, the values at the end, and the status.
    assert filled.calls == {"begin": 5, "log_data": 5, "log": 5 * 3, "keep": 5, "end": 5}
    assert len(filled.seconds) == len(filled.memory) == 5
    store = tmp_path / "mlruns"
    table = find_sweep("scale", None, store, None).table()
    assert list(table["status"]) == ["FINISHED"] * 5
    assert pareto_front("scale", store=store).points
    show_filled(filled, 2)
    assert "log 3.00" in capsys.readouterr().out


def test_a_sampler_proposes_after_known_results() -> None:
    assert proposal_seconds("tpe", 3, asked=2) > 0


@pytest.mark.slow
def test_the_commands_run_on_a_made_up_store(tmp_path) -> None:
    fill(tmp_path, 3, epochs=1)
    # Nothing is left to train when the sweep is continued.
    assert all(run(arguments, tmp_path).memory > 0 for arguments in COMMANDS.values())
    assert len(find_sweep("scale", None, tmp_path / "mlruns", None).table()) == 3
