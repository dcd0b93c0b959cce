"""The rows of runs, written one after the other, for tests of what reads them."""

from __future__ import annotations

import json
import os
import socket

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.ids import make_ulid
from nbcache.model.row import AttemptRow, InputSummary, ProcessRecord, Row, RunRow, UseRow
from nbcache.store.cache import Cache

START = 1_790_000_000_000_000  # microseconds


class Story:
    """Writes the rows of runs one after the other; time goes on by a second a row."""

    def __init__(self, cache: Cache) -> None:
        self.cache, self.step = cache, 0

    def add(self, row_type: type[Row], **values: object) -> Row:
        at = self._next()
        self.step += 1
        row_id = make_ulid(at // 1000, self.step.to_bytes(10, "big"))
        row = row_type(id=row_id, at=at, **values)  # type: ignore[arg-type]
        self.cache.log.append([row])
        return row

    def _next(self) -> int:
        """When the next row is made; that of an attempt, when it was submitted."""
        return START + (self.step + 1) * 1_000_000

    def begin(
        self, run: str, name: str, code: str = "v1", *, pid: int | None = None, **more: object
    ) -> None:
        record = ProcessRecord(
            name="fit", components=(Component("code", "body", 1, digest(code), evidence=code),)
        )
        self.add(
            RunRow,
            run=run,
            name=name,
            status="running",
            processes=(record,),
            notebook="fit.ipynb",
            host=socket.gethostname(),
            pid=os.getpid() if pid is None else pid,
            **more,
        )

    def end(self, run: str, name: str, status: str = "succeeded", **counts: int) -> None:
        self.add(RunRow, run=run, name=name, status=status, counts=counts)

    def attempt(
        self,
        run: str,
        position: int,
        depth: int,
        *,
        code: str = "v1",
        realtime: float | None = 0.5,
        **more: object,
    ) -> AttemptRow:
        values: dict[str, object] = {"process": "fit", "status": "completed"}
        values["realtime"] = realtime
        if realtime is not None:
            at = self._next()
            values |= {"submit": at, "start": at, "complete": at + int(realtime * 1_000_000)}
        row = self.add(
            AttemptRow,
            run=run,
            position=str(position),
            hash=digest(f"{code} {depth}"),
            **(_depth(depth) | values | more),
        )
        assert isinstance(row, AttemptRow)
        return row

    def use(self, run: str, position: int, made: AttemptRow) -> None:
        self.add(
            UseRow,
            run=run,
            process="fit",
            position=str(position),
            hash=made.hash,
            cached_from=made.id,
        )


def _depth(depth: int) -> dict[str, object]:
    return {
        "inputs": (InputSummary("depth", digest(str(depth)), str(depth), json.dumps(depth)),),
        "components": (Component("input", "depth", 1, digest(str(depth)), str(depth)),),
    }


def digest(text: str) -> Digest:
    return identity_digest(text.encode())


ONE, TWO, THREE = "01" + "A" * 24, "01" + "B" * 24, "01" + "C" * 24


def tell_two_runs(story: Story) -> None:
    """calm-otter runs depth 2, 4, 8 (8 fails); bold-ant finds 2 and runs 4, 6 with new code."""
    story.begin(ONE, "calm-otter", parameters={"rep": "3"})
    first = story.attempt(ONE, 0, 2)
    story.attempt(ONE, 1, 4)
    story.attempt(ONE, 2, 8, status="failed", error="ZeroDivisionError: division by zero")
    story.end(ONE, "calm-otter", "failed", completed=2, failed=1)
    story.begin(TWO, "bold-ant", code="v2")
    story.use(TWO, 0, first)
    story.attempt(TWO, 1, 4, code="v2", reason="code changed")
    story.attempt(TWO, 2, 6, code="v2")
    story.end(TWO, "bold-ant", completed=2, cached=1)
