"""Helpers that several test files use."""

from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure
from statsmodels.stats.multitest import multipletests

from invact.execution.workers.engine import Engine
from invact.statistics.fronts.uncertainty import Candidates
from invact.training.results import TrialResult

SEEDS = 4
# With eighths and four seeds every mean is exact in floating point, so equal means compare as equal.
eighths = st.integers(0, 8).map(lambda k: k / 8)


def numbers(result: TrialResult) -> object:
    """Return all that must repeat in a second run: not the times, and not the archive, which has a date."""
    epochs = [(epoch.train, epoch.validation) for epoch in result.epochs]
    return result.status, epochs, result.train, result.validation, result.test, result.correct


def holm_of_statsmodels(p_values):
    """Adjust p values by the Holm method of statsmodels."""
    # It collects garbage at each call, which takes half a second in a process with many modules.
    with patch("gc.collect"):
        return multipletests(p_values, method="holm")[1]


def texts_of(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(found)


def drawn(resamples, seed, seeds=SEEDS):
    counts = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), resamples)
    return [np.repeat(np.arange(seeds), row) for row in counts]


def candidates_of(configurations):
    accuracies = arrays.arrays(float, (configurations, SEEDS), elements=eighths)
    macs = arrays.arrays(float, configurations, elements=st.integers(1, 4).map(float))
    return st.builds(Candidates, accuracies, accuracies, macs)


arms = st.integers(1, 6).flatmap(candidates_of)


def random_arm(seed=0, better=0.0, seeds=8, sd=0.002, macs=(100, 200, 400, 800)):
    rng = np.random.default_rng(seed)
    level = 0.8 + 0.03 * np.log(np.array(macs) / 100) + better
    return Candidates(*(level[:, None] + rng.normal(0, sd, (2, len(macs), seeds))), macs)


def free(engine: Engine) -> str:
    """The address of a free worker, or of any if none is free."""
    workers = engine.workers()
    return next((each.address for each in workers if not each.trains), workers[0].address)
