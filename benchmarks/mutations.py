"""Mutation tests of the statistics: each known mistake is written into a copy of invact; its tests must fail.

    python -m benchmarks.mutations

The printed table is part of docs/statistics.md. The exit code is 1 if a mutation survives.
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
    """A deliberate mistake: the text `old`, which occurs once in a file, is replaced by `new`.

    Attributes:
        name: short description of the mistake.
        path: path of the file below invact/.
        old: text in the file.
        new: text that replaces it.
        tests: tests that must notice the mistake, below tests/: `file` or `file::name`.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    @contextmanager
    def made(self, root: Path) -> Iterator[None]:
        """Write the mistake into a copy of the package, and restore the file afterwards."""
        path = root / "invact" / self.path
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(
                f"{self.name}: {self.path} contains the text {text.count(self.old)} times, not once"
            )
        path.write_text(text.replace(self.old, self.new))
        yield
        path.write_text(text)


LEFT_OUT = "statistics/comparison/test_diagnostics.py::test_each_seed_left_out_is_scipys_paired_test"
LADDER = "statistics/sequential/test_ladder.py"
TYPE_ONE = "statistics/sequential/test_group_sequential.py::test_type_one_error_at_the_margin[True-0-normal]"
LEVELS = "statistics/sequential/test_boundaries.py::test_the_published_levels"
E_PROCESS = tuple(
    f"statistics/sequential/test_anytime.py::{name}"
    for name in ("test_e_value_is_a_martingale_at_the_margin", "test_directions_and_no_spread")
)
MUTATIONS = (
    Mutation(
        "two-sided alpha: the t test",
        "statistics/comparison/inference.py",
        "return t, float(special.stdtr(n - 1, -t)), float(special.stdtr(n - 1, t))",
        "return t, float(2 * special.stdtr(n - 1, -abs(t))), float(2 * special.stdtr(n - 1, -abs(t)))",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "two-sided alpha: the looks",
        "statistics/sequential/boundaries.py",
        "np.asarray(levels, dtype=float)))",
        "np.asarray(levels, dtype=float) / 2))",
        (LEVELS, TYPE_ONE),
    ),
    Mutation(
        "two-sided alpha: the e-process",
        "statistics/sequential/anytime.py",
        "np.log(2 * tail)",
        "np.log(tail)",
        E_PROCESS,
    ),
    Mutation(
        "boundaries without calibration: levels of normal theory",
        "statistics/sequential/boundaries.py",
        "for level in constant * form)",
        "for level in form)",
        (LEVELS,),
    ),
    Mutation(
        "wrong sign of the margin: the t test",
        "statistics/comparison/inference.py",
        "t, p_value, p_inferior = _against(mean, sd, len(values), -margin)",
        "t, p_value, p_inferior = _against(mean, sd, len(values), margin)",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "wrong sign of the margin: the looks",
        "statistics/sequential/group_sequential.py",
        "_t(mean[:, index] + margin",
        "_t(mean[:, index] - margin",
        (TYPE_ONE,),
    ),
    Mutation(
        "wrong sign of the margin: the e-process",
        "statistics/sequential/anytime.py",
        "x = np.asarray(differences, dtype=float) + margin",
        "x = np.asarray(differences, dtype=float) - margin",
        E_PROCESS,
    ),
    Mutation(
        "wrong sign of the margin: the sign-flip test",
        "statistics/comparison/diagnostics.py",
        "dtype=float) + margin) / RESOLUTION",
        "dtype=float) - margin) / RESOLUTION",
        ("statistics/comparison/test_diagnostics.py::test_sign_flips_against_every_assignment",),
    ),
    Mutation(
        "swapped arms: a comparison",
        "statistics/sequential/ladder.py",
        "differences = treatment.accuracy[:n] - other.accuracy[:n]",
        "differences = other.accuracy[:n] - treatment.accuracy[:n]",
        (LADDER,),
    ),
    Mutation(
        "swapped arms: the two scopes",
        "statistics/comparison/population.py",
        "differences = new - old",
        "differences = old - new",
        ("statistics/comparison/test_population.py::test_swapped_arms_change_the_sign",),
    ),
    Mutation(
        "dropped failures: only the pairs without a failed run are tested",
        "statistics/sequential/ladder.py",
        "outcome = procedure.test(differences, margin)",
        "good = ~(treatment.failed[:n] | other.failed[:n])\n"
        "    outcome = procedure.test(np.resize(differences[good], n), margin)",
        (LADDER,),
    ),
    Mutation(
        "dropped failures: the pairs without a failed run are not tested",
        "statistics/sequential/ladder.py",
        "return self.outcome.shown and self.per_protocol",
        "return self.outcome.shown",
        (LADDER,),
    ),
    Mutation(
        "dropped failures: failed runs are left out of the runs of a claim",
        "claims/evidence.py",
        "return Series(accuracy.to_numpy(float), failed.to_numpy(bool))",
        "return Series(accuracy[~failed].to_numpy(float), failed[~failed].to_numpy(bool))",
        ("claims/test_evidence.py::test_failed_runs_count_at_chance_level_and_no_run_is_dropped",),
    ),
    Mutation(
        "the ladder continues after a ratio that is not supported",
        "statistics/sequential/ladder.py",
        "if rung.wanted or rung.verdict is not Verdict.SUPPORTED:",
        "if rung.wanted:",
        (LADDER,),
    ),
    Mutation(
        "a claim does not need to beat the placebo",
        "statistics/sequential/ladder.py",
        "if placebo and placebo.shown:",
        "if placebo:",
        (LADDER,),
    ),
    Mutation(
        "the delta method instead of Fieller's interval",
        "statistics/ratios/parallel_line.py",
        "    low = np.where(bounded, (linear - root) / safe, -np.inf)",
        "    linear, safe = u * v, v**2\n"
        "    mix = spread[..., 0, 0] * v**2 - 2 * u * v * spread[..., 0, 1] + u**2 * spread[..., 1, 1]\n"
        "    root = np.sqrt(t_squared * np.maximum(mix, 0))\n"
        "    low = np.where(bounded, (linear - root) / safe, -np.inf)",
        ("statistics/ratios/test_parallel_line.py::test_fieller_is_not_the_delta_method",),
    ),
    Mutation(
        "the interval for the population without the part of the items",
        "statistics/comparison/population.py",
        "items = math.sqrt(max(population**2 - seeds**2, 0.0))",
        "items = 0.0",
        ("statistics/comparison/test_population.py::test_squares_of_both_scopes_add_up_on_either_side",),
    ),
    Mutation(
        "fronts: selection by test accuracy",
        "statistics/fronts/uncertainty.py",
        "for of in (candidates.validation, candidates.test))\n        validation =",
        "for of in (candidates.test, candidates.test))\n        validation =",
        ("statistics/fronts/test_uncertainty.py::test_selection_never_reads_the_test_set",),
    ),
    Mutation(
        "fronts: a pointwise quantile for the simultaneous band",
        "statistics/fronts/gaps.py",
        "np.quantile(np.abs(z).max(axis=1), confidence)",
        "np.quantile(np.abs(z)[:, 0], confidence)",
        (
            "statistics/fronts/test_uncertainty.py::test_the_simultaneous_band_is_wider_than_the_pointwise_one",
        ),
    ),
    Mutation(
        "fronts: different resamples for the two arms",
        "statistics/fronts/gaps.py",
        "- Selection(control, weights, limits).test\n    data",
        "- Selection(control, resample(seeds, resamples, confidence, seed + 1), limits).test\n    data",
        ("statistics/fronts/test_uncertainty.py::test_arms_that_vary_together_have_a_constant_gap",),
    ),
    Mutation(
        "fronts: a standard error without the factor sqrt(S / (S - 1))",
        "statistics/fronts/uncertainty.py",
        "drawn.std(axis=0) * np.sqrt(seeds / (seeds - 1))",
        "drawn.std(axis=0)",
        ("statistics/fronts/test_uncertainty.py::test_one_configuration_has_the_t_interval_of_its_mean",),
    ),
)


def run(root: Path, tests: Iterable[str]) -> tuple[str, ...]:
    """Run tests in a copy; return the names of the first ones that fail."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", f"--maxfail={SHOWN}"),
            *(
                "-p",
                "no:cacheprovider",
                "-p",
                "no:randomly",
                "-o",
                "addopts=--import-mode=importlib --strict-markers -m 'not slow'",
            ),
            *(f"tests/{test}" for test in tests),
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    # An error, such as a failed import, proves nothing: every test would notice it.
    if answer.returncode > 1 or re.search(r"^ERROR", answer.stdout, re.MULTILINE):
        raise SystemExit(f"pytest: {answer.stdout[-2000:]}{answer.stderr[-2000:]}")
    found = re.findall(r"^FAILED \S+?::(\w+)", answer.stdout, re.MULTILINE)
    return tuple(dict.fromkeys(found))


@contextmanager
def copied() -> Iterator[Path]:
    """Copy all files that the tests need into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, root / name)
        yield root


def survivors(mutations: Iterable[Mutation]) -> list[str]:
    """Test all mutations and print the table; return the names of those that no test noticed."""
    mutations, alive = list(mutations), []
    with copied() as root:
        # A test that already fails without a mistake proves nothing.
        if failed := run(root, sorted({test for one in mutations for test in one.tests})):
            raise SystemExit(f"tests failed without any mistake: {', '.join(failed)}")
        print("| mistake | file | tests that fail |\n| --- | --- | --- |", flush=True)
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
    parser.add_argument("--only", default="", help="run only the mutations whose name contains this text")
    only = parser.parse_args().only
    if alive := survivors(one for one in MUTATIONS if only in one.name):
        raise SystemExit(f"survived: {', '.join(alive)}")


if __name__ == "__main__":
    main()
