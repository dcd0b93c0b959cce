"""What an import of local modules read, for all attempts that use these modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from nbcache.engine.identity.read_state import ReadState, state_of
from nbcache.engine.work.variable_reads import variable_rows
from nbcache.model.digest import Digest
from nbcache.model.row import WatchedRead
from nbcache.store.filestate import StatKey


@dataclass(frozen=True, slots=True)
class ImportReads:
    """What an import of local modules read: variables by their value, all else by its digest then.

    `reads`: by kind and name, with what stat said where it is a file.

    The import happens once per worker, but every attempt that uses the modules depends on it.
    """

    modules: frozenset[str]
    reads: Mapping[tuple[str, str], tuple[StatKey | None, Digest | None]]
    variables: Mapping[str, str | None]
    names: Digest | None = None  # of all variables, if it went through them

    def hold(self, state: ReadState) -> bool:
        """Say whether an import would read the same now."""
        if self.names not in (None, state.digest("variables", "names")):
            return False
        return all(os.environ.get(name) == text for name, text in self.variables.items()) and all(
            (kind == "file" and state_of(name) == stat) or state.digest(kind, name) == digest
            for (kind, name), (stat, digest) in self.reads.items()
        )

    def rows(self, declared: Mapping[str, str]) -> list[WatchedRead]:
        """Return the reads as a row keeps them, but for variables that the hash knows."""
        found = [WatchedRead(*key, digest) for key, (_, digest) in self.reads.items()]
        if self.names is not None:
            found.append(WatchedRead("variables", "names", self.names))
        return found + variable_rows(self.variables, declared)
