import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from invact.data import mixing
from invact.data.augmentation import augment, batch_key
from invact.data.mixing import mix

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 12, 9, 3)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)
KEY = (7, 3, 5)  # Seed, epoch and step.


def drawn(count: int, alpha: float, key: tuple[int, int, int] = KEY) -> list[np.ndarray]:
    return [each.numpy() for each in mixing._draw(tf.constant(count), alpha, batch_key(*key))]


def of_shares(kept: np.ndarray) -> np.ndarray:
    expected = np.zeros((len(kept), 5))
    for image, share in enumerate(kept):
        expected[image, LABELS[image]] += share
        expected[image, LABELS[(image + 1) % len(LABELS)]] += 1 - share
    return expected


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0])
def test_shares_have_the_beta_distribution_of_scipy(alpha: float) -> None:
    kept, centres = drawn(20_000, alpha)
    # A correct sampler has a p value below 0.001 for one key in 1000. Shares near 1 are rounded to 1, so the
    # shares below 1/2 are compared; the distribution is symmetric.
    low = kept[kept < 0.5].astype(float)
    assert stats.kstest(low, lambda share: 2 * stats.beta(alpha, alpha).cdf(share)).pvalue > 1e-3
    assert stats.binomtest(len(low), len(kept)).pvalue > 1e-3
    for row in centres:
        assert stats.kstest(row, stats.uniform.cdf).pvalue > 1e-3
    together = np.corrcoef([kept, *centres]) - np.eye(3)
    assert np.abs(together).max() < 4.5 / np.sqrt(20_000)


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 100.0])
def test_shares_of_extreme_parameters_are_in_the_unit_interval(alpha: float) -> None:
    kept, _ = drawn(5000, alpha)
    assert ((kept >= 0) & (kept <= 1)).all()
    if alpha < 1:
        assert 0.45 < (kept > 0.5).mean() < 0.55
        assert (np.minimum(kept, 1 - kept) < 1e-3).mean() > 0.95


def test_mixup_is_that_of_numpy() -> None:
    images, shares = mix(IMAGES, LABELS, 5, 0.4, 0.0, *KEY)
    kept = drawn(64, 0.4)[0].astype(float)
    for image in range(64):
        other = IMAGES[(image + 1) % 64].astype(float)
        expected = kept[image] * IMAGES[image].astype(float) + (1 - kept[image]) * other
        np.testing.assert_allclose(images[image], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(shares, of_shares(kept), rtol=1e-5, atol=1e-6)
    assert images.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cutmix_is_that_of_numpy(dtype) -> None:
    pixels = IMAGES.astype(dtype)
    images, shares = mix(pixels, LABELS, 5, 0.0, 1.0, *KEY)
    assert images.dtype == dtype
    kept, (rows, columns) = drawn(64, 1.0)
    left = np.empty(64)
    for image in range(64):
        expected = pixels[image].copy()
        root = np.sqrt(np.float32(1) - kept[image])
        height, width = int(12 * root), int(9 * root)
        top, start = int(rows[image] * 12) - height // 2, int(columns[image] * 9) - width // 2
        box = (slice(max(top, 0), max(top + height, 0)), slice(max(start, 0), max(start + width, 0)))
        expected[box] = pixels[(image + 1) % 64][box]
        np.testing.assert_array_equal(images[image], expected)
        replaced = np.zeros((12, 9))
        replaced[box] = 1
        left[image] = 1 - replaced.mean()
    np.testing.assert_allclose(shares, of_shares(left), rtol=1e-5, atol=1e-6)
    assert left.min() < 0.3
    assert left.max() > 0.9


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0)])
def test_seed_epoch_and_step_decide_the_result(alphas: tuple[float, float]) -> None:
    @tf.function
    def graph(images, labels, seed, epoch, step):
        return mix(images, labels, 5, *alphas, seed, epoch, step)

    def in_graph(*key: int) -> bytes:
        return graph(IMAGES, LABELS, *(tf.constant(each) for each in key))[0].numpy().tobytes()

    first = mix(IMAGES, LABELS, 5, *alphas, *KEY)[0].numpy().tobytes()
    assert first == mix(IMAGES, LABELS, 5, *alphas, *KEY)[0].numpy().tobytes()
    others = [in_graph(*key) for key in (KEY, (8, 3, 5), (7, 4, 5), (7, 3, 6), (3, 7, 5))]
    if alphas[1]:  # A graph may fuse the products of mixup, which rounds them less.
        assert others[0] == first
    assert others[0] == in_graph(*KEY)
    assert len(set(others)) == len(others)


def test_the_draws_are_not_those_of_the_augmentation() -> None:
    image = np.arange(64 * 64, dtype=np.int32).reshape(1, 64, 64, 1)
    cut = augment(np.repeat(image + 1, 500, 0), ("cutout",), *KEY).numpy() == 0
    centres = [np.array([np.mean(np.nonzero(each)[axis]) for each in cut]) for axis in (0, 1)]
    kept, others = drawn(500, 1.0)
    for one in centres:
        for other in (kept, *others):
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_without_a_parameter_nothing_is_mixed() -> None:
    images, labels = mix(IMAGES, LABELS, 5, 0.0, 0.0, *KEY)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_a_batch_of_one_image_is_mixed_with_itself() -> None:
    images, shares = mix(IMAGES[:1], LABELS[:1], 5, 0.4, 0.0, *KEY)
    np.testing.assert_allclose(images, IMAGES[:1], rtol=1e-6)
    np.testing.assert_allclose(shares, np.eye(5)[LABELS[:1]], rtol=1e-6)
