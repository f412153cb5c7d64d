"""The ladder against a second, vectorised form of it, and its error rates with a known truth."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from invact.statistics.sequential.failures import Arm, Runs
from invact.statistics.sequential.ladder import Verdict, climb
from invact.statistics.sequential.procedure import Decision, Procedure

MARGIN, MOST = 0.003, 6
RATIOS, MACS = (0.75, 0.6, 0.5), (1.1, 0.8, 0.6)
# A short procedure, because the levels of the default looks take several seconds.
RULE = Procedure((3, 4, 6), 0.05)
REPLICATIONS = 40_000


@dataclass(frozen=True)
class Truth:
    """For each ratio, the gains of the treatment over the other arms."""

    name: str
    control: tuple[float, ...]
    placebo: tuple[float, ...]
    matched: tuple[float, ...]

    def false(self, *claims):
        """Whether a claim is false at each ratio, if it needs a treatment that passes these tests."""
        least = {"control": -MARGIN, "placebo": 0.0, "matched": 0.0}
        return np.array([[gain <= least[name] for gain in getattr(self, name)] for name in claims]).any(
            axis=0
        )


FAR = (0.02,) * 3
WORLDS = [
    Truth("all at the margin", (-MARGIN,) * 3, FAR, FAR),
    Truth("two equal, the last at the margin", (0.0, 0.0, -MARGIN), FAR, FAR),
    Truth("one better, the others at the margin", (0.01, -MARGIN, -MARGIN), FAR, FAR),
    Truth("no better than the placebo", (0.0,) * 3, (0.02, 0.0, 0.0), FAR),
    Truth("no better than the matched arm", (0.0,) * 3, FAR, (0.02, 0.0, 0.02)),
    Truth("each claim is false at another ratio", (0.0, 0.0, -MARGIN), (0.0, 0.02, 0.02), (0.02, 0.0, 0.02)),
]


def draw(truth, sd, replications, seed):
    """Accuracies of each arm at each ratio, shape (replications, MOST); the ratios share the control."""
    rng = np.random.default_rng(seed)

    def arm(mean):
        return 0.9 + mean + rng.normal(0, sd, (replications, MOST))

    control = arm(0.0)
    arms = []
    for gain, over_placebo, over_matched in zip(truth.control, truth.placebo, truth.matched, strict=True):
        arms.append({"treatment": arm(gain), "placebo": arm(gain - over_placebo)})
        arms[-1]["matched"] = arm(gain - over_matched)
    return control, arms


def decide(treatment, other, margin, rule=RULE):
    """The number of runs and the decision of each replication, by scipy's test."""
    n = np.full(len(treatment), rule.most)
    decisions = np.full(len(treatment), Decision.NOT_SHOWN, dtype=object)
    left = np.ones(len(treatment), dtype=bool)
    for index, (look, level) in enumerate(zip(rule.looks, rule.levels(), strict=True)):
        ours, theirs = treatment[:, :look] + margin, other[:, :look]
        test = stats.ttest_ind(ours, theirs, axis=1, equal_var=False, alternative="greater")
        stops = [
            (test.pvalue < level, Decision.NON_INFERIOR),
            (1 - test.pvalue < level, Decision.INFERIOR),
        ]
        if 0 < index < len(rule.looks) - 1 and rule.futility:
            stops.append((test.statistic <= 0, Decision.FUTILE))
        for stopped, decision in stops:
            here = left & stopped
            n[here], decisions[here] = look, decision
            left &= ~here
    return n, decisions


def ladder(control, arms):
    """Whether the claims on filters and on MACs are supported at each ratio, and the number of trainings."""
    replications = len(control)
    filters, on_macs = (np.zeros((replications, len(RATIOS)), dtype=bool) for _ in range(2))
    tested = np.ones(replications, dtype=bool)
    macs_open = tested.copy()
    controls, trainings = np.zeros(replications, dtype=int), np.zeros(replications, dtype=int)
    for rung, (macs, series) in enumerate(zip(MACS, arms, strict=True)):
        found = {"control": decide(series["treatment"], control, MARGIN)}
        for name in ("placebo", "matched"):
            found[name] = decide(series["treatment"], series[name], 0.0)
        won = {name: decisions == Decision.NON_INFERIOR for name, (_, decisions) in found.items()}
        n = {name: count for name, (count, _) in found.items()}
        filters[:, rung] = tested & won["control"] & won["placebo"]
        needs_matched = tested & won["control"] & macs_open & (macs < 1)
        on_macs[:, rung] = filters[:, rung] & needs_matched & won["matched"]
        controls = np.maximum(controls, np.where(tested, n["control"], 0))
        placebos = np.where(tested & won["control"], n["placebo"], 0)
        # Without a treatment that is better than the placebo, the matched arm stops when the placebo does.
        matched = np.where(won["placebo"], n["matched"], np.minimum(n["matched"], n["placebo"]))
        matched = np.where(needs_matched, matched, 0)
        treatments = np.maximum.reduce([np.where(tested, n["control"], 0), placebos, matched])
        trainings += placebos + matched + treatments
        tested &= filters[:, rung]
        if macs < 1:
            macs_open &= on_macs[:, rung]
    return filters, on_macs, trainings + controls


def train_as_asked(control, arms, row):
    """Test one ladder by `climb`; train only the runs that it requests."""
    counts = {("control", 0): 0}

    def arm(name, rung):
        values = control if name == "control" else arms[rung][name]
        # The screen of the treatment is long enough for a claim without failures.
        earlier = Runs([0.9] * (10 if name == "treatment" else 0))
        # With a margin of 1, the fence is below 0: no run fails.
        return Arm(Runs(values[row, : counts.get((name, rung), 0)]), 1.0, earlier)

    while True:
        rungs = climb(
            arm("control", 0),
            {
                ratio: {name: arm(name, rung) for name in ("treatment", "placebo", "matched")}
                for rung, ratio in enumerate(RATIOS)
            },
            dict(zip(RATIOS, MACS, strict=True)),
            MARGIN,
            RULE,
        )
        if not rungs[-1].wanted:
            return rungs, sum(counts.values())
        for name, count in rungs[-1].wanted.items():
            counts[name, 0 if name == "control" else len(rungs) - 1] = count


def test_climb_agrees_with_the_vectorised_ladder():
    truth = Truth("mixed", (0.001, 0.0, -0.001), (0.006, 0.004, 0.003), (0.0, 0.004, 0.003))
    control, arms = draw(truth, 0.0015, 120, seed=4)
    filters, on_macs, trainings = ladder(control, arms)
    for row in range(len(control)):
        rungs, count = train_as_asked(control, arms, row)
        rest = [False] * (3 - len(rungs))
        assert [rung.verdict is Verdict.SUPPORTED for rung in rungs] + rest == filters[row].tolist()
        assert [rung.macs_verdict is Verdict.SUPPORTED for rung in rungs] + rest == on_macs[row].tolist()
        assert count == trainings[row]
    # All outcomes of a rung occur.
    for supported in (filters, on_macs[:, 1:]):
        assert 0 < supported.sum() < supported.size
    assert (filters & ~on_macs)[:, 1:].any()


@pytest.mark.parametrize("truth", WORLDS, ids=lambda truth: truth.name)
def test_family_wise_error(truth):
    filters, on_macs, _ = ladder(*draw(truth, 0.0008, REPLICATIONS, seed=5))
    # Welch's test with the levels of one arm is below alpha if both arms have the same spread.
    most = stats.binom.isf(0.0005, REPLICATIONS, RULE.alpha)
    least = stats.binom.ppf(0.0005, REPLICATIONS, 0.8 * RULE.alpha)
    for supported, claims in (
        (filters, ("control", "placebo")),
        (on_macs, ("control", "placebo", "matched")),
    ):
        false = truth.false(*claims)
        errors = int(supported[:, false].any(axis=1).sum())
        assert errors <= most
        if truth.name.startswith("two equal") or (len(claims) == 3 and "matched" in truth.name):
            # Each ratio is tested at the full level. Bonferroni's correction would give fewer errors.
            assert errors >= least


def test_true_claims_are_supported():
    # With a spread that is small against the margin, nearly all true claims are supported, and few runs are
    # enough: at each look the power of a test is at least that of the first one.
    truth = Truth("all true", (0.0,) * 3, FAR, FAR)
    filters, on_macs, trainings = ladder(*draw(truth, 0.0004, REPLICATIONS, seed=6))
    assert filters.all(axis=1).mean() > 0.95
    assert on_macs[:, 1:].all(axis=1).mean() > 0.95
    assert not on_macs[:, 0].any()
    # The control, the treatment and the placebo at each ratio, and the matched arm where MACs are saved.
    assert 9 * 3 <= trainings.mean() <= 9 * 5
