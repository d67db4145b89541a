"""Sweeps: every candidate once, whatever is interrupted; space files and what is refused in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wattir
from wattir.cli import main
from wattir.errors import SizeError, SpaceError
from wattir.space_file import load_space, values_of
from wattir.spaces import Space
from wattir.sweep import Sweep, run_sweep

pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[1]
TEXT = """\
name = "cells"

[sizes]
batch = [1, "2..8:3"]

[[part]]
layer = "conv"
batch = "batch"
c_in = 3
c_out = 16
in_spatial = [32, 32]
kernel = [3, 3]
dtype = "fp32"

[[choice]]
names = ["edge0", "edge1", "edge2"]
times = 5
[choice.blocks]
none = {}
pool = { layer = "pooling", in_shape = ["batch", 16, 32, 32], out_shape = ["batch", 16, 32, 32], window = 9 }
wide = { layer = "conv", batch = "batch", c_in = 16, c_out = 16, in_spatial = [32, 32], kernel = [3, 3] }
net = { model = "net.wattir" }
"""


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    from wattir.layers import matmul
    from wattir.wattir_file import write_graph

    write_graph(matmul(16, 64, 64), str(tmp_path / "net.wattir"))
    path = tmp_path / "cells.toml"
    path.write_text(TEXT)
    return path


def sweep_of(path: Path, **options: Any) -> Sweep:
    devices = tuple(map(wattir.load_device, ("h100_sxm", "raspberry_pi_5")))
    return Sweep(load_space(str(path)), devices, **{"chunk": 50, **options})


def test_a_file_describes_a_space(space_file: Path) -> None:
    space = load_space(str(space_file))

    assert space.size == 4**3 * 4
    assert space.values["batch"] == (1, 2, 5, 8)
    assert space.labels["edge1"] == ("none", "pool", "wide", "net")
    assert len(space.graph.ops) == 1 + 3  # every block is lowered once


def test_what_a_layer_may_be_told_a_file_may_say(tmp_path: Path) -> None:
    path = tmp_path / "attention.toml"
    sizes = "batch = 1, heads = 8, q = 1, kv = 64, head_dim = 64"
    path.write_text(f'part = [{{ layer = "attention", {sizes}, causal = true, cached = true }}]')
    expected = wattir.lower(wattir.layers.attention(1, 8, 1, 64, 64, causal=True, cached=True))

    assert [op.attrs for op in load_space(str(path)).graph.ops] == [op.attrs for op in expected.ops]


def test_every_candidate_stands_once_with_its_answers(space_file: Path, tmp_path: Path) -> None:
    sweep, out = sweep_of(space_file), tmp_path / "r.parquet"
    done: list[int] = []
    run_sweep(sweep, str(out), advance=done.append)
    table = pq.read_table(out)
    price = sweep.space.compile("raspberry_pi_5")

    assert table.column("index").to_pylist() == list(range(256))
    assert sum(done) == 256
    assert not (tmp_path / "r.parquet.parts").exists()
    assert table.column("raspberry_pi_5_energy_high_j").to_pylist() == price(range(256)).energy_high_j.tolist()
    row = table.slice(201, 1).to_pylist()[0]
    assert {name: row[name] for name in sweep.space.names} == sweep.space.label(sweep.space[201])


def test_a_sweep_that_is_done_is_not_done_again_nor_written_over(space_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    run_sweep(sweep_of(space_file), str(out))
    before = out.stat().st_mtime_ns
    run_sweep(sweep_of(space_file), str(out))

    assert out.stat().st_mtime_ns == before
    with pytest.raises(SpaceError, match="already there, of another sweep; give another --out"):
        run_sweep(sweep_of(space_file, keep=3), str(out))


def test_parts_of_another_sweep_are_refused(space_file: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "r.parquet")

    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep_of(space_file), out, advance=_stop_after(100))
    with pytest.raises(SpaceError, match="holds chunks of another space, machine, option or version"):
        run_sweep(sweep_of(space_file, runtime="eager"), out)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"identity": 3}'])
def test_parts_of_nobody_knows_what_are_refused(text: str, space_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r.parquet.parts"
    folder.mkdir()
    (folder / "sweep.json").write_text(text)

    with pytest.raises(SpaceError, match="holds chunks of another space"):
        run_sweep(sweep_of(space_file), str(tmp_path / "r.parquet"))


def test_a_sweep_that_cannot_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    out, (m, n) = tmp_path / "out.parquet", map(wattir.spaces.symbol, "mn")
    space = Space(wattir.layers.matmul(m, n, 64), {"m": (1, 2**30), "n": (1, 2**30)})

    with pytest.raises(SizeError, match=r"candidate \[3\]: .*; expected at most 2\^53"):
        run_sweep(Sweep(space, (wattir.load_device("h100_sxm"),)), str(out))
    assert not list(tmp_path.iterdir())


def test_a_damaged_part_is_named(space_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep_of(space_file), str(out), advance=_stop_after(100))
    part = tmp_path / "r.parquet.parts" / "part-00000001.parquet"
    part.write_bytes(part.read_bytes()[:-7])

    with pytest.raises(SpaceError, match=r"part-00000001.parquet: damaged; remove it and give the same command again"):
        run_sweep(sweep_of(space_file), str(out))
    part.unlink()
    run_sweep(sweep_of(space_file), str(out))
    assert pq.read_table(out).column("index").to_pylist() == list(range(256))


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ("folder", "folder: is a folder; expected a file to write, such as .*results.parquet"),
        ("cells.toml", "cells.toml: already there, of another sweep"),
        ("cells.toml/r.parquet", "r.parquet.parts: cannot be made .*expected --out in a folder you may write to"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused(out: str, text: str, space_file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(SpaceError, match=text):
        run_sweep(sweep_of(space_file), str(tmp_path / out))


def test_an_interrupted_sweep_does_only_what_is_missing(space_file: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "r.parquet")
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep_of(space_file), out, advance=_stop_after(100))
    parts = {path.name: path.stat().st_mtime_ns for path in Path(f"{out}.parts").glob("part-*")}
    done: list[int] = []

    def note(count: int) -> None:
        assert (
            not done or parts.items() <= {p.name: p.stat().st_mtime_ns for p in Path(f"{out}.parts").iterdir()}.items()
        )
        done.append(count)

    run_sweep(sweep_of(space_file), out, advance=note)

    assert done[0] == 100  # what the first run did
    assert pq.read_table(out).column("index").to_pylist() == list(range(256))


def _stop_after(count: int) -> Any:
    total = [0]

    def advance(more: int) -> None:
        total[0] += more
        if total[0] >= count:
            raise KeyboardInterrupt

    return advance


def test_a_killed_sweep_goes_on_where_it_stopped(space_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    words = [
        "sweep",
        str(space_file),
        "--hw",
        "h100_sxm",
        "--set",
        "batch=1..2000",
        "--chunk",
        "500",
        "--out",
        str(out),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "wattir", *words], env=environment)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("r.parquet.parts/part-*.parquet"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()

    assert main(words) == 0
    assert pq.read_table(out).column("index").to_pylist() == list(range(4**3 * 2000))


@pytest.mark.filterwarnings("ignore")  # a worker that is killed leaves sockets open
def test_a_killed_worker_of_a_cluster_loses_nothing(space_file: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    sweep, out = sweep_of(space_file, chunk=8), str(tmp_path / "r.parquet")
    killed: list[int] = []
    here = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{here}"
    try:
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster:

            def advance(count: int) -> None:
                if count and not killed:
                    killed.append(next(iter(cluster.workers.values())).pid)
                    os.kill(killed[0], signal.SIGKILL)

            run_sweep(sweep, out, cluster.scheduler_address, advance)
    finally:
        os.environ["PYTHONPATH"] = here

    assert killed
    table = pq.read_table(out)
    assert table.column("index").to_pylist() == list(range(256))
    expected = sweep.space.compile("h100_sxm")(range(256))
    assert table.column("h100_sxm_time_s").to_pylist() == expected.time_s.tolist()


def test_a_sample_is_the_same_with_the_same_seed(space_file: Path, tmp_path: Path) -> None:
    tables = []
    for number, seed in enumerate((1, 1, 2)):
        out = str(tmp_path / f"{number}.parquet")
        run_sweep(sweep_of(space_file, sample=120, seed=seed), out)
        tables.append(pq.read_table(out).column("index").to_pylist())

    assert len(tables[0]) == 120
    assert tables[0] == tables[1] != tables[2]


def test_the_least_joules_are_kept(space_file: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "r.parquet")
    sweep = sweep_of(space_file, keep=7)
    run_sweep(sweep, out)
    table = pq.read_table(out)

    for device in ("h100_sxm", "raspberry_pi_5"):
        least = np.sort(sweep.space.compile(device)(range(256)).energy_j)[:7]
        assert np.sort(table.column(f"{device}_energy_j").to_numpy())[:7].tolist() == least.tolist()
    assert 7 <= table.num_rows <= 14


def test_the_command_takes_a_model_with_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.parquet"
    words = ["sweep", "bert_base", "--hw", "h100_sxm", "--set", "batch=1,8", "seq=128..512:128", "--out", str(out)]

    assert main(words) == 0
    assert f"{out}: 8 candidates of bert_base on h100_sxm" in capsys.readouterr().out
    table = pq.read_table(out)
    assert table.column("seq").to_pylist() == [128, 256, 384, 512] * 2
    one = wattir.compile("bert_base", device="h100_sxm")(batch=8, seq=384)
    assert table.column("h100_sxm_energy_j")[6].as_py() == pytest.approx(one.energy_j, rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("times = 5", "time = 5", r"choice 1: unknown key 'time'; expected names, times, blocks; did you mean times"),
        ('layer = "conv"\n', 'layer = "cnov"\n', r"part 1: layer = 'cnov'; expected one of .*did you mean conv"),
        ("c_in = 3\n", "", r"part 1: conv lacks c_in"),
        ("c_in = 3\n", "c_in = 3.5\n", r"part 1: c_in = 3.5; expected a whole number or a formula"),
        ("c_in = 3\n", "c_in = [3]\n", r"part 1: c_in = \[3\]; expected a whole number or a formula"),
        ("c_in = 3\n", "c_in = 3\ngroups = 0\n", r"part 1: conv: .*by zero"),
        (
            '{ layer = "pooling", in_shape = ["batch", 16, 32, 32], out_shape = ["batch", 16, 32, 32], window = 9 }',
            '{ layer = "pointwise", elements = 4, operands = 99999999 }',
            "operands = 99999999; expected at most 65535",
        ),
        ("[32, 32]", "[32, [32]]", r"part 1: in_spatial = \[32\]; expected a whole number or a formula"),
        ("c_in = 3\n", 'c_in = "3*"\n', r"part 1: c_in: size formula '3\*'"),
        ('"net.wattir"', '"no.wattir"', r"choice 1: blocks.net: model: no.wattir: no such file"),
        ('"2..8:3"', '"8..2"', r"sizes.batch: found '8..2'; expected an ascending range"),
        ("[1, ", "[1, 1, ", r"batch: 1 stands twice"),
        ("[[part]]", "[part]", r"part = \{.*expected \[\[part\]\] tables"),
        (TEXT, "choice = [3]", r"choice = \[3\]; expected \[\[choice\]\] tables"),
        (TEXT, f"a = {'[' * 20_000}", "not TOML"),
        ("names = [", "names = [3, ", r"choice 1: names = \[3, .*expected a list of names"),
        ("[sizes]\nbatch", "[sizes]\nbathc", r"bathc: not a size of the graph"),
        ('name = "cells"', "name = ", "not TOML"),
    ],
)
def test_a_file_that_is_not_right_is_refused_by_key(space_file: Path, old: str, new: str, text: str) -> None:
    assert old in TEXT
    space_file.write_text(TEXT.replace(old, new, 1))

    with pytest.raises(SpaceError, match=text) as found:
        load_space(str(space_file))
    assert str(space_file) in str(found.value)


@pytest.mark.parametrize("text", ["", "1..", "a", "1:2", "5..1", "1..9:0", "-1", "1..99999999"])
def test_values_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SpaceError, match="expected"):
        values_of(text)


def test_values_are_lists_and_ranges() -> None:
    assert values_of("32, 64,96..128:16") == (32, 64, 96, 112, 128)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["bert_base", "--out", "r"], "no machine; expected --hw ID"),
        (["bert_base", "--hw", "h100_sxm", "--set", "sqe=1", "--out", "r"], "sqe: not a size of the graph"),
        (["cells.toml", "--hw", "h100_sxm", "--set", "edge0=0,4", "--out", "r"],
         "cells: edge0 = 4; expected 0 to 3: none, pool, wide, net"),
        (["bert_base", "--hw", "h100_sxm", "--set", "seq=1", "--out", "r", "--scheduler", "tcp://127.0.0.1:9"],
         "no Dask scheduler answers"),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong(
    words: list[str], text: str, space_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(space_file.parent)
    if "--scheduler" in words:
        monkeypatch.setattr("wattir.sweep.PATIENCE", "1s")

    assert main(["sweep", *words]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("package", ["pyarrow", "distributed"])
def test_a_missing_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(
        sys.modules, "pyarrow.parquet", None if package == "pyarrow" else sys.modules["pyarrow.parquet"]
    )
    sweep = Sweep(Space(wattir.lower("bert_base"), {"seq": (1, 2)}), (wattir.load_device("h100_sxm"),))

    with pytest.raises(wattir.InputError, match=rf"{package} is not installed; .*wattir\[sweep\]"):
        run_sweep(sweep, str(tmp_path / "r.parquet"), "tcp://127.0.0.1:9")
