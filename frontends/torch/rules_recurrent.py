"""LSTM, GRU and RNN, layer by layer, by their steps."""

from __future__ import annotations

from functools import partial

from wattir.dims import Size
from wattir.frontends.torch.node import Node, Value, rule

LAYERED = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn", "rnn_relu": "rnn"}
CELLS = {"lstm_cell": "lstm", "gru_cell": "gru", "rnn_tanh_cell": "rnn", "rnn_relu_cell": "rnn"}


def _layers(node: Node, function: str) -> None:
    """input (x, hx, params, has_biases, layers, dropout, train, bidirectional, batch_first) or, of packed sequences,
    data (x, batch_sizes, hx, params, ..): all its rows are steps of one row."""
    packed = node.overload.startswith("data")
    shift = 1 if packed else 0
    x, states, params = node.tensor(0), node.tensors(1 + shift), node.tensors(2 + shift)
    layers, both = int(node.arg(4 + shift)), bool(node.arg(7 + shift, "", False))
    steps, batch = _steps(node, x, packed)
    directions = 2 if both else 1
    per_layer = len(params) // layers
    hidden: Size = params[1].shape[-1]
    projected: Size = node.out.shape[-1] // directions
    for layer in range(layers):
        weights = params[layer * per_layer : (layer + 1) * per_layer]
        last = layer == layers - 1
        made = node.out if last else node.inner(f"layer_{layer}", (*x.shape[:-1], projected * directions), x.dtype)
        held = states if layer == 0 else []  # each layer has its part of them: all are read once
        node.emit("recurrent", ins=[x, *weights, *held], outs=(made,), function=function, steps=steps, batch=batch,
                  input=x.shape[-1], hidden=hidden if function != "lstm" else weights[0].shape[0] // 4,
                  directions=directions)  # fmt: skip
        if isinstance(made, Value):
            x = made
    if node.outs[1:]:
        node.emit("view", ins=(), outs=node.outs[1:], function="empty")


def _steps(node: Node, x: Value, packed: bool) -> tuple[Size, Size]:
    if packed or x.rank == 2:
        return x.shape[0], 1
    batch_first = bool(node.arg(8, "batch_first", False))
    return (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])


for _op, _function in LAYERED.items():
    rule(_op)(partial(_layers, function=_function))


def _cell(node: Node, function: str) -> None:
    """One step: x [b, input], states, weights [gates hidden, input] and [gates hidden, hidden]."""
    x = node.tensor(0)
    hidden: Size = node.out.shape[-1]
    batch = x.shape[0] if x.rank > 1 else 1
    node.emit("recurrent", function=function, steps=1, batch=batch, input=x.shape[-1], hidden=hidden, directions=1)


for _op, _function in CELLS.items():
    rule(_op)(partial(_cell, function=_function))


@rule("mkldnn_rnn_layer")
def mkldnn_layer(node: Node) -> None:
    """One layer in one direction: what an LSTM becomes on a CPU."""
    x = node.tensor(0)
    hidden: Size = node.arg(10, "hidden_size")
    function = {2: "lstm", 3: "gru"}.get(node.arg(9, "mode", 2), "rnn")
    first = bool(node.arg(14, "batch_first", False))
    steps, batch = (x.shape[1], x.shape[0]) if first else (x.shape[0], x.shape[1])
    node.emit("recurrent", ins=node.inputs(), function=function, steps=steps, batch=batch, input=x.shape[-1],
              hidden=hidden, directions=1)  # fmt: skip


@rule("_cudnn_rnn")
def cudnn_rnn(node: Node) -> None:
    """All layers at once: x, weights, how many for one layer, buffer, hx, cx, mode, hidden, projected, layers, ..

    Packed rows [sum of lengths, input] are steps of one row."""
    x, hidden, layers = node.tensor(0), node.arg(7, "hidden_size"), int(node.arg(9, "num_layers", 1))
    function = {2: "lstm", 3: "gru"}.get(node.arg(6, "mode", 2), "rnn")
    directions = 2 if node.arg(13, "bidirectional", False) else 1
    steps, batch = (x.shape[1], x.shape[0]) if node.arg(10, "batch_first", False) else (x.shape[0], x.shape[1])
    if x.rank == 2:
        steps, batch = x.shape[0], 1
    states = [state for state in (node.value(4), node.value(5)) if state is not None]
    weights, per_layer = node.tensors(1), int(node.arg(2, "weight_stride0", 4)) * directions
    for layer in range(layers):
        shape = (*x.shape[:-1], node.out.shape[-1])
        made = node.out if layer == layers - 1 else node.inner(f"layer_{layer}", shape, x.dtype)
        ins = [x, *weights[layer * per_layer : (layer + 1) * per_layer], *(states if layer == 0 else [])]
        node.emit("recurrent", ins=ins, outs=(made,), function=function, steps=steps, batch=batch, input=x.shape[-1],
                  hidden=hidden, directions=directions)  # fmt: skip
        x = made if isinstance(made, Value) else x
    if node.outs[1:]:
        node.emit("view", ins=(), outs=node.outs[1:], function="empty")


@rule("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell")
def fused_cell(node: Node) -> None:
    """The gates of one step, once the products are done."""
    node.pointwise("gates", 6, 3)
