"""A script that test_layers.py runs in a process with another KERAS_BACKEND, to save the layer's results."""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

# The layers need none of these, which Keras loads if they are installed; loading them takes half of the time.
sys.modules |= dict.fromkeys(("tensorflow", "sklearn", "pandas", "matplotlib"))

import keras
import numpy as np

from invact.layers import DuplicatedActivation, InverseActivation


def differentiate(layer, x, upstream):
    """Return the output, the gradients of first and second order, and the number of elements that are kept.

    The kept elements are those that the forward pass stores for the backward pass.
    """
    if keras.backend.backend() == "jax":
        import jax

        output, pull = jax.jit(lambda x: jax.vjp(layer, x))(x)
        (gradient,) = jax.jit(pull)(upstream)
        # Without jit, each operation is compiled alone, which takes longer than all the rest.
        second = jax.jit(jax.grad(lambda x: jax.vjp(lambda x: layer(x) ** 3, x)[1](upstream)[0].sum()))(x)
        kept = sum(leaf.size for leaf in jax.tree.leaves(pull))
    else:
        import torch

        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().size()
            return tensor

        x = torch.tensor(x, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = layer(x)
        # The hooks do not see tensors that the closure of a custom gradient holds.
        cells = getattr(getattr(output.grad_fn, "grad_fn", None), "__closure__", None) or ()
        [pack(cell.cell_contents) for cell in cells if isinstance(cell.cell_contents, torch.Tensor)]
        kept = sum(storages.values()) // x.element_size()
        (gradient,) = torch.autograd.grad(output, x, torch.tensor(upstream))
        cube = layer(x) ** 3
        (first,) = torch.autograd.grad(cube, x, torch.tensor(upstream), create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        output, gradient, second = (t.detach().numpy() for t in (output, gradient, second))
    return {"output": output, "gradient": gradient, "second": second, "kept": kept}


def main(folder: Path) -> None:
    given = np.load(folder / "given.npz")
    backend = keras.backend.backend()
    given_model = keras.saving.load_model(folder / "given.keras")
    results = {"loaded": keras.ops.convert_to_numpy(given_model(given["x"]))}
    # Here, because the model must load without it.
    from invact.analysis import filter_pairing, read_layers

    readings = read_layers(given_model, given["x"])
    results["readings"] = np.array([(row.units, row.dead, row.dead_filters, row.rank) for row in readings])
    results["cosines"] = np.array([layer.cosines for layer in filter_pairing(given_model)])
    for name in ("relu", "leaky_relu", "elu", "linear"):
        for key, value in differentiate(InverseActivation(name, axis=-1), given["x"], given["g"]).items():
            results[f"{name}_{key}"] = np.asarray(value)
    half = InverseActivation(dtype="mixed_bfloat16")(given["x"])
    results["dtype"] = np.asarray(keras.backend.standardize_dtype(half.dtype))
    whole = np.array([[1, 200, 0, 255]], "uint8")
    results["whole"] = keras.ops.convert_to_numpy(InverseActivation(axis=-1)(whole))
    lowest = InverseActivation("linear", axis=-1)(np.array([[-128, 127]], "int8"))
    results["lowest"] = keras.ops.convert_to_numpy(lowest)
    first = InverseActivation(axis=1)(given["x"][..., None])
    results["first"] = keras.ops.convert_to_numpy(first)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Conv1D(4, 1),
            InverseActivation(),
            keras.layers.Conv1D(2, 1),
            DuplicatedActivation(),
            InverseActivation("elu"),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model.compile("sgd", "mse")
    losses = [model.train_on_batch(given["x"], np.ones((len(given["x"]), 8))) for _ in range(2)]
    model.save(folder / f"{backend}.keras")
    loaded = keras.saving.load_model(folder / f"{backend}.keras")
    results["falls"] = np.asarray(losses[1] < losses[0])
    results["loads"] = np.asarray(np.array_equal(model(given["x"]).tolist(), loaded(given["x"]).tolist()))
    np.savez(folder / f"{backend}.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
