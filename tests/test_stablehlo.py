"""Exported programs: the same totals as their jaxpr, sizes that stay open, and files that are damaged."""

# ruff: noqa: E402, E501  # what is imported late needs jax; MLIR has long lines

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flatbuffers")

import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax_functions import array, bert, decode, fourier, graph_network, llama, mlp, recurrent, sampler
from test_jax import bytes_of, flop, kinds

import wattir
from wattir.errors import InputError, ModelFileError, SizeError
from wattir.frontends import lower_any
from wattir.frontends.jax import lower, mlir_process, stablehlo
from wattir.frontends.jax.light import light_copy
from wattir.ir import Graph

TEXT = """
module @net {
  func.func public @main(%arg0: tensor<8x64xf32> loc("x"), %arg1: tensor<64x32xf32> loc("params['w']")) -> tensor<8x32xf32> {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0] : (tensor<8x64xf32>, tensor<64x32xf32>) -> tensor<8x32xf32>
    BODY
    return %0 : tensor<8x32xf32>
  }
}
"""


def exported(make: Callable[..., Any], **sizes: Any) -> Any:
    model, inputs = make(**sizes)
    return export.export(jax.jit(model))(*inputs)


def text_file(folder: Path, body: str = "", text: str = TEXT) -> str:
    path = folder / "net.mlir"
    path.write_text(text.replace("BODY", body))
    return str(path)


SAME_BYTES = (lambda: mlp(), lambda: bert(layers=2), lambda: llama(layers=2, seq=64), fourier, graph_network)


@pytest.mark.parametrize("make", [*SAME_BYTES, recurrent, sampler, lambda: decode(layers=2)])
def test_export_has_the_totals_of_the_jaxpr(make: Callable[[], Any]) -> None:
    direct, read = lower_any(*make()), lower_any(exported(make))

    assert flop(read) == flop(direct)
    assert read.params == direct.params
    assert kinds(read).count("attention") == kinds(direct).count("attention")
    if make in SAME_BYTES:
        assert bytes_of(read) == pytest.approx(bytes_of(direct), rel=0.02)


@pytest.mark.parametrize("ending", ["jaxexport", "mlir", "mlirbc"])
def test_every_form_of_a_program_reads_the_same(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content(exported(mlp), ending))

    report = wattir.estimate(str(path), device="h100_sxm")

    assert report.totals["flop"] == 3 * 2 * 8 * 512 * 512
    assert report.totals["params"] == 3 * (512 * 512 + 512)


@pytest.mark.parametrize("make", [mlp, lambda batch: bert(batch=batch, layers=1)])
def test_open_sizes_stay_free(make: Callable[..., Any]) -> None:
    (batch,) = export.symbolic_shape("batch")
    free, bound = lower_any(exported(make, batch=batch)), lower_any(*make(batch=4))

    assert set(free.sizes) == {"batch"}
    assert flop(free, batch=4) == flop(bound)


def test_formulas_of_open_sizes_are_followed() -> None:
    def run(x: Any, w: Any) -> Any:
        return x[:, ::2] @ w, x[:, : x.shape[1] // 2] @ w, jnp.concatenate([x, x]).reshape(-1, 8) @ w

    batch, seq = export.symbolic_shape("batch, seq")
    args = array(batch, seq, 8), array(8, 4)
    graph = lower_any(export.export(jax.jit(run))(*args))

    for sizes in ({"batch": 1, "seq": 2}, {"batch": 3, "seq": 7}):
        assert flop(graph, **sizes) == flop(lower(run, args), **sizes)
        assert flop(graph, **sizes) == flop(lower(run, (array(*sizes.values(), 8), args[1])))


def test_names_are_those_of_the_jaxpr() -> None:
    def run(x: Any) -> Any:
        with jax.named_scope("solver"):
            return lax.while_loop(lambda y: y.sum() < 10, inner, x)

    def inner(y: Any) -> Any:
        with jax.named_scope("step"):
            return y @ y

    direct, read = lower(run, (array(8, 8),)), lower(export.export(jax.jit(run))(array(8, 8)))

    assert set(direct.sizes) == set(read.sizes) == {"trip_count.solver.while"}
    assert [op.name for op in direct.ops] == [op.name for op in read.ops]


def test_open_sizes_without_names_get_the_callers(tmp_path: Path) -> None:
    text = TEXT.replace("8x", "?x")
    path = text_file(tmp_path, text=text)

    assert flop(lower_any(path), x_0=5) == 2 * 5 * 64 * 32
    assert flop(lower_any(path, {"x": ("rows", 64)}), rows=5) == 2 * 5 * 64 * 32
    assert flop(lower_any(path, {"x": (6, 64)})) == 2 * 6 * 64 * 32
    with pytest.raises(SizeError, match="sizes for 'y'; expected one of its inputs: x"):
        lower_any(path, {"y": (6, 64)})


def test_while_without_a_counter_has_a_free_count(tmp_path: Path) -> None:
    loop = """%1 = stablehlo.while(%i = %arg0) : tensor<8x64xf32>
      cond {
        %c = stablehlo.constant dense<true> : tensor<i1>
        %d = stablehlo.not %c : tensor<i1>
        %e = stablehlo.custom_call @check(%i) : (tensor<8x64xf32>) -> tensor<i1>
        stablehlo.return %e : tensor<i1>
      } do {
        %b = stablehlo.add %i, %i : tensor<8x64xf32>
        stablehlo.return %b : tensor<8x64xf32>
      }"""
    graph = lower_any(text_file(tmp_path, loop))

    assert set(graph.sizes) == {"trip_count.while"}


def test_custom_calls_known_and_unknown(tmp_path: Path) -> None:
    attention = """
    %q = stablehlo.constant dense<0.0> : tensor<2x16x4x32xf16>
    %r = stablehlo.custom_call @make() : () -> tensor<2x16x4x32xf16>
    %1:2 = stablehlo.custom_call @__cudnn$fmhaSoftmax(%r, %r, %r) : (tensor<2x16x4x32xf16>, tensor<2x16x4x32xf16>, tensor<2x16x4x32xf16>) -> (tensor<2x16x4x32xf16>, tensor<0xui8>)
    %2 = stablehlo.custom_call @mine(%1#0) {has_side_effect = true} : (tensor<2x16x4x32xf16>) -> tensor<8xf32>"""
    graph = lower_any(text_file(tmp_path, attention))

    assert flop(graph) == 2 * 8 * 64 * 32 + 2 * 2 * 4 * 16 * 16 * 64
    assert [op.source for op in graph.ops if op.kind == "unknown"] == [
        "custom_call:make", "custom_call:mine"
    ]  # fmt: skip
    assert any("custom_call:mine has no mapping" in line for line in graph.warnings)


RAGGED = lax.RaggedDotDimensionNumbers


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("run", "x", "w", "sizes"),
    [
        (lax.ragged_dot, (60, 16), (8, 16, 32), (8,)),  # 60 rows: the groups cannot be equal
        (lax.ragged_dot, (64, 16), (8, 16, 32), (8,)),
        (jax.vmap(lax.ragged_dot), (4, 64, 16), (4, 8, 16, 32), (4, 8)),
        (
            lambda x, w, sizes: lax.ragged_dot_general(  # the gradient of the weights: rows are contracted
                x, w, sizes, RAGGED((((0,), (0,)), ((), ())), [0], [])
            ),
            (64, 16), (64, 32), (8,),
        ),
    ],
)  # fmt: skip
def test_ragged_products_count_each_row_once(
    run: Callable[..., Any], x: Any, w: Any, sizes: Any, platform: str
) -> None:
    args = array(*x), array(*w), array(*sizes, dtype=jnp.int32)
    graph = lower_any(export.export(jax.jit(run), platforms=[platform])(*args))

    assert flop(graph) == 2 * int(np.prod(x)) * 32  # every row of 16 meets one [16, 32]
    assert bytes_of(graph) == pytest.approx(bytes_of(lower(run, args)), rel=0.01)


def test_a_product_with_a_mask_is_no_ragged_one() -> None:
    def run(x: Any, w: Any, ends: Any) -> Any:
        place = jnp.arange(64)[None, :, None]
        mask = (ends[:, None, None] <= place) & (place < ends[:, None, None] + 9)  # windows that may overlap
        return jnp.einsum("gmk,gkn->mn", jnp.where(mask, x[None], 0.0), w)

    args = array(64, 16), array(8, 16, 32), array(8, dtype=jnp.int32)

    assert flop(lower(run, args)) == flop(lower_any(export.export(jax.jit(run))(*args))) == 2 * 8 * 64 * 16 * 32


def test_random_numbers_cost_what_they_do_in_a_jaxpr() -> None:
    def run(key: Any) -> Any:
        return jax.random.normal(key, (64, 64))

    key = array(2, dtype=jnp.uint32)

    assert bytes_of(lower_any(export.export(jax.jit(run))(key))) == bytes_of(lower(run, (key,)))


def test_composites_that_are_known_stay_whole() -> None:
    graph = lower_any(export.export(jax.jit(lambda x: lax.top_k(x, 3)))(array(16, 64)))

    assert [(op.kind, op.attrs["function"]) for op in graph.ops] == [("sort", "topk")]


CUDNN = (
    '{"cudnn_fmha_backend_config": {"mask_type": "CAUSAL", "sliding_window_length": 5, "bmm1_dot_dimension_numbers": '
    '{"lhs_batch_dimensions": ["0", "2"]}}}'
)
"""What JAX tells cuDNN, without what no cost depends on: 2 is the axis of the heads."""


def test_cudnn_attention_keeps_its_mask_and_window(tmp_path: Path) -> None:
    config = CUDNN.replace('"', "\\22")
    body = f"""%r = stablehlo.custom_call @make() : () -> tensor<2x16x4x32xf16>
    %1:2 = stablehlo.custom_call @__cudnn$fmhaSoftmax(%r, %r, %r) {{backend_config = "{config}"}} : (tensor<2x16x4x32xf16>, tensor<2x16x4x32xf16>, tensor<2x16x4x32xf16>) -> (tensor<2x4x16x32xf16>, tensor<0xui8>)"""
    (op,) = (op for op in lower_any(text_file(tmp_path, body)).ops if op.kind == "attention")

    assert (op.attrs["heads"], op.attrs["q"], op.attrs["causal"], op.attrs["window"]) == (4, 16, True, 5)


def test_lapack_calls_are_known() -> None:
    program = export.export(jax.jit(lambda x: jnp.linalg.qr(x)[0] + jnp.linalg.eigh(x)[1]), platforms=["cpu"])
    graph = lower_any(program(array(32, 32)))

    assert "unknown" not in kinds(graph)


# ---- huge and damaged files ----------------------------------------------------------------------------------------


def with_constant(rows: int, dtype: str = "float32") -> Any:
    """x @ c, for a constant c of [rows, 1024] that is no splat."""
    constant = np.arange(rows * 1024).reshape(rows, 1024).astype(jnp.dtype(dtype))
    return export.export(jax.jit(lambda x: x @ constant))(array(8, rows, dtype=jnp.dtype(dtype)))


def content(program: Any, ending: str) -> bytes:
    """A program in each of its forms."""
    if ending == "jaxexport":
        return bytes(program.serialize())
    return program.mlir_module().encode() if ending == "mlir" else bytes(program.mlir_module_serialized)


@pytest.mark.parametrize("ending", ["jaxexport", "mlir", "mlirbc"])
def test_constants_are_not_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content(with_constant(4096), ending))

    with light_copy(str(path)) as light:
        on_disk = Path(light).stat().st_blocks * 512  # holes take no blocks
    graph = lower_any(str(path))

    assert path.stat().st_size > 16_000_000
    assert on_disk < 32_000
    assert graph.params == 4096 * 1024  # the constant is a parameter
    assert flop(graph) == 2 * 8 * 4096 * 1024


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "int8", "int4", "complex64"])
def test_a_program_without_its_constants_reads_the_same(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = with_constant(16, dtype).mlir_module_serialized
    light = lower(program)
    monkeypatch.setattr(stablehlo, "light_copy", contextlib.nullcontext)

    assert light == lower(program)


def test_constants_in_long_lines_and_resources(tmp_path: Path) -> None:
    """One longer than a block, one that a block's end cuts, one as a list, one in the section of resources."""
    weight = "tensor<32x32768xf32>"
    values = ('"0x' + "3F800001" * (1 << 20) + '"', "[" + "[1.0, 2.0], " * 99 + "]")
    body = "".join(f"%c{i} = stablehlo.constant dense<{value}> : {weight}\n" for i, value in enumerate(values))
    body += f"%c2 = stablehlo.constant dense_resource<blob> : {weight} // " + "-" * ((1 << 20) - 200)
    body += f'\n%c3 = stablehlo.constant dense<{values[0]}> : {weight}\n"""'
    for i in range(4):
        body += f"""
    %d{i} = stablehlo.dot_general %0, %c{i}, contracting_dims = [1] x [0] : (tensor<8x32xf32>, {weight}) -> tensor<8x32768xf32>
    %e{i} = stablehlo.custom_call @mine(%d{i}) {{has_side_effect = true}} : (tensor<8x32768xf32>) -> tensor<8xf32>"""
    blobs = '{-#\n dialect_resources: { builtin: { blob: "0x04000000' + "3F800001" * (1 << 20) + '" } }\n#-}\n'
    path = text_file(tmp_path, body.replace('"""', ""), TEXT + blobs)

    with light_copy(path) as light:
        size = Path(light).stat().st_size
    graph = lower_any(path)

    assert size < (1 << 20) + 4000
    assert graph.params == 32 * (64 + 4 * 32768)
    assert flop(graph) == 2 * 8 * 32 * (64 + 4 * 32768)


def test_resources_of_bytecode_are_left_out(tmp_path: Path) -> None:
    blob = "04000000" + "3F800001" * (64 * 32)
    text = f"""
func.func public @main(%arg0: tensor<8x64xf32>) -> tensor<8x32xf32> {{
  %c = stablehlo.constant dense_resource<blob> : tensor<64x32xf32>
  %0 = stablehlo.dot_general %arg0, %c, contracting_dims = [1] x [0] : (tensor<8x64xf32>, tensor<64x32xf32>) -> tensor<8x32xf32>
  return %0 : tensor<8x32xf32>
}}
{{-#
  dialect_resources: {{ builtin: {{ blob: "0x{blob}" }} }}
#-}}"""
    path = tmp_path / "net.mlirbc"
    with open(path, "wb") as file:
        reader = mlir_process.Reader(text_file(tmp_path, text=text))
        reader.module.operation.write_bytecode(file)

    with light_copy(str(path)) as light:
        assert Path(light).stat().st_size < path.stat().st_size - 64 * 32 * 4
    assert lower_any(str(path)).params == 64 * 32


DAMAGED = [
    ("mlir", b""), ("mlir", b"not a module"), ("mlir", b"func.func @main() { nonsense }"), ("mlirbc", b"ML\xefR"),
    ("mlirbc", b"ML\xefR" + bytes(200)), ("jaxexport", b""), ("jaxexport", bytes(500)),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "content"), DAMAGED)
def test_what_is_no_program_is_refused(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content)

    with pytest.raises(ModelFileError, match="expected"):
        lower_any(str(path))


@pytest.mark.parametrize("seed", range(5))
def test_damaged_bytecode_never_ends_the_interpreter(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    data = bytearray(exported(mlp).mlir_module_serialized)
    if seed % 2:
        del data[chance.randrange(10, len(data)) :]
    for _ in range(1 + seed):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path = tmp_path / "net.mlirbc"
    path.write_bytes(bytes(data))

    try:
        assert isinstance(lower_any(str(path)), Graph)
    except InputError as error:
        assert "\n" not in str(error)


def test_parser_that_aborts_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "abort.py"
    script.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(mlir_process, "__file__", str(script))

    with pytest.raises(ModelFileError, match="the MLIR parser stopped with signal 6"):
        lower_any(text_file(tmp_path))


def test_command_line_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from wattir.cli import main

    path = tmp_path / "net.mlirbc"
    path.write_bytes(b"ML\xefR" + bytes(100))

    assert main(["estimate", str(path), "--hw", "h100_sxm"]) == 2
    assert "not a StableHLO program" in capsys.readouterr().err
    assert main(["estimate", text_file(tmp_path), "--hw", "h100_sxm"]) == 0
