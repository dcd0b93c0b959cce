"""Edits of notebook code and captured values, through real kernels: what runs and what is said."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.test_capture_code import BODY_EDITS, HELPER_EDITS, UNCHANGED
from tests.kernels.scenarios import Scenario, Seen, check, edit


def _iterable(text: str) -> str:
    return text.replace("in v]", "in range(v)]").replace("[*v]", "[*str(v)]")


HELPERS = [
    edit(f"edit of {name}", _iterable(cells), old, new, _iterable(body), because)
    for name, (cells, old, new, body, because) in HELPER_EDITS.items()
]
BODIES = [
    Scenario(
        name=f"body {name}",
        body=_iterable(before),
        body_after=_iterable(after).replace("out = [v]", "out = [str(v)]"),
        because="code body",
        judged="out" in before,
    )
    for name, (before, after) in BODY_EDITS.items()
]
HITS = [
    Scenario(
        name=f"same {name}",
        cells=cells or "def scale(v): return v",
        cells_after="pass\n# %%\n" + (new or "def scale(v): return v"),
        body=body.replace("out = v in s", "out = str(v) in s"),
        body_after=new_body.replace("out = v in s", "out = str(v) in s"),
    )
    for name, (cells, body, new, new_body) in UNCHANGED.items()
]

_CONFIG = (
    "class Config(dict):\n    def __getattr__(self, name):\n        return self[name]\n"
    "cfg = Config(a=1)"
)
_PROXY = (
    "class Inner:\n    def go(self): return 1\nclass Proxy:\n    def __init__(self): self.inner = Inner()\n"
    "    def __getattr__(self, name): return getattr(self.inner, name)\np = Proxy()"
)
DAILY = [
    edit("an object that asks what it holds", _PROXY, "return 1", "return 2", "out = p.go()", "captured p"),
    edit("attribute dict", _CONFIG, "a=1", "a=2", "out = cfg.a * v", "captured cfg"),
    edit(
        "local name shadows global", "rate = 1\ndef f(v):\n    rate = 5\n    return v * rate",
        "rate = 1", "rate = 2", "out = f(v)", None,
    ),
    edit(
        "comprehension name shadows global", "i = 1\ndef f(v):\n    return [i for i in range(v)]",
        "i = 1", "i = 2", "out = f(v)", None,
    ),
    edit(
        "first of two definitions", "def f(v): return v + 1\n# %%\ndef f(v): return v + 2",
        "v + 1", "v + 9", "out = f(v)", None,
    ),
    edit(
        "second of two definitions", "def f(v): return v + 1\n# %%\ndef f(v): return v + 2",
        "v + 2", "v + 9", "out = f(v)", "helper f",
    ),
    edit(
        "conditional definition",
        "flag = True\nif flag:\n    def f(v): return v + 1\nelse:\n    def f(v): return v + 2",
        "flag = True", "flag = False", "out = f(v)", "helper f",
    ),
    edit("dict of lambdas", "d = {'a': lambda v: v + 1}", "v + 1", "v + 2", "out = d['a'](v)", "captured d"),
    edit(
        "defaultdict of a lambda",
        "from collections import defaultdict\nd = defaultdict(lambda: 1)", ": 1", ": 2",
        "out = d[v]", "captured d",
    ),
    edit("itemgetter", "from operator import itemgetter\ng = itemgetter(1)", "(1)", "(2)", "out = g([1, 2, v])", "captured g"),
    edit("attrgetter", "from operator import attrgetter\ng = attrgetter('real')", "real", "imag", "out = g(v)", "captured g"),
    edit(
        "methodcaller", "from operator import methodcaller\ng = methodcaller('split', 'a')",
        "'a'", "'b'", "out = g('1a2b3')", "captured g",
    ),
    edit("method of a dict", "look = {3: 1}.get", "1}", "2}", "out = look(v)", "captured look"),
    edit("method of a text", "glue = ','.join", "','", "';'", "out = glue(['a', 'b'])", "captured glue"),
    edit(
        "method of a compiled pattern", "import re\nswap = re.compile('a+').sub", "a+", "a",
        "out = swap('x', 'aab')", "captured swap",
    ),
    edit(
        "a random generator", "import numpy as np\nrng = np.random.default_rng(1)", "(1)", "(2)",
        "out = float(rng.normal())", "captured rng",
    ),
    edit(
        "a random generator that was used",
        "import numpy as np\nrng = np.random.default_rng(1)\nrng.normal(size=2)", "size=2", "size=3",
        "out = float(rng.normal())", "captured rng",
    ),
    edit(
        "a method of a random generator", "import numpy as np\ndraw = np.random.default_rng(1).normal",
        "(1)", "(2)", "out = float(draw())", "captured draw",
    ),
    edit("python's random", "import random\nr = random.Random(1)", "(1)", "(2)", "out = r.random()", "captured r"),
    edit("a function that draws from the shared generator", "from numpy.random import normal\nfrom random import gauss\nk = 1", "k = 1", "k = 2", "normal()\ngauss(0, 1)\nout = k", "captured k"),
    edit(
        "a logger", "import logging\nlog = logging.getLogger('mine')\ndef f(v):\n    log.info('x')\n    return v + 1",
        "v + 1", "v + 2", "out = f(v)", "helper f",
    ),
    edit(
        "a logger's level", "import logging\nlog = logging.getLogger('mine')\nlog.setLevel(10)",
        "log.setLevel(10)", "log.setLevel(20)", "log.info('x')\nout = v", None,
    ),
    edit(
        "an estimator's parameter",
        "from sklearn.linear_model import Ridge\nm = Ridge(alpha=1.0)", "1.0", "2.0",
        "out = m.fit([[1], [2], [3]], [1, 2, 4]).coef_.tolist()", "captured m",
    ),
    edit(
        "a fitted estimator",
        "from sklearn.linear_model import LinearRegression\nm = LinearRegression().fit([[1], [2]], [1, 2])",
        "[1, 2])", "[1, 3])", "out = m.coef_.round(6).tolist()", "captured m",
    ),
    edit(
        "a pipeline of estimators",
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\n"
        "from sklearn.linear_model import Ridge\nm = make_pipeline(StandardScaler(), Ridge(1.0))",
        "Ridge(1.0)", "Ridge(3.0)", "out = m.fit([[1], [2], [3]], [1, 2, 4]).predict([[v]]).round(6).tolist()",
        "captured m",
    ),
    edit(
        "a table changed in place",
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf.loc[0, 'a'] = 5", "= 5", "= 6",
        "out = int(df.a.sum())", "captured df",
    ),
    edit(
        "a table's column type", "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]}, dtype='int64')",
        "int64", "int32", "out = str(df.a.dtype)", "captured df",
    ),
    edit(
        "a table's index", "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]}, index=[0, 1])",
        "[0, 1]", "[0, 2]", "out = df.index.tolist()", "captured df",
    ),
    edit(
        "a grouped table", "import pandas as pd\ng = pd.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a')",
        "3]})", "4]})", "out = g.b.sum().tolist()", "captured g",
    ),
    edit("a frozen distribution", "from scipy import stats\nd = stats.norm(0, 1)", "(0, 1)", "(0, 2)", "out = float(d.std())", "captured d"),
    edit(
        "an interpolation", "from scipy.interpolate import interp1d\nf = interp1d([0, 9], [0, 1])",
        "[0, 1]", "[0, 2]", "out = float(f(v))", "captured f",
    ),
    edit("a polynomial", "import numpy as np\np = np.poly1d([1, 2])", "[1, 2]", "[1, 3]", "out = float(p(v))", "captured p"),
    edit(
        "a simple namespace", "from types import SimpleNamespace\nc = SimpleNamespace(a=1)", "a=1", "a=2",
        "out = c.a", "captured c",
    ),
    edit(
        "parsed arguments", "import argparse\np = argparse.ArgumentParser()\np.add_argument('--a', default=1)\nargs = p.parse_args([])",
        "default=1", "default=2", "out = args.a", "captured args",
    ),
    edit(
        "a user dict", "from collections import UserDict\nd = UserDict(a=1)", "a=1", "a=2", "out = d['a']", "captured d",
    ),
    edit("an array of the array module", "from array import array\na = array('i', [1])", "[1]", "[2]", "out = a[0]", "captured a"),
    edit("a mapping proxy", "from types import MappingProxyType\nd = MappingProxyType({'a': 1})", "1}", "2}", "out = d['a']", "captured d"),
    edit("a chain map", "from collections import ChainMap\nd = ChainMap({'a': 1})", "1}", "2}", "out = d['a']", "captured d"),
    edit("a time span", "import datetime as dt\nt = dt.timedelta(1)", "(1)", "(2)", "out = t.days", "captured t"),
    edit("a zone", "from zoneinfo import ZoneInfo\nz = ZoneInfo('UTC')", "UTC", "Europe/Berlin", "out = str(z)", "captured z"),
    edit("a bytearray", "raw = bytearray(b'a')", "b'a'", "b'c'", "out = bytes(raw)", "captured raw"),
    edit(
        "star arguments", "def f(*args, **kw): return sum(args) + sum(kw.values())\nargs = [1, 2]",
        "[1, 2]", "[1, 3]", "out = f(*args, **{'a': v})", "captured args",
    ),
    edit(
        "a chain of generators", "def a(n):\n    for i in range(n):\n        yield i\ndef b(n):\n    yield from a(n + 1)",
        "n + 1", "n + 2", "out = list(b(v))", "helper b",
    ),
    edit("a global that a helper counts up", "n = 1\ndef f():\n    global n\n    n += 1\n    return n", "n = 1", "n = 5", "out = f()", "captured n"),
    edit(
        "a registry filled by a decorator",
        "STEPS = {}\ndef step(f):\n    STEPS[f.__name__] = f\n    return f\n@step\ndef one(v): return v + 1",
        "v + 1", "v + 2", "out = STEPS['one'](v)", "captured STEPS",
    ),
    edit(
        "an instance made before its class was edited",
        "class C:\n    def m(self): return 1\nc = C()\n# %%\nclass C:\n    def m(self): return 2",
        "return 2", "return 3", "out = c.m()", None,
    ),
    edit(
        "an instance whose class was replaced",
        "class C:\n    def m(self): return 1\nc = C()\n# %%\nclass C:\n    def m(self): return 2\nc.__class__ = C",
        "return 2", "return 3", "out = c.m()", "captured c",
    ),
    edit(
        "an object with a state of its own",
        "class S:\n    def __init__(self, k): self.k, self.f = k, open('/dev/null')\n"
        "    def __getstate__(self): return {'k': self.k}\n    def __setstate__(self, s): self.k = s['k']\ns = S(1)",
        "S(1)", "S(2)", "out = s.k", "captured s",
    ),
    edit(
        "an object that reduces itself",
        "def make(k): return R(k)\nclass R:\n    __slots__ = ('k',)\n    def __init__(self, k): self.k = k\n"
        "    def __reduce__(self): return make, (self.k,)\nr = R(1)",
        "R(1)", "R(2)", "out = r.k", "captured r",
    ),
    edit(
        "an iterator over functions in a class",
        "class P:\n    steps = [lambda v: v + 1, lambda v: v * 2]\n    def run(self, v):\n"
        "        for s in self.steps:\n            v = s(v)\n        return v",
        "v * 2", "v * 3", "out = P().run(v)", "helper P",
    ),
    edit(
        "a matplotlib colour map", "import matplotlib\ncm = matplotlib.colormaps['viridis']", "viridis", "magma",
        "out = cm(0)", "captured cm",
    ),
    edit("a class in a dict", "class A:\n    k = 1\nd = {'a': A}", "k = 1", "k = 2", "out = d['a'].k", "captured d"),
    edit(
        "a frozen set of tuples", "s = frozenset({(1, 'a'), (2, 'b')})", "'b'", "'c'", "out = sorted(s)", "captured s",
    ),
    edit("an assertion's text", "def f(v):\n    assert v, 'one'\n    return v", "one", "two", "out = f(v)", "helper f"),
    edit(
        "a type alias nobody reads", "T = int\ndef f(v): return v + 1", "T = int", "T = float", "out = f(v)", None,
    ),
    edit(
        "an import moved to another cell", "import math\ndef f(v): return math.floor(v)",
        "import math\n", "import os\n# %%\nimport math\n", "out = f(v)", None,
    ),
    edit("a figure beside it", "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nk = 1", "k = 1", "k = 2", "out = k", "captured k"),
    edit(
        "warning filters", "import warnings\nwarnings.filterwarnings('ignore')\ndef f(v): return v",
        "'ignore'", "'default'", "out = f(v)", None,
    ),
    edit("a locale", "import locale\nlocale.setlocale(locale.LC_ALL, 'C')", "'C'", "'C.UTF-8'", "out = v", None),
    edit("a working directory", "import os\nos.makedirs('a', exist_ok=True)\nos.makedirs('b', exist_ok=True)\nos.chdir('a')\nos.chdir('..')", "'a')\nos.chdir('..')", "'b')\nos.chdir('..')", "out = v", None),
    edit("numpy's print options", "import numpy as np\nnp.set_printoptions(precision=3)", "=3", "=4", "out = v", None),
]  # fmt: skip


def _played(group: list[Scenario]) -> list[object]:
    return [pytest.param(each, id=each.name) for each in group]


EDITS = [*HELPERS, *BODIES, *HITS]


@pytest.mark.parametrize("scenario", _played(EDITS))
def test_what_an_edit_changes_runs_again_and_nothing_else(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(EDITS + DAILY))


@pytest.mark.parametrize("scenario", _played(DAILY))
def test_what_notebooks_hold_counts_by_what_it_is(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(EDITS + DAILY))
