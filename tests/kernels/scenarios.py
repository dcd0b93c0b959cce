"""Change scenarios in real kernels: run, change one thing, run again in a fresh kernel.

A group of scenarios shares two kernels. The first one runs every scenario as it was. Then files
and variables are changed and a second kernel, which knows nothing of the first, runs every
scenario as it is now (`Seen.again`), and once more with its cells as they were (`Seen.back`):
there the names are redefined in a living kernel, and the result has to be a hit. Each scenario
has a process of its own, whose body appends to a trace file: what ran is observed.

Up to TOGETHER scenarios stand in one notebook and are one run, those that must run again beside
those that must not. So each has names of its own: the words that its cells bind get its number.

The judge of results is the body itself, executed in the notebook without nbcache.
"""

from __future__ import annotations

import ast
import json
import re
import symtable
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    back: bool = (
        True  # going back to the first cells goes back to the first result; else not played
    )
    foreseen: bool = True  # a plan can tell: no process above it has to run
    together: bool = True  # in one notebook with others, whose cells change nothing for it

    @property
    def process(self) -> str:
        return re.sub(r"\W+", "_", self.name).strip("_").lower()

    @property
    def is_script(self) -> bool:
        return "--bash" in self.header

    @property
    def after(self) -> Scenario:
        """Return it as it is once it was edited."""
        edited = {each: getattr(self, f"{each}_after") for each in ("cells", "body", "header")}
        return replace(self, **{each: text for each, text in edited.items() if text is not None})

    def numbered(self, number: int) -> Scenario:
        """Return it with the names that its cells bind made its own, where others are beside."""
        if not self.together:
            return self
        cells = NEXT.join((self.cells, self.cells_after or "")).split(NEXT)
        names = {name for cell in cells for name in bound(cell)}
        if not names:
            return self
        prefix = r"(?<!['\"])\b[bfru]{1,2}['\"]"  # of a text, which is no name
        words = re.compile(rf"(?!{prefix})\b({'|'.join(names)})\b(?<!from one)")
        texts = {each: getattr(self, each) for each in _TEXTS}
        own: dict[str, Any] = {
            key: text and words.sub(rf"\1_{number}", text) for key, text in texts.items()
        }
        return replace(self, **own)


NEXT = "\n# %%\n"
TOGETHER = 40
_TEXTS = ("cells", "cells_after", "body", "body_after", "header", "header_after", "because")


def bound(cell: str) -> set[str]:
    """Return the names that a cell of Python binds, but for those that it imports unchanged."""
    tree = _parsed(cell)
    names = symtable.symtable(ast.unparse(tree), "cell", "exec").get_symbols()
    aliases = {each.asname for each in ast.walk(tree) if isinstance(each, ast.alias)}
    taken = {*imported(cell)}
    found = {each.get_name() for each in names if each.is_assigned() or each.get_name() in aliases}
    return found - taken - {"_"}


def imported(cell: str) -> dict[str, str]:
    """Return the names that a cell imports unchanged, and the modules that they are of."""
    return {
        each.name: getattr(node, "module", each.name)
        for node in ast.walk(_parsed(cell))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for each in node.names
        if each.asname in (None, each.name)
    }


def _parsed(cell: str) -> ast.Module:
    return ast.parse("" if cell.startswith("%%") else re.sub(r"(?m)^%(time |.*)", "", cell))


def notebooks(scenarios: Sequence[Scenario]) -> list[list[Scenario]]:
    """Divide scenarios over notebooks in which no two import different things by one name."""
    found: list[tuple[list[Scenario], dict[str, str]]] = []
    for number, each in enumerate(scenarios):
        if not each.together:
            continue
        needs: dict[str, str] = {}
        for cell in NEXT.join((each.cells, each.cells_after or "")).split(NEXT):
            needs |= imported(cell)
        for group, taken in found:
            alike = all(taken.get(key, module) == module for key, module in needs.items())
            if alike and len(group) < TOGETHER:
                break
        else:
            group, taken = [], {}
            found.append((group, taken))
        group.append(each.numbered(number))
        taken |= needs
    return [group for group, _ in found] + [[each] for each in scenarios if not each.together]


def apart(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Return scenarios that have a notebook each, as their cells do more than define names."""
    return [replace(each, together=False) for each in scenarios]


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


@dataclass
class Seen:
    because: str | None
    first: Told
    again: Told
    back: Told


_HELPERS = """
def _plan():
    import nbcache
    _plans.update((each.name, each.to_run) for each in nbcache.session().plan())
def _tell(root, keys):
    import nbcache, pathlib
    run, trace = nbcache.session().last_run, pathlib.Path(root, "trace")
    ran = trace.read_text().split() if trace.exists() else []
    trace.write_text("")
    for key in keys:
        process = key.partition("#")[0]
        errors = [each.error for each in run.failures if each.process == process]
        told = {
            "ran": ran.count(process),
            "run": run.id,
            "error": run.fault or "; ".join(errors),
            "planned": _plans.get(process),
            "reason": run.reasons.get(process, ""),
        }
        if not told["error"]:
            told["value"] = repr(list(run[process])[0])
        _report(root, key, told)
    _plans.clear()
def _report(root, key, told):
    import json, pathlib
    with pathlib.Path(root, "report").open("a") as out:
        out.write(json.dumps([key, told]) + "\\n")
_plans = {}
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
    groups = notebooks(scenarios)
    (first,) = _round(notebook, groups, env, (False,), hash_seed="1")
    for each in scenarios:
        notebook.write(each.files_after)
        if each.change is not None:
            each.change(notebook.folder)
    env |= {key: value for each in scenarios for key, value in each.env_after.items()}
    again, back = _round(notebook, groups, env, (True, False), hash_seed="2")
    _explain(notebook, again)
    return {
        each.process: Seen(each.because, first[name], again[name], back[name])
        for group in groups
        for each in group
        for name in [each.process]
    }


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
    groups: Sequence[Sequence[Scenario]],
    env: Mapping[str, str],
    states: Iterable[bool],
    *,
    hash_seed: str,
) -> list[dict[str, Told]]:
    """Run every scenario in each of the states (True: after its change), in one kernel."""
    states = list(states)
    cells = [("%load_ext nbcache", ""), (f"%nbcache use {notebook.root}/cache", ""), (_HELPERS, "")]
    for group in groups:
        for number, after in enumerate(states):
            some = [each for each in group if each.back] if number else group
            cells += _cells_of(notebook, some, after, number) if some else []
        cells.append(("_forget()", ""))
    notebook.report.write_text("")
    here: dict[str, str | None] = {
        key: value.replace("{folder}", str(notebook.folder)) for key, value in env.items()
    }
    # Modules are compiled as for any user: what Python keeps of them beside them may not count.
    here |= {"PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": None}
    executed = notebook.execute([text for text, _ in cells], here)
    found = [{each.process: Told() for group in groups for each in group} for _ in states]
    for line in notebook.report.read_text().splitlines():
        key, told = json.loads(line)
        process, _, number = key.partition("#")
        for name, value in told.items():
            setattr(found[int(number)][process], name, value)
    for cell, (_, key) in zip(executed, cells, strict=True):
        text, (process, _, state) = error_of(cell), key.partition("#")
        if text and process:
            found[int(state)][process].error = f"{cell.source[:80]!r}: {text}"
        elif text and not text.startswith("RunFailed"):
            raise AssertionError(f"{cell.source[:200]}: {text}")
    return found


def _cells_of(
    notebook: Notebook, group: Sequence[Scenario], after: bool, number: int
) -> list[tuple[str, str]]:
    """Return the cells of one run of some scenarios, and "process#number" of whose they are."""
    keys = {f"{each.process}#{number}": each for each in group}
    now = {key: each.after if after else each for key, each in keys.items()}
    cells = [("%channel one = of(3)", "")]
    for key, each in now.items():
        cells += [(cell, key) for cell in each.cells.split(NEXT) if cell.strip()]
        mark = notebook.mark(each.process)
        if each.is_script:
            mark = f"echo {each.process} >> {notebook.trace}"
        cells.append((f"%%process {each.process}{each.header}\n{mark}\n{each.body}", key))
    cells.append(("_plan()", ""))
    root = str(notebook.root)
    cells.append((f"try:\n    %nbcache run\nfinally:\n    _tell({root!r}, {[*keys]!r})", ""))
    judged = [(key, each.body) for key, each in now.items() if each.judged and not each.is_script]
    cells.append((f"for _key, _body in {judged!r}:\n    await _judge({root!r}, _key, _body)", ""))
    return cells


def check(scenario: Scenario, group: Mapping[str, Seen]) -> None:
    """Hold what was seen of a scenario against what it says."""
    seen, runs = group[scenario.process], int(scenario.because is not None)
    because = seen.because
    for told in (seen.first, seen.again, *([seen.back] if scenario.back else [])):
        assert not told.error, told.error
        if scenario.foreseen:
            assert told.planned == told.ran, "the plan said something else than the run did"
        assert told.expected is None or told.value == told.expected
    ran = (seen.first.ran, seen.again.ran, seen.back.ran)
    assert ran == (1, runs, 0), seen
    if because is not None:
        if not because.startswith("read "):  # reads are no components
            assert because in seen.again.differences, seen.again
        name = because.split()[-1]
        word = f"the code of {scenario.process}" if because == "code body" else name
        assert word in seen.again.why, seen.again
        if not because.startswith("input "):  # those differ from task to task
            assert word in seen.again.reason, seen.again
