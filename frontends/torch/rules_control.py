"""Higher-order operators: branches, loops, wrapped bodies, flexible attention."""

from __future__ import annotations

from typing import Any

from wattir.dims import Size
from wattir.errors import SizeError
from wattir.frontends.torch.node import Node, Value, bodies, rule
from wattir.frontends.torch.program import Call, Program, TensorRef
from wattir.frontends.torch.rules_attention import attend
from wattir.rough_cost import rough_cost

WRAPS = (
    "wrap", "wrap_activation_checkpoint", "tag_activation_checkpoint", "wrap_with_set_grad_enabled",
    "wrap_with_autocast", "strict_mode", "hints_wrapper", "run_const_graph", "invoke_subgraph",
    "autograd_function_apply", "invoke_quant",
    "invoke_quant_packed", "local_map_hop", "inductor_compiled_code", "dynamo_bypassing_wrapper",
)  # fmt: skip


def leaves(argument: Any) -> list[Any]:
    """What is in nested tuples, tensors or not."""
    if isinstance(argument, (tuple, list)):
        return [leaf for item in argument for leaf in leaves(item)]
    if isinstance(argument, dict):
        return leaves(tuple(argument.values()))
    return [argument]


def operands(node: Node, arguments: Any) -> list[Value | None]:
    """Values of the tensors among arguments; None for anything else."""
    return [node.lowering.value(leaf) if isinstance(leaf, TensorRef) else None for leaf in leaves(arguments)]


def bind(node: Node, results: list[Value | None], times: Size = 1) -> None:
    """Outputs of the call are what the body gave; one that a loop stacks is a view of one step's."""
    for ref, value in zip(node.outs, results, strict=False):
        if value is None:
            node.emit("copy", ins=(), outs=(ref,), function="fill")
        elif value.shape == ref.shape:
            node.lowering.bind(ref, value)
        else:
            node.view(value, ref, node.lowering.fresh(ref.name, ref.shape, ref.dtype).strides)


@rule(*WRAPS, space="higher_order")
def wrapped(node: Node) -> None:
    """The body runs once on what follows it."""
    place = next(i for i, arg in enumerate(node.call.args) if isinstance(arg, Program))
    rest = node.call.args[place + 1 :]
    if node.op == "invoke_subgraph":
        rest = rest[1:]  # the body's identifier
    if node.op == "hints_wrapper":
        rest = rest[:1]
    bind(node, node.lowering.inline(node.call.args[place], operands(node, rest), node.times))


@rule("cond", space="higher_order")
def cond(node: Node) -> None:
    """The dearest branch, with a warning."""
    branches = list(bodies(node.call.args))
    given = operands(node, node.arg(3, "operands", ()))
    costs = [_trial(node, branch, given) for branch in branches]
    dearest = max(range(len(branches)), key=costs.__getitem__)
    node.warn("which branch runs depends on data; the dearest is counted")
    bind(node, node.lowering.inline(branches[dearest], given, node.times))


def _trial(node: Node, branch: Program, given: list[Value | None]) -> float:
    """The cost of a branch, which is taken back."""
    builder = node.builder
    before, tensors, warnings = len(builder.ops), set(builder.tensors), list(builder.warnings)
    node.lowering.inline(branch, given, 1)
    added = builder.ops[before:]
    cost = rough_cost(added, builder.tensors, node.lowering.program.sizes)
    del builder.ops[before:]
    for name in builder.tensors.keys() - tensors:
        del builder.tensors[name]
    builder.warnings[:] = warnings
    return cost


# ---- loops ----------------------------------------------------------------------------------------------------------


@rule("while_loop", space="higher_order")
def while_loop(node: Node) -> None:
    """The caller says how often it runs."""
    condition, body = list(bodies(node.call.args))[:2]
    times = node.lowering.trip_count(node.label)
    if times is None:
        found = f"{node.builder.name}: {node.label} (while_loop): how often it runs depends on data"
        raise SizeError(f'{found}; expected a trip count; give Inputs(..., trip_counts={{"{node.label}": N}})')
    given = operands(node, node.call.args[2:])
    node.lowering.inline(condition, given, node.times * times)
    bind(node, node.lowering.inline(body, given, node.times * times))


@rule("scan", space="higher_order")
def scan(node: Node) -> None:
    """scan(f, init, xs, more): as many steps as xs have rows; gives the last carries and the stacked results."""
    body = next(bodies(node.call.args))
    carried, xs = operands(node, node.arg(1, "init", ())), operands(node, node.arg(2, "xs", ()))
    _loop(node, body, carried, xs, operands(node, node.arg(3, "additional_inputs", ())))


@rule("map", "map_impl", space="higher_order")
def map_(node: Node) -> None:
    body = next(bodies(node.call.args))
    _loop(node, body, [], operands(node, node.arg(1, "xs", ())), operands(node, node.arg(2, "pos_args", ())))


@rule("associative_scan", space="higher_order")
def associative_scan(node: Node) -> None:
    """Combines n rows in pairs: n - 1 times if done one after the other, about twice as often in a tree; n is taken."""
    body = next(bodies(node.call.args))
    xs = operands(node, node.arg(1, "xs", ()))
    times = _rows(node, xs)
    half = [_row(node, x) for x in xs]
    more = operands(node, node.arg(2, "additional_inputs", ()))
    bind(node, node.lowering.inline(body, [*half, *half, *more], node.times * times))


def _loop(node: Node, body: Program, carried: list[Any], xs: list[Any], more: list[Any]) -> None:
    times = _rows(node, xs)
    rows = [_row(node, x) for x in xs]
    bind(node, node.lowering.inline(body, [*carried, *rows, *more], node.times * times))


def _rows(node: Node, xs: list[Value | None]) -> Size:
    first = next((x for x in xs if x is not None and x.rank), None)
    return node.fail("no tensor to run over", "one with rows") if first is None else first.shape[0]


def _row(node: Node, x: Value | None) -> Value | None:
    """One row: a view."""
    if x is None or not x.rank:
        return x
    made = node.lowering.fresh(f"{x.name}.row", x.shape[1:], x.dtype, x.strides[1:], x.storage)
    node.emit("view", ins=(x,), outs=(made,), function="row")
    return made


# ---- calls of other operators ---------------------------------------------------------------------------------------


@rule("auto_functionalized", "auto_functionalized_v2", "out_dtype", "with_effects", space="higher_order")
def other_operator(node: Node) -> None:
    """The first text among the arguments names the operator that is called with the rest."""
    place = next((i for i, arg in enumerate(node.call.args) if isinstance(arg, str) and "." in arg), None)
    if place is None:
        node.fail("it does not say which operator it calls", "one")
    rest = node.call.args[place + (2 if node.op == "out_dtype" else 1) :]
    call = Call(node.call.args[place], rest, node.call.kwargs, node.call.outs, node.label)
    node.lowering.lower_call(call, node.times)


@rule("flex_attention", space="higher_order")
def flex_attention(node: Node) -> None:
    """q, k, v, score_mod, block mask: causal where a body compares positions."""
    q, k, v = (node.tensor(index) for index in range(3))
    compared = [call for body in bodies(node.call.args) for call in body.calls if call.target.split(".")[1] in _ORDER]
    attend(node, (q, k, v), (), bool(compared))


_ORDER = ("ge", "gt", "le", "lt", "greater", "greater_equal", "less", "less_equal")
