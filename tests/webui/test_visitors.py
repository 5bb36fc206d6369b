from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import UserError
from backend.spec import parse_job
from webui.visitors import refuse_paths_of_the_machine


@pytest.mark.parametrize(
    ("key", "value"),
    [("train", "/etc/passwd"), ("test", "../secret.csv"), ("model", "/var/models/a"), ("deepspeed", "/etc/hosts")],
)
def test_a_page_open_to_others_reads_no_file_of_its_machine(tmp_path: Path, key: str, value: str) -> None:
    raw = {"model": "org/name", "data": {"train": "sample:movie-reviews"}}
    if key in {"model", "deepspeed"}:
        raw[key] = value
    else:
        raw["data"] = {"train": "sample:movie-reviews", key: value}
    with pytest.raises(UserError, match=f'{key} "{value}": this page is open to others'):
        refuse_paths_of_the_machine(parse_job(raw), tmp_path)


def test_a_page_open_to_others_sends_the_keys_of_its_machine_to_no_tracker(tmp_path: Path) -> None:
    raw = {"model": "org/name", "data": {"train": "sample:movie-reviews"}}
    refuse_paths_of_the_machine(parse_job(raw), tmp_path)
    job = parse_job({**raw, "trackers": {"mlflow": {"uri": "http://elsewhere"}}})
    with pytest.raises(UserError, match=r"trackers\.mlflow: this page is open to others"):
        refuse_paths_of_the_machine(job, tmp_path)


def test_a_link_out_of_the_workspace_is_followed_and_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("text,label\n", encoding="utf-8")
    workspace = tmp_path / "runs"
    workspace.mkdir()
    (workspace / "link.csv").symlink_to(secret)
    job = parse_job({"model": "org/name", "data": {"train": str(workspace / "link.csv")}})
    with pytest.raises(UserError, match="open to others"):
        refuse_paths_of_the_machine(job, workspace)


def test_uploads_samples_packages_and_hub_names_are_taken(tmp_path: Path) -> None:
    upload = tmp_path / "uploads" / "a.csv"
    upload.parent.mkdir()
    upload.write_text("text,label\n", encoding="utf-8")
    for train in (str(upload), "sample:movie-reviews", "org/dataset"):
        for model in ("org/name", "package:some_package/folder"):
            refuse_paths_of_the_machine(parse_job({"model": model, "data": {"train": train}}), tmp_path)


def test_a_page_for_others_refuses_the_files_of_methods(tmp_path: Path) -> None:
    raw = {"model": "org/name", "data": {"train": "sample:movie-reviews"}}
    named = {"augment": {"synonyms": {"by": "table", "table": "/etc/passwd"}}}
    taught = {"objectives": {"distillation": {"teachers": ["/srv/model"]}}}
    with pytest.raises(UserError, match=r'augment\.synonyms\.table "/etc/passwd": this page is open to others'):
        refuse_paths_of_the_machine(parse_job({**raw, **named}), tmp_path)
    with pytest.raises(UserError, match=r"objectives\.distillation\.teachers"):
        refuse_paths_of_the_machine(parse_job({**raw, **taught}), tmp_path)
