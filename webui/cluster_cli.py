"""The commands of clusters: `cluster` and `preflight`."""

from __future__ import annotations

import typer

from webui.commands import PASSED_ON, examples, user_errors


def add_cluster_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        context_settings=PASSED_ON,
        add_help_option=False,
        epilog=examples(
            "tunewright cluster job.json --for hostfile --hosts worker-1,worker-2 --slots 4 --interface eth0",
            "tunewright cluster runs/ID/job.json --for slurm --nodes 2 --slots 4 --time 12:00:00",
            "tunewright cluster job.json --for kubernetes --nodes 2 --image registry/tunewright --claim runs",
            "tunewright cluster --for slurm --help",
        ),
    )(cluster)
    app.command(
        context_settings=PASSED_ON,
        add_help_option=False,
        epilog=examples(
            "tunewright preflight --hostfile runs/ID/cluster/hostfile/hostfile --interface eth0",
            "tunewright preflight --help",
        ),
    )(preflight)


def cluster(context: typer.Context) -> None:
    """Write what starts a job on a cluster: a hostfile, a script for torchrun or Slurm, a Kubernetes manifest."""
    from webui.cluster_command import cluster_command

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
    with user_errors():
        cluster_command(context.args)


def preflight(context: typer.Context) -> None:
    """Check the hosts of a hostfile before a run is started on them."""
    from webui.preflight_command import preflight_command

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
    with user_errors():
        preflight_command(context.args)
