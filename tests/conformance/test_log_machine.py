"""The log against a dictionary: any operations, by two handles, give the same answers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nbcache.model.row import AttemptRow
from nbcache.store.cache import Cache
from nbcache.store.verify import verify
from tests.exploring import examples
from tests.store.rows import attempt, hash_of

tasks = st.sampled_from("abc")
handles = st.integers(0, 1)


class LogMachine(RuleBasedStateMachine):
    """Two open caches on one folder; the model is a list of rows and what was evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="nbcache-machine-"))
        self.caches = [Cache.open(self.root / "c"), Cache.open(self.root / "c")]
        self.rows: list[AttemptRow] = []
        self.evicted: dict[str, int] = {}
        self.evicted_rows: set[str] = set()

    @rule(handle=handles, task=tasks, generation=st.integers(1, 3), status=st.booleans())
    def append(self, handle: int, task: str, generation: int, status: bool) -> None:
        row = attempt(task, generation=generation, status="completed" if status else "failed")
        self.caches[handle].log.append([row])
        self.rows.append(row)

    @rule(handle=handles, task=tasks)
    def evict(self, handle: int, task: str) -> None:
        evict = self.caches[handle].log.evict(hash=hash_of(task))
        assert evict.generation is not None
        assert evict.generation == self.next_generation(task) - 1
        self.evicted[task] = evict.generation

    @rule(handle=handles, number=st.integers(0, 9))
    def evict_row(self, handle: int, number: int) -> None:
        if self.rows:
            row = self.rows[number % len(self.rows)]
            self.caches[handle].log.evict(row=row.id)
            self.evicted_rows.add(row.id)

    @rule(handle=handles)
    def fold(self, handle: int) -> None:
        self.caches[handle].log.rotate()
        self.caches[handle].log.fold()

    @rule(handle=handles, grace=st.sampled_from([-1.0, 1e6]))
    def compact(self, handle: int, grace: float) -> None:
        self.caches[handle].log.compact(grace_s=grace)

    @rule(handle=handles)
    def reopen(self, handle: int) -> None:
        self.caches[handle].close()
        self.caches[handle] = Cache.open(self.root / "c")

    @rule()
    def drop_index(self) -> None:
        shutil.rmtree(self.root / "c" / "index", ignore_errors=True)

    def next_generation(self, task: str) -> int:
        known = [
            row.generation
            for row in self.rows
            if row.position == task and row.status == "completed"
        ]
        return 1 + max([*known, self.evicted.get(task, 0)], default=0)

    def best(self, task: str) -> str | None:
        rows = [
            (-row.generation, row.id)
            for row in self.rows
            if row.position == task
            and row.status == "completed"
            and row.generation > self.evicted.get(task, 0)
            and row.id not in self.evicted_rows
        ]
        return min(rows)[1] if rows else None

    @invariant()
    def both_handles_agree_with_the_model(self) -> None:
        for cache in self.caches:
            cache.log.refresh()
            for task in "abc":
                entry = cache.log.find(hash_of(task))
                assert (entry.row_id if entry else None) == self.best(task)
                assert cache.log.next_generation(hash_of(task)) == self.next_generation(task)
            found = {row.id: row for row in cache.log.attempts()}
            assert found == {row.id: row for row in self.rows}

    def teardown(self) -> None:
        report = verify(self.caches[0])
        assert report.ok, report
        shutil.rmtree(self.root)


LogMachine.TestCase.settings = settings(examples(12), stateful_step_count=20)
TestLogMachine = LogMachine.TestCase
