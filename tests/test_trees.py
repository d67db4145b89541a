"""Learned corrections: texts of trees, the walk over them, and what they do to a kernel's cost."""

import math
import os
import tomllib
import zipfile
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wattir
from wattir.costmodel import compile_graph
from wattir.device import Correction, device_folder, device_from_text, device_ids, load_device, physics_only
from wattir.device_text import device_text
from wattir.dims import symbol
from wattir.errors import DeviceError
from wattir.layers import conv, matmul, pooling
from wattir.roofline import FEATURES, MOST_CORRECTED, correction, features
from wattir.trees import LEAF, pack, text_of, unpack
from wattir.trees_file import MOST_BYTES, Stored, write_trees

FOLDER = Path(device_folder())
TEXT = pack([(LEAF, 0.5)])
halves = st.floats(-1, 1, width=16)
singles = st.floats(-20, 40, width=32)
trees = st.recursive(
    st.tuples(st.just(LEAF), halves),
    lambda inner: st.tuples(st.integers(0, len(FEATURES) - 1), singles, inner, inner),
    max_leaves=12,
)


def value_of(tree, found):
    """What one tree answers, by its definition."""
    while tree[0] != LEAF:
        tree = tree[2] if found[tree[0]] <= tree[1] else tree[3]
    return tree[1]


@given(st.lists(trees, min_size=1, max_size=5), st.lists(singles, min_size=len(FEATURES), max_size=len(FEATURES)))
def test_a_packed_ensemble_answers_like_its_trees(ensemble, found):
    total = sum(value_of(tree, found) for tree in ensemble)

    expected = math.exp(min(max(total, -MOST_CORRECTED), MOST_CORRECTED))
    assert correction((0.0, 7.0, *unpack(pack(ensemble))), 2, found) == pytest.approx(expected, rel=1e-9)


def test_features_have_a_name_each_and_are_finite_for_nothing():
    found = features(*[0.0] * 12, 132.0)

    assert len(found) == len(FEATURES) and all(map(math.isfinite, found))


def corrected(time: float, power: float, family: str = "matmul.bf16"):
    """An H100 on which a family takes exp(time) as long and draws exp(power) as much as physics says."""
    device = physics_only(load_device("h100_sxm"))
    learned = Correction(pack([(LEAF, time)]), pack([(LEAF, power)]))
    return replace(device, power_w=1e5, corrections={family: learned})


def test_a_correction_multiplies_seconds_and_joules_of_its_family_alone():
    sizes = (512, 1024, 2048)
    plain, slow, other = (
        compile_graph(matmul(*sizes), device)()
        for device in (corrected(0, 0), corrected(0.25, -0.125), corrected(0.25, 0.25, "attention.bf16"))
    )
    assert slow.time_s == pytest.approx(math.exp(0.25) * plain.time_s, rel=1e-12)
    assert plain.energy_j < slow.energy_j * math.exp(0.125) < math.exp(0.25) * plain.energy_j  # work costs the same
    assert (other.time_s, other.energy_j) == (plain.time_s, plain.energy_j)


def test_batches_files_and_texts_keep_corrections(tmp_path):
    device = corrected(0.25, -0.125)
    device = replace(device, corrections={**device.corrections, "matmul.bf16@lib": Correction(pack([(LEAF, 1.0)]), "")})
    model = compile_graph(matmul(symbol("m"), 1024, 2048), device)
    model.save(str(tmp_path / "m.wattir"))

    assert "@lib" in device_text(device) and "@lib" not in (tmp_path / "m.wattir").read_text()
    assert device_from_text(device_text(device), "text").corrections == device.corrections
    assert wattir.load(str(tmp_path / "m.wattir"))(m=512) == model(m=512)
    assert model(m=np.array([512, 7])).energy_j[0] == pytest.approx(model(m=512).energy_j, rel=1e-12)


SPLITS = {"window": 1.0, "channels": 5.5, "stride": 1.0, "columns_over": 7.0, "channels_over": 7.0, "intensity": 0.0}
"""Where a tree may split what convolutions with a batch and some channels differ by."""


@pytest.mark.parametrize("feature", SPLITS)
def test_trees_over_what_a_convolution_is_answer_alike_one_by_one_and_in_batches(feature):
    tree = (FEATURES.index(feature), SPLITS[feature], (LEAF, 0.25), (LEAF, -0.5))
    text = pack([tree])
    families = ("conv", "conv3x3", "pooling")
    device, found = physics_only(load_device("a30")), set()
    keys = (f"{family}.{dtype}" for family in families for dtype in device.flop_per_s)
    device = replace(device, corrections=dict.fromkeys(keys, Correction(text, text)))
    c = symbol("c")
    for graph in (
        conv(symbol("b"), c, c, (14, 14), (3, 3)),
        conv(symbol("b"), c, 64, (14, 14), (1, 1), stride=2),
        pooling((symbol("b"), c, 14, 14), (symbol("b"), c, 13, 13), 4),
        pooling((symbol("b"), c, 14, 14), (symbol("b"), c, 14, 14), 25),
    ):
        model, plain = (compile_graph(graph, each) for each in (device, physics_only(device)))
        sizes = [(1, 32), (3, 40), (8, 64), (64, 127)]
        batch = model(b=np.array([b for b, _ in sizes]), c=np.array([channels for _, channels in sizes]))
        singles = [model(b=b, c=channels) for b, channels in sizes]
        assert batch.time_s == pytest.approx([one.time_s for one in singles], rel=1e-12)
        assert batch.energy_j == pytest.approx([one.energy_j for one in singles], rel=1e-12)
        found |= {
            round(math.log(one.time_s / plain(b=b, c=channels).time_s), 6)
            for one, (b, channels) in zip(singles, sizes, strict=True)
        }
    assert found == {0.25, -0.5}  # both sides of the split are met


@pytest.mark.parametrize(("feature", "limit"), [("tokens", 5.0), ("experts", 4.0)])
def test_trees_over_what_experts_were_given_answer_alike_one_by_one_and_in_batches(feature, limit):
    text = pack([(FEATURES.index(feature), limit, (LEAF, 0.25), (LEAF, -0.5))])
    device, found = physics_only(load_device("a30")), set()
    device = replace(device, corrections={f"matmul.{dtype}": Correction(text, "") for dtype in device.flop_per_s})
    for experts in (8, 64):
        b, sizes = symbol("b"), [1, 16, 33, 64]
        product = matmul(b, 64, 64)
        (op,) = product.ops
        graph = replace(product, ops=(replace(op, attrs={**op.attrs, "tokens": 2 * b, "experts": experts}),))
        model, plain = (compile_graph(graph, each) for each in (device, physics_only(device)))
        singles = [model(b=each).time_s for each in sizes]
        assert model(b=np.array(sizes)).time_s == pytest.approx(singles, rel=1e-12)
        found |= {round(math.log(one / plain(b=each).time_s), 6) for one, each in zip(singles, sizes, strict=True)}
    assert found == {0.25, -0.5}


def test_a_text_of_an_earlier_wattir_answers_as_it_did():
    # 0.5 up to n = 2^5 and -0.25 beyond; 1 for more than 2^20 weights: packed when there were 14 features
    text = "eNpjYGRgWODAgAAgviMTkPrPYPGfYQsvkAYiGwBcowb4"
    trees = [(1, 5.0, (LEAF, 0.5), (LEAF, -0.25)), (13, 20.0, (LEAF, 0.0), (LEAF, 1.0))]

    assert unpack(text) == unpack(pack(trees))


def test_a_text_of_a_later_wattir_is_refused_in_one_line():
    later = b64encode(bytes([len(FEATURES) + 1]) + b64decode(TEXT)[1:]).decode()
    with pytest.raises(DeviceError, match=f"of {len(FEATURES) + 1} features, this wattir has {len(FEATURES)}"):
        unpack(later)


@pytest.mark.parametrize("text", ["", "?", "é", "AAAA", pack([(LEAF, 0.5)])[:-6], pack([(LEAF, math.nan)])])
def test_a_damaged_text_is_refused_in_one_line(text):
    with pytest.raises(DeviceError, match="damaged"):
        unpack(text)


@pytest.mark.parametrize("device_id", device_ids())
def test_machine_files_are_for_people_and_the_ensembles_of_libraries_lie_beside_them(device_id):
    path = FOLDER / f"{device_id}.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    named = {
        f"{one['family']}.{kind}": one[f"{kind}_crc32"]
        for one in table.get("correction", ())
        for kind in ("time", "power")
        if f"{kind}_crc32" in one
    }
    beside = path.with_suffix(".trees")
    held = {info.filename: info.CRC for info in zipfile.ZipFile(beside).infolist()} if beside.exists() else {}

    assert path.stat().st_size < 100_000, "give it to wattir.backends.fit.write.write_device, as `wattir fit` does"
    assert named == held


def test_an_ensemble_is_read_from_its_file_when_it_is_asked_for(tmp_path):
    path = str(tmp_path / "mine.trees")
    stored = write_trees(path, {"matmul.bf16@lib.time": TEXT})
    once = Path(path).read_bytes()
    write_trees(path, {"matmul.bf16@lib.time": TEXT})

    assert Path(path).read_bytes() == once
    assert unpack(Stored(path, "matmul.bf16@lib.time", stored["matmul.bf16@lib.time"])) == unpack(TEXT)


def test_a_machine_without_its_ensembles_answers_all_but_their_libraries():
    text = (FOLDER / "h100_sxm.toml").read_text(encoding="utf-8")
    alone = device_from_text(text, "alone.toml")

    assert compile_graph(matmul(64, 64, 64), alone)() == compile_graph(matmul(64, 64, 64), load_device("h100_sxm"))()
    with pytest.raises(DeviceError, match=r"alone\.trees: cannot be read .*wattir fit"):
        text_of(alone.corrections["matmul.bf16@torch_flow"].time)


def zipped(content: bytes, method: int = zipfile.ZIP_STORED):
    def write(path: str) -> None:
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("a@b.time", content)

    return write


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "No such file"),
        (os.mkfifo, "no plain file"),
        (lambda path: Path(path).write_bytes(b"PK no zip"), "not a zip file"),
        (lambda path: Path(path).write_bytes(b""), "not a zip file"),
        (lambda path: write_trees(path, {"other@b.time": TEXT}), "is not in there"),
        (zipped(b"of another fit"), "is not what the device file was written with"),
        (zipped(bytes(100 * MOST_BYTES), zipfile.ZIP_DEFLATED), "is not what the device file was written with"),
    ],
)
def test_a_trees_file_that_is_not_right_is_refused_in_one_line(write, said, tmp_path):
    path = str(tmp_path / "mine.trees")
    write(path)

    with pytest.raises(DeviceError) as refusal:
        unpack(Stored(path, "a@b.time", crc32(b"of this fit")))
    assert said in str(refusal.value) and path in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_damaged_byte_of_a_trees_file_is_told(tmp_path):
    path = str(tmp_path / "mine.trees")
    (crc,) = write_trees(path, {"a@b.time": TEXT}).values()
    content = bytearray(Path(path).read_bytes())
    content[45] ^= 1  # past the header of 30 bytes and the name of 8
    Path(path).write_bytes(content)

    with pytest.raises(DeviceError, match="Bad CRC-32"):
        unpack(Stored(path, "a@b.time", crc))
