"""Networks as plain JAX functions of (params, inputs), at published sizes. Nothing here makes a weight."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

F32 = jnp.float32
BF16 = jnp.bfloat16
Pair = tuple[Any, Any]


def array(*shape: Any, dtype: Any = F32) -> Any:
    """The description of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)


def mlp(batch: Any = 8, width: int = 512) -> Pair:
    def network(params: Any, x: Any) -> Any:
        for layer in params:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x

    return network, ([{"w": array(width, width), "b": array(width)} for _ in range(3)], array(batch, width))


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-12) * scale + shift


def rms_norm(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale


def bert(batch: Any = 1, seq: Any = 128, layers: int = 12, scanned: bool = True) -> Pair:
    """BERT-base: embeddings, 12 post-norm layers, pooler."""
    d, hidden, heads = 768, 3072, 12

    def layer(x: Any, p: Any) -> Any:
        with jax.named_scope("attention"):
            q, k, v = (x @ p[n] + p[f"b{n}"] for n in "qkv")
            q, k, v = (y.reshape(*y.shape[:2], heads, -1).transpose(0, 2, 1, 3) for y in (q, k, v))
            scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / 8.0
            mixed = jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), v)
            x = layer_norm(x + mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ p["o"] + p["bo"], p["s1"], p["h1"])
        with jax.named_scope("mlp"):
            up = jax.nn.gelu(x @ p["up"] + p["bup"], approximate=False)
            return layer_norm(x + up @ p["down"] + p["bdown"], p["s2"], p["h2"])

    def network(params: Any, ids: Any) -> Any:
        x = params["words"][ids] + params["places"][: ids.shape[1]] + params["kinds"][0]
        x = layer_norm(x, params["s0"], params["h0"])
        if scanned:
            x, _ = lax.scan(lambda x, p: (layer(x, p), None), x, params["layers"])
        else:
            for i in range(layers):
                x = layer(x, jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], params["layers"]))
        return jnp.tanh(x[:, 0] @ params["pool"] + params["bpool"])

    vectors = dict.fromkeys(("bq", "bk", "bv", "bo", "bdown", "s1", "h1", "s2", "h2"), (d,))
    shapes = dict.fromkeys("qkvo", (d, d)) | {"up": (d, hidden), "down": (hidden, d), "bup": (hidden,)} | vectors
    params = {
        "words": array(30522, d), "places": array(512, d), "kinds": array(2, d), "s0": array(d), "h0": array(d),
        "pool": array(d, d), "bpool": array(d),
        "layers": {name: array(layers, *shape) for name, shape in shapes.items()},
    }  # fmt: skip
    return network, (params, array(batch, seq, dtype=jnp.int32))


def llama(
    batch: Any = 1, seq: Any = 512, layers: int = 32, d: int = 4096, hidden: int = 14336, heads: int = 32,
    kv_heads: int = 8, vocabulary: int = 128256, scanned: bool = True, dtype: Any = BF16,
) -> Pair:  # fmt: skip
    """Llama-3-8B's shape: grouped-query attention with rotary positions, a gated MLP, logits of every position."""
    size = d // heads

    def rotate(x: Any, angles: Any) -> Any:
        a, b = jnp.split(x, 2, axis=-1)
        cos, sin = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)

    def layer(x: Any, p: Any, angles: Any) -> Any:
        with jax.named_scope("attention"):
            y = rms_norm(x, p["s1"])
            q, k, v = ((y @ p[n]).reshape(*x.shape[:2], -1, size) for n in "qkv")
            q, k = rotate(q, angles), rotate(k, angles)
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.reshape(*x.shape[:2], -1) @ p["o"]
        with jax.named_scope("mlp"):
            y = rms_norm(x, p["s2"])
            return x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]

    def network(params: Any, ids: Any) -> Any:
        x = params["embed"][ids]
        steps = jnp.arange(ids.shape[1], dtype=F32)[:, None]
        angles = steps * 500000.0 ** (-jnp.arange(0, size, 2, dtype=F32) / size)
        if scanned:
            x, _ = lax.scan(lambda x, p: (layer(x, p, angles), None), x, params["layers"])
        else:
            for i in range(layers):
                x = layer(x, jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], params["layers"]), angles)
        return rms_norm(x, params["s"]) @ params["head"]

    shapes: dict[str, tuple[int, ...]] = {
        "q": (d, d), "k": (d, kv_heads * size), "v": (d, kv_heads * size), "o": (d, d),
        "gate": (d, hidden), "up": (d, hidden), "down": (hidden, d), "s1": (d,), "s2": (d,),
    }  # fmt: skip
    params = {
        "embed": array(vocabulary, d, dtype=dtype), "s": array(d, dtype=dtype),
        "head": array(d, vocabulary, dtype=dtype),
        "layers": {name: array(layers, *shape, dtype=dtype) for name, shape in shapes.items()},
    }  # fmt: skip
    return network, (params, array(batch, seq, dtype=jnp.int32))


def moe(batch: int = 2, seq: int = 64, d: int = 1024, hidden: int = 2048, experts: int = 8, top: int = 2) -> Pair:
    """A mixture of experts: tokens sorted by expert, `lax.ragged_dot` over the rows of each."""

    def network(params: Any, x: Any) -> Any:
        rows = x.reshape(-1, d)
        gates, chosen = lax.top_k(jax.nn.softmax(rows @ params["router"]), top)
        order = jnp.argsort(chosen.reshape(-1))
        sent = rows[order // top]
        counts = jnp.bincount(chosen.reshape(-1), length=experts)
        up = jax.nn.silu(lax.ragged_dot(sent, params["gate"], counts)) * lax.ragged_dot(sent, params["up"], counts)
        back = lax.ragged_dot(up, params["down"], counts) * gates.reshape(-1)[order][:, None]
        return jnp.zeros_like(rows).at[order // top].add(back).reshape(x.shape)

    params = {
        "router": array(d, experts), "gate": array(experts, d, hidden), "up": array(experts, d, hidden),
        "down": array(experts, hidden, d),
    }  # fmt: skip
    return network, (params, array(batch, seq, d))


def state_space(batch: int = 2, seq: int = 256, d: int = 768, states: int = 16) -> Pair:
    """A Mamba block: short convolution, selective scan step by step with `lax.scan`, gate."""
    inner, rank = 2 * d, 48

    def network(params: Any, x: Any) -> Any:
        u, gate = jnp.split(x @ params["in"], 2, axis=-1)
        u = lax.conv_general_dilated(
            u, params["conv"], (1,), [(3, 0)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=inner
        )
        u = jax.nn.silu(u)
        delta, b, c = jnp.split(u @ params["x"], [rank, rank + states], axis=-1)
        delta = jax.nn.softplus(delta @ params["dt"])
        a = -jnp.exp(params["a"])

        def step(h: Any, now: Any) -> Any:
            u_t, d_t, b_t, c_t = now
            h = jnp.exp(d_t[..., None] * a) * h + (d_t * u_t)[..., None] * b_t[:, None, :]
            return h, jnp.einsum("bds,bs->bd", h, c_t)

        moved = tuple(y.swapaxes(0, 1) for y in (u, delta, b, c))
        _, y = lax.scan(step, jnp.zeros((x.shape[0], inner, states)), moved)
        y = y.swapaxes(0, 1) + u * params["d"]
        return (y * jax.nn.silu(gate)) @ params["out"]

    params = {
        "in": array(d, 2 * inner), "conv": array(4, 1, inner), "x": array(inner, rank + 2 * states),
        "dt": array(rank, inner), "a": array(inner, states), "d": array(inner), "out": array(inner, d),
    }  # fmt: skip
    return network, (params, array(batch, seq, d))


def recurrent(batch: int = 8, seq: int = 64, width: int = 256) -> Pair:
    """An LSTM over time with `lax.scan`."""

    def network(params: Any, x: Any) -> Any:
        def step(carry: Any, x_t: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(x_t @ params["x"] + h @ params["h"] + params["b"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((x.shape[0], width))
        return lax.scan(step, (start, start), x.swapaxes(0, 1))[1]

    params = {"x": array(width, 4 * width), "h": array(width, 4 * width), "b": array(4 * width)}
    return network, (params, array(batch, seq, width))


def decode(batch: Any = 1, past: Any = 512, layers: int = 4, d: int = 1024, heads: int = 16) -> Pair:
    """One new token against a cache of keys and values that is updated in place."""

    def network(params: Any, x: Any, cache: Any) -> Any:
        def layer(x: Any, both: Any) -> Any:
            p, held = both
            q, k, v = ((x @ p[n]).reshape(x.shape[0], 1, heads, -1) for n in "qkv")
            keys = lax.dynamic_update_slice(held["k"], k, (0, past - 1, 0, 0))
            values = lax.dynamic_update_slice(held["v"], v, (0, past - 1, 0, 0))
            mixed = jax.nn.dot_product_attention(q, keys, values).reshape(x.shape)
            x = x + mixed @ p["o"]
            return x + jax.nn.gelu(x @ p["up"]) @ p["down"], {"k": keys, "v": values}

        return lax.scan(layer, x, (params, cache))

    shapes = dict.fromkeys("qkvo", (d, d)) | {"up": (d, 4 * d), "down": (4 * d, d)}
    params = {name: array(layers, *shape, dtype=BF16) for name, shape in shapes.items()}
    cache = {name: array(layers, batch, past, heads, d // heads, dtype=BF16) for name in "kv"}
    return network, (params, array(batch, 1, d, dtype=BF16), cache)


def fourier(batch: int = 4, size: int = 64, width: int = 32, modes: int = 12) -> Pair:
    """A Fourier neural operator's layers."""

    def network(params: Any, x: Any) -> Any:
        for p in params:
            spectrum = jnp.fft.rfft2(x, axes=(1, 2))[:, :modes, :modes]
            mixed = jnp.einsum("bxyi,xyio->bxyo", spectrum, p["spectral"])
            back = jnp.fft.irfft2(
                jnp.pad(mixed, ((0, 0), (0, size - modes), (0, size // 2 + 1 - modes), (0, 0))), axes=(1, 2)
            )
            x = jax.nn.gelu(back + x @ p["local"])
        return x

    layer = {"spectral": array(modes, modes, width, width, dtype=jnp.complex64), "local": array(width, width)}
    return network, ([layer] * 4, array(batch, size, size, width))


def graph_network(nodes: int = 2048, edges: int = 8192, width: int = 128) -> Pair:
    """Message passing: gather, MLP on edges, segment sum."""

    def network(params: Any, x: Any, senders: Any, receivers: Any) -> Any:
        for p in params:
            messages = jax.nn.relu(jnp.concatenate([x[senders], x[receivers]], -1) @ p["message"])
            x = x + jax.nn.relu(jax.ops.segment_sum(messages, receivers, nodes) @ p["update"])
        return x

    layer = {"message": array(2 * width, width), "update": array(width, width)}
    index = array(edges, dtype=jnp.int32)
    return network, ([layer] * 3, array(nodes, width), index, index)


def sampler(batch: int = 2, width: int = 256, steps: int = 20) -> Pair:
    """Denoising with a `fori_loop`, noise from a key in each step."""

    def network(params: Any, x: Any, key: Any) -> Any:
        def step(i: Any, x: Any) -> Any:
            noise = jax.random.normal(jax.random.fold_in(key, i), x.shape)
            return x - 0.1 * jnp.tanh(x @ params["w1"]) @ params["w2"] + 0.01 * noise

        return lax.fori_loop(0, steps, step, x)

    key = jax.eval_shape(lambda: jax.random.key(0))
    return network, ({"w1": array(width, width), "w2": array(width, width)}, array(batch, width), key)
