"""`debug`: what a person sees on entering a failed task, and the shell that opens in its folder."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from html import escape
from types import TracebackType

from nbcache.engine import debugging
from nbcache.engine.debugging import Bound, Opened
from nbcache.engine.spec import ProcessSpec
from nbcache.engine.work import reentry
from nbcache.engine.work.script_body import INPUTS, ScriptBody
from nbcache.engine.work.shown import told_by_cells
from nbcache.notebook import render
from nbcache.notebook.render import Rendered

LAST_LINES = 10
_START = "shell"


def describe(opened: Opened, bound: Bound | None = None) -> Rendered:
    """Return what failed, where, and the ways in; `bound` are the variables that a notebook has."""
    entry = opened.entry
    error = f": {opened.row.error}" if opened.row is not None and opened.row.error else ""
    head = f"{opened.label} failed{error}"
    attempt = (opened.row or entry.attempt).attempt  # a resume numbers on in its rows
    facts = {
        "attempt": str(attempt) if attempt > 1 else "",
        "folder": str(entry.folder),
        "script": entry.script.name if entry.script.exists() else "",
        "again": f"%nbcache debug {entry.process.name} --again" if bound else opened.command,
        "in a shell": debugging.shell_words(opened) if bound else "",
        "changed": f"{', '.join(opened.changed)} is not what it was" if opened.changed else "",
        "secrets": ", ".join(name for name in entry.process.secrets if name not in os.environ),
        "variables": ", ".join(bound.names) if bound else "",
        "left as is": ", ".join(bound.left) if bound else "",
    }
    width = max(len(name) for name, text in facts.items() if text) + 2
    lines = [f"{name:<{width}}{text}" for name, text in facts.items() if text]
    parts = [Rendered(head, f"<b>{escape(head)}</b>"), *map(render.line, lines)]
    printed = _last_lines(opened)
    if printed:
        parts.append(
            Rendered(
                "\n".join(f"  | {line}" for line in printed),
                f'<pre style="{render.PRE}">{escape(chr(10).join(printed))}</pre>',
            )
        )
    stacked = render.stack(parts)
    return Rendered(stacked.text, render.box(stacked.html, "failed"))


def _last_lines(opened: Opened) -> list[str]:
    try:
        text = (opened.entry.folder / reentry.LOG).read_text("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.split("\n") if line.strip()][-LAST_LINES:]


def open_shell(opened: Opened) -> int:
    """Open a shell in the work directory, with the task's environment and, for a bash script, its
    inputs as variables; without a terminal it takes commands from stdin. Returns its exit code."""
    entry = opened.entry
    start = entry.folder / reentry.DATA / _START
    lines = [
        "[ -t 0 ] && [ -f ~/.bashrc ] && . ~/.bashrc",
        "unset BASH_ENV",
        f"cd {shlex.quote(str(entry.folder))}",
        *reentry.shell_start(entry, opened.inputs),
        f"PS1={shlex.quote(f'({opened.label}) ')}'\\W$ '",
    ]
    start.write_bytes(os.fsencode("\n".join([*lines, ""])))
    environment = reentry.environment(entry, opened.inputs)
    words = ["bash"]
    if sys.stdin.isatty():
        words += ["--rcfile", str(start), "-i"]
    else:
        environment["BASH_ENV"] = str(start)
    sys.stdout.flush()
    return subprocess.run(words, cwd=entry.folder, env=environment, check=False).returncode


def run_again_in_shell(opened: Opened) -> int:
    """Run the task again; on an exception show it, and debug it where there is a terminal."""
    entry = opened.entry
    if entry.process.language == "script":
        environment = reentry.environment(entry, opened.inputs)
        body = ScriptBody(entry.process)
        if body.is_bash:
            environment["BASH_ENV"] = INPUTS
        return subprocess.run(body.argv, cwd=entry.folder, env=environment, check=False).returncode
    try:
        made = debugging.run_again_here(opened)
    except Exception as error:
        return _post_mortem(error, entry.process)
    for name, value in made.items():
        print(f"{name} = {value!r}")
    return 0


def _post_mortem(error: Exception, process: ProcessSpec) -> int:
    import pdb
    import traceback

    shown = error.with_traceback(below_nbcache(error.__traceback__))
    trace = "".join(traceback.format_exception(shown))
    print(told_by_cells(trace, process.cells), end="", file=sys.stderr)
    if sys.stdin.isatty():
        pdb.post_mortem(shown.__traceback__)
    return 1


def below_nbcache(traceback: TracebackType | None) -> TracebackType | None:
    """Cut the frames of nbcache off the top of a traceback, up to the user's own code."""
    found = traceback
    while found is not None:
        name = found.tb_frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("nbcache", "concurrent", "threading", "asyncio"):
            return found
        found = found.tb_next
    return traceback
