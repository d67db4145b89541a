"""Rows of measured kernels: what a replay moves, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

pandas = pytest.importorskip("pandas")

from wattir.backends.fit.datasets_experts import moe  # noqa: E402
from wattir.backends.fit.datasets_kernels import UNTYPICAL, gemm, kernels  # noqa: E402
from wattir.backends.fit.datasets_states import gated_delta  # noqa: E402
from wattir.backends.fit.rows import ACTIVATION_BYTES  # noqa: E402
from wattir.costs import tabulate  # noqa: E402
from wattir.dims import evaluate  # noqa: E402
from wattir.frontends.configs import decoder_graphs, load_config  # noqa: E402
from wattir.work import CELLS  # noqa: E402

MACS, ROWS, GROUPS, LAUNCHES, TOKENS, EXPERTS = (
    CELLS.index(name) for name in ("macs_causal", "m", "groups", "launches", "tokens", "experts")
)


def product(dtype: str, library: str) -> tuple[float, float]:
    """Bytes of activations and launches of [64, 128] by [128, 32]."""
    sizes = {"m": [64], "n": [32], "k": [128], "latency_ms": [0.1], "kernel_source": [library]}
    work = gemm(pandas.DataFrame(sizes), dtype).work[0]
    return float(work[ACTIVATION_BYTES]), float(work[LAUNCHES])


def test_products_of_narrow_types_move_what_narrows_them() -> None:
    elements, results = 64 * 128, 2 * 64 * 32
    assert product("bfloat16", "vllm_default") == (2 * elements + results, 1)
    assert product("sq", "smooth_quant") == (1 * elements + results, 1)  # they come as bytes
    assert product("fp8", "vllm_default") == ((2 + 1 + 1) * elements + results, 2)  # read, narrowed, read again
    moved, launches = product("fp8", "torch_flow")
    assert moved == (2 + 2 + 1 + 1) * elements + results  # the scale of the whole tensor first
    assert launches > 2


def experts(library: str, devices: int) -> pandas.DataFrame:
    sizes = {"num_tokens": 4096, "hidden_size": 2048, "inter_size": 768, "topk": 8, "num_experts": 128}
    shards = {"moe_tp_size": 1, "moe_ep_size": devices, "distribution": "balanced", "kernel_source": library}
    return pandas.DataFrame({name: [value] for name, value in {**sizes, **shards, "latency_ms": 1.0}.items()})


@pytest.mark.parametrize("library", ["vllm_fused_moe", "moe_torch_flow_cutlass"])
def test_experts_of_one_device(library: str) -> None:
    up, down, rest = moe(experts(library, 1), "bfloat16").work
    assert up[MACS] == 4096 * 8 * 2048 * 2 * 768 == 2 * down[MACS]  # gate and up, then down
    assert rest[MACS] == 0
    assert up[ROWS] == 4096 * 8 / 128


def test_kernels_of_one_of_many_devices_tell_what_all_of_them_were_given() -> None:
    work = moe(experts("vllm_fused_moe", 64), "bfloat16").work
    assert (work[:, GROUPS] == 128 / 64).all()  # of its own experts
    assert (work[:, TOKENS] == 4096).all() and (work[:, EXPERTS] == 128).all()


def test_libraries_that_walk_over_all_choices_gain_less_from_more_devices() -> None:
    gains = {}
    for library in ("vllm_fused_moe", "moe_torch_flow_cutlass"):
        one, many = (moe(experts(library, devices), "bfloat16").work for devices in (1, 64))
        assert many[:, MACS].sum() == one[:, MACS].sum() / 64
        gains[library] = one[:, ACTIVATION_BYTES].sum() / many[:, ACTIVATION_BYTES].sum()
    assert gains["vllm_fused_moe"] < 2 < 20 < gains["moe_torch_flow_cutlass"] < 64  # all write every token's sum


def test_of_sglang_0_5_10_the_choices_of_visiting_tokens_are_all_multiplied() -> None:
    """128 experts, 8 for a token, balanced: every 16th is chosen, so that 16 experts are visited by all tokens. The
    A100 took 5.45, 5.12, 2.53 and 0.30 ms for all of them and for one of 8, 16 and 128 devices at 8192 tokens."""
    measured = {1: 5.45, 8: 5.12, 16: 2.53, 128: 0.295}
    served = {"framework": "SGLang", "version": "0.5.10"}
    macs = {d: moe(experts("sglang_fused_moe_triton", d).assign(**served), "bfloat16").work[:, MACS].sum()
            for d in measured}  # fmt: skip
    assert macs[1] == macs[8] == 2 * macs[16] == 16 * macs[128]
    for devices, time_ms in measured.items():
        assert macs[devices] / macs[1] == pytest.approx(time_ms / measured[1], rel=0.2)
    later = moe(experts("sglang_fused_moe_triton", 8).assign(**served | {"version": "0.5.14"}), "bfloat16").work
    assert later[:, MACS].sum() == macs[1] / 8


def test_an_untypical_library_does_not_inform_the_physics_of_all(tmp_path: Path) -> None:
    """Its own corrections take its rows all the same."""
    tables = [experts(library, 1).assign(system="h100_sxm", moe_dtype="fp8", framework="")
              for library in ("moe_torch_flow_cutlass", UNTYPICAL)]  # fmt: skip
    pandas.concat(tables).to_parquet(tmp_path / "moe.parquet")
    rows = kernels(str(tmp_path), "moe", "h100_sxm", "fp8")
    informing = {rows.kinds[rows.kind_index[3 * i]][0].partition("@")[2]: rows.weight[i, 0] for i in range(2)}
    assert informing == {"moe_torch_flow_cutlass": 1.0, UNTYPICAL: 0.0}


def test_convolutions_take_a_block_for_each_channel_of_each_sequence() -> None:
    sizes = {"batch_size": 4, "seq_len": 1024, "num_k_heads": 16, "head_k_dim": 128, "num_v_heads": 32, "d_conv": 4,
             "framework": "TRTLLM"}  # fmt: skip
    table = pandas.DataFrame([{**sizes, "head_v_dim": width, "latency_ms": 0.1} for width in (128, 256)])
    convolution, update = (
        gated_delta(table.assign(kernel_source=f"causal_conv1d_{name}"), "") for name in ("fn", "update")
    )
    assert (convolution.work[0] == convolution.work[1]).all()  # measured alike for every width of values
    assert convolution.work[0, GROUPS] == 4 * 16 * 128
    assert convolution.work[0, ROWS] == 1024 / 8  # 16 bytes of a row for each thread
    assert update.work[0, GROUPS] == 4 * 16 * 128
    assert convolution.work[0, LAUNCHES] == 1


def delta_net(library: str, steps: int) -> pandas.DataFrame:
    sizes = {"batch_size": 2, "seq_len": steps, "num_k_heads": 16, "head_k_dim": 128, "num_v_heads": 32}
    return pandas.DataFrame([{**sizes, "head_v_dim": 64, "latency_ms": 0.1, "kernel_source": library}])


QWEN = {"model_type": "qwen3_next", "hidden_size": 256, "num_hidden_layers": 4, "vocab_size": 512,
        "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
        "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6, "hidden_act": "silu"}  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "library", "steps"),
    [
        (0, "chunk_gated_delta_rule", 1000),
        (1, "fused_recurrent_gated_delta_rule", 1),
    ],
)
def test_measured_recurrences_are_the_work_of_networks_that_have_them(phase: int, library: str, steps: int) -> None:
    row = gated_delta(delta_net(library, steps), "").work[0]
    graph = decoder_graphs(load_config(QWEN))[phase]
    scan = next(work for work in tabulate(graph) if work.kind == "scan")
    for name in ("m", "groups", "ops", "launches"):
        assert row[CELLS.index(name)] == evaluate(getattr(scan, name), {"batch": 2, "seq": steps, "past": 64})
