import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import linalg

from invact.analysis import dead_share, effective_rank
from invact.errors import InputError

small = st.integers(-3, 3).map(float)
matrices = st.tuples(st.integers(2, 9), st.integers(1, 6)).flatmap(
    lambda shape: arrays.arrays(float, shape, elements=small)
)


def rank_by_svd(features):
    """The formula of Roy and Vetterli by an independent way: a decomposition of the centred matrix."""
    matrix = np.asarray(features, float).reshape(-1, np.shape(features)[-1])
    singular = linalg.svdvals(matrix - matrix.mean(axis=0))
    singular = singular[singular > 1e-9]
    shares = singular / singular.sum()
    return np.prod(shares**-shares) if len(singular) else 0


@settings(max_examples=60)
@given(arrays.arrays(float, (3, 2, 2, 4), elements=st.integers(0, 1).map(float)))
def test_dead_share_agrees_with_a_count(activations):
    dead = [all(value == 0 for value in activations[..., unit].flat) for unit in range(4)]
    assert dead_share(activations) == sum(dead) / 4
    pairs = [dead[0] and dead[2], dead[1] and dead[3]]
    assert dead_share(activations, multiplicity=2) == sum(pairs) / 2
    assert dead_share(activations, multiplicity=4) == all(dead)


@settings(max_examples=30)
@given(matrices)
def test_an_inverse_activation_kills_a_filter_only_if_its_input_is_zero(inputs):
    inverse = np.concatenate([np.maximum(inputs, 0), np.maximum(-inputs, 0)], axis=-1)
    assert dead_share(inverse, multiplicity=2) == dead_share(inputs) <= dead_share(np.maximum(inputs, 0))
    one_sign = np.mean([not (column > 0).any() or not (column < 0).any() for column in inputs.T])
    assert dead_share(inverse) == pytest.approx((one_sign + dead_share(inputs)) / 2)


def test_a_number_that_is_not_finite_is_not_zero():
    assert dead_share([[np.nan, 0.0], [0.0, -0.0]]) == 0.5


@settings(max_examples=80)
@given(matrices)
def test_effective_rank_agrees_with_a_decomposition(features):
    rank = effective_rank(features)
    assert rank == pytest.approx(rank_by_svd(features), rel=1e-6)
    varying = np.linalg.matrix_rank(features - features.mean(axis=0))
    assert rank <= varying + 1e-6
    assert rank >= (1 - 1e-9 if varying else 0)


@settings(max_examples=30)
@given(matrices, st.floats(0.01, 100), st.integers(0, 99))
def test_effective_rank_does_not_depend_on_scale_direction_and_mean(features, scale, seed):
    assume(np.ptp(features) > 0)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((features.shape[1],) * 2))
    moved = scale * features @ rotation + rng.standard_normal(features.shape[1])
    assert effective_rank(moved) == pytest.approx(effective_rank(features), rel=1e-4)


def test_effective_rank_of_known_features():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((500, 4, 4, 8))
    assert effective_rank(noise) == pytest.approx(8, rel=0.01)
    assert effective_rank(noise.astype(np.float32)) == pytest.approx(effective_rank(noise))
    # Each position is a sample.
    assert effective_rank(noise) == pytest.approx(effective_rank(noise.reshape(-1, 8)))
    # Two directions with singular values 3 to 1 have the entropy of the shares 3/4 and 1/4.
    two = np.array([[3, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(two) == pytest.approx(4 / 3**0.75)
    # Twelve features of five samples vary in four directions at most.
    assert effective_rank(rng.standard_normal((5, 12))) <= 4


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e8, 1e-30])
def test_constant_features_have_no_rank(value):
    assert effective_rank(np.full((997, 3), value)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_rank_of_features_that_are_not_finite_is_no_number(value):
    assert np.isnan(effective_rank([[1.0, value], [2.0, 3.0]]))


@pytest.mark.parametrize("function", [dead_share, effective_rank])
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_arrays_without_images_or_channels_are_refused(function, shape):
    with pytest.raises(InputError, match=r"received shape .* Allowed: \(images, ..., channels\), not empty"):
        function(np.zeros(shape))


@pytest.mark.parametrize("multiplicity", [0, 2, -1])
def test_a_multiplicity_divides_the_channels(multiplicity):
    with pytest.raises(InputError, match=f"multiplicity: received {multiplicity}. Allowed: a divisor .*, 3"):
        dead_share(np.ones((2, 3)), multiplicity)
