"""Writes what generators of images and video are made of: tokens, feature maps, attention shared among devices.

Tokens are [batch, tokens, channels], feature maps [batch, channels, *axes]. Elementwise work is written as the kernels
that PyTorch launches for it one by one, which is how these pipelines run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wattir.dims import Size, ceildiv, product
from wattir.errors import SizeError
from wattir.frontends.configs.writer import Held, Writer

ROTARY_KERNELS = 7
"""Of a rotary embedding in 32 bits: negate, stack, two casts, two products, a sum (diffusers `apply_rotary_emb`)."""
MERGE_KERNELS = 5
"""Of one round of ring attention: a cast and sums and products in 32 bits of what was and what came."""


class Canvas(Writer):
    """A graph in the making. `ulysses` devices exchange heads for tokens around each attention; `ring` of them pass
    keys and values on. Their product share the tokens of a sequence; the graph is what one of them does."""

    def __init__(self, name: str, dtype: str = "bf16", ulysses: int = 1, ring: int = 1) -> None:
        super().__init__(name, Held(dtype, dtype, dtype, dtype))
        self.ulysses, self.ring = ulysses, ring

    @property
    def ranks(self) -> int:
        """Devices that share the tokens of a sequence."""
        return self.ulysses * self.ring

    def local(self, tokens: Size) -> Size:
        """Of so many tokens, those of one device."""
        return ceildiv(tokens, self.ranks)

    def local_text(self, tokens: int) -> int:
        """Of a text's tokens beside those of an image, a device's own: all of them where they do not divide."""
        return tokens if tokens % self.ranks else tokens // self.ranks

    def whole_text(self, tokens: int) -> int:
        """Of a text's tokens, those that every device holds: none where they are shared."""
        return tokens if tokens % self.ranks else 0

    def width(self, x: str) -> int:
        """The channels of tokens."""
        return int(str(self.shape(x)[-1]))

    def given(self, name: str, *shape: Size, dtype: str = "") -> str:
        """What comes from another component or from the caller."""
        return self.builder.tensor(self.path(name), shape, dtype or self.held.dtype, "input")

    def kernels(self, name: str, x: str, count: int = 1, dtype: str = "", by: str = "") -> str:
        """`count` elementwise kernels over `x`, each reading and writing all of it; `by`: a vector they also read."""
        ins = (x, by) if by else (x,)
        with self.at(name, count):
            return self.op("pointwise", "each", ins, self.shape(x), name, dtype, function="elementwise", ops=1)

    def waves(self, name: str, batch: Size, channels: int) -> str:
        """Sines and cosines of a timestep [batch, channels]."""
        return self.op("pointwise", name, (), (batch, channels), "sinusoidal", function="sinusoidal", ops=4, special=2)

    def add(self, name: str, *ins: str) -> str:
        """The sum of tensors of one shape."""
        return self.pointwise(name, "add", *ins)

    def modulated(self, name: str, x: str, by: str) -> str:
        """x (1 + scale) + shift, which are in `by`: two kernels."""
        return self.kernels(name, x, 2, by=by)

    def gated_residual(self, name: str, x: str, onto: str, by: str) -> str:
        """onto + gate x, with the gate in `by`: a product and a sum."""
        return self.add(f"{name}.sum", self.kernels(f"{name}.gate", x, by=by), onto)

    def layer_norm(self, name: str, x: str, affine: bool = False, wide: bool = False) -> str:
        """A layer norm; `wide`: computed in 32 bits, with a cast before and one after."""
        if wide:
            x = self.kernels(f"{name}.cast", x, dtype="fp32")
        out = self.norm(name, x, "layer_norm", weight=affine, bias=affine)
        return self.kernels(f"{name}.back", out, dtype=self.held.dtype) if wide else out

    def loose_rms_norm(self, name: str, x: str, length: int, weight: bool = True) -> str:
        """An RMS norm that no kernel does as one: cast to 32 bits, square, mean, product, cast back, `weight`
        (diffusers `RMSNorm`)."""
        wide = self.kernels(f"{name}.square", self.kernels(f"{name}.cast", x, dtype="fp32"), dtype="fp32")
        rows = product(self.shape(x)) // length
        mean = self.op("reduction", f"{name}.mean", (wide,), (rows,), "mean", "fp32", function="mean", length=length)
        scaled = self.kernels(f"{name}.scale", x, dtype="fp32", by=mean)
        back = self.kernels(f"{name}.back", scaled, dtype=self.held.dtype)
        return self.kernels(f"{name}.weigh", back, by=self.weight(f"{name}.weight", (length,))) if weight else back

    def parameter(self, name: str, *shape: Size) -> None:
        """A parameter whose reading costs nothing beside the rest (a table of scales and shifts)."""
        self.weight(name, shape)

    # ---- feature maps ----

    def conv(self, name: str, x: str, c_out: int, kernel: int | tuple[int, ...], stride: Any = 1, *, groups: int = 1,
             bias: bool = True) -> str:  # fmt: skip
        """A convolution that keeps the axes, or divides them by `stride`."""
        batch, c_in, *axes = self.shape(x)
        taps = (kernel,) * len(axes) if isinstance(kernel, int) else kernel
        steps = (stride,) * len(axes) if isinstance(stride, int) else stride
        out = tuple(ceildiv(size, step) for size, step in zip(axes, steps, strict=True))
        ins = (
            x,
            self.weight(f"{name}.weight", (c_out, int(str(c_in)) // groups, *taps)),
            *self._bias(name, c_out, bias),
        )
        return self.op(
            "conv", name, ins, (batch, c_out, *out), f"conv{len(axes)}d", batch=batch, c_in=c_in, c_out=c_out,
            groups=groups, kernel=taps, in_spatial=tuple(axes), out_spatial=out,
        )  # fmt: skip

    def doubled_conv(self, name: str, x: str) -> str:
        """A transposed convolution of two by two points that doubles a map."""
        batch, channels, height, width = self.shape(x)
        count = int(str(channels))
        ins = (x, self.weight(f"{name}.weight", (count, count, 2, 2)), *self._bias(name, count, True))
        return self.op(
            "conv", name, ins, (batch, channels, height * 2, width * 2), "conv2d", batch=batch, c_in=count, c_out=count,
            groups=1, kernel=(2, 2), in_spatial=(height, width), out_spatial=(height * 2, width * 2), transposed=True,
        )  # fmt: skip

    def group_norm(self, name: str, x: str, groups: int = 32) -> str:
        """Over all axes and the channels of a group."""
        _, channels, *axes = self.shape(x)
        each = int(str(channels)) // groups * product(axes)
        ins = (x, self.weight(f"{name}.weight", (channels,)), self.weight(f"{name}.bias", (channels,)))
        return self.op("norm", name, ins, self.shape(x), "group_norm", function="group_norm", length=each)

    def resized(self, name: str, x: str, *axes: Size) -> str:
        """The nearest neighbours on other axes."""
        return self.op("resize", name, (x,), (*self.shape(x)[:2], *axes), "interpolate", function="nearest", taps=1)

    def moved(self, name: str, x: str, *shape: Size) -> str:
        """Elements in another order, or some of them: a copy."""
        return self.joined(name, (x,), *shape)

    def joined(self, name: str, ins: tuple[str, ...], *shape: Size) -> str:
        """Tensors one after the other in a new one."""
        return self.op("copy", name, ins, shape, "cat" if len(ins) > 1 else "copy", function="copy")

    def seen(self, name: str, x: str, *shape: Size) -> str:
        """The same elements under another shape: nothing moves."""
        return self.op("view", name, (x,), shape, "view", function="view")

    # ---- attention ----

    def attend(self, name: str, q: str, k: str, v: str, heads: int, *, shared: bool = False, whole: Size = 0) -> str:
        """softmax(q k^T) v of tokens [b, s, heads d]. `shared`: queries, keys and values are parts of sequences that
        all devices hold a share of, but for `whole` tokens that each of them has; else every device has all the keys
        that its queries look at."""
        batch, rows, width = self.shape(q)
        d = int(str(width)) // heads
        ulysses, ring = (self.ulysses, self.ring) if shared else (1, 1)
        queries = (rows - whole) * ulysses + whole
        keys = ((self.shape(k)[1] - whole) * ulysses * ring + whole) // ring
        heads = self.own_heads(heads) if shared else heads
        if ulysses > 1:
            q, k, v = (self._exchanged(f"{name}.{part}", x) for part, x in (("q", q), ("k", k), ("v", v)))
        seen = (k, v) if ring == 1 else (self._passed_on(name, k, batch, keys * ring, heads * d),)
        with self.at(name, ring):
            out = self.op(
                "attention", "sdpa", (q, *seen), (batch, queries, heads * d), "sdpa", batch=batch,
                heads=heads, kv_heads=heads, q=queries, kv=keys, d=d, dv=d,
                causal=False,
            )  # fmt: skip
        if ring > 1:
            out = self.kernels(f"{name}.merge", out, MERGE_KERNELS * ring, dtype="fp32")
        out = self.seen(f"{name}.tokens", out, batch, rows, width)
        return self._exchanged(f"{name}.out", out) if ulysses > 1 else out

    def own_heads(self, heads: int) -> int:
        """Of so many heads, those that a device attends with; SizeError where they do not divide."""
        if heads % self.ulysses:
            raise SizeError(
                f"ulysses = {self.ulysses}: {self.builder.name} has {heads} heads, which {self.ulysses} does not "
                f"divide; expected a divisor of {heads}, and the rest of the devices in a ring"
            )
        return heads // self.ulysses

    def exchanged(self, name: str, x: str, shape: tuple[Size, ...]) -> str:
        """Heads for tokens, or back: the result has this shape. Nothing where no devices exchange them."""
        return self.seen(f"{name}.shape", self._exchanged(name, x), *shape) if self.ulysses > 1 else x

    def sent(self, name: str, x: str) -> str:
        """What a neighbour has in its place of x."""
        return self.op("collective", name, (x,), self.shape(x), "send", function="send", ranks=2)

    def _exchanged(self, name: str, x: str) -> str:
        """Heads for tokens among `ulysses` devices: a copy before it, the exchange, and a copy after it."""
        x = self.moved(f"{name}.pack", x, *self.shape(x))
        x = self.op("collective", f"{name}.all_to_all", (x,), self.shape(x), "all_to_all", function="all_to_all",
                    ranks=self.ulysses)  # fmt: skip
        return self.moved(f"{name}.unpack", x, *self.shape(x))

    def _passed_on(self, name: str, k: str, batch: Size, keys: Size, width: int) -> str:
        """Keys and values of all devices of the ring, in as many rounds less one as there are."""
        own = self.seen(f"{name}.kv", k, batch, 2 * keys, width)
        return self.op("collective", f"{name}.ring", (own,), (batch, 2 * keys, width), "ring", function="ring",
                       ranks=self.ring)  # fmt: skip

    @contextmanager
    def again(self, part: str, times: int, known: bool) -> Iterator[None]:
        """Inside it, ops run `times` times as often by the same weights; `known`: these have been counted before."""
        before = self.params, self.weight_bytes
        with self.at(part, times):
            yield
        share = 0 if known else max(times, 1)
        self.params = before[0] + ((self.params - before[0]) // share if share else 0)
        self.weight_bytes = before[1] + ((self.weight_bytes - before[1]) // share if share else 0)
