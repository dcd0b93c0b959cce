"""What those ask of a session who perform, describe, read and try for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from nbcache.engine.declared.names import Names
from nbcache.engine.running.decision import Place
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.reasons import Reasons
from nbcache.engine.running.run import Run
from nbcache.store.cache import Cache


class Host(Protocol):
    """The part of a session that its helpers see."""

    namespace: dict[str, object]
    folder: Path
    names: Names
    waiter: Callable[[Run], None]
    last_run: Run | None

    @property
    def cache(self) -> Cache: ...
    def prepare(self, targets: Sequence[str] | None = None) -> Prepared: ...
    def prepare_place(self, name: str) -> Place: ...
    def reasons(self, before: str | None = None) -> Reasons: ...
    def start(self, targets: Sequence[str] = ()) -> Run: ...
