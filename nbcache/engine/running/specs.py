"""What workers are told: the spec of a process, the spec of an attempt, the inputs on their way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbcache.engine.identity.identify import Identified
from nbcache.engine.identity.packages import digest_of_installed
from nbcache.engine.identity.payload import write_buffers
from nbcache.engine.identity.sources import cells_among
from nbcache.engine.identity.tools import search_path
from nbcache.engine.running.decision import Decision, Place
from nbcache.engine.running.rows import RowMaker
from nbcache.engine.spec import (
    AttemptSpec,
    FileInput,
    InputValue,
    Many,
    Pickled,
    PickledFile,
    Placed,
    ProcessSpec,
    pack_value,
)
from nbcache.errors import UsageError
from nbcache.model.digest import Digest
from nbcache.model.event import Resources
from nbcache.model.ids import format_position
from nbcache.model.process import Language
from nbcache.model.value import FilePath, Gathered, RemoteFile, Stored
from nbcache.store.cache import Cache
from nbcache.store.files import new_ulid
from nbcache.store.filestate import StatKey

LARGE_INPUT = 1 << 16  # bytes of a pickled value from which on it is packed once


def process_spec(place: Place, cache: Cache, folder: Path, key: str, scratch: Path) -> ProcessSpec:
    """Return what all attempts of a process share, with the environment as it is now.

    Large captured arrays are written to `scratch`, once, for the workers to map.
    """
    decl = place.decl
    captured = place.captured
    source = "\n" * (decl.source_line - 1) + decl.source  # lines as in its file, for tracebacks
    sources = {decl.filename: source, **captured.sources}
    return ProcessSpec(
        key=key,
        name=place.name,
        language=decl.language,
        body=decl.body,
        root=str(cache.root),
        interpreter=decl.interpreter,
        body_line=decl.body_line,
        filename=decl.filename,
        cells=cells_among(sources),
        sources=sources,
        inputs=decl.inputs or (),
        outputs=place.outputs,
        passed=tuple(sorted(place.passed)),
        inferred=decl.inferred,
        payload=captured.payload,
        buffers=tuple(map(str, write_buffers(captured.buffers, scratch)))
        if captured.buffers
        else (),
        env=_environment(decl.directives.env),
        unset=tuple(name for name in decl.directives.env if name not in os.environ),
        secrets=_secrets(decl.directives.secret),
        environ=_whole_environment(decl.language, folder),
        seed=decl.directives.seed,
        scratch=decl.directives.scratch,
        helpers=captured.helpers,
        before=decl.directives.before,
        after=decl.directives.after,
        sys_path=captured.sys_path,
        folder=str(folder),
        modules=captured.modules,
        packages={each.name: each.digest for each in captured.components if each.kind == "package"},
        installed=digest_of_installed(),
        shared=tuple(each for each in captured.components if each.kind in ("package", "tool")),
        run_folder=str(scratch),
        imports=captured.imports,
        container=captured.container,
    )


def _whole_environment(language: Language, folder: Path) -> Mapping[str, str]:
    """Return what a task starts from; a script finds commands in `bin` beside the notebook too, and
    last in its own folder, where those lie that it names of the programs beside the notebook."""
    environ = dict(os.environ)
    if language == "script":
        environ["PATH"] = search_path(environ.get("PATH", ""), folder) + os.pathsep + "."
    return environ


def _environment(names: tuple[str, ...]) -> Mapping[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _secrets(names: tuple[str, ...]) -> Mapping[str, str]:
    """Return secrets; asked for only when a task runs, since a hit needs none of them."""
    found = _environment(names)
    for name in names:
        if name not in found:
            raise UsageError(
                f"secret {name} is not set; set the environment variable {name} before the run"
            )
    return found


def attempt_spec(
    decision: Decision,
    process: ProcessSpec,
    number: int,
    resources: Resources,
    rows: RowMaker | None,
    packer: Packer,
    failed_as: str | None = "failed",
    gpus: tuple[str, ...] = (),
) -> AttemptSpec:
    """Return one attempt as it crosses to a worker.

    Raises:
        Exception: whatever pickle raises for an input that cannot travel.
    """
    row = None
    if rows is not None and decision.hash is not None:
        row = rows.attempt(decision, number, resources)
    position = decision.task[1]
    return AttemptSpec(
        id=row.id if row is not None else new_ulid(),
        task=decision.label,
        process=process.key,
        inputs={name: packer.pack(each) for name, each in decision.inputs.items()},
        position=format_position(position),
        index=position[-1] if position else 0,
        hash=decision.hash,
        cpus=resources.cpus,
        memory=resources.memory,
        time=resources.time,
        attempt=number,
        gpus=gpus,
        disk=resources.disk,
        failed_as=failed_as,
        row=row,
    )


def _placed(value: InputValue, names: Iterator[str]) -> InputValue:
    """Return an input whose files take these names in the work directory."""
    if isinstance(value, Many):
        return Many([_placed(member, names) for member in value.members], value.fields)
    if isinstance(value, FileInput) or (
        isinstance(value, Stored) and value.kind in ("file", "tree")
    ):
        return Placed(value, next(names))
    return value


Known = Mapping[Path, tuple[Digest, StatKey | None]]


class Packer:
    """Turns the inputs of one run's tasks into the form in which they travel.

    A large value that several tasks take is pickled once, into a file of the run's scratch folder,
    from which each attempt unpickles it anew.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._seen: dict[int, object] = {}  # holds what was packed: ids stay unique
        self._files: dict[int, PickledFile] = {}

    def pack(self, found: Identified) -> InputValue:
        """Return an identified input in the form in which it travels."""
        files = {path: (digest, stat) for path, digest, stat in found.files}
        packed = self._pack(found.value, files, found.fetched or {})
        return packed if found.staged is None else _placed(packed, iter(found.staged))

    def _pack(self, value: object, files: Known, fetched: Mapping[str, Stored]) -> InputValue:
        if isinstance(value, Stored):
            return value
        if isinstance(value, RemoteFile):
            return fetched[value.url]
        if isinstance(value, FilePath):
            path = Path(value)
            digest, stat = files[path]
            return FileInput(str(path), digest, path.name, stat)
        if isinstance(value, Gathered):
            return Many([self._pack(member, files, fetched) for member in value])
        if id(value) in self._files:
            return self._files[id(value)]
        packed = pack_value(value)
        if isinstance(packed, Pickled) and len(packed.data) >= LARGE_INPUT:
            return self._large(value, packed)
        return packed

    def _large(self, value: object, packed: Pickled) -> InputValue:
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            return packed
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / f"input-{len(self._files)}"
        path.write_bytes(packed.data)
        self._files[id(value)] = PickledFile(str(path))
        return self._files[id(value)]
