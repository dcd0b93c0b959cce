"""The way back into a failed attempt: what its work directory holds so that it can be run again.

A kept work directory has its inputs and what the body had made, and beside them

    .command.sh (.py)   the body as it was written
    .command.run        runs it again, here, with the inputs and variables that it had
    .command.log        what it printed
    .command.data/      all that a kernel needs to do the same; read by `load`, private to a version
    .exitcode           of a script

so that another kernel, after a restart, or a person in a shell can enter it. Secrets are left out.
Written by whoever keeps the directory (the worker, or the executor where the worker died) before
the attempt is reported; nothing here decides whether it is kept.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from nbcache.engine.spec import AttemptSpec, InputValue, Many, PickledFile, ProcessSpec
from nbcache.engine.work.python_body import PythonBody, TaskInfo, task_info
from nbcache.engine.work.script_body import INPUTS, SCRIPT, ScriptBody
from nbcache.engine.work.staging import Staging
from nbcache.errors import UsageError
from nbcache.store.cache import Cache

BODY, RUN, LOG, DATA = ".command.py", ".command.run", ".command.log", ".command.data"
_TASK = "task"
_SHAPE = tuple(each.name for kind in (ProcessSpec, AttemptSpec) for each in fields(kind))

# Of the environment only what decides which programs are found: the rest may hold secrets.
_PLACES = (
    "PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "CONDA_PREFIX", "VIRTUAL_ENV", "JAVA_HOME", "R_LIBS",
    "R_LIBS_USER", "PERL5LIB", "LANG", "LC_ALL",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A failed attempt, ready to be entered."""

    folder: Path
    process: ProcessSpec
    attempt: AttemptSpec

    @property
    def task(self) -> TaskInfo:
        """What its body may ask as `task`."""
        return task_info(self.process.name, self.attempt, self.folder)

    @property
    def script(self) -> Path:
        """The body as a file."""
        return self.folder / (SCRIPT if self.process.language == "script" else BODY)


def leave_way_back(
    folder: Path, process: ProcessSpec, attempt: AttemptSpec, printed: str, exit_code: int | None
) -> None:
    """Put the way back into a kept work directory, as far as it can be: whatever is wrong with a
    full disk or an odd value, the failure that is reported is that of the task."""
    with contextlib.suppress(Exception):
        (folder / LOG).write_text(printed, encoding="utf-8", errors="surrogateescape")
        if exit_code is not None:
            (folder / ".exitcode").write_text(f"{exit_code}\n")
        if process.language == "python":
            (folder / BODY).write_text(process.body, encoding="utf-8", errors="surrogateescape")
        _write_task(folder, process, attempt)
        run = folder / RUN
        run.write_bytes(os.fsencode(_run_text(process, attempt)))
        run.chmod(0o755)


def _write_task(folder: Path, process: ProcessSpec, attempt: AttemptSpec) -> None:
    data = folder / DATA
    data.mkdir(exist_ok=True)
    kept: dict[str, str] = {}

    def keep(path: str) -> str:
        """Keep a file of the run, which is deleted with it; return its name in `data`."""
        if path not in kept:
            kept[path] = f"{len(kept)}"
            try:
                os.link(path, data / kept[path])
            except OSError:
                shutil.copyfile(path, data / kept[path])
        return kept[path]

    environ = process.environ or os.environ
    kept_process = replace(
        process,
        buffers=tuple(map(keep, process.buffers)),
        secrets=dict.fromkeys(process.secrets, ""),
        environ={name: environ[name] for name in _PLACES if name in environ},
    )
    kept_attempt = replace(
        attempt,
        inputs={
            name: _with_files(each, lambda file: PickledFile(keep(file.path)))
            for name, each in attempt.inputs.items()
        },
        row=None,
    )
    told = [pickle.dumps(each, protocol=5) for each in (_SHAPE, (kept_process, kept_attempt))]
    (data / _TASK).write_bytes(b"".join(told))


def _with_files(value: InputValue, change: Callable[[PickledFile], InputValue]) -> InputValue:
    if isinstance(value, PickledFile):
        return change(value)
    if isinstance(value, Many):
        return Many([_with_files(each, change) for each in value.members], value.fields)
    return value


def _run_text(process: ProcessSpec, attempt: AttemptSpec) -> str:
    """Return a bash script that runs the attempt again in its folder."""
    what = " ".join(f"{attempt.task}, attempt {attempt.attempt}".split())
    lines = ["#!/usr/bin/env bash", f"# {what}: runs it again, here", 'cd "$(dirname "$0")"']
    body = ScriptBody(process) if process.language == "script" else None
    if body is None or not body.is_bash:
        again = f"exec {shlex.quote(sys.executable)} -m nbcache debug . --again"
        return "\n".join([*lines, again, ""])
    environ = process.environ or os.environ
    given = {name: environ[name] for name in _PLACES if name in environ} | {**process.env}
    lines += [f"export {name}={shlex.quote(text)}" for name, text in given.items()]
    lines += [f'export {name}="${{{name}:?set this secret first}}"' for name in process.secrets]
    lines += [f"export BASH_ENV={INPUTS}", f"exec {shlex.join(body.argv)}", ""]
    return "\n".join(lines)


def load(folder: Path) -> Entry:
    """Return the attempt that a kept work directory is of.

    Raises:
        UsageError: there is no such directory or no attempt in it, it is another user's (reading
            it runs code), or another version of nbcache wrote it.
    """
    path = folder / DATA / _TASK
    try:
        owner = path.stat().st_uid
    except OSError:
        raise UsageError(f"{folder} is no work directory of a failed task") from None
    if owner != os.getuid():
        raise UsageError(
            f"{folder} was made by another user, and entering it would run their code as you.\n"
            f"  Look at it: {folder / LOG}, {RUN}"
        )
    other = UsageError(
        f"{folder} was left by another version of nbcache, so this kernel cannot enter it.\n"
        f"  Run again, or look at it: {folder / LOG}"
    )
    try:
        with path.open("rb") as file:
            if pickle.load(file) != _SHAPE:  # first, since the rest of another cannot be read
                raise other
            process, attempt = pickle.load(file)
    except AttributeError:  # in one piece, as it was once
        raise other from None
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{path} cannot be read, so this kernel cannot enter the task: {error}.\n"
            f"  In a shell: cd {shlex.quote(str(folder))}"
        ) from error
    data = folder / DATA
    process = replace(process, buffers=tuple(str(data / name) for name in process.buffers))
    inputs = {
        name: _with_files(each, lambda file: PickledFile(str(data / file.path)))
        for name, each in attempt.inputs.items()
    }
    return Entry(folder, process, replace(attempt, inputs=inputs))


def stage_again(entry: Entry, cache: Cache) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the inputs as the body saw them, and the names of files that changed since.

    What is still staged stays as it is; what has gone is put there again. Modules beside the
    notebook are found from here on, which a shell does not look for there.
    """
    known = set(map(os.path.abspath, sys.path))
    sys.path += [each for each in entry.process.sys_path if os.path.abspath(each) not in known]
    staging = Staging(cache, entry.folder, again=True)
    return staging.stage(entry.attempt.inputs, entry.process.helpers), staging.changed()


def captured_values(entry: Entry) -> Mapping[str, object]:
    """Return what the body had captured, unpickled anew; empty for a script."""
    return PythonBody(entry.process).namespace() if entry.process.language == "python" else {}


def shell_start(entry: Entry, inputs: Mapping[str, object]) -> Sequence[str]:
    """Return bash lines that set what a script saw: directives and inputs as variables."""
    if entry.process.language != "script":
        return []
    return ScriptBody(entry.process).declarations(inputs, entry.task)


def environment(entry: Entry, inputs: Mapping[str, object]) -> dict[str, str]:
    """Return the environment for a shell in the work directory; secrets are those of this one."""
    own = {**os.environ, **(entry.process.environ or {}), **entry.process.env}
    if entry.process.language == "script":
        more = ScriptBody(entry.process).variables(inputs, entry.task)
        own |= {os.fsdecode(name): os.fsdecode(text) for name, text in more.items()}
    return own
