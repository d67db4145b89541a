"""Exported programs (`.jaxexport`, `.mlir`, `.mlirbc`): StableHLO, read in a process of its own, lowered op by op."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from wattir.dims import Size, symbol
from wattir.errors import ModelFileError, SizeError, UnsupportedError
from wattir.frontends.jax import mlir_process
from wattir.frontends.jax.batch import batch_of
from wattir.frontends.jax.light import light_copy
from wattir.frontends.jax.node import Shape, Value
from wattir.frontends.jax.program import Program
from wattir.frontends.jax.roles import WEIGHTS, input_role, parameter_role, parameters_among
from wattir.frontends.jax.rules_other import platform_place
from wattir.frontends.jax.sizes import dim_from_text
from wattir.frontends.jax.stablehlo_ops import dtype_of
from wattir.frontends.jax.stablehlo_walk import Interpreter
from wattir.ir import Graph

READING_S = 600
WRAPPED = "_wrapped_jax_export_main"


def lower_exported(model: Any, inputs: Any, name: str | None, trip_counts: Mapping[str, Size]) -> Graph:
    """The Graph of a file, of its bytes, or of a `jax.export.Exported`.

    `inputs` may give sizes for axes that the file leaves open: {argument: (size or name, ...)}.
    """
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        return _lower(read(path), path, name or os.path.splitext(os.path.basename(path))[0], inputs, trip_counts)
    found = _read_bytes(model) if isinstance(model, bytes) else _read_object(model)
    title = name or str(getattr(model, "fun_name", "program"))
    return _lower(found, title, title, inputs, trip_counts)


def read(path: str) -> dict[str, Any]:
    """The program in a file as plain data; ModelFileError where it is damaged, even where MLIR aborts on it."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        with light_copy(path) as light:
            command = [sys.executable, "-P", mlir_process.__file__, light]
            done = subprocess.run(command, capture_output=True, timeout=READING_S, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise ModelFileError(f"{path}: not read in {READING_S} s; expected an exported StableHLO program") from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode == 0 and text.startswith("{"):
        return json.loads(text)  # type: ignore[no-any-return]
    why = text.partition("error: ")[2].strip() or _last_line(done)
    expected = "a program that jax.export or another StableHLO producer wrote; export it again"
    raise ModelFileError(f"{path}: not a StableHLO program ({why}); expected {expected}")


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode < 0 or not lines:
        return f"the MLIR parser stopped with signal {-done.returncode}"
    return lines[-1][:200]


def _read_bytes(data: bytes) -> dict[str, Any]:
    is_module = data[:4] == mlir_process.BYTECODE
    with tempfile.NamedTemporaryFile(suffix=".mlirbc" if is_module else ".jaxexport") as file:
        file.write(data)
        file.flush()
        return read(file.name)


def _read_object(exported: Any) -> dict[str, Any]:
    found = _read_bytes(exported.mlir_module_serialized)
    found["avals"] = [[str(size) for size in aval.shape] for aval in exported.in_avals]
    found["platforms"] = list(exported.platforms)
    return found


def call_exported(walker: Any, eqn: Any, ins: list[Value], scope: str, times: Size) -> list[Value]:
    """An exported program that a function calls (`Exported.call`), in place of the call."""
    exported = eqn.params["exported"]
    found = _read_object(exported)
    main = found["functions"][found["main"]]
    args = [ins[place] for place in exported.module_kept_var_idx]
    own = [walker.program.free((), "int32", platform_place([[name] for name in exported.platforms]))]
    args = own * (len(main["args"]) - len(args)) + args
    return Interpreter(walker.program, found["functions"]).function(main, args, scope, times)


def _lower(found: dict[str, Any], path: str, name: str, inputs: Any, trip_counts: Mapping[str, Size]) -> Graph:
    functions = found["functions"]
    if found["main"] not in functions or not functions[found["main"]]["args"] + functions[found["main"]]["body"]:
        raise ModelFileError(f"{path}: no function in it; expected a module with a function `main`")
    program = Program(name, trip_counts)
    interpreter = Interpreter(program, functions)
    try:
        return _run(program, interpreter, found, _given(inputs, name))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"cannot be lowered ({type(error).__name__}: {str(error)[:200]})"
        raise UnsupportedError(f"{path}: {what}; expected StableHLO as its specification has it") from error


def _run(program: Program, interpreter: Interpreter, found: dict[str, Any], given: dict[str, Any]) -> Graph:
    function, places = _entry(found)
    named = _named_axes(found)
    parameters = _parameters(function)
    args: list[Value] = []
    shapes: list[Shape] = []
    for place, (label, (shape, element), attrs) in enumerate(function["args"]):
        outer = places[place] if places else place
        constant = attrs.get("jax.global_constant")
        if constant is not None:
            is_platform = constant == "_platform_index"
            data = platform_place([[name] for name in found["platforms"]]) if is_platform else symbol(constant)
            args.append(program.free((), dtype_of(element), data))
            continue
        title = argument_name(label) or f"arg{outer}"
        sizes = _open_sizes(shape, title, outer, found.get("avals"), named, given)
        role = _role(title, parameters) if label else _role_by_use(function, place, element, shape)
        args.append(program.given(title, sizes, dtype_of(element), role))
        if role in ("input", "state"):
            shapes.append(sizes)
    _check_given(program, given)
    outputs = interpreter.function(function, args, "", 1)
    return program.finish(outputs, batch_of(shapes))


def _given(inputs: Any, name: str) -> dict[str, Any]:
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return {str(key): value for key, value in inputs.items()}
    found = f"inputs of type {type(inputs).__name__}"
    raise SizeError(f"{name}: {found}; expected a mapping from an argument's name to its sizes, or none")


def _check_given(program: Program, given: dict[str, Any]) -> None:
    for key in given:
        if key not in program.builder.tensors:
            listed = ", ".join(program.inputs) or "none"
            raise SizeError(f"{program.builder.name}: sizes for {key!r}; expected one of its inputs: {listed}")


def argument_name(label: str) -> str:
    """``params['layers'][0].kernel`` as ``params.layers.0.kernel``."""
    return re.sub(r"\[['\"]?([^'\"\]]*)['\"]?\]", r".\1", label).strip(".")


def _parameters(function: dict[str, Any]) -> frozenset[str]:
    """The arguments of the program that was exported that are parameters, by their names."""
    containers: dict[str, bool] = {}
    for label, (_, element), attrs in function["args"]:
        root, dot, _ = argument_name(label).partition(".")
        if root and "jax.global_constant" not in attrs:
            containers[root] = containers.get(root, False) or (bool(dot) and dtype_of(element) in WEIGHTS)
    return parameters_among(containers)


def _role(title: str, parameters: frozenset[str]) -> str:
    """The role of a leaf by its path; ``.value`` ends an NNX variable's."""
    is_parameter = title.endswith(".value") or title.partition(".")[0] in parameters
    return parameter_role(title) if is_parameter else input_role(title)


def _entry(found: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """The function to lower, and which argument of `main` each of its arguments is.

    A program with symbolic sizes has a `main` that checks them and calls the real one, which names them.
    """
    main = found["functions"][found["main"]]
    for op in main["body"]:
        callee = found["functions"].get(op[4].get("callee", "")) if op[0] == "func.call" else None
        if callee is not None and WRAPPED in op[4]["callee"]:
            return callee, [operand if operand < len(main["args"]) else -1 for operand in op[1]]
    return main, []


def _named_axes(found: dict[str, Any]) -> dict[tuple[int, int], str]:
    """(argument of main, axis) -> the name that its size has in the function it calls."""
    main = found["functions"][found["main"]]
    measured = {
        op[2][0]: (op[1][0], int(op[4]["dimension"])) for op in main["body"] if op[0].endswith(".get_dimension_size")
    }
    names: dict[tuple[int, int], str] = {}
    for op in main["body"]:
        callee = found["functions"].get(op[4].get("callee", "")) if op[0] == "func.call" else None
        for operand, (_, _, attrs) in zip(op[1], callee["args"] if callee else (), strict=False):
            if operand in measured and "jax.global_constant" in attrs:
                names[measured[operand]] = attrs["jax.global_constant"]
    return names


def _open_sizes(
    shape: list[Any], title: str, place: int, avals: Any, named: dict[tuple[int, int], str], given: dict[str, Any]
) -> Shape:
    wanted = given.get(title)
    if wanted is not None and len(wanted) != len(shape):
        raise SizeError(f"{title}: {len(wanted)} sizes; expected {len(shape)}, as the program has")
    sizes: list[Size] = []
    for axis, size in enumerate(shape):
        if size is not None:
            sizes.append(int(size))
        elif wanted is not None:
            sizes.append(dim_from_text(str(wanted[axis])))
        elif avals and place >= 0:
            sizes.append(dim_from_text(avals[place][axis]))
        else:
            sizes.append(symbol(named.get((place, axis), f"{title}_{axis}")))
    return tuple(sizes)


def _role_by_use(function: dict[str, Any], place: int, element: str, shape: list[Any]) -> str:
    """For programs without names: what is the second operand of a product or convolution is a parameter."""
    if None in shape or not element.startswith(("f", "bf")):
        return "input"
    products = ("stablehlo.dot_general", "stablehlo.convolution")
    return "weight" if any(op[0] in products and op[1][1] == place for op in function["body"]) else "input"
