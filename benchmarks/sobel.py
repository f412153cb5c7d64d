"""A picture of the idea: two Sobel kernels with an inverse activation find what four find with ReLU.

Run: python benchmarks/sobel.py [docs/sobel.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from invact import Cost, InverseActivation, count_macs
from invact.reports.figures.style import INK, style

# Positive where the image becomes brighter to the right, and (DOWN) towards the bottom.
RIGHT = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "float32")
DOWN = RIGHT.T
EDGES = ("brighter to the right", "brighter downwards", "brighter to the left", "brighter upwards")


def network(shape: tuple[int, int, int], kernels: list[np.ndarray], activation: keras.Layer) -> keras.Model:
    """Return a network of one convolution of the channel mean with the kernels, and one activation."""
    conv = keras.layers.Conv2D(len(kernels), 3, padding="same", use_bias=False, name="edges")
    model = keras.Sequential([keras.Input(shape), conv, activation])
    one_channel = np.stack(kernels, axis=-1)[:, :, None]
    conv.set_weights([np.repeat(one_channel, shape[-1], axis=2) / shape[-1]])
    return model


def networks(shape: tuple[int, int, int]) -> tuple[keras.Model, keras.Model]:
    """Return the network with four kernels and ReLU, and the network with two and the inverse activation."""
    relu = network(shape, [RIGHT, DOWN, -RIGHT, -DOWN], keras.layers.ReLU(name="relu"))
    return relu, network(shape, [RIGHT, DOWN], InverseActivation(name="inverse"))


def costs(shape: tuple[int, int, int]) -> tuple[Cost, Cost]:
    relu, inverse = networks(shape)
    return count_macs(relu), count_macs(inverse)


def scene(size: int = 128, channels: int = 1) -> np.ndarray:
    """Return a batch of one image: a bright disc above a dark bar on grey, in whole numbers from 0 to 255."""
    down, right = np.mgrid[:size, :size] / size
    image = np.full((size, size), 128.0)
    image[(right - 0.5) ** 2 + (down - 0.4) ** 2 < 0.28**2] = 230
    image[(abs(right - 0.5) < 0.35) & (abs(down - 0.82) < 0.07)] = 40
    return np.repeat(image[None, :, :, None], channels, axis=-1).astype("float32")


def maps(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the four maps of an image by each network, as arrays of shape (height, width, 4)."""
    relu, inverse = (np.asarray(model(image))[0] for model in networks(image.shape[1:]))
    return relu, inverse


def picture(path: Path) -> None:
    """Draw the image and the four maps of the network with two kernels."""
    from matplotlib.figure import Figure

    image = scene()
    _, found = maps(image)
    titles = ["the image", *EDGES]
    # The border is cut off, because the zero padding outside the image creates edges there.
    panels = [panel[1:-1, 1:-1] for panel in (image[0, :, :, 0], *np.moveaxis(found, -1, 0))]
    with style():
        figure = Figure(figsize=(11, 2.4), layout="constrained")
        for axes, title, panel in zip(figure.subplots(1, len(panels)), titles, panels, strict=True):
            axes.imshow(panel, cmap="gray", vmin=0, vmax=255 if title == titles[0] else found.max())
            axes.set_title(title, fontsize=11, color=INK)
            axes.set(xticks=[], yticks=[])
        figure.savefig(path, dpi=110)


def main() -> None:
    for channels in (1, 3):
        relu, inverse = maps(scene(channels=channels))
        assert inverse.max() > 0
        assert np.array_equal(relu, inverse)
    print("the four maps of both networks are equal, in grey and in RGB\n")
    print(f"{'image':>16} {'ReLU, 4 kernels':>16} {'inverse, 2':>12} {'saved':>12} {'by pixel':>9}")
    for shape in ((128, 128, 1), (128, 128, 3), (1024, 1024, 3)):
        relu, inverse = costs(shape)
        saved = relu.macs - inverse.macs
        assert inverse.relu_macs == relu.macs
        size = " x ".join(map(str, shape))
        print(
            f"{size:>16} {relu.macs:>16,} {inverse.macs:>12,} {saved:>12,} {saved / shape[0] / shape[1]:>9g}"
        )
    if sys.argv[1:]:
        picture(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
