"""The names of a notebook, as far as they hold processes and channels.

Which of them do, is read from the namespace whenever it is asked for: cells may bind them anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nbcache.engine.declared.factories import Factories
from nbcache.engine.declared.pipeline import Pipeline
from nbcache.engine.declared.process import NamedChannel, Process
from nbcache.engine.record.results import Results
from nbcache.errors import NbcacheError, UsageError, kind_of

_UNBOUND = object()


class Names:
    """What `namespace` holds now; `factories` are what expressions of channels may call."""

    def __init__(self, namespace: dict[str, object], factories: Factories) -> None:
        self._namespace, self._factories = namespace, factories

    def pipeline(self) -> Pipeline:
        """Return the pipeline of what the names hold now."""
        return Pipeline(self._namespace, self._factories)

    @contextlib.contextmanager
    def bound(self, name: str, held: object) -> Iterator[None]:
        """Bind a name; if what follows fails, it holds again what it held before."""
        before = self._namespace.get(name, _UNBOUND)
        self._namespace[name] = held
        try:
            yield
        except BaseException:
            if before is _UNBOUND:
                del self._namespace[name]
            else:
                self._namespace[name] = before
            raise

    def replacing(self, name: str) -> tuple[str, ...]:
        """Return the note of a declaration that takes the name of an ordinary variable."""
        held = self._namespace.get(name, _UNBOUND)
        if held is _UNBOUND or isinstance(held, (Process, NamedChannel, Results)):
            return ()
        return (f"replaces the variable {name} ({kind_of(held)})",)

    def declared(self) -> list[str]:
        """Return the public names that hold a process or a named channel."""
        kinds = (Process, NamedChannel)
        return [n for n, held in self._namespace.items() if isinstance(held, kinds) and n[0] != "_"]

    def fitting(self) -> tuple[list[str], dict[str, str]]:
        """Return the processes and channels that fit together as things stand, and why the others
        do not."""
        pipeline = self.pipeline()
        fitting: list[str] = []
        others: dict[str, str] = {}
        for name in self.declared():
            try:
                pipeline.compile([name])
            except NbcacheError as error:
                others[name] = str(error)
            else:
                fitting.append(name)
        return fitting, others

    def labelled(self, label: str) -> list[str]:
        """Return the public names of the processes that have a label.

        Raises:
            UsageError: there is none; names the labels that there are.
        """
        labels = {
            name: held.decl.directives.label
            for name, held in self._namespace.items()
            if isinstance(held, Process) and name[0] != "_"
        }
        found = [name for name, each in labels.items() if label in each]
        if not found:
            known = sorted({text for each in labels.values() for text in each})
            raise UsageError(
                f"no process has the label {label}; there are: {', '.join(known) or 'none'}"
            )
        return found
