"""Many settings at once: arrays of sizes through the numba engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wattir.codes import TABLE_SHARE, Array, Codes, out_of_range
from wattir.costmodel import WAITING, Answer, CostModel, LayerAnswers, is_many
from wattir.errors import SizeError
from wattir.graph_check import MAX_DIM
from wattir.interval import WAITING_WIDTH
from wattir.program import Program
from wattir.tables import (
    KERNEL_S,
    MERGED_ROWS,
    Answers,
    Tables,
    laid_out,
    merged,
    room,
    row_count,
    run_programs,
    table_of,
)
from wattir.threads import ranges, spread
from wattir.totals import ends

FIRST = 2**14
"""So many candidates are looked at before tables are made: they have all values that are not rare."""


def evaluate_arrays(model: CostModel, sizes: Mapping[str, Any]) -> Answer:
    """Arrays of joules and seconds for sizes given as arrays that broadcast; plain ints stay as they are.

    SizeError names the size and the first index that is not a whole number from 0 to 2^40, or shapes that do not fit.
    """
    codes = encoded(model, sizes)
    found = ask(model, model.programs, codes)
    if found.refused:
        _say_why(model, found.energy_j, codes)
    return Answer(*(np.reshape(getattr(found, name), codes.shape) for name in Answer.__slots__))


def evaluate_layers(model: CostModel, sizes: Mapping[str, Any]) -> LayerAnswers:
    """`evaluate_arrays` by layer: arrays [layers, ...], [layers] where all sizes are plain ints.

    What layers cost alone is scaled, all alike, to what they cost under one power limit (`wattir.totals.under_limit`).
    """
    codes = encoded(model, sizes)
    whole = ask(model, model.programs, codes)
    if whole.refused:
        _say_why(model, whole.energy_j, codes)
    by_program = {id(program): program for program in model.layer_programs}
    answers = {place: ask(model, (program,), codes, hosted=False) for place, program in by_program.items()}
    layers = [answers[id(program)] for program in model.layer_programs]
    kernels = ask(model, model.programs, codes, hosted=False) if model.host_op_s > 0.0 else whole
    layers = [_scaled(layer, *_in_network(layers, kernels)) for layer in layers]
    names, kinds = [work.name for work in model.kernels], [work.kind for work in model.kernels]
    if model.host_op_s > 0.0:
        layers.append(_waiting(model, whole, kernels))
        names, kinds = [*names, WAITING], [*kinds, "host"]
    rows = ([getattr(layer, name) for layer in layers] for name in Answer.__slots__)
    return LayerAnswers(tuple(names), tuple(kinds), *(np.reshape(row, (len(names), *codes.shape)) for row in rows))


def _in_network(layers: Sequence[Answers], kernels: Answers) -> tuple[Array, Array]:
    """What joules and seconds of layers alone are multiplied by, to add up to those of all kernels."""
    joules, seconds = sum(layer.energy_j for layer in layers), sum(layer.time_s for layer in layers)
    return kernels.energy_j / (joules + (joules <= 0.0)), kernels.time_s / (seconds + (seconds <= 0.0))


def _scaled(layer: Answers, more_j: Array, longer: Array) -> Answers:
    energy = layer.energy_j * more_j, layer.energy_low_j * more_j, layer.energy_high_j * more_j
    return Answers(*energy, layer.time_s * longer, layer.refused)


def _waiting(model: CostModel, whole: Answers, kernels: Answers) -> Answers:
    """What passes take beyond their kernels: the device idles while the host launches ops one by one."""
    static_w, network_width, more_width, _ = model.total_constants
    seconds = whole.time_s - kernels.time_s
    seconds = np.where(seconds > 1e-9 * whole.time_s, seconds, 0.0)
    joules = static_w * seconds
    low, high = ends(joules, math.exp(network_width + WAITING_WIDTH + more_width))
    return Answers(joules, low, high, seconds, 0)


def encoded(model: CostModel, sizes: Mapping[str, Any]) -> Codes:
    """The sizes as codes, of which the values of the first candidates are known."""
    arrays = {name: _whole(name, value) for name, value in sizes.items() if is_many(value)}
    codes = Codes(arrays, model.bind({**sizes, **{name: array.flat[0].item() for name, array in arrays.items()}}))
    codes.learn([(0, min(codes.count, FIRST))])
    return codes


def ask(model: CostModel, programs: Sequence[Program], codes: Codes, hosted: bool = True) -> Answers:
    """Totals over these of a model's programs; `hosted` is False where waiting for the host does not count.

    Candidates with a value not seen so far are asked again once it is known.
    """
    from wattir.backends.gather import gather_sizes

    out, left, refused = room(codes.count), ranges(codes.count), 0
    while left:
        tables, direct = _tables(model, programs, codes, model.host_op_s if hosted else 0.0)
        found = tables.ask(gather_sizes, codes.as_arguments(), direct, out, left)
        refused += sum(max(count, 0) for count in found)
        left = [piece for piece, count in zip(left, found, strict=True) if count < 0]
        codes.learn(left)
    return Answers(out[0], out[1], out[2], out[3], refused)


def _tables(model: CostModel, programs: Sequence[Program], codes: Codes, host_op_s: float) -> tuple[Tables, Array]:
    """The tables of programs with few values, and the sums of the others [candidates or 0, SUMS]."""
    small = [program for program in programs if _fits(program, codes)]
    large = [program for program in programs if not _fits(program, codes)]
    constants = np.array(model.trees), host_op_s
    values, names = codes.values, codes.names
    counts = [len(values.get(name, (0,))) for name in names]
    seconds = KERNEL_S * sum(len(program.rows) * row_count(program, values) for program in small)
    tables = spread(lambda program: table_of(program, values, names, *constants), small, seconds)
    fewer = merged(tables, counts, min(MERGED_ROWS, codes.count // 16))
    direct = run_programs(large, codes.given, codes.count, *constants)
    return laid_out(fewer, counts, model.total_constants, not large), direct


def _fits(program: Program, codes: Codes) -> bool:
    """Whether a table over the values is small beside the candidates."""
    if any(name not in codes.values for name in program.tape.names):
        return False
    return row_count(program, codes.values) <= max(TABLE_SHARE * codes.count, 1)


def _say_why(model: CostModel, energy_j: Array, codes: Codes) -> None:
    """Asks for the first refused candidate alone, which raises; SizeError with its index."""
    at = int(np.flatnonzero(np.isnan(energy_j))[0])
    where = ", ".join(str(int(axis)) for axis in np.unravel_index(at, codes.shape))
    alone = {name: int(column[at]) for name, column in codes.given.items()}
    refuse(model, alone, where)


def refuse(model: CostModel, alone: Mapping[str, int], where: str) -> None:
    """Asks for one refused candidate alone, which raises: SizeError with its place."""
    try:
        model(**alone)
    except SizeError as error:
        raise SizeError(f"candidate [{where}]: {error}") from None
    raise SizeError(f"candidate [{where}]: a formula passes 2^53 at {alone}; give smaller sizes")


def _whole(name: str, value: Any) -> Array:
    """An array of sizes as whole numbers; the range of integers is checked where they are encoded."""
    try:
        array = np.asarray(value)
        array = np.asarray(value, object) if array.dtype.kind in "US" else array  # among texts, numbers stay numbers
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition(". ")[0]
        raise SizeError(f"size {name} is no array of numbers ({reason}); expected whole numbers") from None
    if not array.size:
        raise SizeError(f"size {name} is an empty array; expected at least one value")
    if np.ma.is_masked(value):
        raise out_of_range(name, np.ma.filled(value.astype(object), "masked"), np.ma.getmaskarray(value))
    if array.dtype.kind in "iu" and array.dtype != np.uint64 and 0 <= array.flat[0] <= MAX_DIM:
        return array
    wrong = _not_whole(array)
    if wrong.any():
        raise out_of_range(name, array, wrong)
    return array.astype(np.int64)


def _not_whole(array: Array) -> Array:
    """Where an array of any type holds something that is no whole number from 0 to 2^40."""
    if array.dtype.kind not in "fiu":
        no_size = np.vectorize(lambda item: type(item) is not int or not 0 <= item <= MAX_DIM, otypes=[bool])
        return np.asarray(no_size(array))
    wide = array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(~((wide >= 0) & (wide <= MAX_DIM) & (wide == np.floor(wide))))
