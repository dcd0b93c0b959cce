"""Run a script body: inputs as shell variables or environment, never pasted into its text.

A bash script gets its inputs from a file of quoted declarations that bash reads first (BASH_ENV);
its own text is untouched, so line numbers in messages are those of the body. Non-path outputs are
written by an EXIT trap set in the same place, so `exit 0` keeps them. Other interpreters get text
in the environment, `$NBCACHE_INPUTS` (a JSON file) and may write `$NBCACHE_OUTPUTS` (JSON); for
those that are shells, variables are written there when the script ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nbcache.engine.identity.containers import enter
from nbcache.engine.spec import ProcessSpec
from nbcache.engine.work.hints import hint_about_script
from nbcache.engine.work.python_body import TaskInfo
from nbcache.engine.work.shell_values import (
    declarations,
    environment_text,
    json_value,
    task_variables,
    typed,
)
from nbcache.errors import OutputError, ScriptError
from nbcache.model.process import Output, ProcessDecl

SCRIPT = ".command.sh"
INPUTS = ".nbcache.inputs"
OUTPUTS = ".nbcache.outputs"
BESIDE = ".nbcache.beside"  # what bash runs before or after the script
# What is exported ahead of the lines of `--before`, and behind them: there if they ended well.
GIVEN, EXPORTED = ".nbcache.given", ".nbcache.exported"
LAST_LINES = 12
BASH = ("bash", "-euo", "pipefail")
# How bash, dash, Python and Perl name a line of the script in what they say about it.
_LINE = re.compile(rf"{re.escape(SCRIPT)}[\":,]* (?:line )?(\d+)\b")
VARIABLE_MAX = 100_000  # bytes; Linux starts no program with a variable above 128 kB
ENVIRONMENT_MAX = 500_000

# Kept from the EXIT trap, before any trap of the script's own, which then sees the exit code that
# the script ended with. Nothing of it shows under `set -x`, nor to the script's trap of ERR.
_KEEP = """\
nbcache_keep() {
{ :
WRITES
} > "$nbcache_outputs"; return $nbcache_status; }
trap() {
if [[ $# -ge 2 && $1 != -[lp]* ]]; then
  local nbcache_action=$1 nbcache_signal; [[ $1 != -- ]] || { shift; nbcache_action=$1; }
  builtin trap -- "$@"
  for nbcache_signal in "${@:2}"; do case $nbcache_signal in EXIT|exit|0)
    [[ $nbcache_action != - ]] || nbcache_action=
    builtin trap -- "$nbcache_first; $nbcache_action" EXIT;; esac; done
else builtin trap "$@"; fi; }
nbcache_first="{ nbcache_status=\\$?; builtin trap - DEBUG ERR; set +eux; } 2>/dev/null"
nbcache_first+="; nbcache_keep"
builtin trap "$nbcache_first" EXIT"""

_SHELLS = ("sh", "dash", "ash", "ksh", "zsh")
# What a shell without BASH_ENV is given to do: the script as a file that it reads, so that lines
# count as in the body, and then the same. The second time there is nothing to do.
_KEEP_IN_SHELL = """\
nbcache_keep() {
{ nbcache_status=$?; set +eux; } 2>/dev/null
[ -s "$NBCACHE_OUTPUTS" ] || { :
WRITES
} > "$NBCACHE_OUTPUTS"; return $nbcache_status; }
trap nbcache_keep EXIT
. "$0"
nbcache_keep"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script's process ended, and what it used."""

    exit: int | None
    signal: str | None
    peak_rss: int


def script_argv(process: ProcessDecl | ProcessSpec) -> tuple[str, ...]:
    """Return the command that runs a script in its work directory; () for a Python body."""
    if process.language == "python":
        return ()
    return (*(process.interpreter or BASH), SCRIPT)


def is_bash(process: ProcessDecl | ProcessSpec) -> bool:
    """Whether a body is a script for bash."""
    return os.path.basename((*script_argv(process), "")[0]) == "bash"


class ScriptBody:
    """A script of one process; knows how its interpreter takes inputs and gives outputs."""

    def __init__(self, process: ProcessSpec) -> None:
        self.process = process
        self.argv = script_argv(process)
        program = os.path.basename(self.argv[0])
        self.is_bash, self._is_shell = is_bash(process), program in _SHELLS
        self._outputs = [
            each
            for each in process.outputs
            if each.name not in process.passed
            and each.pattern is None
            and each.command is None
            and not (each.type is not None and each.type.is_path)
        ]
        if self._is_shell and self._outputs:
            keep = _KEEP_IN_SHELL.replace("WRITES", "\n".join(map(_shell_write, self._outputs)))
            self.argv = (*self.argv[:-1], "-c", keep, f"./{SCRIPT}")
        if process.before and not self.is_bash:
            before = "\n".join([*self._before(), 'exec "$@"'])
            self.argv = (*BASH, "-c", before, "before", *self.argv)

    def run(
        self,
        inputs: Mapping[str, object],
        task: TaskInfo,
        folder: Path,
        streams: tuple[int, int] | None = None,
    ) -> Ended:
        """Run the script in `folder` to its end; `streams` are the descriptors of its output.

        Raises:
            ScriptError: the interpreter is not there.
        """
        self._write(inputs, task, folder)
        out, err = streams or (None, None)
        environment = self._environment(inputs, task)
        argv = self.argv
        if self.process.container is not None:
            handed_on = self._handed_on(inputs, task)
            argv = enter(*self.process.container, argv, folder, handed_on, task.gpu_ids)
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise ScriptError(
                f"cannot start {argv[0]!r}: {error.strerror or error}. "
                "Is it installed, and on PATH?"
            ) from None
        return _wait(process)

    def _write(self, inputs: Mapping[str, object], task: TaskInfo, folder: Path) -> None:
        text = self.process.body.replace("\r\n", "\n")  # a notebook from another system
        (folder / SCRIPT).write_bytes(text.encode("utf-8", "surrogateescape"))
        if self.is_bash:
            (folder / INPUTS).write_bytes(os.fsencode("\n".join(self._bash_lines(inputs, task))))
        else:
            values = {name: json_value(name, value) for name, value in inputs.items()}
            (folder / INPUTS).write_text(json.dumps(values), encoding="ascii")

    def _bash_lines(self, inputs: Mapping[str, object], task: TaskInfo) -> list[str]:
        lines = ["unset BASH_ENV", *self.declarations(inputs, task)]
        if self._outputs:
            writes = "\n".join(map(_bash_write, self._outputs))
            # Absolute, since the script may go elsewhere; found out now, since the folder of a
            # failed attempt gets another name.
            lines += [f'nbcache_outputs="$PWD/{OUTPUTS}"', _KEEP.replace("WRITES", writes)]
        if self.process.before:  # bash heeds its option -e only behind this file
            lines += ["set -e", *self._before()]
            lines += (
                []
                if any(each.startswith("-") and "e" in each for each in self.argv)
                else ["set +e"]
            )
        return [*lines, ""]

    def _before(self) -> list[str]:
        """Return the lines of `--before`, which note that they came to their end; for those of
        `--after` also what they export."""
        place = 'nbcache_folder="$PWD"'
        if not self.process.after:
            return [place, *self.process.before, f': >| "$nbcache_folder/{EXPORTED}"']
        hidden = " ".join(self.process.secrets)  # not onto a disk, and there anyway
        note = (
            f"{{ (umask 077; unset -v {hidden}; "
            'export -p >| "$nbcache_folder/%s") || :; } 2>/dev/null'
        )
        return [place, note % GIVEN, *self.process.before, note % EXPORTED]

    def declarations(self, inputs: Mapping[str, object], task: TaskInfo) -> list[str]:
        """Return the bash lines that set what a bash script sees; none for another interpreter."""
        if not self.is_bash:
            return []
        return declarations(inputs, task)

    def _environment(self, inputs: Mapping[str, object], task: TaskInfo) -> dict[bytes, bytes]:
        """Return the environment in the bytes in which it is held anyway: a tenth of the time."""
        environment: dict[bytes, bytes] = dict(os.environ._data)  # type: ignore[attr-defined]
        if self.is_bash:
            environment[b"BASH_ENV"] = INPUTS.encode()
        if self.process.environ is not None and "PATH" in self.process.environ:
            environment[b"PATH"] = os.fsencode(self.process.environ["PATH"])
        environment.update(self.variables(inputs, task))
        return environment

    def _handed_on(self, inputs: Mapping[str, object], task: TaskInfo) -> list[str]:
        """Return the variables that a container gets: those of the task, not the machine's."""
        own = [os.fsdecode(name) for name in self.variables(inputs, task)]
        own += ["BASH_ENV"] if self.is_bash else []
        return [*own, *self.process.env, *self.process.secrets]

    def variables(self, inputs: Mapping[str, object], task: TaskInfo) -> dict[bytes, bytes]:
        """Return the environment variables that a script gets; none for a bash script."""
        if self.is_bash:
            return {}
        found = {
            name.encode(): os.fsencode(os.path.join(task.workdir, place))
            for name, place in (("NBCACHE_INPUTS", INPUTS), ("NBCACHE_OUTPUTS", OUTPUTS))
        }
        room = ENVIRONMENT_MAX
        for name, value in {**task_variables(task), **inputs}.items():
            text = os.fsencode(environment_text(value))
            if b"\0" not in text and len(text) <= min(room, VARIABLE_MAX):
                found[os.fsencode(name)] = text  # what does not fit is in $NBCACHE_INPUTS
                room -= len(text)
        return found

    @staticmethod
    def tidy(folder: Path) -> None:
        """Remove what `run` wrote beside the script's own files; an empty folder is used again."""
        for name in (SCRIPT, INPUTS, OUTPUTS, BESIDE, GIVEN, EXPORTED):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))

    def values(self, folder: Path, printed: str) -> dict[str, object]:
        """Return the non-path outputs that the script set; it need not set those that are optional.

        `printed` is its stdout, which an output named `stdout` takes.

        Raises:
            OutputError: a variable was not set, or its text is not of the declared type.
        """
        found = self._read(folder)
        values: dict[str, object] = {}
        for output in self._outputs:
            if output.name in found:
                values[output.name] = typed(output, found[output.name])
            elif output.name == "stdout":
                values[output.name] = typed(output, printed)
            elif output.type is None or not output.type.optional:
                raise self._not_made(output.name)
        return values

    def _not_made(self, name: str) -> OutputError:
        why = f"the script never set the variable {name}.\n  "
        if not self.is_bash and not self._is_shell:
            why = (
                f"the script wrote no {name!r} into the file $NBCACHE_OUTPUTS.\n  A script for "
                f'{self.process.interpreter[0]} gives values there, as JSON: {{"{name}": 1}}. '
            )
        return OutputError(f"output {name!r} was not made: {why}For a file declare `{name}: path`.")

    def _read(self, folder: Path) -> dict[str, str | list[str]]:
        try:
            data = (folder / OUTPUTS).read_bytes()
        except FileNotFoundError:
            return {}
        if not self.is_bash and not (self._is_shell and not data.startswith(b"{")):
            try:
                held = json.loads(data)
                return dict(held)
            except (ValueError, TypeError) as error:
                raise OutputError(f"$NBCACHE_OUTPUTS holds no JSON object: {error}") from None
        found: dict[str, str | list[str]] = {}
        scalars = {each.name for each in self._outputs if each.type is None or not each.type.depth}
        words = data.decode("utf-8", "surrogateescape").split("\0")
        position = 0
        while position + 2 < len(words):
            name, kind, count = words[position], words[position + 1], int(words[position + 2])
            members = words[position + 3 : position + 3 + count]
            if kind == "array" and name in scalars:
                raise OutputError(
                    f"output {name!r} is an array in the script; declare `{name}: list[str]`"
                )
            found[name] = members if kind == "array" else members[0]
            position += 3 + count
        return found


def _wait(process: subprocess.Popen[bytes]) -> Ended:
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    peak = usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    if code < 0:
        return Ended(None, signal_name(-code), peak)
    if code > 128 and code - 128 in signal.valid_signals() and code != 255:
        return Ended(code, signal_name(code - 128), peak)
    return Ended(code, None, peak)


def signal_name(number: int) -> str:
    """Return "SIGKILL" for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def failure(ended: Ended, printed: str, process: ProcessSpec, folder: Path) -> ScriptError:
    """Return the error of a script that did not end with 0: its last lines of output, and a hint.

    folder: where it ran.
    """
    hint = hint_about_script(printed, process, folder)
    lines = [line for line in printed.rstrip().split("\n") if line.strip()][-LAST_LINES:]
    has_begun = not process.before or (folder / EXPORTED).exists()
    who, was = ("the script", "was") if has_begun else ("the lines of --before", "were")
    how = f"ended with exit code {ended.exit}"
    if ended.exit is None:
        how = f"{was} killed by {ended.signal}"
    if ended.exit is not None and ended.signal:
        how += f" ({ended.signal})"
    if ended.exit == 127:
        how += " (command not found)"
    said = "".join(f"\n  | {line}" for line in lines)
    return ScriptError(f"{who} {how}{said}" + (f"\n  {hint}" if hint else ""))


def failed_line(process: ProcessSpec, said: str) -> tuple[int, str] | None:
    """Return the line of the cell that an interpreter named last in what it said, with its text;
    None where it named none."""
    lines = process.body.split("\n")
    for found in reversed(_LINE.findall(said)):
        if 0 < int(found) <= len(lines):
            return process.body_line + int(found) - 1, lines[int(found) - 1]
    return None


def _shell_write(output: Output) -> str:
    """Return the same in any shell, where a variable is a text."""
    name = output.name
    return f'if [ -n "${{{name}+x}}" ]; then printf "%s\\0" {name} text 1 "${name}"; fi'


def _bash_write(output: Output) -> str:
    """Return bash that prints name, kind, number and texts of a variable, each ended by NUL.

    Nothing is printed for a variable that is not set; an empty array is.
    """
    name = output.name
    array = f'{name} array "${{#{name}[@]}}" "${{{name}[@]}}"'
    text = f'printf "%s\\0" {name} text 1 "${name}"'
    return (  # most are plain text, which bash 5 can tell without a process of its own
        f"if [[ ${{BASH_VERSINFO[0]}} -ge 5 && -n ${{{name}+x}} && ${{{name}@a}} != *[aA]* ]]; "
        f"then {text}; "
        f'elif [[ "$(declare -p {name} 2>/dev/null)" == "declare -"*([!\\ ])[aA]* ]]; '
        f'then printf "%s\\0" {array}; '
        f'elif [ -n "${{{name}+x}}" ]; then {text}; fi'
    )
