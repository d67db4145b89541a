"""Served models: the formulas by hand, what must hold of any load, physics of the cache, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wattir
from wattir.cli import main
from wattir.device import device_from_text, load_device
from wattir.device_text import device_text
from wattir.errors import DeviceError, InputError, SizeError
from wattir.frontends.configs import decoder_graphs, footprint, forward_graph, load_config, phase
from wattir.machine import ROW_CONSTANTS
from wattir.serving import FACTORS, Shape, busiest, engine_on, mixed_cost, step_cost
from wattir.serving_engine import PARTS, Engine
from wattir.serving_model import Deployment, Request, Served
from wattir.serving_report import Load, report, run_lane, serve
from wattir.serving_steps import Demand, Routing, pads, step_kernels

H100 = load_device("h100_sxm")
QWEN = "Qwen/Qwen3-8B"
PLAIN = Engine(
    "made_up", dict.fromkeys(PARTS, 1.0), dict.fromkeys(PARTS, 1.0), layer_s=1e-5, scan_layer_s=0.0, link_s=2e-6,
    link_bytes_per_s=1e11, host_step_s=1e-3, host_layer_s=0.0, host_text_s=1e-5, overlap=1.0, static_w=100.0,
    gap_w=50.0, link_w=30.0, uneven=0.5, packed_experts=3.0, packed_j=1.0, interval=0.2,
)  # fmt: skip


def shape(**changes: float) -> Shape:
    return Shape(**{"layers": 10, "scan_layers": 0, "packed": 0.0, "busiest": 0.0, **changes})


def demand(**seconds: float) -> Demand:
    found = Demand(links=20, link_bytes=1e6)
    found.time_s.update(seconds)
    found.weights_j["dense"] = 0.3
    return found


def test_a_step_by_hand():
    cost = step_cost(PLAIN, H100, shape(), demand(dense=2e-3), texts=8)
    link_s = 20 * 2e-6 + 1e6 / 1e11  # 50 us
    device_s = 2e-3 + 10 * 1e-5 + link_s  # 2.15 ms
    host_s = 1e-3 + 8 * 1e-5  # overlap 1: nothing hides, 1.08 ms more
    assert cost.device_s == pytest.approx(device_s) and cost.time_s == pytest.approx(device_s + host_s)
    assert cost.energy_j["weights"] == pytest.approx(0.3)
    assert cost.energy_j["communication"] == pytest.approx(30 * link_s)
    assert cost.energy_j["idle"] == pytest.approx(100 * device_s + 50 * 1e-4)
    assert cost.energy_j["host"] == pytest.approx(100 * host_s)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [({"packed": 1.0}, 3.0), ({"busiest": 2.0}, 2.0), ({"packed": 1.0, "busiest": 2.0}, 6.0)],
)
def test_experts_take_longer_where_packed_or_uneven(changes, factor):
    plain, found = (
        step_cost(PLAIN, H100, shape(**each), demand(experts=1e-3), texts=1).device_s for each in ({}, changes)
    )
    assert found - plain == pytest.approx((factor - 1) * 1e-3)


def test_a_board_draws_no_more_than_its_limit():
    hungry = demand(dense=1e-3)
    hungry.weights_j["dense"] = 10.0  # 10 J in about 2 ms
    cost = step_cost(PLAIN, H100, shape(), hungry, texts=1)
    assert cost.joules / cost.time_s == pytest.approx(0.985 * 700)


def test_an_average_step_is_between_its_kinds_and_beyond_where_prompts_take_more_steps():
    pure, mixed = (step_cost(PLAIN, H100, shape(), demand(dense=s), texts=1) for s in (1e-3, 3e-3))
    half, double = mixed_cost(pure, mixed, 0.5), mixed_cost(pure, mixed, 2.0)
    assert half.time_s == pytest.approx((pure.time_s + mixed.time_s) / 2)
    assert double.joules == pytest.approx(2 * mixed.joules)  # each prompt fills two steps


def test_the_busiest_of_many_stands_out_more():
    assert busiest(1) == pytest.approx(0.0)
    assert busiest(8) == pytest.approx(1.42, abs=0.02)  # expected largest of 8 normals


def test_texts_of_one_kind_reach_fewer_experts():
    routing = Routing(128, 8, 1)
    assert routing.alike(1) == pytest.approx(1.0)
    reached = [(1 - (1 - 8 / 128) ** n) for n in (64**0.8, 64)]
    assert routing.alike(64) == pytest.approx(reached[0] / reached[1], rel=1e-3)
    assert routing.alike(10_000) == pytest.approx(1.0, abs=1e-6)  # all are reached anyway


def test_rows_that_pad_experts_in_blocks_of_8_bits():
    """vLLM's compute_aligned_M: chosen * tokens, 1 / spread of them its own, and 127 for each expert of the device."""
    alone, spread = (Routing(128, 8, 1, "fp8", ep) for ep in (1, 4))
    assert alone.padding(8) == alone.padding(512) == 127 * 128
    assert spread.padding(8) == 127 * 32 + 8 * 8 * 3 / 4
    assert Routing(128, 8, 4, "fp8", 4).padding(8) == 127 * 32 + 4 * 8 * 8 * 3 / 4  # tokens of all four groups
    assert not pads(load_device("h100_sxm"), "fp8_channel") and not pads(load_device("a100_sxm"), "fp8")


@pytest.mark.parametrize(("device", "weights", "pads"), [
    ("h100_sxm", "fp8", True), ("b200_sxm", "fp8", True), ("l40s", "fp8", False), ("h100_sxm", "bf16", False),
])  # fmt: skip
def test_padding_is_arithmetic_alone(device, weights, pads):
    """127 rows for each of 128 experts of 48 layers, of products [2 * 768, 2048] and [2048, 768]; the units that
    multiply them draw what running units draw."""
    how = Deployment(weights=weights)
    served = Served("Qwen/Qwen3-30B-A3B-Instruct-2507", load_device(device), how)
    bare = Served("Qwen/Qwen3-30B-A3B-Instruct-2507", load_device(device), how)
    bare.products.padded = False
    with_rows, without = (one.products.demand("tokens", 8, batch=8, past=0) for one in (served, bare))
    flop = 2 * 127 * 128 * 3 * 768 * 2048 * 48 * pads
    found_s = with_rows.time_s["padding"] - without.time_s["padding"]
    assert found_s == pytest.approx(flop * served.products.dense["s_per_flop"], abs=1e-12)
    found_j = with_rows.compute_j["padding"] - without.compute_j["padding"]
    busy_w = load_device(device).coefficients.busy_w
    assert found_j == pytest.approx(flop * served.products.dense["j_per_flop"] + busy_w * found_s, abs=1e-9)
    assert with_rows.volume["flop"] - without.volume["flop"] == pytest.approx(flop)
    assert with_rows.volume["weight_bytes"] == without.volume["weight_bytes"]
    assert with_rows.weights_j == without.weights_j


def test_lanes_that_share_experts_wait_for_the_prompts_of_each_other():
    shares = [
        Served("Qwen/Qwen3-30B-A3B-Instruct-2507", H100, Deployment(ep_size=ep)).steps(4, Request(500, 400)).share
        for ep in (1, 4)
    ]
    assert shares[1] == pytest.approx(1 - (1 - shares[0]) ** 4)


def test_8_bits_cost_more_joules_in_small_batches_alone():
    """ML.ENERGY v3: Qwen3-235B on 8 H100 takes 1.56 times the joules at 8 texts, and 0.88 times at 64."""
    request, both = Request(600, 870), ("Qwen/Qwen3-235B-A22B-Instruct-2507", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8")
    ratio = []
    for batch in (8, 64):
        wide, narrow = (serve(name, H100, request, Load(batch), Deployment(8, 8)).token_j for name in both)
        ratio.append(narrow / wide)
    assert ratio[0] == pytest.approx(1.56, rel=0.15) and ratio[1] == pytest.approx(0.88, rel=0.3)


def test_tokens_of_a_step_with_guesses():
    assert Request(100, 100, draft=2, acceptance=0.5).gain == pytest.approx(1 + 0.5 + 0.25)
    assert Request(100, 100).gain == 1.0


def test_context_of_a_running_text():
    assert Request(100, 80).mean_context == pytest.approx(100 + 40)
    spread = Request(100, 80, osl_spread=1.0)  # long ones run longer: E[L^2] / (2 E[L]) = 80 (1 + 1) / 2
    assert spread.mean_context == pytest.approx(100 + 80)


def test_memory_by_hand():
    served = Served(QWEN, H100, Deployment())
    free = 0.9 * 85899345920 - served.footprint.weight_bytes
    each = 36 * 2 * 8 * 128 * 2 * 662  # layers, keys and values, heads, head size, bf16, 512 + 300 / 2 tokens
    assert served.footprint.weight_bytes == pytest.approx(2 * 8.19e9, rel=1e-3)
    assert served.most_texts(Request(512, 300)) == int(free / each)


@settings(max_examples=15)
@given(
    st.integers(1, 4000), st.integers(1, 3000), st.integers(1, 400), st.sampled_from([(1, 1), (2, 1), (4, 4), (1, 4)])
)
def test_joules_add_up_and_power_is_joules_times_rate(isl, osl, concurrency, sizes):
    tp, ep = sizes
    found = serve("Qwen/Qwen3-30B-A3B-Instruct-2507", load_device("b200_sxm"), Request(isl, osl), Load(concurrency),
                  Deployment(tp_size=tp, ep_size=ep))  # fmt: skip
    assert sum(found.factors.values()) == pytest.approx(found.request_j)
    assert all(joules >= -1e-9 for phase in found.energy_j.values() for joules in phase.values())
    assert found.power_w == pytest.approx(found.request_j * found.requests_per_s)
    assert found.power_w <= found.deployment.devices * 1000
    assert set(found.factors) == set(FACTORS)


def test_larger_batches_cost_less_a_token_and_take_longer():
    found = [serve(QWEN, H100, Request(512, 300), Load(batch)) for batch in (1, 8, 64, 256)]
    assert [each.token_j for each in found] == sorted((each.token_j for each in found), reverse=True)
    assert [each.tpot_s for each in found] == sorted(each.tpot_s for each in found)


def test_a_cached_prefix_saves_prefill_alone():
    whole, cached = (serve(QWEN, H100, Request(2000, 200, prefix=p), Load(32)) for p in (0, 1900))
    assert sum(cached.energy_j["prefill"].values()) < 0.2 * sum(whole.energy_j["prefill"].values())
    assert cached.ttft_s < whole.ttft_s


def test_accepted_guesses_save_time_at_small_batches():
    plain, drafted = (
        serve(QWEN, H100, Request(500, 200, **more), Load(1)) for more in ({}, {"draft": 3, "acceptance": 0.8})
    )
    assert drafted.tpot_s < 0.5 * plain.tpot_s  # 2.95 tokens a step, for reading the weights once


def test_the_batch_follows_from_the_arrival_rate():
    served, engine, request = Served(QWEN, H100, Deployment()), engine_on(H100), Request(512, 300)
    by_rate = report(served, engine, request, Load(rate=10.0))
    assert by_rate.requests_per_s == pytest.approx(10.0)
    same = report(served, engine, request, Load(by_rate.running))
    assert same.requests_per_s == pytest.approx(10.0, rel=0.01)
    rare = report(served, engine, request, Load(rate=0.01))  # a request in 100 s: the board idles at static power
    assert rare.energy_j["decode"]["idle"] == pytest.approx(engine.static_w * 100, rel=0.05)


@pytest.mark.parametrize("device", ["h100_sxm", "b200_sxm", "h200_sxm"])
def test_narrow_weights_are_read_no_slower_than_wide_ones(device):
    """Half the bytes: a step at a small batch, bound by memory, is shorter."""
    machine = load_device(device)
    wide, narrow = (
        Served(QWEN, machine, Deployment(weights=held)).steps(4.0, Request(100, 100)).pure.time_s["dense"]
        for held in ("bf16", "fp8_channel")
    )
    assert 0.4 < narrow / wide < 0.75


@pytest.mark.parametrize("device", ["h100_sxm", "b200_sxm"])
def test_experts_of_4_bits_run_as_the_kernels_of_the_server(device):
    model, machine = "openai/gpt-oss-120b", load_device(device)
    packed, wide = (Served(model, machine, Deployment(tp_size=4, weights=held)) for held in (None, "bf16"))
    own = [row for part, row, _ in packed.products.groups["tokens"][0] if part == "experts"]
    assert own and all(row[ROW_CONSTANTS.index("time_at")] >= 0.0 for row in own)  # learned from them
    seconds = [served.steps(512.0, Request(300, 2000)).pure.time_s["experts"] for served in (packed, wide)]
    assert seconds[0] < seconds[1]


def test_what_memory_does_not_hold_waits():
    found = serve(QWEN, H100, Request(20_000, 300), Load(100))
    assert found.running == found.most_running < 100 and found.queue_s > 0.0
    assert "wait" in found.warnings[0]


@pytest.mark.parametrize(("model", "low", "high"), [(QWEN, 1.0, 1.07), ("meta-llama/Llama-2-7b-hf", 1.15, 1.8)])
def test_joules_of_decoding_rise_with_context_where_every_head_has_its_keys(model, low, high):
    """arXiv 2602.05712: at 5k context multi-head models cost 1.5 times as much, grouped-query ones up to 7 % more."""
    served, engine = Served(model, H100, Deployment()), engine_on(H100)
    short, long = (
        sum(run_lane(served, engine, Request(isl, 2), 1.0).energy_j["decode"].values()) for isl in (100, 5000)
    )
    assert low < long / short < high


@pytest.mark.parametrize("model", ["Qwen/Qwen3-30B-A3B-Instruct-2507", "deepseek-ai/DeepSeek-V3.1"])
@pytest.mark.parametrize("name", ["prefill", "decode"])
def test_what_follows_the_context_is_the_same_however_weights_lie(model, name):
    """Plans ask for these kernels once for all ways to hold and to share weights."""
    plain, other = (
        step_kernels(phase(load_config(model), name, **how)[0], ("context",)).groups["context"][0]
        for how in ({"tp": 4}, {"tp": 4, "ep": 8, "weights": "int4"})
    )
    assert plain == other and {work.kind for work in plain} == {"attention"}


def one_by_one(model):
    """Joules of a step of one text behind so many tokens, and of a prompt of 2,048, on an A10 without a server."""
    config = load_config(model)
    step = wattir.compile(decoder_graphs(config)[1], device="a10")
    whole = wattir.compile(forward_graph(config), device="a10")(batch=1, seq=2048).energy_j
    return [step(batch=1, past=past).energy_j for past in (100, 5000)], whole, footprint(config).weight_bytes


def test_phases_on_an_a10_are_as_measured():
    """arXiv 2602.05712, batch 1: decode of Qwen2.5-7B takes 352 pJ a byte of weights, prefill 2.2 to 3.0 pJ for each of
    2 FLOP a parameter and token; at 5k context grouped-query models stay within 7 %, multi-head ones rise with it."""
    (short, long), whole, weight_bytes = one_by_one("Qwen/Qwen2.5-7B-Instruct")
    assert short / weight_bytes == pytest.approx(352e-12, rel=0.15)
    assert whole / (weight_bytes * 2048) == pytest.approx(2.6e-12, rel=0.25)  # 2 bytes and 2 FLOP a parameter
    assert 1.0 < long / short < 1.07
    (first, last), _, _ = one_by_one("meta-llama/Llama-2-7b-hf")
    assert first == pytest.approx(5.2, rel=0.2)
    assert 1.15 < last / first < 1.7 and last / first > 1.1 * long / short


def test_stages_share_weights_and_fill_the_pipeline():
    one, four = (Served("meta-llama/Llama-3.1-70B-Instruct", H100, Deployment(tp_size=4, pp_size=n)) for n in (1, 4))
    engine, request = engine_on(H100), Request(500, 200)
    assert report(four, engine, request, Load(64)).memory["weight_bytes"] == one.footprint.weight_bytes / 4
    few, many = report(one, engine, request, Load(16)), report(four, engine, request, Load(64))
    assert many.requests_per_s == pytest.approx(4 * few.requests_per_s)  # four batches of 16 in flight


def test_replicas_share_the_load():
    one = serve(QWEN, H100, Request(500, 200), Load(16))
    four = serve(QWEN, H100, Request(500, 200), Load(64), Deployment(dp_size=4))
    assert four.requests_per_s == pytest.approx(4 * one.requests_per_s) and four.token_j == pytest.approx(one.token_j)


def test_relatives_lend_their_engine_with_a_wider_interval():
    own, lent = engine_on(H100), engine_on(load_device("h100_pcie"))
    assert lent.borrowed_from == "h100_sxm" and lent.interval > own.interval
    assert lent.static_w == pytest.approx(own.static_w * 350 / 700)
    with pytest.raises(DeviceError, match=r"no serving engine 'vlm'.*did you mean vllm"):
        engine_on(load_device("h100_pcie"), "vlm")


def test_machines_without_a_relative_that_serves_answer_with_a_still_wider_interval():
    near, far, other = (engine_on(load_device(name)) for name in ("h100_pcie", "t4", "raspberry_pi_5"))
    assert near.interval < far.interval < other.interval
    assert far.borrowed_from == other.borrowed_from == "h100_sxm"


def test_a_device_with_engines_reads_back_the_same():
    assert device_from_text(device_text(H100), "text").engines == H100.engines != {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layer_s =", "layers_s =", "unknown key 'layers_s'"),
        ("overlap = ", "overlap = 99", "expected a number from 1 to 16"),
        ("[[serving.vllm.fit]]", "[[serving.vllm.fits]]", "unknown key 'fits'"),
        ("\nscan =", "\nscans =", "unknown key 'scans'"),
    ],
)
def test_wrong_engine_tables_are_refused(old, new, said):
    text = device_text(H100)
    assert old in text
    with pytest.raises(DeviceError, match=said):
        device_from_text(text.replace(old, new), "text")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Request(0, 10), "isl = 0; expected a whole number from 1"),
        (lambda: Request(10, -5), "osl = -5; expected a number from 1"),
        (lambda: Request(10, 10, prefix=10), "prefix = 10; expected a whole number from 0 to 9"),
        (lambda: Request(10, 10, acceptance=2.0), "acceptance = 2"),
        (lambda: Load(), "found neither; expected one"),
        (lambda: Load(1, 1.0), "found both; expected one"),
        (lambda: Load(0), "concurrency = 0"),
        (lambda: Deployment(tp_size=0), "tp_size = 0; expected a whole number from 1 to 4096"),
        (lambda: serve("meta-llama/Llama-3.1-70B-Instruct", H100, Request(9, 9), Load(1)), "weights take 141.1 GB"),
        (lambda: serve(QWEN, H100, Request(2_000_000, 9), Load(1)), "the cache of one text of 2000009 tokens"),
        (lambda: serve(QWEN, H100, Request(9, 9), Load(1), Deployment(tp_size=3)), "num_attention_heads = 32"),
        (lambda: serve(QWEN, H100, Request(500, 300), Load(rate=1e5)), "expected at most .* add replicas"),
        (lambda: serve("Qwen/Qwen3-9B", H100, Request(9, 9), Load(1)), "no published model"),
        (lambda: serve(QWEN, H100, Request(9, 9), Load(1), engine="vlm"), "did you mean vllm"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_key_and_limit(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_the_command_says_everything_asked_for(capsys):
    asked = ["estimate", QWEN, "--hw", "h100_sxm", "--isl", "512", "--osl", "300", "--concurrency", "64"]
    assert main([*asked, "--json", "--region", "us"]) == 0
    found = json.loads(capsys.readouterr().out)
    keys = {"ttft_s", "tpot_s", "energy_j_per_token", "energy_j_per_request", "wh_per_query", "wh_per_query_low",
            "wh_per_query_high", "phases", "factors", "chain", "memory", "warnings"}  # fmt: skip
    assert keys <= set(found)
    assert found["wh_per_query"] == pytest.approx(found["energy_j_per_request"] / 3600)
    assert found["wh_per_query_low"] < found["wh_per_query"] < found["wh_per_query_high"]
    assert [link["name"] for link in found["chain"]][:3] == ["accelerators", "node", "site"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("TTFT", "TPOT", "per query", "KV cache", "waiting for the host"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--osl", "5"], "--osl: only for serving"), (["--isl", "5"], "--isl without --osl"),
        (["--isl", "5", "--osl", "5", "--bounds"], "--bounds: says nothing of a served model"),
        (["--isl", "-5", "--osl", "5"], "expected a whole number"),
    ],
)  # fmt: skip
def test_half_a_question_is_refused(capsys, more, said):
    try:
        code = main(["estimate", QWEN, "--hw", "h100_sxm", *more])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2 and said in capsys.readouterr().err


def test_an_engine_is_never_changed_by_borrowing():
    before = replace(engine_on(H100))
    engine_on(load_device("h200_sxm"))
    assert engine_on(H100) == before
    with pytest.raises(SizeError):
        Request(5, 5, draft=100)
