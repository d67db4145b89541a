"""Every candidate of a space, or a sample, on several machines: chunk by chunk into one Parquet file.

Each chunk goes to a file of its own in ``OUT.parts``, written under another name and then renamed, so that a sweep
that was interrupted goes on where it stopped: a chunk is there whole or not at all. At the end the parts are joined.
Chunks are worked out here, or by the workers of a Dask cluster; they are always written here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np

from wattir import __version__
from wattir.costmodel import Answer
from wattir.device import Device
from wattir.device_text import device_text
from wattir.errors import InputError, SpaceError
from wattir.graph_text import graph_text
from wattir.priced import PricedSpace
from wattir.spaces import MOST_INDEXED, Space
from wattir.tables import Array
from wattir.writing import replacing

RETRIES = 5
"""How often a chunk is tried again on a cluster."""
PATIENCE = "10s"
"""How long a scheduler may take to answer."""
IN_FLIGHT = 2
"""Chunks given to a cluster at once, for each of its threads."""
IDENTITY = b"wattir_sweep"

_one_at_a_time = Lock()  # a batch is on all cores already: two threads of a worker would only get in each other's way


@dataclass(frozen=True)
class Sweep:
    """What is asked. `sample`: how many candidates are drawn with `seed`, None for all of them; `keep`: how many of
    the least joules are kept on each machine, None for all; `sizes`: whether these have columns of their own."""

    space: Space
    machines: tuple[Device, ...]
    runtime: str = "compiled"
    dtype: str | None = None
    chunk: int = 500_000
    sample: int | None = None
    seed: int = 0
    keep: int | None = None
    sizes: bool = True
    version: str = __version__

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return self.space.size if self.sample is None else self.sample

    @property
    def chunks(self) -> int:
        """How many chunks these make."""
        return -(-self.count // self.chunk)

    def length(self, number: int) -> int:
        """How many candidates a chunk has."""
        return min(self.chunk, self.count - number * self.chunk)

    @cached_property
    def identity(self) -> str:
        """A checksum of everything that the rows depend on."""
        options = (self.runtime, self.dtype, self.chunk, self.sample, self.seed, self.keep, self.sizes, self.version)
        values = [list(self.space.values.items()), list(self.space.labels.items())]
        parts = (graph_text(self.space.graph), *map(device_text, self.machines), repr(values), repr(options))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run_sweep(
    sweep: Sweep, out: str, scheduler: str | None = None, advance: Callable[[int], None] = lambda count: None
) -> None:
    """Writes `out`; `advance` hears of candidates as they are done, those of an earlier run first.

    SpaceError where `out` or its parts are of another sweep, where an extra is missing, or no scheduler answers.
    """
    _extra("pyarrow.parquet")
    if sweep.sample is None and sweep.count >= MOST_INDEXED:
        raise SpaceError(f"{sweep.space.graph.name}: {sweep.count} candidates; expected --sample N of so many")
    parts = _Parts(sweep, out)
    if parts.finished():
        return advance(sweep.count)
    missing = parts.missing()
    advance(sweep.count - sum(map(sweep.length, missing)))
    try:
        for number, table in _on_cluster(sweep, missing, scheduler) if scheduler else _here(sweep, missing):
            parts.write(number, table)
            advance(sweep.length(number))
    except BaseException:
        parts.leave()
        raise
    parts.join()


def _extra(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(f"sweep: {package} is not installed; install it with pip install 'wattir[sweep]'") from None


# ---- rows ---------------------------------------------------------------------------------------------------------


def prices(sweep: Sweep) -> tuple[PricedSpace, ...]:
    """The space on each machine; SpaceError on a worker of another version."""
    if sweep.version != __version__:
        raise SpaceError(f"sweep: a worker has wattir {__version__}; expected {sweep.version} as on this machine")
    return tuple(sweep.space.compile(machine, sweep.runtime, sweep.dtype) for machine in sweep.machines)


def chunk_rows(sweep: Sweep, priced: tuple[PricedSpace, ...], number: int) -> Any:
    """The Arrow table of one chunk."""
    candidates = _candidates(sweep, number)
    with _one_at_a_time:
        answers = [price(candidates) for price in priced]
    return _table(sweep, candidates, answers)


def _candidates(sweep: Sweep, number: int) -> Array:
    """Indices, or drawn sizes where there are no indices."""
    start, count = number * sweep.chunk, sweep.length(number)
    if sweep.sample is None:
        return np.arange(start, start + count)
    if sweep.space.size < MOST_INDEXED:
        return np.random.default_rng([sweep.seed, number]).integers(0, sweep.space.size, count)
    return sweep.space.sample(count, [sweep.seed, number])


def _table(sweep: Sweep, candidates: Array, answers: list[Answer]) -> Any:
    import pyarrow as pa

    least = _least([answer.energy_j for answer in answers], sweep.keep)
    candidates = candidates[least]
    columns: dict[str, Any] = {"index": candidates} if candidates.ndim == 1 else {}
    if sweep.sizes or candidates.ndim == 2:
        rows = sweep.space.rows(candidates) if candidates.ndim == 1 else candidates
        for name, column in zip(sweep.space.names, rows.T, strict=True):
            labels = sweep.space.labels.get(name)
            plain = np.ascontiguousarray(column, np.int16 if labels else np.int64)
            columns[name] = pa.DictionaryArray.from_arrays(plain, labels) if labels else plain
    for machine, answer in zip(sweep.machines, answers, strict=True):
        for field in Answer.__slots__:
            columns[f"{machine.id}_{field}"] = getattr(answer, field)[least]
    return pa.table(columns)


def _least(joules: list[Array], keep: int | None) -> Any:
    """Places of the candidates among the `keep` least of any column, ascending; all of them for None."""
    if keep is None or keep >= len(joules[0]):
        return slice(None)
    return np.unique(np.concatenate([np.argpartition(column, keep - 1)[:keep] for column in joules]))


# ---- where chunks are worked out ----------------------------------------------------------------------------------


def _here(sweep: Sweep, missing: Iterable[int]) -> Iterator[tuple[int, Any]]:
    priced = prices(sweep)
    return ((number, chunk_rows(sweep, priced, number)) for number in missing)


def _on_cluster(sweep: Sweep, missing: Iterable[int], address: str) -> Iterator[tuple[int, Any]]:
    """Chunks as a Dask cluster finishes them, `IN_FLIGHT` a thread at once; a lost worker's are given to others."""
    distributed = _extra("distributed")
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SpaceError(
            f"--scheduler {address}: no Dask scheduler answers ({error}); expected tcp://HOST:PORT"
        ) from None
    with client:
        priced = client.submit(prices, sweep, retries=RETRIES, pure=False)
        waiting = iter(missing)

        def submit(number: int) -> Any:
            return client.submit(_numbered, sweep, priced, number, retries=RETRIES, pure=False)

        first = [submit(number) for number in islice(waiting, IN_FLIGHT * _threads(client))]
        ready = distributed.as_completed(first, loop=client.loop)
        for future in ready:
            try:
                number, table = future.result()
            except distributed.scheduler.KilledWorker as error:
                raise SpaceError(
                    f"--scheduler {address}: workers died again and again ({error}); see their logs"
                ) from None
            for other in islice(waiting, 1):
                ready.add(submit(other))
            yield number, table


def _numbered(sweep: Sweep, priced: tuple[PricedSpace, ...], number: int) -> tuple[int, Any]:
    return number, chunk_rows(sweep, priced, number)


def _threads(client: Any) -> int:
    return max(1, sum(map(int, client.nthreads().values())))


# ---- files --------------------------------------------------------------------------------------------------------


class _Parts:
    """The folder of the chunks that are done, and the file that they become."""

    def __init__(self, sweep: Sweep, out: str) -> None:
        self.sweep, self.out, self.folder = sweep, out, f"{out}.parts"

    def finished(self) -> bool:
        """Whether `out` is this very sweep's result; SpaceError where it is another file."""
        if not os.path.exists(self.out):
            return False
        if os.path.isdir(self.out):
            inside = os.path.join(self.out, "results.parquet")
            raise SpaceError(f"{self.out}: is a folder; expected a file to write, such as {inside}")
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            found = (pq.read_schema(self.out).metadata or {}).get(IDENTITY, b"").decode()
        except pa.ArrowInvalid:
            found = ""
        if found != self.sweep.identity:
            raise SpaceError(f"{self.out}: already there, of another sweep; give another --out, or remove it")
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def missing(self) -> list[int]:
        """The chunks that are not done; makes the folder, or checks whose it is."""
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise SpaceError(
                f"{self.folder}: cannot be made ({error.strerror}); expected --out in a folder you may write to"
            ) from None
        manifest = os.path.join(self.folder, "sweep.json")
        if os.path.exists(manifest) and _identity(manifest) != self.sweep.identity:
            reason = "holds chunks of another space, machine, option or version of wattir"
            raise SpaceError(f"{self.folder}: {reason}; give another --out, or remove the folder")
        self._whole(manifest, self._describe)
        return [number for number in range(self.sweep.chunks) if not os.path.exists(self._path(number))]

    def _describe(self, path: str) -> None:
        described = {
            "identity": self.sweep.identity, "space": self.sweep.space.graph.name,
            "machines": [machine.id for machine in self.sweep.machines], "candidates": self.sweep.count,
            "chunk": self.sweep.chunk, "wattir": self.sweep.version,
        }  # fmt: skip
        with open(path, "w", encoding="utf-8") as file:
            json.dump(described, file, indent=2)

    def write(self, number: int, table: Any) -> None:
        """Puts a chunk's table into its file."""
        import pyarrow.parquet as pq

        self._whole(self._path(number), lambda path: pq.write_table(table, path))

    def leave(self) -> None:
        """Removes the folder where no chunk is done: there is nothing to go on with."""
        if not any(os.path.exists(self._path(number)) for number in range(self.sweep.chunks)):
            shutil.rmtree(self.folder)

    def join(self) -> None:
        """Makes `out` of the parts, which are removed."""
        self._whole(self.out, self._joined)
        shutil.rmtree(self.folder)

    def _joined(self, path: str) -> None:
        import pyarrow.parquet as pq

        tables = self._least() if self.sweep.keep is not None else map(self._read, range(self.sweep.chunks))
        writer = None
        for table in tables:
            marked = table.replace_schema_metadata({IDENTITY: self.sweep.identity.encode()})
            writer = writer or pq.ParquetWriter(path, marked.schema)
            writer.write_table(marked)
        assert writer is not None
        writer.close()

    def _least(self) -> Iterator[Any]:
        """The least of all chunks' least, as one table."""
        import pyarrow as pa

        found = self._read(0)
        for number in range(1, self.sweep.chunks):
            found = self._kept(pa.concat_tables([found, self._read(number)]))
        yield self._kept(found)

    def _kept(self, table: Any) -> Any:
        joules = [table.column(f"{machine.id}_energy_j").to_numpy() for machine in self.sweep.machines]
        least = _least(joules, self.sweep.keep)
        return table if isinstance(least, slice) else table.take(least)

    def _read(self, number: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(number)
        try:
            return pq.ParquetFile(path).read()
        except pa.ArrowInvalid:
            raise SpaceError(f"{path}: damaged; remove it and give the same command again") from None

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"part-{number:08d}.parquet")

    def _whole(self, path: str, write: Callable[[str], None]) -> None:
        with replacing(path) as partial:
            write(partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())


def _identity(manifest: str) -> Any:
    """The identity that a file states; None where it states none."""
    with open(manifest, encoding="utf-8", errors="replace") as file:
        try:
            found = json.load(file)
        except (ValueError, RecursionError):
            return None
    return found.get("identity") if isinstance(found, dict) else None
