"""The trackers: who is told of a run's measurements."""

from backend.trackers.mlflow import MLflow
from backend.trackers.tensorboard import TensorBoard
from backend.trackers.trackio import Trackio
from backend.trackers.wandb import WandB
from backend.tracking import Tracker

TRACKERS: dict[str, Tracker] = {
    "tensorboard": TensorBoard(),
    "wandb": WandB(),
    "mlflow": MLflow(),
    "trackio": Trackio(),
}
