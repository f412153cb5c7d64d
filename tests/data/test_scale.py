"""The range that networks scale to [-1, 1]: from both ends, as before where that was right, and reported."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from invact.data.dataset import load
from invact.data.scale import ends_of, plain_range, range_of, remark_of

RNG = np.random.default_rng(0)
COUNT = 60
NORMAL = RNG.normal(size=(COUNT, 4, 4, 1)).astype(np.float32)
UNIT = RNG.random((COUNT, 4, 4, 1)).astype(np.float32)


def bytes_to(high: int, low: int = 0, kind: type = np.uint8) -> np.ndarray:
    images = RNG.integers(low, high + 1, (COUNT, 4, 4, 1)).astype(kind)
    images[0, 0, 0], images[1, 0, 0] = low, high
    return images


def with_pixel(images: np.ndarray, value: float) -> np.ndarray:
    changed = images.copy()
    changed[5, 2, 2] = value
    return changed


ORDINARY = {
    "bytes": (bytes_to(255), (0, 255)),
    "bytes that end early": (bytes_to(200), (0, 255)),
    "bytes that fill half": (bytes_to(128), (0, 255)),
    "bytes as other integers": (bytes_to(250, kind=np.int64), (0, 255)),
    "floats in [0, 1]": (UNIT, (0, UNIT.max())),
    "floats that fill half": (UNIT * 0.6 + 0.4, (0, (UNIT * 0.6 + 0.4).max())),
    "halves": (UNIT.astype(np.float16), (0, UNIT.astype(np.float16).max())),
    "bytes as floats": (bytes_to(255, kind=np.float64), (0, 255)),
    "blank but for one image": (with_pixel(np.zeros_like(UNIT), 9), (0, 9)),
    "dark but for one image in half of the range": (with_pixel(bytes_to(130), 255), (0, 255)),
}
UNUSUAL = {
    "standardised": (NORMAL, (-np.abs(NORMAL).max(), np.abs(NORMAL).max())),
    "standardised strokes": ((UNIT > 0.8) * np.float32(3) - np.float32(0.4), (-2.6, 2.6)),
    "symmetric": (2 * UNIT - 1, (-np.abs(2 * UNIT - 1).max(), np.abs(2 * UNIT - 1).max())),
    "negative": (-UNIT, (-UNIT.max(), 0)),
    "far below zero": (UNIT - 9, ((UNIT - 9).min(), (UNIT - 9).max())),
    "far above zero": (UNIT + 9, ((UNIT + 9).min(), (UNIT + 9).max())),
    "4 bits": (bytes_to(16), (0, 16)),
    "4 bits as other integers": (bytes_to(16, kind=np.int32), (0, 16)),
    "1 bit": (bytes_to(1), (0, 1)),
    "7 bits": (bytes_to(127), (0, 127)),
    "a narrow band of bytes": (bytes_to(140, 100), (100, 140)),
    "bytes that start at 1": (bytes_to(16, 1), (0, 16)),
    "4 bits and a wild pixel": (with_pixel(bytes_to(16), 255), (0, 16)),
    "floats and a wild pixel": (with_pixel(UNIT, 1e6), (0, np.delete(UNIT, 5, 0).max())),
    "standardised and a wild pixel": (with_pixel(NORMAL, -1e6), None),
}


@pytest.mark.parametrize("name", [*ORDINARY, *UNUSUAL])
def test_the_range_of_data_of_many_kinds(name: str, tmp_path: Path) -> None:
    images, expected = {**ORDINARY, **UNUSUAL}[name]
    path = tmp_path / "own.npz"
    labels = np.arange(COUNT) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    data = load(path)
    if expected is None:
        largest = np.abs(np.delete(images, 5, 0)).max()
        expected = (-largest, largest)
    assert data.pixel_range == pytest.approx(expected, rel=1e-6)
    stored = np.concatenate([data.x_train, data.x_validation])
    usual = name in ORDINARY
    assert (data.pixel_range == plain_range(stored)) is usual
    assert data.plain_range == plain_range(stored)
    # The digest is that of earlier versions if the scale is.
    assert (data.digest == load(path, pixel_range=data.plain_range).digest) is usual
    assert bool(data.remark) is not usual
    assert data.remark.isprintable()
    if not usual:
        assert f"from {stored.min():g} to {stored.max():g}" in data.remark
        assert f"[{data.pixel_range[0]:g}, {data.pixel_range[1]:g}] to [-1, 1]" in data.remark
    assert ("1 of 60 images reach beyond" in data.remark) is ("wild" in name)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(2), st.just(2), st.just(1)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_images_fill_at_least_half_of_their_range_and_all_but_wild_ones_are_inside(images) -> None:
    assume(images.min() < images.max())
    low, high = range_of(images)
    scaled = (2 * images.astype(float) - low - high) / (high - low)
    rest = ends_of(images)
    assert low <= rest[0] < rest[1] <= high
    assert rest[1] - rest[0] >= (high - low) / 2 * (1 - 1e-9)
    outside = (np.abs(scaled) > 1 + 1e-9).any(axis=(1, 2, 3))
    assert outside.sum() <= (2 if len(images) >= 20 else 0)
    if rest[0] < 0 < rest[1]:
        assert low == -high
        np.testing.assert_allclose(scaled, images.astype(float) / high, atol=1e-9)
    if low != -high and low < 0:
        assert rest[1] <= 0
    # The mirrored images have the mirrored range.
    assert range_of(-images) == (-high, -low)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        ((0, 255), "scales them to [-1, -0.875]"),
        ((0, 16), ""),
        ((-8, 24), ""),
        ((0, 10), ""),
        ((0, 1), "scales them to [-1, 31]"),
        ((20, 40), "scales them to [-3, -1.4]"),
    ],
)
def test_a_range_of_the_user_is_kept_and_reported_if_the_images_do_not_fit(used, said, tmp_path) -> None:
    images = bytes_to(16)
    remark = remark_of(images, used, (0.0, 255.0), chosen=True)
    assert bool(remark) is bool(said)
    assert said in remark
    path = tmp_path / "own.npz"
    labels = np.arange(COUNT) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    data = load(path, pixel_range=used)
    assert data.pixel_range == used
    assert data.remark == remark


def test_the_remark_is_one_line_on_standard_error(tmp_path, capsys) -> None:
    path = tmp_path / "own.npz"
    images, labels = bytes_to(16), np.arange(COUNT) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    load(path).report()
    load("digits").report()
    assert capsys.readouterr() == (
        "",
        f"invact: warning: data {str(path)!r}: the pixels of the training images are integers from 0 to 16; "
        "networks scale [0, 16] to [-1, 1]. To scale another range, set pixel_range = [low, high]\n",
    )
