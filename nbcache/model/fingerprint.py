"""The named parts that a task's hash is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbcache.model.digest import Digest


@dataclass(frozen=True, slots=True)
class Component:
    """One named part of a fingerprint.

    `kind` is one of plan.fingerprint.KINDS (code, captured, module, package, input, file, env,
    tool, interpreter, outputs, seed, ...). `version` is the version of the kind's encoder. Only
    (kind, name, version, digest) enter the hash; `summary` (short, for people) and `evidence`
    (the text as written, or the digest of a blob that holds it) explain it.
    """

    kind: str
    name: str
    version: int
    digest: Digest
    summary: str = ""
    evidence: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.kind, self.name, self.version, self.digest, self.summary, self.evidence)
        return (Component, values)  # a third of the time that dataclasses take: each task has some

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, self.name)
