from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, folder: Path) -> str:
    """Run code in a Python of its own, in a folder that is not the repository."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_is_built_without_torch_and_without_a_word_home(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from webui.app import build_app; import gradio\n"
        "page = build_app(Path('runs'))\n"
        "print(sorted({'torch', 'transformers', 'deepspeed', 'datasets'} & set(sys.modules)), page.analytics_enabled)"
    )
    assert python(code, tmp_path).strip() == "[] False"


def test_no_event_of_the_page_is_an_open_api(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from webui.app import build_app\n"
        "page = build_app(Path('runs'))\n"
        "print({str(event.api_visibility) for event in page.fns.values()})"
    )
    assert python(code, tmp_path).strip() == "{'private'}"


def test_the_look_names_no_font_of_another_machine(tmp_path: Path) -> None:
    code = "from webui.app import theme; print('@import' in theme()._get_theme_css(), theme()._stylesheets)"
    assert python(code, tmp_path).strip() == "False []"


@pytest.mark.parametrize(("space", "host"), [("", "127.0.0.1"), ("someone/space", "0.0.0.0")])  # noqa: S104
def test_run_by_path_it_listens_here_and_on_a_space_to_everybody(tmp_path: Path, space: str, host: str) -> None:
    code = (
        "import runpy, sys, gradio\n"
        "gradio.Blocks.launch = lambda self, **given: print(given['server_name'], given['share'])\n"
        f"sys.path[0] = {str(ROOT / 'webui')!r}\n"
        f"runpy.run_path({str(ROOT / 'webui' / 'app.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **({"SPACE_ID": space} if space else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [host, "False"], done.stderr
