"""What the executors add to an attempt that does nothing: warm workers, journal row included."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.spec import AttemptSpec, Plain, ProcessSpec
from nbcache.model.digest import identity_digest
from nbcache.model.process import Input, Output, PortType
from nbcache.model.row import AttemptRow, InputSummary
from nbcache.store.files import new_ulid
from tests.bench.figure import Figure, main

Make = Callable[[Path], ProcessSpec]


def no_op(root: Path) -> ProcessSpec:
    """Return a Python process that hands its input on as a value."""
    return ProcessSpec(
        key="no-op",
        name="no_op",
        language="python",
        body="y = x",
        root=str(root),
        inputs=(Input("x"),),
        outputs=(Output("y"),),
    )


def true(root: Path) -> ProcessSpec:
    """Return a bash process that does nothing."""
    return ProcessSpec(
        key="true",
        name="true",
        language="script",
        interpreter=("bash", "-euo", "pipefail"),
        body="true\n",
        root=str(root),
        inputs=(Input("x"),),
        outputs=(Output("f", PortType("path", optional=True)),),
    )


def attempt(process: ProcessSpec, number: int) -> AttemptSpec:
    """Return one attempt with the row that a driver would give it."""
    now = time.time_ns() // 1000
    digest = identity_digest(b"%d" % number)
    row = AttemptRow(
        id=new_ulid(),
        at=now,
        run="01JRUN",
        process=process.name,
        position=str(number),
        hash=digest,
        status="completed",
        submit=now,
        host="host",
        user="user",
        executor="local",
        cpus=1,
        inputs=(InputSummary("x", digest, str(number), str(number)),),
    )
    return AttemptSpec(
        id=row.id,
        task=f"{process.name}[x={number}]",
        process=process.key,
        inputs={"x": Plain(number)},
        row=row,
    )


async def per_attempt(
    executor: LocalExecutor, process: ProcessSpec, count: int, width: int
) -> float:
    """Return wall seconds per attempt with `width` of them submitted at a time."""
    await executor.start()
    executor.prepare(process)
    await asyncio.gather(*(executor.submit(attempt(process, -n)) for n in range(width)))
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            report = await executor.submit(attempt(process, number))
            assert report.outcome == "completed", report.error

    start = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(width)))
    return (time.perf_counter() - start) / count


def measure(quick: bool) -> Iterable[Figure]:
    """Return the cost of no-op attempts and of an empty script, on two workers."""
    count = 500 if quick else 5_000
    cases = [
        ("no-op Python attempt, 2 warm workers", no_op, count, 0.30),
        ("script attempt (true in bash), 2 at once", true, count // 10, 2.0),
    ]
    for what, make, times, budget in cases:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "cache"

            async def run(root: Path = root, make: Make = make, times: int = times) -> float:
                executor = LocalExecutor(root, workers=2)
                try:
                    return await per_attempt(executor, make(root), times, 4)
                finally:
                    await executor.close()

            yield Figure(name=f"{what}, ms", value=asyncio.run(run()) * 1000, budget=budget)


if __name__ == "__main__":
    main(measure)
