"""What the template imports before it forks the first worker."""
# ruff: noqa: E402

import gc
import os
import signal
import sys

# Ctrl-C reaches every process of the terminal, but only the coordinator must handle it.
signal.signal(signal.SIGINT, signal.SIG_IGN)
# No file in the current folder must hide a library. A worker gets the path of the coordinator.
sys.path[:] = filter(None, sys.path)
# NumPy reads these when it is imported. They are what Dask sets for the workers that it starts itself.
os.environ |= dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

from invact.process.noise import own_imports, own_warnings
from invact.process.quiet import load_tensorflow

own_warnings()
own_imports()
load_tensorflow()

import distributed.nanny  # noqa: F401

import invact.data.shared
import invact.training.loop  # noqa: F401

# The garbage collection of a worker would copy the memory that it shares with the template.
gc.collect()
gc.freeze()
