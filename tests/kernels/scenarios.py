"""Change scenarios in real kernels: run, change one thing, run again in a fresh kernel.

A group of scenarios shares two kernels. The first one runs every scenario as it was. Then files
and variables are changed and a second kernel, which knows nothing of the first, runs every
scenario as it is now (`Seen.again`), and once more with its cells as they were (`Seen.back`):
there the names are redefined in a living kernel, and the result has to be a hit. Each scenario
has a process of its own, whose body appends to a trace file: what ran is observed.

The judge of results is the body itself, executed in the notebook without nbcache.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from nbcache.engine.record import history
from nbcache.engine.record.explanations import why
from nbcache.notebook.answers import open_for_reading
from tests.executing import execute

Change = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One process in one notebook, before and after one change.

    `because` is "kind name" of the component that `why` has to name; None: no task may run.
    `files` and `files_after` are texts beside the notebook, `change` does what text cannot say.
    """

    name: str
    body: str
    cells: str = ""
    cells_after: str | None = None
    body_after: str | None = None
    because: str | None = None
    header: str = "(v) -> out from one"
    header_after: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    files_after: Mapping[str, str] = field(default_factory=dict)
    prepare: Change | None = None
    change: Change | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    env_after: Mapping[str, str] = field(default_factory=dict)
    judged: bool = True  # the notebook itself can execute the body
    back: bool = True  # going back to the first cells goes back to the first result
    foreseen: bool = True  # a plan can tell: no process above it has to run

    @property
    def process(self) -> str:
        return re.sub(r"\W+", "_", self.name).strip("_").lower()


def edit(name: str, cells: str, old: str, new: str, body: str, because: str | None) -> Scenario:
    """Return the scenario of an edit in the cells above a process."""
    assert old in cells, (name, old)
    after = cells.replace(old, new, 1)
    return Scenario(name=name, cells=cells, cells_after=after, body=body, because=because)


def module_edit(
    name: str,
    files: Mapping[str, str],
    where: str,
    old: str,
    new: str,
    body: str,
    because: str | None,
    *,
    cells: str = "",
    judged: bool = True,
) -> Scenario:
    """Return the scenario of an edit in a file beside the notebook."""
    assert old in files[where], (name, old)
    after = {where: files[where].replace(old, new, 1)}
    return Scenario(
        name=name, cells=cells, body=body, files=files, files_after=after, because=because,
        judged=judged, back=False,
    )  # fmt: skip


@dataclass
class Told:
    """What one run of one scenario was and said."""

    ran: int = 0
    run: str = ""
    error: str = ""
    value: str = ""
    expected: str | None = None
    planned: int | None = None
    plan_reason: str = ""
    reason: str = ""
    why: str = ""
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Seen:
    first: Told
    again: Told
    back: Told


_HELPERS = """
def _tell(root, key):
    import pathlib, nbcache
    process, session = key.partition("#")[0], nbcache.session()
    run, trace = session.last_run, pathlib.Path(root, "trace")
    told = {
        "ran": trace.read_text().split().count(process) if trace.exists() else 0,
        "run": run.id,
        "error": run.fault or "; ".join(each.error for each in run.failures),
        "planned": _plans.pop(process).to_run,
        "reason": run.reasons.get(process, ""),
        "notes": list(run.notes),
    }
    trace.write_text("")
    if not told["error"]:
        told["value"] = repr(list(run[process])[0])
    _report(root, key, told)
def _report(root, key, told):
    import json, pathlib
    with pathlib.Path(root, "report").open("a") as out:
        out.write(json.dumps([key, told]) + "\\n")
_plans = {}
def _plan(process):
    import nbcache
    (_plans[process],) = [p for p in nbcache.session().plan() if p.name == process]
async def _judge(root, key, body):
    import ast, inspect
    names = {**globals(), "v": 3}
    code = compile(body, "<judge>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    try:
        found = eval(code, names)
        if inspect.isawaitable(found):
            await found
        text = repr(names["out"])
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    _report(root, key, {"expected": text})
def _forget():
    for name in set(globals()) - _kept:
        if not name.startswith("_"):
            del globals()[name]
_kept = set(globals())
"""


class Notebook:
    """A folder with a cache; every call of `execute` is a fresh kernel of this Python."""

    def __init__(self, root: Path, python: str = sys.executable) -> None:
        self.root, self.folder, self.python = root, root / "notebook", python
        self.folder.mkdir(parents=True)
        self.trace, self.report = root / "trace", root / "report"

    def mark(self, text: str) -> str:
        """Return a statement with which a body notes that it ran."""
        return f"open({str(self.trace)!r}, 'a').write({text!r} + '\\n')"

    def execute(
        self, cells: Sequence[str], env: Mapping[str, str | None] | None = None
    ) -> list[Any]:
        """Execute cells in a fresh kernel, all of them whatever happens; return them."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(each) for each in cells]
        )
        execute(notebook, self.folder, allow_errors=True, env=env, python=self.python)
        return list(notebook.cells)

    def ran(self) -> list[str]:
        """Return what bodies noted since the last call, sorted."""
        text = self.trace.read_text() if self.trace.exists() else ""
        self.trace.write_text("")
        return sorted(text.split())

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def error_of(cell: Any) -> str:
    """Return the error that a cell ended with, or ""."""
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return ""


def text_of(cell: Any) -> str:
    """Return all text that a cell showed."""
    parts: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)  # one print may come in several messages
        elif "data" in output:
            parts.append(str(output.data.get("text/plain", "")) + "\n")
    return "".join(parts)


def play(
    root: Path, scenarios: Sequence[Scenario], python: str = sys.executable
) -> dict[str, Seen]:
    """Play a group of scenarios, in kernels of a Python; see the module's text."""
    names = [each.process for each in scenarios]
    assert len(set(names)) == len(names), names
    notebook = Notebook(root, python)
    for each in scenarios:
        notebook.write(each.files)
        if each.prepare is not None:
            each.prepare(notebook.folder)
    env = {key: value for each in scenarios for key, value in each.env.items()}
    (first,) = _round(notebook, scenarios, env, (False,), hash_seed="1")
    for each in scenarios:
        notebook.write(each.files_after)
        if each.change is not None:
            each.change(notebook.folder)
    env |= {key: value for each in scenarios for key, value in each.env_after.items()}
    again, back = _round(notebook, scenarios, env, (True, False), hash_seed="2")
    _explain(notebook, again)
    return {name: Seen(first[name], again[name], back[name]) for name in names}


def _explain(notebook: Notebook, told: Mapping[str, Told]) -> None:
    """Ask `why` of every task that ran."""
    cache = open_for_reading(notebook.root / "cache")
    known = history.runs(cache)
    for process, each in told.items():
        if each.ran and not each.error:
            found = why(cache, [process], run=each.run, known=known)
            each.why = found.head
            each.differences = [
                f"{one.component.kind} {one.component.name}" for one in found.differences
            ]


def _round(
    notebook: Notebook,
    scenarios: Sequence[Scenario],
    env: Mapping[str, str],
    states: Iterable[bool],
    *,
    hash_seed: str,
) -> list[dict[str, Told]]:
    """Run every scenario in each of the states (True: after its change), in one kernel."""
    states = list(states)
    cells = ["%load_ext nbcache", f"%nbcache use {notebook.root}/cache", _HELPERS]
    owners: list[tuple[str, int]] = [("", 0)] * len(cells)
    for each in scenarios:
        for number, after in enumerate(states):
            added = _cells_of(notebook, each, after, number)
            cells += added
            owners += [(each.process, number)] * len(added)
        cells.append("_forget()")
        owners.append(("", 0))
    notebook.report.write_text("")
    here = {key: value.replace("{folder}", str(notebook.folder)) for key, value in env.items()}
    executed = notebook.execute(cells, {**here, "PYTHONHASHSEED": hash_seed})
    found = [{each.process: Told() for each in scenarios} for _ in states]
    for cell, (process, number) in zip(executed, owners, strict=True):
        text = error_of(cell)
        if text and process and not found[number][process].error:
            found[number][process].error = f"{cell.source[:80]!r}: {text}"
        elif text and not process:
            raise AssertionError(f"{cell.source[:200]}: {text}")
    for line in notebook.report.read_text().splitlines():
        key, told = json.loads(line)
        process, _, number = key.partition("#")
        for name, value in told.items():
            if value or name != "error":
                setattr(found[int(number)][process], name, value)
    return found


def _cells_of(notebook: Notebook, scenario: Scenario, after: bool, number: int) -> list[str]:
    cells = scenario.cells
    if after and scenario.cells_after is not None:
        cells = scenario.cells_after
    body = scenario.body
    if after and scenario.body_after is not None:
        body = scenario.body_after
    header = scenario.header
    if after and scenario.header_after is not None:
        header = scenario.header_after
    process, root, is_script = scenario.process, str(notebook.root), "--bash" in header
    mark = f"echo {process} >> {notebook.trace}" if is_script else notebook.mark(process)
    key = f"{process}#{number}"
    judged = scenario.judged and not is_script
    run = [
        "%channel one = of(3)",
        f"_plan({process!r})",
        f"try:\n    %nbcache run\nfinally:\n    _tell({root!r}, {key!r})",
        *([f"    await _judge({root!r}, {key!r}, {body!r})"] if judged else []),
    ]
    return [
        *[each for each in cells.split("\n# %%\n") if each.strip()],
        f"%%process {process}{header}\n{mark}\n{body}",
        "\n".join(run),
    ]


def check(scenario: Scenario, group: Mapping[str, Seen]) -> None:
    """Hold what was seen of a scenario against what it says."""
    seen, runs = group[scenario.process], int(scenario.because is not None)
    for told in (seen.first, seen.again, seen.back):
        assert not told.error, told.error
        if scenario.foreseen:
            assert told.planned == told.ran, "the plan said something else than the run did"
        assert told.expected is None or told.value == told.expected
    ran = (seen.first.ran, seen.again.ran, seen.back.ran)
    assert ran == (1, runs, 0 if scenario.back else ran[2]), seen
    if scenario.because is not None:
        if not scenario.because.startswith("read "):  # reads are no components
            assert scenario.because in seen.again.differences, seen.again
        name = scenario.because.split()[-1]
        word = f"the code of {scenario.process}" if scenario.because == "code body" else name
        assert word in seen.again.why, seen.again
        if not scenario.because.startswith("input "):  # those differ from task to task
            assert word in seen.again.reason, seen.again
