"""Claims of arXiv 2601.22076 by prediction alone: what measuring found of served models, asked of the shipped engines.

The whole table, measured beside predicted: `python -m benchmarks.claims`. A factor counts as found within a third.
"""

from __future__ import annotations

import os
import statistics
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytest.importorskip("scipy")

from benchmarks import claims  # noqa: E402
from wattir.device import load_device  # noqa: E402
from wattir.serving_model import Deployment, Request  # noqa: E402
from wattir.serving_report import Load, ServingReport, serve  # noqa: E402

CHAT, PROBLEMS, CODE = Request(500, 700), Request(300, 7000), Request(2000, 256)
R1, OSS = "deepseek-ai/DeepSeek-R1-0528", "openai/gpt-oss-120b"
DENSE, SPARSE = "Qwen/Qwen3-32B", "Qwen/Qwen3-30B-A3B-Thinking-2507"
THIRD = 1.0 / 3.0


def served(model: str, request: Request, batch: float, device: str = "b200_sxm", **how: Any) -> ServingReport:
    return serve(model, load_device(device), request, Load(batch), Deployment(**how))


def test_solving_a_problem_takes_25_times_the_joules_of_a_chat() -> None:
    problem, chat = served(DENSE, PROBLEMS, 128), served(DENSE, CHAT, 512)

    assert problem.request_j / chat.request_j == pytest.approx(25.2, rel=THIRD)


@pytest.mark.parametrize(("model", "request_", "few", "many", "factor", "how"), [
    (R1, Request(300, 11_000), 16, 128, 2.99, {"tp_size": 8, "ep_size": 8}),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", CODE, 16, 1024, 5.44, {}),
])  # fmt: skip
def test_larger_batches_save(
    model: str, request_: Request, few: int, many: int, factor: float, how: dict[str, Any]
) -> None:
    small, large = (served(model, request_, batch, **how) for batch in (few, many))

    assert small.token_j / large.token_j == pytest.approx(factor, rel=THIRD)


def test_experts_save_what_they_do_not_touch() -> None:
    """3.56 times as measured, where a busy host kept the dense model waiting for longer than its rows explain."""
    dense, sparse = served(DENSE, PROBLEMS, 128), served(SPARSE, PROBLEMS, 512)

    assert 2.0 < dense.token_j / sparse.token_j < 5.0


def test_memory_for_a_larger_batch_is_worth_a_second_device() -> None:
    one, two = served(OSS, PROBLEMS, 64, "h100_sxm"), served(OSS, PROBLEMS, 2048, "h100_sxm", tp_size=2, ep_size=2)

    assert one.token_j / two.token_j == pytest.approx(3.12, rel=0.5)


@pytest.mark.parametrize("device", ["b200_sxm", "h100_sxm"])
@pytest.mark.parametrize("batch", [8, 128])
def test_more_devices_at_the_same_batch_cost_more(device: str, batch: int) -> None:
    found = [served("Qwen/Qwen3-14B", CHAT, batch, device, tp_size=tp).token_j for tp in (1, 2, 4)]

    assert found == sorted(found)


def test_b200_mostly_takes_less_within_the_same_latency() -> None:
    """In 63 of 72 comparisons, by 35 % in the median, each machine with as many devices as suit it."""
    ratios = []
    for model in (DENSE, "Qwen/Qwen3-8B", "Qwen/Qwen3-14B", SPARSE, OSS):
        least = {}
        for device in ("h100_sxm", "b200_sxm"):
            found = [served(model, CHAT, batch, device, tp_size=tp) for batch in (16, 64, 256, 512) for tp in (1, 2)]
            least[device] = min(each.token_j for each in found if each.tpot_s < 0.05)
        ratios.append(least["b200_sxm"] / least["h100_sxm"])

    assert sum(ratio < 1.0 for ratio in ratios) >= 4
    assert 0.5 < statistics.median(ratios) < 0.95


def rows(*values: tuple[str, str, int, int, float]) -> Any:
    names = ["model_id", "gpu_model", "num_gpus", "max_num_seqs", "j"]
    return pd.DataFrame(values, columns=names).assign(task="gpqa")


def test_devices_are_counted_pair_by_pair() -> None:
    table = rows(
        ("m", "B200", 1, 8, 1.0), ("m", "B200", 2, 8, 1.5), ("m", "B200", 4, 8, 1.4), ("m", "B200", 1, 64, 9.0)
    )

    assert claims.of_devices("B200")(table) == (1.0, 2.0)


def test_precision_is_compared_at_the_same_batch() -> None:
    table = rows(("m-FP8", "H100", 8, 8, 1.3), ("m", "H100", 8, 8, 1.0), ("m-FP8", "H100", 8, 128, 0.9),
                 ("m", "H100", 8, 128, 1.0), ("m", "H100", 8, 256, 5.0), ("m-FP8", "H100", 8, 32, 1.0),
                 ("m", "H100", 8, 32, 1.0))  # fmt: skip

    assert claims.of_precision(table) == pytest.approx((30.0, 0.0, -10.0))


@pytest.mark.skipif("WATTIR_DATA" not in os.environ, reason="needs the measured sets")
def test_every_claim_has_numbers_measured_and_predicted() -> None:
    found = claims.tables(os.environ["WATTIR_DATA"], left_out=False)

    for claim in claims.CLAIMS:
        numbers = {source: claim.ask(table) for source, table in found.items()}
        assert set(numbers) == {"measured", "predicted"}
        assert all(np.isfinite(some).all() for some in numbers.values()), claim.name
    batch = next(claim for claim in claims.CLAIMS if claim.name.startswith("DeepSeek"))
    assert batch.ask(found["measured"]) == pytest.approx((7.12, 2.38, 2.99), rel=0.01)


def test_a_folder_without_the_set_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert claims.main(["--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
