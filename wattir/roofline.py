"""Seconds and joules of one kernel: the formulas, on plain floats.

Written once. Called as they are they serve one estimate; the numba engine compiles these very function objects for
batches. So: arithmetic, `math` functions and ifs on floats only, no objects, no keyword arguments.

    t_compute = whole waves of whole tiles at the rate of the chip's units (`tiled_seconds`), of the better tile
    t_memory  = bytes from memory / bandwidth + bytes from the last-level cache / its bandwidth
    t_busy    = (t_compute^s + t_vector^s + t_memory^s)^(1/s)      (s: sharpness)
    t         = t_busy + t_fixed * launches + t_wave * rows of tiles / units + bytes to other devices / link
    E         = static_w t + busy_w t_busy + sum of energies per FLOP, per operation and per byte
    cap       : if E / t > limit_w the chip lowers its clock: t grows by the excess of dynamic power to the power of
                `THROTTLE`, E = limit_w t. So it is for a kernel that runs alone for long; a network's kernels share
                one limit (`wattir.totals.under_limit`)

`busy_w` is what units draw by running at all, whatever they get done: fetching and issuing instructions, addresses,
registers, the clock tree. Without it kernels far from every roof (pooling, permutations, norms) come out at half.

A machine's file may hold a learned correction for a family of kernels: both the seconds and the joules of the physics
are multiplied by the bounded exponential of a small ensemble of trees over the kernel's shape (`correction`).

Sources: Williams et al. (2009) for the roofline; Choi, Bedard, Fowler and Vuduc (IPDPS 2013) for energy and cap.
"""

from __future__ import annotations

import math
from typing import Any

ALIGNED = 8.0
"""Rows of 16 bit elements that are no multiple of this cannot be fetched 16 bytes at a time: `ragged_rate`."""

VECTOR = 16.0
"""Numbers that units take at a time: 16 of 32 bits in AVX-512, and the edge of a tensor core's tile."""

PIECE_DEPTH = 256.0
"""The least inner dimension of one piece of a split product."""

PARTIAL_BYTES = 8.0
"""Each result of each piece is written and read once more, in 32 bits."""

THROTTLE = 0.45
"""1 for energy independent of the clock, 1/3 where power falls with the clock's cube; fitted on H200 and B200."""

MOST_CORRECTED = 4.0
"""Bound of a learned correction, in log space: it tells the library's habits, it does not replace the physics. Kernels
that the host launches one by one, where others are replayed, take up to 50 times as long (280 us, fp8 in blocks by
Triton on L40S)."""

SPECIAL_OPS = 8.0
"""Operations that one exponential, root or division counts as (a quarter-rate unit and its range reduction)."""


def tiled_seconds(
    m: float, n: float, k: float, groups: float, units: float, tile_m: float, tile_n: float, s_per_flop: float,
    fill_k: float, step_s: float, split_s: float, s_per_cache_byte: float,
) -> float:  # fmt: skip
    """Seconds for [m, k] by [k, n], cut into tiles of which every unit takes one at a time.

        (k + fill_k) (waves 2 tile_m tile_n s_per_flop + step_s)        `s_per_flop` of one unit

    Tiles at the edges count whole, and so does the last wave. A tile fills and drains its unit's pipeline in the time
    of `fill_k` steps along the inner dimension; a step waits `step_s` for its operands, once for all waves, since
    later tiles hide it. Where tiles leave units free, libraries split the inner dimension over them if that is faster:
    `split_s` and the traffic of partial results for pieces of k / units free (0: its kernels do not split).
    """
    tiles = math.ceil(m / tile_m) * math.ceil(n / tile_n) * groups
    tile_s = 2.0 * tile_m * tile_n * s_per_flop
    whole_s = (k + fill_k) * (math.ceil(tiles / units) * tile_s + step_s)
    pieces = min(units // tiles, k // PIECE_DEPTH)
    if split_s <= 0.0 or pieces < 2.0:
        return whole_s
    added_s = split_s + PARTIAL_BYTES * pieces * m * n * groups * s_per_cache_byte
    return min(whole_s, (k / pieces + fill_k) * (tile_s + step_s) + added_s)


def waves_of_rows(m: float, groups: float, tile_m: float, units: float) -> float:
    """How many rows of tiles each unit has to begin and to end; in attention a row walks over all keys."""
    return math.ceil(m / tile_m) * groups / units


def cached_bytes(activation_bytes: float, cache_bytes: float) -> float:
    """Activation bytes that the last-level cache still holds: all of a small tensor, a cacheful of a large one."""
    return activation_bytes if activation_bytes < cache_bytes else cache_bytes


def smooth_max(a: float, b: float, c: float, sharpness: float) -> float:
    """(a^s + b^s + c^s)^(1/s): the largest for large s, a softer corner for small s. Most kernels have two roofs."""
    top = max(a, b, c)
    if top <= 0.0:
        return 0.0
    if b <= 0.0:
        low = (c if c < a else a) / top
        return float(top * (1.0 + low**sharpness) ** (1.0 / sharpness)) if low > 0.0 else top
    return float(top * ((a / top) ** sharpness + (b / top) ** sharpness + (c / top) ** sharpness) ** (1.0 / sharpness))


def slowdown(seconds: float, dynamic_j: float, static_w: float, limit_w: float) -> float:
    """How much longer arithmetic takes at the clock that holds the power limit; memory keeps its own clock.

    Clock and voltage fall together, so power falls faster than speed: the excess of dynamic power to the power of
    `THROTTLE`.
    """
    allowed_j = (limit_w - static_w) * seconds
    return float((dynamic_j / allowed_j) ** THROTTLE) if dynamic_j > allowed_j else 1.0


def compute_seconds(
    macs: float, m: float, n: float, k: float, groups: float, s_per_flop: float, units: float,
    tile_m: float, tile_n: float, small_m: float, small_n: float, small_rate: float, ragged_rate: float,
    fill_k: float, step_s: float, split_s: float, s_per_cache_byte: float,
) -> float:  # fmt: skip
    """Seconds of the contraction units alone, with the better of a large and a small tile.

    The small one runs at `small_rate` of the large one's rate.
    """
    unit_s = s_per_flop * units
    large_s = tiled_seconds(m, n, k, groups, units, tile_m, tile_n, unit_s, fill_k, step_s, split_s, s_per_cache_byte)
    small_s = tiled_seconds(
        m, n, k, groups, units, small_m, small_n, unit_s / small_rate, fill_k, step_s, split_s, s_per_cache_byte
    )
    seconds = min(large_s, small_s) * macs / (groups * m * n * k)
    if n % ALIGNED != 0.0 or k % ALIGNED != 0.0:
        seconds /= ragged_rate
    return seconds


def features(
    macs: float, m: float, n: float, k: float, groups: float, window: float, in_points: float, tokens: float,
    experts: float, ops: float, moved_bytes: float, seconds: float, units: float,
) -> tuple[
    float, float, float, float, float, float, float, float, float, float, float, float, float, float, float, float,
    float, float, float, float, float, float,
]:  # fmt: skip
    """What a learned correction may look at, in the order of `FEATURES`: base-2 logarithms, -10 for nothing.

    Convolutions of one [m, k] by [k, n] differ by their ``window``, whose points are gathered again for every output
    but come from the cache, their ``channels``, which lie together, and their ``stride``, here points read for each
    point written. What is left over when columns and channels fill vectors of `VECTOR` is no logarithm: libraries
    choose other kernels for odd sizes. ``intensity``, operations by the byte, tells functions of elements apart (a ReLU
    has 1 operation, a sigmoid some ten) and poolings that overlap. ``tokens`` of one device and the rows that reach its
    ``experts`` differ by top k and by devices: libraries lay out, sort and sum by the former. Attention's tell the
    sequences from the heads of one contraction.
    """
    work = groups * m * n * k
    channels = k / window if window > 0.0 else k
    return (
        log2_of(m), log2_of(n), log2_of(k), log2_of(groups),
        log2_of(macs / work) if work > 0.0 else 0.0,
        last_wave(m, n, groups, 128.0, 128.0, units), last_wave(m, n, groups, 256.0, 128.0, units),
        last_wave(m, n, groups, 128.0, 256.0, units), last_wave(m, n, groups, 64.0, 64.0, units),
        log2_of(ops), log2_of(moved_bytes), log2_of(seconds * 1e6), log2_of(groups * m * n), log2_of(groups * n * k),
        log2_of(window), log2_of(channels), log2_of(in_points / m) if m > 0.0 else 0.0, n % VECTOR, channels % VECTOR,
        log2_of(ops / moved_bytes) if moved_bytes > 0.0 else 0.0, log2_of(tokens), log2_of(experts),
    )  # fmt: skip


FEATURES = ("m", "n", "k", "groups", "masked", "wave_128_128", "wave_256_128", "wave_128_256", "wave_64_64", "ops",
            "bytes", "seconds", "results", "weights", "window", "channels", "stride", "columns_over", "channels_over",
            "intensity", "tokens", "experts")  # fmt: skip
"""New ones go to the end: texts of trees (`wattir.trees`) know these by their place."""


def log2_of(value: float) -> float:
    """log2, and -10 from a thousandth down."""
    return math.log2(value) if value > 0.001 else -10.0


def last_wave(m: float, n: float, groups: float, tile_m: float, tile_n: float, units: float) -> float:
    """log2 of how much longer whole waves of tiles take than the tiles would if they could be spread evenly."""
    waves = math.ceil(m / tile_m) * math.ceil(n / tile_n) * groups / units
    return math.log2(math.ceil(waves) / waves) if waves > 0.0 else 0.0


def correction(trees: Any, at: float, found: Any) -> float:
    """exp of the sum of an ensemble of regression trees, within `MOST_CORRECTED` either way.

    `trees` is one flat table of numbers: at `at` the number of trees, then where each begins (from `at`), then nodes of
    three: (feature, threshold, steps to the node for larger values), or (-1, value, 0) for a leaf. A node is followed
    by the one for smaller or equal values.
    """
    first, total = int(at), 0.0
    for i in range(int(trees[first])):
        node = first + int(trees[first + 1 + i])
        while trees[node] >= 0.0:
            node += 3 if found[int(trees[node])] <= trees[node + 1] else int(trees[node + 2])
        total += trees[node + 1]
    return math.exp(min(max(total, -MOST_CORRECTED), MOST_CORRECTED))


def kernel_cost(
    macs: float, m: float, n: float, k: float, groups: float, ops: float, special: float,
    weight_bytes: float, activation_bytes: float, state_bytes: float, launches: float,
    link_bytes: float, window: float, in_points: float, tokens: float, experts: float,
    s_per_flop: float, s_per_op: float, s_per_byte: float, s_per_cache_byte: float, fixed_s: float,
    j_per_flop: float, j_per_op: float, j_per_byte: float, j_per_cache_byte: float,
    static_w: float, limit_w: float, sharpness: float, units: float, cache_bytes: float, hot_weights: float,
    tile_m: float, tile_n: float, small_m: float, small_n: float, small_rate: float, wave_s: float, ragged_rate: float,
    fill_k: float, step_s: float, split_s: float, busy_w: float, s_per_link_byte: float,
    time_at: float, power_at: float, trees: Any,
) -> tuple[float, float, float, float, float, float, float, float, float]:  # fmt: skip
    """Seconds and joules of one run of one kernel, then the seconds under each roof and the fixed ones; last what the
    power limit does (`wattir.totals.SUMS`): seconds by which it slows the kernel down, joules that this would draw
    beyond it, joules that it leaves to others.

    `macs` are those really computed (causal attention: half), `m, n, k, groups` the contraction or zeros. The rates
    `s_per_*` already hold the family's efficiencies. `hot_weights` is 1 where all weights of the network stay in the
    last-level cache. State (KV cache) always comes from memory. A special function counts as `SPECIAL_OPS` operations.
    `time_at`, `power_at`: where in `trees` the corrections of seconds, and of joules given those, begin; -1: none.
    """
    hot_bytes = cached_bytes(activation_bytes, cache_bytes) + hot_weights * weight_bytes
    cold_bytes = weight_bytes + activation_bytes + state_bytes - hot_bytes
    all_ops = ops + SPECIAL_OPS * special
    vector_s = all_ops * s_per_op
    memory_s = cold_bytes * s_per_byte + hot_bytes * s_per_cache_byte
    compute_s = 0.0
    if macs > 0.0:
        compute_s = compute_seconds(
            macs, m, n, k, groups, s_per_flop, units, tile_m, tile_n, small_m, small_n, small_rate, ragged_rate,
            fill_k, step_s, split_s, s_per_cache_byte,
        )  # fmt: skip
    launch_s = fixed_s * launches
    if wave_s > 0.0:
        launch_s += wave_s * waves_of_rows(m, groups, small_m, units)
    busy_s = smooth_max(compute_s, vector_s, memory_s, sharpness)
    waits_s = launch_s + link_bytes * s_per_link_byte
    seconds = waits_s + busy_s
    if seconds <= 0.0:
        return 0.0, 0.0, compute_s, vector_s, memory_s, launch_s, 0.0, 0.0, 0.0
    free_s, steady_w = seconds, static_w + busy_w * busy_s / seconds
    work_j = 2.0 * macs * j_per_flop + all_ops * j_per_op + cold_bytes * j_per_byte + hot_bytes * j_per_cache_byte
    if steady_w * seconds + work_j > limit_w * seconds:
        slower = slowdown(seconds, work_j + busy_w * busy_s, static_w, limit_w)
        seconds = waits_s + smooth_max(slower * compute_s, slower * vector_s, memory_s, sharpness)
    longer = dearer = 1.0
    if time_at >= 0.0 or power_at >= 0.0:
        moved = cold_bytes + hot_bytes
        found = features(macs, m, n, k, groups, window, in_points, tokens, experts, all_ops, moved, seconds, units)
        longer = correction(trees, time_at, found) if time_at >= 0.0 else 1.0
        dearer = correction(trees, power_at, found) if power_at >= 0.0 else 1.0
    seconds, free_s = longer * seconds, longer * free_s
    most_j, free_j = limit_w * seconds, dearer * (steady_w * free_s + work_j)
    joules = min(dearer * min(steady_w * seconds + work_j, most_j), most_j)
    held_s, excess_j = seconds - free_s, free_j - joules + limit_w * (seconds - free_s)
    room_j = 0.0 if excess_j > 0.0 else most_j - joules
    return seconds, joules, compute_s, vector_s, memory_s, launch_s, held_s, excess_j, room_j
