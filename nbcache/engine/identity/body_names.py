"""Which names of the notebook a Python body reads."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping

from nbcache.engine.identity.sources import module_around
from nbcache.plan.identity.canonical.names import attribute
from nbcache.plan.identity.noted import is_of_nbcache
from nbcache.plan.identity.uses import uses_of
from nbcache.plan.language.facts import BodyFacts

_GIVEN = frozenset({"task", "display", "get_ipython"})  # names that every body has


class BodyNames:
    """The names of one body: those that it reads (`read`, which grows as more is found out), those
    that it has from elsewhere (`bound`), and those that it binds itself or is given (`own`)."""

    def __init__(
        self,
        body: str,
        facts: BodyFacts | None,
        namespace: Mapping[str, object],
        taken: set[str],
    ) -> None:
        self._namespace = namespace
        self.tree = ast.parse(body)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.uses = uses_of(compile(self.tree, "<body>", "exec", flags, dont_inherit=True))
        outer = set(facts.free) if facts is not None else set(self.uses.names)
        if facts is not None:  # a builtin's name that the notebook gave to something else
            outer |= {name for name in facts.builtins if name in namespace}
            by_text = (self.uses.by_text - self.uses.stored) & namespace.keys()
            outer |= {name for name in by_text if not is_of_nbcache(namespace[name])}
        self._stars = bool(facts and facts.stars)  # `import *` may bring any name
        self.read = {name for name in outer - taken if not self._is_ambient(name)}
        self.bound = (set(self.uses.names) - self.read) | taken
        self.own = self.uses.stored | taken

    def counts(self, name: str) -> bool:
        """Say whether a name of the notebook that some code reads is more than what IPython puts
        into every namespace."""
        return name in self.read or not self._is_ambient(name)

    def values(self) -> dict[str, object]:
        """Return what the names that are read stand for, by name."""
        return {name: self._namespace[name] for name in sorted(self.read & {*self._namespace})}

    def missing(self) -> tuple[str, ...]:
        """Return the names that are read and that nobody defines."""
        return () if self._stars else tuple(sorted(self.read - {*self._namespace, *_GIVEN}))

    def _is_ambient(self, name: str) -> bool:
        """Tell whether a name is what IPython puts into every namespace, or a builtin."""
        if name not in self._namespace:
            return hasattr(builtins, name)
        value = self._namespace[name]
        # IPython's `open` says that it is io's.
        where = module_around(value) or attribute(value, "__module__") or ""
        is_shells = str(where).startswith(("IPython", "ipykernel"))
        return is_shells and (
            hasattr(builtins, name) or name in ("display", "get_ipython", "exit", "quit", "open")
        )
