"""The contract suites pass for a sound part, and each of their tests fails for a part that breaks it."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import warm
from broken_drivers import (
    DRIVERS,
    Driver,
    RefusesAPareto,
)

import invact.testing
from invact.deploy.runtimes import tensorflow
from invact.statistics.sequential.procedure import Procedure
from invact.testing import BuilderContract, DriverContract, ProcedureContract, RuntimeContract
from invact.testing.runtimes import NETWORKS, network
from invact.training.results import Status

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"
FAILURES = (AssertionError, pytest.fail.Exception)


def names_of(suite: type) -> set[str]:
    return {name for name in dir(suite) if name.startswith("test_")}


class TestSoundDriver(DriverContract):
    driver = Driver
    learns = False

    def make(self, space, objective, seed, trials, enqueue, epochs):
        return self.driver(space, objective, seed, trials, enqueue)


@pytest.mark.parametrize(("broken", "name"), DRIVERS)
def test_a_broken_driver_fails(broken, name, request):
    fixtures = {
        "test_a_search_without_any_accuracy_ends": {"status": Status.FAILED},
        "test_each_kind_of_objective_is_searched": {"kind": "pareto"},
        "test_an_accuracy_at_a_rung_is_no_result": {"resumed": False},
    }
    arguments = fixtures.get(name, {})
    if name == "test_nothing_is_printed_or_logged":
        arguments = {each: request.getfixturevalue(each) for each in ("capfd", "caplog")}
    suite = TestSoundDriver()
    getattr(suite, name)(**arguments)
    suite.driver = broken
    with pytest.raises(FAILURES):
        getattr(suite, name)(**arguments)


def test_a_driver_that_accepts_an_objective_against_its_declaration_fails():
    suite = TestSoundDriver()
    suite.kinds = ("accuracy",)
    with pytest.raises(pytest.fail.Exception):
        suite.test_each_kind_of_objective_is_searched("pareto")
    suite.driver = RefusesAPareto
    suite.test_each_kind_of_objective_is_searched("pareto")


BUILDER = '''
import keras

from invact.arms import get_arm


@keras.saving.register_keras_serializable("broken_networks")
class Scale(keras.layers.Layer):
    """It forgets its factor when it is saved."""

    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


def build(config, input_shape, classes, flaw=""):
    inputs = x = keras.Input(input_shape)
    seed = 1 if flaw == "seed" else None
    for stage, (filters, arm) in enumerate(zip(config.filters, config.activations)):
        if flaw == "filters" and stage:
            filters = 4
        if flaw == "arm":
            arm = config.activations[0]
        initializer = keras.initializers.GlorotUniform(seed=seed)
        x = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=initializer)(x)
        if flaw == "signs":
            x = keras.layers.ReLU()(x)
        layer = get_arm(arm).layer(None)
        if flaw == "precision":
            layer.dtype_policy = "float32"
        x = layer(x)
        x = keras.layers.MaxPooling2D(padding="valid" if flaw == "pool" else "same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    if flaw == "saving":
        x = Scale(2.0)(x)
    initializer = keras.initializers.GlorotUniform(seed=seed)
    x = keras.layers.Dense(classes, dtype="float32", kernel_initializer=initializer)(x)
    if flaw == "softmax":
        x = keras.ops.softmax(x)
    return keras.Model(inputs, x)
'''


class SoundBuilder(BuilderContract):
    builder = "broken_networks:build"
    shapes = ((8, 8, 1),)


BUILDERS = [
    ("softmax", "test_networks_are_built_for_every_image_and_depth"),
    ("pool", "test_the_deepest_network_is_built"),
    ("saving", "test_a_saved_network_loads_and_is_the_same"),
    ("precision", "test_logits_are_float32_in_mixed_precision"),
    ("seed", "test_the_seed_decides_the_weights"),
    ("filters", "test_each_stage_has_its_own_filters"),
    ("arm", "test_each_stage_has_its_own_arm"),
    ("signs", "test_every_inverse_activation_sees_both_signs"),
]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("flaw", "name"), BUILDERS)
def test_a_broken_builder_fails(flaw, name, tmp_path, monkeypatch):
    (tmp_path / "broken_networks.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = {"normalization": "none"} if name.startswith("test_every_inverse") else {}
    suite = SoundBuilder()
    getattr(suite, name)(**arguments)
    suite.options = {"flaw": flaw}
    # Keras itself refuses a pool of nothing, and invact a softmax, before the suite looks at the network.
    with pytest.raises(ValueError if flaw in ("pool", "softmax") else AssertionError):
        getattr(suite, name)(**arguments)


@dataclass(frozen=True)
class Runtime:
    """TensorFlow's runtime with a flaw."""

    flaw: str

    def convert(self, model, batch, calibration):
        if self.flaw == "int8" and calibration is not None:
            model = network(model="mlp")
        return tensorflow.convert(model, batch, calibration)

    def load(self, artifact, threads):
        if self.flaw == "damaged":
            return SimpleNamespace()
        run = tensorflow.load(artifact, threads)
        buffers = {}

        def session(images):
            if self.flaw == "prints":
                print("running")
            if self.flaw == "accepts" and images.shape[1:] == (5, 8, 1):
                return None
            logits = run(images)
            if self.flaw == "wrong":
                return logits * 1.01
            if self.flaw == "overwrites":
                buffer = buffers.setdefault(logits.shape, logits.copy())
                buffer[:] = logits
                return buffer
            return logits

        return session


RUNTIMES = [
    ("wrong", "test_an_artifact_computes_the_same_as_its_model"),
    ("overwrites", "test_an_artifact_computes_the_same_as_its_model"),
    ("prints", "test_an_artifact_computes_the_same_as_its_model"),
    ("wrong", "test_every_arm_is_computed_in_every_precision"),
    ("accepts", "test_a_fixed_batch_computes_the_same_and_refuses_other_images"),
    ("batch", "test_a_fixed_batch_computes_the_same_and_refuses_other_images"),
    ("int8", "test_int8_predicts_the_same_classes"),
    ("damaged", "test_a_damaged_artifact_is_refused"),
]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("flaw", "name"), RUNTIMES)
def test_a_broken_runtime_fails(flaw, name, capfd):
    arguments = {} if "batch" in name or "arm" in name else {"capfd": capfd}
    if name.startswith("test_an_artifact"):
        arguments["keys"] = NETWORKS[3]
    suite = RuntimeContract()
    suite.runtime = Runtime(flaw)
    suite.fixes_batch = flaw == "batch"  # TensorFlow's runtime does not, and passes with False.
    suite.precisions = ("float32", "int8") if flaw == "int8" else ("float32",)
    with pytest.raises(AssertionError):
        getattr(suite, name)(**arguments)


@dataclass(frozen=True)
class BrokenProcedure(Procedure):
    """A fixed procedure with a flaw."""

    flaw: str = ""

    def next(self, n):
        if self.flaw == "endless":
            return self.most + n
        return super().next(n)

    def test(self, treatment, other, margin=0.0, floor=0.0):
        arms = (other, treatment) if self.flaw == "swapped" else (treatment, other)
        result = super().test(*arms, margin, floor)
        if self.flaw == "late" and result.ended:
            return replace(result, estimate=float(np.mean(treatment) - np.mean(other)))
        if self.flaw == "p" and result.ended:
            return replace(result, p_value=1 - result.p_value)
        if self.flaw == "early" and not result.ended:
            return replace(result, p_value=0.5)
        return result


PROCEDURES = [
    ("p", "test_the_parts_agree"),
    ("late", "test_the_parts_agree"),
    ("early", "test_runs_are_requested_until_the_last_look"),
    ("endless", "test_runs_are_requested_until_the_last_look"),
    ("swapped", "test_swapped_arms_change_the_decision"),
]


@pytest.mark.parametrize(("flaw", "name"), PROCEDURES)
def test_a_broken_procedure_fails(flaw, name):
    arguments = {"margin": 0.0} if name == "test_the_parts_agree" else {}
    suite = ProcedureContract()
    for suite.procedure in (Procedure(looks=(8,)), BrokenProcedure(looks=(8,))):
        getattr(suite, name)(**arguments)
    suite.procedure = BrokenProcedure(looks=(8,), flaw=flaw)
    with pytest.raises(AssertionError):
        getattr(suite, name)(**arguments)


@pytest.mark.parametrize(
    ("suite", "broken"),
    [
        (DriverContract, DRIVERS),
        (BuilderContract, BUILDERS),
        (RuntimeContract, RUNTIMES),
        (ProcedureContract, PROCEDURES),
    ],
)
def test_every_test_of_a_suite_can_fail(suite, broken):
    assert names_of(suite) == {name for _, name in broken}


@pytest.mark.parametrize("name", invact.testing.__all__)
def test_a_suite_that_is_not_filled_in_says_what_to_do(name):
    suite = getattr(invact.testing, name)()
    call = {
        "BuilderContract": lambda: suite.build(),
        "DriverContract": lambda: suite.fresh(5),
        "ProcedureContract": lambda: suite.follow(np.zeros(5), np.zeros(5)),
        "RuntimeContract": lambda: suite.load(b""),
    }[name]
    with pytest.raises(NotImplementedError, match=rf"{name}: (set|override)"):
        call()


def test_the_example_of_the_page_passes(tmp_path):
    page = EXTENDING.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        (tmp_path / re.match(r"# (\w+\.py)\n", block)[1]).write_text(block, encoding="utf-8")
    (test,) = tmp_path.glob("test_*.py")
    # Each stage's arm and filters are tested here; all other tests of the suite take long.
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", test.name, "-k", "stage"]
    done = warm.run(command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # pytest does not collect the suite itself, which the file imports. One of its tests has three cases.
    assert f"2 passed, {len(names_of(BuilderContract))} deselected" in done.stdout


def test_invact_does_not_import_pytest():
    code = "import sys, invact, invact.cli.main; print('pytest' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
