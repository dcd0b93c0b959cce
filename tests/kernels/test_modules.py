"""Edits of local modules between two kernels: what is reached runs again, with the edited code."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.scenarios import Scenario, Seen, check, module_edit

_F = "def f(v):\n    return v + 1\ndef other(v):\n    return v + 7\n"


def _setup(number: int, extra: str = "") -> dict[str, str]:
    return {f"plain{number}.py": f"RATE = 2\n{_F}{extra}"}


MODULES = [
    module_edit("reached function", _setup(1), "plain1.py", "v + 1", "v + 2", "out = plain1.f(v)", "module plain1", cells="import plain1"),
    module_edit("unreached function", _setup(2), "plain2.py", "v + 7", "v + 8", "out = plain2.f(v)", None, cells="import plain2"),
    module_edit("comment", _setup(3), "plain3.py", "RATE = 2", "RATE = 2  # so", "out = plain3.f(v)", None, cells="import plain3"),
    module_edit("statement", _setup(4), "plain4.py", "RATE = 2", "RATE = 3", "out = plain4.f(v) + plain4.RATE", "module plain4", cells="import plain4"),
    module_edit("import in the body", _setup(5), "plain5.py", "v + 1", "v + 2", "import plain5 as p\nout = p.f(v)", "module plain5"),
    module_edit("star import", _setup(6), "plain6.py", "v + 1", "v + 2", "out = f(v)", "module plain6", cells="from plain6 import *"),
    module_edit("star import in the body", _setup(7), "plain7.py", "v + 1", "v + 2", "from plain7 import *\nout = f(v)", "module plain7"),
    module_edit("computed getattr", _setup(8), "plain8.py", "v + 1", "v + 2", "out = getattr(plain8, 'ff'[:1])(v)", "module plain8", cells="import plain8"),
    module_edit("module passed around", _setup(9), "plain9.py", "v + 1", "v + 2", "out = call(plain9, v)", "module plain9", cells="import plain9\ndef call(m, v): return m.f(v)"),
    module_edit("module in a dict", _setup(10), "plain10.py", "v + 1", "v + 2", "out = d['m'].f(v)", "module plain10", cells="import plain10\nd = {'m': plain10}"),
    module_edit("importlib with a literal", _setup(11), "plain11.py", "v + 1", "v + 2", "import importlib\nout = importlib.import_module('plain11').f(v)", "module plain11"),
    module_edit("function of a module in a list", _setup(12), "plain12.py", "v + 1", "v + 2", "out = [s(v) for s in steps]", "module plain12", cells="from plain12 import f as g\nsteps = [g]"),
    module_edit(
        "two imports of one name",
        {"fast13.py": _F, "slow13.py": _F, "main13.py": "try:\n    import fast13 as impl\nexcept ImportError:\n    import slow13 as impl\ndef use(v):\n    return impl.f(v)\n"},
        "fast13.py", "v + 1", "v + 2", "out = main13.use(v)", "module fast13", cells="import main13",
    ),
    module_edit(
        "two imports of one function",
        {"fast14.py": _F, "slow14.py": _F, "main14.py": "try:\n    from fast14 import f\nexcept ImportError:\n    from slow14 import f\ndef use(v):\n    return f(v)\n"},
        "fast14.py", "v + 1", "v + 2", "out = main14.use(v)", "module fast14", cells="import main14",
    ),
    module_edit(
        "relative imports",
        {"pkg15/__init__.py": "from .core import run\n", "pkg15/core.py": "from . import low\nfrom .low import f as g\ndef run(v):\n    return g(v) + low.other(v)\n", "pkg15/low.py": _F},
        "pkg15/low.py", "v + 7", "v + 8", "out = pkg15.run(v)", "module pkg15.low", cells="import pkg15",
    ),
    module_edit(
        "submodule through its package",
        {"pkg16/__init__.py": "from . import low\n", "pkg16/low.py": _F},
        "pkg16/low.py", "v + 1", "v + 2", "out = pkg16.low.f(v)", "module pkg16.low", cells="import pkg16",
    ),
    module_edit(
        "folder without init",
        {"space17/deep/low.py": _F}, "space17/deep/low.py", "v + 1", "v + 2", "from space17.deep import low\nout = low.f(v)", "module space17.deep.low",
    ),
    module_edit(
        "folder without init in a package",
        {"pkg17/__init__.py": "", "pkg17/deep/low.py": _F}, "pkg17/deep/low.py", "v + 7", "v + 8", "from pkg17.deep.low import f\nout = f(v)", None,
    ),
    module_edit(
        "star import between modules",
        {"low18.py": "__all__ = ['f']\n" + _F, "main18.py": "from low18 import *\ndef use(v):\n    return f(v)\n"},
        "low18.py", "v + 1", "v + 2", "out = main18.use(v)", "module low18", cells="import main18",
    ),
    module_edit(
        "method of an instance of a local class",
        {"model19.py": "class Base:\n    def m(self, v): return v + 1\nclass Model(Base):\n    pass\nclass Other:\n    pass\n"},
        "model19.py", "v + 1", "v + 2", "out = made.m(v)", "module model19", cells="import model19\nmade = model19.Model()",
    ),
    module_edit(
        "base class in another module",
        {"base20.py": "class Base:\n    def m(self, v): return v + 1\n", "model20.py": "import base20\nclass Model(base20.Base):\n    pass\n"},
        "base20.py", "v + 1", "v + 2", "out = made.m(v)", "module base20", cells="from model20 import Model\nmade = Model()",
    ),
    module_edit(
        "notebook class over a local one",
        {"base21.py": "class Base:\n    def m(self, v): return v + 1\n"},
        "base21.py", "v + 1", "v + 2", "out = C().m(v)", "module base21", cells="from base21 import Base\nclass C(Base):\n    pass",
    ),
    module_edit(
        "object made at import",
        {"store22.py": "class Store:\n    def get(self, v): return v + 1\nstore = Store()\ndef use(v):\n    return store.get(v)\n"},
        "store22.py", "v + 1", "v + 2", "out = store22.use(v)", "module store22", cells="import store22",
    ),
    module_edit(
        "registry filled by a decorator",
        {"reg23.py": "STEPS = {}\ndef step(f):\n    STEPS[f.__name__] = f\n    return f\n", "steps23.py": "from reg23 import step\n@step\ndef one(v):\n    return v + 1\n"},
        "steps23.py", "v + 1", "v + 2", "import steps23\nout = reg23.STEPS['one'](v)", "module steps23", cells="import reg23",
    ),
    module_edit(
        "local module named like one of python's",
        {"lib24/colorsys.py": "def mine(v):\n    return v + 1\n"},
        "lib24/colorsys.py", "v + 1", "v + 2", "out = colorsys.mine(v)", "module colorsys",
        cells="import sys\nsys.path.insert(0, 'lib24')\nimport colorsys",
    ),
    module_edit(
        "folder added to the path",
        {"lib25/plain25.py": _F}, "lib25/plain25.py", "v + 1", "v + 2", "out = plain25.f(v)", "module plain25",
        cells="import sys\nsys.path.append('lib25')\nimport plain25",
    ),
    module_edit(
        "conditional definitions",
        {"cond26.py": "import sys\nif sys.maxsize > 0:\n    def f(v):\n        return v + 1\nelse:\n    def f(v):\n        return v\n"},
        "cond26.py", "v + 1", "v + 2", "out = cond26.f(v)", "module cond26", cells="import cond26",
    ),
    module_edit(
        "function behind a lazy attribute",
        {"lazy27.py": "def __getattr__(name):\n    if name == 'f':\n        import low27\n        return low27.f\n    raise AttributeError(name)\n", "low27.py": _F},
        "low27.py", "v + 1", "v + 2", "out = lazy27.f(v)", "module low27", cells="import lazy27",
    ),
    module_edit(
        "import inside a function",
        {"main28.py": "def use(v):\n    from low28 import f\n    return f(v)\n", "low28.py": _F},
        "low28.py", "v + 1", "v + 2", "out = main28.use(v)", "module low28", cells="import main28",
    ),
    module_edit(
        "value taken from a module", {"const29.py": "RATE = 2\nOTHER = 1\n"}, "const29.py", "RATE = 2", "RATE = 3",
        "out = RATE * v", "captured RATE", cells="from const29 import RATE",
    ),
    module_edit(
        "another value of a module that a value was taken from", {"const30.py": "RATE = 2\nOTHER = 1\n"}, "const30.py", "OTHER = 1", "OTHER = 2",
        "out = RATE * v", None, cells="from const30 import RATE",
    ),
    module_edit(
        "enum of a module", {"enum31.py": "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2\n    def m(self): return self.value + 1\n"},
        "enum31.py", "+ 1", "+ 2", "out = e.m()", "module enum31", cells="from enum31 import E\ne = E.A",
    ),
    module_edit(
        "dataclass of a module", {"data32.py": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\n    def m(self): return self.x + 1\n"},
        "data32.py", "self.x + 1", "self.x + 2", "out = p.m()", "module data32", cells="from data32 import P\np = P()",
    ),
    module_edit(
        "file that a module reads when it is imported",
        {"conf34/__init__.py": "import json, pathlib\nCONF = json.loads((pathlib.Path(__file__).parent / 'conf.json').read_text())\ndef f(v):\n    return v + CONF['a']\n", "conf34/conf.json": '{"a": 1}'},
        "conf34/conf.json", "1", "2", "out = conf34.f(v)", "read conf.json", cells="import conf34",
    ),
    module_edit(
        "file that a module keeps in a cache",
        {"cached34/__init__.py": "import functools, pathlib\n@functools.cache\ndef conf():\n    return int((pathlib.Path(__file__).parent / 'n.txt').read_text())\ndef f(v):\n    return v + conf()\n", "cached34/n.txt": "1"},
        "cached34/n.txt", "1", "2", "out = cached34.f(v)", "read n.txt", cells="import cached34",
    ),
    module_edit(
        "importlib with a computed name", _setup(35), "plain35.py", "v + 1", "v + 2",
        "import importlib\nout = importlib.import_module('plain' + str(30 + v + 2)).f(v)", "read plain35",
    ),
    module_edit("sys.modules", _setup(36), "plain36.py", "v + 1", "v + 2", "import plain36\nimport sys\nout = sys.modules['plain36'].f(v)", "module plain36"),
    module_edit(
        "class attribute that is a local function", _setup(37), "plain37.py", "v + 1", "v + 2", "out = C.g(v)", "module plain37",
        cells="import plain37\nclass C:\n    g = plain37.f",
    ),
    module_edit(
        "decorator of a module",
        {"deco38.py": "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(v):\n        return 2 * f(v)\n    return inner\n"},
        "deco38.py", "2 * f", "3 * f", "out = g(v)", "helper g", cells="from deco38 import twice\n@twice\ndef g(v): return v",
    ),
    module_edit("default taken from a module", _setup(39), "plain39.py", "v + 1", "v + 2", "out = g(v)", "module plain39", cells="import plain39\ndef g(v, how=plain39.f): return how(v)"),
    module_edit("autoreload", _setup(40), "plain40.py", "v + 1", "v + 2", "out = plain40.f(v)", "module plain40", cells="%load_ext autoreload\n%autoreload 2\nimport plain40"),
    module_edit(
        "a name of a module changed through global", {"glob41.py": "N = 1\ndef set_it():\n    global N\n    N = 5\nset_it()\ndef f(v):\n    return v + N\n"},
        "glob41.py", "N = 5", "N = 6", "out = glob41.f(v)", "module glob41", cells="import glob41",
    ),
    module_edit(
        "function made by a function of a module", {"make42.py": "def make(k):\n    def inner(v):\n        return v * k + 1\n    return inner\nf = make(2)\n"},
        "make42.py", "k + 1", "k + 2", "out = f(v)", "captured f", cells="from make42 import f",
    ),
    module_edit(
        "partial in a module", {"part43.py": "from functools import partial\ndef g(k, v):\n    return k * v + 1\nf = partial(g, 2)\n"},
        "part43.py", "v + 1", "v + 2", "out = f(v)", "module part43", cells="from part43 import f",
    ),
    module_edit("string with the module's name", _setup(44), "plain44.py", "v + 1", "v + 2", "out = __import__('plain44').f(v)", "module plain44"),
    module_edit(
        "class used by name in a module's dict", {"table45.py": "class A:\n    k = 1\nTABLE = {'a': A}\n"},
        "table45.py", "k = 1", "k = 2", "out = table45.TABLE['a'].k", "module table45", cells="import table45",
    ),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in MODULES])
def test_a_local_module_counts_as_far_as_it_is_reached(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(MODULES))
