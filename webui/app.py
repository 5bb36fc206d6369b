"""The web app.

tunewright ui [--host 127.0.0.1] [--port 7860] [--workspace runs]
python webui/app.py            the same with the defaults; this is how a Hugging Face Space starts it
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __package__ in (None, ""):  # run by path: the repository root belongs on sys.path, webui/ does not
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(p for p in sys.path if Path(p).resolve() != here)]
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from webui import export_tab, predict_tab, runs_tab, train_tab
from webui.shared import QUIET, Shared
from webui.visitors import LOOPBACK

WORKSPACE = Path("runs")
HOST, PORT = "127.0.0.1", 7860
UPLOAD_LIMIT = "1gb"
CSS = Path(__file__).with_name("page.css")
TABS = ("train", "runs", "predict", "export")
BRAND = """<div class="tw-brand"><h1>tune<i>wright</i></h1>
<span>From a pretrained transformer and your own data to a proven model.</span></div>"""

# The address says what is shown, so that a reload, a bookmark and a colleague find the same.
REMEMBER = """(value) => {
  if (!window.tunewright) return;  // until the first address was read
  const url = new URL(window.location);
  if (value) url.searchParams.set('NAME', value); else url.searchParams.delete('NAME');
  window.history.replaceState(null, '', url);
}"""
RECALL = """() => {
  const asked = new URL(window.location).searchParams;
  window.tunewright = true;
  return [asked.get('tab') || '', asked.get('run') || ''];
}"""


def theme() -> gr.themes.Base:
    """Return the look: the fonts of the system, so that nothing is fetched from elsewhere."""
    return gr.themes.Base(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        font=("system-ui", "-apple-system", "Segoe UI", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "monospace"),
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
        input_border_width="1px",
        input_border_color="*neutral_200",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_border_width="1px",
    )


def build_app(workspace: Path, *, open_to_others: bool = False) -> gr.Blocks:
    """Return the page over a workspace, the folder of the runs."""
    workspace = workspace.resolve()
    with gr.Blocks(title="tunewright", analytics_enabled=False, delete_cache=(3600, 86400)) as drawn:
        gr.HTML(BRAND, js_on_load=None)
        run, asked = gr.Textbox(visible=False), gr.Textbox(visible=False)
        with gr.Tabs(selected="train") as tabs:
            shared = Shared(workspace, tabs, run, open_to_others)
            with gr.Tab("Train", id="train") as train:
                train_tab.build(shared)
            with gr.Tab("Runs", id="runs") as runs:
                runs_tab.build(shared)
            with gr.Tab("Predict", id="predict") as predict:
                predict_tab.build(shared, predict)
            with gr.Tab("Export", id="export") as export:
                export_tab.build(shared, export)
        for name, tab in zip(TABS, (train, runs, predict, export), strict=True):
            tab.select(None, js=f"() => ({_remember('tab')})('{name}')", **QUIET)
        run.change(None, run, js=_remember("run"), **QUIET)
        drawn.load(_remembered, [asked, run], [tabs, run], js=RECALL, **QUIET)
    page: gr.Blocks = drawn
    return page


def _remember(name: str) -> str:
    return REMEMBER.replace("NAME", name)


def _remembered(tab: str, run: str) -> tuple[gr.Tabs, str]:
    """Open what the address names."""
    return gr.Tabs(selected=tab if tab in TABS else TABS[0]), Path(run).name


def main(host: str = "", port: int = PORT, workspace: Path = WORKSPACE, upload_limit: str = UPLOAD_LIMIT) -> None:
    """Serve the page until it is interrupted."""
    host = host or ("0.0.0.0" if "SPACE_ID" in os.environ else HOST)  # noqa: S104 - a Space is reached from outside
    workspace.mkdir(parents=True, exist_ok=True)
    build_app(workspace, open_to_others=host not in LOOPBACK).launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        max_file_size=upload_limit,
        footer_links=[],
        theme=theme(),
        css_paths=CSS,
        show_error=True,
    )


if __name__ == "__main__":
    main()
