"""Einsum, by the steps of `wattir.einsum.plan`; what only reorders axes is a view in torch."""

from __future__ import annotations

from wattir.einsum import Step, plan
from wattir.frontends.torch.node import Node, Value, rule


@rule("einsum")
def einsum(node: Node) -> None:
    values = node.tensors(1, "tensors")
    steps = plan(str(node.arg(0, "equation", "")), [value.shape for value in values])
    for step in steps[:-1]:
        values.append(_inner(node, step, values))
    last, ins = steps[-1], [values[place] for place in steps[-1].operands]
    if last.kind in ("copy", "view"):
        node.view(ins[0])
    else:
        node.emit(last.kind, ins=ins, outs=[node.out], **last.attrs)


def _inner(node: Node, step: Step, values: list[Value]) -> Value:
    ins = [values[place] for place in step.operands]
    made = node.inner(f"{step.kind}_{step.letters}", step.shape, ins[0].dtype)
    node.emit(step.kind, ins=ins, outs=[made], **step.attrs)
    return made
