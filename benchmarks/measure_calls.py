"""How each network case runs: fixed random inputs, and a cache that stays at its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from measure_networks import CHANNELS, DTYPES, FRAMES, MEL_BINS, VISION, NetworkCase, layout_of


def caller(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    """A call without arguments that runs the case once on fixed inputs."""
    return CALLERS[kind_of(case)](module, case, device)


def kind_of(case: NetworkCase) -> str:
    """Which inputs a case takes."""
    if case.phase != "forward":
        return case.phase
    if case.model in VISION or case.model.startswith("clip"):
        return "image"
    return "mel" if case.model.startswith("whisper") else "tokens"


def call_image(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    clip = (FRAMES,) if case.model == "r3d_18" else ()
    images = torch.randn(case.batch, CHANNELS, *clip, case.size, case.size, device=device).to(DTYPES[case.dtype])
    if layout_of(case) == "nhwc":
        images = images.contiguous(memory_format=torch.channels_last)
    return lambda: module(images)


def call_mel(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    mel = torch.randn(case.batch, MEL_BINS, case.size, device=device).to(DTYPES[case.dtype])
    return lambda: module(mel)


def random_tokens(module: Any, case: NetworkCase, device: str) -> torch.Tensor:
    return torch.randint(3, module.config.vocab_size, (case.batch, case.size), device=device)


def call_tokens(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    tokens = random_tokens(module, case, device)
    return lambda: module(input_ids=tokens)


def call_prefill(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    """A prompt in one pass: the cache is filled, the vocabulary product is made for the last token."""
    tokens = random_tokens(module, case, device)
    if case.model.startswith("mamba"):
        return lambda: module(input_ids=tokens, use_cache=False)
    return lambda: module(input_ids=tokens, use_cache=True, logits_to_keep=1)


def call_decode(module: torch.nn.Module, case: NetworkCase, device: str) -> Callable[[], Any]:
    """One token per sequence over a cache of fixed length."""
    tokens = random_tokens(module, case, device)
    positions = torch.full((case.batch, 1), case.context, device=device)
    cache = fixed_cache(module, case, device)
    return lambda: module(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)


def fixed_cache(module: Any, case: NetworkCase, device: str) -> Any:
    """A key-value cache that stays at `context` tokens: every step overwrites the slot after them."""
    from transformers.cache_utils import Cache, DynamicLayer

    class FixedLayer(DynamicLayer):
        """Keys and values of one layer, of shape (batch, heads, context + 1, head size)."""

        def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = dtype, torch.device(device), True
            self.keys = torch.empty(shape, dtype=dtype, device=device).normal_()
            self.values = torch.empty(shape, dtype=dtype, device=device).normal_()

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            self.keys[:, :, -1:].copy_(key_states)
            self.values[:, :, -1:].copy_(value_states)
            return self.keys, self.values

        def get_seq_length(self, *args: Any) -> int:
            return case.context

        def get_mask_sizes(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
            return case.context + 1, 0

    config = module.config
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    shape = (case.batch, kv_heads, case.context + 1, head_dim)
    return Cache(layers=[FixedLayer(shape, DTYPES[case.dtype]) for _ in range(config.num_hidden_layers)])


CALLERS: dict[str, Callable[[torch.nn.Module, NetworkCase, str], Callable[[], Any]]] = {
    "image": call_image,
    "mel": call_mel,
    "tokens": call_tokens,
    "prefill": call_prefill,
    "decode": call_decode,
}
