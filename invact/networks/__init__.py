"""The networks: a Keras model from a configuration."""

from invact.networks.build import build_model

__all__ = ["build_model"]
