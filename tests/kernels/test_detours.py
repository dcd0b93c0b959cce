"""Edits of local modules that a body reaches by a detour: registries, packages, archives, files."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

import py_compile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernels.scenarios import Change, Scenario, Seen, apart, check, module_edit

F = "def f(v):\n    return v + 1\ndef other(v):\n    return v + 7\n"


def _zipped(archive: str, module: str, text: str, data: str = "") -> Change:
    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / archive, "w") as file:
            file.writestr(module, text)
            file.writestr("data.txt", data)

    return change


def _zipped_without_source(archive: str, module: str, text: str) -> Change:
    def change(folder: Path) -> None:
        source = folder / "source"
        source.write_text(text)
        compiled = py_compile.compile(str(source), cfile=str(source) + ".pyc", doraise=True)
        with zipfile.ZipFile(folder / archive, "w") as file:
            file.write(str(compiled), f"{module}.pyc")

    return change


_ASKING = "import pkgutil\ndef f(): return pkgutil.get_data(__name__, 'data.txt').decode()\n"
_TWO_TREES = """
class B: pass
class One(B):
    def m(self): return 'one'
class Z: pass
class Y(Z):
    def m(self): return 'other'
def use(): return [c().m() for c in B.__subclasses__()]
"""
_HOOK = """
class B:
    known = []
    def __init_subclass__(cls): B.known.append(cls)
def use(): return [c().m() for c in B.known]
"""
_TABLE = """
steps = {}
def step(name):
    def keep(f):
        steps[name] = f
        return f
    return keep
class Field:
    def __init__(self, f): self.f = f
    def __set_name__(self, owner, name): steps[name] = self.f
def use(v): return steps['one'](v)
"""
DETOURS = [
    module_edit("init subclass registry", {"a1.py": "class B:\n    reg = {}\n    def __init_subclass__(cls): B.reg[cls.__name__] = cls\nclass One(B):\n    def m(self, v): return v + 1\ndef use(v): return B.reg['One']().m(v)\n"}, "a1.py", "v + 1", "v + 2", "out = a1.use(v)", "module a1", cells="import a1"),
    module_edit("init subclass across modules", {"a2.py": "class B:\n    reg = {}\n    def __init_subclass__(cls): B.reg[cls.__name__] = cls\ndef use(v): return B.reg['One']().m(v)\n", "a2b.py": "from a2 import B\nclass One(B):\n    def m(self, v): return v + 1\n"}, "a2b.py", "v + 1", "v + 2", "out = a2.use(v)", "module a2b", cells="import a2, a2b"),
    module_edit("init subclass across modules imported in body", {"a2.py": "class B:\n    reg = {}\n    def __init_subclass__(cls): B.reg[cls.__name__] = cls\ndef use(v): return B.reg['One']().m(v)\n", "a2c.py": "from a2 import B\nclass One(B):\n    def m(self, v): return v + 1\n"}, "a2c.py", "v + 1", "v + 2", "import a2, a2c\nout = a2.use(v)", "module a2c"),
    module_edit("subclasses in a module", {"a3.py": "class B: pass\nclass One(B):\n    def m(self, v): return v + 1\ndef use(v): return [c().m(v) for c in B.__subclasses__()]\n"}, "a3.py", "v + 1", "v + 2", "out = a3.use(v)", "module a3", cells="import a3"),
    module_edit("other hierarchy than the one asked for subclasses", {"a3b.py": _TWO_TREES}, "a3b.py", "'other'", "'edited'", "out = a3b.use() + [c().m() for c in a3b.B.__subclasses__()]", None, cells="import a3b"),
    module_edit("subclasses of a local class that the body asks", {"a3c.py": _TWO_TREES}, "a3c.py", "'one'", "'edited'", "out = [c().m() for c in B3.__subclasses__()]", "module a3c", cells="from a3c import B as B3"),
    module_edit("subclass in a module that the body does not import", {"a3d.py": _TWO_TREES, "a3e.py": "import a3d\nclass Two(a3d.B):\n    def m(self): return 'two'\n"}, "a3e.py", "'two'", "'edited'", "out = a3d.use()", "module a3e", cells="import a3d, a3e"),
    module_edit("init subclass with a dotted base", {"a2d/__init__.py": "from .base import use\nfrom . import one\n", "a2d/base.py": _HOOK, "a2d/one.py": "import a2d.base\nclass One(a2d.base.B):\n    def m(self): return 1\n"}, "a2d/one.py", "return 1", "return 2", "out = a2d.use()", "module a2d.one", cells="import a2d"),
    module_edit("init subclass with a base by a star", {"a2e/__init__.py": "from .base import use\nfrom . import one\n", "a2e/base.py": _HOOK, "a2e/one.py": "from .base import *\nclass One(B):\n    def m(self): return 1\n"}, "a2e/one.py", "return 1", "return 2", "out = a2e.use()", "module a2e.one", cells="import a2e"),
    module_edit("patch of a class that a star brings", {"a2f.py": "class T:\n    def m(self): return 1\ndef use(): return T().m()\n", "a2g.py": "from a2f import *\ndef better(self): return 2\nT.m = better\n"}, "a2g.py", "return 2", "return 3", "out = a2f.use()", "module a2g", cells="import a2f, a2g"),
    module_edit("patch by a function of the module that patches", {"a2h.py": "steps = {}\ndef use(v): return steps['one'](v)\n", "a2i.py": "import a2h\ndef one(v): return v + 1\ndef install():\n    a2h.steps['one'] = one\ninstall()\n"}, "a2i.py", "v + 1", "v + 2", "out = a2h.use(v)", "module a2i", cells="import a2h, a2i"),
    module_edit("plugin whose registration is assigned", {"a2j.py": _TABLE, "a2k.py": "import a2j\ndef one(v): return v + 1\n_ = a2j.steps.setdefault('one', one)\n"}, "a2k.py", "v + 1", "v + 2", "out = a2j.use(v)", "module a2k", cells="import a2j, a2k"),
    module_edit("plugin that updates a table in place", {"a2l.py": _TABLE, "a2m.py": "from a2l import steps\ndef one(v): return v + 1\nsteps |= {'one': one}\n"}, "a2m.py", "v + 1", "v + 2", "out = a2l.use(v)", "module a2m", cells="import a2l, a2m"),
    module_edit("decorator under another name", {"a2n.py": _TABLE, "a2o.py": "import a2n\nregister = a2n.step\n@register('one')\ndef one(v): return v + 1\n"}, "a2o.py", "v + 1", "v + 2", "out = a2n.use(v)", "module a2o", cells="import a2n, a2o"),
    module_edit("set name registry", {"a2p.py": _TABLE, "a2q.py": "from a2p import Field\nclass Row:\n    one = Field(lambda v: v + 1)\n"}, "a2q.py", "v + 1", "v + 2", "out = a2p.use(v)", "module a2q", cells="import a2p, a2q"),
    module_edit("patch of a module out of sys.modules", {"a2r.py": "def one(v): return 0\ndef use(v): return one(v)\n", "a2s.py": "import sys\ndef better(v): return v + 1\nsys.modules['a2r'].one = better\n"}, "a2s.py", "v + 1", "v + 2", "out = a2r.use(v)", "module a2s", cells="import a2r, a2s"),
    module_edit("function that sets a global of its module", {"a2t.py": "K = 1\ndef set_k(k):\n    global K\n    K = k\n    return k\ndef use(v): return v + K\n", "a2u.py": "import a2t\nwas = a2t.set_k(5)\n"}, "a2u.py", "5", "6", "out = a2t.use(v)", "module a2u", cells="import a2t, a2u"),
    module_edit("values that a module makes of another's", {"a2v.py": "K = 2\nROWS = [1, 2]\ndef named(n): return f'{n}{K}'\ndef use(v): return v + K\n", "a2w.py": "import a2v\nNAME = a2v.named('x')\nMOST = max(a2v.ROWS)\n"}, "a2w.py", "'x'", "'y'", "out = a2v.use(v)", None, cells="import a2v, a2w"),
    module_edit("module that runpy runs", {"a2x.py": "def f(v): return v + 1\nout = f(1)\n"}, "a2x.py", "v + 1", "v + 2", "import runpy\nout = runpy.run_module('a2x')['out']", "module a2x"),
    module_edit("metaclass registry", {"a4.py": "REG = {}\nclass M(type):\n    def __new__(m, n, b, d):\n        c = super().__new__(m, n, b, d)\n        REG[n] = c\n        return c\nclass B(metaclass=M): pass\nclass One(B):\n    def m(self, v): return v + 1\ndef use(v): return REG['One']().m(v)\n"}, "a4.py", "v + 1", "v + 2", "out = a4.use(v)", "module a4", cells="import a4"),
    module_edit("class body side effect", {"a5.py": "REG = []\nclass One:\n    def m(self, v): return v + 1\n    REG.append(m)\ndef use(v): return REG[0](None, v)\n"}, "a5.py", "v + 1", "v + 2", "out = a5.use(v)", "module a5", cells="import a5"),
    module_edit("default argument side effect", {"a6.py": "REG = {}\ndef reg(n):\n    REG['n'] = n\n    return n\ndef unused(x=reg(1)): pass\ndef use(v): return REG['n'] + v\n"}, "a6.py", "reg(1)", "reg(2)", "out = a6.use(v)", "module a6", cells="import a6"),
    module_edit("user decorator called cache", {"a7.py": "REG = {}\ndef cache(f):\n    REG[f.__name__] = f\n    return f\n@cache\ndef one(v): return v + 1\ndef use(v): return REG['one'](v)\n"}, "a7.py", "v + 1", "v + 2", "out = a7.use(v)", "module a7", cells="import a7"),
    module_edit("globals in a module", {"a8.py": "def one(v): return v + 1\ndef use(v): return globals()['one'](v)\n"}, "a8.py", "v + 1", "v + 2", "out = a8.use(v)", "module a8", cells="import a8"),
    module_edit("sys modules self", {"a9.py": "import sys\ndef one(v): return v + 1\ndef use(v): return getattr(sys.modules[__name__], 'one')(v)\n"}, "a9.py", "v + 1", "v + 2", "out = a9.use(v)", "module a9", cells="import a9"),
    module_edit("globals of a frame", {"a9f.py": "import sys\ndef one(v): return v + 1\ndef use(v): return sys._getframe().f_globals['one'](v)\n"}, "a9f.py", "v + 1", "v + 2", "out = a9f.use(v)", "module a9f", cells="import a9f"),
    module_edit("module of a function", {"a9m.py": "import sys\ndef one(v): return v + 1\ndef use(v): return getattr(sys.modules[use.__module__], 'o' + 'ne')(v)\n"}, "a9m.py", "v + 1", "v + 2", "out = a9m.use(v)", "module a9m", cells="import a9m"),
    module_edit("import self", {"a10.py": "def one(v): return v + 1\ndef use(v):\n    import a10\n    return getattr(a10, 'o' + 'ne')(v)\n"}, "a10.py", "v + 1", "v + 2", "out = a10.use(v)", "module a10", cells="import a10"),
    module_edit("inspect members", {"a11.py": "def one(v): return v + 1\n"}, "a11.py", "v + 1", "v + 2", "import inspect\nout = [f(v) for n, f in inspect.getmembers(a11, inspect.isfunction)]", "module a11", cells="import a11"),
    module_edit("dir of module", {"a12.py": "def one(v): return v + 1\n"}, "a12.py", "v + 1", "v + 2", "out = [a12.__dict__[n](v) for n in dir(a12) if n == 'one']", "module a12", cells="import a12"),
    module_edit("vars of module", {"a13.py": "def one(v): return v + 1\n"}, "a13.py", "v + 1", "v + 2", "out = vars(a13)['one'](v)", "module a13", cells="import a13"),
    module_edit("dunder dict", {"a14.py": "def one(v): return v + 1\n"}, "a14.py", "v + 1", "v + 2", "out = a14.__dict__['one'](v)", "module a14", cells="import a14"),
    module_edit("pickle by name", {"a15.py": "class One:\n    def m(self, v): return v + 1\n"}, "a15.py", "v + 1", "v + 2", "import pickle\nout = pickle.loads(p).m(v)", "read a15", cells="import a15, pickle\np = pickle.dumps(a15.One())"),
    module_edit("operator attrgetter of a module", {"a16.py": "def one(v): return v + 1\n"}, "a16.py", "v + 1", "v + 2", "from operator import attrgetter\nout = attrgetter('one')(a16)(v)", "module a16", cells="import a16"),
    module_edit("pkg sub by attribute", {"p17/__init__.py": "", "p17/low.py": F}, "p17/low.py", "v + 1", "v + 2", "out = p17.low.f(v)", "module p17.low", cells="import p17.low"),
    module_edit("pkg sub alias", {"p18/__init__.py": "", "p18/low.py": F}, "p18/low.py", "v + 1", "v + 2", "out = L.f(v)", "module p18.low", cells="import p18.low as L"),
    module_edit("pkg sub from", {"p19/__init__.py": "", "p19/low.py": F}, "p19/low.py", "v + 1", "v + 2", "out = low.f(v)", "module p19.low", cells="from p19 import low"),
    module_edit("pkg init constant", {"p20/__init__.py": "K = 1\n", "p20/low.py": "from . import K\ndef f(v): return v + K\n"}, "p20/__init__.py", "K = 1", "K = 2", "out = low.f(v)", "module p20", cells="from p20 import low"),
    module_edit("deep relative", {"p21/__init__.py": "", "p21/a/__init__.py": "", "p21/a/x.py": "from ..b.y import f as g\ndef h(v): return g(v)\n", "p21/b/__init__.py": "", "p21/b/y.py": F}, "p21/b/y.py", "v + 1", "v + 2", "out = h(v)", "module p21.b.y", cells="from p21.a.x import h"),
    module_edit("deep relative unreached", {"p22/__init__.py": "", "p22/a/__init__.py": "", "p22/a/x.py": "from ..b.y import f as g\ndef h(v): return g(v)\n", "p22/b/__init__.py": "", "p22/b/y.py": F}, "p22/b/y.py", "v + 7", "v + 8", "out = h(v)", None, cells="from p22.a.x import h"),
    module_edit("import in body dotted", {"p23/__init__.py": "", "p23/low.py": F}, "p23/low.py", "v + 1", "v + 2", "import p23.low\nout = p23.low.f(v)", "module p23.low"),
    module_edit("import in function in body", {"p24.py": F}, "p24.py", "v + 1", "v + 2", "def g():\n    from p24 import f as h\n    return h(v)\nout = g()", "module p24"),
    module_edit("import in helper", {"p25.py": F}, "p25.py", "v + 1", "v + 2", "out = g(v)", "module p25", cells="def g(v):\n    import p25 as q\n    return q.f(v)"),
    module_edit("conditional import in body", {"p26.py": F}, "p26.py", "v + 1", "v + 2", "try:\n    import nothing_there as q\nexcept ImportError:\n    import p26 as q\nout = q.f(v)", "module p26"),
    module_edit("from import as in body", {"p27.py": F}, "p27.py", "v + 1", "v + 2", "from p27 import f as g\nout = g(v)", "module p27"),
    module_edit("from import as in body unreached", {"p28.py": F}, "p28.py", "v + 7", "v + 8", "from p28 import f as g\nout = g(v)", None),
    module_edit("docstring of a module", {"p29.py": "'''one'''\n" + F}, "p29.py", "one", "two", "out = p29.f(v)", None, cells="import p29"),
    module_edit("docstring of a function", {"p30.py": "def f(v):\n    '''one'''\n    return v\n"}, "p30.py", "one", "two", "out = p30.f(v)", None, cells="import p30"),
    module_edit("docstring of a class", {"p31.py": "class C:\n    '''one'''\n    def f(self, v): return v\n"}, "p31.py", "one", "two", "out = p31.C().f(v)", None, cells="import p31"),
    module_edit("formatting", {"p32.py": F}, "p32.py", "return v + 1", "return (v\n            + 1)  # so", "out = p32.f(v)", None, cells="import p32"),
    module_edit("main block", {"p33.py": F + "if __name__ == '__main__':\n    print(1)\n"}, "p33.py", "print(1)", "print(2)", "out = p33.f(v)", None, cells="import p33"),
    module_edit("unreached class", {"p34.py": F + "class Z:\n    a = 1\n"}, "p34.py", "a = 1", "a = 2", "out = p34.f(v)", None, cells="import p34"),
    module_edit("unreached subclass of package class", {"p35.py": "from enum import Enum\n" + F + "class Z(Enum):\n    a = 1\n"}, "p35.py", "a = 1", "a = 2", "out = p35.f(v)", None, cells="import p35"),
    module_edit("unreached dataclass", {"p36.py": "from dataclasses import dataclass\n" + F + "@dataclass\nclass Z:\n    a: int = 1\n"}, "p36.py", "int = 1", "int = 2", "out = p36.f(v)", None, cells="import p36"),
    module_edit("unreached subclass of a local class", {"p37.py": F + "class Y: pass\nclass Z(Y):\n    def m(self): return 1\n"}, "p37.py", "return 1", "return 2", "out = p37.f(v)", None, cells="import p37"),
    module_edit("module data read in the body", {"p38/__init__.py": "import pathlib\ndef f(v): return (pathlib.Path(__file__).parent / 'd.txt').read_text()\n", "p38/d.txt": "1"}, "p38/d.txt", "1", "2", "out = p38.f(v)", "read d.txt", cells="import p38"),
    module_edit("importlib resources", {"p39/__init__.py": "from importlib import resources\ndef f(v): return resources.files('p39').joinpath('d.txt').read_text()\n", "p39/d.txt": "1"}, "p39/d.txt", "1", "2", "out = p39.f(v)", "read d.txt", cells="import p39"),
    module_edit("pkgutil data", {"p40/__init__.py": "import pkgutil\ndef f(v): return pkgutil.get_data('p40', 'd.txt').decode()\n", "p40/d.txt": "1"}, "p40/d.txt", "1", "2", "out = p40.f(v)", "read d.txt", cells="import p40"),
    Scenario(name="module in a zip", files={"z41/x": ""}, prepare=_zipped("lib41.zip", "zm41.py", F), change=_zipped("lib41.zip", "zm41.py", F.replace("v + 1", "v + 2")), cells="import sys\nsys.path.insert(0, 'lib41.zip')\nimport zm41", body="out = zm41.f(v)", because="module zm41", back=False),
    Scenario(name="unreached in a zip", prepare=_zipped("lib42.zip", "zm42.py", F), change=_zipped("lib42.zip", "zm42.py", F.replace("v + 7", "v + 8")), cells="import sys\nsys.path.insert(0, 'lib42.zip')\nimport zm42", body="out = zm42.f(v)", because=None, back=False),
    Scenario(name="module without source in a zip", prepare=_zipped_without_source("lib73.zip", "zm73", F), change=_zipped_without_source("lib73.zip", "zm73", F.replace("v + 1", "v + 2")), cells="import sys\nsys.path.insert(0, 'lib73.zip')\nimport zm73", body="out = zm73.f(v)", because="module zm73", back=False),
    Scenario(name="data in a zip", prepare=_zipped("lib74.zip", "zm74.py", _ASKING, "1"), change=_zipped("lib74.zip", "zm74.py", _ASKING, "2"), cells="import sys\nsys.path.insert(0, 'lib74.zip')\nimport zm74", body="out = zm74.f()", because="read lib74.zip", back=False),
    module_edit("local module with a bom and coding", {"p43.py": "# -*- coding: latin-1 -*-\ndef f(v):\n    return v + 1\n"}, "p43.py", "v + 1", "v + 2", "out = p43.f(v)", "module p43", cells="import p43"),
    module_edit("type checking block", {"p44.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os\n" + F}, "p44.py", "import os", "import json", "out = p44.f(v)", None, cells="import p44"),
    module_edit("all changed", {"p45.py": "__all__ = ['f']\n" + F}, "p45.py", "['f']", "['f', 'other']", "out = p45.f(v)", "module p45", cells="import p45"),
    module_edit("decorator local in module body", {"p46.py": "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(v): return f(v) + 1\n    return w\n@deco\ndef f(v): return v * 2\n"}, "p46.py", "f(v) + 1", "f(v) + 2", "out = p46.f(v)", "module p46", cells="import p46"),
    module_edit("class constant through instance in notebook", {"p47.py": "class C:\n    k = 1\n"}, "p47.py", "k = 1", "k = 2", "out = c.k", "module p47", cells="from p47 import C\nc = C()"),
    module_edit("exception class of a module", {"p48.py": "class E(Exception):\n    def __str__(self): return 'a'\ndef f(v):\n    raise E(v)\n"}, "p48.py", "'a'", "'b'", "try:\n    p48.f(v)\nexcept p48.E as e:\n    out = str(e)", "module p48", cells="import p48"),
    module_edit("singledispatch of a module", {"p49.py": "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n@f.register\ndef _(v: int): return 1\n"}, "p49.py", "return 1", "return 2", "out = p49.f(v)", "module p49", cells="import p49"),
    module_edit("singledispatch registered elsewhere", {"p50.py": "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n", "p50b.py": "import p50\n@p50.f.register\ndef _(v: int): return 1\n"}, "p50b.py", "return 1", "return 2", "out = p50.f(v)", "module p50b", cells="import p50, p50b"),
    module_edit("singledispatch registered elsewhere and used by its name", {"p50c.py": "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n", "p50d.py": "import p50c\n@p50c.f.register\ndef _(v: int): return 1\n"}, "p50d.py", "return 1", "return 2", "out = f50(v)", "module p50d", cells="from p50c import f as f50\nimport p50d"),
    module_edit("monkeypatch by another module", {"p51.py": "def f(v): return v + 1\n", "p51b.py": "import p51\ndef g(v): return v + 5\np51.f = g\n"}, "p51b.py", "v + 5", "v + 6", "out = p51.f(v)", "module p51b", cells="import p51, p51b"),
    module_edit("setattr by another module", {"p51s.py": "class A:\n    k = 1\n", "p51t.py": "import p51s\nsetattr(p51s.A, 'k', 5)\n"}, "p51t.py", "'k', 5", "'k', 6", "out = p51s.A.k", "module p51t", cells="import p51s, p51t"),
    module_edit("monkeypatch in the notebook", {"p52.py": "def f(v): return v + 1\ndef h(v): return f(v)\n"}, "p52.py", "v + 1", "v + 2", "out = p52.h(v)", "module p52", cells="import p52"),
    module_edit("whl on path relative later chdir", {"d53/p53.py": F}, "d53/p53.py", "v + 1", "v + 2", "out = p53.f(v)", "module p53", cells="import sys, os\nsys.path.append(os.path.abspath('d53'))\nimport p53\nos.chdir('/tmp')\nos.chdir(sys.path[-1] + '/..')"),
    module_edit("name from module in dataclass field", {"p54.py": "def mk(): return [1]\n"}, "p54.py", "[1]", "[2]", "out = P().x", "module p54", cells="import p54\nfrom dataclasses import dataclass, field\n@dataclass\nclass P:\n    x: list = field(default_factory=p54.mk)"),
    module_edit("async function of a module", {"p55.py": "async def f(v): return v + 1\n"}, "p55.py", "v + 1", "v + 2", "out = await p55.f(v)", "module p55", cells="import p55"),
    module_edit("generator of a module", {"p56.py": "def f(v):\n    yield v + 1\n"}, "p56.py", "v + 1", "v + 2", "out = list(p56.f(v))", "module p56", cells="import p56"),
    module_edit("partial over module function", {"p57.py": F}, "p57.py", "v + 1", "v + 2", "out = p()", "module p57", cells="import p57\nfrom functools import partial\np = partial(p57.f, 3)"),
    module_edit("module attribute alias", {"p58.py": F + "g = f\n"}, "p58.py", "v + 1", "v + 2", "out = p58.g(v)", "module p58", cells="import p58"),
    module_edit("getattr default in notebook helper", {"p59.py": F}, "p59.py", "v + 1", "v + 2", "out = call('f', v)", "module p59", cells="import p59\ndef call(n, v): return getattr(p59, n)(v)"),
    module_edit("same module two names unreached", {"p60.py": F}, "p60.py", "v + 7", "v + 8", "out = a.f(v) + b.f(v)", None, cells="import p60 as a\nimport p60 as b"),
    module_edit("tuple assignment in a module", {"p61.py": "A, B = 1, 2\n" + F}, "p61.py", "1, 2", "1, 3", "out = p61.f(v) + p61.B", "module p61", cells="import p61"),
    module_edit("nested class", {"p62.py": "class A:\n    class B:\n        def m(self, v): return v + 1\n"}, "p62.py", "v + 1", "v + 2", "out = p62.A.B().m(v)", "module p62", cells="import p62"),
    *apart([module_edit("import star of a package with all", {"p63/__init__.py": "from .low import *\n__all__ = ['f']\n", "p63/low.py": F}, "p63/low.py", "v + 1", "v + 2", "out = f(v)", "module p63.low", cells="from p63 import *")]),
    module_edit("lazy import in property", {"p64.py": "class C:\n    @property\n    def p(self):\n        from p64b import f\n        return f(1)\n", "p64b.py": F}, "p64b.py", "v + 1", "v + 2", "out = p64.C().p", "module p64b", cells="import p64"),
    module_edit("importlib literal in a module", {"p65.py": "import importlib\ndef use(v): return importlib.import_module('p65b').f(v)\n", "p65b.py": F}, "p65b.py", "v + 1", "v + 2", "out = p65.use(v)", "module p65b", cells="import p65"),
    module_edit("importlib relative in a package", {"p66/__init__.py": "import importlib\ndef use(v): return importlib.import_module('.low', __name__).f(v)\n", "p66/low.py": F}, "p66/low.py", "v + 1", "v + 2", "out = p66.use(v)", "read p66.low", cells="import p66"),
    module_edit("pkg loop of plugins", {"p67/__init__.py": "import importlib, pkgutil\ndef use(v): return sum(importlib.import_module(f'p67.{m.name}').f(v) for m in pkgutil.iter_modules(__path__))\n", "p67/one.py": F}, "p67/one.py", "v + 1", "v + 2", "out = p67.use(v)", "read p67.one", cells="import p67"),
    module_edit("comment in one of them", {"p73/__init__.py": "import importlib, pkgutil\ndef use(v): return sum(importlib.import_module(f'p73.{m.name}').f(v) for m in pkgutil.iter_modules(__path__))\n", "p73/one.py": F + "# one\n"}, "p73/one.py", "# one", "# two", "out = p73.use(v)", None, cells="import p73"),
    module_edit("runpy", {"p68.py": "x = 1\n"}, "p68.py", "x = 1", "x = 2", "import runpy\nout = runpy.run_path(str(here / ('p6' + '8.py')))['x']", "read p68.py", cells="from pathlib import Path\nhere = Path.cwd()"),
    module_edit("exec of an open file", {"p69.py": "x = 1\n"}, "p69.py", "x = 1", "x = 2", "d = {}\nexec(open(here / ('p6' + '9.py')).read(), d)\nout = d['x']", "read p69.py", cells="from pathlib import Path\nhere = Path.cwd()"),
    module_edit("spec from file location", {"p70.py": "x = 1\n"}, "p70.py", "x = 1", "x = 2", "import importlib.util as u\ns = u.spec_from_file_location('q', here / ('p7' + '0.py'))\nm = u.module_from_spec(s)\ns.loader.exec_module(m)\nout = m.x", "read p70.py", cells="from pathlib import Path\nhere = Path.cwd()"),
    *apart([module_edit("run magic", {"p71.py": F}, "p71.py", "v + 1", "v + 2", "out = f(v)", "helper f", cells="%run p71.py")]),
    module_edit("run magic unreached", {"p72.py": F}, "p72.py", "v + 7", "v + 8", "out = f(v)", None, cells="%run p72.py"),
    module_edit("sys under another name", {"p74.py": F}, "p74.py", "v + 1", "v + 2", "import p74\nimport sys as s\nout = s.modules[''.join(['p7', '4'])].f(v)", "module p74"),
    module_edit("modules of sys by its own name", {"p75.py": F, "p76.py": "from sys import modules as m\ndef take(*n): return m[''.join(n)]\n"}, "p75.py", "v + 1", "v + 2", "import p75, p76\nout = p76.take('p7', '5').f(v)", "module p75"),
    module_edit("sys under another name in a module", {"p77.py": F, "p78.py": "import sys as s\ndef take(*n): return s.modules[''.join(n)]\n"}, "p77.py", "v + 1", "v + 2", "import p77, p78\nout = p78.take('p7', '7').f(v)", "module p77"),
    module_edit("modules of something else", {"p79.py": F, "p80.py": "class Net: modules = {'one': 1}\ndef take(net, *n): return net.modules[''.join(n)]\n"}, "p79.py", "v + 7", "v + 8", "import p79, p80\nout = p79.f(p80.take(p80.Net, 'o', 'ne'))", None),
    module_edit("call of import in a module", {"p81.py": F, "p82.py": "def take(*n): return __import__(''.join(n))\n"}, "p81.py", "v + 1", "v + 2", "import p81, p82\nout = p82.take('p8', '1').f(v)", "read p81"),
    module_edit("run module by a computed name", {"p83.py": F}, "p83.py", "v + 1", "v + 2", "import runpy\nout = runpy.run_module(''.join(['p8', '3']))['f'](v)", "read p83"),
    module_edit("submodule before a function hides it", {"p84/__init__.py": "from .sub import use\nfrom .f import f\n", "p84/f.py": "def f(v): return v\ndef g(v): return v + 1\n", "p84/sub.py": "from p84 import f\ndef use(v): return f.g(v)\n"}, "p84/f.py", "v + 1", "v + 2", "out = use(v)", "module p84.f", cells="from p84 import use"),
    module_edit("function that hides its submodule before anybody asks", {"p85/__init__.py": "from .f import f\nfrom .sub import use\n", "p85/f.py": "def f(v): return v\ndef g(v): return v + 1\n", "p85/sub.py": "from p85 import f\ndef use(v): return f(v)\n"}, "p85/f.py", "v + 1", "v + 2", "out = use(v)", None, cells="from p85 import use"),
    module_edit("name of a star before the package's own", {"p86/__init__.py": "from .a import *\nfrom .sub import use\ndef f(v): return v\n", "p86/a.py": "from .c import f\n", "p86/c.py": F, "p86/sub.py": "from . import f\ndef use(v): return f(v)\n"}, "p86/c.py", "v + 1", "v + 2", "out = use(v)", "module p86.c", cells="from p86 import use"),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in DETOURS])
def test_a_local_module_counts_by_whatever_way_it_is_reached(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(DETOURS))
