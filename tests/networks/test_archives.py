import io
import zipfile

import pytest

from invact.errors import InputError
from invact.networks.archives import read_model, unpack


def zipped() -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("config.json", "{")
        return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"a text", b"\x89HDF\r\n\x1a\n", b"PK\3\4", zipped()[:-30]],
    # The archive has the time in it, and the processes of a test run must agree on the names of the tests.
    ids=["empty", "text", "HDF5", "start of an archive", "archive that is cut"],
)
def test_a_damaged_archive_is_said_to_be_damaged(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    for read, place in (
        (lambda: read_model(path), str(path)),
        (lambda: unpack(content, "run 81a0"), "run 81a0"),
    ):
        with pytest.raises(
            InputError, match=r"(not|an?) .*\. Allowed: a \.keras file, as model\.save writes it"
        ) as caught:
            read()
        assert str(caught.value).startswith(f"{place}: ")


def test_an_archive_of_something_else_is_one_line():
    with pytest.raises(InputError, match=r"^run 81a0: not a \.keras model that can be read safely") as caught:
        unpack(zipped(), "run 81a0")
    assert "\n" not in str(caught.value)
