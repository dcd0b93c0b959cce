"""What cells set in modules that a body's code does not reach: an input may bring their objects.

Which objects come in, only a task knows. So these settings travel with every process that has
inputs, are set for the tasks that have an object of their library, and are a read of their rows.
That is for settings, which are small; what is larger is data, and is only told of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nbcache.codec.python import decode_pickle, pickle_by_value
from nbcache.engine.identity.packages import is_covered
from nbcache.engine.identity.patches import Patch, top_of
from nbcache.model.digest import Digest
from nbcache.plan.identity.canonical import canonical_digest
from nbcache.plan.identity.canonical.encoder import Leaf
from nbcache.plan.identity.reach import combine

OF_INPUTS = "<settings>"  # in a payload: no name of a notebook
LARGEST = 64_000  # bytes of a pickle


class InputSetting(NamedTuple):
    """A place, and what was there when the run began."""

    patch: Patch
    data: bytes  # the value's pickle, which may need modules that only those tasks have
    digest: Digest | None  # None: it is not set in tasks
    unset: str = ""  # why not

    @classmethod
    def of(cls, patch: Patch, leaf: Leaf) -> InputSetting:
        value = patch.value()
        try:
            data = pickle_by_value(value, LARGEST)
            return cls(patch, data, canonical_digest(value, leaf=leaf))
        except Exception as error:  # whatever a foreign object raises
            return cls(patch, b"", None, str(error).partition("\n")[0])


class InputSettings:
    """Those of one process, by the library of an object."""

    def __init__(self, settings: Iterable[InputSetting] = ()) -> None:
        self._all = tuple(settings)
        self._of: dict[str, tuple[InputSetting, ...]] = {}
        self._digests: dict[str, Digest | None] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def sent(self) -> InputSettings:
        return InputSettings(each for each in self._all if not each.unset)

    def digest(self, library: str) -> Digest | None:
        """Return what is set in a library and in what it requires; None: nothing."""
        if library not in self._digests:
            found = [(str(each.patch), each.digest) for each in self._in(library)]
            kept = sorted((place, digest) for place, digest in found if digest is not None)
            self._digests[library] = combine("settings", *kept) if kept else None
        return self._digests[library]

    def patches(self, modules: Iterable[str]) -> list[tuple[Patch, object]]:
        """Return what to set for a task; `modules` are those of the classes of its inputs."""
        taken = {each.patch for top in set(map(top_of, modules)) for each in self._in(top)}
        return [(each.patch, decode_pickle(each.data)) for each in self._all if each.patch in taken]

    def unset(self, library: str) -> dict[Patch, str]:
        """Return the places in a library that are not set in tasks, with the reasons."""
        return {each.patch: each.unset for each in self._in(library) if each.unset}

    def _in(self, library: str) -> tuple[InputSetting, ...]:
        if library not in self._of:
            tops = {top_of(each.patch.module) for each in self._all}
            kept = {top for top in tops if top == library or is_covered(top, [library])}
            self._of[library] = tuple(
                each for each in self._all if top_of(each.patch.module) in kept
            )
        return self._of[library]
