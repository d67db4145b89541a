"""Scaled dot-product attention in all its spellings."""

from __future__ import annotations

from wattir.dims import Size
from wattir.frontends.torch.masks import mask_pattern
from wattir.frontends.torch.node import Node, Value, rule
from wattir.frontends.torch.program import TensorRef
from wattir.kinds import FUNCTIONS


def attend(
    node: Node, qkv: tuple[Value, Value, Value], masks: tuple[Value | None, ...], causal: bool, window: Size = 0,
    heads_first: bool = True, out: Value | TensorRef | None = None,
) -> None:  # fmt: skip
    """q [.., heads, q, d], k [.., kv heads, kv, d], v [.., kv, dv]; or [.., q, heads, d] with heads last but one."""
    q, k, v = qkv
    place = (-3, -2) if heads_first else (-2, -3)
    heads, length = (q.shape[axis] if q.rank > 2 or axis == -2 else 1 for axis in place)
    kv_heads, kv = (k.shape[axis] if k.rank > 2 or axis == -2 else 1 for axis in place)
    if q.rank == 3 and heads_first:
        heads = kv_heads = 1
    mask = masks[0] if masks else None
    if mask is not None and not causal:
        pattern = mask_pattern(node.lowering, mask.name)
        causal, window = pattern.causal, window or pattern.window
    batch = q.elements // (heads * length * q.shape[-1]) if 0 not in q.shape else 0
    sizes = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "q": length, "kv": kv, "d": q.shape[-1],
             "dv": v.shape[-1], "causal": causal and length != 1}  # fmt: skip
    if window != 0:
        sizes["window"] = window
    outs = None if out is None else (out,)
    node.emit("attention", ins=(q, k, v, *masks), outs=outs, **sizes)
    _lay_out(node, heads_first and q.rank == 4)


def _lay_out(node: Node, heads_first: bool) -> None:
    """Fused kernels write [b, q, heads, d] and give its transpose: what follows need not copy it."""
    out = node.lowering.env.get(node.out.name)
    if out is None or not heads_first or out.rank != 4:
        return
    _, heads, length, d = node.lowering.sample(out.shape)
    out.strides = (heads * length * d, d, heads * d, 1)


def _qkv(node: Node) -> tuple[Value, Value, Value]:
    return node.tensor(0, "query"), node.tensor(1, "key"), node.tensor(2, "value")


@rule("scaled_dot_product_attention", "_scaled_dot_product_attention_math",
      "_scaled_dot_product_attention_math_for_mps", "_scaled_dot_product_fused_attention_overrideable")  # fmt: skip
def sdpa(node: Node) -> None:
    attend(node, _qkv(node), (node.value(3, "attn_mask"),), bool(node.arg(5, "is_causal", False)))


@rule("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu")
def flash(node: Node) -> None:
    mask = node.call.kwargs.get("attn_mask")
    masks = (node.lowering.value(mask),) if isinstance(mask, TensorRef) else ()
    attend(node, _qkv(node), masks, bool(node.arg(4, "is_causal", False)))


@rule("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")
def efficient(node: Node) -> None:
    attend(node, _qkv(node), (node.value(3, "attn_bias"),), bool(node.arg(6, "is_causal", False)))


@rule("_flash_attention_forward", "_cudnn_attention_forward")
def flash_forward(node: Node) -> None:
    """[b, q, heads, d]; or packed sequences [tokens, heads, d], counted as one."""
    place = 9 if node.op.startswith("_cudnn") else 8
    left = node.call.kwargs.get("window_size_left")
    window = left + 1 if isinstance(left, int) and left > 0 else 0
    attend(node, _qkv(node), (), bool(node.arg(place, "is_causal", False)), window, heads_first=False)


@rule("_efficient_attention_forward")
def efficient_forward(node: Node) -> None:
    """custom_mask_type 1 and 2 are causal."""
    bias = node.value(3, "bias")
    window = node.call.kwargs.get("window_size") or 0
    attend(node, _qkv(node), (bias,), bool(node.arg(9, "custom_mask_type", 0)), window, heads_first=False)


@rule("_native_multi_head_attention")
def multi_head(node: Node) -> None:
    """Projections in, attention, projection out, as `nn.MultiheadAttention` runs it without gradients."""
    q, k, v = _qkv(node)
    width, heads = node.arg(3, "embed_dim"), node.arg(4, "num_head")
    weight, bias, out_weight, out_bias = (node.tensor(index) for index in (5, 6, 7, 8))
    if q.name == k.name:
        made = node.inner("qkv", (*q.shape[:-1], 3 * width), q.dtype)
        rows = q.shape[0] * q.shape[1]
        node.emit("matmul", ins=(q, weight, bias), outs=(made,), groups=1, m=rows, n=3 * width, k=q.shape[-1])
        projected = [made]
    else:
        projected = []
        for tag, x in (("q", q), ("k", k), ("v", v)):
            made = node.inner(tag, (*x.shape[:-1], width), x.dtype)
            node.emit("matmul", ins=(x, weight, bias), outs=(made,), groups=1, m=x.shape[0] * x.shape[1], n=width,
                      k=x.shape[-1])  # fmt: skip
            projected.append(made)
    mixed = node.inner("mixed", q.shape, q.dtype)
    sizes = {"batch": q.shape[0], "heads": heads, "kv_heads": heads, "q": q.shape[1], "kv": k.shape[1],
             "d": width // heads, "dv": width // heads, "causal": False}  # fmt: skip
    node.emit("attention", ins=(*projected, node.value(9, "mask")), outs=(mixed,), **sizes)
    node.emit("matmul", ins=(mixed, out_weight, out_bias), groups=1, m=q.shape[0] * q.shape[1], n=width, k=width)


@rule("_transformer_encoder_layer_fwd")
def encoder_layer(node: Node) -> None:
    """The fused encoder layer of `nn.TransformerEncoder`: attention and a two-layer perceptron with their norms."""
    x = node.tensor(0)
    width, heads = node.arg(1, "embed_dim"), node.arg(2, "num_heads")
    qkv_w, qkv_b, proj_w, proj_b = (node.tensor(index) for index in (3, 4, 5, 6))
    n1w, n1b, n2w, n2b, f1w, f1b, f2w, f2b = (node.tensor(index) for index in range(10, 18))
    batch, length = x.shape[0], x.shape[1]
    rows, hidden = batch * length, f1w.shape[0]

    def made(tag: str, columns: Size) -> Value:
        return node.inner(tag, (batch, length, columns), x.dtype)

    qkv, mixed, proj, first, up, down = (
        made(tag, columns) for tag, columns in (("qkv", 3 * width), ("mixed", width), ("proj", width), ("norm1", width),
                                                ("up", hidden), ("down", width)))  # fmt: skip
    node.emit("matmul", ins=(x, qkv_w, qkv_b), outs=(qkv,), groups=1, m=rows, n=3 * width, k=width)
    node.emit("attention", ins=(qkv, node.value(18, "mask")), outs=(mixed,), batch=batch, heads=heads, kv_heads=heads,
              q=length, kv=length, d=width // heads, dv=width // heads, causal=False)  # fmt: skip
    node.emit("matmul", ins=(mixed, proj_w, proj_b, x), outs=(proj,), groups=1, m=rows, n=width, k=width)
    node.emit("norm", ins=(proj, n1w, n1b), outs=(first,), function="layer_norm", length=width)
    ops, special = FUNCTIONS["gelu" if node.arg(7, "use_gelu") else "relu"]
    activation = {"fused_ops": ops * rows * hidden, "fused_special": special * rows * hidden}
    node.emit("matmul", ins=(first, f1w, f1b), outs=(up,), groups=1, m=rows, n=hidden, k=width, **activation)
    node.emit("matmul", ins=(up, f2w, f2b, first), outs=(down,), groups=1, m=rows, n=width, k=hidden)
    node.emit("norm", ins=(down, n2w, n2b), function="layer_norm", length=width)
