from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.layers import Layer, LayerTable, Layout
from webui.cli import app
from webui.layers_view import explained, layers_html, size

TABLE = LayerTable(
    layers=(
        Layer(name="embeddings", parameters=1000, trainable=0, weights=2000),
        Layer(name="<layer>", parameters=3000, trainable=1000, weights=6000, gradients=2000, optimizer=12000),
    ),
    layout=Layout(ranks=2, stage=2, precision="bf16", launched=True, offload={"optimizer": "cpu"}),
)


def test_the_page_shows_the_sums_and_a_row_for_each_part() -> None:
    shown = layers_html(TABLE)
    assert "4,000" in shown
    assert "1,000 (25.0%)" in shown
    assert "22.0 kB" in shown
    assert "&lt;layer&gt;" in shown
    assert shown.count("<tr>") == 4


def test_the_bytes_are_explained() -> None:
    assert "ZeRO stage 2 over 2 processes, bf16, Adam with the optimizer kept on cpu." in explained(TABLE.layout)
    assert "one process, fp32, Adam." in explained(Layout())


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (150_000, "150 kB"), (2.5e13, "25.0 TB")]
)
def test_bytes_are_written_for_people(amount: float, shown: str) -> None:
    assert size(amount) == shown


def test_the_command_takes_the_flags_of_a_job(tiny_model: Path, tiny_data: Path) -> None:
    flags = ["--model", tiny_model, "--data.train", tiny_data, "--task.max_length", 32, "--tuning.name", "freeze"]
    result = CliRunner().invoke(app, ["layers", *map(str, flags), "--tuning.layers", "1"])
    assert result.exit_code == 0, result.stderr
    assert "encoder.layer.1" in result.stdout
    assert "one process" in result.stdout


def test_the_command_says_what_is_wrong() -> None:
    result = CliRunner().invoke(app, ["layers", "--model", "m"])
    assert result.exit_code == 2
    assert "data: is missing" in result.stderr
