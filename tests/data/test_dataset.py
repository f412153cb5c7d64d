import dataclasses
import hashlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invact.data.dataset import Dataset, Source, load
from invact.data.sources import DATASETS
from invact.errors import EnvironmentFault, InputError

# Every image has its own number, so that an image can be found again after the split.
NUMBERS = np.arange(120, dtype=np.uint8)
X_TRAIN = np.repeat(NUMBERS, 12).reshape(120, 3, 4)
Y_TRAIN = NUMBERS % 4
X_TEST, Y_TEST = X_TRAIN[:20] + 120, Y_TRAIN[:20]


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "own.npz")


def write(path, **changes):
    np.savez(path, **({"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_TEST, "y_test": Y_TEST} | changes))
    return path


def numbers(images):
    return images[:, 0, 0, 0].tolist()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), fraction=st.floats(0.04, 0.96))
def test_the_split_is_a_stratified_partition(path, seed, fraction):
    data = load(path, split_seed=seed, validation_fraction=fraction)
    assert sorted(numbers(data.x_train) + numbers(data.x_validation)) == NUMBERS.tolist()
    assert data.validation_count == np.ceil(120 * fraction)
    for x, y in ((data.x_train, data.y_train), (data.x_validation, data.y_validation)):
        np.testing.assert_array_equal(np.array(numbers(x)) % 4, y)
        counts = np.bincount(y, minlength=4)
        assert counts.max() - counts.min() <= 1
    assert numbers(data.x_test) == (NUMBERS[:20] + 120).tolist()
    np.testing.assert_array_equal(data.y_test, Y_TEST)


def test_the_seed_decides_the_split_and_the_identity(path):
    first, other = load(path), load(path, split_seed=1)
    larger = load(path, validation_fraction=0.5)
    assert (first.train_count, first.validation_count, first.test_count) == (100, 20, 20)
    assert larger.validation_count == 60
    assert numbers(first.x_validation) != numbers(other.x_validation)
    assert len({data.digest for data in (first, other, larger)}) == 3
    assert (other.split_seed, larger.validation_fraction) == (1, 0.5)


def test_the_digest_depends_on_values_types_shapes_and_not_on_the_path(path, tmp_path):
    digest = load(path).digest
    assert len(bytes.fromhex(digest)) == 6
    assert load(write(tmp_path / "same.npz")).digest == digest
    assert load(write(tmp_path / "label.npz", y_test=Y_TEST[::-1])).digest != digest
    assert load(write(tmp_path / "pixel.npz", x_test=X_TEST ^ 1)).digest != digest
    floats = {"x_train": X_TRAIN.astype(np.float32), "x_test": X_TEST.astype(np.float32)}
    assert load(write(tmp_path / "type.npz", **floats)).digest != digest
    turned = {"x_train": X_TRAIN.reshape(-1, 4, 3), "x_test": X_TEST.reshape(-1, 4, 3)}
    assert load(write(tmp_path / "shape.npz", **turned)).digest != digest


def test_the_digest_follows_its_definition(path):
    # With the range that all uint8 once had, the digest is that of earlier versions.
    data = load(path, split_seed=3, validation_fraction=0.25, pixel_range=(0, 255))
    text = b"(3, 0.25)"
    for part in ("train", "validation", "test"):
        for letter, type_ in (("x", "|u1"), ("y", "<i8")):
            array = getattr(data, f"{letter}_{part}")
            text += f"{array.shape}{type_}".encode() + array.tobytes()
    assert data.digest == hashlib.sha256(text).hexdigest()[:12]
    own = load(path, split_seed=3, validation_fraction=0.25)
    assert own.pixel_range == (0.0, 119.0)
    assert own.digest == hashlib.sha256(text + b"pixels from 0.0 to 119.0").hexdigest()[:12]


def test_digits_are_pinned():
    # If scikit-learn changes its split, these numbers change, and old runs are no longer comparable.
    data = load("digits")
    assert repr(data) == f"Dataset('digits': 1122 + 225 + 450 images of 8x8x1, 10 classes, {data.digest})"
    assert (data.input_shape, data.classes, data.pixel_range) == ((8, 8, 1), 10, (0.0, 16.0))
    assert not data.remark
    assert data.x_train.max() == 16
    assert data.digest == "71cc22c41c7d"


def test_the_split_seed_does_not_change_the_test_set_of_digits():
    first, other = load("digits"), load("digits", split_seed=1)
    np.testing.assert_array_equal(first.x_test, other.x_test)
    pools = [
        sorted(image.tobytes() for image in np.concatenate([data.x_train, data.x_validation]))
        for data in (first, other)
    ]
    assert pools[0] == pools[1]
    assert not np.array_equal(first.x_validation, other.x_validation)


def test_the_default_split_leaves_50000_of_60000_training_images(tmp_path):
    many = {
        "x_train": np.arange(60_000, dtype=np.float32).reshape(-1, 1, 1),
        "y_train": np.arange(60_000) % 10,
    }
    data = load(write(tmp_path / "own.npz", **many, x_test=np.ones((20, 1, 1), np.float32)))
    assert (data.train_count, data.validation_count) == (50_000, 10_000)


def test_a_data_set_is_read_only(path):
    data = load(path)
    for field in dataclasses.fields(Dataset):
        value = getattr(data, field.name)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.classes = 3


def test_a_second_call_returns_the_same_object_until_the_file_changes(path, tmp_path, monkeypatch):
    data = load(path)
    assert load(path, split_seed=0) is data
    assert load(str(path)) is data
    # A changed file with the same name and size is detected by its modification time.
    write(path, y_test=Y_TEST[::-1])
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(load(path).y_test, Y_TEST[::-1])
    # The same relative path is a different file in a different folder.
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "own.npz", y_test=(Y_TEST + (folder == "b")) % 4)
    monkeypatch.chdir(tmp_path / "a")
    first = load("own.npz")
    monkeypatch.chdir(tmp_path / "b")
    assert load("own.npz").digest != first.digest


def test_a_source_can_be_pickled_and_loads(path):
    source = pickle.loads(pickle.dumps(Source(str(path), 5, 0.3, (0, 200))))
    assert source.load() is load(path, split_seed=5, validation_fraction=0.3, pixel_range=[0.0, 200.0])
    assert source.load().pixel_range == (0.0, 200.0)
    assert Source("digits").load() is load("digits")
    assert set(DATASETS) == {"digits", "mnist", "fashion_mnist", "cifar10"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"split_seed": -1}, "split_seed: received -1. Allowed: 0 to 4294967295"),
        ({"split_seed": 2**32}, "split_seed: received 4294967296"),
        ({"validation_fraction": 0.0}, "validation_fraction: received 0.0. Allowed: between 0 and 1"),
        ({"validation_fraction": 1.0}, "validation_fraction: received 1.0"),
        ({"validation_fraction": float("nan")}, "validation_fraction: received nan"),
        ({"validation_fraction": 0.02}, "validation_fraction: received 0.02 for 120 images in 4 classes."),
        ({"validation_fraction": 0.98}, "validation_fraction: received 0.98 for 120 images in 4 classes."),
        (
            {"pixel_range": (1, 1)},
            "pixel_range: received [1, 1]. Allowed: finite [low, high], low below high",
        ),
        ({"pixel_range": (0, float("inf"))}, "pixel_range: received [0, inf]"),
        ({"pixel_range": (float("nan"), 1)}, "pixel_range: received [nan, 1]"),
    ],
)
def test_an_impossible_split_is_refused(path, arguments, said):
    with pytest.raises(InputError) as error:
        load(path, **arguments)
    assert str(error.value).startswith(said)
    assert str(error.value).isprintable()


def test_a_split_that_leaves_a_class_without_training_images_is_refused(tmp_path):
    # One class has two images, and nearly all images go to the validation set.
    rare = write(tmp_path / "own.npz", y_train=np.where(NUMBERS < 2, 0, 1), y_test=Y_TEST // 2)
    with pytest.raises(InputError, match=r"validation_fraction: received 0\.9 for 120 images in 2 classes"):
        load(rare, validation_fraction=0.9)


def test_a_damaged_data_set_is_reported_every_time_and_can_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("INVACT_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"PK")
    for _ in range(2):
        with pytest.raises(
            EnvironmentFault, match=r"mnist\.npz: not an \.npz file .*; delete it and try again"
        ):
            load("mnist")
    write(tmp_path / "mnist.npz")
    assert load("mnist").name == "mnist"
