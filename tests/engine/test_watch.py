"""Reads that a body did not declare: seen, named, digested; and what does not count."""

from __future__ import annotations

import importlib
import os
import py_compile
import shutil
import sys
import zipfile
import zipimport
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader, SourceFileLoader, SourcelessFileLoader
from pathlib import Path

import pytest
from xxhash import _xxhash  # type: ignore[attr-defined]

from nbcache.engine.executors.local import LocalExecutor
from nbcache.engine.identity.patches import PATCHES, Patch
from nbcache.engine.identity.read_state import ReadState
from nbcache.engine.spec import ModuleSource
from nbcache.engine.work import module_state
from nbcache.engine.work.openings import Openings
from nbcache.engine.work.watch import Watcher
from nbcache.model.digest import identity_digest
from nbcache.model.process import Input, Output
from nbcache.model.row import WatchedRead
from nbcache.store.filestate import FileTable
from tests.engine.attempts import PATH, Bench, file_input


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("watch") / "cache"
    bench = Bench(root, lambda root: LocalExecutor(root, workers=1))
    yield bench
    bench.close()


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    folder = tmp_path / "notebook"
    folder.mkdir()
    return folder


def reads(bench: Bench, body: str, notebook: Path, **more: object) -> tuple[WatchedRead, ...]:
    report = bench.run(bench.process(body, [], folder=str(notebook), **more))
    assert report.outcome == "completed", report.traceback
    assert report.row is not None
    assert report.row.watched == report.watched
    return report.watched


def test_a_file_that_was_read_is_recorded_with_its_digest(bench: Bench, notebook: Path) -> None:
    path = notebook / "x.csv"
    path.write_text("1,2")
    for body in (
        f"open({str(path)!r}).read()",
        f"import os\nos.close(os.open({str(path)!r}, os.O_RDONLY))",
        f"from pathlib import Path\nPath({str(path)!r}).read_bytes()",
        f"import pandas\npandas.read_csv({str(path)!r})",
        f"import os\nos.chdir({str(notebook)!r})\nopen('x.csv').read()",
        f"import os\nf = os.open({str(notebook)!r}, 0)\nos.open('x.csv', 0, dir_fd=f)",
        f"import filecmp\nfilecmp.cmp({str(path)!r}, '/dev/null')",
    ):
        found = reads(bench, body, notebook)
        assert found == (WatchedRead("file", "x.csv", identity_digest(b"1,2")),), body


def test_a_file_beside_the_notebook_that_is_not_there_is_recorded_too(
    bench: Bench, notebook: Path
) -> None:
    path = notebook / "settings.toml"
    body = f"try:\n    open({str(path)!r})\nexcept FileNotFoundError:\n    pass"

    assert reads(bench, body, notebook) == (WatchedRead("file", "settings.toml", None),)


def test_what_is_written_is_not_read(bench: Bench, notebook: Path) -> None:
    path = str(notebook / "log")
    for body in (
        f"open({path!r}, 'w').write('x')",
        f"open({path!r}, 'w').write('x')\nopen({path!r}).read()",
        f"import os\nopen('n', 'w')\nos.replace('n', {path!r})\nopen({path!r}).read()",
        f"with open({path!r}, 'w+') as file:\n    file.write('x')\n    file.read()",
        f"import os, pandas\np = {path!r} + '.csv'\nif os.path.exists(p): os.unlink(p)\n"
        "pandas.DataFrame({'a': [1]}).to_csv(p)\npandas.read_csv(p)",
    ):
        assert reads(bench, body, notebook) == (), body


def test_a_question_whether_a_file_is_there_is_recorded_and_not_its_content(
    bench: Bench, notebook: Path
) -> None:
    there = notebook / "there.txt"
    there.write_text("1")
    for question in (
        "os.path.exists(p)",
        "os.path.isfile(p)",
        "Path(p).exists()",
        "Path(p).is_file()",
        "os.access(p, os.R_OK)",
        "import glob; glob.glob(p)",
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "with Pool(1) as pool: list(pool.map(os.path.exists, [p]))",
    ):
        for path in (there, notebook / "gone.txt"):
            body = f"import os\nfrom pathlib import Path\np = {str(path)!r}\n{question}"
            (found,) = reads(bench, body, notebook)
            assert (found.kind, found.name) == ("exists", path.name), body
            assert (found.digest is not None) == (path == there), body
    state = ReadState(bench.cache.files, notebook)
    there.write_text("2")
    (notebook / "gone.txt").write_text("1")

    assert state.holds(found) is False
    assert state.digest("exists", "there.txt") is not None


def test_where_a_library_looked_for_a_file_in_vain_is_recorded_beside_the_notebook(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "theirs").mkdir()
    (notebook / "theirs" / "page.txt").write_text("hello")
    body = (
        f"import jinja2\nfolders = [{str(notebook)!r} + '/own', {str(notebook)!r} + '/theirs']\n"
        "jinja2.Environment(loader=jinja2.FileSystemLoader(folders)).get_template('page.txt')"
    )

    found = reads(bench, body, notebook)

    assert [(each.kind, each.name, each.digest is None) for each in found] == [
        ("exists", "own/page.txt", True),
        ("file", "theirs/page.txt", False),
    ]


def test_the_size_of_a_file_is_read_with_its_content(bench: Bench, notebook: Path) -> None:
    path = notebook / "x.csv"
    path.write_text("1,2")
    for question in ("os.path.getsize(p)", "os.stat(p).st_size", "Path(p).stat().st_size"):
        body = f"import os\nfrom pathlib import Path\np = {str(path)!r}\n{question}"
        found = reads(bench, body, notebook)
        assert found == (WatchedRead("file", "x.csv", identity_digest(b"1,2")),), body


def test_where_a_link_leads_to_is_read_by_who_asks_for_it(bench: Bench, notebook: Path) -> None:
    (notebook / "one.txt").write_text("1")
    (notebook / "link").symlink_to("one.txt")
    read = WatchedRead("link", "link", identity_digest(b"one.txt"))
    for question in ("os.readlink(p)", "os.path.realpath(p)", "Path(p).resolve()"):
        body = f"import os\nfrom pathlib import Path\np = {str(notebook / 'link')!r}\n{question}"
        assert read in reads(bench, body, notebook), body
    (notebook / "far").symlink_to("link")
    body = f"import os\nos.path.samefile({str(notebook / 'far')!r}, {str(notebook / 'one.txt')!r})"
    assert read in reads(bench, body, notebook), "what is the same file depends on links"
    state = ReadState(bench.cache.files, notebook)
    assert state.holds(read)
    (notebook / "link").unlink()
    assert not state.holds(read)


def test_the_sizes_that_a_listing_gives_are_read(bench: Bench, notebook: Path) -> None:
    (notebook / "x.csv").write_text("1,2")
    listing = f"os.scandir({str(notebook)!r})"
    for body in (
        f"import os\nsum(each.stat().st_size for each in {listing})",
        f"import os\ndef names(): return list({listing})\n[each.stat() for each in names()]",
        f"import os\ndef names(): return list({listing})\n"
        "def size(each): return each.stat()\nlist(map(size, names()))",
        f"import os\nclass W:\n    def size(self, each): return each.stat()\n"
        f"def walk(): return list(map(W().size, {listing}))\nwalk()",
    ):
        found = {(each.kind, each.name) for each in reads(bench, body, notebook)}

        assert found == {("folder", "."), ("file", "x.csv")}, body


def test_a_database_that_is_opened_by_its_uri_is_read(bench: Bench, notebook: Path) -> None:
    (notebook / "x y.db").touch()
    body = f"import sqlite3\nsqlite3.connect('file:{notebook}/x%20y.db?mode=ro', uri=True)"

    assert [each.name for each in reads(bench, body, notebook)] == ["x y.db"]


def test_files_and_variables_that_a_command_names_are_read(bench: Bench, notebook: Path) -> None:
    (notebook / "x.csv").write_text("1,2")
    for command in (
        f"run(['cat', 'x.csv'], cwd={str(notebook)!r})",
        f"run('cat < x.csv', shell=True, cwd={str(notebook)!r})",
        f"run('cd {notebook} && cat x.csv', shell=True)",
        f"os.chdir({str(notebook)!r})\nos.system('cat x.csv')",
        f"os.chdir({str(notebook)!r})\n"
        "os.waitpid(os.posix_spawnp('cat', ['cat', 'x.csv'], os.environ), 0)",
        f"run('cat $F', shell=True, env={{'F': {str(notebook / 'x.csv')!r}}})",
    ):
        body = f"import os\nfrom subprocess import run\n{command}"
        found = {each.name for each in reads(bench, body, notebook) if each.kind == "file"}
        assert found == {"x.csv"}, body
    for command, names in (
        ("run('A=1; echo $A ${LEVEL}', shell=True)", {"LEVEL"}),
        ("os.system('echo $LEVEL')", {"LEVEL"}),
        ("run('echo $LEVEL', shell=True, env={'LEVEL': '1'})", set()),
    ):
        body = f"import os\nfrom subprocess import run\n{command}"
        found = {each.name for each in reads(bench, body, notebook) if each.kind == "env"}
        assert found == names, body


def test_a_program_is_read_where_it_lies_unless_the_body_made_it(
    bench: Bench, notebook: Path
) -> None:
    program = "#!/bin/sh\necho 1\n"
    (notebook / "tool").write_text(program)
    (notebook / "tool").chmod(0o755)
    own = f"import os\nfrom subprocess import run\nopen('own', 'w').write({program!r})\n"
    own += "os.chmod('own', 0o755)\n"
    read = WatchedRead("file", "tool", identity_digest(program.encode()))
    for command, found in (
        ("run(['./own'], check=True)", ()),
        ("run([os.path.abspath('own')], check=True)", ()),
        ("run('./own && $PWD/own', shell=True, check=True)", ()),
        (f"run([{str(notebook)!r} + '/tool'], check=True)", (read,)),
        (f"run(['./tool'], cwd={str(notebook)!r}, check=True)", (read,)),
        (f"run('cd {notebook} && ./tool', shell=True, check=True)", (read,)),
    ):
        seen = [each for each in reads(bench, own + command, notebook) if each.kind != "env"]
        assert tuple(seen) == found, command


def test_a_path_that_a_library_opens_by_itself_is_read(bench: Bench, notebook: Path) -> None:
    (notebook / "x.csv").write_text("1,2")
    place = f"from pathlib import Path\np = Path({str(notebook)!r}) / ('x' + '.csv')\n"

    read = WatchedRead("file", "x.csv", identity_digest(b"1,2"))
    for name in ("p", "str(p)"):
        assert reads(bench, f"{place}import polars\npolars.read_csv({name})", notebook) == (read,)
    listed = reads(bench, f"{place}import polars\npolars.read_csv(f'{{p.parent}}/*v')", notebook)
    printed = reads(bench, f"{place}print(p, str(p), p.name)", notebook)

    assert [each.kind for each in listed] == ["file", "folder"]
    assert printed == ()


@pytest.mark.skipif(Openings.begin() is None, reason="the system does not tell of openings")
def test_what_is_opened_past_python_is_read(bench: Bench, notebook: Path) -> None:
    (notebook / "x.csv").write_text("1,2")
    place = f"from pathlib import Path\nhere = Path({str(notebook)!r})\np = f'{{here}}/x.csv'\n"
    read = WatchedRead("file", "x.csv", identity_digest(b"1,2"))

    for body in (
        "import duckdb\nduckdb.sql(f\"from '{p}'\").fetchall()",
        "import pyarrow\npyarrow.memory_map(p).read()",
        "import ctypes\nlibrary = ctypes.CDLL(None)\nlibrary.close(library.open(p.encode(), 0))",
        "import os\nos.symlink(p, 'link')\nopen('link').read()",
    ):
        assert reads(bench, place + body, notebook) == (read,), body
    searched = (
        "import sys\nsys.path.insert(0, str(here))\nimport colorsys\n"  # lists the folder, too
    )
    for before in ("", searched):
        body = f"{place}{before}import duckdb\nduckdb.sql(f\"from '{{here}}/*.csv'\")"
        listed = reads(bench, body, notebook)
        assert [(each.kind, each.name) for each in listed] == [("file", "x.csv"), ("folder", ".")]
    assert reads(bench, place + searched, notebook) == ()


@pytest.mark.skipif(Openings.begin() is None, reason="the system does not tell of openings")
def test_what_is_spelled_is_read_where_the_body_closed_what_tells_of_openings(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "x.csv").write_text("1,2")
    body = (
        "import os, polars\nfrom pathlib import Path\n"
        "for each in os.listdir('/proc/self/fd'):\n"
        "    place = f'/proc/self/fd/{each}'\n"
        "    if os.path.lexists(place) and 'fanotify' in os.readlink(place):\n"
        "        os.dup2(os.eventfd(0), int(each))\n"
        f"polars.read_csv(str(Path({str(notebook)!r}) / ('x' + '.csv')))"
    )

    for _ in range(2):
        assert [each.name for each in reads(bench, body, notebook)] == ["x.csv"]


@pytest.mark.skipif(Openings.begin() is None, reason="the system does not tell of openings")
def test_all_folders_are_looked_at_but_for_those_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "kept" / "below").mkdir(parents=True)
    (tmp_path / "gone").mkdir()
    (tmp_path / "wide").mkdir()
    openings = Openings.begin()
    assert openings is not None

    def passed(folder: str) -> bool:
        if folder.endswith("/gone/"):
            os.rmdir(folder)
        return folder.endswith("/wide/")

    openings.look_below(str(tmp_path), passed)
    openings.forget()
    (tmp_path / "kept" / "below" / "x").touch()
    assert str(tmp_path / "kept" / "below" / "x") in {each.path for each in openings.take()}
    assert openings.is_whole

    for number in range(1001):
        (tmp_path / "wide" / str(number)).mkdir()
    for _ in range(2):  # also when it is asked for again
        openings.begin_anew()
        assert openings.is_whole
        openings.look_below(str(tmp_path / "wide"), passed)
        openings.forget()
        assert not openings.is_whole
        assert openings.overlooked == {str(tmp_path / "wide")}
    for number in range(1001):
        (tmp_path / "wide" / str(number) / "x").touch()
    assert len({each.path for each in openings.take() if each.path.endswith("/x")}) == 999


@pytest.mark.skipif(Openings.begin() is None, reason="the system does not tell of openings")
def test_what_is_only_spelled_or_written_past_python_is_not_read(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "x.csv").write_text("1,2")
    body = (
        f"import fsspec.utils, pyarrow, sqlite3\nfrom pathlib import Path\n"
        f"here = Path({str(notebook)!r})\nfsspec.utils.stringify_path(here / ('x' + '.csv'))\n"
        "with pyarrow.OSFile(f'{here}/made', 'w') as file:\n    file.write(b'1')\n"
        "pyarrow.OSFile(f'{here}/made').read()\n"
        "base = sqlite3.connect(f'{here}/base')\nbase.execute('create table t (a)')\nbase.close()"
    )

    assert reads(bench, body, notebook) == ()


def test_what_the_task_makes_or_others_ask_for_is_no_question_of_the_body(
    bench: Bench, notebook: Path
) -> None:
    folder = notebook / "made"
    body = (
        "import os, shutil, inspect, logging\nfrom pathlib import Path\n"
        f"folder = Path({str(folder)!r})\nfolder.mkdir(exist_ok=True)\nfolder.resolve()\n"
        "path = folder / 'log'\nif not path.exists():\n    path.write_text('x')\n"
        "assert path.exists()\nassert path.stat().st_size == 1\nPath('own').exists()\n"
        "os.makedirs(folder / 'a' / 'b', exist_ok=True)\nshutil.rmtree(folder)"
    )

    assert reads(bench, body, notebook) == ()


def test_packages_temporary_files_and_own_files_do_not_count(bench: Bench, notebook: Path) -> None:
    body = (
        "import json, tempfile, os, zoneinfo, pandas\n"
        "open(json.__file__).read()\n"
        "with tempfile.NamedTemporaryFile() as f:\n    open(f.name).read()\n"
        "open('/proc/self/status').read()\n"
        "open('own.txt', 'w').write('x')\nopen('own.txt').read()\n"
        "zoneinfo.ZoneInfo('UTC')\n"
        "try:\n    open('not-there')\nexcept FileNotFoundError:\n    pass"
    )

    assert reads(bench, body, notebook) == ()


def test_plotting_reads_nothing_that_counts(bench: Bench, notebook: Path) -> None:
    body = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.savefig('out.png')"

    assert reads(bench, body, notebook) == ()


def test_looking_for_installed_packages_reads_no_folder(bench: Bench, notebook: Path) -> None:
    info = notebook / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[here]\nmine = mine:main\n")
    body = (
        f"import importlib.metadata, pkgutil, sys\nsys.path.append({str(notebook)!r})\n"
        "assert importlib.metadata.version('mine') == '1'\n"
        "assert importlib.metadata.entry_points(group='here')\n"
        "list(pkgutil.iter_modules())"
    )

    assert reads(bench, body, notebook) == ()


def test_what_a_thread_of_nbcache_reads_is_no_read_of_the_body(
    bench: Bench, notebook: Path
) -> None:
    for name in ("mine.csv", "engines.csv"):
        (notebook / name).write_text("1")
    body = (
        f"import os, threading\nos.chdir({str(notebook)!r})\n"
        "def read(name):\n    open(name).read()\n    os.environ.get('NO' + name[:3])\n"
        "for thread, name in (('pool-1', 'mine.csv'), ('nbcache-hashing_0', 'engines.csv')):\n"
        "    one = threading.Thread(target=read, args=(name,), name=thread)\n"
        "    one.start()\n    one.join()"
    )

    assert {os.path.basename(each.name) for each in reads(bench, body, notebook)} == {
        "mine.csv",
        "NOmin",
    }


def test_a_declared_input_does_not_count(bench: Bench, notebook: Path) -> None:
    path = notebook / "x.csv"
    path.write_text("1,2")
    process = bench.process("y = x.read_text()", folder=str(notebook), inputs=(Input("x", PATH),))
    report = bench.run(process, {"x": file_input(path)})

    assert bench.decoded(report.outputs["y"]) == "1,2"
    assert report.watched == ()


def test_variables_are_recorded_with_their_values_digest(bench: Bench, notebook: Path) -> None:
    body = (
        "import os\nos.environ['MODE']\nos.getenv('LIMIT')\nos.environ.get('DECLARED')\n"
        "import os, string, threading\nassert 'PRESENT' in os.environ\n"
        "string.Template('$TEXT').substitute(os.environ)\n"
        "t = threading.Thread(target=os.getenv, args=['THREAD'])\nt.start(); t.join()"
    )
    environ = {**os.environ, "MODE": "fast", "PRESENT": "1", "TEXT": "2"}
    found = reads(bench, body, notebook, environ=environ, env={"DECLARED": "x"})

    assert found == (
        WatchedRead("env", "LIMIT", None),
        WatchedRead("env", "MODE", identity_digest(b"fast")),
        WatchedRead("env", "PRESENT", identity_digest(b"1")),
        WatchedRead("env", "TEXT", identity_digest(b"2")),
        WatchedRead("env", "THREAD", None),
    )


def test_a_program_that_the_body_looks_for_counts_but_not_where_it_looks(
    bench: Bench, notebook: Path
) -> None:
    found = reads(bench, "import shutil\nshutil.which('ls')\nshutil.which('nb-none')", notebook)
    assert [(each.kind, each.name, each.digest is None) for each in found] == [
        ("tool", "ls", False),
        ("tool", "nb-none", True),
    ]


def test_a_variable_that_the_body_sets_itself_is_no_read(bench: Bench, notebook: Path) -> None:
    body = "import os\nos.environ['OWN'] = '1'\nos.environ['OWN']"

    assert reads(bench, body, notebook) == ()


def test_a_local_module_that_the_fingerprint_did_not_know_is_recorded(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "unknown_helper.py").write_text("value = 1\n")
    (notebook / "known_helper.py").write_text("value = 2\n")
    body = "import importlib\nimportlib.import_module('unknown_helper')\nimport known_helper"
    known = ModuleSource(str(notebook / "known_helper.py"), identity_digest(b"value = 2\n"))
    path = (str(notebook), *sys.path)

    for _ in range(2):  # also when the worker has it loaded already
        found = reads(bench, body, notebook, modules={"known_helper": known}, sys_path=path)
        assert [(each.kind, each.name) for each in found] == [("code", "unknown_helper")]


def test_a_module_that_only_the_run_names_counts_by_its_code_unless_some_code_reads_its_text(
    bench: Bench, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(notebook))
    state = ReadState(bench.cache.files, notebook)
    plain = '"""A module."""\ndef f(x: int):\n    "one"\n    return 1  # one\n'
    asking = plain + "def g(h): return h.__doc__\n"
    deep = plain + "K = " + "-" * 5_000 + "1\n"
    takes = "import importlib\nm = importlib.import_module('NA' + 'ME')\n"
    for number, (text, more, kind) in enumerate(
        (
            (plain, "m.f(1)", "code"),
            (plain, "m.f.__doc__", "module"),
            (plain, "getattr(m.f, '__doc__')", "module"),
            (plain, "[getattr(m.f, each) for each in ('__name__', '__doc__')]", "module"),
            (plain, "import linecache; linecache.getlines(m.__file__)", "module"),
            (plain, "import tokenize; tokenize.open(m.__file__).close()", "module"),
            (plain, "m.__loader__.get_source(m.__name__)", "module"),
            (plain, "m.f.__code__.co_firstlineno", "module"),
            (asking, "m.f(1)", "module"),
        )
    ):
        name, file = f"by_code{number}", notebook / f"by_code{number}.py"
        file.write_text(text)
        body = takes.replace("NA", name[:3]).replace("ME", name[3:]) + more

        (found,) = reads(bench, body, notebook, sys_path=tuple(sys.path))

        assert (found.kind, found.name) == (kind, name), more
        holds = []
        for edited in (text, text.replace("# one", "# two"), text.replace('"one"', "'two'"),
                       text.replace("return 1", "return 1.0"), "def f(:", deep, text):  # fmt: skip
            file.write_text(edited)
            holds.append(state.holds(found))
        of_code = kind == "code"
        assert holds == [True, of_code, of_code, False, False, False, True], more
        assert state.holds(WatchedRead("module", name, identity_digest(text.encode())))  # older


def test_a_module_that_an_earlier_task_loaded_counts_with_what_it_imports_for_one_that_takes_it(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "taken_helper.py").write_text("from taken_below import K\n")
    (notebook / "taken_below.py").write_text("class K: pass\n")
    path = (str(notebook), *sys.path)
    reads(bench, "import taken_helper", notebook, sys_path=path)
    for body in (
        "from importlib import import_module\nimport_module('taken_' + 'helper')",
        "import pickle\npickle.loads(b'ctaken_helper\\nK\\n.')",
        "import pickle\npickle._loads(b'ctaken_helper\\nK\\n.')",
        "__import__('taken_' + 'helper')",
        "import pkgutil\npkgutil.resolve_name('taken_' + 'helper')",
        "import runpy\nrunpy.run_module('taken_' + 'helper')",
        "import pydoc\npydoc.locate('taken_' + 'helper')",
        "exec('import taken_' + 'helper')",
        "exec('def f():\\n from taken_' + 'helper import K\\n return K')\nf()",
        "eval('__imp' + 'ort__(\"taken_\" + \"helper\")')",
        "from timeit import timeit\ntimeit('pass', 'import taken_' + 'helper', number=1)",
        # Loaded in a forked child alone, or there before that.
        "import os, sys\nfor name in ('helper', 'below'): sys.modules.pop('taken_' + name, None)\n"
        "if os.fork() == 0:\n  try: __import__('taken_' + 'helper')\n  finally: os._exit(0)\n"
        "os.wait()",
        "import os, taken_helper\nif os.fork() == 0:\n  try: __import__('taken_' + 'helper')\n"
        "  finally: os._exit(0)\nos.wait()",
        "import os, pickle\nif os.fork() == 0:\n  try: pickle.loads(b'ctaken_helper\\nK\\n.')\n"
        "  finally: os._exit(0)\nos.wait()",
    ):
        found = reads(bench, body, notebook, sys_path=path)
        assert [each.name for each in found] == ["taken_below", "taken_helper"], body


def test_what_a_text_imports_relatively_counts_and_what_a_body_puts_in_place_of_import_stays(
    bench: Bench, notebook: Path
) -> None:
    package = notebook / "texts_of" / "inner"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").write_text("")
        (place / "mod.py").write_text("V = 1\ndef g(): return 1\n")
    path = (str(notebook), *sys.path)
    reads(bench, "import texts_of.mod, texts_of.inner.mod", notebook, sys_path=path)
    for text, around, names in (
        ("from ..mod import g", "'__name__': 'texts_of.inner.mod'", {"texts_of", "texts_of.mod"}),
        ("from . import mod", "'__name__': 'texts_of.other'", {"texts_of", "texts_of.mod"}),
        ("from . import mod", "'__package__': 'texts_of.inner'",
         {"texts_of", "texts_of.inner", "texts_of.inner.mod"}),
    ):  # fmt: skip
        body = f"code = compile({text!r} + '', 't', 'exec')\nexec(code, {{{around}}})"
        assert {each.name for each in reads(bench, body, notebook, sys_path=path)} == names, body
    for name in ("mod", "inner.mod"):
        call = f"__import__({name!r} + '', {{'__package__': 'texts_of'}}, None, [], 1)"
        names = {each.name for each in reads(bench, call, notebook, sys_path=path)}
        assert f"texts_of.{name}" in names

    refused = (
        "from unittest import mock\n"
        "with mock.patch('builtins.__import__', side_effect=ImportError):\n"
        "    try: exec('import js' + 'on')\n    except ImportError: pass\n    else: 1 / 0"
    )
    assert reads(bench, refused, notebook) == ()


def test_a_module_that_is_edited_after_a_forked_child_loaded_it_is_not_believed(
    bench: Bench, notebook: Path
) -> None:
    file = notebook / "forked_helper.py"
    file.write_text("V = 1")
    body = (
        "import os\nif os.fork() == 0:\n  try: __import__('forked_' + 'helper')\n"
        f"  finally: os._exit(0)\nos.wait()\nos.system('echo V = 22 > {file}')"
    )
    process = bench.process(body, [], folder=str(notebook), sys_path=(str(notebook), *sys.path))

    report = bench.run(process)

    assert "the module forked_helper" in (report.error or "")


def test_a_worker_that_uses_a_submodule_is_as_it_was_afterwards(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "holding").mkdir()
    (notebook / "holding" / "__init__.py").write_text("")
    (notebook / "holding" / "held.py").write_text("V = 1")
    path = (str(notebook), *sys.path)
    for more, retires in (("", False), ("; holding.K = 1", True)):
        process = bench.process(f"import holding.held{more}", [],
                                folder=str(notebook), sys_path=path)  # fmt: skip
        assert bench.run(process).retire == retires


def test_a_module_that_another_task_of_the_process_took_by_its_name_does_not_count(
    bench: Bench, notebook: Path
) -> None:
    for name in ("by_item_one", "by_item_two"):
        (notebook / f"{name}.py").write_text("value = 1\n")
    process = bench.process(
        "import importlib\nimportlib.import_module('by_item_' + n)", [],
        folder=str(notebook), inputs=(Input("n"),), sys_path=(str(notebook), *sys.path),
    )  # fmt: skip

    for name in ("one", "two", "one"):
        report = bench.run(process, {"n": name})
        assert [each.name for each in report.watched] == [f"by_item_{name}"]


def test_what_the_import_of_a_module_took_by_names_counts_for_each_process_that_knows_the_module(
    bench: Bench, notebook: Path
) -> None:
    load = {
        "asks": "importlib.import_module('found_{}.one')",
        "calls": "__import__('found_{}.one')",
        "loads": "spec = importlib.util.find_spec('found_{}.one'); spec.loader.load_module()",
        "runs": "exec('from . import o' + 'ne')",
    }
    path = (str(notebook), *sys.path)
    for way, text in load.items():
        package, name = notebook / f"found_{way}", f"found_{way}"
        package.mkdir()
        package.joinpath("__init__.py").write_text("import importlib.util\n" + text.format(way))
        package.joinpath("one.py").write_text("import found_below")
        (notebook / "found_below.py").write_text("")
        source = package.joinpath("__init__.py")
        known = {name: ModuleSource(str(source), identity_digest(source.read_bytes()))}
        for _ in range(2):  # processes, in one worker
            found = reads(bench, f"import {name}", notebook, modules=known, sys_path=path)
            assert f"{name}.one" in [each.name for each in found], way
        assert reads(bench, "pass", notebook, sys_path=path) == ()


def test_what_is_taken_of_a_module_without_its_name_counts_beyond_what_the_fingerprint_knew_of_it(
    bench: Bench, notebook: Path
) -> None:
    text = b"limit = 1\ndef f(): pass\nclass K: pass\n"
    (notebook / "partly_helper.py").write_bytes(text)
    path = (str(notebook), *sys.path)
    begin = "import partly_helper, pickle, importlib\npartly_helper.f()\n"
    for body, counts in (
        ("try: partly_helper.gone\nexcept AttributeError: pass", False),
        ("pickle.loads(b'cpartly_helper\\nf\\n.')", False),
        ("pickle.loads(b'cpartly_helper\\nK\\n.')", True),
        ("importlib.import_module('partly_' + 'helper').K", True),
        ("__import__('partly_' + 'helper').K", True),
        ("exec('from partly_' + 'helper import K')", True),
        ("exec('from partly_' + 'helper import f')", False),
        ("exec('def g(): import partly_' + 'helper')", False),
        ("import pkgutil; pkgutil.resolve_name('partly_' + 'helper:K')", True),
        ("pickle.dumps(partly_helper.K)", False),
    ):
        for names, more in ((frozenset({"f"}), counts), (frozenset({"f", "K"}), False)):
            known = ModuleSource(
                str(notebook / "partly_helper.py"), identity_digest(text), frozenset(names)
            )
            modules = {"partly_helper": known}
            patches = {PATCHES: [(Patch("partly_helper", ("limit",)), 2)]}  # a cell set it
            given = {"modules": modules, "sys_path": path, "captured": patches}
            assert bool(reads(bench, begin + body, notebook, **given)) == more, (body, names)


def test_a_module_that_a_task_itself_loads_counts_for_what_is_unpickled_and_not_for_what_is_pickled(
    bench: Bench, notebook: Path
) -> None:
    text = b"def f(): pass\nclass K: pass\n"
    path = (str(notebook), *sys.path)
    for number, (body, counts) in enumerate(
        (
            ("pickle.dumps(M.K())", False),
            ("pickle._dumps(M.K())", False),
            ("pickle.loads(pickle.dumps(M.f))", False),
            ("pickle.loads(b'cM\\nK\\n.')", True),
            ("importlib.reload(M)\npickle.loads(b'cM\\nK\\n.')", True),
            ("importlib.import_module('M').K", True),
        )
    ):
        name = f"cold_helper{number}"  # which the worker has not loaded
        file = notebook / f"{name}.py"
        file.write_bytes(text)
        modules = {name: ModuleSource(str(file), identity_digest(text), frozenset({"f"}))}
        whole = f"import M, importlib, pickle\nM.f()\n{body}".replace("M", name)
        assert bool(reads(bench, whole, notebook, modules=modules, sys_path=path)) == counts, body


def test_a_module_that_an_earlier_task_loaded_does_not_count_for_one_that_does_not(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "others_helper.py").write_text("value = 1\n")
    path = (str(notebook), *sys.path)
    reads(bench, "import others_helper", notebook, sys_path=path)

    body = (
        "import inspect, pandas, sys, unittest\n"
        "with unittest.TestCase().assertWarns(UserWarning):\n"
        "    import warnings; warnings.warn('asks all modules for what few of them have')\n"
        "inspect.getmodule(pandas.DataFrame)"
    )
    assert reads(bench, body, notebook, sys_path=path) == ()


def test_a_missing_file_beside_the_notebook_says_how_to_declare_it(
    bench: Bench, notebook: Path
) -> None:
    (notebook / "data").mkdir()
    (notebook / "data" / "raw-1.csv").write_text("x")
    process = bench.process(
        "open('data/raw-1.csv')", [], name="clean", folder=str(notebook), inputs=(Input("n"),)
    )
    report = bench.run(process, {"n": 1})

    assert report.outcome == "failed"
    assert '%%process clean(n, raw_1: path = "data/raw-1.csv")' in (report.error or "")


def test_a_file_that_is_nowhere_gets_no_hint(bench: Bench, notebook: Path) -> None:
    report = bench.run(bench.process("open('nope.csv')", [], folder=str(notebook)))

    assert report.outcome == "failed"
    assert "%%process" not in (report.error or "")


def test_an_input_that_the_task_changed_is_not_cached(bench: Bench, notebook: Path) -> None:
    path = notebook / "x.txt"
    path.write_text("before")
    process = bench.process(
        f"open({str(path)!r}, 'w').write('after!')\ny = 1",
        [Output("y")],
        inputs=(Input("x", PATH),),
    )
    spec, future = bench.start(process, {"x": file_input(path)})
    report = bench.finish(future)

    assert report.outcome == "completed"
    assert report.changed == ("x",)
    assert spec.row is not None
    bench.cache.log.refresh()
    assert bench.cache.log.find_attempt(spec.id) is not None
    assert bench.cache.log.find(spec.row.hash) is None


@pytest.mark.parametrize("kind", ["file", "env", "module"])
def test_a_look_up_sees_the_digest_that_the_worker_saw(
    bench: Bench, notebook: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (notebook / "lookup_helper.py").write_text("value = 1\n")
    bodies = {
        "file": f"open({str(notebook / 'lookup_helper.py')!r}, 'rb').read()",
        "env": "import os\nos.environ['LOOKUP_MODE']",
        "module": "import lookup_helper",
    }
    monkeypatch.setenv("LOOKUP_MODE", "slow")
    monkeypatch.syspath_prepend(str(notebook))
    path = tuple(sys.path)

    (found,) = reads(bench, bodies[kind], notebook, environ=dict(os.environ), sys_path=path)

    assert found.kind == {"module": "code"}.get(kind, kind)
    assert ReadState(bench.cache.files, notebook).holds(found)


_CONFIGURED = """
import functools, os, pathlib
HERE = pathlib.Path(__file__).parent
RATE = int((HERE / "rate.txt").read_text()) + len(os.environ.get("EXTRA_FOR_TEST", ""))
@functools.cache
def limit():
    return int((HERE / "limit.txt").read_text())
class Reader:
    @staticmethod
    @functools.cache
    def top():
        return int((HERE / "top.txt").read_text())
"""


def _known_module(
    notebook: Path, name: str, text: str, *, has_source: bool = True
) -> dict[str, object]:
    path = notebook / f"{name}.py"
    path.write_text(text)
    if not has_source:
        compiled = py_compile.compile(str(path), cfile=f"{path}c", doraise=True)
        path.unlink()
        path = Path(str(compiled))
    modules = {name: ModuleSource(str(path), identity_digest(path.read_bytes()))}
    return {"sys_path": (str(notebook), *sys.path), "modules": modules}


def test_what_a_module_reads_when_it_is_imported_counts_for_every_task_that_uses_it(
    bench: Bench, notebook: Path
) -> None:
    for name in ("rate", "limit", "top"):
        (notebook / f"{name}.txt").write_text("1")
    more = _known_module(notebook, "configured_for_test", _CONFIGURED)
    body = "import configured_for_test as c\n(c.RATE, c.limit(), c.Reader.top())"

    first, second = (reads(bench, body, notebook, **more) for _ in range(2))

    assert {each.name for each in first} == {"rate.txt", "limit.txt", "top.txt", "EXTRA_FOR_TEST"}
    assert second == first


def test_folders_and_questions_of_an_import_count_as_its_files_do(
    bench: Bench, notebook: Path
) -> None:
    text = (
        "import os, pkgutil\nHERE = os.path.dirname(__file__)\n"
        "NAMES = [each.name for each in pkgutil.iter_modules([HERE + '/plugins'])]\n"
        "TEXTS = os.listdir(HERE + '/texts')\nFLAG = os.path.exists(HERE + '/flag')\n"
        "OWN = open(HERE + '/plugins/one.py').read()"
    )
    for name in ("plugins", "texts"):
        (notebook / name).mkdir()
    (notebook / "plugins" / "one.py").write_text("1")
    more = _known_module(notebook, "listing_for_test", text)

    first, second = (reads(bench, "import listing_for_test", notebook, **more) for _ in range(2))

    assert {(each.kind, each.name) for each in first} == {
        ("folder", "plugins"),
        ("folder", "texts"),
        ("exists", "flag"),
        ("file", "plugins/one.py"),
    }
    assert second == first


@pytest.mark.parametrize("has_source", [True, False])
def test_a_module_is_imported_anew_when_what_its_import_read_has_changed(
    bench: Bench, notebook: Path, has_source: bool
) -> None:
    path = notebook / "rate.txt"
    path.write_text("1")
    text = f"RATE = int(open({str(path)!r}).read())"
    name = "rated_for_test" if has_source else "compiled_rate_for_test"
    more = _known_module(notebook, name, text, has_source=has_source)
    body = f"import {name} as rated\nprint(rated.RATE)"
    reads(bench, body, notebook, **more)
    path.write_text("25")

    found = reads(bench, f"{body}\nassert rated.RATE == 25", notebook, **more)

    assert found == (WatchedRead("file", "rate.txt", identity_digest(b"25")),)


def test_a_module_that_was_edited_is_imported_anew_also_where_only_the_run_names_it(
    bench: Bench, notebook: Path
) -> None:
    file = notebook / "edited_helper.py"
    take = "import importlib\nm = importlib.import_module('edited_' + 'helper')\n"
    for value in (1, 22, 1):
        file.write_text(f"V = {value}")
        body = f"{take}assert m.V == {value}"
        (found,) = reads(bench, body, notebook, sys_path=(str(notebook), *sys.path))
        assert (found.name, found.kind) == ("edited_helper", "code")

    def failing(body: str) -> str:
        process = bench.process(body, folder=str(notebook), sys_path=(str(notebook), *sys.path))
        report = bench.run(process)
        assert report.outcome == "failed"
        return report.error or ""

    written = f"{take}open({str(file)!r}, 'w').write('V = 333')\nout = m.V"
    assert "the module edited_helper" in failing(written)
    package = notebook / "edited_helper" / "__init__.py"
    package.parent.mkdir()
    package.write_text("V = 4444")
    reads(bench, f"{take}assert m.V == 4444", notebook, sys_path=(str(notebook), *sys.path))
    shutil.rmtree(package.parent)
    file.unlink()
    assert "No module named 'edited_helper'" in failing(f"{take}out = m.V")


def test_a_compiled_module_that_only_the_run_names_counts_and_is_never_an_old_one(
    bench: Bench, notebook: Path
) -> None:
    file = notebook / Path(_xxhash.__file__).name  # one of a package, under its own name alone
    path = (str(notebook), *sys.path)

    def put(text: bytes) -> ModuleSource:
        data = Path(_xxhash.__file__).read_bytes() + text
        file.with_name("new").write_bytes(data)
        file.with_name("new").rename(file)
        return ModuleSource(str(file), identity_digest(data))

    take = "__import__('_xx' + 'hash').xxh64(b'')"
    workers = f"open({str(notebook / 'workers')!r}, 'a').write(f'{{__import__(\"os\").getpid()}} ')"
    for text in (b"", b"edited", b""):
        source = put(text)
        noted = reads(bench, f"{take}; {workers}", notebook, sys_path=path)
        assert noted == (WatchedRead("file", file.name, source.digest),)
    assert len({*(notebook / "workers").read_text().split()}) == 3  # what it took may be old later

    reads(bench, "import _xxhash", notebook, sys_path=path, modules={"_xxhash": source})
    source = put(b"edited after the code that names it ran")
    process = bench.process(take, [], folder=str(notebook), sys_path=path)
    assert "the module _xxhash" in (bench.run(process).error or "")
    assert [each.digest for each in bench.run(process).watched] == [source.digest]
    (notebook / "before").mkdir()
    (notebook / "before" / "_xxhash.py").write_text("xxh64 = len")
    (found,) = reads(bench, take, notebook, sys_path=(str(notebook / "before"), *path))
    assert (found.kind, found.name) == ("code", "_xxhash")


def test_a_package_that_comes_to_hide_a_module_is_seen_though_no_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_state, "is_settled", lambda *_: True)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = (SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)
    for loader in (*files, zipimport.zipimporter):
        monkeypatch.setattr(loader, "exec_module", loader.exec_module)  # put back afterwards
    modules = module_state.LocalModules(
        lambda file: file.startswith(str(tmp_path)), Watcher(FileTable(tmp_path / "files"))
    )
    modules.install()
    for name in ("hidden_module", "hiding_folder.inner"):
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        importlib.import_module(name)
        file.with_suffix("").mkdir()
        os.utime(file.with_suffix(""), (1, 1))  # not within the same tick of the clock
        modules.renew()
        modules.renew()
        assert name in sys.modules
        (file.with_suffix("") / "__init__.py").write_text("")
        modules.renew()
        assert name not in sys.modules


def test_a_module_in_an_archive_that_only_the_run_names_counts_with_the_archive(
    bench: Bench, notebook: Path
) -> None:
    archive = notebook / "lib_for_test.zip"
    take = "import importlib\nm = importlib.import_module('zipped_' + 'helper')\n"
    found: list[WatchedRead] = []
    for value in (1, 22):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("zipped_helper.py", f"V = {value}")
        body = f"{take}assert m.V == {value}"
        found += reads(bench, body, notebook, sys_path=(str(archive), *sys.path))

    assert [(each.kind, each.name) for each in found] == [("file", archive.name)] * 2
    assert found[0].digest != found[1].digest


def test_a_module_that_its_package_looks_for_in_more_folders_is_a_file_that_was_read(
    bench: Bench, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extends = "import pkgutil\n__path__ = pkgutil.extend_path(__path__, __name__)\n"
    for folder in ("one", "two"):
        (notebook / folder / "spread").mkdir(parents=True)
        (notebook / folder / "spread" / "__init__.py").write_text(extends)
    inner = notebook / "two" / "spread" / "inner.py"
    inner.write_text("V = 1")
    path = (str(notebook / "one"), str(notebook / "two"), *sys.path)
    monkeypatch.setattr(sys, "path", list(path))

    found = reads(bench, "import importlib\nimportlib.import_module('spread.' + 'inner')",
                  notebook, sys_path=path)  # fmt: skip

    assert ("file", "two/spread/inner.py") in [(each.kind, each.name) for each in found]
    state = ReadState(bench.cache.files, notebook)
    assert all(map(state.holds, found))


def test_to_look_at_a_module_that_was_read_imports_no_package_above_it(
    notebook: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of others says which one: its code would run in the kernel."""
    monkeypatch.syspath_prepend(str(notebook))
    inner = notebook / "looked_at" / "folder" / "inner.py"
    inner.parent.mkdir(parents=True)
    inner.write_text("V = 1")
    (notebook / "looked_at" / "__init__.py").write_text("raise SystemExit")
    state = ReadState(bench.cache.files, notebook)

    assert state.digest("module", "looked_at.folder.inner") == identity_digest(b"V = 1")
    assert state.digest("module", "looked_at.none.inner") is None
    assert state.digest("module", "looked_at.folder.inner.more") is None
    assert "looked_at" not in sys.modules


def test_a_worker_runs_the_source_and_not_what_was_compiled_of_an_earlier_one(
    bench: Bench, notebook: Path
) -> None:
    path = notebook / "compiled_for_test.py"
    path.write_text("def f(): return 1")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    py_compile.compile(str(path))
    more = _known_module(notebook, "compiled_for_test", "def f(): return 2")
    os.utime(path, (1_700_000_000, 1_700_000_000))

    reads(bench, "import compiled_for_test\nassert compiled_for_test.f() == 2", notebook, **more)


def test_handing_the_environment_on_reads_no_variable(bench: Bench, notebook: Path) -> None:
    for body in (
        "import os\nenv = {**os.environ, 'A': '1'}",
        "import os\nenv = os.environ.copy()",
        "import os\nenv = dict(os.environ)",
        "import os\nenv = os.environ | {'A': '1'}",
    ):
        assert reads(bench, body, notebook) == (), body


def test_a_loop_over_all_variables_reads_them_but_for_those_of_the_session(
    bench: Bench, notebook: Path
) -> None:
    environ = {"APP_FOR_TEST": "1", "JPY_PARENT_PID": "7", "PATH": os.environ["PATH"]}
    for body in (
        "import os\n[v for k, v in os.environ.items() if k.startswith('APP_')]",
        "import os\n[os.environ[k] for k in os.environ if not k.startswith(('JPY', 'MPL'))]",
    ):
        found = reads(bench, body, notebook, environ=environ)
        assert {"APP_FOR_TEST", "PATH"} <= {each.name for each in found}, body
        assert "variables" in {each.kind for each in found}, body
        assert "JPY_PARENT_PID" not in {each.name for each in found}, body


@pytest.mark.parametrize(
    "body",
    [
        "sorted(k for k, v in os.environ.items() if k.startswith('APP_'))",
        "[k for k in os.environ if k.startswith('APP_')]",
        "any(k.startswith('APP_') for k in os.environ.keys())",
        "len(list(os.environ))",
    ],
)
def test_going_through_the_names_of_variables_reads_which_there_are(
    bench: Bench, notebook: Path, body: str
) -> None:
    environ = {"PATH": os.environ["PATH"], "OTHER": "1"}
    found = [
        {each.name: each.digest for each in reads(bench, body, notebook, environ=each_environ)}
        for body in (f"import os\nx = {body}",)
        for each_environ in (environ, environ, {**environ, "APP_NEW": "1"}, {"PATH": "/bin"})
    ]
    names = [each["names"] for each in found]
    assert names[0] == names[1]
    assert len(set(names)) == 3
