"""The page of a record in MLflow's user interface: a link that shows its runs with their accuracy and costs.

MLflow 3.17 opens an experiment on its page for language models, where nothing of a sweep is shown. A shared
view state is a tag of the experiment; it chooses the columns, the order and the expanded runs of the page of
runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from invact.tracking.backend.opening import SERVERS, without_user
from invact.tracking.table import METRICS
from invact.tracking.ui import HOST, PORT

__all__ = ["address_of", "is_server", "server_of", "tag_of", "view_of"]

_PREFIX = "mlflow.sharedViewState."


def tag_of(run_id: str) -> str:
    """Return the experiment tag that holds the view state of a record.

    Example:
        >>> tag_of("0123456789abcdef")
        'mlflow.sharedViewState.invact-01234567'
    """
    return f"{_PREFIX}{_key(run_id)}"


def view_of(run_id: str, params: Sequence[str], metrics: Sequence[str]) -> str:
    """Return the view state that shows the runs of a record, as JSON.

    Args:
        run_id: id of the parent run; it is expanded.
        params: MLflow params to show as columns.
        metrics: columns of the table of runs to show; the first one sorts the runs, largest first.

    Example:
        >>> json.loads(view_of("r", ["filters"], ["validation_accuracy", "macs"]))["selectedColumns"]
        ['metrics.`validation/final_accuracy`', 'metrics.`cost/macs`', 'params.`filters`']
    """
    shown = [f"metrics.`{METRICS[name]}`" for name in metrics]
    return json.dumps(
        {
            "orderByKey": shown[0],
            "orderByAsc": False,
            "selectedColumns": [*shown, *(f"params.`{name}`" for name in params)],
            "runsExpanded": {run_id: True},
        }
    )


def address_of(base: str, experiment: str, run_id: str) -> str:
    """Return the address of the page that shows the runs of a record.

    Args:
        base: address of the server.
        experiment: id of the experiment.
        run_id: id of the parent run.

    Example:
        >>> address_of("http://127.0.0.1:5000", "1", "0123456789abcdef")
        'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=invact-01234567'
    """
    return (
        f"{base.rstrip('/')}/#/experiments/{experiment}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={_key(run_id)}"
    )


def server_of(uri: str) -> str:
    """Return the address of the server that shows a store; for a folder, that of `invact ui`.

    Example:
        >>> server_of("sqlite:////tmp/mlruns/mlflow.db"), server_of("http://ann:secret@host:80/x")
        ('http://127.0.0.1:5000', 'http://host:80/x')
    """
    return without_user(uri) if is_server(uri) else f"http://{HOST}:{PORT}"


def is_server(uri: str) -> bool:
    """Return whether the address of a store is that of a server, which has its own pages."""
    return urlsplit(uri).scheme in SERVERS


def _key(run_id: str) -> str:
    return f"invact-{run_id[:8]}"
