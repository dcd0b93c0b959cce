"""A lineage as an RO-Crate: a Workflow Run Crate 0.5 that other programs can read.

The pipeline is the main workflow, its run one action, each task an action of its own whose
instrument is its process. The outputs that were asked for are copied into the crate; every other
file is named by its digest, and where it lay. Profile: https://w3id.org/ro/wfrun/workflow/0.5
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nbcache.engine.record.history import RunSummary, runs
from nbcache.engine.record.lineage import Lineage, Link, Product, Source, TaskNode
from nbcache.errors import BlobMissingError, ResultGone, UsageError, command
from nbcache.store.cache import Cache

Entity = dict[str, Any]

_METADATA = "ro-crate-metadata.json"
_WORKFLOW = "pipeline.ipynb"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"


def write_crate(
    cache: Cache, lineage: Lineage, folder: Path, *, license: str | None = None
) -> list[str]:
    """Write the crate of a lineage into a new or empty folder; return the files in it.

    license: the URL of the licence of what is in it.

    Raises:
        UsageError: nothing was made, or the folder holds something or cannot be written.
        ResultGone: an output is no longer in the cache.
    """
    if not lineage.roots:
        raise UsageError(f"{lineage.title}: no task made it, so there is no run to write about")
    is_new = not folder.exists()
    if not is_new and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already: name a new folder for the crate")
    (main,) = {root.maker[0] for root in lineage.roots}
    run = next(each for each in runs(cache) if each.id == main)
    copied = {product.digest: name for product, name in _copies(lineage.roots)}
    crate = _Crate(lineage, run, copied, license)
    text = json.dumps({"@context": _CONTEXT, "@graph": crate.entities()}, indent=2)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for product, name in _copies(lineage.roots):
            assert product.blob is not None
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            cache.blobs.materialise(product.blob, product.kind, place)  # type: ignore[arg-type]
            _own(place)
        (folder / _WORKFLOW).write_text(json.dumps(_notebook(run), indent=1), encoding="utf-8")
        (folder / _METADATA).write_text(text + "\n", encoding="utf-8")
    except (OSError, BlobMissingError) as error:
        with contextlib.suppress(OSError):
            for each in folder.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
            if is_new:
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise UsageError(f"cannot write the crate {folder}: {reason}") from None
        again = f"Make it again with {command('run')}."
        raise ResultGone(f"{lineage.title} is no longer in the cache.\n  {again}") from None
    return [_METADATA, _WORKFLOW, *copied.values()]


def _copies(roots: Sequence[Product]) -> Iterable[tuple[Product, str]]:
    """The files among the outputs, and their names in the crate."""
    taken: set[str] = set()
    for root in roots:
        if root.kind in ("file", "tree") and root.blob is not None:
            name = f"outputs/{root.file or root.output}"
            if name in taken:
                name = f"outputs/{root.output}/{root.file or root.output}"
            taken.add(name)
            yield root, name


def _own(place: Path) -> None:
    """Make what was taken from the cache a copy, which may be moved and edited."""
    for each in [place, *place.rglob("*")]:
        if each.is_symlink():
            data = each.read_bytes()
            each.unlink()
            each.write_bytes(data)
        each.chmod(each.stat().st_mode | 0o200)


def _notebook(run: RunSummary) -> dict[str, object]:
    """The processes as they ran, as cells: what the run's row remembers of the notebook."""
    return {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": f"process-{place}",
                "metadata": {},
                "outputs": [],
                "source": process.source,
            }
            for place, process in enumerate(run.processes)
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")


def _at(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return _moment(datetime.fromtimestamp(microseconds / 1e6, tz=UTC))


def _ref(*names: str) -> list[dict[str, str]] | dict[str, str]:
    """References as the standard wants them: one stands alone, many in a list."""
    found = [{"@id": name} for name in dict.fromkeys(names)]
    return found[0] if len(found) == 1 else found


def _tool_id(process: str) -> str:
    return f"urn:nbcache:process:{quote(process)}"


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


class _Crate:
    """Builds the entities of one crate, each once."""

    def __init__(
        self, lineage: Lineage, run: RunSummary, copied: dict[str, str], license: str | None
    ) -> None:
        self._lineage, self._run, self._copied = lineage, run, copied
        self._license = license
        self._entities: dict[str, Entity] = {}
        self._parts: list[str] = [_WORKFLOW]

    def entities(self) -> list[Entity]:
        """Return all of them; values that are not known are left out."""
        actions = [self._task(task) for task in self._made()]
        inputs = [self._source(each) for each in self._lineage.sources]
        outputs = [self._content(root, root.output) for root in self._lineage.roots]
        self._add_workflow()
        self._add_run(inputs, outputs)
        self._add_agents()
        self._add_root(actions)
        return [
            {key: value for key, value in entity.items() if value not in (None, [], "")}
            for entity in self._entities.values()
        ]

    def _made(self) -> list[TaskNode]:
        """The tasks that led to the outputs; what was made of them later is another story."""
        roots = {root.maker for root in self._lineage.roots}
        return [
            task
            for key, task in self._lineage.tasks.items()
            if key in roots or key in self._lineage.above
        ]

    def _add(self, key: str, kind: str | list[str], /, **values: object) -> str:
        self._entities.setdefault(key, {"@id": key, "@type": kind, **values})
        return key

    # -- the actions

    def _task(self, task: TaskNode) -> str:
        links = [link for link in self._lineage.links if link.taker == task.key]
        taken = [self._content(link, link.input) for link in links]
        taken += [self._source(each) for each in self._lineage.sources if each.taker == task.key]
        made = [
            self._content(product, product.output)
            for product in self._lineage.products
            if product.maker == task.key and product.kind != "none"
        ]
        return self._add(
            f"#task-{task.run}-{quote(task.task_id, safe='')}",
            "CreateAction",
            name=f"{task.label} ({task.status.lower()})",
            description=f"one task of {task.process}; its hash is {task.hash}",
            instrument={"@id": self._tool(task.process)},
            object=_ref(*taken),
            result=_ref(*made),
            startTime=_moment(task.start),
            endTime=_moment(task.complete),
            agent={"@id": self._agent()},
            actionStatus="http://schema.org/CompletedActionStatus",
            identifier=task.hash,
        )

    def _tool(self, process: str) -> str:
        record = next((each for each in self._run.processes if each.name == process), None)
        return self._add(
            _tool_id(process),
            "SoftwareApplication",
            name=process,
            description=f"a process in {record.language if record is not None else 'python'}",
            softwareVersion=f"nbcache {metadata.version('nbcache')}",
        )

    def _add_run(self, inputs: list[str], outputs: list[str]) -> None:
        """The run as a whole, with what it took from outside and the outputs that were meant."""
        run = self._run
        parameters = [
            self._value(f"#parameter-{name}", name, text) for name, text in run.parameters.items()
        ]
        failed = run.status in ("failed", "cancelled", "interrupted")
        status = "FailedActionStatus" if failed else "CompletedActionStatus"
        self._add(
            f"#run-{run.id}",
            "CreateAction",
            name=f"run {run.name}",
            description=f"the run {run.name} of the pipeline, as far as it led to the outputs",
            instrument={"@id": _WORKFLOW},
            object=_ref(*inputs, *parameters),
            result=_ref(*outputs),
            startTime=_at(run.started),
            endTime=_at(run.ended),
            agent={"@id": self._agent()},
            actionStatus=f"http://schema.org/{status}",
            error=run.error if failed else None,
        )

    # -- what was taken and made

    def _content(self, each: Product | Link, name: str) -> str:
        if each.kind not in ("file", "tree"):
            return self._value(f"#value-{each.digest}", name, f"{each.kind} of {each.size} B")
        kind = "Dataset" if each.kind == "tree" else "File"
        inside = self._copied.get(each.digest)
        identifier = quote(inside) if inside is not None else f"urn:nbcache:{each.digest}"
        identifier += "/" if kind == "Dataset" else ""
        if identifier not in self._parts:
            self._parts.append(identifier)
        return self._add(
            identifier,
            kind,
            name=each.file or name,
            contentSize=str(each.size) if kind == "File" else None,
            encodingFormat=_media_type(each.file or name) if kind == "File" else None,
            identifier=each.digest,
            exampleOfWork=_ref(self._parameter(each.output, kind)) if inside else None,
        )

    def _source(self, source: Source) -> str:
        process = self._lineage.tasks[source.taker].process
        if source.place is None:
            parameter = self._parameter(f"{process}-{source.input}", "Text")
            text = source.scalar if source.scalar is not None else source.summary
            name = f"#value-{process}-{source.input}-{source.digest}"
            return self._value(name, source.input, text, parameter)
        identifier = f"urn:nbcache:{source.digest}"
        if identifier not in self._parts:
            self._parts.append(identifier)
        return self._add(
            identifier,
            "File",
            name=source.place.rpartition("/")[2],
            encodingFormat=_media_type(source.place),
            identifier=source.digest,
            description=f"lay at {source.place}",
            exampleOfWork=_ref(self._parameter(f"{process}-{source.input}", "File")),
        )

    def _value(self, identifier: str, name: str, text: str, parameter: str = "") -> str:
        example = _ref(parameter) if parameter else None
        return self._add(identifier, "PropertyValue", name=name, value=text, exampleOfWork=example)

    def _parameter(self, name: str, kind: str) -> str:
        self._add(
            _PARAMETER,
            "CreativeWork",
            name="FormalParameter",
            version="1.0-RELEASE",
            url=_PARAMETER,
        )
        return self._add(
            f"#parameter-of-{quote(name)}",
            "FormalParameter",
            name=name,
            additionalType=kind,
            conformsTo={"@id": _PARAMETER},
        )

    # -- the workflow, who ran it, the crate itself

    def _add_workflow(self) -> None:
        parameters = [
            each["@id"] for each in self._entities.values() if each["@type"] == "FormalParameter"
        ]
        outputs = {f"#parameter-of-{quote(root.output)}" for root in self._lineage.roots}
        language = "https://jupyter.org"
        self._add(
            language,
            "ComputerLanguage",
            name="Jupyter Notebook",
            identifier={"@id": language},
            url={"@id": language},
        )
        notebook = Path(self._run.notebook).name if self._run.notebook else "a notebook"
        self._add(
            _WORKFLOW,
            ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            name=f"the processes of {notebook} as they ran",
            programmingLanguage={"@id": language},
            description="the processes of the run, as they were declared when it began",
            encodingFormat="application/x-ipynb+json",
            input=_ref(*(each for each in parameters if each not in outputs)),
            output=_ref(*(each for each in parameters if each in outputs)),
            hasPart=_ref(*(_tool_id(each.name) for each in self._run.processes)),
            conformsTo={"@id": _WORKFLOW_PROFILE},
            version=self._run.id,
        )
        self._add(_WORKFLOW_PROFILE, "CreativeWork", name="ComputationalWorkflow", version="1.0")
        for record in self._run.processes:
            self._tool(record.name)

    def _agent(self) -> str:
        return f"#person-{quote(self._run.user or 'unknown')}"

    def _add_agents(self) -> None:
        self._add(self._agent(), "Person", name=self._run.user or "unknown")
        for name, (title, version) in _PROFILES.items():
            self._add(name, "CreativeWork", name=title, version=version)

    def _add_root(self, actions: list[str]) -> None:
        reserved = None if self._license else "all rights reserved"
        name = self._license or "no licence was named"
        licence = self._license or "#no-licence"
        self._add(licence, "CreativeWork", name=name, description=reserved)
        self._add(
            "./",
            "Dataset",
            name=f"{self._lineage.title} of run {self._run.name}",
            description=f"{self._lineage.title} and how it was made, from a cache of nbcache",
            datePublished=datetime.now(UTC).date().isoformat(),
            license={"@id": licence},
            conformsTo=_ref(*_PROFILES),
            author={"@id": self._agent()},
            mainEntity={"@id": _WORKFLOW},
            mentions=_ref(f"#run-{self._run.id}", *actions),
            hasPart=_ref(*self._parts),
        )
        self._add(
            _METADATA,
            "CreativeWork",
            about={"@id": "./"},
            conformsTo=_ref(
                "https://w3id.org/ro/crate/1.1",
                "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
            ),
        )
