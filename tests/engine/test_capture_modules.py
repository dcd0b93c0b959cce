"""Local modules count as far as they are reached, installed ones by version."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from cProfile import Profile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from nbcache.engine.identity.loaded import LoadedModules
from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.packages import closure_of, distribution_of, see_packages
from nbcache.engine.identity.payload import unpickle_names
from nbcache.errors import NoCanonicalFormError
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.module_relations import ModuleRelations
from tests.engine.notebook_cells import captured, changed, summaries

MAIN = """
'''About.'''
import numpy as np
from helpers_for_test import low
import other_for_test

LIMIT = 3


def used(v):
    return low(v) + LIMIT + inner(v)


def inner(v):
    return other_for_test.far(v)


def unused(v):
    return 1


class Model:
    rate = 1

    def fit(self, v):
        return inner(v)


def whole():
    return globals()


if __name__ == "__main__":
    print(used(3))
"""
HELPERS = "def low(v):\n    return v + 1\ndef high(v):\n    return v\n"
OTHER = "RATE = 2\ndef far(v):\n    return v * RATE\ndef near(v):\n    return v\n"

Files = dict[str, str]
Write = Callable[[Files], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules beside the notebook, as an editor would: nothing is imported again."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_all(files: Files) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()

    write_all(
        {"main_for_test.py": MAIN, "helpers_for_test.py": HELPERS, "other_for_test.py": OTHER}
    )
    yield write_all
    for name in [name for name in sys.modules if "_for_test" in name]:
        del sys.modules[name]


WAYS = {
    "import": ("import main_for_test", "out = main_for_test.used(v)"),
    "import as": ("import main_for_test as m", "out = m.used(v)"),
    "from import": ("from main_for_test import used as u", "out = u(v)"),
    "import in the body": ("", "import main_for_test as m\nout = m.used(v)"),
    "from import in the body": ("", "from main_for_test import used\nout = used(v)"),
    "through a helper": (
        "import main_for_test as m\ndef h(v): return m.used(v)",
        "out = h(v)",
    ),
    "star import in a cell": ("from main_for_test import *", "out = used(v)"),
    "import in a helper": (
        "def h(v):\n    from main_for_test import used\n    return used(v)",
        "out = h(v)",
    ),
    "import of all in a helper": (
        "def h(v):\n    import main_for_test\n    return main_for_test.used(v)",
        "out = h(v)",
    ),
    "import in a method": (
        "class C:\n    def h(self, v):\n        import main_for_test as m\n"
        "        return m.used(v)",
        "out = C().h(v)",
    ),
    "partial": (
        "from functools import partial\nfrom main_for_test import used\np = partial(used)",
        "out = p(v)",
    ),
}
REACHED = {
    "the function": ("main_for_test.py", MAIN, "+ LIMIT", "- LIMIT", "module main_for_test"),
    "what it calls": (
        "main_for_test.py", MAIN, "other_for_test.far(v)", "other_for_test.far(-v)",
        "module main_for_test",
    ),
    "a statement": ("main_for_test.py", MAIN, "LIMIT = 3", "LIMIT = 4", "module main_for_test"),
    "another module's function": (
        "helpers_for_test.py", HELPERS, "v + 1", "v + 2", "module helpers_for_test",
    ),
    "another module's statement": (
        "other_for_test.py", OTHER, "RATE = 2", "RATE = 3", "module other_for_test",
    ),
}  # fmt: skip
UNREACHED = {
    "a comment": ("main_for_test.py", MAIN, "LIMIT = 3", "LIMIT = 3  # of all"),
    "a docstring": ("main_for_test.py", MAIN, "About.", "About this."),
    "a function that nobody calls": ("main_for_test.py", MAIN, "return 1", "return 2"),
    "a class that nobody uses": ("main_for_test.py", MAIN, "rate = 1", "rate = 2"),
    "another module's function": ("helpers_for_test.py", HELPERS, "return v\n", "return -v\n"),
    "an attribute that nobody reads": ("other_for_test.py", OTHER, "return v\n", "return -v\n"),
    "the part for running as a script": ("main_for_test.py", MAIN, "used(3)", "used(4)"),
}


@pytest.mark.parametrize("edit", REACHED)
@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_what_is_reached_changes_the_module(write: Write, way: str, edit: str) -> None:
    cells, body = WAYS[way]
    name, text, old, new, told = REACHED[edit]
    before = captured(cells, body=body)

    assert old in text
    write({name: text.replace(old, new, 1)})

    assert changed(before, captured(cells, body=body)) == {told}


@pytest.mark.parametrize("edit", UNREACHED)
@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_what_is_not_reached_changes_nothing(write: Write, way: str, edit: str) -> None:
    cells, body = WAYS[way]
    name, text, old, new = UNREACHED[edit]
    before = captured(cells, body=body)

    assert old in text
    write({name: text.replace(old, new, 1)})

    assert changed(before, captured(cells, body=body)) == set()


def test_what_only_type_checkers_read_counts_where_the_module_says_that_it_runs(
    write: Write,
) -> None:
    for said, counts in (
        ("from typing import TYPE_CHECKING", False),
        ("TYPE_CHECKING = False", False),
        ("TYPE_CHECKING = True", True),
    ):
        text = said + "\nK = 1\nif TYPE_CHECKING:\n    K = {}\ndef f(): return K\n"
        seen = []
        for value in (2, 3):
            write({"other_for_test.py": text.format(value)})
            seen.append(captured(body="import other_for_test\nout = other_for_test.f()"))
        assert bool(changed(*seen)) == counts, said


WHOLE = {
    "a star import in the body": ("", "from main_for_test import *\nout = used(v)"),
    "the module passed around": (
        "import main_for_test as m\ndef call(module, v): return module.used(v)",
        "out = call(m, v)",
    ),
    "getattr with a computed name": (
        "import main_for_test as m\nname = 'used'",
        "out = getattr(m, name)(v)",
    ),
    "an import that an inner function reads": (
        "def h(v):\n    import main_for_test as m\n    return (lambda: m.used(v))()",
        "out = h(v)",
    ),
    "an import that is passed on": (
        "def h(v):\n    import main_for_test as m\n    return getattr(m, 'us' + 'ed')(v)",
        "out = h(v)",
    ),
    "importlib": ("import importlib", "out = importlib.import_module('main_for_test').used(v)"),
    "a function that looks at globals": ("import main_for_test as m", "out = m.whole()"),
    "a module in a list": ("import main_for_test as m\nmods = [m]", "out = mods[0].used(v)"),
}


@pytest.mark.parametrize("way", WHOLE)
def test_all_of_a_module_counts_where_reach_cannot_be_told(write: Write, way: str) -> None:
    cells, body = WHOLE[way]
    before = captured(cells, body=body)

    write({"main_for_test.py": MAIN.replace("return 1", "return 2")})

    assert changed(before, captured(cells, body=body)) == {"module main_for_test"}


def test_a_class_of_a_module_counts_with_all_its_methods(write: Write) -> None:
    cells, body = "import main_for_test as m\nmodel = m.Model()", "out = model"
    before = captured(cells, body=body)

    write({"main_for_test.py": MAIN.replace("rate = 1", "rate = 2")})

    assert changed(before, captured(cells, body=body)) == {"module main_for_test"}


def test_a_package_counts_with_the_submodules_that_are_imported(write: Write) -> None:
    files = {
        "pkg_for_test/__init__.py": "from .a import f\nfrom . import b\n",
        "pkg_for_test/a.py": "from .sub.deep import g\ndef f(v):\n    return g(v)\n",
        "pkg_for_test/b.py": "B = 1\ndef h(v):\n    return v\n",
        "pkg_for_test/sub/__init__.py": "",
        "pkg_for_test/sub/deep.py": "def g(v):\n    return v + 1\n",
        "pkg_for_test/idle.py": "X = 1\n",
    }
    write(files)
    cells, body = "import pkg_for_test as p", "out = p.f(v)"
    before = captured(cells, body=body)

    def edited(name: str, old: str, new: str) -> set[str]:
        write({name: files[name].replace(old, new)})
        found = changed(before, captured(cells, body=body))
        write(files)
        return found

    deep = "pkg_for_test/sub/deep.py"
    assert edited(deep, "v + 1", "v + 2") == {"module pkg_for_test.sub.deep"}
    assert edited("pkg_for_test/b.py", "B = 1", "B = 2") == {"module pkg_for_test.b"}
    assert edited("pkg_for_test/b.py", "return v", "return -v") == set()
    assert edited("pkg_for_test/idle.py", "X = 1", "X = 2") == set()


def test_a_submodule_that_only_the_body_imports_counts(write: Write) -> None:
    write({"pkg_for_test/__init__.py": "", "pkg_for_test/a.py": "def f(v): return 1\n"})
    body = "import pkg_for_test.a\nout = pkg_for_test.a.f(v)"
    before = captured(body=body)

    write({"pkg_for_test/a.py": "def f(v): return 2\n"})

    assert changed(before, captured(body=body)) == {"module pkg_for_test.a"}


def test_what_a_decorator_may_register_counts_though_nobody_calls_it(write: Write) -> None:
    text = (
        "TABLE = {}\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\n"
        "@register\ndef one(v):\n    return 1\ndef run(v):\n    return TABLE['one'](v)\n"
    )
    write({"main_for_test.py": text})
    cells, body = "import main_for_test as m", "out = m.run(v)"
    before = captured(cells, body=body)

    write({"main_for_test.py": text.replace("return 1", "return 2")})

    assert changed(before, captured(cells, body=body)) == {"module main_for_test"}


def test_a_worker_learns_which_source_it_has_to_find(write: Write, tmp_path: Path) -> None:
    found = captured("import main_for_test as m", body="out = m.used(v)")

    assert {name: Path(source.path).name for name, source in found.modules.items()} == {
        "main_for_test": "main_for_test.py",
        "helpers_for_test": "helpers_for_test.py",
        "other_for_test": "other_for_test.py",
    }
    assert str(tmp_path) in found.sys_path


def test_a_module_beside_the_notebook_is_found_without_being_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "beside_for_test.py").write_text("def f(v): return v\n")

    found = captured(body="from beside_for_test import f\nout = f(v)", folder=tmp_path)

    assert "module beside_for_test" in summaries(found)
    assert str(tmp_path) in found.sys_path


def test_a_module_that_does_not_parse_still_counts_by_its_text(write: Write) -> None:
    write({"broken_for_test.py": "def f(:\n"})
    before = captured(body="import broken_for_test\nout = 1")

    write({"broken_for_test.py": "def g(:\n"})

    after = captured(body="import broken_for_test\nout = 1")
    assert changed(before, after) == {"module broken_for_test"}


PACKAGES = {
    "a module of the notebook": ("import numpy as np", "out = np.sum(v)"),
    "an import in the body": ("", "import numpy\nout = numpy.sum(v)"),
    "an import in a helper": ("def f(v):\n    import numpy.linalg\n    return 1", "out = f(v)"),
    "a function from it": ("from numpy import sum as s", "out = s(v)"),
    "a value of its type": ("import numpy as np\na = np.arange(3)\ndel np", "out = a"),
    "a value of its type in a list": (
        "import numpy as np\na = [{'x': np.arange(3)}]\ndel np",
        "out = a",
    ),
    "a class that derives from it": (
        "import numpy as np\nclass A(np.ndarray):\n    pass",
        "out = A(3)",
    ),
}


@pytest.mark.parametrize("way", PACKAGES)
def test_an_installed_package_counts_by_version(way: str) -> None:
    import numpy as np

    cells, body = PACKAGES[way]

    assert summaries(captured(cells, body=body))["package numpy"] == np.__version__


def test_a_package_counts_with_the_versions_of_what_it_needs() -> None:
    names = dict(closure_of("pandas"))

    assert {"pandas", "numpy", "python-dateutil"} <= names.keys()
    assert "pytest" not in names  # an extra


def test_what_is_installed_within_a_second_is_seen_where_times_are_whole_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def in_seconds(path: str, **options: object) -> SimpleNamespace:
        found = look(path, **options)  # type: ignore[arg-type]
        mtime, ctime = (each // 10**9 * 10**9 for each in (found.st_mtime_ns, found.st_ctime_ns))
        return SimpleNamespace(
            st_size=found.st_size, st_ino=found.st_ino, st_mtime_ns=mtime, st_ctime_ns=ctime
        )

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nbcache_test_kit-1.dist-info").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", in_seconds)
        see_packages()
        first = closure_of("nbcache-test-kit")
        (tmp_path / "nbcache_test_kit-1.dist-info").rename(
            tmp_path / "nbcache_test_kit-2.dist-info"
        )
        see_packages()
        second = closure_of("nbcache-test-kit")

    assert [*first, *second] == [("nbcache-test-kit", "1"), ("nbcache-test-kit", "2")]


def test_an_egg_counts_by_its_version_and_those_of_what_it_requires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    kit, other = (
        tmp_path / "Nbcache_Test.Kit-1.2-py3.11.egg-info",
        tmp_path / "Kit.Needs-3.egg-info",
    )
    kit.mkdir()
    (kit / "requires.txt").write_text("Kit_Needs>=2\n\n[dev]\npytest\n")
    (kit / "top_level.txt").write_text("its_module\n")
    other.write_text("Name: Kit.Needs\n")  # of old, a file
    (tmp_path / "unversioned.egg-info").mkdir()  # of a project that is developed here
    see_packages()

    assert distribution_of("its_module") == "nbcache-test-kit"
    assert closure_of("nbcache-test-kit") == (("kit-needs", "3"), ("nbcache-test-kit", "1.2"))
    assert distribution_of("unversioned") is None


def test_a_module_that_another_thread_imports_meanwhile_does_not_disturb_the_next_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded, before, names = LoadedModules(), gc.get_threshold(), itertools.count()

    def import_another(phase: str, info: dict[str, int]) -> None:  # where threads may take turns
        name = f"imported_meanwhile_{next(names)}"
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    gc.callbacks.append(import_another)
    gc.set_threshold(1)
    try:
        loaded.cell_begins()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(import_another)


def test_a_module_that_may_have_been_edited_in_the_second_of_its_cell_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = "nbcache_test_loaded", tmp_path / "nbcache_test_loaded.py"
    path.write_text("x = 1\n")
    second = int(time.time()) + 10
    monkeypatch.setattr(time, "time_ns", lambda: second * 10**9 + 300_000_000)
    loaded = LoadedModules()
    monkeypatch.setitem(sys.modules, name, ModuleType(name))

    os.utime(path, (second, second))  # of an edit at .2, or at .7, behind the import
    assert loaded.stale({name: str(path)}) == name
    os.utime(path, ns=(second * 10**9 + 1,) * 2)  # fine times: it was before the cell began
    assert loaded.stale({name: str(path)}) == ""
    os.utime(path, (second - 1, second - 1))
    assert loaded.stale({name: str(path)}) == ""


def test_a_module_named_unlike_its_package_is_found() -> None:
    assert distribution_of("sklearn") == "scikit-learn"
    assert distribution_of("PIL") == "pillow"


def test_the_standard_library_counts_by_the_version_of_python() -> None:
    found = summaries(captured("import json", body="import re\nout = json.dumps(v)"))

    assert not any(name.startswith(("package", "module")) for name in found)
    assert found["python python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_a_name_that_is_imported_in_two_ways_counts_by_both(write: Write) -> None:
    main = (
        "try:\n    import fast_for_test as impl\nexcept ImportError:\n"
        "    import slow_for_test as impl\ndef use(v):\n    return impl.f(v)\n"
    )
    text = "def f(v):\n    return v + 1\n"
    write({"two_for_test.py": main, "fast_for_test.py": text, "slow_for_test.py": text})
    cells = "import two_for_test"

    before = captured(cells, body="out = two_for_test.use(v)")
    write({"fast_for_test.py": text.replace("1", "2")})
    after = captured(cells, body="out = two_for_test.use(v)")

    assert changed(before, after) == {"module fast_for_test"}


def test_a_submodule_that_a_package_imports_from_itself_is_reached(write: Write) -> None:
    text = "def f(v):\n    return v + 1\n"
    write({"pkg_for_test/__init__.py": "from . import low\n", "pkg_for_test/low.py": text})

    before = captured("import pkg_for_test", body="out = pkg_for_test.low.f(v)")
    write({"pkg_for_test/low.py": text.replace("1", "2")})
    after = captured("import pkg_for_test", body="out = pkg_for_test.low.f(v)")

    assert changed(before, after) == {"module pkg_for_test.low"}


@pytest.mark.parametrize("kind", ["module", "package"])
@pytest.mark.parametrize("where", ["cell", "module"])
def test_whether_a_module_can_be_found_counts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, kind: str
) -> None:
    folder = "site-packages/" if kind == "package" else ""
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    finds = "from importlib.util import find_spec\n"
    write({"main_for_test.py": finds + "HAS = find_spec('optional_for_test') is not None\n"})
    ways = {
        "cell": (finds, "out = bool(find_spec('optional_for_test'))"),
        "module": ("import main_for_test", "out = main_for_test.HAS"),
    }

    before = captured(ways[where][0], body=ways[where][1])
    write({f"{folder}optional_for_test.py": "X = 1\n"})
    after = captured(ways[where][0], body=ways[where][1])

    assert changed(before, after) == {f"{kind} optional_for_test"}


def test_a_module_that_is_named_in_sys_modules_counts_as_a_whole(write: Write) -> None:
    body = "import sys, other_for_test\nout = sys.modules['other_for_test'].far(v)"

    before = captured(body=body)
    write({"other_for_test.py": OTHER.replace("v * RATE", "v / RATE")})
    after = captured(body=body)

    assert changed(before, after) == {"module other_for_test"}


def test_a_module_that_has_a_class_of_its_own_or_is_lazy_goes_to_a_worker_by_its_name(
    write: Write,
) -> None:
    own = """
import sys, types
class Calls(types.ModuleType):
    def __call__(self, v):
        return v + start
sys.modules[__name__].__class__ = Calls
start = 1
"""
    lazy = """
import importlib.util, sys
spec = importlib.util.find_spec("other_for_test")
spec.loader = importlib.util.LazyLoader(spec.loader)
other = sys.modules["other_for_test"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(other)
"""
    write({"calls_for_test.py": own})
    cells, body = ("import calls_for_test as calls", lazy), "out = calls(other.far(v))"

    before = captured(*cells, body=body)
    write({"calls_for_test.py": own.replace("start = 1", "start = 5")})
    after = captured(*cells, body=body)

    names = unpickle_names(before.payload, before.buffers)
    assert names["calls"] is sys.modules["calls_for_test"]
    assert names["other"] is sys.modules["other_for_test"]
    assert "module calls_for_test" in changed(before, after)


def test_a_module_that_was_loaded_from_a_file_is_none_of_its_name_unless_it_is_found_by_that(
    write: Write,
) -> None:
    write({"apart/other_for_test.py": OTHER})
    load = "import importlib.util as u, pathlib, sys\nimport helpers_for_test\n" + (
        "place = pathlib.Path(helpers_for_test.__file__).parent / 'apart/other_for_test.py'\n"
        "spec = u.spec_from_file_location('other_for_test', place)\n"
        "other = u.module_from_spec(spec)\nspec.loader.exec_module(other)\n"
    )
    body = "out = other.far(v)"
    with pytest.raises(NoCanonicalFormError, match=r"apart/other_for_test\.py.*say `sys\.modules"):
        captured(load, body=body)
    with pytest.raises(NoCanonicalFormError, match=r"apart/other_for_test\.py.*say `sys\.modules"):
        captured(f"{load}place.rename(gone := place.with_name('gone.py'))", body=body)
    write({"apart/other_for_test.py": OTHER})
    found = load + "sys.modules['other_for_test'] = other"

    before = captured(found, body=body)
    write({"apart/other_for_test.py": OTHER.replace("2", "3")})

    assert "module other_for_test" in changed(before, captured(found, body=body))


def test_a_submodule_that_its_package_names_without_importing_it_by_name_is_followed(
    write: Write,
) -> None:
    core = "TABLE = {}\ndef fill():\n    TABLE[1] = 2\ndef run(v):\n    return v * TABLE[1]\n"
    write({"pack_for_test/core.py": core})
    write({"pack_for_test/__init__.py": "from .core import run\ncore.fill()\n"})

    before = captured("import pack_for_test", body="out = pack_for_test.run(v)")
    write({"pack_for_test/core.py": core.replace("= 2", "= 3")})
    after = captured("import pack_for_test", body="out = pack_for_test.run(v)")

    assert changed(before, after) == {"module pack_for_test.core"}


def test_a_submodule_named_like_a_builtin_is_followed_only_where_somebody_imports_it(
    write: Write,
) -> None:
    init = "from .core import run\ndef use(v):\n    return list(filter(None, [run(v)]))\n"
    write({"pack_for_test/__init__.py": init, "pack_for_test/filter.py": "Z = 1\n"})
    write({"pack_for_test/core.py": "def run(v):\n    return v\n"})
    body = "out = pack_for_test.use(v)"

    before = captured("import pack_for_test", body=body)
    write({"pack_for_test/filter.py": "Z = 2\n"})
    assert changed(before, captured("import pack_for_test", body=body)) == set()

    core = "def run(v):\n    from .filter import Z\n    return v + Z\n"
    write(
        {
            "pack_for_test/core.py": core,
            "pack_for_test/filter.py": "Z = 1\ndef z():\n    return 1\n",
        }
    )
    before = captured("import pack_for_test", body=body)
    write({"pack_for_test/filter.py": "Z = 1\ndef z():\n    return 2\n"})
    after = captured("import pack_for_test", body=body)
    assert changed(before, after) == {"module pack_for_test.filter"}


FACADE = {
    "pack_for_test/__init__.py": "from . import low\nfrom .core import Core\n"
    "from .starred import *\ndef run(v):\n    return v\n",
    "pack_for_test/low.py": "def f(v):\n    return v + 1\n",
    "pack_for_test/core.py": "import beside_for_test\nclass Core:\n    def go(self):\n"
    "        return beside_for_test.far()\n",
    "pack_for_test/starred.py": "from .deep import g\n",
    "pack_for_test/deep.py": "def g(v):\n    return v + 2\n",
    "beside_for_test.py": "def far():\n    return 3\n",
}
BEHIND_FACADE = {
    "pack_for_test/low.py": ("v + 1", "v - 1"),
    "pack_for_test/core.py": ("far()", "far() * 2"),
    "pack_for_test/deep.py": ("v + 2", "v - 2"),
    "beside_for_test.py": ("return 3", "return 4"),
}
TAKEN_WHOLE = {
    "a computed name": ("name = 'Core'", "out = getattr(p, name)().go()"),
    "passed to a helper": ("def call(m): return m.Core().go()", "out = call(p)"),
    "named as a text": ("import importlib", "out = importlib.import_module('pack_for_test').g(v)"),
    "its dict": ("name = 'g'", "out = p.__dict__[name](v)"),
    "vars": ("name = 'g'", "out = vars(p)[name](v)"),
    "its members": ("import inspect", "out = [each for each in inspect.getmembers(p)]"),
    "attrgetter": ("from operator import attrgetter", "out = attrgetter('low.f')(p)(v)"),
    "in a list": ("many = [p]", "out = many[0].low.f(v)"),
}  # fmt: skip


@pytest.mark.parametrize("way", TAKEN_WHOLE)
def test_of_a_package_that_is_taken_whole_what_it_has_from_others_counts(
    write: Write, way: str
) -> None:
    write(FACADE)
    cells, body = TAKEN_WHOLE[way]
    cells = f"import pack_for_test as p\n{cells}"
    before = captured(cells, body=body)

    for file, (old, new) in BEHIND_FACADE.items():
        write({**FACADE, file: FACADE[file].replace(old, new)})
        module = file.removesuffix(".py").replace("/", ".")
        assert changed(before, captured(cells, body=body)) == {f"module {module}"}, file


@pytest.mark.parametrize(
    ("body", "files"),
    [
        ("out = p.run(v)", set()),
        ("out = p.Core().go()", {"pack_for_test/core.py", "beside_for_test.py"}),
        ("out = p.g(v)", {"pack_for_test/deep.py"}),
        ("from pack_for_test import *\nout = g(v)", {"pack_for_test/deep.py"}),
        ("from pack_for_test import *\nout = low.f(v)", {"pack_for_test/low.py"}),
    ],
)
def test_of_what_a_package_has_from_others_only_what_is_named_counts(
    write: Write, body: str, files: set[str]
) -> None:
    write(FACADE)
    before = captured("import pack_for_test as p", body=body)

    for file, (old, new) in BEHIND_FACADE.items():
        write({**FACADE, file: FACADE[file].replace(old, new)})
        after = captured("import pack_for_test as p", body=body)
        assert bool(changed(before, after)) == (file in files), file


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("def f(v, name):\n    return globals()[name](v)\n", True),
        ("def f(v, name):\n    return eval(name)(v)\n", True),
        ("TABLE = dict(vars())\ndef f(v, name):\n    return TABLE[name](v)\n", True),
        ("def f(v, name):\n    return vars(v)[name], '{v}'.format(**locals())\n", False),
    ],
)
def test_a_module_that_looks_at_all_of_its_names_counts_with_what_they_mean_elsewhere(
    write: Write, text: str, *, counts: bool
) -> None:
    write({"main_for_test.py": "from helpers_for_test import low\n" + text})
    cells, body = "import main_for_test as m\nname = 'low'", "out = m.f(v, name)"
    before = captured(cells, body=body)

    write({"helpers_for_test.py": HELPERS.replace("v + 1", "v + 2")})

    assert changed(before, captured(cells, body=body)) == (
        {"module helpers_for_test"} if counts else set()
    )


@pytest.mark.parametrize("default", ["vars()", "locals()"])
def test_what_a_default_takes_of_all_names_counts(write: Write, default: str) -> None:
    text = (
        f"def mine(v):\n    return v + 1\ndef f(v, name, *, t={default}):\n    return t[name](v)\n"
    )
    write({"main_for_test.py": text})
    cells, body = "import main_for_test as m\nname = 'mine'", "out = m.f(v, name)"
    before = captured(cells, body=body)

    write({"main_for_test.py": text.replace("v + 1", "v + 2")})

    assert changed(before, captured(cells, body=body)) == {"module main_for_test"}


BY_STAR = {
    "pack_for_test/__init__.py": "from .a import *\n",
    "pack_for_test/a.py": "from . import core\ndef go(v):\n    return core.run(v)\n",
    "pack_for_test/core.py": "def run(v):\n    return v + 1\n",
}


@pytest.mark.parametrize(
    ("cells", "body", "files"),
    [
        ("import pack_for_test as p", "out = p.go(v)", {}),
        ("from pack_for_test import *", "out = go(v)", {}),
        ("from pack_for_test.a import go", "out = go(v)", {}),
        ("import pack_for_test.core", "out = pack_for_test.core.run(v)", {}),
        ("import pack_for_test as p", "out = p.x.go(v)", {"pack_for_test/x.py": "a.py"}),
        (
            "import pack_for_test.core",
            "out = pack_for_test.core.run(v)",
            {"pack_for_test/a.py": "core = None\n"},
        ),
    ],
)
def test_a_submodule_counts_also_where_a_star_brings_its_name(
    write: Write, cells: str, body: str, files: dict[str, str]
) -> None:
    own = {name: BY_STAR.get(f"pack_for_test/{text}", text) for name, text in files.items()}
    write({**BY_STAR, **own})
    before = captured(cells, body=body)

    write({"pack_for_test/core.py": "def run(v):\n    return v + 2\n"})

    assert changed(before, captured(cells, body=body)) == {"module pack_for_test.core"}


def test_a_submodule_whose_star_brings_its_own_name_counts_as_far_as_it_is_reached(
    write: Write,
) -> None:
    files = {
        "pack_for_test/__init__.py": "from .run import *\n",
        "pack_for_test/run.py": "from .low import idle\ndef run(v):\n    return v + 1\n",
        "pack_for_test/low.py": "def idle():\n    return 1\n",
    }
    write(files)
    cells, body = "import pack_for_test as p", "out = p.run(v)"
    before = captured(cells, body=body)

    write({"pack_for_test/low.py": "def idle():\n    return 2\n"})

    assert changed(before, captured(cells, body=body)) == set()


WITH_STAR = {
    "pack_for_test/__init__.py": "from .a import *\n",
    "pack_for_test/a.py": "from .core import run\n",
    "pack_for_test/core.py": "def run(v):\n    return v + 1\n",
    "pack_for_test/data.py": "SIZE = 1\n",
}


@pytest.mark.parametrize(
    ("around", "counts"),
    [
        ("run = None\nfrom .a import *\n", True),
        ("def run(v):\n    return 0\nfrom .a import *\n", True),
        ("try:\n    from .a import *\nexcept ImportError:\n    run = None\n", True),
        ("if 1:\n    from .core import *\n    t = [run]\ndef run(v):\n    return t[0](v)\n", True),
        ("from .a import *\n_run = run\ndef run(v):\n    return _run(v)\n", True),
        ("from .a import *\nif True:\n    def run(v):\n        return 0\n", True),
        ("from .a import *\ndef run(v):\n    return 0\n", False),
        ("import importlib\nrun = importlib.import_module('.core', __name__).run\n", True),
    ],
)
def test_what_a_star_may_bring_counts_unless_the_module_is_sure_to_bind_it_last(
    write: Write, around: str, *, counts: bool
) -> None:
    write({**WITH_STAR, "pack_for_test/__init__.py": around})
    before = captured("import pack_for_test as p", body="out = p.run(v)")

    write({"pack_for_test/core.py": "def run(v):\n    return v + 2\n"})

    found = changed(before, captured("import pack_for_test as p", body="out = p.run(v)"))
    assert found == ({"module pack_for_test.core"} if counts else set())


def test_what_a_function_in_the_body_reads_of_a_star_counts_also_where_the_body_binds_it_later(
    write: Write,
) -> None:
    write(WITH_STAR)
    body = "from pack_for_test import *\ndef f():\n    return run(v)\nout = f()\nrun = 1"
    before = captured("", body=body)

    write({"pack_for_test/core.py": "def run(v):\n    return v + 2\n"})

    assert changed(before, captured("", body=body)) == {"module pack_for_test.core"}


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        ("name", True),
        ("near.__name__", True),
        ("'helpers_' + name[8:]", True),
        ("f'helpers_{name[8:]}'", True),
        ("'math'", False),
        ("__name__", False),
    ],
)
def test_where_code_takes_any_loaded_module_all_of_each_that_is_reached_counts(
    write: Write, key: str, *, counts: bool
) -> None:
    cells = (
        "import sys, math\nfrom helpers_for_test import near\n"
        f"def pick(name, part):\n    return vars(sys.modules[{key}])[part]\n"
    )
    write({"helpers_for_test.py": "def near(v):\n    return v\ndef far(v):\n    return v + 1\n"})
    body = "out = near(v), pick(near.__module__, 'f' + 'ar')(v)"
    before = captured(cells, body=body)

    write({"helpers_for_test.py": "def near(v):\n    return v\ndef far(v):\n    return v + 2\n"})

    assert changed(before, captured(cells, body=body)) == (
        {"module helpers_for_test"} if counts else set()
    )


@pytest.mark.parametrize(
    "itself",
    ["modules[go.__module__]", "modules[__spec__.name]", "__import__(go.__module__)"],
)
def test_a_module_that_takes_itself_by_its_name_counts_whole(write: Write, itself: str) -> None:
    text = (
        "from sys import modules\n"
        f"def go(v):\n    return getattr({itself}, 'ru' + 'n')(v)\n"
        "def run(v):\n    return v + {}\n"
    )
    write({"helpers_for_test.py": text.format(1)})
    cell, body = "from helpers_for_test import go", "out = go(v)"
    before = captured(cell, body=body)

    write({"helpers_for_test.py": text.format(2)})

    assert changed(before, captured(cell, body=body)) == {"module helpers_for_test"}


def test_modules_that_star_each_other_are_followed_in_steps_as_many_as_their_stars(
    write: Write,
) -> None:
    steps = {}
    for count in (8, 16):
        modules = [f"star{count}_{at}_for_test" for at in range(count)]
        write(
            {
                f"{each}.py": "".join(f"from {one} import *\n" for one in modules if one != each)
                + f"def f{at}(v):\n    return f{(at + 1) % count}(v)\n"
                for at, each in enumerate(modules)
            }
        )
        known = ModuleRelations(LocalModules().load)
        for each in modules:
            known.load(each)
        with Profile(builtins=False) as profile:
            ModuleReach(known).read(modules[0], [("f0",)])
        steps[count] = sum(each.callcount for each in profile.getstats())

    assert steps[16] < 5 * steps[8]  # of 56 stars, and of 240


def test_of_a_module_that_patches_another_only_what_its_import_uses_counts(write: Write) -> None:
    text = (
        "import other_for_test\ndef better(v):\n    return v + 5\n"
        "other_for_test.far = better\ndef idle(v):\n    return 1\n"
    )
    write({"patch_for_test.py": text})
    cells, body = "import other_for_test, patch_for_test", "out = other_for_test.far(v)"
    before = captured(cells, body=body)

    write({"patch_for_test.py": text.replace("return 1", "return 2")})
    assert changed(before, captured(cells, body=body)) == set()
    write({"patch_for_test.py": text.replace("v + 5", "v + 6")})
    assert changed(before, captured(cells, body=body)) == {"module patch_for_test"}
