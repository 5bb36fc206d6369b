from __future__ import annotations

from typing import Any

import pytest

from backend.errors import UserError
from backend.planning.advisor import Machine, Plan, plan
from backend.sources import SAMPLE_MODEL
from backend.spec import JobSpec, parse_job
from webui.plan_view import other_cells, parse_bytes, plan_html, term_cells, verdict

GB = 10**9


def a_job(**settings: Any) -> JobSpec:
    given = {"model": SAMPLE_MODEL, "data": {"train": "t.csv"}, "precision": "fp32", **settings}
    given["task"] = {"name": "text-classification", "max_length": 128}
    return parse_job(given)


def planned(memory: float, ranks: int = 2, device: str = "cpu", **settings: Any) -> Plan:
    return plan(a_job(**settings), ranks, Machine(device, memory))


def test_the_fastest_that_fits_is_chosen() -> None:
    roomy, tight = planned(64 * GB), planned(1.3 * GB)
    assert roomy.current.fits
    assert roomy.best == roomy.others[0]
    assert not tight.current.fits
    assert tight.best is not None
    assert tight.best.bytes <= 1.3 * GB
    assert all(not one.fits for one in tight.others if one.cost < tight.best.cost)
    assert planned(0.1 * GB).best is None


def test_less_is_kept_with_more_processes_higher_stages_and_smaller_parts() -> None:
    def states(stage: str, ranks: int) -> float:
        terms = planned(0, ranks, deepspeed=stage, schedule={"batch_size": 64}).current.terms
        return sum(term.bytes for term in terms if term.name in {"weights", "gradients", "optimizer"})

    assert states("zero0", 2) == states("zero0", 8)
    assert states("zero1", 8) < states("zero1", 2) < states("zero0", 2) * 1.25
    assert states("zero3", 8) < states("zero2", 8) < states("zero1", 8)
    whole, halves = (
        planned(0, 1, schedule={"batch_size": 32, "accumulation_steps": parts}).current.bytes for parts in (1, 2)
    )
    assert halves < whole
    again = planned(0, 1, schedule={"batch_size": 32, "activation_checkpointing": True}).current.bytes
    assert again < whole


def test_what_is_offloaded_leaves_a_gpu_and_not_the_memory_of_a_cpu() -> None:
    def optimizer(device: str, name: str) -> float:
        terms = planned(0, 2, device, deepspeed=name).current.terms
        return sum(term.bytes for term in terms if term.name == "optimizer")

    assert optimizer("cuda", "zero2_offload") == 0
    assert optimizer("cpu", "zero2_offload") > 0
    assert optimizer("cpu", "zero3_nvme") == 0


def test_weights_that_do_not_move_have_no_gradients() -> None:
    all_move = planned(0, 1).current
    few = plan(a_job(), 1, Machine("cpu", 0), trainable=100_000).current
    assert few.bytes < all_move.bytes - 0.25 * GB


def test_the_norm_of_the_gradient_counts_where_it_takes_more_than_a_pass_has_given_back() -> None:
    def norm(rows: int, **more: Any) -> float:
        terms = planned(0, schedule={"batch_size": rows}, **more).current.terms
        return sum(term.bytes for term in terms if term.name == "norm")

    assert norm(2) > norm(4) == 0
    assert norm(2, deepspeed="zero0") == norm(2, deepspeed="zero3") == 0


def test_weights_that_are_cast_leave_half_of_their_place_idle_on_a_cpu() -> None:
    def cast(device: str, **more: Any) -> float:
        terms = planned(0, 2, device, **more).current.terms
        return sum(term.bytes for term in terms if term.name == "cast")

    assert cast("cpu", precision="bf16") == pytest.approx(2 * 22.7e6, rel=0.01)  # MiniLM's weights, 2 bytes of 4 each
    assert cast("cuda", precision="bf16") == cast("cpu") == cast("cpu", precision="bf16", deepspeed="zero3") == 0


def test_one_process_on_a_gpu_may_keep_state_in_the_memory_of_the_host() -> None:
    def files(device: str, **more: Any) -> set[str]:
        return {str(one.changes["deepspeed"]) for one in planned(0, 1, device, **more).others}

    assert files("cpu") == {"zero2"}
    assert (
        files("cuda")
        == files("cuda", deepspeed="zero2_offload")
        == {
            "zero2",
            "zero2_offload",
            "zero3_nvme",
            "zero3_offload",
        }
    )
    plain, moved = (planned(0, 1, "cuda", deepspeed=name).current for name in ("zero2", "zero2_offload"))
    assert moved.cost > plain.cost
    assert "zero2" not in plain.title
    assert moved.title.startswith("zero2_offload, ")


def test_what_is_kept_on_other_devices_is_told() -> None:
    def kept(device: str, name: str) -> dict[str, float]:
        return planned(0, 1, device, deepspeed=name, precision="bf16").current.elsewhere

    weights = 22.9e6  # MiniLM's and a head's
    assert kept("cuda", "zero2") == kept("cpu", "zero2_offload") == {}
    assert kept("cuda", "zero2_offload") == {"cpu": pytest.approx((2 + 12) * weights, rel=0.01)}
    assert kept("cuda", "zero3_offload") == {"cpu": pytest.approx((2 + 2 + 12) * weights, rel=0.01)}
    assert kept("cpu", "zero3_nvme") == {"nvme": pytest.approx((2 + 2 + 12) * weights, rel=0.01)}
    small = planned(0.9 * GB, 1, "cuda", precision="bf16", schedule={"batch_size": 1})
    assert any(row[0].endswith(" in the memory of the host") for row in other_cells(small))


def test_a_gpu_computes_in_half_precision_where_the_job_does_not_say() -> None:
    as_it_likes, full = (planned(0, 1, "cuda", precision=precision).current.bytes for precision in ("auto", "fp32"))
    assert as_it_likes < full
    assert as_it_likes == planned(0, 1, "cuda", precision="bf16").current.bytes


def test_every_term_says_where_it_comes_from() -> None:
    for device in ("cpu", "cuda"):
        for term in planned(0, device=device).current.terms:
            assert term.how
            assert "arXiv" in term.source or "measured" in term.source


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        (0, "is not known; say it"),
        (64 * GB, "The job as it is fits into 64.0 GB"),
        (1.3 * GB, "does not fit into 1.3 GB of each process. The fastest that does takes"),
        (0.1 * GB, "Nothing fits into 100 MB of each process; take more processes"),
    ],
)
def test_what_follows_is_said(memory: float, words: str) -> None:
    found = planned(memory)
    assert words in verdict(found)
    assert words.split("<", maxsplit=1)[0] in plan_html(found)
    assert term_cells(found.current)[-1][0] == "peak"
    assert {row[2] for row in other_cells(found)} <= {"?", "yes", "no", "fastest"}


@pytest.mark.parametrize(
    ("text", "amount"), [("80gb", 80e9), ("512 MiB", 2**29), ("1.5gb", 1.5e9), ("100", 100.0), ("2TB", 2e12)]
)
def test_an_amount_of_memory_is_read(text: str, amount: float) -> None:
    assert parse_bytes(text) == amount


def test_what_is_no_amount_is_told() -> None:
    with pytest.raises(UserError, match=r'"much" is no amount of memory; write it as 16gb or 512mb'):
        parse_bytes("much")
