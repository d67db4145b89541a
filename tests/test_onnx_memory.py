"""Reading and lowering ONNX files of gigabytes takes little memory: the weights are never loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

from onnx_encoder import Encoder, write_external, write_with_holes  # noqa: E402  (after importorskip)
from onnx_models import graph, node  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MOST_BYTES = 200e6
PEAK = """
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)  # ru_maxrss would count the parent's, it survives exec
"""
READ = """
import sys
from wattir.frontends.onnx.reader import read
print(len(read(sys.argv[1]).model.graph.initializer))
"""
LOWER = """
import sys, time
from wattir.frontends.onnx import lower
began_s = time.perf_counter()
graph = lower(sys.argv[1])
print(f"lowered in {time.perf_counter() - began_s:.2f} s", file=sys.stderr)
print(graph.params, *graph.sizes, *{op.kind for op in graph.ops} & {"unknown"})
"""


def measured(code: str, path: str | Path = "") -> tuple[list[str], int]:
    """The words that `code` prints in a process of its own, and the peak of its resident memory in bytes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = [sys.executable, "-c", code + PEAK, str(path)]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    *words, peak = done.stdout.split()
    return words, int(peak)


def test_a_peak_is_seen_after_it_has_passed() -> None:
    _, peak = measured("held = b'x' * 300_000_000\ndel held")
    assert 300e6 < peak < 400e6


@pytest.mark.parametrize(("count", "payload"), [(100, 13_000_000), (3000, 432_000)])  # 1.3 GB each
def test_memory_for_a_file_of_over_a_gigabyte(tmp_path: Path, count: int, payload: int) -> None:
    path = tmp_path / "big.onnx"
    rest = graph([node("Add", f"x w{i}", f"y{i}") for i in range(count)], outputs=["y0"])
    write_with_holes(path, {f"w{i}": [payload // 4] for i in range(count)}, rest)
    assert path.stat().st_size > 1_290_000_000
    words, peak = measured(READ, path)
    path.unlink()
    assert words == [str(count)]
    assert peak < MOST_BYTES


def test_lowering_a_network_with_embedded_weights(tmp_path: Path) -> None:
    path, encoder = tmp_path / "big.onnx", Encoder(layers=24, width=1024, vocabulary=30_522)  # BERT large's size
    write_with_holes(path, encoder.weights(), encoder.graph())
    assert path.stat().st_size > 1_300_000_000
    words, peak = measured(LOWER, path)
    path.unlink()
    assert words == [str(encoder.params()), "batch", "seq"]
    assert peak < MOST_BYTES


def test_lowering_a_network_whose_data_file_is_missing(tmp_path: Path) -> None:
    path, encoder = tmp_path / "big.onnx", Encoder(layers=34, width=1280, vocabulary=8_000)
    assert 4 * encoder.params() > 2_700_000_000
    write_external(path, encoder.weights(), encoder.graph(), "big.onnx.data")
    assert list(tmp_path.iterdir()) == [path]
    words, peak = measured(LOWER, path)
    assert words == [str(encoder.params()), "batch", "seq"]
    assert peak < MOST_BYTES
