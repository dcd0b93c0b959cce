"""Enter a kept failed task: find it, stage it, give its variables or run it again where it failed.

`nbcache debug TASK` in both places. Unlike `try`, which runs today's code on an item, this takes
the attempt as it was: its code, its captured values and its own work directory. What shows this
is in `notebook.debugging`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbcache.engine.identity.patches import patched
from nbcache.engine.record import history, task_ends
from nbcache.engine.record.finding import find_task, label_of
from nbcache.engine.trial import bind_free, inside, run_script_here
from nbcache.engine.work.python_body import UNSET, PythonBody
from nbcache.engine.work.reentry import (
    BODY,
    DATA,
    LOG,
    RUN,
    Entry,
    captured_values,
    load,
    stage_again,
)
from nbcache.engine.work.script_body import ScriptBody
from nbcache.errors import CacheFormatError, UsageError, command
from nbcache.model.row import AttemptRow
from nbcache.store.cache import Cache


@dataclass(frozen=True, slots=True)
class Opened:
    """A failed attempt that was entered; `row` is None where only its folder was named."""

    entry: Entry
    label: str
    row: AttemptRow | None
    inputs: Mapping[str, object]  # as the body saw them: paths are relative to the folder
    changed: tuple[str, ...]  # inputs whose files are not what they were

    @property
    def command(self) -> str:
        """What a person types in the work directory to run it again."""
        return f"./{RUN}"


def open_task(
    cache: Cache | None, words: Sequence[str], run: str | None = None, attempt: str | None = None
) -> Opened:
    """Find a failed task and stage what it needs.

    words: as for `why`, of a failed task; a process alone means its first failed task, nothing the
    first failed task of the newest run that has one; or a work directory. attempt: the number of
    an attempt that failed, also of a task that succeeded later; without it the last one.

    Raises:
        UsageError: no such task, it did not fail, or its work directory is no longer there.
    """
    if len(words) == 1 and (Path(words[0]) / DATA).is_dir():
        folder, row = Path(words[0]).resolve(), None
        cache = _cache_around(folder)
    else:
        if cache is None:
            raise CacheFormatError("there is no nbcache cache here; name one: --cache FOLDER")
        row = _failed_row(cache, words, run, attempt)
        folder = _folder_of(cache, row)
    if not cache.is_own:
        raise UsageError(
            f"{folder} lies in a cache that is not yours, and entering it would run the code of "
            f"whoever made it as you.\n  Look at it: {folder / LOG}, {BODY}. If all of the cache "
            f"is yours, say so in a shell: nbcache keys trust {shlex.quote(str(cache.root))}"
        )
    entry = load(folder)
    with_inputs, changed = stage_again(entry, cache)
    return Opened(entry, entry.attempt.task, row, with_inputs, changed)


def _cache_around(folder: Path) -> Cache:
    """Return the cache that a work directory lies in, which may have been moved.

    What the folder itself says of its cache is not asked: reading that runs code.
    """
    near = folder.parent.parent
    if not (near / "nbcache.json").exists():
        raise UsageError(f"{folder} lies in no cache, so nobody can tell whose code it would run")
    return Cache.open(near, create=False)


def _failed_row(
    cache: Cache, words: Sequence[str], run: str | None, attempt: str | None
) -> AttemptRow:
    if not words:
        known = [history.find_run(cache, run)] if run is not None else history.runs(cache)
        for each in known:
            failures = history.show_run(cache, each.id).failures
            if failures:
                found = failures[0]
                return found if attempt is None else _attempt_of(cache, found, attempt)
        raise UsageError("no task has failed" + (f" in run {known[0].name}" if run else ""))
    made = _task_of(cache, words, run, also_succeeded=attempt is not None)
    if attempt is not None:
        return _attempt_of(cache, made, attempt)
    if made.status == "completed":
        raise UsageError(
            f"{label_of(made)} succeeded, so its work directory was not kept; "
            f"to run it in the kernel: {command(f'try {made.process} --into')}"
        )
    before = task_ends.failed_before(cache, [made]) if task_ends.is_left(made) else []
    return before[0] if before else made


def _task_of(
    cache: Cache, words: Sequence[str], run: str | None, also_succeeded: bool
) -> AttemptRow:
    """Return the last attempt at the task that is meant: of a process its first failed task."""
    known = history.runs(cache)
    if len(words) == 1 and any(each.name == words[0] for one in known for each in one.processes):
        try:
            return find_task(cache, [*words, "failed"], run=run, known=known).made
        except UsageError:
            if not also_succeeded:
                raise
    return find_task(cache, words, run=run, known=known).made


def _attempt_of(cache: Cache, last: AttemptRow, number: str) -> AttemptRow:
    """Return another attempt at the same task in the same run.

    Raises:
        UsageError: none that failed has this number; lists those that did.
    """
    failed = {
        str(row.attempt): row
        for row in cache.log.attempts(run=last.run, process=last.process)
        if row.position == last.position
        and row.status not in ("completed", "skipped", "stored")
        and task_ends.was_begun(row)
        and not task_ends.is_left(row)
    }
    if number not in failed:
        known = ", ".join(sorted(failed, key=int)) or "none"
        raise UsageError(f"{label_of(last)} has no failed attempt {number}; failed are: {known}")
    return failed[number]


def _folder_of(cache: Cache, row: AttemptRow) -> Path:
    folder = cache.work / row.id
    if not folder.is_dir():
        where = f" ({row.workdir})" if row.workdir else ""
        raise UsageError(
            f"the work directory of {label_of(row)} is no longer there{where}.\n"
            "  Run again to get a new one, or try it: "
            f"{command(f'try {row.process} --item failed')}"
        )
    return folder


@dataclass(frozen=True, slots=True)
class Bound:
    """Which names of a task became variables, and which were left as they are."""

    names: tuple[str, ...]
    left: tuple[str, ...]


def bind(opened: Opened, namespace: MutableMapping[str, object]) -> Bound:
    """Make a task's inputs and captured values variables; paths are absolute then.

    An input takes its name unless a channel or process has it; a captured value only a name that
    is free: a helper that was mended since is not overwritten.
    """
    folder, inputs = opened.entry.folder, opened.inputs
    captured = captured_values(opened.entry)
    others = {name: value for name, value in captured.items() if name not in inputs}
    free = {name: value for name, value in others.items() if name not in namespace}
    taken = bind_free(namespace, {name: _absolute(value, folder) for name, value in inputs.items()})
    namespace.update(free)
    names = [name for name in inputs if name not in taken] + [*free]
    return Bound(tuple(names), (*taken, *(others.keys() - free.keys())))


def _absolute(value: object, folder: Path) -> object:
    if isinstance(value, Path):
        return folder / value
    if type(value) is list:
        return [_absolute(each, folder) for each in value]
    return value


def run_again_here(opened: Opened) -> Mapping[str, object]:
    """Run the attempt again in this process, in its own work directory; return what it made.

    Raises:
        BaseException: whatever the body raises; its frames are real, so a debugger sees them.
    """
    entry = opened.entry
    with inside(entry.folder):
        if entry.process.language == "script":
            return run_script_here(
                ScriptBody(entry.process), dict(opened.inputs), entry.task, entry.folder
            )
        body = PythonBody(entry.process)
        before = body.namespace()
        with patched([*body.patches, *body.settings.patches([*sys.modules])]):
            namespace, final = body.run_here(before, opened.inputs, entry.task)
        made = body.outputs(namespace, before, final, os.path.exists)
    return {name: value for name, value in made.items() if value is not UNSET}


def shell_words(opened: Opened) -> str:
    """Return the one line that does in any shell what `--again` does."""
    return f"cd {shlex.quote(os.fspath(opened.entry.folder))} && {opened.command}"
