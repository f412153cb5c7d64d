import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import sobel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("channels", [1, 3])
def test_two_kernels_give_the_maps_of_four(channels):
    image = sobel.scene(32, channels)
    relu, inverse = sobel.maps(image)
    np.testing.assert_array_equal(relu, inverse)
    grey = image[0, :, :, 0]
    right, down = (ndimage.sobel(grey, axis=axis, mode="constant") for axis in (1, 0))
    for found, edge in zip(np.moveaxis(inverse, -1, 0), (right, down, -right, -down), strict=True):
        np.testing.assert_allclose(found, np.maximum(edge, 0), atol=1e-3)
        assert found.max() > 0


@pytest.mark.parametrize(("shape", "saved"), [((9, 7, 1), 18), ((9, 7, 3), 54), ((1024, 1024, 3), 54)])
def test_half_of_the_macs_are_saved(shape, saved):
    relu, inverse = sobel.costs(shape)
    assert relu.macs - inverse.macs == saved * shape[0] * shape[1] == inverse.macs
    assert (inverse.saved, inverse.relu_macs) == (0.5, relu.macs)
    assert (relu.filters, inverse.filters) == (4, 2)


def test_the_page_has_the_numbers_of_the_code():
    page = (ROOT / "docs" / "sobel.md").read_text(encoding="utf-8")
    for shape in ((128, 128, 1), (128, 128, 3), (1024, 1024, 3)):
        relu, inverse = sobel.costs(shape)
        row = re.search(rf"{' x '.join(map(str, shape))} +(.*)", page)[1].split()
        assert row[:3] == [f"{n:,}" for n in (relu.macs, inverse.macs, relu.macs - inverse.macs)]


def test_the_picture_is_drawn(tmp_path):
    sobel.picture(tmp_path / "sobel.png")
    assert (tmp_path / "sobel.png").read_bytes().startswith(b"\x89PNG")
