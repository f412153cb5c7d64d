"""Networks: from a configuration to a Keras model."""

from invact.networks.build import build_model

__all__ = ["build_model"]
