"""What a job takes as it is, and what else it could be: as cells for the terminal and as HTML for the page."""

from __future__ import annotations

import re

from backend.errors import UserError
from backend.planning.advisor import Estimate, Plan
from webui import render, run_view
from webui.layers_view import size

TERMS = ("part", "memory", "what it is, and the source")
OTHERS = ("configuration", "memory", "fits", "time of a step")
ELSEWHERE = {"cpu": "in the memory of the host", "nvme": "on NVMe"}
SHOWN = 12  # configurations, the fastest first
UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(text: str) -> float:
    """Return a number of bytes, as in 80gb or 512mib. Raises UserError if it is none."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in UNITS:
        raise UserError(f'"{text}" is no amount of memory; write it as 16gb or 512mb')
    return float(found[1]) * UNITS[found[2]]


def term_cells(estimate: Estimate) -> list[tuple[str, str, str]]:
    """Return a row for each term of the sum."""
    rows = [(term.name, size(term.bytes), f"{term.how} ({term.source})") for term in estimate.terms]
    return [*rows, ("peak", size(estimate.bytes), "of each process")]


def other_cells(plan: Plan) -> list[tuple[str, str, str, str]]:
    """Return a row for each of the fastest configurations, and for the fastest that fits if it is none of them."""
    shown = list(plan.others[:SHOWN])
    if plan.best is not None and plan.best not in shown:
        shown.append(plan.best)
    fastest = plan.others[0].cost
    return [(_told(one), size(one.bytes), _fits(plan, one), f"{one.cost / fastest:.2f}x") for one in shown]


def _told(one: Estimate) -> str:
    return "; ".join([one.title, *(f"{size(kept)} {ELSEWHERE[device]}" for device, kept in one.elsewhere.items())])


def _fits(plan: Plan, one: Estimate) -> str:
    if not plan.memory:
        return "?"
    return "fastest" if one == plan.best else "yes" if one.fits else "no"


def verdict(plan: Plan) -> str:
    """Return what follows from the plan, in a sentence."""
    if not plan.memory:
        return "How much memory each process has is not known; say it to see what fits."
    has = f"{size(plan.memory)} of each process"
    if plan.current.fits:
        return f"The job as it is fits into {has}: it takes {size(plan.current.bytes)}."
    if plan.best is None:
        return (
            f"Nothing fits into {has}; take more processes, shorter rows (task.max_length), a tuning that trains "
            "fewer weights, or a smaller model."
        )
    changes = {key: value for key, value in plan.best.changes.items() if plan.current.changes[key] != value}
    flags = " ".join(f"--{key} {_flag(value)}".rstrip() for key, value in changes.items())
    return f"The job as it is does not fit into {has}. The fastest that does takes {size(plan.best.bytes)}: {flags}"


def _flag(value: object) -> str:
    return "" if value is True else str(value)


def plan_html(plan: Plan) -> str:
    """Return the sum, what follows from it, and the other configurations."""
    tiles = {
        "parameters": f"{plan.parameters:,}",
        "trained": f"{plan.trainable:,}",
        "peak of each process": size(plan.current.bytes),
    }
    return (
        run_view.tiles(tiles)
        + render.note(verdict(plan))
        + render.table(TERMS, term_cells(plan.current))
        + render.table(OTHERS, other_cells(plan))
    )
