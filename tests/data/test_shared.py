import os

import numpy as np
import pytest

from invact.data.dataset import Source, digest_of
from invact.data.shared import ARRAYS, KEPT, share, shared

DIGITS = Source("digits")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path))
    return tmp_path / "arrays"


def test_a_shared_data_set_is_the_same_and_is_mapped(cache, digits) -> None:
    assert shared(DIGITS, digits.digest) is None
    share(digits)
    mapped = shared(DIGITS, digits.digest)
    for name in ARRAYS:
        array = getattr(mapped, name)
        np.testing.assert_array_equal(array, getattr(digits, name))
        assert array.dtype == getattr(digits, name).dtype
        assert type(array) is np.ndarray
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
    others = ("name", "classes", "split_seed", "validation_fraction", "pixel_range", "digest", "remark")
    assert all(getattr(mapped, name) == getattr(digits, name) for name in others)
    assert repr(mapped) == repr(digits)
    assert mapped.plain_range == digits.plain_range


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("pixel_range", [None, (0.0, 255.0)])
def test_the_digest_is_that_of_the_whole(seed, pixel_range) -> None:
    data = Source("digits", split_seed=seed, pixel_range=pixel_range).load()
    assert digest_of(data) == data.digest


@pytest.mark.parametrize("damage", ["pixel", "short", "about", "missing", "digest"])
def test_a_damaged_data_set_is_not_shared(cache, digits, damage: str) -> None:
    share(digits)
    folder = cache / digits.digest
    file = folder / "x_test.npy"
    if damage == "pixel":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "about":
        (folder / "about.json").write_text("{}")
    elif damage == "missing":
        file.unlink()
    else:
        folder.rename(cache / ("0" * 12))
        assert shared(DIGITS, "0" * 12) is None
    assert shared(DIGITS, digits.digest) is None


def test_the_folder_keeps_those_that_were_shared_last(cache, digits) -> None:
    every = [Source("digits", split_seed=seed).load() for seed in range(KEPT + 2)]
    for age, data in enumerate(every[:-1]):
        share(data)
        os.utime(cache / data.digest, (age, age))
    mapped = shared(Source("digits", split_seed=2), every[2].digest)
    share(every[0] if (cache / every[0].digest).exists() else every[1])
    share(every[-1])
    left = {path.name for path in cache.iterdir()}
    assert left == {every[number].digest for number in (1, 3, 4, 5)}
    assert digest_of(mapped) == every[2].digest, "its files are deleted, and its content stays"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, digits) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INVACT_CACHE", str(tmp_path / "file"))
    share(digits)
    assert shared(DIGITS, digits.digest) is None
