"""How a configuration says that weights are held: ``quantization_config`` of transformers, by the method's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wattir.errors import UnsupportedError
from wattir.frontends.configs.keys import Keys

SKIPPING = ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules", "llm_int8_skip_modules")
"""Keys that list modules whose weights stay as they are."""
ATTENTION = ("self_attn", "attention", "attn")


def quantized(keys: Keys, depth: int, experts: bool) -> dict[str, Any]:
    """`weights` and `expert_weights` of a `Decoder` of so many layers; both are empty where nothing is declared.

    UnsupportedError where the method, its bits, or the modules that it leaves out are not described.
    """
    if "quantization_config" not in keys:
        return {}
    how = keys.part("quantization_config")
    method = how.text("quant_method", "")
    if method not in METHODS:
        raise _unknown(how, f"quant_method {method!r}", f"one of {', '.join(METHODS)}")
    held = METHODS[method](how)
    if held == "mxfp4" or _attention_is_left(how, depth):
        if not experts:
            raise _unknown(how, "attention is left in 16 bits", "that of experts alone where there are experts")
        return {"expert_weights": held}
    return {"weights": held}


def _unknown(how: Keys, found: str, expected: str) -> UnsupportedError:
    return UnsupportedError(f"{how.where}: {found}; expected {expected}; or leave it out and ask for a weights dtype")


def _attention_is_left(how: Keys, depth: int) -> bool:
    """Whether attention stays as it is: by a pattern for all layers, or name by name in at least half of them."""
    names = [str(name) for key in SKIPPING for name in how.words(key) if any(part in str(name) for part in ATTENTION)]
    return any(not _number(name) for name in names) or 2 * len({_number(name) for name in names}) > depth


def _number(name: str) -> str:
    """The number of the layer that a module's name is of."""
    return next((part for part in name.split(".") if part.isdigit()), "")


def _bits(held: dict[int, str], key: str, default: int) -> Callable[[Keys], str]:
    def found(how: Keys) -> str:
        bits = how.whole(key, "w_bit", default=default)
        if bits not in held:
            raise _unknown(how, f"{key} = {bits}", f"one of {', '.join(map(str, held))}")
        return held[bits]

    return found


def _fp8(how: Keys) -> str:
    """Blocks of 128 by 128 where nothing else is said, as transformers has it; a scale a tensor where it is static."""
    whole = "weight_block_size" in how.values and not how.words("weight_block_size")
    return "fp8_channel" if whole or how.text("activation_scheme", "dynamic") == "static" else "fp8"


def _bitsandbytes(how: Keys) -> str:
    flags = {"int8": ("load_in_8bit", "_load_in_8bit"), "int4": ("load_in_4bit", "_load_in_4bit")}
    for held, names in flags.items():
        if any(how.flag(name) for name in names):
            return held
    raise _unknown(how, "neither load_in_8bit nor load_in_4bit", "one of them to be true")


ALGORITHMS = {"FP8": "fp8_channel", "FP8_PB_WO": "fp8", "FP8_PB": "fp8", "NVFP4": "nvfp4", "W4A16_AWQ": "int4",
              "W8A8_SQ_PER_CHANNEL": "int8", "INT8_SQ": "int8"}  # fmt: skip
"""Of NVIDIA's Model Optimizer."""


def _modelopt(how: Keys) -> str:
    if "quant_algo" not in how and "config_groups" in how:
        return _groups(how)
    inner = how.part("quantization") if "quantization" in how else how
    found = inner.text("quant_algo", "NVFP4" if how.text("quant_method") == "modelopt_fp4" else "FP8")
    if found not in ALGORITHMS:
        raise _unknown(how, f"quant_algo {found!r}", f"one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[found]


def _groups(how: Keys) -> str:
    """Of compressed-tensors: what all groups of modules are held in."""
    groups = how.part("config_groups")
    found = {_group(groups.part(str(name))) for name in groups.values}
    if len(found) != 1:
        raise _unknown(how, f"config_groups of {len(found)} kinds", "all groups held alike")
    sparse = how.part("sparsity_config").text("sparsity_structure", "") if "sparsity_config" in how else ""
    if sparse not in ("", "unstructured"):
        raise _unknown(how, "sparsity_config with a structure", "dense weights")
    return found.pop()


def _group(group: Keys) -> str:
    weights, wide = group.part("weights"), "input_activations" not in group
    bits, kind, size = weights.whole("num_bits"), weights.text("type", "int"), weights.get("group_size")
    narrow = "fp8" if weights.text("strategy", "channel") == "block" else "fp8_channel"
    held = {(4, "int"): "int4", (8, "int"): "int8_only" if wide else "int8", (8, "float"): narrow,
            (4, "float"): "mxfp4" if size == 32 else "nvfp4"}.get((bits, kind))  # fmt: skip
    if held is None:
        raise _unknown(weights, f"num_bits = {bits}, type {kind!r}", "4 or 8 bits of type int or float")
    return held


_LINEAR_BITS = _bits({4: "int4", 8: "int8_only"}, "bits", 4)
METHODS: dict[str, Callable[[Keys], str]] = {
    "fp8": _fp8, "fbgemm_fp8": lambda how: "fp8_channel", "mxfp4": lambda how: "mxfp4", "awq": _LINEAR_BITS,
    "gptq": _LINEAR_BITS, "auto-round": _LINEAR_BITS, "bitsandbytes": _bitsandbytes, "compressed-tensors": _groups,
    "modelopt": _modelopt, "modelopt_fp4": _modelopt,
}  # fmt: skip
"""quant_method -> how weights of products are held (`wattir.frontends.configs.writer.WEIGHTS`)."""
