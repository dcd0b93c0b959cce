"""Turn named components into a task's hash, and the same components into its explanation.

One list of components feeds both, so the reason printed for a miss is the reason there was one.
The components that all tasks of a process share are hashed once (`SharedPart`); a task adds its
inputs to a copy of that state. Never in the hash: run, notebook, process name, user, machine,
places, times, resources. A change to the encoding changes every key: raise FORMAT and write
tests/golden/fingerprint.json anew. A change to how one kind's digest is made: raise that kind's
version in KINDS, and only tasks that have such a component run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xxhash import xxh3_128

from nbcache.model.digest import Digest
from nbcache.model.fingerprint import Component

FORMAT = 1

KINDS: dict[str, int] = {
    "code": 1,  # the body's syntax tree, or a script's text
    "helper": 1,  # a notebook function or class that the body reaches
    "captured": 1,  # a notebook value that the body or a helper reads
    "sharing": 1,  # which captured names hold one and the same mutable object
    "resource": 1,  # the code that makes a resource
    "module": 1,  # a local module, as far as it is reached
    "package": 1,  # an installed package by version
    "python": 1,
    "platform": 1,
    "interpreter": 1,
    "tool": 1,
    "env": 1,
    "container": 1,
    "lock": 1,
    "seed": 1,
    "outputs": 1,  # what the header declares behind "->"
    "ignored": 1,
    "options": 1,  # directives that change the result
    "input": 1,
    "file": 1,
}


SCRIPT = "script"  # one of several of a process, by its condition: in a run's record, in no hash


def component(
    kind: str, name: str, digest: Digest, summary: str = "", evidence: str | None = None
) -> Component:
    """Return a component with the present encoder version of its kind (KeyError: no such kind)."""
    return Component(kind, name, KINDS[kind], digest, summary, evidence)


def of_tasks(recorded: Sequence[Component]) -> tuple[Component, ...]:
    """Return what is recorded of a process without what no task's hash is made of."""
    return tuple(each for each in recorded if each.kind != SCRIPT)


def encode(kind: str, name: str, version: int, digest: str) -> bytes:
    """Return the bytes by which a component enters the hash: every field with its length."""
    fields = (kind.encode(), name.encode("utf-8", "surrogatepass"), b"%d" % version)
    head = b"".join(b"%d:%b" % (len(field), field) for field in fields)
    return b"%b%d:%b;" % (head, len(digest), digest.encode())


class SharedPart:
    """The part of a fingerprint that all tasks of one process in one run share.

    Raises:
        ValueError: two components have the same kind and name.
    """

    __slots__ = ("_heads", "_state", "components")

    def __init__(self, components: Iterable[Component]) -> None:
        self.components = tuple(sorted(components, key=lambda each: each.key))
        keys = [each.key for each in self.components]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"two components are called {' '.join(twice)}")
        self._state = xxh3_128(b"nbcache fingerprint %d\n" % FORMAT)
        for each in self.components:
            self._state.update(encode(each.kind, each.name, each.version, each.digest))
        self._state.update(b"inputs\n")
        # (name, kind) -> what is constant of an input's encoding: at most a few dozen entries.
        self._heads: dict[tuple[str, str], bytes] = {}

    def task_hash(self, inputs: Sequence[tuple[str, str, Digest]]) -> Digest:
        """Return the hash of the task with these inputs: (name, kind, digest) in any order."""
        state = self._state.copy()
        heads = self._heads
        parts: list[bytes] = []
        for name, kind, digest in sorted(inputs) if len(inputs) > 1 else inputs:
            head = heads.get((name, kind))
            if head is None:
                head = heads[name, kind] = self._head(name, kind)
            text = digest.encode()
            parts.append(b"%b%d:%b;" % (head, len(text), text))
        state.update(b"".join(parts))
        return Digest("xxh3:" + state.hexdigest())

    @staticmethod
    def _head(name: str, kind: str) -> bytes:
        whole = encode(kind, name, KINDS[kind], "")
        return whole[: -len(b"0:;")]
