"""The time of inverse networks relative to ReLU networks, on every runtime: do saved MACs save time?

Run: python benchmarks/latency.py [small|large] [runs] > table; it also writes benchmarks/latency-SIZE.csv
Then: python benchmarks/latency.py picture docs/latency.png

For each builder, the inverse network is timed in turns with three ReLU networks. They have equal accuracy
(with the number of filters from benchmarks/equal_accuracy.json), equal channels (twice the filters), or equal
MACs. The results are medians of the runs, with one thread and batch 1. Below 1.00 the inverse network is
faster. `small` has 28 x 28 x 1 images, as in training. `large` has 96 x 96 x 3 images and four times the
filters; it has no network of equal accuracy, because nothing was trained for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pandas as pd

from invact import Config, count_macs, measure_latency
from invact.networks.build import build_model
from invact.process.quiet import load_tensorflow

HERE = Path(__file__).parent
RUNTIMES = ("tensorflow", "litert", "litert:int8", "onnx", "onnx:int8")
BUILDERS = {"cnn": 8, "vgg": 8, "resnet": 8, "separable": 16, "mlp": 32}
"""Filters of the inverse network's first stage."""

TOP = 6.0
"""Upper end of the picture's scale. Larger values are drawn there, and labelled with their number."""

SIZES = {"small": ((28, 28, 1), 1), "large": ((96, 96, 3), 4)}
"""For each size, the shape of the images and the factor of the filters."""


def networks(builder: str, size: str) -> Iterator[tuple[str, Config]]:
    """Yield the names and configurations of the networks to compare, with the inverse one first."""
    normalization = "batch" if builder in ("resnet", "separable") else "none"
    filters = BUILDERS[builder] * SIZES[size][1]
    base = Config(model=builder, depth=2, normalization=normalization, filters=filters)
    yield "inverse", base.model_copy(update={"activation": "inverse"})
    if size == "small":
        found = json.loads((HERE / "equal_accuracy.json").read_text())[builder]
        yield "equal accuracy", base.model_copy(update={"filters": round(filters / found["filters_ratio"])})
    yield "equal channels", base.model_copy(update={"filters": 2 * filters})
    yield "equal MACs", base.model_copy(update={"width_rule": "macs", "reference": "inverse"})


def measure(builder: str, size: str, run: int) -> pd.DataFrame:
    """Time the networks of a builder; return one row for each runtime and network."""
    shape = SIZES[size][0]
    models: dict[str, keras.Model] = {
        name: build_model(config, shape, 10) for name, config in networks(builder, size)
    }
    macs = {name: count_macs(model).macs for name, model in models.items()}
    moved = {name: count_macs(model).bytes_moved for name, model in models.items()}
    found = measure_latency(models, runtime=RUNTIMES, rounds=20, memory=run == 0 and builder == "cnn")
    table = found.to_pandas()
    table["macs"], table["bytes_moved"] = table["name"].map(macs), table["name"].map(moved)
    return table.assign(
        builder=builder,
        run=run,
        macs_ratio=macs["inverse"] / table["macs"],
        bytes_ratio=moved["inverse"] / table["bytes_moved"],
        # `ratio` is relative to the first network, which is the inverse one.
        time_ratio=1 / table["ratio"],
        machine=found.machine,
        version=table["runtime"].map(lambda name: found.versions[name.partition(":")[0]]),
    )


def summary(table: pd.DataFrame) -> str:
    """Return the medians of the runs as a Markdown table, and below it the variation between runs."""
    others = table[table["name"] != "inverse"]
    grouped = others.groupby(["builder", "name", "macs_ratio", "bytes_ratio", "runtime"], sort=False)
    ratio = grouped["time_ratio"]
    wide = ratio.median().unstack("runtime")[list(RUNTIMES)].reset_index()
    lines = [
        f"| network | ReLU network of | MACs | bytes moved | {' | '.join(RUNTIMES)} |",
        "| --- " * (4 + len(RUNTIMES)) + "|",
    ]
    for row in wide.to_dict("records"):
        numbers = [row[key] for key in ("macs_ratio", "bytes_ratio", *RUNTIMES)]
        cells = " | ".join(f"{number:.2f}" for number in numbers)
        lines.append(f"| {row['builder']} | {row['name']} | {cells} |")
    usual, rare = (ratio.max() - ratio.min()).quantile([0.5, 0.9])
    variation = (
        f"{table['run'].nunique()} runs. The largest minus the smallest time ratio of a cell is "
        f"{usual:.2f} in the median cell, and {rare:.2f} at the 90th percentile of the cells"
    )
    versions = ", ".join(table["version"].unique())
    return "\n".join([*lines, "", f"{variation}. {table['machine'].iloc[0]}, one thread, {versions}."])


def main(size: str, runs: int) -> None:
    load_tensorflow()
    parts = [measure(builder, size, run) for run in range(runs) for builder in BUILDERS]
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(HERE / f"latency-{size}.csv", index=False, float_format="%.6g")
    print(summary(table))
    peaks = table.dropna(subset="peak_bytes")
    peaks = (peaks["peak_bytes"] / 2**20).groupby([peaks["runtime"], peaks["name"]], sort=False).first()
    print(f"\nPeak memory of cnn, MiB:\n{peaks.unstack().round(1).to_string()}")


def picture(path: str) -> None:
    """Draw time against MACs, both as ratios of inverse to ReLU; on the diagonal, time falls as MACs do."""
    import matplotlib.pyplot as plt

    from invact.reports.figures.style import style

    with style():
        figure, panels = plt.subplots(1, len(SIZES), figsize=(10, 4.6), sharey=True)
        for panel, (size, (shape, _)) in zip(panels, SIZES.items(), strict=True):
            table = pd.read_csv(HERE / f"latency-{size}.csv")
            others = table[table["name"] != "inverse"]
            keys = ["runtime", "builder", "name", "macs_ratio"]
            medians = others.groupby(keys, sort=False)["time_ratio"].median().reset_index()
            ends = [0.35, 1.2]
            panel.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
            panel.axhline(1, color="0.7", linewidth=1, linestyle=":", zorder=0)
            for place, (runtime, marker) in enumerate(zip(RUNTIMES, "osd^v", strict=True)):
                mine = medians[medians["runtime"] == runtime]
                # Many networks have the same ratio of MACs, so the runtimes are drawn side by side.
                beside = mine["macs_ratio"] * (1 + 0.02 * (place - 2))
                panel.scatter(beside, mine["time_ratio"].clip(upper=TOP), marker=marker, label=runtime, s=24)
                for x, y in zip(beside, mine["time_ratio"], strict=True):
                    if y > TOP:
                        panel.annotate(f"{y:.0f}", (x, TOP), (6, -3), textcoords="offset points", fontsize=8)
            panel.set(xscale="log", yscale="log", title=" x ".join(map(str, shape)))
            panel.set(xlim=(0.42, 1.25), ylim=(0.28, 1.15 * TOP))
            panel.set_xlabel("MACs, inverse / ReLU")
            for axis, ticks in ((panel.xaxis, (0.5, 0.75, 1)), (panel.yaxis, (0.5, 0.75, 1, 1.5, 2, 3, 5))):
                axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
        panels[0].set_ylabel("time, inverse / ReLU")
        panels[0].legend(frameon=False, fontsize=8, loc="upper left")
        figure.savefig(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["picture"]:
        picture(sys.argv[2])
    else:
        main(sys.argv[1] if sys.argv[1:] else "small", int(sys.argv[2]) if sys.argv[2:] else 3)
