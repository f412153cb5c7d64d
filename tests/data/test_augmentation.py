import hashlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from invact.config import AUGMENTATIONS
from invact.data import augmentation
from invact.data.augmentation import augment, check_augmentations
from invact.data.sources import DATASETS
from invact.errors import InputError

SHAPES = [(200, 28, 28, 1), (200, 32, 32, 3), (200, 8, 8, 1), (200, 9, 20, 2)]


def noise(shape, dtype=np.uint8, seed=0):
    # No pixel is 0, so that a pixel that an augmentation sets to 0 is visible.
    return np.random.default_rng(seed).integers(1, 256, shape).astype(dtype)


def moved(image, down, right):
    """Move an image, one pixel at a time."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[row, column] = image[row - down, column - right]
    return result


def most(side):
    return max(1, side // 8)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_is_an_exact_translation(shape):
    images = noise(shape)
    result = augment(images, ("shift",), 0, 1, 2).numpy()
    found = []
    for image, after in zip(images, result, strict=True):
        # New rows and columns are 0; their number is the distance that the image moved.
        rows, columns = after.any(axis=(1, 2)), after.any(axis=(0, 2))
        down = int(rows.argmax()) or -int(rows[::-1].argmax())
        right = int(columns.argmax()) or -int(columns[::-1].argmax())
        np.testing.assert_array_equal(after, moved(image, down, right))
        found.append((down, right))
    reach_down, reach_right = most(shape[1]), most(shape[2])
    downs, rights = zip(*found, strict=True)
    assert set(downs) == set(range(-reach_down, reach_down + 1))
    assert set(rights) == set(range(-reach_right, reach_right + 1))
    assert len(set(found)) > 2 * max(reach_down, reach_right) + 1  # Both axes move independently.


@pytest.mark.parametrize("shape", SHAPES)
def test_a_crop_is_a_part_of_the_image_that_numpy_pads(shape):
    images = noise(shape)
    result = augment(images, ("crop",), 0, 1, 2).numpy()
    rows, columns = (most(side) for side in shape[1:3])
    padded = np.pad(images, [(0, 0), (rows, rows), (columns, columns), (0, 0)], mode="reflect")
    found = []
    for image, after in zip(padded, result, strict=True):
        matches = [
            (top, left)
            for top in range(2 * rows + 1)
            for left in range(2 * columns + 1)
            if np.array_equal(image[top : top + shape[1], left : left + shape[2]], after)
        ]
        assert len(matches) == 1
        found += matches
    tops, lefts = zip(*found, strict=True)
    assert set(tops) == set(range(2 * rows + 1))
    assert set(lefts) == set(range(2 * columns + 1))
    assert len(set(found)) > 2 * max(rows, columns) + 1  # Both axes move independently.


def test_the_augmentations_of_a_seed_never_change():
    """The batches of old runs depend on them. The images were made before `crop` existed."""
    images = noise((64, 28, 28, 3))
    result = augment(images, ("cutout", "shift", "flip"), 3, 1, 2, 5.0).numpy()
    assert hashlib.sha256(result.tobytes()).hexdigest()[:12] == "8fbea33eb3ff"


@pytest.mark.parametrize(("names", "dtype"), [(("shift",), np.uint8), (("cutout", "shift"), np.float32)])
def test_new_pixels_are_the_background(names, dtype):
    images = noise(SHAPES[0], dtype)
    dark = augment(images, names, 0, 1, 2).numpy()
    other = augment(images, names, 0, 1, 2, background=7.0).numpy()
    assert other.dtype == dtype
    assert (dark == 0).any()
    np.testing.assert_array_equal(other, np.where(dark == 0, 7, dark))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flip_mirrors_some_images_and_leaves_the_others(shape):
    images = noise(shape)
    result = augment(images, ("flip",), 0, 1, 2).numpy()
    mirrored = [np.array_equal(after, image[:, ::-1]) for image, after in zip(images, result, strict=True)]
    kept = [np.array_equal(after, image) for image, after in zip(images, result, strict=True)]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * len(images)
    assert 70 < sum(mirrored) < 130  # Binomial(200, 1/2): mean 100, standard deviation 7.


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cutout_is_a_clipped_square(shape):
    images = noise(shape)
    result = augment(images, ("cutout",), 0, 1, 2).numpy()
    height, width = shape[1:3]
    side = min(height, width) // 4
    possible = {}
    for centre_row in range(height):
        for centre_column in range(width):
            mask = np.ones((height, width, 1), bool)
            top, left = centre_row - side // 2, centre_column - side // 2
            mask[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = False
            possible.setdefault(mask.tobytes(), (centre_row, centre_column))
    centres = []
    for image, after in zip(images, result, strict=True):
        mask = after.any(axis=2, keepdims=True)
        centres.append(possible[mask.tobytes()])
        np.testing.assert_array_equal(after, image * mask)
    rows, columns = np.transpose(centres)
    assert (rows.min(), columns.min()) <= (1, 1)
    assert rows.max() >= height - 2
    assert columns.max() >= width - 3
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.3


def test_draws_are_uniform():
    # 18,000 images each make one of 9 moves: 2,000 are expected for each move, standard deviation 42.
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, 4, 4] = 1
    result = augment(np.repeat(image, 18_000, axis=0), ("shift",), 7, 3, 5).numpy()
    counts = result.sum(axis=0, dtype=int)[3:6, 3:6, 0]
    assert counts.sum() == 18_000
    assert np.abs(counts - 2000).max() < 5 * 42


@pytest.mark.parametrize("names", [*((name,) for name in AUGMENTATIONS), AUGMENTATIONS])
def test_seed_epoch_and_step_decide_the_result(names):
    images = noise((64, 16, 16, 1))
    first = augment(images, names, 1, 2, 3).numpy()
    np.testing.assert_array_equal(augment(images, names, 1, 2, 3), first)
    others = [(0, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (2, 1, 3), (2**40, 2, 3)]
    results = [first, *(augment(images, names, *key).numpy() for key in others)]
    assert len({result.tobytes() for result in results}) == len(results)


def test_each_image_of_a_batch_gets_its_own_augmentation():
    images = np.repeat(noise((1, 32, 32, 3)), 64, axis=0)
    result = augment(images, AUGMENTATIONS, 0, 0, 0).numpy()
    assert len({image.tobytes() for image in result}) > 60


def test_one_augmentation_does_not_change_the_draws_of_another():
    images = noise((64, 16, 16, 1))
    both = augment(images, ("shift", "cutout"), 0, 0, 0).numpy()
    shifted = augment(images, ("shift",), 0, 0, 0).numpy()
    cut = augment(np.ones_like(images), ("cutout",), 0, 0, 0).numpy()
    np.testing.assert_array_equal(both, shifted * cut)


@pytest.mark.parametrize(("dtype", "batch"), [(np.uint8, 64), (np.float32, None)])
def test_graph_and_eager_mode_give_the_same_bits(dtype, batch):
    images = noise((64, 28, 28, 3), dtype)

    @tf.function(
        input_signature=[
            tf.TensorSpec((batch, 28, 28, 3), dtype),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
    )
    def graph(images, epoch, step):
        result = augment(images, AUGMENTATIONS, 3, epoch, step)
        assert result.shape.as_list() == [batch, 28, 28, 3]
        return result

    for epoch, step in ((0, 0), (1, 0), (0, 1), (2**31 - 1, 2**31 - 1)):
        eager = augment(images, AUGMENTATIONS, 3, epoch, step)
        assert eager.dtype == dtype
        np.testing.assert_array_equal(graph(images, epoch, step), eager)
    np.testing.assert_array_equal(
        augment(images.astype(np.uint8), AUGMENTATIONS, 3, 5, 5), graph(images, 5, 5).numpy().astype(np.uint8)
    )


def test_without_augmentations_images_do_not_change():
    images = noise((4, 8, 8, 1))
    np.testing.assert_array_equal(augment(images, (), 0, 0, 0), images)


@pytest.mark.parametrize("shape", [(5, 1, 30, 1), (5, 1, 1, 1), (0, 8, 8, 1)])
def test_the_smallest_images(shape):
    images = noise(shape)
    result = augment(images, ("shift", "flip", "crop"), 0, 0, 0).numpy()
    assert result.shape == shape
    # An image cannot move along a side of one pixel.
    assert result.any(axis=(1, 2, 3)).all()


def test_every_augmentation_that_a_configuration_may_name_exists():
    assert tuple(augmentation._AUGMENTATIONS) == AUGMENTATIONS


@pytest.mark.parametrize("dataset", [*DATASETS, "some/file.npz"])
def test_digits_are_not_flipped(dataset):
    check_augmentations(("shift", "cutout"), dataset)
    if dataset in ("digits", "mnist"):
        with pytest.raises(
            InputError, match=f"received 'flip' for {dataset}, .* Allowed: shift, cutout, crop$"
        ):
            check_augmentations(("shift", "flip"), dataset)
    else:
        check_augmentations(AUGMENTATIONS, dataset)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(InputError, match="augmentation: received 'flop'; did you mean 'flip'"):
        check_augmentations(("shift", "flop"), "cifar10")


def test_checking_loads_no_tensorflow():
    script = (
        "import sys; from invact.data.augmentation import check_augmentations as check; "
        "from invact.data.dataset import load; "
        "check(('shift',), 'digits'); load('digits'); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
