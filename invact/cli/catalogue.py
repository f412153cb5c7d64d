"""The networks of a file, and what each of them costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invact.arms import arm_text
from invact.config import Config
from invact.data.dataset import Source
from invact.data.sources import DATASETS, locate
from invact.errors import InputError, within
from invact.files import beside, find, read_toml
from invact.networks.archives import read_model
from invact.validation import import_all, validate

if TYPE_CHECKING:
    from invact.cost.count import Cost


MODEL_FILES = (".h5", ".hdf5", ".onnx", ".pb", ".pt", ".pth", ".tflite", ".zip")
"""The suffixes of files in which other libraries keep networks."""
__all__ = ["Networks", "check_networks", "costs_of", "networks_of"]


def check_networks(reference: str, input_shape: Sequence[str] | None = None) -> None:
    """Check what can be checked without TensorFlow, so that a mistake is answered at once; see `costs_of`.

    Raises:
        InputError: the file does not exist or has another content.
    """
    shapes = [_shape(text) for text in input_shape or ()]
    if reference.endswith(".keras"):
        if not Path(reference).is_file():
            raise InputError(f"{reference}: no such file")
        return
    if shapes:
        raise InputError(f"input_shape: received {input_shape}. Allowed: only with a .keras model")
    if reference.endswith(MODEL_FILES):
        raise InputError(
            f"{reference}: not a .keras file. Allowed: a TOML file, or a .keras file, as model.save writes "
            "it in Keras 3"
        )
    _, source, _ = _networks(find("sweeps", reference))
    locate(source.name)


@dataclass(frozen=True)
class Networks:
    """The networks that a file describes.

    Attributes:
        models: the Keras model of each network, by the network's name.
        configs: the configuration of each network, by the network's name; empty for a `.keras` file.
        imports: the modules that a process needs to read the models from archives.
    """

    models: Mapping[str, Any]
    configs: Mapping[str, Config]
    imports: tuple[str, ...]


def costs_of(
    reference: str,
    input_shape: Sequence[str] | None = None,
    imports: Iterable[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Cost]:
    """Count what the networks of a file cost.

    Args:
        reference: a `.keras` file, a TOML file, or the name of a shipped TOML file. A sweep gives the
            networks that it enqueues, or else one with the smallest number of each kind. A claim gives the
            network of each arm and ratio. A configuration gives its network; its file has the keys of
            `Config`, and `data`.
        input_shape: the shape of each input of a `.keras` model with open dimensions, as text and without
            the batch, for example `"224,224,3"`.
        imports: modules to import first.
        note: called with one line for each network that a sweep or a claim would refuse, because Keras cannot
            save it.

    Returns:
        The cost of each network, by the network's name.

    Raises:
        InputError: the file does not exist or has another content, or the model cannot be read or counted.
    """
    from invact.cost.count import count_macs
    from invact.networks.saving import saving_problem
    from invact.networks.settings import keras_settings

    check_networks(reference, input_shape)
    shapes = [_shape(text) for text in input_shape or ()]
    networks = networks_of(reference, imports)
    # A network in a file is the user's own, so it keeps the user's settings.
    settings = keras_settings() if networks.configs else contextlib.nullcontext()
    with within(reference), settings:
        costs = {name: count_macs(model, shapes or None) for name, model in networks.models.items()}
    for name, config in networks.configs.items():
        if problem := saving_problem(config, networks.models[name]):
            note(f"{reference}: {name}: a sweep or a claim refuses this network: {problem}")
    return costs


def networks_of(reference: str, imports: Iterable[str] = ()) -> Networks:
    """Build the networks of a file that `check_networks` has checked, or read them; see `costs_of`.

    Raises:
        InputError: a model cannot be read or built.
    """
    modules = tuple(imports)
    import_all(modules, "--import")
    if reference.endswith(".keras"):
        path = Path(reference)
        return Networks({path.name: read_model(path)}, {}, modules)
    path = find("sweeps", reference)
    configs, source, imported = _networks(path)
    data = source.load()
    data.report()
    from invact.networks.build import build_model

    with within(str(path)):
        models = {
            name: build_model(config, data.input_shape, data.classes, data.pixel_range)
            for name, config in configs.items()
        }
    # The module of a builder may register layers.
    builders = [config.model.partition(":")[0] for config in configs.values() if ":" in config.model]
    return Networks(models, configs, tuple(dict.fromkeys((*modules, *imported, *builders))))


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


def _networks(path: Path) -> tuple[dict[str, Config], Source, tuple[str, ...]]:
    values = read_toml(path)
    if "ratios" in values:
        from invact.claims.file import load_claim

        claim = load_claim(path)
        # Costs depend on the shape of the images, and a claim may have several data sets.
        cells = {cell.label: cell.config for cell in claim.cells().values()}
        return cells, claim.sources[0], claim.file.imports
    if "space" in values:
        from invact.search.small import small_part, smallest
        from invact.sweeps.file import load_sweep

        sweep = load_sweep(path)
        chosen = sweep.file.enqueue or (smallest(small_part(sweep.space)),)
        checked = [sweep.space.check(each, str(path)) for each in chosen]
        configs = [sweep.space.config(each) for each in checked]
        named = {f"{n}: {arm_text(c.activation)}, filters {c.filters}": c for n, c in enumerate(configs)}
        return named, sweep.source, sweep.file.imports
    if "data" not in values:
        raise InputError(
            f"{path}: data: missing key. Allowed: {', '.join(DATASETS)}, or a path to an .npz file"
        )
    data = values.pop("data")
    if not isinstance(data, str):
        raise InputError(f"{path}: data: received {data!r}. Allowed: a name or a path, as text")
    return {path.stem: validate(Config, values, str(path))}, Source(beside(path, data)), ()
