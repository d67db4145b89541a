"""Decoders of video autoencoders: causal over time, a few latent frames at a time, some of them in tiles.

Defaults are those of the classes of diffusers 0.35, src/diffusers/models/autoencoders.
"""

from __future__ import annotations

from collections import Counter
from itertools import product as iter_product
from math import ceil, prod

from wattir.frontends.configs.diffusion.blocks import Latent
from wattir.frontends.configs.diffusion.canvas import Canvas
from wattir.frontends.configs.diffusion.image_decoders import spatial_norm, widths
from wattir.frontends.configs.diffusion.maps import channel_norm, doubled, map_attention, residual_block, upsampled
from wattir.frontends.configs.keys import Keys

# ---- Wan ------------------------------------------------------------------------------------------------------------


def wan(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLWan (and Qwen-Image's): latent frame by latent frame, the first without those that later ones add;
    Wan 2.2's adds what it enlarges to each stage's result, and makes patches of pixels."""
    channels = k.whole("z_dim", default=16)
    with w.at("post_quant_conv"):
        w.conv("conv", w.given("latents", at.batch, channels, at.frames, at.height, at.width), channels, 1)
    out = ""
    for first, times in ((True, 1), (False, at.frames - 1)):
        if times:
            with w.again("decoder.first" if first else "decoder.later", times, known=not first):
                z = w.given("latent", at.batch, channels, 1, at.height, at.width)
                out = _wan_frames(w, k, z, first)
    return out


def _wan_stages(k: Keys) -> tuple[list[int], list[bool]]:
    base = k.whole("decoder_base_dim", default=k.whole("base_dim", default=96))
    mult = widths(k, (1, 2, 4, 4), "dim_mult")
    times = [bool(each) for each in k.words("temperal_downsample")] or [False, True, True]
    return [base * each for each in (mult[-1], *reversed(mult))], times[::-1]


def _wan_frames(w: Canvas, k: Keys, z: str, first: bool) -> str:
    stages, later = _wan_stages(k)
    x = w.conv("conv_in", z, stages[0], 3)
    x = wan_residual(w, "mid_block.resnets.0", x, stages[0])
    x = frame_attention(w, "mid_block.attentions.0", x)
    x = wan_residual(w, "mid_block.resnets.1", x, stages[0])
    residual = k.flag("is_residual")
    for place, width in enumerate(stages[1:]):
        with w.at(f"up_blocks.{place}"):
            whole = x
            for layer in range(k.whole("num_res_blocks", default=2) + 1):
                x = wan_residual(w, f"resnets.{layer}", x, width)
            if place < len(stages) - 2:
                x = _wan_up(w, x, width, width if residual else width // 2, later[place], first)
                x = w.add("shortcut", x, w.moved("avg_shortcut", whole, *w.shape(x))) if residual else x
    x = w.act("silu", "silu", channel_norm(w, "norm_out", x))
    return w.conv("conv_out", x, k.whole("out_channels", default=3), 3)


def _wan_up(w: Canvas, x: str, width: int, out: int, longer: bool, first: bool) -> str:
    batch, _, frames, *axes = w.shape(x)
    if longer and not first:
        x = w.conv("time_conv", x, 2 * width, (3, 1, 1))
        frames = frames * 2
        x = w.moved("frames", x, batch, width, frames, *axes)
    elif longer:
        w.parameter("time_conv.weight", 2 * width, width, 3)
        w.parameter("time_conv.bias", 2 * width)
    plane = w.moved("planes", x, batch * frames, width, *axes)
    plane = upsampled(w, "resample", plane, out, *doubled(w, plane))
    return w.moved("video", plane, batch, out, frames, *w.shape(plane)[2:])


def wan_residual(w: Canvas, name: str, x: str, out: int) -> str:
    """A residual block whose convolutions see earlier frames."""
    with w.at(name):
        h = w.act("silu1", "silu", channel_norm(w, "norm1", x))
        h = w.conv("conv1", padded(w, "pad1", h), out, 3)
        h = w.act("silu2", "silu", channel_norm(w, "norm2", h))
        h = w.conv("conv2", padded(w, "pad2", h), out, 3)
        return w.add("sum", w.conv("conv_shortcut", x, out, 1) if w.shape(x)[1] != out else x, h)


def padded(w: Canvas, name: str, x: str) -> str:
    """Earlier frames put before these: a copy."""
    return w.moved(name, x, *w.shape(x))


def frame_attention(w: Canvas, name: str, x: str) -> str:
    """Within each frame, by convolutions of one point."""
    batch, channels, frames, height, width = w.shape(x)
    c, points = int(str(channels)), height * width
    with w.at(name):
        planes = channel_norm(w, "norm", w.moved("planes", x, batch * frames, c, height, width))
        qkv = w.conv("to_qkv", planes, 3 * c, 1)
        q, k, v = (w.moved(part, qkv, batch * frames, points, c) for part in "qkv")
        out = w.moved("map", w.attend("attn", q, k, v, 1), batch * frames, c, height, width)
        out = w.moved("video", w.conv("proj", out, c, 1), batch, c, frames, height, width)
        return w.add("sum", out, x)


# ---- HunyuanVideo ---------------------------------------------------------------------------------------------------

TILE, STRIDE = 256, 192
TILE_FRAMES, STRIDE_FRAMES = 16, 12
"""Pixels and frames of a tile, and from one to the next: the defaults of AutoencoderKLHunyuanVideo."""


def hunyuan_video(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLHunyuanVideo: in overlapping tiles where the video is larger than one."""
    space, time = k.whole("spatial_compression_ratio", default=8), k.whole("temporal_compression_ratio", default=4)
    tile, stride = TILE // space, STRIDE // space
    axes = (_tiles(at.frames, TILE_FRAMES // time + 1, STRIDE_FRAMES // time), _tiles(at.height, tile, stride),
            _tiles(at.width, tile, stride))  # fmt: skip
    channels, out = k.whole("latent_channels", default=16), ""
    for place, tiles in enumerate(iter_product(*(axis.items() for axis in axes))):
        sizes, counts = zip(*tiles, strict=True)
        with w.again(f"tiles.{place}", prod(counts), known=place > 0):
            z = w.given("latent", at.batch, channels, *sizes)
            out = _hunyuan_tile(w, k, w.conv("post_quant_conv", z, channels, 1), time)
    return out


def _tiles(size: int, tile: int, stride: int) -> Counter[int]:
    """How many tiles of which size there are along an axis: the last ones are cut."""
    if size <= tile:
        return Counter({size: 1})
    return Counter(min(tile, size - start) for start in range(0, size, stride))


def _hunyuan_tile(w: Canvas, k: Keys, x: str, time: int) -> str:
    stages, groups = widths(k), k.whole("norm_num_groups", default=32)
    last, longer = len(stages) - 1, time.bit_length() - 1
    with w.at("decoder"):
        x = w.conv("conv_in", padded(w, "pad", x), stages[-1], 3)
        x = _padded_residual(w, "mid_block.resnets.0", x, stages[-1], groups)
        if k.flag("mid_block_add_attention", True):
            x = map_attention(w, "mid_block.attentions.0", x, groups=groups)
        x = _padded_residual(w, "mid_block.resnets.1", x, stages[-1], groups)
        for place, width in enumerate(reversed(stages)):
            with w.at(f"up_blocks.{place}"):
                for layer in range(k.whole("layers_per_block", default=2) + 1):
                    x = _padded_residual(w, f"resnets.{layer}", x, width, groups)
                if place < last:
                    frames, *axes = doubled(w, x)
                    frames = 2 * frames - 1 if place >= last - longer else frames
                    x = upsampled(w, "upsamplers.0", x, width, frames, *axes)
        x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x, groups))
        return w.conv("conv_out", padded(w, "pad_out", x), k.whole("out_channels", default=3), 3)


def _padded_residual(w: Canvas, name: str, x: str, out: int, groups: int) -> str:
    w.moved(f"{name}.pad", x, *w.shape(x))
    return residual_block(w, name, x, out, groups=groups)


# ---- CogVideoX ------------------------------------------------------------------------------------------------------

BATCH = 2
"""Latent frames that are decoded at a time."""


def cogvideox(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLCogVideoX: two latent frames at a time, the odd one with the first two."""
    channels, odd = k.whole("latent_channels", default=16), at.frames % BATCH
    batches = max(at.frames // BATCH, 1)
    out = ""
    for name, frames, times in (("first", min(BATCH + odd, at.frames), 1), ("later", BATCH, batches - 1)):
        if times:
            with w.again(f"decoder.{name}", times, known=name == "later"):
                z = w.given("latent", at.batch, channels, frames, at.height, at.width)
                out = _cogvideox_frames(w, k, z, frames)
    return out


def _cogvideox_frames(w: Canvas, k: Keys, z: str, frames: int) -> str:
    stages, groups = widths(k, (128, 256, 256, 512)), k.whole("norm_num_groups", default=32)
    longer = (k.whole("temporal_compression_ratio", default=4)).bit_length() - 1
    x = w.conv("conv_in", padded(w, "pad", z), stages[-1], 3)
    for layer in range(2):
        x = _spatial_residual(w, f"mid_block.resnets.{layer}", x, z, stages[-1], groups)
    for place, width in enumerate(reversed(stages)):
        with w.at(f"up_blocks.{place}"):
            for layer in range(k.whole("layers_per_block", default=3) + 1):
                x = _spatial_residual(w, f"resnets.{layer}", x, z, width, groups)
            if place < len(stages) - 1:
                frames = _grown(frames) if place < longer else frames
                x = _planes_up(w, x, width, frames)
    x = w.act("conv_act", "silu", spatial_norm(w, "norm_out", x, z, groups))
    return w.conv("conv_out", padded(w, "pad_out", x), k.whole("out_channels", default=3), 3)


def _grown(frames: int) -> int:
    """Twice as many, but for the first of an odd number."""
    return 2 * frames - 1 if frames % 2 else 2 * frames


def _planes_up(w: Canvas, x: str, width: int, frames: int) -> str:
    batch, channels, _, height, breadth = w.shape(x)
    x = w.resized("interpolate", x, frames, 2 * height, 2 * breadth)
    planes = w.moved("planes", x, batch * frames, channels, 2 * height, 2 * breadth)
    planes = w.conv("upsamplers.0.conv", planes, width, 3)
    return w.moved("video", planes, batch, width, frames, 2 * height, 2 * breadth)


def _spatial_residual(w: Canvas, name: str, x: str, z: str, out: int, groups: int) -> str:
    with w.at(name):
        h = w.act("silu1", "silu", spatial_norm(w, "norm1", x, z, groups))
        h = w.conv("conv1", padded(w, "pad1", h), out, 3)
        h = w.act("silu2", "silu", spatial_norm(w, "norm2", h, z, groups))
        h = w.conv("conv2", padded(w, "pad2", h), out, 3)
        return w.add("sum", w.conv("conv_shortcut", x, out, 1) if w.shape(x)[1] != out else x, h)


# ---- Stable Video Diffusion -----------------------------------------------------------------------------------------

CHUNK = 8
"""Frames that StableVideoDiffusionPipeline decodes at a time, where it is not told otherwise."""


def temporal(w: Canvas, k: Keys, at: Latent) -> str:
    """AutoencoderKLTemporalDecoder: each block mixes within a frame, then over the frames of a chunk."""
    chunk = min(at.frames, CHUNK)
    with w.again("chunks", ceil(at.frames / chunk), known=False):
        z = w.given("latent", at.batch * chunk, k.whole("latent_channels", default=4), at.height, at.width)
        return _temporal_frames(w, k, z, at, chunk)


def _temporal_frames(w: Canvas, k: Keys, z: str, at: Latent, chunk: int) -> str:
    stages, layers = widths(k), k.whole("layers_per_block", default=1)
    with w.at("decoder"):
        x = w.conv("conv_in", z, stages[-1], 3)
        for layer in range(layers):
            x = _mixed_residual(w, f"mid_block.resnets.{layer}", x, stages[-1], at, chunk)
            if layer == 0:
                x = map_attention(w, "mid_block.attentions.0", x)
        for place, width in enumerate(reversed(stages)):
            with w.at(f"up_blocks.{place}"):
                for layer in range(layers + 1):
                    x = _mixed_residual(w, f"resnets.{layer}", x, width, at, chunk)
                if place < len(stages) - 1:
                    x = upsampled(w, "upsamplers.0", x, width, *doubled(w, x))
        x = w.act("conv_act", "silu", w.group_norm("conv_norm_out", x))
        out = k.whole("out_channels", default=3)
        x = w.conv("conv_out", x, out, 3)
        video = w.moved("video", x, at.batch, out, chunk, *w.shape(x)[2:])
        return w.conv("time_conv_out", video, out, (3, 1, 1))


def _mixed_residual(w: Canvas, name: str, x: str, out: int, at: Latent, chunk: int) -> str:
    x = residual_block(w, f"{name}.spatial", x, out)
    video = w.moved(f"{name}.video", x, at.batch, out, chunk, *w.shape(x)[2:])
    mixed = residual_block(w, f"{name}.temporal", video, out, kernel=(3, 1, 1))
    w.parameter(f"{name}.mix_factor", 1)
    return w.moved(f"{name}.planes", w.kernels(f"{name}.blend", mixed, 3), *w.shape(x))
