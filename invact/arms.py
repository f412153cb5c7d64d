"""The arms: the activations that invact compares, in one table that users can extend.

Importing this module does not load Keras. Keras is loaded when an arm makes its layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from invact.errors import InputError, one_of

if TYPE_CHECKING:
    import keras

__all__ = ["ARMS", "SHIPPED", "Arm", "arm_text", "get_arm", "register_arm"]


@dataclass(frozen=True)
class Arm:
    """One activation that is compared with others.

    Attributes:
        name: the name of the arm in configurations; a Python identifier.
        multiplicity: number of output channels for each input channel (2 for an inverse activation).
        summary: the formula that `invact list` prints.
        layer: function that takes a layer name (or None) and returns a new Keras layer.

    Raises:
        InputError: the name is not an identifier, or the multiplicity is less than 1.
    """

    name: str
    multiplicity: int
    summary: str
    layer: Callable[[str | None], keras.Layer]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"arm: name: received {self.name!r}. Allowed: a Python identifier")
        if self.multiplicity < 1:
            raise InputError(f"arm {self.name!r}: multiplicity: received {self.multiplicity}. Allowed: >= 1")


def _keras_activation(function: str) -> Callable[[str | None], keras.Layer]:
    def make(name: str | None) -> keras.Layer:
        import keras

        return keras.layers.Activation(function, name=name)

    return make


def _absolute(name: str | None) -> keras.Layer:
    import keras

    from invact.layers import absolute

    return keras.layers.Activation(absolute, name=name)


def _doubled(class_name: str, **arguments: Any) -> Callable[[str | None], keras.Layer]:
    def make(name: str | None) -> keras.Layer:
        from invact import layers

        layer: keras.Layer = getattr(layers, class_name)(name=name, **arguments)
        return layer

    return make


_ARMS: dict[str, Arm] = {}

ARMS: Mapping[str, Arm] = MappingProxyType(_ARMS)
"""All registered arms by name. This is a read-only view; it shows arms that are registered later, too."""


def register_arm(arm: Arm) -> Arm:
    """Add an arm to the table, so that configurations, search spaces and claims can use its name.

    Workers are separate processes and need the arm too: put the call in a module, and list that module
    under `imports` in the file of the sweep or claim.

    Returns:
        The same arm.

    Raises:
        InputError: an arm with this name is registered already.

    Example:
        >>> register_arm(Arm("relu", 1, "max(x, 0)", lambda name: None))
        Traceback (most recent call last):
        ...
        invact.errors.InputError: arm 'relu' is registered already
    """
    if arm.name in _ARMS:
        raise InputError(f"arm {arm.name!r} is registered already")
    _ARMS[arm.name] = arm
    return arm


def get_arm(name: str) -> Arm:
    """Return the arm with a name.

    Raises:
        InputError: there is no such arm; the message suggests the most similar name.

    Example:
        >>> get_arm("inverse").multiplicity
        2
        >>> get_arm("inverze")
        Traceback (most recent call last):
        ...
        invact.errors.InputError: activation: received 'inverze'; did you mean 'inverse'? Allowed: relu, ...
    """
    try:
        return _ARMS[name]
    except KeyError:
        raise one_of("activation", name, _ARMS) from None


def arm_text(arm: str | Sequence[str]) -> str:
    """Write one arm, or the arms of all stages, as the short text of tables and figures.

    Example:
        >>> arm_text("relu"), arm_text(("inverse", "relu", "relu"))
        ('relu', 'inverse/relu/relu')
    """
    # The name of an arm is an identifier, so it contains no slash.
    return arm if isinstance(arm, str) else "/".join(arm)


for _name, _summary in {
    "relu": "max(x, 0)",
    "leaky_relu": "max(x, 0.2 x)",
    "elu": "x if x > 0 else exp(x) - 1",
    "gelu": "x Phi(x)",
    "silu": "x sigmoid(x)",
    "linear": "x",
}.items():
    register_arm(Arm(_name, 1, _summary, _keras_activation(_name)))

register_arm(Arm("inverse", 2, "concat(relu(x), relu(-x)), CReLU", _doubled("InverseActivation")))
for _name, _activation in {"inverse_leaky": "leaky_relu", "inverse_elu": "elu"}.items():
    register_arm(
        Arm(
            _name,
            2,
            f"concat({_activation}(x), {_activation}(-x))",
            _doubled("InverseActivation", activation=_activation),
        )
    )
register_arm(Arm("linear_negated", 2, "concat(x, -x)", _doubled("InverseActivation", activation="linear")))
register_arm(Arm("relu_duplicated", 2, "concat(relu(x), relu(x))", _doubled("DuplicatedActivation")))
# The colour of an arm in a figure depends on its place here, so a new arm comes last.
register_arm(Arm("abs", 1, "|x|", _absolute))

SHIPPED = tuple(_ARMS)
"""The names of the arms that are part of invact."""
