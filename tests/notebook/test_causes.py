"""Thirty causes of a re-run: plan, run, `why` and `diff` name the right one, in every form.

All causes share one shell: each has a process of its own, all run, then everything is changed at
once, and all run again. Nothing but its own cause may be named as the reason of a process.
"""
# ruff: noqa: E501 - a cause is easiest to read with its cell on one line

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.identity import sources
from tests.notebook.shells import Shell, shell_in

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Cause:
    """`{p}` is the process; `said` is what the reason has to begin with."""

    name: str
    said: str
    body: str = "out = x"
    cells: str = ""
    after: str = ""
    header: str = "(x) -> out from src"
    header_after: str = ""
    body_after: str = ""
    files: dict[str, str] = field(default_factory=dict)
    files_after: dict[str, str] = field(default_factory=dict)
    change: Change | None = None
    planned: str | None = None  # where a plan can say less

    @property
    def process(self) -> str:
        return "c_" + re.sub(r"\W+", "_", self.name)


def _without_blobs(folder: Path) -> None:
    """Delete the large results: those of the cause that asks for it."""
    for each in (folder / ".nbcache" / "blobs").rglob("*/*"):
        if each.stat().st_size > 9000:
            each.unlink()


_DATA = "(x, f: path = '{}') -> out from src"


def _notebook(*codes: str) -> str:
    cells = [{"cell_type": "code", "source": c, "metadata": {}, "outputs": []} for c in codes]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


_LIST = "sorted(k for k in os.environ if k.startswith('CAUSE_L'))"

CAUSES = [
    Cause("captured number", "k1 3 → 4", "out = x * k1", "k1 = 3", "k1 = 4"),
    Cause("captured list", "k2 [1, 2] → [1, 2, 3]", "out = k2", "k2 = [1, 2]", "k2.append(3)"),
    Cause("captured table", "k3: column 'a' (int64) changed", "out = int(k3.a.sum())", "import pandas as pd\nk3 = pd.DataFrame({'a': [1, 2]})", "k3.loc[0, 'a'] = 5"),
    Cause("helper", "helper h4 changed (cell N, line 3)", "out = h4(x)", "def h4(v):\n    y = v\n    return y + 1", "def h4(v):\n    y = v\n    return y + 2"),
    Cause("helper below a helper", "helper l5 changed (cell N, line 1)", "out = h5(x)", "def l5(v): return v\ndef h5(v): return l5(v)", "def l5(v): return -v"),
    Cause("body", "the code of {p} changed (cell N, line 3)", "y = x\nout = y + 1", body_after="y = x\nout = y + 2"),
    Cause("module", "module cause_7 changed (cause_7.py, line 3)", "out = cause_7.f(x)", "import cause_7", files={"cause_7.py": "# text\ndef f(v):\n    return v + 1\n"}, files_after={"cause_7.py": "# text\ndef f(v):\n    return v + 2\n"}),
    Cause("default factory", "helper C8 changed (cell N, line 3)", "out = C8().v", "from dataclasses import dataclass, field\n@dataclass\nclass C8:\n    v: list = field(default_factory=lambda: [1])", "@dataclass\nclass C8:\n    v: list = field(default_factory=lambda: [2])"),
    Cause("function as a factory", "helper C9 changed in m9 (cell N, line 2)", "out = C9().v", "def m9():\n    return [1]\nfrom dataclasses import dataclass, field\n@dataclass\nclass C9:\n    v: list = field(default_factory=m9)", "def m9():\n    return [2]\n@dataclass\nclass C9:\n    v: list = field(default_factory=m9)"),
    Cause("method", "helper M10 changed (cell N, line 3)", "out = M10().f(x)", "class M10:\n    a = 1\n    def f(self, v): return v + 1", "class M10:\n    a = 1\n    def f(self, v): return v + 2"),
    Cause("decorator", "helper h11 changed in d11 (cell N, line 2)", "out = h11(x)", "def d11(f):\n    def g(v): return f(v) + 1\n    return g\n@d11\ndef h11(v): return v", "def d11(f):\n    def g(v): return f(v) + 2\n    return g\n@d11\ndef h11(v): return v"),
    Cause("decorator of a module", "h105 changed in d (cause_105.py, line 2)", "out = h105(x)", "from cause_105 import d\n@d\ndef h105(v): return v", files={"cause_105.py": "def d(f):\n    def g(v): return f(v) + 1\n    return g\n"}, files_after={"cause_105.py": "def d(f):\n    def g(v): return f(v) + 2\n    return g\n"}),
    Cause("helper that is timed", "helper h106 changed (cell N, line 3)", "out = h106(x)", "%%time\ndef h106(v):\n    return v + 1", "%%time\ndef h106(v):\n    return v + 2"),
    Cause("setting that is timed", "cause_107.K 2 → 3", "out = cause_107.K", "import cause_107\n# %%\n%%time\ncause_107.K = 2", "if True:\n    %time cause_107.K = 3", files={"cause_107.py": "K = 1\n"}),
    Cause("helper of a cached cell", "helper h108 changed (cell N, line 3)", "out = h108(x)", "%%cached\ndef h108(v):\n    return v + 1\ny108 = 1", "%%cached\ndef h108(v):\n    return v + 2\ny108 = 1"),
    Cause("setting of a cached cell", "cause_109.K 2 → 3", "out = cause_109.K", "import cause_109\n# %%\n%%cached\ncause_109.K = 2\ny109 = 1", "%%cached\ncause_109.K = 3\ny109 = 1", files={"cause_109.py": "K = 1\n"}),
    Cause("setting of another notebook", "cause_110.K 2 → 3", "out = cause_110.K", "import cause_110\n# %%\n%run cause_110.ipynb", "%run cause_110.ipynb", files={"cause_110.py": "K = 1\n", "cause_110.ipynb": _notebook("cause_110.K = 2")}, files_after={"cause_110.ipynb": _notebook("cause_110.K = 3")}),
    Cause("base class", "helper S101 changed in B101 (cell N, line 2)", "out = S101().f(x)", "class B101:\n    def f(self, v): return v + 1\n# %%\nclass S101(B101): pass", "class B101:\n    def f(self, v): return v + 2\nclass S101(B101): pass"),
    Cause("closure and default", "helper h102 changed in what it holds: default of f: m 3 → 4, closure of f: k 1 → 2", "out = h102(x)", "def make102(k, n):\n    def f(v, m=n): return v + k + m\n    return f\nh102 = make102(1, 3)", "h102 = make102(2, 4)"),
    Cause("captured instance", "k103: .rate 0.1 → 0.2", "out = x * k103.rate", "from dataclasses import dataclass\n@dataclass(slots=True)\nclass D103:\n    rate: float\nk103 = D103(0.1)", "k103 = D103(0.2)"),
    Cause("lambda in a dict", "f12 changed (cell N, line 1)", "out = f12['a'](x)", "f12 = {'a': lambda v: v + 1}", "f12 = {'a': lambda v: v + 2}"),
    Cause("partial", "f13 partial(a13, 1) → partial(a13, 2)", "out = f13(x)", "from functools import partial\ndef a13(a, b): return a + b\nf13 = partial(a13, 1)", "f13 = partial(a13, 2)"),
    Cause("checked call", "helper h14 changed (cell N, line 2)", "out = h14(x)", "from pydantic import validate_call\n@validate_call\ndef h14(v: int) -> int: return v + 1", "@validate_call\ndef h14(v: int) -> int: return v + 2"),
    Cause("seed", "seed 1 → 2", header="(x) -> out from src --seed 1", header_after="(x) -> out from src --seed 2"),
    Cause("declared variable", "environment variable CAUSE_D changed", header="(x) -> out from src --env CAUSE_D", cells="import os\nos.environ['CAUSE_D'] = 'a'", after="os.environ['CAUSE_D'] = 'b'"),
    Cause("variable read", "environment variable CAUSE_R that it reads changed", "import os\nout = os.environ['CAUSE_R']", "import os\nos.environ['CAUSE_R'] = 'a'", "os.environ['CAUSE_R'] = 'b'"),
    Cause("variables listed", "the list of environment variables that it reads changed", f"import os\nout = {_LIST}", "import os", "os.environ['CAUSE_L'] = 'b'"),
    Cause("file read", "file w19.txt that it reads changed", "out = (here / ('w19' + '.txt')).read_text()", "import pathlib\nhere = pathlib.Path.cwd()", files={"w19.txt": "1"}, files_after={"w19.txt": "2"}),
    Cause("file named", "file n20.txt changed", "out = (here / 'n20.txt').read_text()", "import pathlib\nhere = pathlib.Path.cwd()", files={"n20.txt": "1"}, files_after={"n20.txt": "2"}),
    Cause("input file", "file i21.txt (input f) changed", "out = f.read_text()", header=_DATA.format("i21.txt"), files={"i21.txt": "1"}, files_after={"i21.txt": "22"}),
    Cause("another mode", "file i22.txt (input f) counts by size and time, no longer by content", "out = f.read_text()", header=_DATA.format("i22.txt"), header_after=_DATA.format("i22.txt") + " --cache standard", files={"i22.txt": "1"}),
    Cause("another name for a file", "file i28.txt (input f) is seen as a.txt, no longer as i28.txt", "out = f.read_text()", header=_DATA.format("i28.txt"), header_after=_DATA.format("i28.txt") + " --stage_as a.txt", files={"i28.txt": "1"}),
    Cause("input value", "new input: no earlier task has y 8", "out = y", "%channel in23 = value(7)", "%channel in23 = value(8)", header="(x, y) -> out from src, in23"),
    Cause("input table", "input y: column 'a' (int64) changed", "out = int(y.a.sum())", "import pandas as pd\nt24 = pd.DataFrame({'a': [1, 2]})\n# %%\n%channel in24 = value(t24)", "t24 = pd.DataFrame({'a': [1, 5]})", header="(x, y) -> out from src, in24", planned="new input: no earlier task has y DataFrame 2 x 1"),
    Cause("script", "the code of {p} changed (cell N, line 3)", "a=1\nout=$((x+a))", header="(x) -> out from src --bash", body_after="a=1\nout=$((x+a+1))"),
    Cause("script beside", "file t26.sh changed", "out=$(bash t26.sh)", header="(x) -> out from src --bash", files={"t26.sh": "echo 1\n"}, files_after={"t26.sh": "echo 2\n"}),
    Cause("program", "tool cause27 changed", "out=$(cause27)", header="(x) -> out from src --bash", files={"bin/cause27": "#!/bin/sh\necho 1\n"}, files_after={"bin/cause27": "#!/bin/sh\necho 2\n"}),
    Cause("interpreter", "interpreter bash -euo pipefail → bash -e", "out=1", header="(x) -> out from src --bash", header_after="(x) -> out from src --script 'bash -e'"),
    Cause("type of an output", "the declared outputs out → out: int", header_after="(x) -> out: int from src"),
    Cause("name ignored", "k30 is gone, and --ignore k30 is new", "out = x * k30", "k30 = 3", header_after="(x) -> out from src --ignore k30"),
    Cause("lock file", "lock l31.txt changed", header="(x) -> out from src --files l31.txt", files={"l31.txt": "a"}, files_after={"l31.txt": "b"}),
    Cause("missing result", "its result out is no longer in the cache", "out = 'x' * 100_000", change=_without_blobs),
    Cause("before a script", "options before changed", "out=$A", header='(x) -> out from src --bash --before "A=1"', header_after='(x) -> out from src --bash --before "A=2"'),
]  # fmt: skip
SAME = [
    Cause("resources", "", header_after="(x) -> out from src --cpus 2"),
    Cause("comment", "", "out = x", body_after="# why not\nout = x  # yes"),
    Cause(
        "timing by hand",
        "",
        cells="s = '1'\nget_ipython().run_line_magic('time', s)\n"
        "get_ipython().run_line_magic('time', '1'); s = 2",
    ),
    Cause(
        "timing", "", "out = z5(x)", "def z5(v): return v", "%%time\n# here\ndef z5(v): return v"
    ),
    Cause(
        "helper that is not reached", "", cells="def z3(v): return v", after="def z3(v): return -v"
    ),
    Cause(
        "variable beside",
        "",
        "import os\nout = os.environ['CAUSE_S4']",
        "import os\nos.environ['CAUSE_S4'] = 'a'",
    ),
]


@dataclass
class Asked:
    """All that was said of the second run."""

    plans: dict[str, dict[str, Any]]
    plan_text: str
    plan_html: str
    reasons: dict[str, str]
    why: dict[str, tuple[str, str, dict[str, Any]]]  # text, HTML, JSON
    diff: dict[str, dict[str, Any]]
    diff_text: str
    diff_html: str


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def _declare(shell: Shell, cause: Cause, *, after: bool) -> None:
    cells = cause.after if after else cause.cells
    for each in filter(None, cells.split("\n# %%\n")):
        shell.ok(each)
    header = (cause.header_after if after else "") or cause.header
    body = (cause.body_after if after else "") or cause.body
    shell.ok(f"%%process {cause.process}{header}\n{body}")


def _pages(shell: Shell, source: str) -> tuple[str, str]:
    """Return what is shown as text, and the text of the HTML: a line for each of its blocks."""
    (shown,) = shell.ok(source).shown
    inline = re.sub(r"</?(span|b|i|a|code|strong|em|mark|small)\b[^>]*>", "", shown["text/html"])
    return shown["text/plain"], html.unescape(re.sub(r"(<[^>]+>)+", "\n", inline))


def _plain(text: str) -> str:
    """Cells have other numbers with each cause that is added."""
    return re.sub(r"cell \d+", "cell N", text)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("causes")
    before, path = dict(os.environ), list(sys.path)
    sys.path.append(str(folder))
    try:
        with shell_in(folder) as shell:
            yield _ask(shell, folder)
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(before)
        sys.modules.pop("cause_7", None)


def _ask(shell: Shell, folder: Path) -> Asked:
    every = [*CAUSES, *SAME]
    os.environ["PATH"] = f"{folder}/bin:{os.environ['PATH']}"
    for each in every:
        _write(folder, each.files)
    shell.ok("%channel src = of(3)")
    for each in every:
        _declare(shell, each, after=False)
    shell.ok("%nbcache run")
    for each in every:
        _write(folder, each.files_after)
        if each.change is not None:
            each.change(folder)
    for each in every:
        _declare(shell, each, after=True)
    plans = {each["name"]: each for each in shell.ok("%nbcache plan --json").value}
    plan_text, plan_html = _pages(shell, "%nbcache plan")
    shell.ok("%nbcache run")
    run = shell.session.last_run
    assert run is not None
    assert not run.failures
    why = {}
    for each in every:
        text, page = _pages(shell, f"%nbcache why {each.process}")
        why[each.process] = (text, page, shell.ok(f"%nbcache why {each.process} --json").value)
    diff = {each["name"]: each for each in shell.ok("%nbcache diff --json").value["processes"]}
    return Asked(
        plans, plan_text, plan_html, dict(run.reasons), why, diff, *_pages(shell, "%nbcache diff")
    )


@pytest.mark.parametrize("cause", [pytest.param(each, id=each.name) for each in CAUSES])
def test_the_reason_is_the_cause_wherever_it_is_asked_for(asked: Asked, cause: Cause) -> None:
    said = cause.said.replace("{p}", cause.process)
    text, page, data = asked.why[cause.process]

    head = _plain(text.splitlines()[0])
    assert f" ran: {said}" in head
    assert _plain(page).strip().startswith(head)
    assert _plain(data["reason"]) == head

    plan = asked.plans[cause.process]
    assert (plan["cached"], plan["to_run"]) == (0, 1)
    planned = said if cause.planned is None else cause.planned
    for reason in (plan["reason"], asked.reasons[cause.process]):
        assert _plain(reason).startswith(planned)
    assert plan["reason"] in asked.plan_text
    assert plan["reason"] in asked.plan_html

    assert asked.diff[cause.process]["ran"] == 1
    for shown in (asked.diff_text, asked.diff_html):
        assert re.search(rf"\b{cause.process}:? 1 of 1 ran", shown)


@pytest.mark.parametrize("cause", [pytest.param(each, id=each.name) for each in SAME])
def test_what_changes_no_result_runs_nothing_and_is_nobody_s_reason(
    asked: Asked, cause: Cause
) -> None:
    text, _, data = asked.why[cause.process]
    assert "was cached" in text
    assert data["outcome"] == "cached"
    assert (asked.plans[cause.process]["cached"], asked.plans[cause.process]["to_run"]) == (1, 0)
    assert cause.process not in asked.reasons


def test_an_edit_is_shown_as_a_diff_of_its_text(asked: Asked) -> None:
    for name, old, new in (
        ("c_helper", "-    return y + 1", "+    return y + 2"),
        ("c_lambda_in_a_dict", "-lambda v: v + 1", "+lambda v: v + 2"),
        ("c_function_as_a_factory", "-    return [1]", "+    return [2]"),
        ("c_module", "-    return v + 1", "+    return v + 2"),
        ("c_captured_number", "3 → 4", "3 → 4"),  # so small a value is told in one line
    ):
        for shown in (*asked.why[name][:2], asked.diff_text, asked.diff_html):
            assert old in shown
            assert new in shown


def test_json_is_plain_data(asked: Asked) -> None:
    json.dumps([asked.plans, [data for _, _, data in asked.why.values()], asked.diff])


def test_a_timed_cell_is_read_once_and_is_that_of_no_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shell_in(tmp_path) as shell:
        for each in range(3):
            shell.ok(f"%%time\ndef timed_{each}(v): return v + {each}")
        shell.ok("%time timed_3 = lambda v: v")
        shell.ok("%%process all_timed\n[f(1) for f in (timed_0, timed_1, timed_2, timed_3)]")
        shell.ok("%nbcache plan")
        shell.ok("first = timed_0")
        shell.ok("def timed_0(v): return v + 0")
        code = shell.ip.user_ns["timed_0"].__code__  # equal to that of `first`
        assert sources.file_of(code) == code.co_filename
        for name in ("_timed_by", "find_function"):
            monkeypatch.setattr(sources, name, lambda *_: pytest.fail("read again"))

        plan = shell.ok("%nbcache plan --json").value

    assert [each["to_run"] for each in plan] == [1]


def test_a_cell_that_is_no_python_hides_no_setting_of_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cause_111.py").write_text("K = 1\n")
    (tmp_path / "cause_111.ipynb").write_text(_notebook("cause_111.K = 2", "def ("))
    with shell_in(tmp_path) as shell:
        shell.ok("import cause_111")
        shell.run("%run cause_111.ipynb")
        card = shell.ok("%%process reads\ncause_111.K")

    assert "cause_111.K 2" in card.text
