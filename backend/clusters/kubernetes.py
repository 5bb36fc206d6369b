"""A PyTorchJob of the Kubeflow training operator: a master and workers that share a volume."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import Field

from backend.cluster import Cluster, environment, label, python_of, quoted

# The operator tells each pod its place in these variables; Kubernetes puts them in.
PLACE = ["--node-rank", "$(RANK)", "--master-addr", "$(MASTER_ADDR)", "--master-port", "$(MASTER_PORT)"]


class Kubernetes(Cluster):
    """A PyTorchJob, with torchrun in every pod."""

    title = "Kubernetes (PyTorchJob)"
    about = (
        "A manifest for the Kubeflow training operator. The volume claim holds the folder of the runs; the paths in "
        "job.json must be those that the pods see."
    )

    class Options(Cluster.Options):
        """What the pods are made of."""

        name: Literal["kubernetes"] = "kubernetes"
        nodes: int = Field(1, ge=1, description="Pods of the job.")
        image: str = Field(min_length=1, description="Image in which tunewright is installed.")
        claim: str = Field(min_length=1, description="Persistent volume claim with the folder of the runs.")
        mount: str = Field("/workspace", pattern=r"^/", description="Where the pods see the folder of the runs.")
        namespace: str = Field("default", min_length=1, description="Namespace of the job.")
        gpus: bool = Field(True, description="Each process gets a GPU; off: it trains on the CPU.")
        cpus: int = Field(8, ge=1, description="CPU cores of a process.")
        memory: str = Field("16Gi", pattern=r"^\d+(\.\d+)?[A-Za-z]*$", description="Memory of a process's share.")
        python: str = Field("python", min_length=1, description="Python in the image.")

    def hosts(self, options: Any) -> int:
        """Return the number of hosts."""
        return int(options.nodes)

    def write(self, options: Any, run: Path) -> dict[str, str]:
        """Return the manifest."""
        replicas = {"Master": 1, "Worker": options.nodes - 1}
        job = {
            "apiVersion": "kubeflow.org/v1",
            "kind": "PyTorchJob",
            "metadata": {"name": label(run), "namespace": options.namespace},
            "spec": {
                "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 10},
                "pytorchReplicaSpecs": {
                    kind: {"replicas": count, "restartPolicy": "OnFailure", "template": {"spec": _pod(options, run)}}
                    for kind, count in replicas.items()
                    if count
                },
            },
        }
        return {"job.yaml": yaml.safe_dump(job, sort_keys=False, allow_unicode=True)}

    def next_step(self, folder: Path) -> str:
        """Return the submission."""
        return quoted(["kubectl", "apply", "-f", folder / "job.yaml"])


def _pod(options: Any, run: Path) -> dict[str, Any]:
    """Return what a pod of the job is; the operator looks for a container with the name pytorch."""
    # Kubernetes takes $(NAME) in a command for a variable; $$( is its way to write the characters.
    job_file = str(PurePosixPath(options.mount) / run.name / "job.json").replace("$(", "$$(")
    shape = [
        "--nnodes",
        str(options.nodes),
        "--nproc-per-node",
        str(options.slots),
        *(PLACE if options.nodes > 1 else []),
    ]
    limits = {"cpu": options.cpus * options.slots, "memory": _times(options.memory, options.slots)}
    return {
        "containers": [
            {
                "name": "pytorch",
                "image": options.image,
                "command": [python_of(options), "-m", "torch.distributed.run", *shape],
                "args": ["-m", "backend.train", "--job", job_file, "--resume"],
                "env": [{"name": name, "value": value} for name, value in environment(options).items()],
                "resources": {"limits": {**limits, **({"nvidia.com/gpu": options.slots} if options.gpus else {})}},
                "volumeMounts": [
                    {"name": "runs", "mountPath": options.mount},
                    {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108 - where ranks share buffers
                ],
            }
        ],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _times(memory: str, count: int) -> str:
    digits = memory.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return f"{float(digits) * count:g}{memory.removeprefix(digits)}"
