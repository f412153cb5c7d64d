"""What a network has learned: opposite filters, dead units, the rank of its features, and its gradients."""

from invact.analysis.diagnostics import Diagnostics
from invact.analysis.features import dead_share, effective_rank
from invact.analysis.gradients import gradient_norms
from invact.analysis.pairing import (
    LayerPairing,
    RandomPairing,
    filter_pairing,
    opposite_cosines,
    random_pairing,
)
from invact.analysis.readings import Reading, read_layers

__all__ = [
    "Diagnostics",
    "LayerPairing",
    "RandomPairing",
    "Reading",
    "dead_share",
    "effective_rank",
    "filter_pairing",
    "gradient_norms",
    "opposite_cosines",
    "random_pairing",
    "read_layers",
]
