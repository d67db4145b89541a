"""Measurements of the same work set against each other, by hand."""

from __future__ import annotations

import math

import pytest

pandas = pytest.importorskip("pandas")

from benchmarks import noise_floor  # noqa: E402

CONTEXT, AGAIN = (
    next(each for each in noise_floor.ALIKE if each.table == name) for name in ("context_attention", "moe")
)


def attention(window: int, watts: float, slower: float = 1.0):
    """Forty prompts of 64 to 2560 tokens, of which those from 640 on take a tenth of a millisecond and more."""
    isl = [64 * (i + 1) for i in range(40)]
    columns = {"batch_size": 1, "num_heads": 8, "num_key_value_heads": 8, "head_dim": 128, "step": 0,
               "kv_cache_dtype": "bfloat16", "attn_dtype": "bfloat16", "framework": "VLLM", "kernel_source": "library",
               "op_name": "context_attention", "system": "h200_sxm", "window_size": window}  # fmt: skip
    milliseconds = [length / 6400 * slower for length in isl]
    return pandas.DataFrame({"isl": isl, "latency_ms": milliseconds, "power_w": watts, **columns})


def of(*parts):
    return list(noise_floor.of_table(CONTEXT, "kernels_power", pandas.concat(parts)))


def test_a_window_wider_than_the_prompt_is_the_same_work():
    (found,) = of(attention(0, 500.0), attention(4096, 550.0), attention(32, 100.0))  # 32 of 64 tokens and more: not
    assert found["time"] == {"pairs": 40, "offset": 0.0, "apart": 0.0, "one_row": 0.0}
    assert found["power"]["pairs"] == 31  # from 640 tokens on
    assert found["power"]["offset"] == pytest.approx(math.log(1.1), abs=1e-4)
    assert found["power"]["apart"] == 0.0  # an offset between the names is no noise


def test_one_row_is_as_far_from_the_best_estimate_as_two_are_apart_over_the_root_of_two():
    noisy = attention(4096, 500.0)
    noisy["power_w"] *= [(1.2, 1.0, 1 / 1.2)[i % 3] for i in range(40)]
    power = of(attention(0, 500.0), noisy)[0]["power"]
    assert power["one_row"] == pytest.approx(power["apart"] / math.sqrt(2), abs=1e-4)
    assert power["offset"] == 0.0 and power["apart"] == pytest.approx(math.log(1.2), abs=1e-4)  # of two thirds


def test_watts_of_rows_that_took_another_time_are_not_compared():
    (found,) = of(attention(0, 500.0), attention(4096, 550.0, slower=1.1))
    assert found["time"]["offset"] == pytest.approx(math.log(1.1), abs=1e-4)
    assert found["power"] == {"pairs": 0}


def test_experts_measured_once_have_no_twin():
    table = pandas.DataFrame({name: range(40) for name in noise_floor.EXPERTS})
    table = table.assign(system="a100_sxm", latency_ms=1.0, power_w=float("nan"))
    assert not list(noise_floor.of_table(AGAIN, "kernels_latency", table))
    twice = pandas.concat([table.assign(moe_dtype="fp8"), table.assign(moe_dtype="fp8", latency_ms=2.0)])
    (found,) = noise_floor.of_table(AGAIN, "kernels_latency", twice)
    assert found["time"]["pairs"] == 40 and found["time"]["offset"] == pytest.approx(math.log(2.0), abs=1e-4)


def test_a_folder_without_kernels_says_so(tmp_path, capsys):
    assert noise_floor.main(["--data", str(tmp_path)]) == 2
    assert "no rows of the same work" in capsys.readouterr().err
