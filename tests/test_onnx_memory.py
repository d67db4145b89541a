# ---- memory


def write_big(path: Path, count: int, payload: int) -> None:
    """A model of `count` initializers with `payload` bytes each, all zeros in holes of the file."""
    head = [tensor(f"w{i}", [payload // 4]).SerializeToString() for i in range(count)]
    raw = wire._varint(9 << 3 | wire.LENGTH) + wire._varint(payload)
    heads = [wire._varint(5 << 3 | wire.LENGTH) + wire._varint(len(h + raw) + payload) + h + raw for h in head]
    rest = graph([node("Add", f"x w{i}", f"y{i}") for i in range(count)], outputs=["y0"]).SerializeToString()
    before = model()
    before.ClearField("graph")
    size = sum(map(len, heads)) + count * payload + len(rest)
    with path.open("wb") as file:
        file.write(before.SerializeToString() + wire._varint(7 << 3 | wire.LENGTH) + wire._varint(size))
        for start in heads:
            file.write(start)
            file.seek(payload, os.SEEK_CUR)
        file.write(rest)


MEASURE = """
import sys
from wattir.frontends.onnx.reader import read
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(read(sys.argv[1]).model.graph.initializer), peak.split()[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("count", "payload"), [(100, 13_000_000), (3000, 432_000)])  # 1.3 GB each
def test_memory_for_a_file_of_over_a_gigabyte(tmp_path: Path, count: int, payload: int) -> None:
    path = tmp_path / "big.onnx"
    write_big(path, count, payload)
    assert path.stat().st_size > 1_290_000_000
    paths = os.pathsep.join(filter(None, sys.path))
    run = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths})
    path.unlink()
    read_count, peak_kib = map(int, done.stdout.split())
    assert read_count == count
    assert peak_kib * 1024 < 200e6
