"""What a capture sends to workers, what it says of it, and what it refuses."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.identity.capture import capture
from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.payload import map_buffers, unpickle_names, write_buffers
from nbcache.errors import FingerprintError, NoCanonicalFormError
from nbcache.model.process import Directives, Output, PortType, ProcessDecl
from tests.engine.notebook_cells import captured, changed, keys, summaries
from tests.engine.test_capture_code import HELPER_EDITS

ROOT = Path(__file__).parents[2]

_WORKER = """
import asyncio, ast, pickle, sys
jobs = pickle.load(sys.stdin.buffer)
answers = {}
for name, (payload, body) in jobs.items():
    space = {"v": 3, **pickle.loads(payload)}
    try:
        code = compile(body, "<body>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = eval(code, space)
        if made is not None:
            asyncio.run(made)
        answers[name] = "ran"
    except Exception as error:
        answers[name] = f"{type(error).__name__}: {error}"
sys.stdout.write(repr(answers))
"""

_LISTED = ("a helper in a comprehension", "a helper inside a helper's comprehension")
_ASKS_FOR_SOURCE = "a comment whose text is read"  # which goes to workers beside the payload


def test_every_captured_helper_works_in_another_process() -> None:
    jobs = {}
    for name, (cells, _, _, body, _) in HELPER_EDITS.items():
        if name == _ASKS_FOR_SOURCE:
            continue
        given = f"v = [v]\n{body}" if name in _LISTED else body
        jobs[name] = (captured(cells, body=body).payload, given)

    shown = subprocess.run(
        [sys.executable, "-c", _WORKER],
        input=pickle.dumps(jobs),
        capture_output=True,
        check=True,
        cwd=ROOT,
    ).stdout

    failed = {name: told for name, told in eval(shown).items() if told != "ran"}
    assert failed == {}


def _unpickled(found: Captured) -> dict[str, object]:
    return unpickle_names(found.payload, found.buffers)


def test_objects_that_names_share_stay_shared() -> None:
    found = captured("a = [1]\nb = {'a': a}", body="a.append(v)\nout = b")

    names = _unpickled(found)

    assert names["b"]["a"] is names["a"]  # type: ignore[index]


def test_whether_two_names_share_an_object_is_part_of_the_fingerprint() -> None:
    shared = captured("a = [1]\nb = {'a': a}", body="a.append(v)\nout = b")
    apart = captured("a = [1]\nb = {'a': [1]}", body="a.append(v)\nout = b")

    assert changed(shared, apart) == {"sharing sharing"}


def test_names_that_share_nothing_have_no_component_for_it() -> None:
    found = captured("a = [1, 'x']\nb = [1, 'x']", body="out = a, b")

    assert "sharing sharing" not in summaries(found)


def test_a_large_array_stays_out_of_the_pickle_and_is_mapped_read_only(tmp_path: Path) -> None:
    import numpy as np

    found = captured("import numpy as np\nX = np.arange(1_000_000)", body="out = X.sum()")

    assert len(found.payload) < 10_000
    paths = write_buffers(found.buffers, tmp_path)
    array = unpickle_names(found.payload, map_buffers(paths))["X"]
    assert isinstance(array, np.ndarray)
    assert array.sum() == 499_999_500_000
    assert not array.flags.writeable


def test_equal_buffers_are_written_once(tmp_path: Path) -> None:
    cells = "import numpy as np\nX = np.arange(1_000_000)"
    first = write_buffers(captured(cells, body="out = X").buffers, tmp_path)
    written = first[0].stat().st_mtime_ns

    again = write_buffers(captured(cells, body="out = X + 1").buffers, tmp_path)

    assert again == first
    assert again[0].stat().st_mtime_ns == written
    assert [each.name for each in tmp_path.iterdir()] == [first[0].name]


def test_what_is_captured_is_said_with_its_size() -> None:
    found = captured(
        "import numpy as np\nX = np.zeros((100, 32))\nk = 3", body="out = X.sum() * k + v"
    )

    assert found.names == {"X": "ndarray float64 (100, 32), 26 kB", "k": "3"}


def test_a_helper_says_its_cell_and_line() -> None:
    found = captured("import os", "x = 1\n\ndef norm(v):\n    return v", body="out = norm(v)")

    assert summaries(found)["helper norm"] == "cell 2, line 3"


def test_a_class_without_methods_says_its_cell_and_line() -> None:
    found = captured("import os", "class Config:\n    k = 1", body="out = Config.k")

    assert summaries(found)["helper Config"] == "cell 2, line 1"


def test_lines_are_counted_as_python_counts_them() -> None:
    before = "x = 1\n\x0c\n"
    cell = "class Config:\n    k = 1\ndef norm(v):\n    return v\n"
    found = captured("import os", before + cell, body="out = norm(Config.k)")

    texts = {each.name: each.evidence for each in found.components if each.kind == "helper"}
    assert summaries(found)["helper norm"] == "cell 2, line 5"
    assert "class Config:\n    k = 1\n" in (texts["Config"] or "")


def test_a_text_that_joins_words_does_not_capture_the_last_output() -> None:
    body = "out = eval('_x + 1') + len('_'.join('ab'))"
    assert set(_unpickled(captured("_ = 5\n_x = 1", body=body))) == {"_x"}


def test_fields_of_a_template_that_takes_all_names_are_captured() -> None:
    body = "out = '{a} {b.real}'.format(**globals()) + '%(c)s' % globals()"
    found = _unpickled(captured("a, b, c, d = 1, 2, 3, 4", body=body))
    assert set(found) == {"a", "b", "c"}


def test_what_gets_all_names_is_noted_and_gets_those_in_its_texts() -> None:
    body = "import timeit\nout = timeit.timeit('f(x)', globals=globals())"
    found = captured("def f(a): return a\nx, y = 1, 2", body=body)

    assert set(_unpickled(found)) == {"f", "x"}
    assert "`timeit.timeit('f(x)', globals=globals())` has all names" in "".join(found.notes)


def test_a_key_that_only_the_run_knows_is_refused_unless_the_body_puts_names_there() -> None:
    with pytest.raises(FingerprintError, match=r"`globals\(\)\[v\]` reads names"):
        captured("x = 1", body="out = globals()[v]")
    puts = "globals()[v] = 3\nout = globals()[v]\ndel globals()[v]"
    assert not _unpickled(captured("x = 1", body=puts))


def test_the_time_zone_counts_where_it_is_asked_for_and_is_not_utc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {}
    for zone in ("", "UTC", "Etc/UTC", "Europe/Helsinki", "Europe/Mariehamn"):
        monkeypatch.setenv("TZ", zone)
        found[zone] = captured(body="import time\nout = time.localtime(v)")
        assert ("env", "time zone") not in keys(captured("x = 1", body="out = x.timestamp"))

    assert ("env", "time zone") not in keys(found["UTC"])
    assert changed(found["UTC"], found[""]) == changed(found["UTC"], found["Etc/UTC"]) == set()
    assert changed(found["UTC"], found["Europe/Helsinki"]) == {"env time zone"}
    assert changed(found["Europe/Helsinki"], found["Europe/Mariehamn"]) == set()


def test_whoever_asks_for_annotations_gets_what_their_texts_name() -> None:
    cells = "Number = {}\ndef f(x: 'Number'): pass\nclass C:\n    y: 'Number'"
    body = "import typing\nout = typing.get_type_hints(f), typing.get_type_hints(C)"

    one, other = (captured(cells.format(each), body=body) for each in ("int", "str"))

    assert _unpickled(one)["f"].__globals__["Number"] is int  # type: ignore[attr-defined]
    assert _unpickled(one)["Number"] is int
    assert changed(one, other) == {"captured Number"}
    assert "Number" not in _unpickled(captured(cells.format("int"), body="out = f(C)"))


def test_an_object_comes_with_the_text_of_its_class_and_of_those_above() -> None:
    cells = (
        "class Above:\n    rate = 1\n    def f(self): pass\n"
        "class Own(Above):\n    def g(self): pass\nobj = Own()"
    )
    found = captured(cells, body="out = obj.rate")

    (evidence,) = [each.evidence or "" for each in found.components if each.name == "obj"]

    assert "class Own(Above):" in evidence
    assert "rate = 1" in evidence


def test_names_that_nobody_defines_are_told() -> None:
    found = captured("x = 1", body="out = x + unheard_of + len(v) + task.attempt")

    assert found.missing == ("unheard_of",)


def test_a_name_that_is_defined_later_runs_the_helper_again() -> None:
    body = "out = f(v)"
    before = captured("def f(v): return g(v)", body=body)
    after = captured("def f(v): return g(v)", "def g(v): return v", body=body)

    assert changed(before, after) == {"helper g"}


def test_a_builtin_that_the_notebook_replaces_counts() -> None:
    before = captured("", body="out = max(v)")
    after = captured("def max(v): return 0", body="out = max(v)")

    assert changed(before, after) == {"helper max"}


def test_what_ipython_puts_into_the_notebook_does_not_count() -> None:
    found = captured("x = 1", body="with open('a') as f: display(f)\nout = quit")

    assert found.names == {}
    assert found.missing == ()


def test_a_name_that_is_taken_is_not_captured_for_the_body_but_for_its_helpers() -> None:
    cells = "v = 5\ndef f(): return v"
    found = captured(cells, body="out = v + f()")

    assert set(found.names) == {"f"}
    assert "captured v" in summaries(found)
    assert _unpickled(found)["f"]() == 5  # type: ignore[operator]


def test_an_ignored_name_is_left_out_and_the_component_says_so() -> None:
    before = captured("k = 1\ndef f(v): return v * k", body="out = f(v)", ignore=("k",))
    after = captured("k = 2\ndef f(v): return v * k", body="out = f(v)", ignore=("k",))

    assert changed(before, after) == set()
    assert "ignored k" in summaries(before)
    assert _unpickled(after)["f"](3) == 6  # type: ignore[operator]


def test_what_has_no_canonical_form_is_refused_with_its_name() -> None:
    with pytest.raises(NoCanonicalFormError) as caught:
        captured("import sqlite3\ndb = sqlite3.connect(':memory:')", body="out = db.execute(v)")

    assert str(caught.value).startswith(
        "process 'work': captured name 'db' is a sqlite3 Connection: no canonical form (a database "
        "connection); wrap it:\n  @nbcache.resource\n  def db(): return <the Connection>\n"
    )


def test_what_holds_something_without_canonical_form_is_not_called_that() -> None:
    cell = "import threading\nclass C: pass\nc = C()\nc.lock = threading.Lock()\nC.code = C.x = {}"
    with pytest.raises(NoCanonicalFormError) as caught:
        captured(cell, body="out = c.lock")
    assert (
        "captured name 'c' holds a _thread lock, at .lock: no canonical form (a lock); wrap it:"
        in (str(caught.value))
    )
    assert "  def c(): return <what c is>\n" in str(caught.value)
    with pytest.raises(
        NoCanonicalFormError, match=r"'C' holds a code, at C.code\[1\]: no canonical"
    ):
        captured(cell + "\nC.code = [1, compile('1', 'x', 'eval')]", body="out = C.code")
    with pytest.raises(NoCanonicalFormError, match=r"'d' is a code: (?s:.*)return <the code>"):
        captured("d = compile('1', 'x', 'eval')", body="out = d")


def test_what_a_helper_reads_and_has_no_canonical_form_is_refused_with_its_name() -> None:
    with pytest.raises(NoCanonicalFormError, match="'lock', which a helper reads, is"):
        captured(
            "import threading\nlock = threading.Lock()\ndef f(v):\n    with lock: return v",
            body="out = f(v)",
        )


def test_what_cannot_be_pickled_is_refused_with_its_name() -> None:
    cells = (
        "class C:\n    def __getstate__(self): return {}\n"
        "    def __reduce__(self): return (C, ())\n"
        "c = C()\nclass D(C):\n    def __reduce_ex__(self, p):\n"
        "        if p != 4: raise TypeError('not me')\n        return (D, ())\nd = D()"
    )

    with pytest.raises(FingerprintError, match="captured name 'd' cannot be sent to a worker"):
        captured(cells, body="out = c, d")


RESOURCE = (
    "import nbcache\nclass Client:\n    pass\n@nbcache.resource\ndef client():\n"
    "    import threading\n    made = Client()\n    made.lock = threading.Lock()\n"
    "    made.url = 'one'\n    return made"
)


def test_an_object_whose_attributes_are_keys_of_its_own_is_captured_by_value() -> None:
    cells = (
        "class Config(dict):\n    def __getattr__(self, name): return self[name]\n"
        "    __call__ = None\ncfg = Config(a=1)"
    )

    before = captured(cells, body="out = cfg.a")
    after = captured(cells.replace("a=1", "a=2"), body="out = cfg.a")

    assert changed(before, after) == {"captured cfg"}


def test_a_worker_draws_from_its_own_shared_generator() -> None:
    import random

    found = captured("from random import gauss", body="out = gauss(0, 1)")

    gauss = _unpickled(found)["gauss"]
    assert gauss.__self__ is random.gauss.__self__  # type: ignore[attr-defined]


def test_a_function_of_torch_that_is_defined_once_more_is_the_same() -> None:
    pytest.importorskip("torch", reason="torch is not installed: its functions")
    cell = "import torch\nclass F(torch.autograd.Function):\n    def forward(c, x): return x + 1"

    first, again, edited = (
        captured(each, body="out = F") for each in (cell, cell, cell.replace("+ 1", "+ 2"))
    )

    assert changed(first, again) == set()
    assert changed(first, edited) == {"helper F"}


def test_a_resource_counts_by_its_code() -> None:
    before = captured(RESOURCE, body="out = client.url")
    after = captured(RESOURCE.replace("'one'", "'two'"), body="out = client.url")

    assert changed(before, after) == {"resource client"}
    assert changed(before, captured("pass", RESOURCE, body="out = client.url")) == set()


def test_a_resource_is_made_once_for_all_who_use_it() -> None:
    found = captured(
        RESOURCE, "def url(): return client.url, id(client)", body="out = client.url, url()"
    )

    first, second = _unpickled(found), _unpickled(found)

    assert first["client"] is second["client"]
    assert first["url"]() == ("one", id(first["client"]))  # type: ignore[operator]


def test_an_edit_after_the_capture_does_not_reach_it() -> None:
    cells = "items = [1]"
    found = captured(cells, body="out = items")
    before = keys(found)

    assert _unpickled(found)["items"] == [1]
    assert keys(captured(cells + "\nitems.append(2)", body="out = items")) != before


def _script(body: str, **directives: object) -> ProcessDecl:
    return ProcessDecl(
        name="align",
        inputs=(),
        outputs=(Output("out", PortType("path"), "*.txt"),),
        sources=None,
        directives=Directives(**directives),  # type: ignore[arg-type]
        language="script",
        interpreter=("bash", "-euo", "pipefail"),
        body=body,
    )


def _tool(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "mytool").write_text(text)
    (folder / "mytool").chmod(0o755)


def test_a_tool_of_a_script_counts_by_its_content(tmp_path: Path) -> None:
    decl, environ = _script("mytool -x 1 > out.txt"), {"PATH": str(tmp_path / "bin")}

    def take() -> Captured:
        return capture(decl, None, {}, environ=environ)

    without = take()
    _tool(tmp_path / "bin", "#!/bin/sh\necho 1\n")
    one = take()
    _tool(tmp_path / "bin", "#!/bin/sh\necho 22\n")
    two = take()
    os.utime(tmp_path / "bin" / "mytool", (1, 1))

    assert changed(without, one) == {"tool mytool"}
    assert changed(one, two) == {"tool mytool"}
    assert changed(two, take()) == set()


def test_a_tool_that_lies_elsewhere_is_the_same_tool(tmp_path: Path) -> None:
    decl = _script("mytool > out.txt")
    for name in ("a", "b"):
        _tool(tmp_path / name, "#!/bin/sh\necho 1\n")

    one = capture(decl, None, {}, environ={"PATH": str(tmp_path / "a")})
    other = capture(decl, None, {}, environ={"PATH": str(tmp_path / "b")})

    assert changed(one, other) == set()


def test_the_text_and_the_declared_outputs_of_a_script_count() -> None:
    one = capture(_script("echo 1"), None, {})
    other = capture(_script("echo 2"), None, {})

    assert changed(one, other) == {"code body"}
    assert {"outputs outputs", "interpreter interpreter", "platform platform"} <= {*summaries(one)}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"cpus": 1, "memory": 5, "time": 3.0}, {"cpus": 2, "retries": 4}, set()),
        ({"tag": "a", "on_error": "stop"}, {"tag": "b"}, set()),
        ({"seed": 1}, {"seed": 2}, {"seed seed"}),
        ({}, {"seed": 1}, {"seed seed"}),
        ({}, {"platform": True}, {"platform platform"}),
        ({}, {"env": ("HOME",)}, {"env HOME"}),
        ({}, {"secret": ("HOME",)}, set()),
    ],
)
def test_only_directives_that_change_results_count(
    one: dict[str, Any], other: dict[str, Any], told: set[str]
) -> None:
    assert changed(captured(body="out = v", **one), captured(body="out = v", **other)) == told


def test_a_declared_variable_counts_by_value_and_is_said_nowhere() -> None:
    decl = _script("echo $API_TOKEN", env=("API_TOKEN", "MODE"))

    one = capture(decl, None, {}, environ={"API_TOKEN": "s3cret", "MODE": "fast"})
    other = capture(decl, None, {}, environ={"API_TOKEN": "other", "MODE": "fast"})

    assert changed(one, other) == {"env API_TOKEN"}
    assert summaries(one)["env MODE"] == "set"  # rows are shared
    assert not any("s3cret" in f"{each.summary}{each.evidence}" for each in one.components)


def test_the_name_of_a_process_does_not_count() -> None:
    def take(name: str) -> Captured:
        decl = ProcessDecl(
            name=name, inputs=(), outputs=(Output(name),), sources=None,
            directives=Directives(), language="python", body="1 + 1", inferred=True,
        )  # fmt: skip
        return capture(decl, None, {})

    assert changed(take("a"), take("b")) == set()


def test_a_launcher_counts_by_the_version_of_the_package_behind_it(tmp_path: Path) -> None:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    launcher = (
        f"#!{tmp_path}/env/bin/python\n# -*- coding: utf-8 -*-\nfrom reports import main\nmain()\n"
    )
    _tool(tmp_path / "bin", launcher)
    decl, environ = _script("mytool"), {"PATH": str(tmp_path / "bin")}

    def installed(version: str, needed: str, idle: str) -> Captured:
        from nbcache.engine.identity.packages import forget_packages

        forget_packages()
        for each in site.glob("*"):
            for file in each.iterdir():
                file.unlink()
            each.rmdir()
        for name, number in (("reports", version), ("needed", needed), ("idle", idle)):
            folder = site / f"{name}-{number}.dist-info"
            folder.mkdir(parents=True)
            (folder / "METADATA").write_text(f"Name: {name}\nRequires-Dist: needed>=1\n\nAbout.")
        return capture(decl, None, {}, environ=environ)

    first = installed("1.0", "1.0", "1.0")
    assert changed(first, installed("1.1", "1.0", "1.0")) == {"tool mytool"}
    assert changed(first, installed("1.0", "1.1", "1.0")) == {"tool mytool"}
    assert changed(first, installed("1.0", "1.0", "1.1")) == set()


def test_functions_of_an_importable_module_travel_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "twin_for_test.py").write_text(
        "import functools\nRATE = 2\ndef helper(v):\n    return v * RATE\n"
        "@functools.lru_cache\ndef kept(v):\n    return helper(v)\n"
    )
    module = importlib.import_module("twin_for_test")
    decl = ProcessDecl(
        name="work", inputs=(), outputs=(Output("out"),), sources=None,
        directives=Directives(), language="python", body="out = helper(v), kept(v)",
    )  # fmt: skip

    found = capture(decl, None, vars(module), taken=("v",))

    assert {"helper helper", "helper kept", "captured RATE"} <= {*summaries(found)}
    monkeypatch.delitem(sys.modules, "twin_for_test")
    (tmp_path / "twin_for_test.py").unlink()
    names = _unpickled(found)
    assert names["helper"](3) == names["kept"](3) == 6  # type: ignore[operator]


def test_a_function_that_travels_counts_with_all_that_it_reaches() -> None:
    from nbcache.engine.identity.value_code import value_leaf
    from nbcache.plan.identity.canonical import canonical_digest
    from tests.engine.notebook_cells import as_main, shell

    def digest(cells: str) -> str:
        session = shell()
        with as_main(session.user_module):
            session.run_cell(cells).raise_error()
            found = session.user_ns["steps"]
            return canonical_digest(found, leaf=value_leaf(session.user_ns))

    cells = "k = 2\ndef g(v): return v * k\ndef f(v): return g(v)\nsteps = [f, lambda v: f(v)]"
    assert digest(cells) == digest("# moved\n\n" + cells)
    assert digest(cells) != digest(cells.replace("k = 2", "k = 3"))
    assert digest(cells) != digest(cells.replace("v * k", "v + k"))
    assert digest(cells) == digest(cells + "\nother = 3")


MESH = """
class Node:
    def __init__(self):
        self.callbacks = []
    def called(self):
        return {k}

nodes = [Node() for _ in range(30)]
for node in nodes:
    node.callbacks = [other.called for other in nodes]
"""


def test_objects_that_hold_methods_of_each_other_are_walked_once() -> None:
    """As the axes of a figure do; along every path through them it would take for ever."""
    first = captured(MESH.format(k=1), body="nodes")

    assert keys(first) == keys(captured(MESH.format(k=1), body="nodes"))
    assert "captured nodes" in changed(first, captured(MESH.format(k=2), body="nodes"))


def test_workers_get_the_text_of_no_library_that_made_a_class_of_the_notebook() -> None:
    cells = (
        "from dataclasses import dataclass\nfrom typing import NamedTuple\n"
        "@dataclass\nclass P:\n    x: int\nclass T(NamedTuple):\n    x: int\n"
        "class C:\n    def f(self): return 1"
    )

    found = captured(cells, body="out = P(v), T(v), C()")

    assert {"helper P", "helper T", "helper C"} <= {*summaries(found)}
    assert [text.strip() for text in found.sources.values()] == [cells]


def test_the_subclasses_of_those_that_are_asked_count_and_of_all_where_that_cannot_be_told() -> (
    None
):
    cells = (
        "class B: pass\nclass C(B): pass\nclass D(C): pass\nfrom fractions import Fraction\n"
        "class F(Fraction): pass\nclass X: pass\nclass Y(X): pass\nk = Fraction\n"
        "def below(c): return c.__subclasses__()\ndef own(): return len(B.__subclasses__())"
    )
    classes = {
        "out = B.__subclasses__()": "BCD",
        "out = own()": "BCD",
        "out = len(B.__subclasses__()) + len(Fraction.__subclasses__())": "BCDF",
        "out = below(B)": "BCDY",
        "out = B.__subclasses__()[0].__subclasses__()": "BCDY",
        "k = B\nout = k.__subclasses__()": "BCDY",
    }
    for body, found in classes.items():
        told = summaries(captured(cells, body=body))
        assert {each for each in "BCDFXY" if f"helper {each}" in told} - {"X"} == {*found}, body
