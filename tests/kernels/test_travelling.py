"""Values of the user's classes that go from process to process: their code counts below, too."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.scenarios import Scenario, Seen, check

_P = "class P:\n    def __init__(self, k): self.k = k\n    def m(self): return self.k + 1\n"
_ONE = "%channel one = of(3)\n# %%\n"


def _travels(
    number: int,
    name: str,
    made: str,
    body: str = "out = x.m()",
    *,
    cells: str = "",
    module: str = "",
    edit: tuple[str, str] = ("self.k + 1", "self.k + 2"),
    because: str | None = "input x",
    source: str = "{up}",
) -> Scenario:
    """One process makes x, the next one reads it; the edit is in the cells or in the module."""
    up, where = f"up{number}", f"travel{number}"
    files = {f"{where}.py": module} if module else {}
    before = f"{cells.format(module=where)}\n# %%\n{_ONE}%%process {up}(v) -> x from one\n{made}"
    old, new = edit
    assert (old in before) != (old in module)
    return Scenario(
        name=name,
        cells=before,
        cells_after=before.replace(old, new, 1),
        files=files,
        files_after={f"{where}.py": module.replace(old, new, 1)} if old in module else {},
        body=body,
        header=f"(x) -> out from {source.format(up=up)}",
        because=because,
        judged=False,
        back=not module,
        foreseen=False,
    )


_TAKEN = "from {module} import P"
TRAVELLING = [
    _travels(1, "instance of a notebook class", "x = P(v)", cells=_P),
    _travels(2, "instance of a local class", "x = P(v)", cells=_TAKEN, module=_P),
    _travels(3, "list of local instances", "x = [P(v)]", "out = x[0].m()", cells=_TAKEN, module=_P),
    _travels(4, "local class itself", "x = P", "out = x(1).m()", cells=_TAKEN, module=_P),
    _travels(
        5, "instance that another function makes", "x = M.make(v)", cells="import {module} as M",
        module=_P + "def make(v): return P(v)\n",
    ),
    _travels(
        6, "member of a local enum", "x = P.A", cells=_TAKEN, edit=("value + 1", "value + 2"),
        module="from enum import Enum\nclass P(Enum):\n    A = 1\n    def m(self): return self.value + 1\n",
    ),
    _travels(
        7, "partial of a local function", "from functools import partial\nx = partial(M.f, v)",
        "out = x()", cells="import {module} as M", module="def f(v): return v + 1\n",
        edit=("v + 1", "v + 2"),
    ),
    _travels(
        8, "pipeline with a local step", "from sklearn.pipeline import make_pipeline\nx = make_pipeline(P())",
        "out = int(x.transform([[1]])[0][0])", cells=_TAKEN, edit=("X + 1", "X + 2"),
        module="import numpy as np\nfrom sklearn.base import BaseEstimator, TransformerMixin\n"
        "class P(TransformerMixin, BaseEstimator):\n    def fit(self, X, y=None): return self\n"
        "    def transform(self, X):\n        X = np.asarray(X)\n        return X + 1\n"
        "    def __sklearn_is_fitted__(self): return True\n",
    ),
    _travels(
        9, "collected local instances", "x = P(v)", "out = x[0].m()", cells=_TAKEN, module=_P,
        source="{up}.collect()",
    ),
    _travels(
        10, "comment above a travelling class", "x = P(v)", cells=_TAKEN, module="# one\n" + _P,
        edit=("# one", "# two"), because=None,
    ),
    _travels(
        11, "comment above a travelling notebook class", "x = P(v)", cells="# one\n" + _P,
        edit=("# one", "# two\n\n"), because=None,
    ),
]  # fmt: skip


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in TRAVELLING])
def test_a_value_brings_the_code_of_its_class_along(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(TRAVELLING))
