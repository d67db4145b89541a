"""Vision towers of vision-language models: images become tokens."""

from __future__ import annotations

from wattir.frontends.configs.architecture import Vision
from wattir.frontends.configs.keys import Keys


def vision_of(keys: Keys, out: int) -> Vision | None:
    """The tower that a configuration has, which gives tokens of width `out`; None where it has none."""
    if "vision_config" not in keys:
        return None
    k = keys.part("vision_config")
    return Vision(
        layers=k.whole("depth", "num_hidden_layers"), hidden=k.whole("hidden_size"), width=k.whole("intermediate_size"),
        heads=k.whole("num_heads", "num_attention_heads"), patch=k.whole("patch_size"),
        merge=k.whole("spatial_merge_size", default=2), out=out, frames=k.whole("temporal_patch_size", default=1),
        positions=k.whole("num_position_embeddings", default=0, least=0),
        mergers=1 + len(k.words("deepstack_visual_indexes")),
    )  # fmt: skip
