"""``.pt2`` archives: what is read, without torch; that it equals the live program; what is refused."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pt2_archives import PROGRAMS, TIED, archive, branches, meta, mlp, node, packed, size, tensor, tied, tokens

import wattir
from wattir.dims import symbol
from wattir.errors import InputError, ModelFileError
from wattir.frontends.torch.archive import read_archive
from wattir.frontends.torch.archive_file import OLD_LAYOUT
from wattir.frontends.torch.formulas import Unreadable, size_of

DEVICE = "h100_sxm"


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """`saved(bytes)`: a ``.pt2`` file of them."""

    def save(content: bytes, name: str = "m.pt2") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return save


def totals(path: str, **sizes: int) -> dict[str, Any]:
    return wattir.estimate(path, device=DEVICE, sizes=sizes).to_dict()["totals"]


# ---- what is read


def test_linear_layers(saved: Callable[..., str]) -> None:
    program = read_archive(saved(archive(mlp())))
    assert [call.name for call in program.calls] == ["mlp.up", "mlp.act", "mlp.down"]
    assert program.calls[0].target == "aten.linear.default"
    assert [ref.name for ref in program.held] == ["mlp.up.weight", "mlp.up.bias", "mlp.down.weight", "mlp.down.bias"]
    assert program.batch == "batch" and program.sizes == {"batch": 4}  # the example's size is the default
    found = totals(saved(archive(mlp())), batch=3)
    assert found["flop"] == 3 * 2 * (16 * 32 + 32 * 8)
    assert found["params"] == 16 * 32 + 32 + 32 * 8 + 8


def test_sizes_are_formulas_and_tied_weights_one(saved: Callable[..., str]) -> None:
    program = read_archive(saved(tied(tokens())))
    cut = program.calls[1].outs[0]
    assert cut is not None and cut.shape[1] == program.inputs[0].shape[1] - 1
    assert program.calls[1].args[3] == cut.shape[1]
    assert [ref.name for ref in program.held] == ["embed.weight"]
    assert totals(saved(tied(tokens())))["params"] == 40
    assert totals(saved(archive(tokens())))["params"] == 80  # nothing says that they are one


def test_weights_on_meta_are_not_tied(saved: Callable[..., str]) -> None:
    text = json.dumps(tokens()).replace('"type": "cpu"', '"type": "meta"')
    config = json.dumps(TIED).replace('"type": "cpu"', '"type": "meta"')
    path = saved(archive(text, **{"m/data/weights/model_weights_config.json": config}))
    program = read_archive(path)
    assert [ref.name for ref in program.held] == ["embed.weight", "head.weight"]
    assert any("tied is not known" in line for line in program.warnings)


def test_bodies_of_control_flow(saved: Callable[..., str]) -> None:
    program = read_archive(saved(archive(branches())))
    _, yes, no, operands = program.calls[0].args
    assert [yes.calls[0].target, no.calls[0].target] == ["aten.mm.default", "aten.sin.default"]
    assert operands[0].name == "x"
    assert totals(saved(archive(branches())))["flop"] == 2 * 8 * 8 * 8  # the dearest branch


def test_old_layout(saved: Callable[..., str]) -> None:
    old = mlp()
    old["schema_version"]["major"] = 5
    for entry in old["graph_module"]["graph"]["nodes"]:
        for given in entry["inputs"]:
            del given["kind"]
    path = saved(packed({OLD_LAYOUT: json.dumps(old), "serialized_state_dict.pt": b"\x80"}))
    assert totals(path) == totals(saved(archive(mlp()), "new.pt2"))


def test_torch_is_not_imported(saved: Callable[..., str]) -> None:
    path = saved(archive(mlp()))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"import wattir; print(wattir.estimate({path!r}, device={DEVICE!r}).to_dict()['totals']['flop'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 4 * 2 * (16 * 32 + 32 * 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add(Symbol('a', positive=True, integer=True), Integer(-1))", "a - 1"),
        ("a*b + 2", "a*b + 2"),
        ("(a + 1)//2", "((a + 1)//(2))"),
        ("FloorDiv(Symbol('a'), Integer(2))", "((a)//(2))"),
        ("floor(a/2)", "((a)//(2))"),
        ("Mul(Rational(1, 2), Mul(Integer(2), Symbol('a')))", "a"),
        ("FloorToInt(IntTrueDiv(Symbol('a'), Integer(4)))", "((a)//(4))"),
        ("CeilToInt(Mul(Float('0.5', precision=53), ToFloat(Symbol('a'))))", "-((-a)//(2))"),
        ("Max(Integer(1), Symbol('a'))", "a"),
        ("Min(Integer(8), Symbol('a'))", "min(8, a)"),
        ("Mod(Symbol('a'), Integer(2))", "((a)%(2))"),
        ("Pow(Symbol('a'), Integer(2))", "a*a"),
        ("a**2 - a*a", "0"),
        ("ModularIndexing(Symbol('a'), Integer(2), Integer(3))", "((((a)//(2)))%(3))"),
    ],
)
def test_formulas(text: str, expected: str) -> None:
    assert str(size_of(text)) == expected
    assert size_of("s0 + 1", {"s0": symbol("batch")}) == symbol("batch") + 1


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "__import__('os')", "a if b else c", "[a]", "open('x')", "a + 'b'", "1/0", "a/2", "Pow(a, b)",
     "9**9**9", "2**-1", "(" * 300 + "a" + ")" * 300, "-" * 10_000 + "1", "Symbol('')", "Symbol(3)", "Max()", "1e400",
     "a < b", "*".join(f"(a{i} + b{i})" for i in range(40)), "Integer('3')", "Mod(a, 0)", "x" * 30_000],
)  # fmt: skip
def test_formulas_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        size_of(text)


# ---- the same as the live program


def test_archive_equals_live_program(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(50, 16)
            self.norm = torch.nn.LayerNorm(16)
            self.conv = torch.nn.Conv1d(16, 8, 3, padding=1)
            self.head = torch.nn.Linear(16, 50, bias=False)
            self.head.weight = self.embed.weight
            self.register_buffer("scale", torch.ones(16))

        def forward(self, ids: Any, *, gain: Any = None) -> Any:
            x = self.norm(self.embed(ids)) * self.scale
            x = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
            first, second = x.split(8, -1)
            values, _ = torch.cat([second, first], -1).topk(16, -1)
            bodies = (lambda v: v.sin(), lambda v: v.matmul(v.transpose(-1, -2)) @ v)
            out = torch.cond(values.sum() > 0, *bodies, (values,))
            return self.head(out), self.conv(x.transpose(1, 2)) + gain

    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        exported = torch.export.export(
            Block().eval(), (torch.zeros(3, 6, dtype=torch.int64),), {"gain": torch.ones(8, 1)},
            dynamic_shapes={"ids": {0: auto, 1: auto}, "gain": None}, strict=False,
        )  # fmt: skip
    path = tmp_path / "block.pt2"
    torch.export.save(exported, path)
    live, read = wattir.lower(exported), wattir.lower(str(path))
    assert read.batch == live.batch == "batch" and read.sizes == live.sizes
    assert read.params == live.params == 50 * 16 + 2 * 16 + 8 * 16 * 3 + 8
    assert [(op.kind, op.name) for op in read.ops] == [(op.kind, op.name) for op in live.ops]
    sizes = {name: 5 for name in live.sizes}
    both = [wattir.estimate(graph, device=DEVICE, sizes=sizes).to_dict()["totals"] for graph in (live, read)]
    assert both[0] == both[1]


# ---- what is refused


def changed(change: Callable[[dict[str, Any]], Any], make: Callable[[], dict[str, Any]] = mlp) -> bytes:
    content = make()
    change(content["graph_module"]["graph"])
    return archive(content)


def nested(depth: int) -> dict[str, Any]:
    """A cond within a cond within a cond."""
    content = branches()
    inner = content["graph_module"]["graph"]
    for _ in range(depth):
        body = {"name": "b", "graph": inner}
        again = branches()["graph_module"]["graph"]
        again["nodes"][0]["inputs"][1]["arg"] = {"as_graph": body}
        inner = again
    content["graph_module"]["graph"] = inner
    return content


def encrypted() -> bytes:
    """The flag that says so is set in the directory and before the member."""
    content = bytearray(archive(mlp()))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)
    return bytes(content)


def lying(true_bytes: int) -> bytes:
    """The directory says 10 bytes; there are more."""
    content = bytearray(packed({"m/models/model.json": b" " * true_bytes}, zipfile.ZIP_DEFLATED))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.find(mark) + offset, 10)
    return bytes(content)


BOMB = b" " * (64 << 20)
CODE = {"as_expr": {"expr_str": "__import__('os')"}}
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "an empty file"),
    "no zip": (lambda: b"hello", "no zip archive"),
    "pickle": (lambda: b"\x80\x04abc", "a pickle"),
    "cut": (lambda: archive(mlp())[:-200], "cut short|damaged"),
    "no model": (lambda: packed({"m/version": "3"}), "no models/model.json"),
    "weights": (lambda: packed({"m/data.pkl": "3"}), "saved weights or a TorchScript module"),
    "compiled": (lambda: packed({"m/data/aotinductor/model/a.so": "3"}), "compiled package"),
    "two": (lambda: packed({"m/models/a.json": "{}", "m/models/b.json": "{}"}), "2 programs"),
    "traversal": (lambda: archive(mlp(), **{"../../etc/passwd": "x"}), "'../../etc/passwd'"),
    "absolute": (lambda: archive(mlp(), **{"/etc/passwd": "x"}), "'/etc/passwd'"),
    "backslash": (lambda: archive(mlp(), **{"m\\..\\..\\x": "x"}), "a member named"),
    "bomb": (lambda: packed({"m/models/model.json": BOMB}, zipfile.ZIP_DEFLATED), "unpacks from"),
    "weights bomb": (lambda: packed({"m/models/model.json": json.dumps(mlp()), "m/data/weights/weight_0": BOMB},
                                    zipfile.ZIP_DEFLATED), "unpacks from"),
    "lying": (lambda: lying(1 << 20), "damaged zip|no JSON"),
    "encrypted": (encrypted, "encrypted"),
    "not utf-8": (lambda: archive(b"\xff\xfe{}"), "no UTF-8"),
    "no json": (lambda: archive("{"), "no JSON"),
    "deep": (lambda: archive("[" * 100_000 + "]" * 100_000), "nested too deep"),
    "long number": (lambda: archive("9" * 10_000), "no JSON"),
    "a list": (lambda: archive("[]"), "a list of 0 where an object with 'schema_version'"),
    "no graph": (lambda: archive({"schema_version": {"major": 8}}), "no 'graph_module'"),
    "version": (lambda: archive(mlp() | {"schema_version": {"major": 99}}), "schema version 99"),
    "nested graphs": (lambda: archive(nested(60)), "nested"),
    "huge axis": (lambda: changed(lambda g: g["tensor_values"]["x"].update(sizes=[size(2**62)])), "an axis of"),
    "negative axis": (lambda: changed(lambda g: g["tensor_values"]["x"].update(sizes=[size(-1)])), "an axis of -1"),
    "huge tensor": (lambda: changed(lambda g: g["tensor_values"]["x"].update(meta(*[2**39] * 3))), "elements"),
    "many axes": (lambda: changed(lambda g: g["tensor_values"]["x"].update(meta(*[1] * 99))), "99 axes"),
    "dtype": (lambda: changed(lambda g: g["tensor_values"]["x"].update(dtype=77)), "dtype number 77"),
    "no dtype": (lambda: changed(lambda g: g["tensor_values"]["x"].update(dtype=None)), "dtype is None"),
    "unmade": (lambda: changed(lambda g: g["nodes"].pop(0)), "read before it is made"),
    "no meta": (lambda: changed(lambda g: g["tensor_values"].pop("up")), "node 0 .*: no 'up'"),
    "wrong list": (lambda: changed(lambda g: g.update(nodes={})), "nodes is an object of 0"),
    "wrong text": (lambda: changed(lambda g: g["nodes"][0].update(target=3)), "target is 3"),
    "union": (lambda: changed(lambda g: g["nodes"][0]["inputs"][0].update(arg={})), "0 members"),
    "argument": (lambda: changed(lambda g: g["nodes"][0]["inputs"][0].update(arg={"as_code": "x"})), "'as_code'"),
    "formula": (lambda: changed(lambda g: g["tensor_values"]["x"].update(sizes=[CODE])), "function '__import__'"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(name: str, saved: Callable[..., str]) -> None:
    make, expected = HOSTILE[name]
    path = saved(make())
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match=expected) as refused:
        wattir.lower(path)
    assert time.perf_counter() - start < 2
    assert path in str(refused.value) and "\n" not in str(refused.value)


def test_rule_that_does_not_fit_is_an_error(saved: Callable[..., str]) -> None:
    extra = node("torch.ops.aten.linear.default", [{"as_none": True}], ["down"])
    with pytest.raises(InputError, match="tensor"):
        wattir.lower(saved(changed(lambda g: g["nodes"].append(extra))))


def _mutated(content: bytes, chance: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        found[chance.randrange(len(found))] = chance.randrange(256)
    return bytes(found)


def _other(value: Any, chance: random.Random) -> Any:
    """The JSON with one part of it replaced."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        return {**value, key: _other(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], _other(value[at], chance), *value[at + 1 :]]
    return chance.choice([None, -1, 2**70, 1.5, True, "", "x", "s77", [], {}, [[]], {"as_int": -(2**40)}, tensor("x")])


@pytest.mark.parametrize("name", PROGRAMS)
def test_damaged_archives_never_crash(name: str, saved: Callable[..., str]) -> None:
    chance, end, count = random.Random(name), time.perf_counter() + 4, 0
    whole = PROGRAMS[name]()
    while time.perf_counter() < end and count < 1500:
        count += 1
        content = archive(_other(whole, chance)) if count % 2 else _mutated(archive(whole), chance)
        path = saved(content)
        try:
            wattir.lower(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
    assert count > 100
