"""What all tasks of a process share in one run, as capturing it found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbcache.engine.identity.input_settings import InputSettings
from nbcache.engine.spec import FileInput, ModuleSource
from nbcache.model.fingerprint import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What all tasks of a process share in one run.

    `payload` is what workers unpickle, with `buffers` (pickle 5, out of band, each at least
    1 MB) where there are any. `names` maps what the body reads to a summary with size, `modules`
    local modules to the source that a worker has to find (path, digest of its bytes), `sys_path`
    has the folders to look in: absolute, since a kernel's own path begins with "", which in a
    worker would be the task's folder. `imports` are modules that a worker imports beforehand: the
    kernel has them loaded, and what the body reads is there or as it is because of them. `missing`
    are names that the body reads and nobody defines. `sources` gives file names and texts of
    reached functions, for tracebacks; `texts` all string constants of the code that is reached;
    `helper_sources` its source texts. `helpers` are files beside the notebook that a script calls,
    by their names in the work directory. `settings` count where an input is of their library.
    `container` is the engine and the image of a script.
    """

    components: tuple[Component, ...]
    payload: bytes = b""
    buffers: tuple[memoryview, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, ModuleSource] = field(default_factory=dict)
    sys_path: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    container: tuple[str, str] | None = None
    missing: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    helper_sources: tuple[str, ...] = ()
    helpers: Mapping[str, FileInput] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: InputSettings = field(default_factory=InputSettings)

    @property
    def size(self) -> int:
        """Bytes that are sent to a worker."""
        return len(self.payload) + sum(each.nbytes for each in self.buffers)
