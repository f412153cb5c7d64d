"""What the server of `warm` imports before it forks."""
# ruff: noqa: E402

import gc
import warnings

# JAX, which TensorFlow imports if it is installed, warns of every fork.
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)

from invact.process.quiet import load_tensorflow

load_tensorflow()

import distributed.nanny  # noqa: F401
import keras  # noqa: F401
import sklearn.datasets  # noqa: F401

import invact.tracking.backend.mlflow
import invact.training.loop  # noqa: F401

# The garbage collection of a forked process would copy the memory that it shares with the server.
gc.collect()
gc.freeze()
