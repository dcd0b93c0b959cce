"""Undeclared reads of every kind: noted, checked at later look-ups, and told when they changed."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from tests.kernels.scenarios import Change, Scenario, Seen, check

_HERE = "from pathlib import Path\nhere = Path.cwd()"
_TOOL = "#!/bin/sh\necho {}\n"


def _read(
    name: str, body: str, path: str, *, cells: str = _HERE, before: str = "1", after: str = "2"
) -> Scenario:
    return Scenario(
        name=name, cells=cells, body=body, files={path: before}, files_after={path: after},
        because=f"read {path}",
    )  # fmt: skip


def _array(path: str, value: int) -> Change:
    return lambda folder: numpy.save(folder / path, numpy.array([value]))


def _database(path: str, value: int) -> Change:
    def change(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        connection = sqlite3.connect(folder / path)
        connection.execute("create table t (a)")
        connection.execute("insert into t values (?)", (value,))
        connection.commit()
        connection.close()

    return change


def _program(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(_TOOL.format(text))
        (folder / "bin" / name).chmod(0o755)

    return change


_PATH = {"PATH": "{folder}/bin:" + os.environ["PATH"]}

READS = [
    _read("os open", "import os\nfd = os.open(str(here / ('r1' + '.txt')), os.O_RDONLY)\nout = os.read(fd, 10)\nos.close(fd)", "r1.txt"),
    _read("io open code", "import io\nout = io.open_code(str(here / ('r2' + '.txt'))).read()", "r2.txt"),
    _read("json load", "import json\nout = json.load(open(here / ('r3' + '.json')))", "r3.json"),
    _read("configparser", "import configparser\nc = configparser.ConfigParser()\nc.read(here / ('r4' + '.ini'))\nout = c['a']['b']", "r4.ini", before="[a]\nb=1", after="[a]\nb=2"),
    _read("fileinput", "import fileinput\nout = list(fileinput.input([str(here / ('r5' + '.txt'))]))", "r5.txt"),
    _read("linecache", "import linecache\nout = linecache.getline(str(here / ('r6' + '.txt')), 1)", "r6.txt"),
    _read("mmap", "import mmap\nwith open(here / ('r7' + '.txt'), 'r+b') as f:\n    m = mmap.mmap(f.fileno(), 0)\n    out = m[:1]", "r7.txt"),
    _read("subprocess cat", "import subprocess\nout = subprocess.run(['cat', str(here / ('r12' + '.txt'))], capture_output=True).stdout", "r12.txt"),
    _read("multiprocessing", "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing as mp\nwith ProcessPoolExecutor(1, mp_context=mp.get_context('fork')) as p:\n    out = p.submit((here / ('r13' + '.txt')).read_text).result()", "r13.txt"),
    _read("captured path polars", "import polars as pl\nout = pl.read_csv(DATA).shape", "r14.csv", cells="from pathlib import Path\nDATA = Path.cwd() / 'r14.csv'", before="a\n1\n", after="a\n1\n2\n"),
    _read("captured path pyarrow", "import pyarrow.csv as c\nout = c.read_csv(str(DATA)).num_rows", "r15.csv", cells="from pathlib import Path\nDATA = Path.cwd() / 'r15.csv'", before="a\n1\n", after="a\n1\n2\n"),
    _read("captured path in a dict", "import polars as pl\nout = pl.read_csv(CFG['data']).shape", "r16.csv", cells="from pathlib import Path\nCFG = {'data': str(Path.cwd() / 'r16.csv')}", before="a\n1\n", after="a\n1\n2\n"),
    _read("duckdb file", "import duckdb\nout = duckdb.sql(f\"select count(*) from '{DATA}'\").fetchall()", "r17.csv", cells="from pathlib import Path\nDATA = Path.cwd() / 'r17.csv'", before="a\n1\n", after="a\n1\n2\n"),
    Scenario(name="numpy load", cells=_HERE, body="import numpy as np\nout = int(np.load(here / ('r18' + '.npy'))[0])", prepare=_array("r18.npy", 1), change=_array("r18.npy", 2), because="read r18.npy", back=False),
    Scenario(name="numpy memmap", cells=_HERE, body="import numpy as np\nout = int(np.load(here / ('r19' + '.npy'), mmap_mode='r')[0])", prepare=_array("r19.npy", 1), change=_array("r19.npy", 2), because="read r19.npy", back=False),
    Scenario(name="sqlite", cells=_HERE, body="import sqlite3\nout = sqlite3.connect(here / ('r20' + '.db')).execute('select a from t').fetchall()", prepare=_database("r20.db", 1), change=_database("r20.db", 2), because="read r20.db", back=False),
    Scenario(name="folder listing", cells=_HERE, body="import os\nout = sorted(p.name for p in (here / 'dir21').iterdir())", files={"dir21/a": "1"}, files_after={"dir21/b": "1"}, because="read dir21", back=False),
    Scenario(name="glob", cells=_HERE, body="out = sorted(p.name for p in (here / 'dir22').glob('*.txt'))", files={"dir22/a.txt": "1"}, files_after={"dir22/b.txt": "1"}, because="read dir22", back=False),
    Scenario(name="getenv", body="import os\nout = os.getenv('SCEN_A')", env={"SCEN_A": "a"}, env_after={"SCEN_A": "b"}, because="read SCEN_A", back=False),
    Scenario(name="environ get default", body="import os\nout = os.environ.get('SCEN_B', 'x')", env_after={"SCEN_B": "b"}, because="read SCEN_B", back=False),
    Scenario(name="expandvars", body="import os\nout = os.path.expandvars('$SCEN_C')", env={"SCEN_C": "a"}, env_after={"SCEN_C": "b"}, because="read SCEN_C", back=False),
    Scenario(name="environ bytes", body="import os\nout = os.environb.get(b'SCEN_D')", env={"SCEN_D": "a"}, env_after={"SCEN_D": "b"}, because="read SCEN_D", back=False),
    Scenario(name="environ in a helper", cells="import os\ndef f(): return os.environ['SCEN_E']", body="out = f()", env={"SCEN_E": "a"}, env_after={"SCEN_E": "b"}, because="read SCEN_E", back=False),
    Scenario(name="program of a subprocess", body="import subprocess\nout = subprocess.run(['prog31'], capture_output=True).stdout", prepare=_program("prog31", "1"), change=_program("prog31", "2"), env=_PATH, because="read prog31", back=False),
    Scenario(name="program of a shell", body="import subprocess\nout = subprocess.run('echo a | prog32', shell=True, capture_output=True).stdout", prepare=_program("prog32", "1"), change=_program("prog32", "2"), env=_PATH, because="read prog32", back=False),
    Scenario(name="program of os system", body="import os\nos.system('prog33 > o')\nout = open('o').read()", prepare=_program("prog33", "1"), change=_program("prog33", "2"), env=_PATH, because="read prog33", back=False, judged=False),
    Scenario(name="file named by an input", header="(v, name) -> out from one, names34", cells="from pathlib import Path\nimport nbcache\nnames34 = nbcache.channel.value(str(Path.cwd() / 'n34.csv'))", body="import polars as pl\nout = pl.read_csv(name).shape", files={"n34.csv": "a\n1\n"}, files_after={"n34.csv": "a\n1\n2\n"}, because="read n34.csv", back=False, judged=False),
    Scenario(name="file that appears", cells=_HERE, body="p = here / ('e36' + '.txt')\nout = p.read_text() if p.is_file() else 'none'", files_after={"e36.txt": "1"}, because="read e36.txt", back=False),
    Scenario(name="content of a file that is only asked for", cells=_HERE, body="import os\nout = os.path.exists(here / ('e37' + '.txt'))", files={"e37.txt": "1"}, files_after={"e37.txt": "2"}),
    _read("path that polars opens", "import polars as pl\nout = pl.read_csv(here / ('r38' + '.csv')).shape", "r38.csv", before="a\n1\n", after="a\n1\n2\n"),
    _read("name below the folder of a command", "import subprocess\nout = subprocess.run(['cat', 'r39' + '.txt'], cwd=here, capture_output=True).stdout", "r39.txt"),
    Scenario(name="variable of a command", body="import subprocess\nout = subprocess.run('echo $SCEN_F', shell=True, capture_output=True).stdout", env={"SCEN_F": "a"}, env_after={"SCEN_F": "b"}, because="read SCEN_F", back=False),
    Scenario(name="file that the task writes and reads", cells=_HERE, body="p = here / ('w' + '40.txt')\np.write_text('x')\nout = p.read_text()", files_after={"w40.txt": "0"}, judged=False),
    Scenario(name="what the system says of a process", body="out = open('/proc/self/status').read(4)" if sys.platform == "linux" else "out = 1"),
    Scenario(name="file that the task writes", cells="from pathlib import Path\nOUT = Path.cwd() / ('w' + '35.txt')", body="OUT.write_text(str(v))\nout = v", files={"w35.txt": "0"}),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in READS])
def test_what_a_body_reads_unasked_counts(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(READS))
