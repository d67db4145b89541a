"""Name -> (model, inputs), as `wattir.estimate` takes them: what benchmarks/jax_sweep.py and the tests lower."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax_functions import (
    Pair,
    array,
    bert,
    decode,
    fourier,
    graph_network,
    llama,
    mlp,
    moe,
    recurrent,
    sampler,
    state_space,
)  # fmt: skip
from jax_linen import ConvNeXt, LinenViT, Mixer, QKNorm, Recurrent, ScannedLayers, Translator, UNet, resnet
from jax_nnx import NnxAutoencoder, NnxConvNet, NnxGpt, NnxRecurrent, nnx_model, vit_nnx

NETWORKS: dict[str, Callable[[], Pair]] = {
    "mlp": mlp,
    "bert-base (scan)": bert,
    "llama-3-8b (scan)": llama,
    "mixture of experts": moe,
    "mamba block": state_space,
    "lstm (scan)": recurrent,
    "decode with cache": decode,
    "fourier operator": fourier,
    "graph network": graph_network,
    "sampler (fori_loop)": sampler,
    "nnx vit-b/16": vit_nnx,
    "nnx convnet": lambda: nnx_model(lambda: NnxConvNet(nnx.Rngs(0)), array(8, 28, 28, 1)),
    "nnx gpt-2": lambda: nnx_model(lambda: NnxGpt(nnx.Rngs(0)), array(1, 256, dtype=jnp.int32)),
    "nnx gru": lambda: nnx_model(lambda: NnxRecurrent(nnx.Rngs(0)), array(4, 32, dtype=jnp.int32)),
    "nnx vae": lambda: nnx_model(lambda: NnxAutoencoder(nnx.Rngs(0)), array(4, 32, 32, 3)),
    "linen resnet-50": resnet,
    "linen resnet-101": lambda: resnet(stages=(3, 4, 23, 3)),
    "linen vit-b/16": lambda: (LinenViT(), (array(1, 224, 224, 3),)),
    "linen encoder-decoder": lambda: (Translator(), (array(2, 64, dtype=jnp.int32), array(2, 48, dtype=jnp.int32))),
    "linen scan+remat": lambda: (ScannedLayers(), (array(2, 128, 512),)),
    "linen diffusion unet": lambda: (UNet(), (array(2, 32, 32, 3), array(2))),
    "linen mixer": lambda: (Mixer(), (array(1, 224, 224, 3),)),
    "linen convnext-t": lambda: (ConvNeXt(), (array(1, 224, 224, 3),)),
    "linen lstm": lambda: (Recurrent(), (array(4, 50, 32),)),
    "linen qk-norm": lambda: (QKNorm(), (array(2, 128, 512), array(2, 128, dtype=jnp.bool_))),
}
"""Name -> function that gives the model and its inputs."""
