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


LEFT_OUT = "statistics/comparison/test_diagnostics.py::test_each_run_left_out_is_scipys_test"
LEVELS = "statistics/sequential/test_boundaries.py::test_total_error_by_simulation"
LADDER = "statistics/sequential/test_ladder.py"
RULES = "statistics/sequential/test_procedure.py::test_the_decision_follows_the_rules"
FAILURES = "statistics/sequential/test_failures.py"
COURSE = "statistics/sequential/test_course.py"
LOCAL = "statistics/ratios/test_local.py"
MUTATIONS = (
    Mutation(
        "two-sided alpha: the t test",
        "statistics/comparison/inference.py",
        "= float(special.stdtr(df, -t)), float(special.stdtr(df, t))",
        "= float(2 * special.stdtr(df, -abs(t))), float(2 * special.stdtr(df, -abs(t)))",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "two-sided alpha: the looks",
        "statistics/sequential/boundaries.py",
        "np.asarray(levels, dtype=float)))",
        "np.asarray(levels, dtype=float) / 2))",
        (LEVELS,),
    ),
    Mutation(
        "boundaries without calibration: levels of normal theory",
        "statistics/sequential/boundaries.py",
        "for level in constant * form)",
        "for level in form**2)",
        (LEVELS,),
    ),
    Mutation(
        "wrong sign of the margin: the t test",
        "statistics/comparison/inference.py",
        "distance = difference + margin",
        "distance = difference - margin",
        (LEFT_OUT, LADDER),
    ),
    Mutation(
        "wrong sign of the margin: the permutation test",
        "statistics/comparison/diagnostics.py",
        "for arm in (new + margin, old))",
        "for arm in (new - margin, old))",
        ("statistics/comparison/test_diagnostics.py::test_permutations_against_every_division",),
    ),
    Mutation(
        "the degrees of freedom of equal spreads",
        "statistics/comparison/inference.py",
        "df = square**2 / (v_t**2 / (n_t - 1) + v_o**2 / (n_o - 1))",
        "df = float(n_t + n_o - 2)",
        (LEFT_OUT,),
    ),
    Mutation(
        "no margin at the looks",
        "statistics/sequential/procedure.py",
        "welch(ours[:n], theirs[:n], margin, floor)",
        "welch(ours[:n], theirs[:n], 0.0, floor)",
        (RULES,),
    ),
    Mutation(
        "no smallest standard deviation at the looks",
        "statistics/sequential/procedure.py",
        "welch(ours[:n], theirs[:n], margin, floor)",
        "welch(ours[:n], theirs[:n], margin)",
        ("statistics/sequential/test_procedure.py",),
    ),
    Mutation(
        "futility at the first look",
        "statistics/sequential/boundaries.py",
        "bounds[1:-1] = 0.0",
        "bounds[:-1] = 0.0",
        (RULES,),
    ),
    Mutation(
        "the interval of a look has the error of all looks together",
        "statistics/sequential/procedure.py",
        "found.interval(level),",
        "found.interval(self.alpha),",
        ("statistics/sequential/test_procedure.py::test_the_parts_of_any_outcome_agree",),
    ),
    Mutation(
        "the margin keeps nothing of the gain: it is the whole bound",
        "statistics/sequential/power.py",
        "min(cap, bound / 2)",
        "min(cap, bound)",
        (
            "statistics/sequential/test_power.py::test_the_margin_is_half_of_the_lower_bound_of_the_gain",
            COURSE,
        ),
    ),
    Mutation(
        "swapped arms: a comparison",
        "statistics/sequential/ladder.py",
        "procedure.test(treatment.trained, other.trained, margin, floor)",
        "procedure.test(other.trained, treatment.trained, margin, floor)",
        (LADDER,),
    ),
    Mutation(
        "swapped arms: the interval over images",
        "statistics/comparison/population.py",
        "new.mean(axis=1).mean() - old.mean(axis=1).mean()",
        "old.mean(axis=1).mean() - new.mean(axis=1).mean()",
        ("statistics/comparison/test_population.py::test_squares_add_up_on_either_side",),
    ),
    Mutation(
        "failures: a failed run has a part in the test",
        "statistics/sequential/failures.py",
        "return self.runs.test[~self.failed]",
        "return self.runs.test",
        (f"{FAILURES}::test_an_arm_against_the_definition",),
    ),
    Mutation(
        "failures: those of pilot and screen do not count",
        "statistics/sequential/failures.py",
        "        every = np.concatenate([self.earlier.validation, self.runs.validation])\n",
        "        every = self.runs.validation\n",
        (f"{FAILURES}::test_earlier_runs_fix_the_fence_and_their_failures_count",),
    ),
    Mutation(
        "failures: first runs that collapse hide themselves",
        "statistics/sequential/failures.py",
        "return max(fixed, int(_below(every, fence(every, self.margin)).sum()))",
        "return fixed",
        (f"{FAILURES}::test_first_runs_that_collapse_count_although_their_median_does_too",),
    ),
    Mutation(
        "failures: later runs move the fence",
        "statistics/sequential/failures.py",
        "self.runs.validation])[: self.first]",
        "self.runs.validation])",
        (f"{FAILURES}::test_later_runs_do_not_change_the_fence",),
    ),
    Mutation(
        "failures: the fourth one ends the claim",
        "statistics/sequential/failures.py",
        "return self.failures > ALLOWED",
        "return self.failures > ALLOWED + 1",
        (f"{FAILURES}::test_the_third_failed_run_ends_the_claim", LADDER),
    ),
    Mutation(
        "failures: too few runs for the bound of their probability",
        "statistics/sequential/failures.py",
        "return 10 + 6 * failures",
        "return 10 + 5 * failures",
        (f"{FAILURES}::test_a_network_that_often_fails_seldom_passes",),
    ),
    Mutation(
        "failures: a run is missing from the claim, and the later ones still count",
        "claims/evidence.py",
        "list(itertools.takewhile(lambda seed: seed in rows.index, seeds))",
        "[seed for seed in seeds if seed in rows.index]",
        ("claims/test_evidence.py::test_runs_are_read_in_the_order_of_the_seeds_up_to_the_first_gap",),
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
        "placebo_shown = placebo is not None and placebo.shown",
        "placebo_shown = placebo is not None",
        (LADDER,),
    ),
    Mutation(
        "a claim does not need its number of runs",
        "statistics/sequential/ladder.py",
        "if placebo_shown and enough:",
        "if placebo_shown:",
        (LADDER,),
    ),
    Mutation(
        "the screen selects by test accuracy",
        "statistics/sequential/course.py",
        "screened = {ratio: arm.validated for",
        "screened = {ratio: arm.trained for",
        (f"{COURSE}::test_the_screen_reads_validation_accuracy_only",),
    ),
    Mutation(
        "the screen allows a loss of a whole margin",
        "statistics/sequential/course.py",
        "control.mean() - margin / 2",
        "control.mean() - margin",
        (f"{COURSE}::test_the_smallest_ratio_that_is_near_is_selected",),
    ),
    Mutation(
        "the control of the pilot is used again in the confirmation",
        "statistics/sequential/course.py",
        "    new, before = runs(CONFIRMATION, network), rules.before_confirmation(network)",
        "    new, before = runs(CONFIRMATION, network), rules.before_confirmation(network)\n"
        "    new = runs(PILOT, network) if network == _CONTROL else new",
        (f"{COURSE}::test_the_claim_tests_new_runs_only",),
    ),
    Mutation(
        "a given margin is replaced by that of the pilot",
        "statistics/sequential/course.py",
        "margin = assay.margin if rules.margin is None else rules.margin",
        "margin = assay.margin",
        (f"{COURSE}::test_the_margin_is_given_or_planned_and_capped",),
    ),
    Mutation(
        "a failed negative control has no influence",
        "statistics/sequential/course.py",
        "if negative and not negative.passed:",
        "if False:",
        (f"{COURSE}::test_a_failed_negative_control_takes_a_claim_back",),
    ),
    Mutation(
        "the negative control reads runs after its look",
        "statistics/sequential/course.py",
        "first = confirmation[: procedure.looks[0]]",
        "first = confirmation",
        (f"{COURSE}::test_the_negative_control_is_scipys_test_of_the_first_look",),
    ),
    Mutation(
        "planning uses the spread of the control alone",
        "statistics/sequential/course.py",
        "arm.trained for arm in (control, treatment) if",
        "arm.trained for arm in (control,) if",
        (f"{COURSE}::test_the_spread_of_an_arm",),
    ),
    Mutation(
        "several data sets: the ways through a rejected hypothesis are lost",
        "statistics/comparison/graph.py",
        "(transitions + np.outer(to, out)) * ways",
        "transitions * ways",
        ("statistics/comparison/test_graph.py::test_the_result_is_that_of_the_closed_test",),
    ),
    Mutation(
        "the local ratio: one variance for all widths",
        "statistics/ratios/local.py",
        "np.square(residual.T / (1 - leverage)).T, floor**2)",
        "np.zeros_like(y) + (residual**2).sum(axis=0) / (len(x) - len(inverse)), floor**2)",
        (f"{LOCAL}::test_the_curve_and_its_band_are_those_of_statsmodels",),
    ),
    Mutation(
        "the local ratio: the control's mean is taken as known",
        "statistics/ratios/local.py",
        "    total = v_curve + v_level",
        "    v_level = 0 * v_level\n    total = v_curve + v_level",
        (f"{LOCAL}::test_the_interval_of_a_difference_of_two_means_is_welchs",),
    ),
    Mutation(
        "the local ratio: the interval begins after its gaps",
        "statistics/ratios/local.py",
        "_rise(grid, upper, last=False)",
        "_rise(grid, upper, last=True)",
        (f"{LOCAL}::test_the_interval_spans_several_crossings_and_the_largest_is_the_estimate",),
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
        "the interval for the population without the part of the images",
        "statistics/comparison/population.py",
        "float(image_variance(old, new))",
        "0.0",
        ("statistics/comparison/test_population.py::test_squares_add_up_on_either_side",),
    ),
    Mutation(
        "fronts: selection by test accuracy",
        "statistics/fronts/uncertainty.py",
        "best_so_far(validation[:, order]",
        "best_so_far(test[:, order]",
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
        "*resample(arm, resamples, confidence, seed, images=images)",
        "*resample(arm, resamples, confidence, seed + (arm is control), images=images)",
        ("statistics/fronts/test_uncertainty.py::test_arms_that_vary_together_have_a_constant_gap",),
    ),
    Mutation(
        "fronts: a standard error without the factor sqrt(S / (S - 1))",
        "statistics/fronts/uncertainty.py",
        "of.std(axis=0) * np.sqrt(seeds / (seeds - 1))",
        "of.std(axis=0)",
        ("statistics/fronts/test_uncertainty.py::test_one_configuration_has_the_t_interval_of_its_mean",),
    ),
    Mutation(
        "fronts: P without the noise of the images",
        "statistics/fronts/probability.py",
        "root[chosen] @ root[chosen].T / unit**2 + 1e-8",
        "1e-8",
        ("statistics/fronts/test_probability.py::test_more_seeds_do_not_remove_the_noise_of_the_images",),
    ),
    Mutation(
        "fronts: accuracies are not moved towards their trend",
        "statistics/fronts/probability.py",
        "SPREADS = 2.0 ** np.arange(-7, 2)",
        "SPREADS = 2.0 ** np.arange(5, 6)",
        ("statistics/fronts/test_probability.py::test_p_is_right_in_worlds_whose_front_is_known",),
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
