"""Edits of classes that pydantic, attrs and others make, and of what derives from a library's."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.kernels.scenarios import Scenario, Seen, check, edit

PY = "import pydantic\nfrom pydantic import BaseModel, Field, PrivateAttr, computed_field\nfrom typing import Annotated, Literal\n"
AT = "import attrs\n"
SK = "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\n"
PD = "import pandas as pd, numpy as np\n"

LIBRARIES = [
    edit("pydantic default factory lambda", PY + "class P(BaseModel):\n    x: list = Field(default_factory=lambda: [1])", "[1]", "[2]", "out = P().x", "helper P"),
    edit("pydantic default factory same", PY + "class P(BaseModel):\n    x: list = Field(default_factory=lambda: [1])", ": [1]", ":  [1]", "out = P().x", None),
    edit("pydantic default factory function", PY + "def mk(): return [1]\nclass P(BaseModel):\n    x: list = Field(default_factory=mk)", "[1]", "[2]", "out = P().x", "helper P"),
    edit("pydantic constraint", PY + "class P(BaseModel):\n    x: int = Field(default=1, gt=0)", "gt=0", "gt=5", "try:\n    P(x=3)\n    out = 1\nexcept Exception: out = 2", "helper P"),
    edit("pydantic after validator", PY + "from pydantic import AfterValidator\ndef up(v): return v + 1\nclass P(BaseModel):\n    x: Annotated[int, AfterValidator(up)] = 1", "v + 1", "v + 2", "out = P(x=1).x", "helper P"),
    edit("pydantic after validator same", PY + "from pydantic import AfterValidator\ndef up(v): return v + 1\nclass P(BaseModel):\n    x: Annotated[int, AfterValidator(up)] = 1", "v + 1", "(v + 1)", "out = P(x=1).x", None),
    edit("pydantic annotation", PY + "class P(BaseModel):\n    x: int = 1", "x: int", "x: float", "out = P(x=2).x", "helper P"),
    edit("pydantic config", PY + "class P(BaseModel):\n    model_config = {'extra': 'ignore'}\n    x: int = 1", "'ignore'", "'allow'", "out = len(P(x=2, y=1).model_dump())", "helper P"),
    edit("pydantic private", PY + "class P(BaseModel):\n    x: int = 1\n    _k: int = PrivateAttr(default=1)\n    def m(self): return self._k", "default=1", "default=2", "out = P().m()", "helper P"),
    edit("pydantic private factory", PY + "class P(BaseModel):\n    x: int = 1\n    _k: int = PrivateAttr(default_factory=lambda: 1)\n    def m(self): return self._k", ": 1)", ": 2)", "out = P().m()", "helper P"),
    edit("pydantic private value", PY + "class P(BaseModel):\n    x: int = 1\n    _k: int = 1\n    def m(self): return self._k\np = P()\np._k = 5", "_k = 5", "_k = 6", "out = p.m()", "captured p"),
    edit("pydantic computed field", PY + "class P(BaseModel):\n    x: int = 1\n    @computed_field\n    @property\n    def y(self) -> int: return self.x + 1", "self.x + 1", "self.x + 2", "out = P().model_dump()", "helper P"),
    edit("pydantic serializer", PY + "class P(BaseModel):\n    x: int = 1\n    @pydantic.field_serializer('x')\n    def s(self, x): return x + 1", "x + 1", "x + 2", "out = P().model_dump()", "helper P"),
    edit("pydantic model validator", PY + "class P(BaseModel):\n    x: int = 1\n    @pydantic.model_validator(mode='after')\n    def s(self):\n        self.x += 1\n        return self", "+= 1", "+= 2", "out = P(x=1).x", "helper P"),
    edit("pydantic nested model", PY + "class Q(BaseModel):\n    y: int = 1\nclass P(BaseModel):\n    q: Q = Q()", "y: int = 1", "y: int = 2", "out = P().q.y", "helper P"),
    edit("pydantic value", PY + "class P(BaseModel):\n    x: int = 1\np = P(x=1)", "x=1)", "x=2)", "out = p.x", "captured p"),
    edit("pydantic fields set", PY + "class P(BaseModel):\n    x: int = 1\np = P(x=1)", "P(x=1)", "P()", "out = sorted(p.model_fields_set)", "captured p"),
    edit("pydantic inherited", PY + "class Q(BaseModel):\n    y: int = 1\nclass P(Q):\n    x: int = 0", "y: int = 1", "y: int = 2", "out = P().y", "helper P"),
    edit("pydantic alias", PY + "class P(BaseModel):\n    x: int = Field(default=1, alias='a')", "'a'", "'b'", "out = P(a=5).x", "helper P"),
    edit("pydantic dataclass", "import pydantic.dataclasses\n@pydantic.dataclasses.dataclass\nclass P:\n    x: int = 1", "= 1", "= 2", "out = P().x", "helper P"),
    edit("pydantic type adapter", "from pydantic import TypeAdapter\nt = TypeAdapter(list[int])", "list[int]", "list[float]", "out = t.validate_python(['3'])", "captured t"),
    edit("attrs factory", AT + "@attrs.define\nclass P:\n    x: list = attrs.field(factory=lambda: [1])", "[1]", "[2]", "out = P().x", "helper P"),
    edit("attrs factory same", AT + "@attrs.define\nclass P:\n    x: list = attrs.field(factory=lambda: [1])", "[1]", "[ 1 ]", "out = P().x", None),
    edit("attrs converter", AT + "@attrs.define\nclass P:\n    x: int = attrs.field(converter=lambda v: v + 1)", "v + 1", "v + 2", "out = P(v).x", "helper P"),
    edit("attrs validator", AT + "@attrs.define\nclass P:\n    x: int = attrs.field()\n    @x.validator\n    def c(self, a, v):\n        if v > 5: raise ValueError", "> 5", "> 2", "try:\n    P(v)\n    out = 1\nexcept ValueError: out = 2", "helper P"),
    edit("attrs private", AT + "@attrs.define\nclass P:\n    _x: int = 1\n    def m(self): return self._x\np = P(x=4)", "x=4", "x=5", "out = p.m()", "captured p"),
    edit("attrs frozen", AT + "@attrs.frozen\nclass P:\n    x: int = 1", "attrs.frozen", "attrs.define", "p = P()\ntry:\n    p.x = 3\n    out = 1\nexcept Exception: out = 2", "helper P"),
    edit("attrs eq", AT + "@attrs.define(eq=True)\nclass P:\n    x: int = 1", "eq=True", "eq=False", "out = P() == P()", "helper P"),
    edit("attrs derived", AT + "@attrs.define\nclass Q:\n    y: int = 1\n@attrs.define\nclass P(Q):\n    x: int = 1", "y: int = 1", "y: int = 2", "out = P().y", "helper P"),
    edit("attrs old style", "import attr\n@attr.s\nclass P:\n    x = attr.ib(default=1)", "default=1", "default=2", "out = P().x", "helper P"),
    edit("dataclass slots default", "from dataclasses import dataclass\n@dataclass(slots=True)\nclass P:\n    x: int = 1", "int = 1", "int = 2", "out = P().x", "helper P"),
    edit("subclass of dict attributes", "class D(dict): pass\nd = D(a=1)\nd.k = 1", "d.k = 1", "d.k = 2", "out = d.k", "captured d"),
    edit("subclass of ndarray", "import numpy as np\nclass A(np.ndarray):\n    def m(self): return 1\na = np.zeros(2).view(A)", "return 1", "return 2", "out = a.m()", "captured a"),
    edit("subclass of DataFrame", "import pandas as pd\nclass D(pd.DataFrame):\n    def m(self): return 1\nd = D({'a': [1]})", "return 1", "return 2", "out = d.m()", "captured d"),
    edit("scikit-learn helper in a pipeline", SK + "def clean(x): return [y * 2 for y in x]\npipe = make_pipeline(FunctionTransformer(clean))", "y * 2", "y * 3", "out = pipe.fit_transform([1.0, 2.0])", "captured pipe"),
    edit("scikit-learn own step in a pipeline", SK + "from sklearn.base import BaseEstimator, TransformerMixin\nclass T(BaseEstimator, TransformerMixin):\n    def __init__(self, k=1): self.k = k\n    def fit(self, X, y=None): return self\n    def transform(self, X): return [self.k + 1]\npipe = make_pipeline(T(2))", "k + 1", "k + 2", "out = pipe.fit_transform([[1.0]])", "captured pipe"),
    edit("scikit-learn scorer", SK + "from sklearn.dummy import DummyRegressor\nfrom sklearn.metrics import make_scorer\ndef mine(y, p): return 1\nscore = make_scorer(mine)", "return 1", "return 2", "out = score(DummyRegressor().fit([[1]], [1]), [[1]], [1])", "captured score"),
    edit("pandas attrs", PD + "df = pd.DataFrame({'a': [1, 2]})\ndf.attrs['unit'] = 'm'", "'m'", "'km'", "out = df.attrs['unit']", "captured df"),
    edit("pandas functions by column", PD + "df = pd.DataFrame({'g': [1, 1], 'a': [1, 2]})\nspec = {'a': ['mean', lambda s: s.max()]}", "s.max()", "s.min()", "out = df.groupby('g').agg(spec).to_numpy().tolist()", "captured spec"),
    edit("pandas frequency", PD + "ix = pd.DatetimeIndex(['2020-01-01', '2020-01-02', '2020-01-03'])", "03'])", "03'], freq='D')", "out = str(ix.freq)", "captured ix"),
    edit("numpy vectorize", PD + "@np.vectorize\ndef f(x): return x + 1", "x + 1", "x + 2", "out = f(np.arange(3)).tolist()", "captured f"),
    edit("numpy order and flags", PD + "m = np.array([[1, 2], [3, 4]], order='C')", "order='C')", "order='F')\nm.flags.writeable = False", "out = int(m.sum())", None),
    edit("scipy tree", "from scipy.spatial import cKDTree\nt = cKDTree([[0.0, 0.0], [1.0, 1.0]])", "[1.0, 1.0]", "[0.2, 1.0]", "out = int(t.query([0.4, 0.4])[1])", "captured t"),
    edit("scipy interpolation", "from scipy.interpolate import interp1d\nf = interp1d([0, 1, 2], [0, 2, 5])", "5])", "5], kind='nearest')", "out = float(f(0.6))", "captured f"),
    edit("graph", "import networkx as nx\nG = nx.Graph()\nG.add_edge(1, 2, w=1)", "w=1", "w=2", "out = G.edges[1, 2]['w']", "captured G"),
    edit("formula", "import sympy as sp\nx = sp.symbols('x')\nexpr = x**2 + 1", "x**2", "x**3", "out = str(sp.diff(expr, x))", "captured expr"),
    edit("unknown function of a formula", "import sympy as sp\nf, t = sp.Function('f'), sp.Symbol('t')\neq = sp.Eq(f(t).diff(t), f(t))", "sp.Eq(f", "sp.Eq( f", "out = str(sp.dsolve(eq))", None),
    edit("own function of sympy same", "import sympy as sp\nclass F(sp.Function):\n    @classmethod\n    def eval(cls, x): return x + 1 if x.is_number else None", "x + 1", "x  +  1", "out = str(F(3))", None),
    edit("own function of sympy", "import sympy as sp\nclass F(sp.Function):\n    @classmethod\n    def eval(cls, x): return x + 1 if x.is_number else None", "x + 1", "x + 2", "out = str(F(3))", "helper F"),
    edit("assumption of sympy", "import sympy as sp\nclass F(sp.Function):\n    is_positive = True", "= True", "= None", "out = F(sp.Symbol('x')).is_positive", "helper F"),
    replace(edit("schema checker", "import jsonschema\ncheck = jsonschema.Draft7Validator({'type': 'integer'})", "'type': ", "'type':  ", "out = check.is_valid(v)", None), files={"rfc3987_syntax.py": "is_valid_syntax = None"}),  # else every process loads a grammar
    edit("polars expression", "import polars as pl\ne = pl.col('a') * 2", "* 2", "* 3", "out = pl.DataFrame({'a': [1, 2]}).select(e)['a'].to_list()", "captured e"),
    edit("functions run by joblib", "from joblib import Parallel, delayed\ndef work(i): return i + 1", "i + 1", "i + 2", "out = Parallel(n_jobs=1)(delayed(work)(i) for i in range(3))", "helper work"),
    edit("arguments of a command line", "import argparse\np = argparse.ArgumentParser()\np.add_argument('--k', type=int, default=1)", "default=1", "default=2", "out = p.parse_args([]).k", "captured p"),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in LIBRARIES])
def test_what_a_library_makes_of_a_class_counts(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(LIBRARIES))
