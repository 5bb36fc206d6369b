"""MLflow: a tracking server, or a data base in the workspace."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.tracking import Diary, Tracked, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FILE = "mlflow.db"  # in the workspace: `mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`
ID = "tunewright.run"  # the tag that finds the run of a resumed session
EVERY_SECONDS = 2.0  # a commit to the data base is too slow for every step of a small model
AT_ONCE = {"metrics": 1000, "params": 100}  # what MLflow takes in one call
LONGEST_PARAM = 6000


class MLflow(Tracker):
    """Tell an MLflow server or data base."""

    title = "MLflow"
    about = f"A tracking server, or {FILE} in the folder of the runs."
    package = "mlflow"
    install = "mlflow-skinny"

    class Options(Tracker.Options):
        """Where the measurements go."""

        uri: str = Field(
            "",
            pattern=r"^(https?://.+|databricks(://.+)?)?$",
            description=f"Tracking server; empty: {FILE} beside runs.",
        )
        experiment: str = Field("tunewright", min_length=1, description="Experiment of the runs.")

    def open(self, options: Any, run: Tracked) -> Diary:
        """Begin a run, or go on with the one that has this id."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(options.uri or f"sqlite:///{run.workspace / FILE}")
        found = client.get_experiment_by_name(options.experiment)
        experiment = found.experiment_id if found else client.create_experiment(options.experiment)
        known = client.search_runs([experiment], filter_string=f"tags.`{ID}` = '{run.id}'", max_results=1)
        if known:
            client.update_run(known[0].info.run_id, status="RUNNING")
            return _Run(client, known[0])
        new = client.create_run(experiment, run_name=run.name, tags={ID: run.id})
        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in run.settings.items() if value != ""]
        for some in _portions(params, AT_ONCE["params"]):
            client.log_batch(new.info.run_id, params=some)
        return _Run(client, new)


class _Run:
    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self._id = run.info.run_id
        self._waiting: list[Any] = []
        self._written = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values until it is time to write many at once."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in values.items()]
        if time.monotonic() - self._written > EVERY_SECONDS:
            self._flush()

    def close(self, *, failed: bool) -> None:
        """Write down what is left, and how it ended."""
        self._flush()
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _flush(self) -> None:
        for some in _portions(self._waiting, AT_ONCE["metrics"]):
            self._client.log_batch(self._id, metrics=some)
        self._waiting = []
        self._written = time.monotonic()


def _portions(items: list[Any], most: int) -> Iterator[list[Any]]:
    waiting = iter(items)
    while some := list(islice(waiting, most)):
        yield some
