"""Sample efficiency: the training MACs that a search under a budget needs, with and without the gate.

    python -m benchmarks.budgeted_search table             trains every network of the space once
    python -m benchmarks.budgeted_search simulate FOLDER   runs the searches on this table, without training
    python -m benchmarks.budgeted_search sweep FOLDER      runs searches with real trainings
    python -m benchmarks.budgeted_search report FOLDER --picture docs/budgeted-search.png

`table` writes table.csv next to this file. `report` prints the tables of docs/budgeted-search.md.
`table`, `simulate` and `sweep` use two processes; `simulate` and `sweep` continue where they were stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.budgeted_search.report import draw, report
from benchmarks.budgeted_search.trainings import SEEDS, simulate, sweep, write_table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("table", "simulate", "sweep", "report"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("budgeted_search"))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of sampler seeds, for simulate")
    parser.add_argument("--picture", type=Path, help="file for the picture, for report")
    given = parser.parse_args()
    if given.command == "table":
        write_table()
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.command == "simulate":
        simulate(given.folder, given.seeds)
    elif given.command == "sweep":
        sweep(given.folder)
    else:
        report(given.folder)
        if given.picture:
            draw(given.folder, given.picture)


if __name__ == "__main__":
    main()
