"""Run one item of a process in the kernel itself: plain output, plain traceback, nothing kept.

`%debug` and `breakpoint()` work, since the body runs in this process and its frames are real. The
inputs are staged in a scratch folder as for a task; what the body captures is a fresh copy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from nbcache.engine.host import Host
from nbcache.engine.running.decision import Decision
from nbcache.engine.running.dry import DryRun, dry_run
from nbcache.engine.running.prepare import Prepared
from nbcache.engine.running.specs import Packer, process_spec
from nbcache.engine.work.around_script import answers
from nbcache.engine.work.hints import missing_file_hint
from nbcache.engine.work.python_body import UNSET, PythonBody, TaskInfo
from nbcache.engine.work.script_body import ScriptBody, failure
from nbcache.engine.work.staging import Staging
from nbcache.errors import NotRunError, UsageError
from nbcache.model.event import Resources
from nbcache.model.ids import format_position
from nbcache.model.task import Outcome
from nbcache.plan.dataflow.channel import Channel
from nbcache.store.files import new_ulid


@dataclass(frozen=True, slots=True)
class TryResult:
    """What one trial gave; nothing of it is cached."""

    label: str
    seconds: float
    outputs: Mapping[str, object] = field(default_factory=dict)


def try_task(session: Host, name: str, item: str | None, *, into: bool) -> TryResult:
    """Run the chosen item of a process here and now.

    Raises:
        NotRunError: the process has no item. UsageError: no item is called so.
        BaseException: whatever the body raises.
    """
    with session.cache.activity.working(recorded=False):
        return _try_task(session, name, item, into)


def _try_task(session: Host, name: str, item: str | None, into: bool) -> TryResult:
    prepared, found = _with_upstream(session, name)
    decision = _choose(session, prepared, found, name, item)
    prepared.decider.fetch(decision)
    resources = prepared.decider.evaluator.resources(decision, 1)
    scratch = session.cache.work / f"try-{new_ulid()}"
    scratch.mkdir(parents=True)
    spec = process_spec(decision.place, session.cache, session.folder, f"try/{name}", scratch)
    staging, packer = Staging(session.cache, scratch), Packer(scratch)
    task = _task_info(decision, resources, scratch)
    started = time.perf_counter()
    try:
        with inside(scratch):
            staged = staging.stage(
                {key: packer.pack(each) for key, each in decision.inputs.items()}, spec.helpers
            )
            if spec.language == "python":
                body = PythonBody(spec)
                before = body.namespace()
                namespace, final = body.run_here(before, staged, task)
                made = body.outputs(namespace, before, final, staging.is_made)
            else:
                made = run_script_here(ScriptBody(spec), staged, task, scratch)
    except FileNotFoundError as error:
        if hint := missing_file_hint(error, spec):
            error.add_note(hint)
        raise
    finally:
        seconds = time.perf_counter() - started
        if not into:
            shutil.rmtree(scratch, ignore_errors=True)
    if into:
        bind_free(session.namespace, staged)
        bind_free(session.namespace, {k: v for k, v in made.items() if v is not UNSET})
    return TryResult(decision.label, seconds, made)


def bind_free(namespace: MutableMapping[str, object], values: Mapping[str, object]) -> list[str]:
    """Make values variables; a channel or process is never replaced. Returns the names left out."""
    left = [name for name in values if isinstance(namespace.get(name), Channel)]
    namespace.update({name: value for name, value in values.items() if name not in left})
    return left


def run_script_here(
    body: ScriptBody, staged: dict[str, object], task: TaskInfo, scratch: Path
) -> dict[str, object]:
    """Run a script in `scratch`, print what it prints, and return the outputs that it set.

    Raises:
        ScriptError, OutputError: as in a worker.
    """
    printed = scratch / ".nbcache-printed"
    with _descriptors_into(printed):
        ended = body.run(staged, task, scratch)
    text = printed.read_text("utf-8", "replace")
    print(text, end="" if text.endswith("\n") or not text else "\n")
    if ended.exit != 0:
        raise failure(ended, text, body.process, scratch)
    return body.values(scratch, text) | answers(body.process, staged, task, scratch)


@contextlib.contextmanager
def _descriptors_into(path: Path) -> Iterator[None]:
    """Let child processes print into a file: a kernel's own descriptors lead nowhere useful."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, target):
            os.close(descriptor)


def _with_upstream(session: Host, name: str) -> tuple[Prepared, DryRun]:
    """Return a dry run in which the process's items are known; runs what is above it if needed."""
    for attempt in range(2):
        prepared = session.prepare([name])
        if name not in prepared.graph.places:
            raise UsageError(f"{name} is a channel, and only a process can be tried")
        prepared.decider.need_results()
        found = dry_run(prepared)
        index = prepared.graph.places[name]
        errors = [text for task, text in found.errors.items() if task[0] == index]
        if errors:
            raise NotRunError(errors[0])
        if any(task[0] == index for task in found.decisions) or attempt:
            return prepared, found
        above = [each for each in prepared.graph.places if each != name]
        if not above:
            return prepared, found
        run = session.start(above)
        session.waiter(run)
        run.raise_for_status()
    raise AssertionError  # the loop returns


def _choose(
    session: Host, prepared: Prepared, found: DryRun, name: str, item: str | None
) -> Decision:
    index = prepared.graph.places[name]
    tasks = {task[1]: each for task, each in sorted(found.decisions.items()) if task[0] == index}
    if not tasks:
        raise NotRunError(f"{name} has no item to try: its channel is empty")
    if item is None:
        return next(iter(tasks.values()))
    if item == "failed":
        return _failed(session, tasks, name)
    for position, decision in tasks.items():
        texts = {format_position(position), decision.tag, decision.label}
        texts |= {f"{key}={each.summary}" for key, each in decision.inputs.items()}
        texts |= {f"{key}={each.value}" for key, each in decision.inputs.items()}
        if (
            all(part in texts for part in (item.split() if " " in item else [item]))
            or item in texts
        ):
            return decision
    known = ", ".join(decision.label for decision in list(tasks.values())[:5])
    raise UsageError(
        f"{name} has no item {item!r}; say a position (0 to {len(tasks) - 1}), a tag or "
        f"field=value, such as in {known}"
    )


def _failed(session: Host, tasks: Mapping[tuple[int, ...], Decision], name: str) -> Decision:
    run = session.last_run
    if run is None or name not in run.graph.places:
        raise UsageError(f"no run of {name} has failed in this kernel")
    index = run.graph.places[name]
    for outcome in (Outcome.FAILED, Outcome.IGNORED):
        for (node, position), task in sorted(run.tasks.items()):
            if node == index and task.outcome is outcome and position in tasks:
                return tasks[position]
    raise UsageError(f"no task of {name} failed in run {run.name}")


def _task_info(decision: Decision, resources: Resources, scratch: Path) -> TaskInfo:
    position = decision.task[1]
    return TaskInfo(
        process=decision.place.name,
        name=decision.label,
        attempt=1,
        index=position[-1] if position else 0,
        position=format_position(position),
        cpus=resources.cpus,
        memory=resources.memory,
        time=resources.time,
        workdir=str(scratch),
        gpus=resources.gpus,
        disk=resources.disk,
    )


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a while; a kernel's own, which has no name if it was deleted, is held
    open."""
    before = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
