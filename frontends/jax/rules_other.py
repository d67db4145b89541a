"""Random numbers, transforms, collectives, kernels that others wrote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from wattir.dims import Size, product
from wattir.frontends.jax.node import Node, rule, unknown

# ---- random --------------------------------------------------------------------------------------------------------


@rule("random_bits", "rng_bit_generator", "rng_uniform", "threefry2x32", "random_gamma", "random_clone", "shuffle",
      "random_gaussian", "rng", "threefry4x32", "philox2x32", "philox4x32")  # fmt: skip
def random(node: Node) -> None:
    """Bits from a key, wherever the key comes from."""
    used = [value for value in node.ins if not value.fixed]
    node.emit("random", ins=used, function="bits")


@rule("random_seed", "random_fold_in", "random_split")
def random_key(node: Node) -> None:
    """A handful of words."""
    node.emit("pointwise", function="key", ops=20)


# ---- transforms ----------------------------------------------------------------------------------------------------


@rule("fft")
def fft(node: Node) -> None:
    lengths = node.params["fft_lengths"]
    node.emit("fft", function="fft", length=product(int(n) if isinstance(n, int) else _length(n) for n in lengths))


def _length(size: Any) -> Size:
    from wattir.frontends.jax.sizes import size_of

    return size_of(size)


# ---- collectives: the bytes of one device's shard ------------------------------------------------------------------


def _collective(node: Node, function: str) -> None:
    """Every operand in turn; over one device nothing moves."""
    ranks = _ranks(node)
    if ranks == 1:
        for index, value in enumerate(node.ins[: len(node.outs)]):
            node.same(value, index)
        return
    for index, value in enumerate(node.ins[: len(node.outs)]):
        node.emit("collective", ins=(value,), outs=(index,), function=function, ranks=ranks)


def _ranks(node: Node) -> Size:
    p, axes = node.params, node.context.program.axes
    if isinstance(p.get("axis_size"), int):
        return int(p["axis_size"])
    if "ranks" in p:
        return int(p["ranks"])
    names = p.get("axes", p.get("axis_name", ()))
    names = names if isinstance(names, (tuple, list)) else (names,)
    return product(axes.get(str(name), 1) for name in names)


for _function, _primitives in {
    "all_reduce": ("psum", "psum2", "psum_invariant", "pmax", "pmin", "pmean", "all_reduce"),
    "all_gather": ("all_gather", "all_gather_invariant", "all_gather_reduced"),
    "reduce_scatter": ("reduce_scatter", "psum_scatter", "unreduced_reduce_scatter"),
    "all_to_all": ("all_to_all", "ragged_all_to_all"),
    "permute": ("ppermute", "pbroadcast_one", "collective_permute", "psend", "precv", "collective_broadcast"),
}.items():
    for _primitive in _primitives:
        rule(_primitive)(partial(_collective, function=_function))


@rule("axis_index", "partition_id", "replica_id")
def index(node: Node) -> None:
    node.results[0] = node.context.free(*node.outs[0])


@rule("platform_index")
def platform_index(node: Node) -> None:
    """Which of several ways a platform goes: CUDA's where it has one of its own, else the default."""
    platforms = [names or ("default",) for names in node.params["platforms"]]
    node.results[0] = node.context.free(*node.outs[0], platform_place(platforms))


def platform_place(platforms: Sequence[Sequence[str]]) -> int:
    """The place of the platform that is taken; `platforms`: the names that each way is for."""
    wanted = (place for word in ("cuda", "default") for place, names in enumerate(platforms) if word in names)
    return next(wanted, 0)


# ---- kernels -------------------------------------------------------------------------------------------------------


@rule("pallas_call", "mosaic_gpu", "tpu_custom_call")
def pallas(node: Node) -> None:
    """By the cost estimate that its author gave: `flops` as products, `transcendentals`; bytes are its operands'."""
    estimate = node.params.get("cost_estimate")
    if estimate is None:
        node.warn("a kernel without cost_estimate; its work is not known; give pallas_call one")
        unknown(node)
        return
    macs, special = int(estimate.flops) // 2, int(estimate.transcendentals)
    k = next(size for size in (128, 16, 1) if macs % (size * size) == 0)
    node.emit("matmul", groups=1, m=macs // (k * k), n=k, k=k, fused_special=special)


@rule("dot_product_attention_fwd", "dot_product_attention_fwd_wrapper", "dot_product_attention_fp8_fwd",
      "dot_product_attention_fp8_fwd_wrapper")  # fmt: skip
def cudnn_attention(node: Node) -> None:
    """jax.nn.dot_product_attention on cuDNN: q, k, v as [b, t, n, h] (`layout` 0) or [b, n, t, h]."""
    q, k, v = node.ins[:3]
    length, heads = (2, 1) if node.params.get("layout") == 1 else (1, 2)
    mask = str(node.params.get("mask_type", "")).upper()
    window = int(node.params.get("sliding_window_length") or 0)
    attrs: dict[str, Any] = {"window": window} if window else {}
    node.emit(
        "attention", ins=[value for value in node.ins if not value.free], batch=q.shape[0], heads=q.shape[heads],
        kv_heads=k.shape[heads], q=q.shape[length], kv=k.shape[length], d=q.shape[3], dv=v.shape[3],
        causal="CAUSAL" in mask, **attrs,
    )  # fmt: skip


@rule("ffi_call", "custom_call", "pure_callback", "io_callback", "debug_callback", "debug_print")
def foreign(node: Node) -> None:
    """Code that JAX does not see into; listed under its target."""
    target = node.params.get("target_name") or node.params.get("call_target_name")
    if target:
        node.source = f"{node.op}:{target}"
    unknown(node)
    if node.params.get("has_side_effect") or node.op == "io_callback":
        node.context.program.effects += [value.name for value in node.results if value is not None]
