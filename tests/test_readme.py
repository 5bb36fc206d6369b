"""The README tells the truth: its table of settings, its commands, its links, and what a Space installs.

`python tests/test_readme.py` writes the table of settings anew.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from backend.augment import AUGMENTATIONS
from backend.interfaces import Generation
from backend.objectives import OBJECTIVES
from backend.spec import JobSpec, field_of
from backend.tasks import TASKS
from backend.trackers import TRACKERS
from backend.tuning import TUNINGS
from webui.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"
TABLES = {"task": TASKS, "tuning": TUNINGS}
METHODS = {"objectives": OBJECTIVES, "augment": AUGMENTATIONS, "trackers": TRACKERS}


def settings_table() -> str:
    """Return the settings of a job as a Markdown table."""
    lines = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in JobSpec.model_fields.items():
        if name in TABLES:
            names = ", ".join(TABLES[name])
            lines.append(row(f"{name}.name", next(iter(TABLES[name])), f"{field.description} One of: {names}."))
            for key, entry in TABLES[name].items():
                lines += rows(f"{name}.", entry.Options, f" ({key})", without="name")
            if name == "task":
                lines += rows("task.generation.", Generation, " (tasks that write)")
        elif name in METHODS:
            for key, entry in METHODS[name].items():
                usual = "on" if entry.usual else "off"
                lines.append(
                    row(f"{name}.{field_of(key)}", usual, f"{entry.title}. {entry.about} {entry.paper}".strip())
                )
                lines += rows(f"{name}.{field_of(key)}.", entry.Options)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += rows(f"{name}.", field.annotation)
        elif name != "version":
            lines.append(row(name, shown(field), field.description or ""))
    return "\n".join(lines) + "\n"


def rows(prefix: str, model: type[BaseModel], note: str = "", without: str = "") -> list[str]:
    fields = {name: field for name, field in model.model_fields.items() if name != without}
    return [row(prefix + name, shown(field), f"{field.description}{note}") for name, field in fields.items()]


def row(name: str, default: str, description: str) -> str:
    return f"| `{name}` | {default} | {description} |"


def shown(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ", ".join(f"`{name} {value}`" for name, value in default.model_dump(exclude_defaults=True).items())
    return "" if default in ("", (), {}) else f"`{default}`"


def with_table(text: str) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + settings_table() + END + rest.split(END)[1]


def commands(pattern: str) -> set[str]:
    return set(re.findall(pattern, README.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_table_of_settings_is_that_of_the_job() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_table(text), "run `python tests/test_readme.py`"


def test_every_make_target_and_every_command_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert commands(r"^make ([a-z-]+)")
    assert commands(r"^make ([a-z-]+)") <= targets
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert commands(r"tunewright ([a-z]+) (?:runs|--|\")")
    assert commands(r"bin/tunewright ([a-z-]+)") <= known


def test_every_link_leads_to_a_file() -> None:
    for target in commands(r"\]\(([^)#]+)\)"):
        assert (ROOT / target).exists(), target


def test_every_flag_in_an_example_is_a_setting_or_an_option() -> None:
    from backend.spec import dotted_keys

    for flag in commands(r"--((?:data|schedule|task|tuning|objectives|augment|trackers)\.[a-z_.]+)"):
        assert flag in set(dotted_keys(JobSpec)), flag


def test_a_space_installs_what_the_project_requires() -> None:
    wanted = [Requirement(line) for line in metadata.requires("tunewright") or []]
    required = {
        need.name: need.specifier
        for need in wanted
        if (need.marker is None or need.marker.evaluate({"extra": "demo"})) and need.name != "torch"
    }
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [Requirement(line) for line in lines if line and not line.startswith(("#", "-c"))]
    assert {need.name: need.specifier for need in listed if need.name != "torch"} == required
    (torch,) = [str(need) for need in listed if need.name == "torch"]
    assert torch in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
