"""The networks of a file, and what each of them costs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.config import Config
from invact.data.dataset import Source
from invact.data.sources import DATASETS
from invact.errors import InputError, within
from invact.files import beside, find, read_toml
from invact.networks.archives import read_model
from invact.validation import validate

if TYPE_CHECKING:
    from invact.cost.count import Cost

__all__ = ["costs_of", "models_of"]


def costs_of(reference: str, input_shape: Sequence[str] | None = None) -> dict[str, Cost]:
    """Count what the networks of a file cost.

    Args:
        reference: a `.keras` file, a TOML file, or the name of a shipped TOML file. A sweep gives the
            networks that it enqueues, or else one with the smallest number of each kind. A claim gives the
            network of each arm and ratio. A configuration gives its network; its file has the keys of
            `Config`, and `data`.
        input_shape: the shape of each input of a `.keras` model with open dimensions, as text and without
            the batch, for example `"224,224,3"`.

    Returns:
        The cost of each network, by the network's name.

    Raises:
        InputError: the file does not exist or has another content, or the model cannot be read or counted.
    """
    from invact.cost.count import count_macs
    from invact.networks.settings import keras_settings

    shapes = [_shape(text) for text in input_shape or ()]
    if shapes and not reference.endswith(".keras"):
        raise InputError(f"input_shape: received {input_shape}. Allowed: only with a .keras model")
    models = models_of(reference)
    if reference.endswith(".keras"):
        settings: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    else:
        settings = keras_settings()
    with within(reference), settings:
        return {name: count_macs(model, shapes or None) for name, model in models.items()}


def models_of(reference: str) -> dict[str, Any]:
    """Build the networks that a file describes, or read them; see `costs_of`.

    Returns:
        The Keras model of each network, by the network's name.

    Raises:
        InputError: the file does not exist or has another content, or a model cannot be read or built.
    """
    if reference.endswith(".keras"):
        path = Path(reference)
        return {path.name: read_model(path)}
    path = find("sweeps", reference)
    configs, source = _networks(path)
    data = source.load()
    data.report()
    from invact.networks.build import build_model

    with within(str(path)):
        return {
            name: build_model(config, data.input_shape, data.classes, data.pixel_range)
            for name, config in configs.items()
        }


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(
            f"input_shape: received {text!r}. Allowed: sizes without the batch, for example 224,224,3"
        )
    return shape


def _networks(path: Path) -> tuple[dict[str, Config], Source]:
    values = read_toml(path)
    if "ratios" in values:
        from invact.claims.file import load_claim

        claim = load_claim(path)
        # Costs depend on the shape of the images, and a claim may have several data sets.
        return {cell.label: cell.config for cell in claim.cells().values()}, claim.sources[0]
    if "space" in values:
        from invact.search.small import small_part, smallest
        from invact.sweeps.file import load_sweep

        sweep = load_sweep(path)
        chosen = sweep.file.enqueue or (smallest(small_part(sweep.space)),)
        checked = [sweep.space.check(each, str(path)) for each in chosen]
        configs = [sweep.space.config(each) for each in checked]
        return {f"{n}: {c.activation}, filters {c.filters}": c for n, c in enumerate(configs)}, sweep.source
    if "data" not in values:
        raise InputError(
            f"{path}: data: missing key. Allowed: {', '.join(DATASETS)}, or a path to an .npz file"
        )
    data = values.pop("data")
    if not isinstance(data, str):
        raise InputError(f"{path}: data: received {data!r}. Allowed: a name or a path, as text")
    return {path.stem: validate(Config, values, str(path))}, Source(beside(path, data))
