"""Going on with a run from a shell: its notebook runs in a fresh kernel and resumes it there.

One of the notebook's `%nbcache run` lines is performed as the resume (or relaunch): the first that
asks for the run's targets when all of its processes are declared, or else the last that does.
Where no line does, one is added below. The other lines are ordinary runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbcache.engine.record.history import RunSummary
from nbcache.errors import UsageError
from nbcache.notebook import parameters as parametrise
from nbcache.notebook import verbs
from nbcache.notebook.settings import Again
from nbcache.plan.language.header_text import meant

RUN_LINE = re.compile(
    r"^\s*(?:[\w.]+\s*=\s*)?%nbcache\s+((?:run|resume|relaunch)\b.*)$", re.MULTILINE
)
"""A line of a cell that begins a run, and its words."""
_PROCESS_NAME = re.compile(r"^\s*%%process\s+(\w+)", re.MULTILINE)


def again_of(verb: str, run: RunSummary) -> Again:
    """Return what the kernel has to know of the run that goes on."""
    processes = tuple(record.name for record in run.processes)
    return Again(verb, run.id, run.targets, processes, 0)


def run_lines(notebook: Any, targets: Sequence[str]) -> int:
    """Return how many lines of a notebook run just these targets."""
    count = 0
    for cell in notebook.cells:
        for found in RUN_LINE.finditer(cell.source) if cell.cell_type == "code" else ():
            try:
                parsed = verbs.parse_line(found[1])
            except UsageError:
                continue  # said when the cell runs
            count += parsed.verb.name == "run" and parsed.words == tuple(targets)
    return count


def check_begun_from(notebook: Any, names: Collection[str], known: Collection[str]) -> None:
    """See, before a kernel is started, that no process that a run begins from is misspelt.

    known: those that the run had before. What modules declare is not known here, so only a name
    that stands in no cell and resembles a declared one is taken for that.

    Raises:
        UsageError: one is.
    """
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    declared = [*_PROCESS_NAME.findall(text), *known]
    for name in names:
        word = re.sub(r"-\d+$", "", name)  # of the place of a call: its process
        hint = meant(word, declared)
        if hint and name not in declared and not re.search(rf"\b{re.escape(word)}\b", text):
            raise UsageError(f"--from {name}: the notebook declares no such process; {hint}")


def notebook_of(run: RunSummary, folder: Path, named: str | None) -> Path:
    """Return the notebook that a run was started from, or the one that was named instead.

    folder: where the cache lies.

    Raises:
        UsageError: it is not known, or no longer there; says how to name it.
    """
    if named is not None:
        return Path(named)
    if run.notebook is None:
        raise UsageError(
            f"run {run.name} was started outside of a notebook, or in one that nbcache was not "
            "told of: go on in its kernel with %nbcache, or name the notebook: --notebook FILE"
        )
    path = folder / run.notebook  # an absolute one stays as it is
    if path.is_file():
        return path
    here = folder / path.name
    hint = str(here) if here.is_file() else "FILE"
    raise UsageError(
        f"the notebook of run {run.name} is no longer at {path}; say where it is: --notebook {hint}"
    )


def injected(
    notebook: Any, stored: Mapping[str, str], changes: Mapping[str, str]
) -> dict[str, str]:
    """Return the parameters to inject: those of the run that the notebook's cell of parameters
    assigns, and all changes. Others hold in the kernel, for the run alone."""
    known = parametrise.known_parameters(notebook)
    values = {**stored, **changes}
    return {
        name: text
        for name, text in values.items()
        if name in known or (name in changes and name not in stored)
    }
