"""The code that travels with values: what functions and classes in them count as.

Apart from `capture`, which is the kernel's: this much of it a worker needs for its outputs.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from pathlib import Path
from weakref import WeakSet

from nbcache.codec.classes import know_class, look_in
from nbcache.engine.identity.modules import LocalModules, local_components
from nbcache.engine.identity.packages import package_components
from nbcache.engine.identity.sources import source_of
from nbcache.errors import NoCanonicalFormError
from nbcache.model.digest import Digest
from nbcache.plan.identity.reach import Walker, combine

FUNCTIONS = (types.FunctionType, type)


def know_classes(
    classes: Iterable[type], namespace: Mapping[str, object], places: LocalModules
) -> None:
    """Have classes of the notebook be what pickles mean by them, whichever kernel wrote these.

    A class is known by its name, its own code and what that reaches; one without identity, or
    whose name means another class, is known here only.
    """
    own = Walker(namespace, places, source_of)
    whole = Walker(namespace, places, source_of, cut=False)
    for cls in classes:
        if _at(namespace, cls.__qualname__) is cls:
            with contextlib.suppress(NoCanonicalFormError, RecursionError):
                code = f"{cls.__module__}.{cls.__qualname__} {own.digest(cls)}"
                know_class(cls, code, whole.digest(cls))


def know_classes_of(namespace: Mapping[str, object], notebook_dir: Path) -> None:
    """Have classes of the notebook be what pickles mean by them also where only these name them."""
    met: WeakSet[type] = WeakSet()

    def find(name: str) -> None:
        module, _, path = name.partition(".")
        found = _at(namespace, path)
        if isinstance(found, type) and found.__module__ == module and found not in met:
            met.add(found)
            know_classes([found], namespace, LocalModules(module, notebook_dir))

    look_in(find)


def _at(namespace: Mapping[str, object], path: str) -> object:
    top, *inner = path.split(".")
    return reduce(lambda each, step: getattr(each, step, None), inner, namespace.get(top))


def value_leaf(
    namespace: Mapping[str, object], notebook_dir: Path | None = None, *, is_kernel: bool = False
) -> Callable[[object], Digest | None]:
    """Return a `leaf` for values that travel: functions and classes count with all they reach.

    Unlike in a capture there are no other components beside them, so what they reach of the
    notebook, of local modules and of packages is part of the one digest. In the kernel, which is
    where the notebook's classes are made, they become known, too.
    """
    places = LocalModules(str(namespace.get("__name__", "__main__")), notebook_dir)
    known: dict[int, tuple[object, Digest | None]] = {}  # holds the object: ids stay unique

    def leaf(value: object) -> Digest | None:
        if not isinstance(value, FUNCTIONS):
            return identify(value)
        if id(value) not in known:
            known[id(value)] = (value, identify(value))
        return known[id(value)][1]

    def identify(value: object) -> Digest | None:
        walker = Walker(namespace, places, source_of, cut=False)
        found = walker.leaf(value)
        if is_kernel and walker.folded_classes:
            know_classes(dict.fromkeys(walker.folded_classes), namespace, places)
        if found is None or not (walker.noted.local or walker.noted.packages):
            return found
        locals_, reach, _ = local_components(places, walker.noted, frozenset())
        packages = package_components(places, walker.noted.packages | reach.packages)
        around = tuple((each.kind, each.name, each.digest) for each in [*locals_, *packages])
        return combine("with", found, around)

    return leaf
