"""What tests of attempts share: processes and attempts made from a body, a pool to run them in."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from nbcache.codec.registry import decode
from nbcache.engine.executors.protocol import Executor
from nbcache.engine.identity.payload import pickle_names
from nbcache.engine.spec import (
    AttemptReport,
    AttemptSpec,
    FileInput,
    InputValue,
    Many,
    ProcessSpec,
    pack_value,
)
from nbcache.model.digest import identity_digest
from nbcache.model.process import Output, PortType
from nbcache.model.row import AttemptRow
from nbcache.model.value import Gathered, Stored
from nbcache.model.view import ShownChunk
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.filestate import hash_file, stat_key
from tests.waiting import PATIENCE_S

T = TypeVar("T")
PATH = PortType("path")
PATHS = PortType("path", depth=1)
BASH = ("bash", "-euo", "pipefail")


def file_input(path: Path, name: str | None = None) -> FileInput:
    """Return a file as the driver sends it."""
    key = stat_key(path)
    return FileInput(str(path), hash_file(str(path), key), name or path.name, key)


class Bench:
    """Makes specs for one cache folder, and runs them on an executor and a loop of its own."""

    def __init__(self, root: Path, make: Callable[[Path], Executor]) -> None:
        self.root = root
        self.cache = Cache.open(root)
        self.loop = asyncio.new_event_loop()
        self.executor = self.wait(self._started(make))

    async def _started(self, make: Callable[[Path], Executor]) -> Executor:
        executor = make(self.root)
        await executor.start()
        return executor

    def close(self) -> None:
        self.wait(self.executor.close())
        self.cache.close()
        self.loop.close()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, which must come before the deadline."""
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE_S))

    def process(self, body: str, outputs: str | list[Output] = "y", **more: Any) -> ProcessSpec:
        """Return a prepared process; `captured` is pickled into its payload."""
        names = [Output(outputs)] if isinstance(outputs, str) else outputs
        captured = more.pop("captured", None)
        if captured is not None:
            more["payload"] = pickle_names(captured, captured).data
        process = ProcessSpec(
            key=new_ulid(),
            name=more.pop("name", "p"),
            language=more.pop("language", "python"),
            body=body,
            root=str(self.root),
            outputs=tuple(names),
            **more,
        )
        self.executor.prepare(process)
        return process

    def script(self, body: str, outputs: list[Output] | None = None, **more: Any) -> ProcessSpec:
        """Return a prepared bash process."""
        more.setdefault("interpreter", BASH)
        return self.process(body, outputs or [], language="script", **more)

    def attempt(self, process: ProcessSpec, inputs: dict[str, Any], **more: Any) -> AttemptSpec:
        """Return an attempt with a row; plain values are packed."""
        now = time.time_ns() // 1000
        packed: dict[str, InputValue] = {
            name: value if isinstance(value, (FileInput, Stored, Many)) else pack_value(value)
            for name, value in inputs.items()
        }
        row = AttemptRow(
            id=new_ulid(),
            at=now,
            run="run",
            process=process.name,
            position="0",
            hash=identity_digest(os.urandom(16)),
            status="completed",
            submit=now,
        )
        return AttemptSpec(
            id=row.id,
            task=f"{process.name}[0]",
            process=process.key,
            inputs=packed,
            row=row,
            **more,
        )

    def start(
        self,
        process: ProcessSpec,
        inputs: dict[str, Any] | None = None,
        shown: Callable[[list[ShownChunk]], None] | None = None,
        **more: Any,
    ) -> tuple[AttemptSpec, asyncio.Future[AttemptReport]]:
        """Submit an attempt and return it with its future."""
        spec = self.attempt(process, inputs or {}, **more)

        async def submit() -> asyncio.Future[AttemptReport]:
            return self.executor.submit(spec, shown=shown)

        return spec, self.wait(submit())

    def run(
        self, process: ProcessSpec, inputs: dict[str, Any] | None = None, **more: Any
    ) -> AttemptReport:
        """Run an attempt to its end."""
        return self.finish(self.start(process, inputs, **more)[1])

    def finish(self, future: asyncio.Future[AttemptReport]) -> AttemptReport:
        """Wait for a report."""

        async def wait() -> AttemptReport:
            return await future

        return self.wait(wait())

    def value(self, process: ProcessSpec, inputs: dict[str, Any] | None = None) -> Any:
        """Run an attempt and return its single output, decoded."""
        report = self.run(process, inputs)
        assert report.outcome == "completed", report.traceback
        (held,) = report.outputs.values()
        return self.decoded(held)

    def decoded(self, held: Stored | Gathered) -> Any:
        """Return the content of an output: a value, the text of a file, a list of these."""
        if isinstance(held, Gathered):
            return [self.decoded(member) for member in held]  # type: ignore[arg-type]
        if held.kind == "none":
            return None
        data = held.inline if held.inline is not None else self.cache.blobs.read(held.blob or "")  # type: ignore[arg-type]
        return decode(held.codec, data, vouched=True) if held.kind == "value" else data.decode()

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until a condition holds, or fail at the deadline."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        self.wait(wait())

    def work_folders(self) -> list[str]:
        """Return the names of the work directories that attempts left."""
        return [name for name in os.listdir(self.cache.work) if not name.startswith("w-")]
