"""Would the tests notice? Each known mistake is written into a copy of the package, and its tests are run.

    python -m benchmarks.mutations

The table goes into docs/statistics.md. The exit code is 1 if a mistake survives.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN = 2
COPIED = ("invact", "tests", "benchmarks", "sweeps", "search_spaces", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """A mistake: `old`, which occurs once in the file, becomes `new`.

    Attributes:
        name: what is wrong with it.
        path: the file, below the package.
        old: the text.
        new: what takes its place.
        tests: those that are to notice, below tests; `file` or `file::name`.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    @contextmanager
    def made(self, root: Path) -> Iterator[None]:
        """Write it into a copy of the package, and take it back."""
        path = root / "invact" / self.path
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.name}: {self.path} has its text {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))
        yield
        path.write_text(text)


LEFT_OUT = "test_diagnostics.py::test_each_seed_left_out_is_scipys_paired_test"
LADDER = "test_ladder.py"
TYPE_ONE = "test_sequential.py::test_type_one_error_at_the_margin[True-0-normal]"
LEVELS = "test_boundaries.py::test_the_published_levels"
E_PROCESS = tuple(
    f"test_anytime.py::{name}"
    for name in ("test_e_value_is_a_martingale_at_the_margin", "test_directions_and_no_spread")
)
MUTATIONS = (
    Mutation(
        "two-sided alpha: the t test",
        "statistics/inference.py",
        "return t, float(special.stdtr(n - 1, -t)), float(special.stdtr(n - 1, t))",
        "return t, float(2 * special.stdtr(n - 1, -abs(t))), float(2 * special.stdtr(n - 1, -abs(t)))",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "two-sided alpha: the looks",
        "statistics/boundaries.py",
        "np.asarray(levels, dtype=float)))",
        "np.asarray(levels, dtype=float) / 2))",
        (LEVELS, TYPE_ONE),
    ),
    Mutation(
        "two-sided alpha: the e-process",
        "statistics/anytime.py",
        "np.log(2 * tail)",
        "np.log(tail)",
        E_PROCESS,
    ),
    Mutation(
        "uncalibrated boundaries: levels of normal theory",
        "statistics/boundaries.py",
        "for level in constant * form)",
        "for level in form)",
        (LEVELS,),
    ),
    Mutation(
        "margin's sign: the t test",
        "statistics/inference.py",
        "t, p_value, p_inferior = _against(mean, sd, len(values), -margin)",
        "t, p_value, p_inferior = _against(mean, sd, len(values), margin)",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "margin's sign: the looks",
        "statistics/sequential.py",
        "_t(mean[:, index] + margin",
        "_t(mean[:, index] - margin",
        (TYPE_ONE,),
    ),
    Mutation(
        "margin's sign: the e-process",
        "statistics/anytime.py",
        "x = np.asarray(differences, dtype=float) + margin",
        "x = np.asarray(differences, dtype=float) - margin",
        E_PROCESS,
    ),
    Mutation(
        "margin's sign: the sign flips",
        "statistics/diagnostics.py",
        "dtype=float) + margin) / RESOLUTION",
        "dtype=float) - margin) / RESOLUTION",
        ("test_diagnostics.py::test_sign_flips_against_every_assignment",),
    ),
    Mutation(
        "swapped arms: a comparison",
        "statistics/ladder.py",
        "differences = treatment.accuracy[:n] - other.accuracy[:n]",
        "differences = other.accuracy[:n] - treatment.accuracy[:n]",
        (LADDER,),
    ),
    Mutation(
        "swapped arms: the two scopes",
        "statistics/population.py",
        "differences = new - old",
        "differences = old - new",
        ("test_population.py::test_swapped_arms_change_the_sign",),
    ),
    Mutation(
        "dropped failures: only per protocol",
        "statistics/ladder.py",
        "outcome = procedure.test(differences, margin)",
        "good = ~(treatment.failed[:n] | other.failed[:n])\n"
        "    outcome = procedure.test(np.resize(differences[good], n), margin)",
        (LADDER,),
    ),
    Mutation(
        "dropped failures: never per protocol",
        "statistics/ladder.py",
        "return self.outcome.shown and self.per_protocol",
        "return self.outcome.shown",
        (LADDER,),
    ),
    Mutation(
        "dropped failures: left out of a claim's series",
        "claim/runs.py",
        "return Series(accuracy.to_numpy(float), failed.to_numpy(bool))",
        "return Series(accuracy[~failed].to_numpy(float), failed[~failed].to_numpy(bool))",
        ("test_claim.py::test_failed_runs_count_at_chance_level_and_no_run_is_dropped",),
    ),
    Mutation(
        "a ladder that goes on after a failure",
        "statistics/ladder.py",
        "if rung.wanted or rung.verdict is not Verdict.SUPPORTED:",
        "if rung.wanted:",
        (LADDER,),
    ),
    Mutation(
        "a claim that need not beat the placebo",
        "statistics/ladder.py",
        "if placebo and placebo.shown:",
        "if placebo:",
        (LADDER,),
    ),
    Mutation(
        "the delta method for Fieller",
        "statistics/assay.py",
        "    low = np.where(bounded, (linear - root) / safe, -np.inf)",
        "    linear, safe = u * v, v**2\n"
        "    mix = spread[..., 0, 0] * v**2 - 2 * u * v * spread[..., 0, 1] + u**2 * spread[..., 1, 1]\n"
        "    root = np.sqrt(t_squared * np.maximum(mix, 0))\n"
        "    low = np.where(bounded, (linear - root) / safe, -np.inf)",
        ("test_assay.py::test_fieller_is_not_the_delta_method",),
    ),
    Mutation(
        "the population's interval without items",
        "statistics/population.py",
        "items = math.sqrt(max(population**2 - seeds**2, 0.0))",
        "items = 0.0",
        ("test_population.py::test_squares_of_both_scopes_add_up_on_either_side",),
    ),
    Mutation(
        "fronts: selection on test",
        "statistics/uncertainty.py",
        "for of in (candidates.validation, candidates.test))\n        validation =",
        "for of in (candidates.test, candidates.test))\n        validation =",
        ("test_uncertainty.py::test_selection_never_reads_the_test_set",),
    ),
    Mutation(
        "fronts: a pointwise quantile",
        "statistics/gaps.py",
        "np.quantile(np.abs(z).max(axis=1), confidence)",
        "np.quantile(np.abs(z)[:, 0], confidence)",
        ("test_uncertainty.py::test_the_simultaneous_band_is_wider_than_the_pointwise_one",),
    ),
    Mutation(
        "fronts: each arm resampled on its own",
        "statistics/gaps.py",
        "- Selection(control, weights, limits).test\n    data",
        "- Selection(control, resample(seeds, resamples, confidence, seed + 1), limits).test\n    data",
        ("test_mutations.py::test_arms_that_share_their_luck_differ_by_a_constant",),
    ),
    Mutation(
        "fronts: a standard error of few seeds without its factor",
        "statistics/uncertainty.py",
        "drawn.std(axis=0) * np.sqrt(seeds / (seeds - 1))",
        "drawn.std(axis=0)",
        ("test_uncertainty.py::test_one_configuration_has_the_t_interval_of_its_mean",),
    ),
)


def run(root: Path, tests: Iterable[str]) -> tuple[str, ...]:
    """The first tests that fail in a copy."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", f"--maxfail={SHOWN}"),
            *("-p", "no:cacheprovider", "-o", "addopts=--strict-markers -m 'not slow'"),
            *(f"tests/{test}" for test in tests),
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    # A mistake that cannot be imported, say, would be noticed by anything.
    if answer.returncode > 1 or re.search(r"^ERROR", answer.stdout, re.MULTILINE):
        raise SystemExit(f"pytest: {answer.stdout[-2000:]}{answer.stderr[-2000:]}")
    found = re.findall(r"^FAILED \S+?::(\w+)", answer.stdout, re.MULTILINE)
    return tuple(dict.fromkeys(found))


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the tests need."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, root / name)
        yield root


def survivors(mutations: Iterable[Mutation]) -> list[str]:
    """Print the table; return the names of what no test noticed."""
    mutations, alive = list(mutations), []
    with copied() as root:
        # Tests that fail without a mistake would notice nothing.
        if failed := run(root, sorted({test for one in mutations for test in one.tests})):
            raise SystemExit(f"without any mistake: {', '.join(failed)} failed")
        print("| mistake | in | tests that fail |\n| --- | --- | --- |", flush=True)
        for mutation in mutations:
            with mutation.made(root):
                failed = run(root, mutation.tests)
            if not failed:
                alive.append(mutation.name)
            names = ", ".join(f"`{name}`" for name in failed) or "NONE"
            print(f"| {mutation.name} | `{mutation.path}` | {names} |", flush=True)
    return alive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of the names")
    only = parser.parse_args().only
    if alive := survivors(one for one in MUTATIONS if only in one.name):
        raise SystemExit(f"survived: {', '.join(alive)}")


if __name__ == "__main__":
    main()
