"""A bundle is refused unless every file is what the manifest says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from backend.errors import UserError
from backend.files import sha256
from export.manifest import NAME, read_manifest, verify
from export.predict import OnnxPredictor


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["int8"], tmp_path / "bundle"))


def test_a_copied_bundle_verifies(bundle: Path) -> None:
    manifest = verify(bundle)
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "tokenizer_config.json"}
    assert manifest.labels == ("bad", "good")
    assert manifest.task.name == "text-classification"
    assert manifest.columns == ("text", "label")
    assert manifest.opset == 23
    assert set(manifest.proof.figures) == {"torch", "fp32", "int8"}
    assert manifest.files["model.onnx"].bytes == (bundle / "model.onnx").stat().st_size


def test_a_changed_file_is_named_with_both_digests(bundle: Path) -> None:
    before = sha256(bundle / "tokenizer.json")
    with (bundle / "tokenizer.json").open("a") as file:
        file.write(" ")
    after = sha256(bundle / "tokenizer.json")
    with pytest.raises(UserError, match=rf"tokenizer\.json: was changed .*{after[:12]}.*{before[:12]}"):
        OnnxPredictor(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model\.onnx is missing"):
        verify(bundle)


def test_a_file_that_is_not_listed_is_named(bundle: Path) -> None:
    (bundle / "model.onnx.data").write_text("")
    with pytest.raises(UserError, match=r"model\.onnx\.data does not belong to the bundle"):
        verify(bundle)


def test_what_a_file_manager_leaves_does_no_harm(bundle: Path) -> None:
    (bundle / ".DS_Store").write_text("")
    verify(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a bundle"):
        read_manifest(tmp_path)


def test_a_manifest_of_another_version_names_the_key(bundle: Path) -> None:
    content = json.loads((bundle / NAME).read_text())
    (bundle / NAME).write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(UserError, match="version: Input should be 1"):
        read_manifest(bundle)
