"""Figures: a front as an image and for a browser, and the forest, curve and QQ plots of a claim."""

from invact.reports.figures.browser import interactive_front
from invact.reports.figures.curve import curve_figure
from invact.reports.figures.diagnostics import qq_figure
from invact.reports.figures.forest import claim_figure
from invact.reports.figures.front import front_figure

__all__ = ["claim_figure", "curve_figure", "front_figure", "interactive_front", "qq_figure"]
