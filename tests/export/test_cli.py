"""The command line exports, and says what is wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.rundir import RunDir
from export.__main__ import main
from export.manifest import verify


def test_an_export_prints_the_proof_and_what_to_type_next(
    session_run: RunDir, bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(session_run.path), "--precision", "fp32"]) == 0
    out = capsys.readouterr().out
    assert "Proof on 48 validation, 12 test and 60 training rows" in out
    assert "f1_macro" in out
    assert f"python -m export serve {bundles['fp32']}" in out
    verify(bundles["fp32"])


def test_a_folder_that_is_no_run_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: is not a run directory")


def test_a_folder_that_is_no_bundle_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: is not a bundle")


def test_help_shows_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "python -m export serve BUNDLE" in capsys.readouterr().out
