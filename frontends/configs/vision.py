"""Vision towers: a configuration's part for images -> `Vision`, and one pass of it over images as a graph.

A tower cuts an image into patches, runs a transformer over them, and makes one token of the language model from every
`merge` by `merge` of them. Keys as transformers names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wattir.dims import Size, symbol
from wattir.errors import InputError
from wattir.frontends.configs.architecture import Mlp, Vision
from wattir.frontends.configs.families_dense import act_of
from wattir.frontends.configs.feeds import mlp
from wattir.frontends.configs.keys import Keys
from wattir.frontends.configs.mixers import Span, attend
from wattir.frontends.configs.writer import Held, Writer
from wattir.ir import Graph

MOST_PIXELS = 16384
"""Of a side of an image."""


def vision_of(keys: Keys, out: int) -> Vision | None:
    """The tower that a configuration describes, for a language model of width `out`; None where it is of no known type,
    or what stands between it and the language model is not (`BEFORE`).

    Published names carry the keys of a tower without its type: it is that of their language model.
    """
    tower, outer = keys.part("vision_config"), keys.text("model_type", "")
    kind = tower.text("model_type", "") or outer
    name = next((name for name in FAMILIES if kind.startswith(name)), "")
    if kind.startswith(OTHERS) or outer not in BEFORE.get(name, {outer}):
        return None
    return FAMILIES[name](tower, keys, out) if name else None


def _sizes(k: Keys, **changes: Any) -> dict[str, Any]:
    hidden = k.whole("embed_dim", "hidden_size")
    found: dict[str, Any] = {
        "hidden": hidden, "layers": k.whole("depth", "num_hidden_layers"),
        "heads": k.whole("num_heads", "num_attention_heads"), "patch": _first(k, "patch_size"),
        "width": k.whole("intermediate_size", default=int(hidden * k.number("mlp_ratio", 4.0))),
        "act": act_of(k, "gelu"), "merge": k.whole("spatial_merge_size", default=1),
        "frames": k.whole("temporal_patch_size", default=1),
    }  # fmt: skip
    return found | changes


def _first(k: Keys, key: str) -> int:
    """A size, or the first of one for each axis."""
    value = k.values.get(key)
    return Keys({key: value[0]}, k.where).whole(key) if isinstance(value, list) and value else k.whole(key)


def qwen_vl(k: Keys, outer: Keys, out: int) -> Vision:
    """Qwen2-VL and Qwen3-VL: merged patches pass two products; `deepstack` layers send theirs up as well."""
    sizes = _sizes(k)
    wide = sizes["hidden"] * sizes["merge"] ** 2
    places = k.whole("num_position_embeddings", default=0, least=0)
    return Vision(**sizes, places=places, patch_bias=places > 0, out=(wide, k.whole("out_hidden_size", default=out)),
                  merger_norm="patch", mergers=1 + len(k.words("deepstack_visual_indexes")))  # fmt: skip


def qwen2_5_vl(k: Keys, outer: Keys, out: int) -> Vision:
    """Windows of 112 pixels in all but a few layers, gated products, RMS norms."""
    sizes = _sizes(k)
    window, full = k.whole("window_size", default=112), k.words("fullatt_block_indexes") or [7, 15, 23, 31]
    wide = sizes["hidden"] * sizes["merge"] ** 2
    return Vision(
        **sizes, gated=True, norm="rms_norm", patch_bias=False, merger_norm="patch",
        out=(wide, k.whole("out_hidden_size", default=out)), window=window // sizes["patch"],
        full=sum(int(str(at)) < sizes["layers"] for at in full),
    )  # fmt: skip


def siglip(k: Keys, outer: Keys, out: int) -> Vision:
    """SigLIP before Gemma 3: one size of image, its patches pooled to as many tokens as the language model wants."""
    side, sizes = _first(k, "image_size"), _sizes(k)
    tokens = outer.whole("mm_tokens_per_image", default=256)
    return Vision(**sizes, places=(side // sizes["patch"]) ** 2, side=side, tokens=tokens, out=(out,), out_bias=False,
                  closing=True, merger_norm="rms")  # fmt: skip


def clip(k: Keys, outer: Keys, out: int) -> Vision:
    """CLIP before LLaVA: one size of image, a class token, two products."""
    side, sizes = _first(k, "image_size"), _sizes(k, act=act_of(k, "quick_gelu"))
    return Vision(**sizes, places=(side // sizes["patch"]) ** 2 + 1, side=side, classes=1, opening=True, closing=True,
                  patch_bias=False, out=(out, out))  # fmt: skip


def pixtral(k: Keys, outer: Keys, out: int) -> Vision:
    """Any size of image; in Mistral 3 `spatial_merge_size` squared patches are merged by a product of their own."""
    merge = outer.whole("spatial_merge_size", default=1)
    sizes = _sizes(k, merge=merge, act=act_of(k, "silu"))
    merging, norm = ((sizes["hidden"],), "patch") if merge > 1 else ((), "")
    return Vision(**sizes, gated=True, bias=False, merger_norm=norm, norm="rms_norm", patch_bias=False, opening=True,
                  out=(*merging, out, out), out_bias=outer.flag("multimodal_projector_bias", merge == 1))  # fmt: skip


def internvl(k: Keys, outer: Keys, out: int) -> Vision:
    """Tiles of one size, a class token, patches shuffled together, two products."""
    side, sizes = _first(k, "image_size"), _sizes(k, merge=round(1.0 / (outer.number("downsample_ratio", 0.5) or 0.5)))
    return Vision(**sizes, places=(side // sizes["patch"]) ** 2 + 1, side=side, classes=1, tiles=12, scaled=True,
                  qkv_bias=k.flag("attention_bias"), merger_norm="merged", out=(out, out))  # fmt: skip


def llama4(k: Keys, outer: Keys, out: int) -> Vision:
    """Tiles of one size, a class token, patches shuffled together, three products."""
    side, sizes = _first(k, "image_size"), _sizes(k, merge=round(1.0 / (k.number("pixel_shuffle_ratio", 0.5) or 0.5)))
    widths = (k.whole("projector_input_dim"), k.whole("projector_output_dim"), out)
    return Vision(**sizes, places=(side // sizes["patch"]) ** 2 + 1, side=side, classes=1, tiles=16, opening=True,
                  closing=True, patch_bias=False, out=widths, out_bias=False)  # fmt: skip


FAMILIES: dict[str, Callable[[Keys, Keys, int], Vision]] = {
    "qwen2_5_vl": qwen2_5_vl, "qwen2_5_omni": qwen2_5_vl, "qwen2_vl": qwen_vl, "qwen3_vl": qwen_vl,
    "qwen3_omni": qwen_vl, "siglip": siglip, "clip": clip, "pixtral": pixtral, "internvl": internvl, "llama4": llama4,
}  # fmt: skip
"""Beginning of a tower's model_type -> what it is made of."""
BEFORE: dict[str, set[str]] = {
    "siglip": {"gemma3", "shieldgemma2"}, "clip": {"llava"}, "internvl": {"internvl"},
    "pixtral": {"pixtral", "mistral3", "llava"},
}  # fmt: skip
"""Towers that many models share -> the types whose tiles, merging and projection are described."""
OTHERS = ("siglip2", "clip_qwen", "clipseg")
"""Towers that only begin like one of `FAMILIES`."""


# ---- images ---------------------------------------------------------------------------------------------------------


def seen(v: Vision, side: int) -> tuple[int, int, int]:
    """How often the tower runs for a square image of `side` pixels, the patches of one run, and the tokens in all.

    Towers of one size of image see tiles of it, as many as the image has, and one of the whole where these are several;
    the others see the image as it is, its sides rounded to whole merged patches.
    """
    if not v.side:
        across = max(round(side / (v.patch * v.merge)), 1)
        return 1, (across * v.merge) ** 2, across**2
    across = min(-(-side // v.side), int(v.tiles**0.5)) if v.tiles else 1
    tiles = across**2 + (across > 1)
    patches = (v.side // v.patch) ** 2
    return tiles, patches, tiles * (v.tokens or patches // v.merge**2)


def vision_graph(v: Vision, held: Held, side: int, tp: int = 1) -> tuple[Graph, Writer]:
    """One pass over `images` images of `side` pixels a side, on one of `tp` devices that share it where its heads
    divide."""
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MOST_PIXELS:
        raise InputError(f"image_size = {side!r}; expected pixels of a side from 1 to {MOST_PIXELS}")
    w = Writer("vision", held, 1 if v.heads % tp or v.width % tp else tp)
    tiles, patches, _ = seen(v, side)
    runs = symbol("images") * tiles
    with w.at("vision"):
        x, pixels = _patched(w, v, runs, patches)
        for place, (times, full) in enumerate(((v.full, True), (v.layers - v.full, not v.window))):
            if times:
                with w.at(f"layers.{'ab'[place]}", times):
                    x = _layer(w, x, v, runs, patches, full)
        x = w.norm("post_layernorm", x, v.norm, bias=_norm_bias(v)) if v.closing else x
        outs = tuple(_projected(w, x, v, runs, patches, number) for number in range(v.mergers))
    return w.builder.finish((pixels,), outs, {"images": 1}, "images", w.params), w


def _norm_bias(v: Vision) -> bool:
    return v.norm == "layer_norm"


def _patched(w: Writer, v: Vision, runs: Size, patches: int) -> tuple[str, str]:
    """Patches as tokens: one product over their pixels, and the places where they are learned."""
    depth = 3 * v.frames * v.patch**2
    pixels = w.builder.tensor("pixel_values", (runs, patches, depth), w.held.dtype, "input")
    x = w.linear("patch_embed", pixels, v.hidden, v.patch_bias, w.held.dtype)
    if v.classes:
        token = w.weight("class_embedding", (v.classes, v.hidden))
        x = w.op("copy", "with_class", (x, token), (runs, patches + v.classes, v.hidden), "cat", function="concat")
    if v.places:
        table = w.weight("position_embedding", (v.places, v.hidden))
        x = w.pointwise("position_add", "add", x, table)
    return (w.norm("pre_layernorm", x, v.norm, bias=_norm_bias(v)) if v.opening else x), pixels


def _layer(w: Writer, x: str, v: Vision, runs: Size, patches: int, full: bool) -> str:
    heads, d, length = w.share("num_heads", v.heads), v.hidden // v.heads, patches + v.classes
    bias = v.bias if v.qkv_bias is None else v.qkv_bias
    y = w.norm("norm1", x, v.norm, bias=_norm_bias(v))
    with w.at("attn"):
        q, k, u = (w.linear(f"{name}_proj", y, heads * d, bias) for name in ("q", "k", "v"))
        window = length if full else min(v.window**2, length)
        span = Span(runs * length // window, window, causal=False)
        y = w.linear("o_proj", attend(w, (q, k, u), span, heads, heads, d, d), v.hidden, v.bias)
        y = w.all_reduce("all_reduce", y)
    x = _added(w, "attn", x, y, v)
    y = w.norm("norm2", x, v.norm, bias=_norm_bias(v))
    with w.at("mlp"):
        y = w.all_reduce("all_reduce", mlp(w, y, Mlp(v.width, v.gated, v.bias, v.act)))
    return _added(w, "mlp", x, y, v)


def _added(w: Writer, name: str, x: str, y: str, v: Vision) -> str:
    scale = (w.weight(f"{name}.scale", (v.hidden,)),) if v.scaled else ()
    return w.pointwise(f"{name}.residual", "add", x, y, *scale, ops=1 + len(scale))


def _projected(w: Writer, x: str, v: Vision, runs: Size, patches: int, number: int) -> str:
    """Merged or pooled patches in the width of the language model: products with an activation between them."""
    tokens, wide = v.tokens or patches // v.merge**2, v.hidden * (1 if v.tokens else v.merge**2)
    norm = "merged" if number and v.merger_norm else v.merger_norm
    kind, bias = ("rms_norm", False) if norm == "rms" else (v.norm, _norm_bias(v))
    with w.at(f"merger.{number}" if v.mergers > 1 else "merger"):
        x = w.norm("norm", x, kind, bias=bias) if norm == "patch" else x
        x = w.op("copy", "shuffle", (x,), (runs, tokens, wide), "reshape", function="slice")
        x = w.norm("norm", x, kind, bias=bias) if norm in ("merged", "rms") else x
        for place, width in enumerate(v.out):
            x = w.act(f"act.{place}", v.act, x) if place else x
            x = w.linear(f"linear.{place}", x, width, v.out_bias, w.held.dtype)
    return x
