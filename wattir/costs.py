"""Cost rules: one per op kind, from an op of the IR to its `Work`.

A rule answers with the columns that its kind adds to what every op has (bytes of its tensors by role). It is written
as ordinary arithmetic on Sizes, so that the same rule gives a number or a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wattir.dims import Size, ceildiv, maximum, minimum, product
from wattir.ir import Graph, Op, Tensor
from wattir.kinds import FLOATS
from wattir.work import Work

Columns = dict[str, Any]
Rule = Callable[[Op, Graph], Columns]


def tabulate(graph: Graph) -> tuple[Work, ...]:
    """The Work of every op of a graph that costs anything, in order; views cost nothing and are left out."""
    return tuple(op_work(op, graph) for op in graph.ops if op.kind != "view")


def op_work(op: Op, graph: Graph) -> Work:
    """The Work of one op."""
    columns = _streams(op, graph)
    columns.update(RULES[op.kind](op, graph))
    columns["ops"] = columns.get("ops", 0) + op.attrs.get("fused_ops", 0)
    columns["special"] = columns.get("special", 0) + op.attrs.get("fused_special", 0)
    columns.setdefault("family", op.kind)
    columns.setdefault("macs_causal", columns.get("macs", 0))
    return Work(name=op.name, kind=op.kind, source=op.source, math=math_of(op, graph), times=op.times, **columns)


def math_of(op: Op, graph: Graph) -> str:
    """The dtype that an op computes in: its `math` attribute, else the first float of its two operands, else fp32."""
    if "math" in op.attrs:
        return str(op.attrs["math"])
    found = [graph.tensors[name].dtype for name in op.ins[:2]]
    floats = [dtype for dtype in found if dtype in FLOATS]
    return floats[0] if floats else "fp32"


def _streams(op: Op, graph: Graph) -> Columns:
    """Bytes by stream, each distinct tensor once."""
    streams: dict[str, Size] = {"weight_bytes": 0, "in_bytes": 0, "out_bytes": 0, "state_bytes": 0}
    for name in dict.fromkeys(op.ins):
        tensor = graph.tensors[name]
        streams[_STREAM_OF_ROLE[tensor.role]] += tensor.bytes
    for name in op.outs:
        tensor = graph.tensors[name]
        streams["state_bytes" if tensor.role == "state" else "out_bytes"] += tensor.bytes
    return streams


_STREAM_OF_ROLE = {
    "weight": "weight_bytes",
    "constant": "weight_bytes",
    "state": "state_bytes",
    "input": "in_bytes",
    "value": "in_bytes",
}


def _out(op: Op, graph: Graph) -> Tensor:
    return graph.tensors[op.outs[0]]


def _in(op: Op, graph: Graph) -> Tensor:
    return graph.tensors[op.ins[0]] if op.ins else _out(op, graph)


def _matmul(op: Op, graph: Graph) -> Columns:
    """MACs = groups m n k, or rows n k."""
    a = op.attrs
    sizes = {name: a[name] for name in ("groups", "m", "n", "k")}
    macs = a["rows"] * a["n"] * a["k"] if "rows" in a else product(sizes.values())
    choice = {name: a[name] for name in ("tokens", "experts") if name in a}
    return {"family": "matmul", "macs": macs, **sizes, **choice}


def _conv(op: Op, graph: Graph) -> Columns:
    """MACs = batch * output points * c_out * c_in / groups * kernel; a transposed one walks over its input points."""
    a = op.attrs
    taps, c_in, c_out = product(a["kernel"]), a["c_in"] // a["groups"], a["c_out"] // a["groups"]
    in_points: Size = a["batch"] * product(a["in_spatial"])
    points, n, window = a["batch"] * product(a["out_spatial"]), c_out, taps
    if a.get("transposed", False):
        points, n, window = in_points, c_out * taps, 1  # every point of the input is spread by itself
    k = c_in * window
    return {
        "family": _conv_family(a, c_in), "macs": a["groups"] * points * n * k, "m": points, "n": n, "k": k,
        "groups": a["groups"], "window": window, "in_points": in_points,
    }  # fmt: skip


def _conv_family(a: Mapping[str, Any], c_in: Size) -> str:
    """depthwise; stem: reads an image, too few channels to fill a matrix unit; conv3x3: of unit stride with a dense
    kernel above 1, where libraries save arithmetic (Winograd); conv: all others."""
    if c_in == 1 and a["groups"] != 1:
        return "depthwise"
    if isinstance(c_in, int) and c_in <= 4 and a["groups"] == 1:
        return "stem"
    axes = zip(a["kernel"], a["in_spatial"], a["out_spatial"], strict=True)
    unit_stride = all(taps != 1 and out in (size, size - taps + 1) for taps, size, out in axes)
    return "conv3x3" if unit_stride and len(a["kernel"]) == 2 and not a.get("transposed", False) else "conv"


def _attention(op: Op, graph: Graph) -> Columns:
    """MACs = batch heads pairs (d + dv); 1 exponential per pair. See `attention_pairs`."""
    a = op.attrs
    rows = a["batch"] * a["heads"]
    full = minimum(a["kv"], a["window"]) if a.get("window", 0) != 0 else a["kv"]
    pairs, pairs_causal = a["q"] * full, attention_pairs(a["q"], a["kv"], a["causal"], a.get("window", 0))
    return {
        **_windowed_streams(op, graph),
        "family": "decode" if a["q"] == 1 else "attention",
        "macs": rows * pairs * (a["d"] + a["dv"]), "macs_causal": rows * pairs_causal * (a["d"] + a["dv"]),
        "m": a["q"] * (a["heads"] // a["kv_heads"]), "n": full, "k": a["d"] + a["dv"],
        "groups": a["batch"] * a["kv_heads"],  # queries that share keys fill one tile
        "tokens": a["batch"] * a["q"],
        "ops": 4 * rows * pairs_causal, "special": rows * pairs_causal,
    }  # fmt: skip


def _windowed_streams(op: Op, graph: Graph) -> Columns:
    """Of keys and values outside every query's window nothing is read: q queries see window + q - 1 positions."""
    a = op.attrs
    if a.get("window", 0) == 0 or len(op.ins) < 3:
        return {}
    key = graph.tensors[op.ins[1]]
    if key.elements != a["batch"] * a["kv_heads"] * a["kv"] * a["d"]:
        return {}
    unread = a["kv"] - minimum(a["kv"], a["window"] + a["q"] - 1)
    stream = _STREAM_OF_ROLE[key.role]
    spared = Tensor((a["batch"], a["kv_heads"], unread, a["d"] + a["dv"]), key.dtype).bytes
    return {stream: _streams(op, graph)[stream] - spared}


def attention_pairs(q: Size, kv: Size, causal: bool, window: Size = 0) -> Size:
    """How many (query, key) pairs are computed: q kv, or with the mask.

    Causal: queries are the last q of kv positions, so query i of q sees kv - q + i keys: q kv - q (q - 1) / 2 in all.
    A window w caps what each query sees at w keys.
    """
    if not causal:
        return q * (minimum(kv, window) if window != 0 else kv)
    if window == 0:
        return q * kv - q * (q - 1) // 2
    short = maximum(minimum(q, window - (kv - q)), 0)  # queries that see fewer keys than the window
    return q * window - short * (window - (kv - q)) + short * (short + 1) // 2


def _recurrent(op: Op, graph: Graph) -> Columns:
    """MACs = directions steps batch gates hidden (input + hidden); weights stay in cache between steps."""
    a = op.attrs
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[a["function"]]
    cells = a["directions"] * a["steps"] * a["batch"] * a["hidden"]
    return {
        "macs": cells * gates * (a["input"] + a["hidden"]), "m": a["batch"], "n": gates * a["hidden"],
        "k": a["input"] + a["hidden"], "groups": a["directions"] * a["steps"],
        "ops": 6 * cells * gates, "special": cells * (gates + 1), "launches": a["directions"] * a["steps"],
    }  # fmt: skip


def _scan(op: Op, graph: Graph) -> Columns:
    """Step by step; or in chunks, whose products leave vector units one in `CHUNKED` of the operations.

    One step has a kernel of its own. Prompts take `CHUNK_LAUNCHES`; half of their time goes to whole chunks, however
    few steps the last one has. A chunk of a delta rule waits for the state that the chunk before it leaves.
    """
    a = op.attrs
    steps, ops = a["steps"], a["elements"] * a["ops"]
    if "chunk" not in a:
        return {"ops": steps * ops}
    chunks, prompt = ceildiv(steps, a["chunk"]), minimum(steps - 1, 1)
    filled = steps + prompt * (chunks * a["chunk"] - steps) // 2
    waits = chunks // WAITS_OF_LAUNCH if "delta" in a["function"] else 0
    return {
        "ops": filled * ops // CHUNKED, "m": steps, "groups": a["elements"],
        "launches": 1 + prompt * (CHUNK_LAUNCHES - 1 + waits),
    }  # fmt: skip


CHUNKED = 4
"""A number of state and a step of long prompts take an SM 15 ps in gated delta nets on H200, 13 to 15 on B200, and 11
in Mamba-2 (kernels_power): with a quarter of 8 and of 6 operations the vector units reach half of their rate, as in
pointwise kernels. By the rates of tensor units B200 would be twice as fast as H200; it is 1.1 to 1.3 times."""
CHUNK_LAUNCHES = 5
"""Sums of decays, products within chunks, their inverse, states, results."""
WAITS_OF_LAUNCH = 3
"""A wait takes 1.3 us on H200 and 1.5 on B200, where a launch takes 3.6 and 4.2: a prompt of a delta net with 16 heads
takes twice as long alone as one of 64 does."""


def _norm(op: Op, graph: Graph) -> Columns:
    """Two passes in registers: sum, squares, subtract, scale, shift, and one root per row.

    A row is one block of threads. A batch norm at inference has no rows to sum.
    """
    elements, function = _out(op, graph).elements, op.attrs["function"]
    rows = maximum(elements // maximum(op.attrs["length"], 1), 1)
    columns = {"ops": 6 * elements, "special": rows}
    if function == "batch_norm":
        return columns
    return {**columns, "family": "group_norm" if function in _FEW_ROWS else "norm", **_blocks(rows)}


_FEW_ROWS = ("group_norm", "instance_norm")
"""Rows are long and few: kernels of their own, far from the memory's rate."""


def _softmax(op: Op, graph: Graph) -> Columns:
    """max, subtract, exponential, sum, divide."""
    elements = _out(op, graph).elements
    return {"ops": 4 * elements, "special": elements}


def _reduction(op: Op, graph: Graph) -> Columns:
    """One block of threads adds up an output."""
    outputs = _out(op, graph).elements
    return {"ops": outputs * op.attrs["length"], **_blocks(outputs)}


def _blocks(rows: Size) -> Columns:
    """Rows that are one block of threads each, however short: `groups` counts them (see `Family.wave_s`)."""
    return {"m": 1, "groups": rows}


def _pooling(op: Op, graph: Graph) -> Columns:
    """One thread finds an output's place, by a division for each axis, and walks over its window.

    Where the window is the whole image this is a reduction.
    """
    out, window = _out(op, graph), op.attrs["window"]
    ops = out.elements * window
    if _shrinks_to_one(_in(op, graph).shape, out.shape):
        return {"family": "reduction", "ops": ops, **_blocks(out.elements)}
    return {"ops": ops, "special": out.elements * len(out.shape), "window": window}


def _shrinks_to_one(before: tuple[Size, ...], after: tuple[Size, ...]) -> bool:
    """Whether every axis that changes ends up as 1."""
    axes = zip(before, after, strict=False)
    return before != after and len(before) == len(after) and all(end in (1, size) for size, end in axes)


def _per_output(attribute: str) -> Rule:
    def cost(op: Op, graph: Graph) -> Columns:
        return {"ops": _out(op, graph).elements * op.attrs[attribute]}

    return cost


def _pointwise(op: Op, graph: Graph) -> Columns:
    elements = _out(op, graph).elements
    return {"ops": elements * op.attrs["ops"], "special": elements * op.attrs.get("special", 0)}


def _gather(op: Op, graph: Graph) -> Columns:
    """Only the rows that are asked for are read from the table, be it activation, weight or state.

    A row of an embedding is one block of threads.
    """
    streams = _streams(op, graph)
    if not op.ins:
        return {}
    table = graph.tensors[op.ins[0]]
    stream = _STREAM_OF_ROLE[table.role]
    read = minimum(table.bytes, _out(op, graph).bytes)
    embedded = op.attrs["function"] == "embedding"
    rows = _blocks(_out(op, graph).elements // maximum(table.shape[-1], 1)) if embedded else {}
    return {stream: streams[stream] - table.bytes + read, **rows}


def _scatter(op: Op, graph: Graph) -> Columns:
    """In place: only the updated elements are read and written."""
    out = _out(op, graph)
    written = Tensor((op.attrs["updates"],), out.dtype).bytes
    stream = "state_bytes" if out.role == "state" else "out_bytes"
    return {**_streams(op, graph), "in_bytes": written, "out_bytes": 0, "state_bytes": 0, stream: written}


def _sort(op: Op, graph: Graph) -> Columns:
    """n log2 n comparisons, as for 2^16 elements where the length is not a number."""
    length = op.attrs["length"]
    rounds = max(length - 1, 1).bit_length() if isinstance(length, int) else 16
    return {"ops": _in(op, graph).elements * rounds}


def _random(op: Op, graph: Graph) -> Columns:
    return {"ops": 20 * _out(op, graph).elements}


def _quantize(op: Op, graph: Graph) -> Columns:
    return {"ops": 3 * _out(op, graph).elements}


def _fft(op: Op, graph: Graph) -> Columns:
    """5 n log2 n operations per transform of length n (the usual count), as for 2^10 where n is not a number."""
    length = op.attrs["length"]
    rounds = max(length - 1, 1).bit_length() if isinstance(length, int) else 10
    return {"ops": 5 * rounds * _out(op, graph).elements}


def _collective(op: Op, graph: Graph) -> Columns:
    """Ring: 2 (r - 1) / r of the bytes leave each of r ranks in an all-reduce, (r - 1) / r else.

    On a machine whose link is not known the bytes in memory count, and the report lists the op as unknown.
    """
    ranks, rounds = op.attrs["ranks"], 2 if op.attrs["function"] == "all_reduce" else 1
    return {"link_bytes": rounds * (ranks - 1) * _in(op, graph).bytes // ranks, "groups": ranks}


def _host(op: Op, graph: Graph) -> Columns:
    return {"ops": op.attrs.get("ops", 0), "launches": 0}


def _unknown(op: Op, graph: Graph) -> Columns:
    return {"known": False}


def _bytes_only(op: Op, graph: Graph) -> Columns:
    return {}


RULES: dict[str, Rule] = {
    "matmul": _matmul,
    "conv": _conv,
    "attention": _attention,
    "recurrent": _recurrent,
    "scan": _scan,
    "norm": _norm,
    "softmax": _softmax,
    "reduction": _reduction,
    "pooling": _pooling,
    "resize": _per_output("taps"),
    "pointwise": _pointwise,
    "gather": _gather,
    "scatter": _scatter,
    "sort": _sort,
    "random": _random,
    "copy": _bytes_only,
    "view": _bytes_only,
    "quantize": _quantize,
    "fft": _fft,
    "collective": _collective,
    "host": _host,
    "unknown": _unknown,
}
