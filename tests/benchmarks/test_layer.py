from benchmarks.layer import compare


def test_the_layers_are_measured_in_turn() -> None:
    found = compare((2, 4, 4, 3), rounds=2)
    assert list(found) == ["tf.nn.crelu", "InverseActivation", "ReLU, 2x"]
    assert all(len(times) == 2 and min(times) > 0 for times in found.values())
