"""The plain-Python twin: functions as processes, in a script without a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
from nbcache.plan.header import parse_channel_line, parse_process_cell

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
run.wait(60)
print(run.counts())
"""


def python(folder: Path, text: str) -> str:
    (folder / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_functions_are_processes_and_a_second_script_runs_nothing(tmp_path: Path) -> None:
    assert python(tmp_path, SCRIPT) == "[('completed', 5)] [21, 22, 41, 42] 42"
    assert python(tmp_path, SCRIPT) == "[('cached', 5)] [21, 22, 41, 42] 42"
    edited = SCRIPT.replace("bias = 1", "bias = 2")
    assert python(tmp_path, edited) == "[('completed', 5)] [22, 23, 42, 43] 43"


def test_a_cell_with_the_same_body_shares_the_results_of_a_function(tmp_path: Path) -> None:
    python(tmp_path, SCRIPT)
    assert python(tmp_path, NOTEBOOK) == "{'cached': 4}"
