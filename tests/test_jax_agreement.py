"""The same network from JAX, PyTorch and ONNX: equal contraction FLOP, bytes within 2 % where compilers fuse."""

# ruff: noqa: E402  # what is imported late needs torch and jax

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
from jax_functions import array, mlp, rms_norm
from jax_linen import resnet
from jax_nnx import vit_nnx
from test_jax import bytes_of, flop

from wattir.frontends import lower_any
from wattir.models import load_model

D, HIDDEN, HEADS, KV_HEADS, SEQ = 512, 1024, 8, 2, 64


class Perceptron(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(512, 512) for _ in range(3))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Decoder(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """A block with grouped-query attention and a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        size = D // HEADS
        self.norm1, self.norm2 = torch.nn.RMSNorm(D), torch.nn.RMSNorm(D)
        self.q, self.o = (torch.nn.Linear(D, D, bias=False) for _ in range(2))
        self.k, self.v = (torch.nn.Linear(D, KV_HEADS * size, bias=False) for _ in range(2))
        self.gate, self.up = (torch.nn.Linear(D, HIDDEN, bias=False) for _ in range(2))
        self.down = torch.nn.Linear(HIDDEN, D, bias=False)

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        q, k, v = (p(y).view(*x.shape[:2], -1, D // HEADS).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(x.shape))
        y = self.norm2(x)
        return x + self.down(torch.nn.functional.silu(self.gate(y)) * self.up(y))


def decoder() -> Any:
    def network(params: Any, x: Any) -> Any:
        y = rms_norm(x, params["s1"])
        q, k, v = ((y @ params[n]).reshape(*x.shape[:2], -1, D // HEADS) for n in "qkv")
        x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ params["o"]
        y = rms_norm(x, params["s2"])
        return x + (jax.nn.silu(y @ params["gate"]) * (y @ params["up"])) @ params["down"]

    narrow = KV_HEADS * D // HEADS
    shapes = {
        "q": (D, D), "o": (D, D), "k": (D, narrow), "v": (D, narrow), "gate": (D, HIDDEN), "up": (D, HIDDEN),
        "down": (HIDDEN, D), "s1": (D,), "s2": (D,),
    }  # fmt: skip
    return network, ({name: array(*shape) for name, shape in shapes.items()}, array(2, SEQ, D, dtype=jnp.float32))


@pytest.mark.parametrize(("ours", "theirs", "shape"), [(mlp, Perceptron, (8, 512)), (decoder, Decoder, (2, SEQ, D))])
def test_agrees_with_pytorch(ours: Any, theirs: Any, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module, x = theirs().eval(), torch.empty(shape)
    here, there = lower_any(*ours()), lower_any(module, (x,))

    assert flop(here) == flop(there)
    assert here.params == there.params
    assert bytes_of(here) == pytest.approx(bytes_of(there), rel=0.02)


THRICE = 12 * 2 * 197 * 768 * 4
"""torchvision packs q, k and v in one product, which reads [197, 768] once in each of 12 layers; flax has three."""


@pytest.mark.parametrize(("ours", "name", "more"), [(resnet, "resnet50", 0), (vit_nnx, "vit_b_16", THRICE)])
def test_agrees_with_onnx(ours: Any, name: str, more: int) -> None:
    """The built-in models are ONNX exports of torchvision's."""
    here, there = lower_any(*ours()), load_model(name)
    sizes = {key: value or 1 for key, value in there.sizes.items()}

    assert flop(here) == flop(there, **sizes)
    assert here.params == there.params
    assert bytes_of(here) - more == pytest.approx(bytes_of(there, **sizes), rel=0.001)
