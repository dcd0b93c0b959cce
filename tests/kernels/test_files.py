"""Files, environment and undeclared reads between two kernels: what makes a task run again."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.kernels.scenarios import Change, Scenario, Seen, check

_TOOL = "#!/bin/sh\necho {text}\n"


def _file(
    name: str,
    path: str,
    because: str | None,
    change: Change,
    *,
    options: str = "",
    path_after: str | None = None,
    files: Mapping[str, str] | None = None,
    prepare: Change | None = None,
    body: str = "out = data.read_text()",
) -> Scenario:
    """Return the scenario of a change to a file (or folder) that is an input."""
    header = "(v, data: path = {!r}) -> out from one {}"
    return Scenario(
        name=name, body=body, header=header.format(path, options),
        header_after=header.format(path_after or path, options),
        files={path: "one\n"} if files is None else files,
        prepare=prepare, change=change, because=because, judged=False,
        back=because is None and path_after is None,
    )  # fmt: skip


def _write(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def _touch(name: str) -> Change:
    return lambda folder: os.utime(folder / name, (1, 1))


def _write_with_old_times(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        old = (folder / name).stat()
        (folder / name).write_text(text)
        os.utime(folder / name, ns=(old.st_atime_ns, old.st_mtime_ns))

    return change


def _replace(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        old = (folder / name).stat()
        (folder / "new").write_text(text)
        os.utime(folder / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
        os.replace(folder / "new", folder / name)

    return change


def _link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def _rename(old: str, new: str) -> Change:
    return lambda folder: os.rename(folder / old, folder / new)


def _executable(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).chmod(0o755)

    return change


_LISTED = "out = sorted((str(p.relative_to(data)), p.read_text()) for p in data.rglob('*') if p.is_file())"


def _tree(name: str, folder: str, because: str | None, change: Change) -> Scenario:
    files = {f"{folder}/a": "1", f"{folder}/b": "2", f"{folder}/c/d": "3"}
    return _file(name, folder, because, change, files=files, body=_LISTED)


_HERE = "from pathlib import Path\nhere = Path.cwd()"


def _swap(one: str, other: str) -> Change:
    def change(folder: Path) -> None:
        first, second = (folder / one).read_text(), (folder / other).read_text()
        (folder / one).write_text(second)
        (folder / other).write_text(first)

    return change


FILES = [
    _file("touched", "f1.txt", None, _touch("f1.txt")),
    _file("written again", "f2.txt", None, _write("f2.txt", "one\n")),
    _file("other content", "f3.txt", "input data", _write("f3.txt", "two!\n")),
    _file("same size and time other content", "f4.txt", "input data", _write_with_old_times("f4.txt", "two\n")),
    _file("renamed over", "f5.txt", "input data", _replace("f5.txt", "two\n")),
    _file("renamed over by equal bytes", "f6.txt", None, _replace("f6.txt", "one\n")),
    _file("emptied", "f7.txt", "input data", _write("f7.txt", "")),
    _file("moved", "f8.txt", None, _write("there/f8.txt", "one\n"), path_after="there/f8.txt", files={"f8.txt": "one\n", "there/x": ""}),
    _file("renamed", "f9.txt", "input data", _write("f9b.txt", "one\n"), path_after="f9b.txt"),
    _file("link to another file of equal bytes", "f10.txt", None, _link("f10.txt", "f10c"), files={"f10b": "one\n", "f10c": "one\n"}, prepare=_link("f10.txt", "f10b")),
    _file("link to another file", "f11.txt", "input data", _link("f11.txt", "f11c"), files={"f11b": "one\n", "f11c": "two\n"}, prepare=_link("f11.txt", "f11b")),
    _file("file behind a link", "f12.txt", "input data", _write("f12b", "two\n"), files={"f12b": "one\n"}, prepare=_link("f12.txt", "f12b")),
    _file("odd name", "f 13 'q\" $(x).txt", "input data", _write("f 13 'q\" $(x).txt", "two\n")),
    _file("odd name untouched", "f 14 é\n.txt", None, lambda folder: None),
    _file("touched in standard mode", "f15.txt", "input data", _touch("f15.txt"), options="--cache standard"),
    _file("touched in lenient mode", "f16.txt", None, _touch("f16.txt"), options="--cache lenient"),
    _file("same size in lenient mode", "f17.txt", None, _write("f17.txt", "two\n"), options="--cache lenient"),
    _file("other size in lenient mode", "f18.txt", "input data", _write("f18.txt", "three\n"), options="--cache lenient"),
    _tree("tree untouched", "t1", None, _touch("t1/c/d")),
    _tree("tree member changed", "t2", "input data", _write("t2/c/d", "4")),
    _tree("tree member added", "t3", "input data", _write("t3/c/e", "4")),
    _tree("tree member renamed", "t4", "input data", _rename("t4/a", "t4/z")),
    _tree("tree members swapped", "t5", "input data", _swap("t5/a", "t5/b")),
    _tree("tree member executable", "t6", "input data", _executable("t6/a")),
    _tree("tree with an empty folder more", "t7", "input data", lambda folder: (folder / "t7/empty").mkdir()),
    # Undeclared reads.
    Scenario(name="watched file changed", cells=_HERE, body="out = (here / ('w1' + '.txt')).read_text()", files={"w1.txt": "1"}, files_after={"w1.txt": "2"}, because="read w1.txt", back=False),
    Scenario(name="watched file touched", cells=_HERE, body="out = (here / ('w2' + '.txt')).read_text()", files={"w2.txt": "1"}, change=_touch("w2.txt")),
    Scenario(name="watched file in a helper", cells=_HERE + "\ndef f(n): return open(here / n).read()", body="out = f('w' + '3.txt')", files={"w3.txt": "1"}, files_after={"w3.txt": "2"}, because="read w3.txt", back=False),
    Scenario(name="file named in the body", cells=_HERE, body="out = (here / 'w4.txt').read_text()", files={"w4.txt": "1"}, files_after={"w4.txt": "2"}, because="file w4.txt", back=False),
    Scenario(name="watched file that appears", cells=_HERE, body="try:\n    out = (here / ('w5' + '.txt')).read_text()\nexcept OSError:\n    out = ''", files_after={"w5.txt": "2"}, because="read w5.txt", back=False),
    Scenario(name="script called by its name", cells=_HERE, body="import subprocess, sys\nout = subprocess.run([sys.executable, str(here / 'tool6.py')], capture_output=True).stdout", files={"tool6.py": "print(1)"}, files_after={"tool6.py": "print(2)"}, because="file tool6.py", back=False),
    Scenario(name="table read by pandas", cells=_HERE, body="import pandas as pd\nout = int(pd.read_csv(here / ('w7' + '.csv')).a.sum())", files={"w7.csv": "a\n1\n"}, files_after={"w7.csv": "a\n2\n"}, because="read w7.csv", back=False),
    # Environment.
    Scenario(name="variable read", body="import os\nout = os.environ['SCENARIO_1']", env={"SCENARIO_1": "a"}, env_after={"SCENARIO_1": "b"}, because="read SCENARIO_1", back=False),
    Scenario(name="variable asked for", body="import os\nout = 'SCENARIO_2' in os.environ", env_after={"SCENARIO_2": "b"}, because="read SCENARIO_2", back=False),
    Scenario(name="variable declared", header="(v) -> out from one --env SCENARIO_3", body="import os\nout = os.environ['SCENARIO_3']", env={"SCENARIO_3": "a"}, env_after={"SCENARIO_3": "b"}, because="env SCENARIO_3", back=False),
    Scenario(name="variable that nobody reads", body="import os\nout = os.environ['SCENARIO_5']", env={"SCENARIO_4": "a", "SCENARIO_5": "a"}, env_after={"SCENARIO_4": "b"}),
    Scenario(name="variable set in a cell", cells="import os\nos.environ['SCENARIO_6'] = 'a'", cells_after="import os\nos.environ['SCENARIO_6'] = 'b'", body="import os\nout = os.environ['SCENARIO_6']", because="read SCENARIO_6", back=False),
    Scenario(name="environment handed on", body="import os, subprocess\nout = subprocess.run(['echo', 'x'], env={**os.environ, 'A': '1'}, capture_output=True).stdout"),
    Scenario(name="environment copied", body="import os\nenv = os.environ.copy()\nout = len(env) > 1"),
    Scenario(name="time zone asked for in a helper", cells="import time\ndef hour(v): return time.localtime(v).tm_hour", body="out = hour(v)", env={"TZ": "UTC"}, env_after={"TZ": "Asia/Tokyo"}, because="env time zone", back=False),
    Scenario(name="seed", header="(v) -> out from one --seed 1", header_after="(v) -> out from one --seed 2", body="import random\nout = random.random()", because="seed seed", judged=False),
    Scenario(name="same seed", header="(v) -> out from one --seed 1", header_after="(v) -> out from one --seed 1 --cpus 1", body="import random\nout = random.random()", judged=False),
    # Scripts.
    Scenario(name="tool replaced", header='(v) -> out: path = "o.txt" from one --bash', body="mytool1 > o.txt", env={"PATH": "{folder}/bin:" + os.environ["PATH"]}, files={"bin/mytool1": _TOOL.format(text=1)}, files_after={"bin/mytool1": _TOOL.format(text=2)}, prepare=_executable("bin/mytool1"), because="tool mytool1", back=False),
    Scenario(name="tool of another process replaced", header='(v) -> out: path = "o.txt" from one --bash', body="mytool2 > o.txt", files={"bin/mytool2": _TOOL.format(text=1)}, prepare=_executable("bin/mytool2")),
    Scenario(name="tool touched", header='(v) -> out: path = "o.txt" from one --bash', body="mytool3 > o.txt", files={"bin/mytool3": _TOOL.format(text=1)}, prepare=_executable("bin/mytool3"), change=_touch("bin/mytool3")),
    Scenario(name="script edited", header='(v) -> out: path = "o.txt" from one --bash', body="echo 1 > o.txt", body_after="echo 2 > o.txt", because="code body"),
    Scenario(name="script's cpus", header='(v) -> out: path = "o.txt" from one --bash --cpus 1', header_after='(v) -> out: path = "o.txt" from one --bash --cpus 2', body="echo $cpus > o.txt"),
    Scenario(name="output's pattern", header='(v) -> out: path = "o*.txt" from one --bash', header_after='(v) -> out: path = "o?.txt" from one --bash', body="echo 1 > o1.txt", because="outputs outputs"),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in FILES])
def test_files_and_environment_count_by_what_a_body_sees_of_them(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(FILES))
