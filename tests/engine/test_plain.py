"""The plain-Python twin: functions as processes, in a script without a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nbcache.engine.session import current_session, set_current_session
from tests.waiting import PATIENCE_S

SCRIPT = """
import nbcache
from nbcache import channel, process, run

grid = channel.product(depth=[2, 4], rep=range(2))
bias = 1

def shifted(number):
    return number + bias

@process(from_=grid)
def fit(depth, rep):
    '''A docstring does not count.'''
    # nor does a remark
    score = shifted(depth * 10 + rep)
    return score

@process(from_="fit.collect()", outputs="best")
def top(score):
    if not score:
        return None
    return max(score)

if __name__ == "__main__":
    nbcache.session().use("cache")
    done = run(show=False)
    print(sorted(done.counts().items()), list(fit), top.value)
"""

NOTEBOOK = """
from pathlib import Path
from nbcache.engine.session import Session
from nbcache.plan.language.header import parse_channel_line, parse_process_cell

bias = 1

def shifted(number):
    return number + bias

session = Session(globals(), Path.cwd())
session.use("cache")
session.declare_channel(parse_channel_line("grid = product(depth=[2, 4], rep=range(2))"))
session.declare(
    parse_process_cell("fit(depth, rep) -> score from grid",
                       "# another remark\\nscore = shifted(depth * 10 + rep)\\nscore\\n")
)
run = session.start()
run.wait(240)
print(run.counts())
"""


def python(folder: Path, text: str) -> str:
    (folder / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_functions_are_processes_and_a_second_script_runs_nothing(tmp_path: Path) -> None:
    assert python(tmp_path, SCRIPT) == "[('completed', 5)] [21, 22, 41, 42] 42"
    assert python(tmp_path, SCRIPT) == "[('cached', 5)] [21, 22, 41, 42] 42"
    edited = SCRIPT.replace("bias = 1", "bias = 2")
    assert python(tmp_path, edited) == "[('completed', 5)] [22, 23, 42, 43] 43"


def test_each_main_module_has_a_session_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [ModuleType("__main__"), ModuleType("__main__")]  # as marimo has one for each page
    set_current_session(None)
    sessions = []

    for page in (pages[0], pages[1], pages[0]):
        monkeypatch.setitem(sys.modules, "__main__", page)
        sessions.append(current_session())

    assert sessions[0].namespace is pages[0].__dict__
    assert sessions[1].namespace is pages[1].__dict__
    assert sessions[2] is sessions[0]


def test_a_cell_with_the_same_body_shares_the_results_of_a_function(tmp_path: Path) -> None:
    python(tmp_path, SCRIPT)
    assert python(tmp_path, NOTEBOOK) == "{'cached': 4}"


ODD = """
import pathlib, sys
import nbcache
from nbcache.errors import DeclarationError, RunFailed
from nbcache import channel, process

v = channel.of(1, 2)
kept = []

@process(from_=v, outputs=["a", "b"])
def two(v):
    return v, v * 2

@process(from_=v, outputs=["c", "d"])
async def two_later(v):
    if v == 1:
        return 0, 0
    return v, (v * 3)

@process(from_=v, outputs="f: path = 'o_{v}.txt', n: int")
def named(v):
    n = v
    pathlib.Path(f"o_{v}.txt").write_text("x")

@process(from_=v, outputs="text: path")
def file(v):
    pathlib.Path("text").write_text(str(v))

@process(from_=v)
def nothing(v):
    print(v)  # a function returns what it says, not its last line

@process(from_=channel.of(0))
def inverse(v):

    w = 1 / v  # HERE
    return w

@process(from_=v)
def lists(v):
    return kept + [v]

if __name__ == "__main__":
    nbcache.session().use("cache")
    print([tuple(each) for each in two], [tuple(each) for each in two_later])
    print([(each.f.name, each.n) for each in named], [each.read_text() for each in file])
    print(list(nothing))
    try:
        inverse.value
    except RunFailed as error:
        print(str(error).split("\\n")[1])
    try:
        @process(from_=v)
        def changes(v):

            kept.append(v)
    except DeclarationError as error:
        print(error)
"""


def test_functions_return_what_they_say_and_errors_point_into_their_file(tmp_path: Path) -> None:
    said = python(tmp_path, ODD).split("\n")

    assert said[0] == "[(1, 2), (2, 4)] [(0, 0), (2, 6)]"
    assert said[1] == "[('o_1.txt', 1), ('o_2.txt', 2)] ['1', '2']"
    assert said[2] == "[None, None]"
    lines = ODD.split("\n")
    here = 1 + next(at for at, line in enumerate(lines) if "HERE" in line)
    assert said[3].startswith(f"  script.py line {here}: w = 1 / v")
    appended = 1 + next(at for at, line in enumerate(lines) if "kept.append" in line)
    assert said[4].startswith(f"line {appended}: `kept.append(...)` would change a copy")
    assert said[5].index("kept") == said[6].index("^")
