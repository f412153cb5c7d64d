import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from invact.claims.keys import TuningFile
from invact.claims.planning.tuning import tuning_points


@given(st.integers(2, 64), st.floats(1e-5, 1e-2), st.floats(1.5, 1e3))
def test_every_arm_tries_the_same_points(trials: int, low: float, factor: float) -> None:
    tuning = TuningFile(trials=trials, learning_rate=(low, low * factor), weight_decay=(1e-5, 1e-3))
    points = tuning_points(tuning, {})
    assert points == tuning_points(tuning, {"filters": 3})
    assert len(set(points)) == trials
    rates = np.array([point.learning_rate for point in points])
    assert (rates >= low * 0.999).all()
    assert (rates <= low * factor * 1.001).all()
    # The points are spread evenly on the logarithmic scale, so each half of the range has half of them.
    assert abs((np.log(rates) < np.log(low) + np.log(factor) / 2).mean() - 0.5) <= 1 / trials + 1e-9


def test_without_a_range_the_weight_decay_is_that_of_the_configuration() -> None:
    tuning = TuningFile(trials=2, learning_rate=(1e-3, 1e-2))
    assert {point.weight_decay for point in tuning_points(tuning, {"weight_decay": 0.5})} == {0.5}
