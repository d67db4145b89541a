"""The whole ONNX standard: every op has a rule, and the outputs of onnx's own test models have the shapes we say."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs, helper, numpy_helper

from wattir.dims import evaluate, names
from wattir.errors import UnsupportedError
from wattir.frontends.onnx.lowering import lower_model
from wattir.frontends.onnx.node import RULES, Value
from wattir.frontends.rules import load_rules

WITHOUT_RULE: dict[str, str] = {}
"""Ops of ai.onnx and ai.onnx.ml that have no rule, and why. (Training ops are in other domains.)"""


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml"])
def test_every_op_of_the_standard_has_a_rule(domain: str) -> None:
    load_rules("wattir.frontends.onnx")
    ops = {schema.name for schema in defs.get_all_schemas() if schema.domain == domain}
    assert {op for op in ops if (domain, op) not in RULES} == {op for op in WITHOUT_RULE if op in ops}


def test_two_rules_for_one_op_are_an_error() -> None:
    from wattir.frontends.onnx.node import rule

    load_rules("wattir.frontends.onnx")
    with pytest.raises(ValueError, match=r"two rules for ai\.onnx\.Relu"):
        rule("Relu")(lambda node: None)


# ---- onnx's own models of one op ------------------------------------------------------------------------------------

SEQUENCES_OF_UNKNOWN_LENGTH = (
    "test_sequence_map_", "test_sequence_insert_at_", "test_identity_sequence", "test_if_opt", "test_loop11",
    "test_loop13_seq", "test_loop16_seq_none",
)  # fmt: skip
"""Their inputs are sequences or trip counts that the file leaves open; the caller must give them."""


def _cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if case.model is not None and case.data_sets]


def _with_known_contents(case: Any) -> onnx.ModelProto:
    """The model with scalars and short vectors behind the first input held in the file, as exporters do."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given = []
    for index, (declared, value) in enumerate(zip(case.model.graph.input, case.data_sets[0][0], strict=True)):
        short = isinstance(value, np.generic | np.ndarray) and np.size(value) <= 64 and np.ndim(value) <= min(index, 1)
        if short and np.asarray(value).dtype.kind not in "OSU" and declared.type.HasField("tensor_type"):
            dtype = helper.tensor_dtype_to_np_dtype(declared.type.tensor_type.elem_type)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), declared.name))
        else:
            given.append(declared)
    del model.graph.input[:]
    model.graph.input.extend(given)
    return model


def _truth(output: Any) -> list[tuple[int, ...]]:
    if isinstance(output, list | tuple):
        return [tuple(np.shape(item)) for item in output]
    return [tuple(output.dims) if isinstance(output, onnx.TensorProto) else tuple(np.shape(output))]


def _verdict(value: Value | None, truth: list[tuple[int, ...]], bounded: bool) -> str:
    if value is None:
        return "missing"
    found = [item.shape for item in (value.items if value.items is not None else [value])]
    if found == truth:
        return "equal"
    if any(not isinstance(size, int) for shape in found for size in shape):
        return "free"
    pairs = zip(found, truth, strict=True) if len(found) == len(truth) else []
    over = all(len(a) == len(b) and all(x >= y for x, y in zip(a, b, strict=True)) for a, b in pairs)
    return "bounded" if bounded and over else f"wrong: {found} is {truth}"


def _verdicts() -> Iterator[tuple[str, str]]:
    for case in _cases():
        try:
            graph, values = lower_model(_with_known_contents(case), {})
        except UnsupportedError as error:
            yield case.name, f"refused: {error}"
            continue
        bounded = any("bounded" in line for line in graph.warnings)
        for declared, output in zip(case.model.graph.output, case.data_sets[0][1], strict=True):
            yield case.name, _verdict(values.get(declared.name), _truth(output), bounded)


def test_outputs_of_onnx_test_models_have_their_shapes() -> None:
    """At least 98 % equal; the rest is bounded by its maximum or a free dim; nothing is wrong or refused."""
    verdicts = list(_verdicts())
    open_ended = [pair for pair in verdicts if pair[0].startswith(SEQUENCES_OF_UNKNOWN_LENGTH)]
    judged = [pair for pair in verdicts if pair not in open_ended]
    counts = Counter(verdict.split(":")[0] for _, verdict in judged)
    bad = [pair for pair in judged if pair[1].split(":")[0] not in ("equal", "bounded", "free")]
    assert bad == []
    assert len(verdicts) > 2000
    assert counts["equal"] >= 0.98 * len(judged)


# ---- the same in free sizes -----------------------------------------------------------------------------------------

NUMBERS_ONLY = (
    "test_gathernd_example_",  # the last axis of the indices decides the rank
    "test_resize_upsample_sizes_nearest_not_", "test_resize_downsample_sizes_nearest_not_",  # ratios of free sizes
)  # fmt: skip


def _freed(case: Any, model: onnx.ModelProto) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Every axis of every input as a name of its own, and the sizes that these names have in the test data."""
    values = dict(zip((i.name for i in case.model.graph.input), case.data_sets[0][0], strict=True))
    shapes = {i.name: _truth(values[i.name])[0] for i in model.graph.input if i.type.HasField("tensor_type")}
    free = {name: shape for name, shape in shapes.items() if shape and 0 not in shape}
    inputs = {name: tuple(f"{name}_{axis}" for axis in range(len(shape))) for name, shape in free.items()}
    return inputs, {f"{name}_{axis}": size for name, shape in free.items() for axis, size in enumerate(shape)}


def test_formulas_in_free_sizes_give_the_same_shapes() -> None:
    """One lowering serves every size: no axis is known, and at the sizes of the test data all shapes come out."""
    wrong, judged = [], 0
    for case in _cases():
        if case.name.startswith(SEQUENCES_OF_UNKNOWN_LENGTH + NUMBERS_ONLY):
            continue
        model = _with_known_contents(case)
        inputs, sizes = _freed(case, model)
        graph, values = lower_model(model, inputs)
        bounded = any("bounded" in line for line in graph.warnings)
        for declared, output in zip(case.model.graph.output, case.data_sets[0][1], strict=True):
            value = values[declared.name]
            if value is None or value.items is not None or any(names(size) - sizes.keys() for size in value.shape):
                continue  # a sequence, or a size that only the data decides
            found = Value(value.name, tuple(int(evaluate(size, sizes)) for size in value.shape), value.dtype)
            verdict = _verdict(found, _truth(output), bounded)
            judged += 1
            wrong += [(case.name, verdict)] if verdict not in ("equal", "bounded") else []
    assert wrong == []
    assert judged > 2000
