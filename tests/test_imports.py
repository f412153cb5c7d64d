"""Importing a module changes nothing around it."""

import json
from pathlib import Path

import warm

ROOT = Path(__file__).parents[1]

# The libraries that modules import come first, since what they do to the environment is their own affair.
SCRIPT = """
import importlib, importlib.util, json, os, sys
from pathlib import Path

import distributed, keras, keras_tuner, matplotlib, mlflow, onnx, optuna, tensorflow

root = Path(sys.argv[1])
# The process has loaded some modules before.
ours = {"invact", *(path.stem for path in root.glob("tests/support/*.py"))}
for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
    del sys.modules[name]
sys.path[:0] = [str(root), str(root / "tests" / "support")]
changed = {}
# First, so that what it changes is not put down to a module that imports it.
first = root / "invact" / "tracking" / "backend" / "mlflow.py"
for path in [first, *sorted(root.glob("invact/**/*.py")), *sorted(root.glob("benchmarks/**/*.py")),
             *sorted(root.glob("docs/*.py")), *sorted(root.glob("tests/**/*.py"))]:
    place = path.relative_to(root)
    if place.name == "__main__.py" or place.name == "layers_on_backend.py":
        continue  # A program: importing it runs it.
    before = dict(os.environ)
    if place.parts[0] == "invact":
        importlib.import_module(".".join(place.with_suffix("").parts).removesuffix(".__init__"))
    elif "support" in place.parts:
        importlib.import_module(place.stem)
    else:
        name = "_".join(place.with_suffix("").parts)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    after = dict(os.environ)
    names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if names:
        changed[place.as_posix()] = sorted(names)
print(json.dumps(changed))
"""


def test_no_module_changes_the_environment_but_the_two_switches_of_mlflow() -> None:
    # None of the variables that a test run has set.
    done = warm.run(["-c", SCRIPT, ROOT], env={"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "invact/tracking/backend/mlflow.py": [
            "MLFLOW_DISABLE_TELEMETRY",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
        ]
    }
