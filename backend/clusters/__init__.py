"""The kinds of clusters, in the order of the page."""

from backend.cluster import Cluster
from backend.clusters.hostfile import Hostfile
from backend.clusters.kubernetes import Kubernetes
from backend.clusters.slurm import Slurm
from backend.clusters.torchrun import Torchrun

CLUSTERS: dict[str, Cluster] = {
    "slurm": Slurm(),
    "hostfile": Hostfile(),
    "torchrun": Torchrun(),
    "kubernetes": Kubernetes(),
}
