"""Figures: a front as an image and for a browser, the plots of a claim, and the pairs of filters by layer."""

from invact.reports.figures.browser import interactive_front
from invact.reports.figures.curve import curve_figure
from invact.reports.figures.diagnostics import qq_figure
from invact.reports.figures.forest import claim_figure
from invact.reports.figures.front import front_figure
from invact.reports.figures.pairing import pairing_figure

__all__ = ["claim_figure", "curve_figure", "front_figure", "interactive_front", "pairing_figure", "qq_figure"]
