import numpy as np
import pandas as pd
import pytest

from benchmarks.true_fronts import Setting, draw
from invact.fronts.images import Images, Known, noise_of
from invact.fronts.pareto import pareto_front_of
from invact.fronts.uncertainty import uncertainty_of
from invact.statistics.fronts.gaps import front_gap
from invact.statistics.fronts.noise import binomial_root, image_root
from invact.statistics.fronts.probability import front_probability
from invact.statistics.fronts.uncertainty import Candidates, front_bootstrap


@pytest.fixture(scope="module")
def world():
    return draw(np.random.default_rng(0), Setting("three in ten are poor", images=800), test=True)


def ids_of(world):
    return [[f"{config}-{seed}" for seed in range(3)] for config in range(len(world.cost))]


def images_of(world, splits=("validation", "test"), read=None):
    answers = {"validation": world.validation, "test": world.test[..., :600]}
    counts = {split: one.shape[2] for split, one in answers.items()}

    def hits(run_id, split):
        if read is not None:
            read.append((run_id, split))
        config, seed = map(int, run_id.split("-"))
        return answers[split][config, seed] if split in splits else None

    return Images(counts, hits)


def table_of(world):
    return pd.DataFrame(
        {
            "trial": config,
            "config": f"c{config:02}",
            "label": f"c{config}",
            "seed": seed,
            "status": "FINISHED",
            "macs": world.cost[config],
            "params": 1,
            "filters": 1,
            "validation_accuracy": world.validation[config, seed].mean(),
            "test_accuracy": world.test[config, seed].mean(),
            "run_id": f"{config}-{seed}",
            "param.activation": ("relu", "inverse")[config % 2],
        }
        for config in range(len(world.cost))
        for seed in range(3)
    )


def test_the_best_source_is_used(world):
    ids, mean = ids_of(world), world.validation.mean(axis=(1, 2))
    seen = image_root(world.validation)
    tested = image_root(world.test[..., :600])
    everything = images_of(world)
    for images, split, expected, source in (
        (everything, "validation", seen, Known.HITS),
        (everything, "test", tested, Known.HITS),
        (images_of(world, ["test"]), "validation", tested * np.sqrt(600 / 800), Known.TEST_HITS),
        (images_of(world, []), "validation", binomial_root(mean, 800), Known.COUNT),
        (images_of(world, ["validation"]), "test", binomial_root(mean, 600), Known.COUNT),
    ):
        root, known = noise_of(images, ids, mean, split)
        assert known is source
        assert root == pytest.approx(expected)
    assert noise_of(Images(), ids, mean, "validation") == (None, Known.NOTHING)


def test_one_run_without_answers_is_enough_for_the_next_source(world):
    whole = images_of(world)
    images = Images(
        whole.counts, lambda run_id, split: None if run_id == "3-1" else whole.hits(run_id, split)
    )
    assert noise_of(images, ids_of(world), world.truth, "validation")[1] is Known.COUNT


def test_a_front_includes_the_noise_of_its_images(world):
    table = table_of(world)
    read = []
    found = uncertainty_of(table, images=images_of(world, read=read))
    assert (found.validation_images, found.test_images) == (Known.HITS, Known.HITS)
    # Only the runs of configurations that can be on a front are read.
    chosen = sorted({int(run_id.split("-")[0]) for run_id, _ in read})
    assert 3 < len(chosen) < 20
    expected = np.zeros(20)
    answers, cost = world.validation[chosen], world.cost[chosen]
    expected[chosen] = front_probability(answers.mean(axis=2), cost, image_root(answers), 40_000)
    assert found.band.p_non_dominated == pytest.approx(expected, abs=0.04)
    plain = uncertainty_of(table)
    assert plain.validation_images is Known.NOTHING
    assert plain.band == front_bootstrap(
        Candidates(world.validation.mean(axis=2), world.test.mean(axis=2), world.cost)
    )
    assert np.abs(np.subtract(plain.band.p_non_dominated, found.band.p_non_dominated)).max() > 0.02
    assert pareto_front_of(table, "all", images=images_of(world)).uncertainty == found


def test_intervals_hold_for_other_images(world):
    table = table_of(world)
    # All seeds agree, so only the images cause noise.
    first = table.assign(
        validation_accuracy=table.groupby("config")["validation_accuracy"].transform("first"),
        test_accuracy=table.groupby("config")["test_accuracy"].transform("first"),
    )
    exact, noisy = (uncertainty_of(first, images=images) for images in (None, images_of(world)))
    assert np.subtract(exact.band.high, exact.band.low) == pytest.approx(0, abs=1e-9)
    assert np.subtract(noisy.band.high, noisy.band.low).min() > 0.01
    (gap,), (wide,) = exact.gaps, noisy.gaps
    assert np.subtract(gap.gap.high, gap.gap.low) == pytest.approx(0, abs=1e-9)
    # Both arms are measured on the same images, so the noise of a gap is less than that of two fronts.
    widths = np.subtract(wide.gap.high, wide.gap.low)
    assert widths.min() > 0


def test_the_same_images_for_both_arms_cancel():
    rng = np.random.default_rng(0)
    seen = 0.8 + rng.normal(0, 0.001, (2, 5))
    root = np.array([[0.02], [0.02]])

    def arms(images):
        whole = Candidates(seen, seen, [100, 100], images, images)
        return [whole.only(np.arange(2) == number) for number in (0, 1)]

    plain, common = (front_gap(*arms(images), margin=0.01) for images in (None, root))
    assert common.low == pytest.approx(plain.low)
    own = front_gap(*arms(np.diag([0.02, 0.02])), margin=0.01)
    # Two independent errors of 0.02, and a normal quantile, because the seeds matter little.
    assert own.high[0] - own.gap[0] == pytest.approx(1.96 * 0.02 * np.sqrt(2), rel=0.05)
