"""Corners of Python where code hides: what libraries keep of classes, docstrings, registries."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.kernels.scenarios import Scenario, Seen, apart, check, edit, module_edit

F = "def f(v):\n    return v + 1\ndef other(v):\n    return v + 7\n"


def _added(
    name: str,
    files: Mapping[str, str],
    added: Mapping[str, str],
    body: str,
    because: str | None,
    **more: object,
) -> Scenario:
    """Return the scenario of files that appear beside the notebook."""
    return Scenario(
        name=name, files=files, files_after=added, body=body, because=because, back=False, **more  # type: ignore[arg-type]
    )  # fmt: skip


CORNERS = apart([
    edit("flag boundary", "from enum import Flag, STRICT, KEEP\nclass F(Flag, boundary=STRICT):\n    A = 1\n    B = 2", "boundary=STRICT", "boundary=KEEP", "try:\n    out = F(8).value\nexcept ValueError:\n    out = 'no'", "helper F"),
    edit("enum private", "from enum import Enum\nclass E(Enum):\n    __k = 1\n    A = 1\n    def m(self): return E._E__k", "__k = 1", "__k = 2", "out = E.A.m()", "helper E"),
    edit("enum nonmember", "from enum import Enum, nonmember\nclass E(Enum):\n    k = nonmember(5)\n    A = 1", "(5)", "(6)", "out = E.k", "helper E"),
    edit("enum descriptor", "from enum import Enum\nclass D:\n    def __get__(self, o, t): return 1\nclass E(Enum):\n    d = D()\n    A = 1", "return 1", "return 2", "out = E.A.d", "helper E"),
    edit("enum init", "from enum import Enum\nclass E(Enum):\n    A = (1, 2)\n    def __init__(self, a, b): self.s = a + b", "a + b", "a - b", "out = E.A.s", "helper E"),
    edit("enum member property", "from enum import Enum, property as eprop\nclass E(Enum):\n    A = 1\n    @eprop\n    def p(self): return 1", "return 1", "return 2", "out = E.A.p", "helper E"),
    edit("enum static lambda", "from enum import Enum, member\nfrom functools import partial\nclass E(Enum):\n    A = member(lambda v: v + 1)", "v + 1", "v + 2", "out = E.A.value(v)", "helper E"),
    edit("enum custom metaclass", "from enum import Enum, EnumMeta\nclass M(EnumMeta):\n    def __getitem__(c, n): return 1\nclass E(Enum, metaclass=M):\n    A = 1", "return 1", "return 2", "out = E['zz']", "helper E"),
    edit("namedtuple repr", "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    def __repr__(self): return 'a'", "'a'", "'b'", "out = repr(P(v))", "helper P"),
    edit("namedtuple subclass new", "from collections import namedtuple\nclass P(namedtuple('B', 'x y')):\n    def __new__(cls, x, y=1): return super().__new__(cls, x, y)", "y=1", "y=2", "out = P(v).y", "helper P"),
    edit("slots instance", "class C:\n    __slots__ = ('a', 'b')\n    def __init__(self, a): self.a = a\nc = C(1)", "C(1)", "C(2)", "out = c.a", "captured c"),
    edit("slots hold nothing else", "class C:\n    __slots__ = ('a', '__b')\n    k = 1", "k = 1", "k = 2", "c = C()\ntry:\n    c.z = 1\nexcept AttributeError:\n    out = (C.k, hasattr(c, '__dict__'))", "helper C"),
    edit("subclass made once", "class B:\n    n = 0\n    def __init_subclass__(cls, *, k):\n        B.n += 1\n        cls.k = k\nclass C(B, k=3): pass", "k=3", "k=4", "out = (C.k, B.n)", "helper C"),
    edit("metaclass that forbids", "class M(type):\n    def __new__(m, n, b, d, *, k):\n        return super().__new__(m, n, b, {**d, 'k': k})\n    def __init__(c, n, b, d, *, k): pass\n    def __setattr__(c, n, v): raise AttributeError(n)\nclass C(metaclass=M, k=1): pass", "k=1)", "k=2)", "out = C.k", "helper C"),
    edit("property subclass", "class prop(property):\n    def __get__(self, o, t=None): return super().__get__(o, t) + 1\nclass C:\n    @prop\n    def p(self): return 5", "+ 1", "+ 2", "out = C().p", "helper C"),
    edit("property subclass getter", "class prop(property):\n    def __get__(self, o, t=None): return super().__get__(o, t) + 1\nclass C:\n    @prop\n    def p(self): return 5", "return 5", "return 6", "out = C().p", "helper C"),
    edit("cached property subclass", "from functools import cached_property\nclass cp(cached_property): pass\nclass C:\n    @cp\n    def p(self): return 5", "return 5", "return 6", "out = C().p", "helper C"),
    edit("classmethod subclass", "class cm(classmethod): pass\nclass C:\n    @cm\n    def p(cls): return 5", "return 5", "return 6", "out = C.p()", "helper C"),
    edit("lru_cache attribute", "from functools import lru_cache\n@lru_cache\ndef g(v): return v\ng.k = 1", "g.k = 1", "g.k = 2", "out = g.k", "helper g"),
    edit("function renamed by attribute", "def g(v): return v\ng.__name__ = 'a'", "'a'", "'b'", "out = g.__name__", "helper g"),
    edit("function doc by attribute", "def g(v): return v\ng.__doc__ = 'a'", "'a'", "'b'", "out = g.__doc__", "helper g"),
    edit("function doc read", "def g(v):\n    'one'\n    return v", "one", "two", "out = g.__doc__", "helper g"),
    edit("doc read by getattr", "def g(v):\n    'one'\n    return v", "one", "two", "out = getattr(g, '__doc__')", "helper g"),
    edit("function code swapped", "def g(v): return 1\ndef h(v): return 2\ng.__code__ = h.__code__", "return 2", "return 3", "out = g(v)", "helper g"),
    edit("annotations alias hints", "from typing import get_type_hints\nT = int\ndef g(v: T): return v", "T = int", "T = float", "out = str(get_type_hints(g))", "helper g"),
    edit("annotations alias signature", "import inspect\nT = int\ndef g(v: T): return v", "T = int", "T = float", "out = str(inspect.signature(g))", "helper g"),
    edit("annotation nobody reads", "T = int\ndef g(v: T): return v", "T = int", "T = float", "out = g(v)", None),
    edit("mro entries", "class G:\n    def __mro_entries__(self, b): return (B,)\nclass B:\n    def m(self): return 1\nclass C(G()): pass", "return 1", "return 2", "out = C().m()", "helper C"),
    edit("method monkeypatched in another cell", "class C:\n    def m(self): return 1\n# %%\ndef new(self): return 2\nC.m = new", "return 2", "return 3", "out = C().m()", "helper C"),
    edit("new shadow of a builtin", "def f(v): return max(v, 1)", "def f", "def max(*a): return 5\ndef f", "out = f(v)", "helper max"),
    edit("closure late loop", "def make():\n    fs = []\n    for i in range(3):\n        fs.append(lambda v: v + i)\n    return fs\nfs = make()", "range(3)", "range(4)", "out = fs[0](v)", "captured fs"),
    edit("late bound global loop", "fs = [lambda v: v + i for i in range(3)]", "range(3)", "range(4)", "out = fs[0](v)", "captured fs"),
    edit("type call", "C = type('C', (), {'m': lambda self: 1, 'k': 5})", ": 1", ": 2", "out = C().m()", "helper C"),
    edit("decorator stacked order", "def a(f): return lambda v: f(v) + 1\ndef b(f): return lambda v: f(v) * 2\n@a\n@b\ndef g(v): return v", "@a\n@b", "@b\n@a", "out = g(v)", "helper g"),
    edit("protocol that was asked for its members", "from typing import Protocol, runtime_checkable\n@runtime_checkable\nclass P(Protocol):\n    def m(self): ...\nclass B:\n    def m(self): return 1", "return 1", "return 1\n\nisinstance(B(), P)", "out = isinstance(B(), P)", None),
    edit("class whose instance was copied", "class C:\n    def m(self): return 1", "return 1", "return 1\n\nimport copy\ncopy.copy(C())", "out = C().m()", None),
    edit("name put together for globals", "rate_a = 1\nrate_b = 5", "rate_a = 1", "rate_a = 2", "k = 'a'\nout = globals().get('rate_' + k)", "captured rate_a"),
    edit("another name than those put together", "rate_a = 1\nother = 5", "other = 5", "other = 6", "k = 'a'\nout = globals()[f'rate_{k}']", None),
    edit("name put together in a helper", "rate_a = 1\ndef f(k): return globals()[f'rate_{k}']", "rate_a = 1", "rate_a = 2", "out = f('a')", "captured rate_a"),
    edit("attribute of main in a helper", "K = 1\ndef f(v):\n    import __main__\n    return __main__.K + v", "K = 1", "K = 2", "out = f(v)", "captured K"),
    edit("main of sys modules", "K = 1", "K = 1", "K = 2", "import sys\nout = sys.modules['__main__'].K", "captured K"),
    edit("globals of a function", "K = 1\ndef f(v): return v", "K = 1", "K = 2", "out = f.__globals__['K']", "captured K"),
    edit("name asked for in dir", "K9 = 1", "K9 = 1", "pass", "out = 'K9' in dir()", "captured K9"),
    edit("function put into a library", "import colorsys\ncolorsys.rgb_to_hsv = lambda a: 99", "99", "100", "out = colorsys.rgb_to_hsv(v)", "helper colorsys.rgb_to_hsv"),
    edit("mock that a cell starts", "import numpy as np\nfrom unittest import mock\nmock.patch('numpy.kaiser', 99).start()", "99", "100", "out = np.kaiser", "captured numpy.kaiser"),
    edit("option of pandas", "import pandas as pd\npd.set_option('display.precision', 3)", "3)", "4)", "out = repr(pd.Series([1.23456789]))", "captured pandas.options.display.precision"),
    edit("option of pandas that shows nothing", "import pandas as pd\npd.set_option('display.max_columns', 3)", "3)", "4)", "out = int(pd.Series([1.5]).sum())", None),
    edit("option of pandas and an object that prints", "import pandas as pd\nclass R:\n    def m(self, s): return repr(s)\ntoken = R()\npd.set_option('display.min_rows', 4)", "4)", "6)", "out = token.m(pd.Series([1.5]))", "captured pandas.options.display.min_rows"),
    Scenario(name="option of a table that comes in", header="(t9) -> out from tables", cells="import pandas as pd\nt9 = pd.Series([1.23456789])\npd.set_option('display.precision', 3)\n# %%\n%channel tables = of(t9)", cells_after="import pandas as pd\nt9 = pd.Series([1.23456789])\npd.set_option('display.precision', 4)\n# %%\n%channel tables = of(t9)", body="out = repr(t9)", because="read pandas"),
    edit("items of a container under its own name", "from mimetypes import types_map as T\nT.update({'.nb9': 'a/b'})", "a/b", "a/c", "import mimetypes\nout = mimetypes.types_map['.nb9']", "captured mimetypes.types_map['.nb9']"),
    edit("style of plots", "import matplotlib.pyplot as plt\nplt.rc('axes', facecolor='red')", "red", "blue", "out = plt.rcParams['axes.facecolor']", "captured matplotlib.rcParams['axes.facecolor']"),
    edit("setting of a module that is not used", "import math, colorsys\ncolorsys.ONE_THIRD = 3", "= 3", "= 4", "out = math.floor(v)", None),
    edit("generic pydantic model", "from typing import Generic, TypeVar\nfrom pydantic import BaseModel\nT = TypeVar('T')\nclass PG(BaseModel, Generic[T]):\n    x: T\np = PG[int](x=1)", "x=1)", "x=2)", "out = (p.x, type(p) is PG[int])", "captured p"),
    edit("function with a cache that was called", "from functools import lru_cache\n@lru_cache\ndef g(v): return v + 1", "return v + 1", "return v + 1\n\ng(5)", "out = g(v)", None),
    edit("accessor of tables", "import pandas as pd\n@pd.api.extensions.register_dataframe_accessor('nb9')\nclass A:\n    def __init__(self, df): self.df = df\n    def total(self): return int(self.df.a.sum()) + 1\ndef made(v): return pd.DataFrame({'a': [v]})", "+ 1", "+ 2", "out = made(v).nb9.total()", "captured pandas.DataFrame.nb9"),
    edit("function that sets, imported by its name", "import numpy as np\nfrom numpy import seterr\nseterr(divide='raise')", "'raise'", "'ignore'", "try:\n    out = str(np.array([1.0]) / 0)\nexcept FloatingPointError:\n    out = 'raised'", "captured numpy.geterr()"),
])  # fmt: skip

MODULES = [
    module_edit("doc of a module function read", {"d1.py": "def f(v):\n    'one'\n    return v\n"}, "d1.py", "one", "two", "out = d1.f.__doc__", "module d1", cells="import d1"),
    module_edit("doc of a module read", {"d2.py": "'one'\nK = 1\n"}, "d2.py", "one", "two", "out = d2.__doc__", "module d2", cells="import d2"),
    module_edit("doc used inside a module", {"d3.py": "'one'\ndef f(v): return __doc__\n"}, "d3.py", "one", "two", "out = d3.f(v)", "module d3", cells="import d3"),
    module_edit("doc of a function read by inspect in module", {"d5.py": "import inspect\ndef g():\n    'one'\ndef f(v): return inspect.getdoc(g)\n"}, "d5.py", "one", "two", "out = d5.f(v)", "module d5", cells="import d5"),
    module_edit("doc collected by a decorator of the module", {"d7.py": "H = {}\ndef reg(f):\n    H[f.__name__] = f.__doc__\n    return f\n@reg\ndef g():\n    'one'\ndef f(v): return H['g']\n"}, "d7.py", "one", "two", "out = d7.f(v)", "module d7", cells="import d7"),
    module_edit("source read by inspect in module", {"d8.py": "import inspect\ndef g():\n    # one\n    return 1\ndef f(v): return inspect.getsource(g)\n"}, "d8.py", "one", "two", "out = d8.f(v)", "module d8", cells="import d8"),
    module_edit("unread doc", {"d9.py": "'one'\ndef f(v): return v\n"}, "d9.py", "one", "two", "out = d9.f(v)", None, cells="import d9"),
    module_edit("attribute docstring", {"q43.py": "K = 1\n'one'\n" + F}, "q43.py", "'one'", "'two'", "out = q43.f(v)", None, cells="import q43"),
    module_edit("main guard reversed", {"q42.py": F + "if '__main__' == __name__:\n    K = 1\n"}, "q42.py", "K = 1", "K = 2", "out = q42.f(v)", None, cells="import q42"),
    module_edit("string annotation resolved", {"q62.py": "from typing import get_type_hints\nclass C: k = 1\ndef g(v: 'C'): pass\ndef f(v): return get_type_hints(g)['v'].k\n"}, "q62.py", "k = 1", "k = 2", "out = q62.f(v)", "module q62", cells="import q62"),
    _added("conditional import appears in a function", {"q27.py": "def use(v):\n    try:\n        from q27new import f\n    except ImportError:\n        from q27b import f\n    return f(v)\n", "q27b.py": F}, {"q27new.py": "def f(v): return v + 50\n"}, "out = q27.use(v)", "module q27new", cells="import q27"),
    module_edit("registry in a package of plugins", {"q24/__init__.py": "from .reg import R\nfrom . import p1\ndef f(v): return [r(v) for r in R]\n", "q24/reg.py": "R = []\ndef reg(g):\n    R.append(g)\n    return g\n", "q24/p1.py": "from .reg import reg\n@reg\ndef a(v): return v + 1\n"}, "q24/p1.py", "v + 1", "v + 2", "out = q24.f(v)", "module q24.p1", cells="import q24"),
    Scenario(name="value set in a module", cells="import p1\np1.K = 99", cells_after="import p1\np1.K = 100", body="out = p1.f(v)", because="captured p1.K", files={"p1.py": "K = 1\ndef f(v): return v + K\n"}),
    Scenario(name="item set in a module", cells="from p2 import CONF, f\nCONF['a'] = 99", cells_after="from p2 import CONF, f\nCONF['a'] = 100", body="out = f(v)", because="captured p2.CONF['a']", files={"p2.py": "CONF = {'a': 1}\ndef f(v): return v + CONF['a']\n"}),
    Scenario(name="hook that a module was told", cells="import p5\n@p5.hook\ndef mine(v): return v + 99", cells_after="import p5\n@p5.hook\ndef mine(v): return v + 100", body="out = p5.apply(v)", because="captured p5.HOOKS", back=False, files={"p5.py": "HOOKS = []\ndef hook(f):\n    HOOKS.append(f)\n    return f\ndef apply(v):\n    for each in HOOKS: v = each(v)\n    return v\n"}),
    Scenario(name="branch of a module's dispatch", cells="import p6\n@p6.f.register\ndef _(v: int): return 99", cells_after="import p6\n@p6.f.register\ndef _(v: int): return 100", body="out = p6.f(v)", because="captured p6.f", files={"p6.py": "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n"}),
    Scenario(name="setting of python that a script makes", cells="import decimal\n%run p7a.py", cells_after="import decimal\n%run p7b.py", body="out = str(decimal.Decimal(1) / 3)", because="captured decimal.getcontext().prec", files={"p7a.py": "import decimal\ndecimal.getcontext().prec = 5\n", "p7b.py": "import decimal\ndecimal.getcontext().prec = 6\n"}),
    Scenario(name="function set in a module that is not reached", cells="import p3\np3.g = lambda: 1", cells_after="import p3\np3.g = lambda: 2", body="out = p3.f(v)", files={"p3.py": "def g(): return 1\ndef f(v): return v\n"}),
    module_edit("module loaded from a path", {"apart/q71.py": F}, "apart/q71.py", "v + 1", "v + 2", "out = loaded.f(v)", "module known", cells="import sys, importlib.util as u\nspec = u.spec_from_file_location('known', 'apart/q71.py')\nloaded = sys.modules['known'] = u.module_from_spec(spec)\nspec.loader.exec_module(loaded)"),
    module_edit("module loaded from a path whose name leads to another file", {"apart/q72.py": F, "q72.py": F.replace("v + 1", "v + 9")}, "apart/q72.py", "v + 1", "v + 2", "out = loaded.f(v)", "module q72", cells="import sys, importlib.util as u\nspec = u.spec_from_file_location('q72', 'apart/q72.py')\nloaded = sys.modules['q72'] = u.module_from_spec(spec)\nspec.loader.exec_module(loaded)"),
    module_edit("submodule by a computed name", {"p4/__init__.py": "", "p4/low.py": F}, "p4/low.py", "v + 1", "v + 2", "out = getattr(p4, 'l' + 'ow'[:2]).f(v)", "module p4.low", cells="import p4.low"),
    module_edit("functions reordered", {"q37.py": F}, "q37.py", F, "def other(v):\n    return v + 7\ndef f(v):\n    return v + 1\n", "out = q37.f(v)", None, cells="import q37"),
    module_edit("unreached function added", {"q39.py": F}, "q39.py", "def f", "def g(v): return 1\ndef f", "out = q39.f(v)", None, cells="import q39"),
    _added("module becomes a package", {"q49.py": F}, {"q49/__init__.py": F}, "out = q49.f(v)", None, cells="import q49", change=lambda d: (d / "q49.py").unlink()),
    Scenario(name="one name in two folders", files={"q32a/q32.py": F, "q32b/q32.py": F.replace("v + 1", "v + 5")}, cells="import sys\nsys.path[:0] = ['q32a', 'q32b']\nimport q32", cells_after="import sys\nsys.path[:0] = ['q32b', 'q32a']\nimport q32", body="out = q32.f(v)", because="module q32", back=False, judged=False),
    Scenario(name="folder that the body adds to the path", files={"q30dir/q30.py": F}, cells="import pathlib\nhere = pathlib.Path.cwd()", body="import sys\nsys.path.insert(0, str(here / 'q30dir'))\nimport q30\nout = q30.f(v)", judged=False),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in CORNERS])
def test_code_counts_in_the_corners_of_the_language(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(CORNERS))


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in MODULES])
def test_modules_count_by_what_is_asked_of_them(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(MODULES))
