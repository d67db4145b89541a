"""Networks as Flax NNX modules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax_functions import Pair, array


def nnx_model(make: Any, *inputs: Any) -> Pair:
    """An NNX module in evaluation mode, without its weights."""
    model = nnx.eval_shape(make)
    model.eval()
    return model, inputs


class NnxBlock(nnx.Module):
    """Pre-norm encoder block."""

    def __init__(self, d: int, heads: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(d, rngs=rngs), nnx.LayerNorm(d, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, d, d, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(d, hidden, rngs=rngs), nnx.Linear(hidden, d, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x)), approximate=False))


class NnxViT(nnx.Module):
    """ViT-B/16 of the paper, as torchvision has it."""

    def __init__(
        self, rngs: nnx.Rngs, d: int = 768, heads: int = 12, layers: int = 12, patch: int = 16, side: int = 224
    ):
        self.patches = nnx.Conv(3, d, (patch, patch), (patch, patch), padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, d)))
        self.places = nnx.Param(jnp.zeros((1, (side // patch) ** 2 + 1, d)))
        self.blocks = nnx.List([NnxBlock(d, heads, 4 * d, rngs) for _ in range(layers)])
        self.norm, self.head = nnx.LayerNorm(d, rngs=rngs), nnx.Linear(d, 1000, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def vit_nnx(batch: Any = 1, **sizes: int) -> Pair:
    side = sizes.get("side", 224)
    return nnx_model(lambda: NnxViT(nnx.Rngs(0), **sizes), array(batch, side, side, 3))


class NnxConvNet(nnx.Module):
    """Convolutions, batch norm, pooling, dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.c1, self.c2 = nnx.Conv(1, 32, (3, 3), rngs=rngs), nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.b1, self.b2 = nnx.BatchNorm(32, rngs=rngs), nnx.BatchNorm(64, rngs=rngs)
        self.f1, self.f2 = nnx.Linear(3136, 256, rngs=rngs), nnx.Linear(256, 10, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.avg_pool(nnx.relu(self.b1(self.c1(x))), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.relu(self.b2(self.c2(x))), (2, 2), (2, 2))
        return self.f2(self.drop(nnx.relu(self.f1(x.reshape(x.shape[0], -1)))))


class NnxGpt(nnx.Module):
    """GPT-2 small."""

    def __init__(self, rngs: nnx.Rngs, d: int = 768, layers: int = 12, heads: int = 12) -> None:
        self.words, self.places = nnx.Embed(50257, d, rngs=rngs), nnx.Embed(1024, d, rngs=rngs)
        self.blocks = nnx.List([NnxCausal(d, heads, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(d, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        x = self.words(ids) + self.places(jnp.arange(ids.shape[1]))
        mask = nnx.make_causal_mask(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.words.attend(self.norm(x))


class NnxCausal(NnxBlock):
    """The same with a causal mask."""

    def __init__(self, d: int, heads: int, rngs: nnx.Rngs) -> None:
        super().__init__(d, heads, 4 * d, rngs)

    def __call__(self, x: Any, mask: Any) -> Any:  # type: ignore[override]
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))


class NnxRecurrent(nnx.Module):
    """A GRU over a sequence."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(1000, 128, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(128, 256, rngs=rngs))
        self.out = nnx.Linear(256, 2, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        return self.out(self.rnn(self.words(ids))[:, -1])


class NnxAutoencoder(nnx.Module):
    """A variational autoencoder: random numbers, transposed convolutions."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.e1, self.e2 = nnx.Conv(3, 32, (3, 3), 2, rngs=rngs), nnx.Conv(32, 64, (3, 3), 2, rngs=rngs)
        self.code, self.decode = nnx.Linear(4096, 128, rngs=rngs), nnx.Linear(64, 4096, rngs=rngs)
        self.d1, self.d2 = (
            nnx.ConvTranspose(64, 32, (3, 3), 2, rngs=rngs),
            nnx.ConvTranspose(32, 3, (3, 3), 2, rngs=rngs),
        )
        self.rngs = rngs

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.e2(nnx.relu(self.e1(x))))
        mean, log_variance = jnp.split(self.code(x.reshape(x.shape[0], -1)), 2, -1)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(self.rngs(), mean.shape)
        x = self.decode(z).reshape(x.shape[0], 8, 8, 64)
        return nnx.sigmoid(self.d2(nnx.relu(self.d1(x))))
