import contextlib
import gzip
import io
import pickle
import socket
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invact.data import sources
from invact.data.sources import DATASETS, is_available, locate, read
from invact.errors import EnvironmentFault, InputError

# Three classes, four training images each.
X_TRAIN = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)
Y_TRAIN = np.arange(12, dtype=np.uint8) % 3
X_TEST, Y_TEST = X_TRAIN[:6] ^ 1, Y_TRAIN[:6]
GOOD = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_TEST, "y_test": Y_TEST}


@pytest.fixture(autouse=True)
def no_data_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("INVACT_DATA", str(tmp_path / "datasets"))
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", tmp_path / "debian")
    (tmp_path / "datasets").mkdir()


def npz(path, **changes):
    arrays = {key: value for key, value in (GOOD | changes).items() if value is not None}
    np.savez(path, **arrays)
    return path


def idx(folder, **changes):
    folder.mkdir()
    for key, array in (GOOD | changes).items():
        images = key.startswith("x")
        content = struct.pack(f">I{array.ndim}I", 0x803 if images else 0x801, *array.shape) + array.tobytes()
        part = "train" if key.endswith("train") else "t10k"
        name = f"{part}-images-idx3-ubyte.gz" if images else f"{part}-labels-idx1-ubyte.gz"
        (folder / name).write_bytes(gzip.compress(content))
    return folder


def message(error):
    text = str(error.value)
    assert text.isprintable()
    return text


def test_a_file_is_read_unchanged(tmp_path):
    arrays = read(locate(npz(tmp_path / "own.npz")))
    assert list(arrays) == list(GOOD)
    for key, stored in GOOD.items():
        np.testing.assert_array_equal(arrays[key], stored[..., np.newaxis] if key.startswith("x") else stored)
    assert {array.dtype.name for array in arrays.values()} == {"uint8", "int64"}


@pytest.mark.parametrize(
    ("changes", "shape", "dtype"),
    [
        ({"x_train": X_TRAIN.astype(np.int64), "x_test": X_TEST.astype(">i2")}, (12, 6, 5, 1), "uint8"),
        ({"x_train": X_TRAIN / 255 - 1, "x_test": X_TEST / 255}, (12, 6, 5, 1), "float32"),
        ({"x_train": X_TRAIN[:, :1], "x_test": X_TEST[:, :1]}, (12, 1, 5, 1), "uint8"),
        (
            {"x_train": np.stack([X_TRAIN] * 3, 3), "x_test": np.stack([X_TEST] * 3, 3)},
            (12, 6, 5, 3),
            "uint8",
        ),
        ({"x_train": np.asfortranarray(X_TRAIN)}, (12, 6, 5, 1), "uint8"),
        ({"y_train": Y_TRAIN[:, np.newaxis]}, (12, 6, 5, 1), "uint8"),
    ],
    ids=["integers", "floats", "table", "colour", "fortran", "column"],
)
def test_other_forms_are_accepted(tmp_path, changes, shape, dtype):
    arrays = read(locate(npz(tmp_path / "own.npz", **changes)))
    x = arrays["x_train"]
    assert (x.shape, x.dtype.name, arrays["y_train"].shape) == (shape, dtype, (12,))
    assert x.flags.c_contiguous
    stored = changes.get("x_train", X_TRAIN)
    np.testing.assert_array_equal(x, stored.astype(dtype).reshape(shape))


def with_value(array, value):
    array = array.astype(np.float64)
    array[4, 2, 2] = value
    return array


FLOATS = {"x_test": X_TEST / 1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": None}, "x_train: missing array. Received: ['x_test', 'y_test', 'y_train']"),
        (
            {"x_train": X_TRAIN.reshape(12, 30)},
            "x_train: received shape (12, 30). Allowed: (n, height, width)",
        ),
        ({"x_test": X_TEST[:0]}, "x_test: received shape (0, 6, 5). Allowed: at least one image"),
        ({"x_train": np.zeros((12, 3, 8, 8), np.uint8)}, "channels first. Allowed: channels last"),
        ({"x_train": X_TRAIN.astype(np.int16) - 1}, "x_train: received integers from -1 to "),
        ({"x_train": X_TRAIN.astype(np.uint64) + 2**63}, "x_train: received integers from 9223372036854775"),
        ({"x_train": X_TRAIN > 9}, "x_train: received dtype bool"),
        ({"x_train": X_TRAIN.astype(str)}, "x_train: received dtype <U"),
        ({"x_train": X_TRAIN.astype(object)}, "x_train: cannot be read (Object arrays cannot be loaded"),
        ({"x_train": with_value(X_TRAIN, np.nan), **FLOATS}, "x_train: received NaN or infinity in image 4"),
        ({"x_train": with_value(X_TRAIN, -np.inf), **FLOATS}, "x_train: received NaN or infinity in image 4"),
        ({"x_train": with_value(X_TRAIN, 1e300), **FLOATS}, "x_train: received NaN or infinity in image 4"),
        ({"x_train": X_TRAIN * 0}, "x_train: received 0 in every pixel"),
        (
            {"x_test": X_TEST[:, :5]},
            "x_test: received uint8 images of shape (5, 5, 1). Allowed: uint8 images of",
        ),
        ({"x_test": X_TEST / 255}, "x_test: received float32 images of shape (6, 5, 1). Allowed: uint8"),
        ({"y_train": Y_TRAIN[:-1]}, "y_train: received 11 labels. Allowed: 12, one for each image"),
        ({"y_test": Y_TEST[:0]}, "y_test: received 0 labels. Allowed: 6"),
        ({"y_train": np.eye(3, dtype=int)[Y_TRAIN]}, "y_train: received shape (12, 3). Allowed: (n,)"),
        ({"y_train": np.uint8(3)}, "y_train: received shape (). Allowed: (n,)"),
        ({"y_train": Y_TRAIN / 1.0}, "y_train: received dtype float64. Allowed: integers"),
        ({"y_train": Y_TRAIN + 1}, "y_train: received 3 different labels from 1 to 3. Allowed: 0 to 2"),
        ({"y_train": Y_TRAIN * 2}, "y_train: received 3 different labels from 0 to 4. Allowed: 0 to 2"),
        (
            {"y_train": Y_TRAIN * 0, "y_test": Y_TEST * 0},
            "y_train: received one class, 0. Allowed: two or more",
        ),
        ({"y_train": np.r_[Y_TRAIN[:-1], [3]]}, "y_train: received one image of class 3"),
        ({"y_test": Y_TEST + 1}, "y_test: received label 3. Allowed: 0 to 2"),
        ({"y_test": Y_TEST.astype(int) - 1}, "y_test: received label -1. Allowed: 0 to 2"),
    ],
)
def test_a_bad_array_is_named(tmp_path, changes, said):
    path = npz(tmp_path / "own.npz", **changes)
    with pytest.raises(InputError) as error:
        read(locate(path))
    assert message(error).startswith(f"{path}: ")
    assert said in message(error)
    # The same file as the stored copy of a named data set is an EnvironmentFault.
    path = npz(tmp_path / "datasets" / "mnist.npz", **changes)
    with pytest.raises(EnvironmentFault) as fault:
        read(locate("mnist"))
    assert said in message(fault)
    assert message(fault).startswith(f"{path}: ")
    assert message(fault).endswith("delete it and try again")


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def saved():
    file = io.BytesIO()
    np.savez_compressed(file, **GOOD)
    return file.getvalue()


def single_array():
    file = io.BytesIO()
    np.save(file, X_TRAIN)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an .npz file"),
        (b"x_train", "not an .npz file (it is no ZIP archive, as NumPy writes one)"),
        (pickle.dumps({"x_train": 1}), "not an .npz file (it is no ZIP archive, as NumPy writes one)"),
        (saved()[: len(saved()) // 2], "not an .npz file"),
        (single_array(), "not an .npz file (a single array)"),
        (zipped(), "x_train: missing array. Received: []"),
        (zipped(**{"a\nb.npy": b""}), "Received: ['a\\nb']"),
        (zipped(x_train=b"abc"), "x_train: not an array"),
        (zipped(**{"x_train.npy": b"\x93NUMPY\x01\x00"}), "x_train: cannot be read"),
    ],
    ids=["empty", "text", "pickle", "truncated", "npy", "no arrays", "odd name", "no array", "no header"],
)
def test_a_damaged_file_is_refused(tmp_path, content, said):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(locate(path))
    assert message(error).startswith(f"{path}: ")
    assert said in message(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_damaged_file_raises_an_input_error(tmp_path, data):
    content = bytearray(saved())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content) * 2)) :]
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    # Any other error fails the test. A zip file has checksums, so a readable array has its original values.
    with contextlib.suppress(InputError):
        np.testing.assert_array_equal(read(locate(path))["x_train"][..., 0], X_TRAIN)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnits", "dataset: received 'mnits'; did you mean 'mnist'? Allowed: digits, mnist, "),
        ("cifar-10", "did you mean 'cifar10'?"),
        ("", "dataset: received ''. Allowed: "),
        ("a\nb", r"dataset: received 'a\nb'"),
        ("a\0b.npz", r"dataset: received 'a\x00b.npz'. Allowed: a path without control characters"),
        ("./a\nb", r"dataset: received './a\nb'"),
        ("missing.npz", "missing.npz: No such file or directory"),
        ("./datasets", "datasets: not a file"),
        ("/dev/zero", "/dev/zero: not a file"),
        ("./" + "n" * 300, "File name too long"),
    ],
)
def test_a_bad_name_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    for function in (locate, is_available):
        with pytest.raises(InputError) as error:
            function(name)
        assert said in message(error)


def test_a_named_data_set_is_searched_in_order(tmp_path):
    assert [name for name in DATASETS if is_available(name)] == ["digits"]
    assert str(locate("fashion_mnist")) == "keras.datasets, which downloads"

    debian = idx(tmp_path / "debian")
    assert (is_available("fashion_mnist"), is_available("mnist")) == (True, False)
    assert str(locate("fashion_mnist")) == str(debian)
    arrays = read(locate("fashion_mnist"))
    np.testing.assert_array_equal(arrays["x_test"][..., 0], X_TEST)
    np.testing.assert_array_equal(arrays["y_train"], Y_TRAIN)

    kept = npz(tmp_path / "datasets" / "fashion_mnist.npz", x_test=X_TEST ^ 2)
    assert str(locate("fashion_mnist")) == str(kept)
    np.testing.assert_array_equal(read(locate("fashion_mnist"))["x_test"][..., 0], X_TEST ^ 2)


def test_a_folder_with_a_missing_file_is_ignored(tmp_path):
    (idx(tmp_path / "debian") / "t10k-labels-idx1-ubyte.gz").unlink()
    assert not is_available("fashion_mnist")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b""),
        gzip.compress(struct.pack(">II", 0x801, 6)),
        gzip.compress(struct.pack(">II", 0x801, 6) + bytes(5)),
        gzip.compress(struct.pack(">II", 0x802, 6) + bytes(6)),
        gzip.compress(struct.pack(">II", 0x801, 6) + bytes(6))[:-9],
    ],
    # The header of gzip has the time, which would make the names of the tests differ between processes.
    ids=["empty", "not gzip", "nothing inside", "no labels", "a label missing", "images", "cut short"],
)
def test_a_damaged_idx_file_is_an_environment_fault(tmp_path, content):
    (idx(tmp_path / "debian") / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(EnvironmentFault) as fault:
        read(locate("fashion_mnist"))
    assert "debian: t10k-labels-idx1-ubyte.gz: cannot be read (" in message(fault)
    assert message(fault).endswith("reinstall dataset-fashion-mnist")


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    arrays = read(locate("digits"))
    x, y = load_digits(return_X_y=True)
    both = np.concatenate([arrays["x_train"], arrays["x_test"]]).reshape(-1, 64)
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    stored = sorted((label, image.astype(int).tolist()) for image, label in zip(x, y, strict=True))
    assert sorted((label, image.tolist()) for image, label in zip(both, labels, strict=True)) == stored


def test_keras_downloads_or_the_message_says_what_to_do(tmp_path, monkeypatch):
    # Keras finds the files of one data set in its cache. For the others, every connection is refused.
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    square = {key: np.resize(GOOD[key], (len(GOOD[key]), 28, 28)) for key in ("x_train", "x_test")}
    idx(tmp_path / "keras" / "datasets" / "fashion-mnist", **square)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert not is_available("fashion_mnist")
    assert read(locate("fashion_mnist"))["x_train"].shape == (12, 28, 28, 1)
    kept = tmp_path / "datasets" / "fashion_mnist.npz"
    assert locate("fashion_mnist").path == kept
    assert [file.name for file in kept.parent.iterdir()] == ["fashion_mnist.npz"]
    for name in ("mnist", "cifar10"):
        assert not is_available(name)
        with pytest.raises(EnvironmentFault) as fault:
            read(locate(name))
        line = message(fault)
        assert line.startswith(f"{name}: not on this machine")
        assert "Connection refused" in line
        assert f"Put it at {kept.parent / name}.npz, or set INVACT_DATA to " in line
        assert line.endswith("or connect to the network")
    assert socket.getdefaulttimeout() is None
