"""What bash runs around a script: commands whose answers are outputs, lines after it.

In the folder of the task, with its inputs as variables and behind the lines of `--before`; the same
for every interpreter.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbcache.engine.spec import ProcessSpec
from nbcache.engine.work.python_body import TaskInfo
from nbcache.engine.work.script_body import BASH, BESIDE, EXPORTED, GIVEN
from nbcache.engine.work.shell_values import declarations, typed
from nbcache.errors import OutputError, ScriptError

# What `export -p` prints of a variable, whose text may have several lines.
_DECLARED = re.compile(
    r"""^(?:declare -\w*x\w*|export) (\w+)(?:="(?:[^"\\]|\\.)*"|=\$'(?:[^'\\]|\\.)*')?$""",
    re.MULTILINE | re.DOTALL,
)
_ITS_OWN = ("PWD", "OLDPWD", "SHLVL", "_")  # each bash has these for itself


def answers(
    process: ProcessSpec, inputs: Mapping[str, object], task: TaskInfo, folder: Path
) -> dict[str, object]:
    """Run the commands whose answers are outputs; return these without their last line ends.

    Raises:
        OutputError: a command failed, or its answer is not of the declared type.
    """
    found: dict[str, object] = {}
    for output in process.outputs:
        if output.command is None:
            continue
        lines = ["exec 3>&1 >&2", *process.before, "exec >&3 3>&-", output.command]
        ended = _run(process, [*declarations(inputs, task), *lines], folder, answer=True)
        if ended.returncode != 0:
            raise OutputError(
                f"output {output.name!r} was not made: the command {output.command!r} ended with "
                f"exit code {ended.returncode}"
            )
        answer = ended.stdout.decode("utf-8", "surrogateescape").rstrip("\n")
        found[output.name] = typed(output, answer)
    return found


def run_after(
    process: ProcessSpec, inputs: Mapping[str, object], task: TaskInfo, folder: Path
) -> ScriptError | None:
    """Run the lines that stand after the script, also if that failed; return what failed."""
    if not process.after:
        return None
    lines = [*declarations(inputs, task), *_exported(folder), *process.after]
    ended = _run(process, lines, folder)
    if ended.returncode == 0:
        return None
    return ScriptError(f"the lines of --after ended with exit code {ended.returncode}")


def _exported(folder: Path) -> list[str]:
    """Return the declarations of what the lines of `--before` exported when they ran: none where
    they did not come to their end."""
    found: list[list[str]] = []
    for name in (GIVEN, EXPORTED):
        place = folder / name
        try:
            text = os.fsdecode(place.read_bytes())
            place.unlink()
        except OSError:
            return []
        found.append([each[0] for each in _DECLARED.finditer(text) if each[1] not in _ITS_OWN])
    given = set(found[0])
    return [f"{each} || :" for each in found[1] if each not in given]


def _run(
    process: ProcessSpec, lines: Sequence[str], folder: Path, *, answer: bool = False
) -> subprocess.CompletedProcess[bytes]:
    (folder / BESIDE).write_bytes(os.fsencode("\n".join([*lines, ""])))
    return subprocess.run(
        [*BASH, BESIDE],
        cwd=folder,
        env={**os.environ, "PATH": (process.environ or os.environ).get("PATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if answer else None,
        start_new_session=True,
        check=False,
    )
