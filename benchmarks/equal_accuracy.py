"""The ratio of filters, inverse to ReLU, at equal test accuracy, for each builder.

Run: python benchmarks/equal_accuracy.py [store] > benchmarks/equal_accuracy.json

Each builder has a sweep of 8 configurations. `cnn`, `vgg` and `mlp` are trained with 2 seeds on half of the
training images of Fashion-MNIST. `separable` and `resnet` train slowly, so they are trained with 5 seeds on
digits. These are 128 trainings. If the command is interrupted, the same command continues.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from invact import load_sweep, run_sweep
from invact.statistics.ratios.equivalence import line_ratio
from invact.training.results import Status

FASHION = 'data = "fashion_mnist"\nvalidation_fraction = 0.5\nseeds = [0, 1]'
DIGITS = 'data = "digits"\nseeds = [0, 1, 2, 3, 4]'


@dataclass(frozen=True)
class Experiment:
    """A builder, and the filters of each arm's first stage, chosen so that the arms' accuracies overlap."""

    model: str
    relu: tuple[int, ...] = (5, 7, 10, 14)
    inverse: tuple[int, ...] = (3, 4, 6, 9)
    normalization: str = "none"
    data: str = FASHION
    epochs: int = 3
    batch_size: int = 128

    def sweep(self) -> str:
        """Return a sweep of exactly these configurations, as TOML."""
        pairs = [(arm, filters) for arm in ("relu", "inverse") for filters in getattr(self, arm)]
        config = {"depth": 2, "learning_rate": 3e-3, "batch_size": self.batch_size, "epochs": self.epochs}
        tables = [f'[[enqueue]]\nactivation = "{arm}"\nfilters = {filters}' for arm, filters in pairs]
        return "\n".join(
            [
                f'space = "space.toml"\n{self.data}\ntrials = {len(pairs)}',
                "[config]",
                *(f"{key} = {value}" for key, value in config.items()),
                *tables,
            ]
        )

    def space(self) -> str:
        """Return the search space as TOML."""
        return (
            f'[parameters]\nmodel = "{self.model}"\nnormalization = "{self.normalization}"\n'
            f'activation = {{ choices = ["relu", "inverse"] }}\n'
            f"filters = {{ choices = {sorted({*self.relu, *self.inverse})} }}\n"
        )


EXPERIMENTS = (
    Experiment("cnn"),
    Experiment("vgg"),
    Experiment("mlp", (7, 10, 14, 20), (5, 7, 10, 14)),
    Experiment("separable", (8, 12, 16, 22), (6, 8, 11, 16), "batch", DIGITS, 10, 32),
    Experiment("resnet", (3, 4, 6, 8), (2, 3, 4, 6), "batch", DIGITS, 10, 32),
)


def run(experiment: Experiment, store: str) -> pd.DataFrame:
    """Train the missing runs, and return the table of finished runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"equal-accuracy-{experiment.model}.toml"
        path.write_text(experiment.sweep())
        path.with_name("space.toml").write_text(experiment.space())
        table = run_sweep(load_sweep(path), store=store).to_pandas()
    return table[table["status"] == Status.FINISHED]


def main(store: str) -> None:
    found = {}
    for experiment in EXPERIMENTS:
        table = run(experiment, store)
        arm, width = table["param.activation"], table["param.filters"].astype(float)
        ratio = line_ratio(width, table["test_accuracy"], arm == "inverse")
        means = table.groupby(["param.activation", "param.filters"])["test_accuracy"].mean()
        found[experiment.model] = {
            # The ratio of the fit is written even if a check failed. Then it is descriptive only, and
            # `reasons` names the failed checks.
            "filters_ratio": 1 / ratio.fit.potency,
            "interval": sorted(1 / end for end in ratio.fit.interval),
            "reasons": ratio.reasons,
            "trainings": len(table),
            "data": tomllib.loads(experiment.data)["data"],
            "normalization": experiment.normalization,
            "test_accuracy": {f"{name} {filters}": round(mean, 5) for (name, filters), mean in means.items()},
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "mlruns")
