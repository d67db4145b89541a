"""LSTM, GRU, RNN, by their steps."""

from __future__ import annotations

from functools import partial
from typing import Any

from wattir.frontends.onnx.attending import mark_state, optional
from wattir.frontends.onnx.broadcast import Shape, text
from wattir.frontends.onnx.node import Node, Value, rule

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def _recurrent(node: Node, function: str, math: str = "") -> None:
    """X [steps, batch, input], W [directions, gates * hidden, input]; with layout 1 the batch comes first.

    Y is [steps, directions, batch, hidden] (layout 1: [batch, steps, directions, hidden]), the last states
    [directions, batch, hidden] (layout 1: [batch, directions, hidden]).
    """
    x, weight = node.value(0), node.value(1)
    first = bool(node.attr("layout", 0))
    steps, batch = (x.shape[1], x.shape[0]) if first else (x.shape[0], x.shape[1])
    directions = 2 if text(node.attr("direction", "forward")) == "bidirectional" else 1
    hidden = node.attr("hidden_size") or _hidden(node, weight, function, math)
    state: Shape = (batch, directions, hidden) if first else (directions, batch, hidden)
    every: Shape = (batch, steps, directions, hidden) if first else (steps, directions, batch, hidden)
    for index, shape in enumerate((every, state, state)[: len(node.out_names)]):
        if node.wanted(index):
            node.result(shape, x.dtype, index=index)
    mark_state(node, optional(node, 5), optional(node, 6))
    sizes: dict[str, Any] = {"steps": steps, "batch": batch, "input": x.shape[2], "hidden": hidden}
    if math:
        sizes["math"] = math
    node.emit("recurrent", ins=_operands(node), function=function, directions=directions, **sizes)


def _hidden(node: Node, weight: Value, function: str, math: str) -> Any:
    gates = weight.shape[2 if math else 1]
    if not isinstance(gates, int):
        node.fail("hidden_size is not given, and the weight's shape is not known", "the attribute hidden_size")
    return gates // GATES[function]


def _operands(node: Node) -> tuple[Value | None, ...]:
    """x, then the weights W, R, B and peepholes P, then the states, then the lengths of the sequences."""
    return tuple(optional(node, index) for index in (0, 1, 2, 3, 7, 5, 6, 4))


rule("LSTM")(partial(_recurrent, function="lstm"))
rule("GRU")(partial(_recurrent, function="gru"))
rule("RNN")(partial(_recurrent, function="rnn"))


@rule("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(node: Node) -> None:
    """An LSTM with 8-bit weights [directions, input, gates * hidden]; scales and zero points are inputs 8 to 11."""
    for index in (8, 9, 10, 11):
        node.constant(index)
    _recurrent(node, "lstm", math="int8")
