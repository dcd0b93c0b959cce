"""What an import of local modules read, for all attempts that use these modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from nbcache.engine.identity.read_state import ReadState, digest_of_text, state_of
from nbcache.model.digest import Digest
from nbcache.model.row import WatchedRead
from nbcache.store.filestate import StatKey


@dataclass(frozen=True, slots=True)
class ImportReads:
    """What an import of local modules read: files by their state then, variables by their value.

    The import happens once per worker, but every attempt that uses the modules depends on it.
    """

    modules: frozenset[str]
    files: Mapping[str, tuple[StatKey | None, Digest | None]]
    variables: Mapping[str, str | None]
    names: Digest | None = None  # of all variables, if it went through them

    def hold(self, state: ReadState) -> bool:
        """Say whether an import would read the same now."""
        if self.names not in (None, state.digest("variables", "names")):
            return False
        return all(os.environ.get(name) == text for name, text in self.variables.items()) and all(
            state_of(path) == stat or state.file(path) == digest
            for path, (stat, digest) in self.files.items()
        )

    def rows(self, declared: Mapping[str, str]) -> list[WatchedRead]:
        """Return the reads as a row keeps them, but for variables that the hash knows."""
        found = [WatchedRead("file", path, digest) for path, (_, digest) in self.files.items()]
        if self.names is not None:
            found.append(WatchedRead("variables", "names", self.names))
        return found + [
            WatchedRead("env", name, digest_of_text(text))
            for name, text in self.variables.items()
            if name not in declared
        ]
