"""Networks as Flax Linen modules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax_functions import Pair, array


class Bottleneck(linen.Module):
    """1x1, 3x3 (strided), 1x1."""

    features: int
    stride: int = 1

    @linen.compact
    def __call__(self, x: Any) -> Any:
        def norm(y: Any) -> Any:
            return linen.BatchNorm(use_running_average=True)(y)

        y = linen.relu(norm(linen.Conv(self.features, (1, 1), use_bias=False)(x)))
        y = linen.Conv(self.features, (3, 3), (self.stride, self.stride), padding=1, use_bias=False)(y)
        y = norm(linen.Conv(4 * self.features, (1, 1), use_bias=False)(linen.relu(norm(y))))
        if x.shape != y.shape:
            x = norm(
                linen.Conv(4 * self.features, (1, 1), (self.stride, self.stride), use_bias=False, name="project")(x)
            )
        return linen.relu(x + y)


class ResNet(linen.Module):
    """ResNet v1.5 with bottlenecks; [3, 4, 6, 3] is ResNet-50."""

    stages: tuple[int, ...] = (3, 4, 6, 3)
    classes: int = 1000

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Conv(64, (7, 7), (2, 2), padding=3, use_bias=False, name="stem")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True)(x))
        x = linen.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for i, count in enumerate(self.stages):
            for j in range(count):
                x = Bottleneck(64 * 2**i, 2 if i > 0 and j == 0 else 1)(x)
        return linen.Dense(self.classes, name="head")(x.mean((1, 2)))


def resnet(batch: Any = 1, stages: tuple[int, ...] = (3, 4, 6, 3)) -> Pair:
    return ResNet(stages), (array(batch, 224, 224, 3),)


class EncoderBlock(linen.Module):
    """Pre-norm encoder block with Flax's own attention."""

    heads: int = 12

    @linen.compact
    def __call__(self, x: Any, mask: Any = None) -> Any:
        x = x + linen.MultiHeadDotProductAttention(self.heads, deterministic=True)(linen.LayerNorm()(x), mask=mask)
        y = linen.gelu(linen.Dense(4 * x.shape[-1])(linen.LayerNorm()(x)))
        return x + linen.Dense(x.shape[-1])(y)


class LinenViT(linen.Module):
    """ViT-B/16."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Conv(768, (16, 16), (16, 16), padding="VALID", name="patches")(x)
        x = x.reshape(x.shape[0], -1, 768)
        token = self.param("token", linen.initializers.zeros, (1, 1, 768))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, 768)), x], axis=1)
        x = x + self.param("places", linen.initializers.zeros, (1, x.shape[1], 768))
        for _ in range(12):
            x = EncoderBlock()(x)
        return linen.Dense(1000, name="head")(linen.LayerNorm()(x)[:, 0])


class Translator(linen.Module):
    """A small encoder and decoder with causal and cross attention."""

    @linen.compact
    def __call__(self, source: Any, target: Any) -> Any:
        embed = linen.Embed(32000, 512)
        x, y = embed(source), embed(target)
        for _ in range(3):
            x = EncoderBlock(8)(x)
        mask = linen.make_causal_mask(target)
        for _ in range(3):
            y = EncoderBlock(8)(y, mask)
            y = y + linen.MultiHeadDotProductAttention(8, deterministic=True)(linen.LayerNorm()(y), x)
        return embed.attend(y)


class ScannedLayers(linen.Module):
    """`nn.scan` over `nn.remat`ted blocks."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        block = linen.remat(_Step)
        stack = linen.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=6)
        return stack()(x, None)[0]


class _Step(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return EncoderBlock(8)(x), None


class ResBlock(linen.Module):
    """Group norm, swish, convolution, twice, with the step's embedding between."""

    features: int

    @linen.compact
    def __call__(self, x: Any, step: Any) -> Any:
        y = linen.Conv(self.features, (3, 3))(linen.swish(linen.GroupNorm(32)(x)))
        y = y + linen.Dense(self.features)(linen.swish(step))[:, None, None]
        y = linen.Conv(self.features, (3, 3))(linen.swish(linen.GroupNorm(32)(y)))
        x = x if x.shape[-1] == self.features else linen.Conv(self.features, (1, 1))(x)
        return x + y


class UNet(linen.Module):
    """A diffusion UNet: down, middle with attention, up with skips."""

    widths: tuple[int, ...] = (128, 256, 256)

    @linen.compact
    def __call__(self, x: Any, time: Any) -> Any:
        angles = time[:, None] * jnp.exp(-jnp.arange(64) / 64.0)
        step = linen.Dense(512)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1))
        x = linen.Conv(self.widths[0], (3, 3))(x)
        skips = []
        for width in self.widths:
            x = ResBlock(width)(x, step)
            skips.append(x)
            x = linen.Conv(width, (3, 3), (2, 2))(x)
        flat = linen.GroupNorm(32)(x).reshape(x.shape[0], -1, x.shape[-1])
        x = x + linen.MultiHeadDotProductAttention(4, deterministic=True)(flat).reshape(x.shape)
        for width in reversed(self.widths):
            b, h, w, c = x.shape
            x = jax.image.resize(x, (b, 2 * h, 2 * w, c), "nearest")
            x = ResBlock(width)(jnp.concatenate([x, skips.pop()], -1), step)
        return linen.Conv(3, (3, 3))(linen.swish(linen.GroupNorm(32)(x)))


class Mixer(linen.Module):
    """MLP-Mixer."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.Conv(512, (16, 16), (16, 16))(x).reshape(x.shape[0], -1, 512)
        for _ in range(8):
            y = linen.LayerNorm()(x).swapaxes(1, 2)
            y = linen.Dense(x.shape[1])(linen.gelu(linen.Dense(256)(y)))
            x = x + y.swapaxes(1, 2)
            x = x + linen.Dense(512)(linen.gelu(linen.Dense(2048)(linen.LayerNorm()(x))))
        return linen.Dense(1000)(linen.LayerNorm()(x).mean(1))


class ConvNeXt(linen.Module):
    """ConvNeXt-T."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        for i, (depth, width) in enumerate(zip((3, 3, 9, 3), (96, 192, 384, 768), strict=True)):
            size = 4 if i == 0 else 2
            x = linen.LayerNorm()(linen.Conv(width, (size, size), (size, size))(x))
            for _ in range(depth):
                y = linen.Conv(width, (7, 7), feature_group_count=width)(x)
                y = linen.Dense(width)(linen.gelu(linen.Dense(4 * width)(linen.LayerNorm()(y))))
                x = x + y * self.param(f"scale{i}_{_}", linen.initializers.ones, (width,))
        return linen.Dense(1000)(linen.LayerNorm()(x.mean((1, 2))))


class Recurrent(linen.Module):
    """An LSTM with Linen's own scan."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        return linen.Dense(10)(linen.RNN(linen.OptimizedLSTMCell(128))(x)[:, -1])


class QKNorm(linen.Module):
    """Attention with normalized queries and keys, written with einsum and a where-mask."""

    @linen.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        q, k, v = (linen.DenseGeneral((8, 64), name=n)(x) for n in "qkv")
        q, k = linen.RMSNorm(name="nq")(q), linen.RMSNorm(name="nk")(k)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        weights = jax.nn.softmax(scores, where=mask[:, None, None, :], axis=-1)
        return linen.DenseGeneral(512, axis=(-2, -1))(jnp.einsum("bhqk,bkhd->bqhd", weights, v))
