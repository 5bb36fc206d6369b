from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import UserError
from backend.search_dir import Results, SearchDir, SearchSpec, TrialResult
from backend.spec import parse_job
from webui.search_command import search_command, split_flags


def test_what_is_searched_is_told_from_the_flags_of_the_job() -> None:
    given = ["--sample", "ner", "--search.tuning.layers", "1,2", "--search.schedule.epochs=1..3", "--seed", "1"]
    space, others = split_flags(given)
    assert space == {"tuning.layers": "1,2", "schedule.epochs": "1..3"}
    assert others == ["--sample", "ner", "--seed", "1"]
    with pytest.raises(UserError, match=r"--search\.seed: needs what it may be: a range"):
        split_flags(["--search.seed", "--sample", "ner"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--name", "lost"], "lost: there is no such search; start one: tunewright search --name lost"),
        (["--name", "lost", "--show"], "lost: has no trials"),
        (["--parallel", "0"], "--parallel is 0; it must be 1 or more"),
        (["--model", "m", "--data.train", "t.csv"], "there is nothing to search"),
        (["--model", "m", "--data.train", "t.csv", "--search.seeds", "1,2"], 'did you mean "seed"'),
        (["--model", "m", "--search.seed", "1,2"], "data: is missing"),
    ],
)
def test_what_is_wrong_is_said_before_a_run_is_made(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        search_command([*flags, "--workspace", str(tmp_path)])
    assert not list(tmp_path.glob("*/job.json"))


def test_what_was_found_is_shown_the_best_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SearchDir.of(tmp_path, "seeds")
    folder.write_spec(SearchSpec(job=parse_job({"model": "m", "data": {"train": "t.csv"}}), space={"seed": "1,2"}))
    trials = [
        TrialResult(number=number, state="complete", run=f"run-{number}", value=value, settings={"seed": number})
        for number, value in enumerate((0.25, 0.75))
    ]
    results = Results(metric="f1", lower_is_better=False, trials=tuple(trials), importance={"seed": 1.0})
    folder.write_results(results)
    search_command(["--name", "seeds", "--show", "--workspace", str(tmp_path)])
    shown = capsys.readouterr().out
    assert shown.index("0.7500") < shown.index("0.2500")
    assert "seed 100%" in shown
    assert "best.json" in shown.replace("\n", "")
