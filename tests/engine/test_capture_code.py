"""What re-runs a task and what does not: one thing of a notebook's code changed at a time."""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.notebook_cells import captured, changed, keys

HELPER = "def scale(v):\n    return v * 3"


# The edits below are played by tests/kernels/test_code.py: what they change runs again, and says so.
UNCHANGED = {
    "a comment in the body": ("", "out = scale(v)", "", "# why\nout = scale(v)  # so"),
    "blank space in the body": ("", "out = scale(v)", "", "\n\nout   =  scale( v )\n\n"),
    "quotes": ("", "out = 'a\"b'", "", 'out = "a\\"b"'),
    "brackets and line breaks": ("", "out = v + 1 + 2", "", "out = (v +\n    1) + 2"),
    "a docstring in the body's function": (
        "",
        "def f(x):\n    'one'\n    return x\nout = f(v)",
        "",
        "def f(x):\n    'two'\n    return x\nout = f(v)",
    ),
    "a docstring added to a helper": (
        "def scale(v):\n    return v",
        "out = scale(v)",
        "def scale(v):\n    '''Scale.'''\n    return v",
        "out = scale(v)",
    ),
    "a comment in a helper": (
        "def scale(v):\n    return v",
        "out = scale(v)",
        "def scale(v):\n    # nothing yet\n    return v",
        "out = scale(v)",
    ),
    "a helper that is formatted anew": (
        "def scale(v, w=1): return {'a': v, 'b': w}",
        "out = scale(v)",
        'def scale(\n    v,\n    w=1,\n):\n    return {\n        "a": v,\n        "b": w,\n    }',
        "out = scale(v)",
    ),
    "a cell put in front": ("x = 1", "out = x", "pass\n\n\n\nx = 1", "out = x"),
    "definitions in another order": (
        "def a(v): return b(v)\ndef b(v): return v",
        "out = a(v)",
        "def b(v): return v\ndef a(v): return b(v)",
        "out = a(v)",
    ),
    "a helper that the body never reaches": (
        "def scale(v): return v\ndef other(v): return 1",
        "out = scale(v)",
        "def scale(v): return v\ndef other(v): return 2",
        "out = scale(v)",
    ),
    "a global that only shares an attribute's name": (
        "class C:\n    size = 1\nc = C()\nsize = 5",
        "out = c.size",
        "class C:\n    size = 1\nc = C()\nsize = 6",
        "out = c.size",
    ),
    "a global hidden by a helper's local name": (
        "k = 1\ndef f(v):\n    k = 2\n    return k * v",
        "out = f(v)",
        "k = 3\ndef f(v):\n    k = 2\n    return k * v",
        "out = f(v)",
    ),
    "a global hidden by a name of the body": (
        "k = 1",
        "k = 5\nout = k * v",
        "k = 2",
        "k = 5\nout = k * v",
    ),
    "a global hidden by a comprehension": (
        "i = 1",
        "out = [i for i in range(3)]",
        "i = 2",
        "out = [i for i in range(3)]",
    ),
    "a docstring of a class": (
        "class C:\n    'one'\n    def m(self): return 1",
        "out = C().m()",
        "class C:\n    'two'\n    def m(self):\n        # same\n        return 1",
        "out = C().m()",
    ),
    "methods in another order": (
        "class C:\n    def a(self): return 1\n    def b(self): return 2",
        "out = C().a()",
        "class C:\n    def b(self): return 2\n    def a(self): return 1",
        "out = C().a()",
    ),
    "a lambda formatted anew": ("f = lambda x: x+1", "out = f(v)", "f = (lambda x:\n    x + 1)", "out = f(v)"),
    "a set written in another order": (
        "s = {'a', 'b', 'c'}",
        "out = v in s",
        "s = {'c', 'b', 'a'}",
        "out = v in s",
    ),
}  # fmt: skip


BODY_EDITS = {
    "a constant": ("out = v + 1", "out = v + 2"),
    "a constant's type to float": ("out = v + 1", "out = v + 1.0"),
    "a constant's type to bool": ("out = v == 1", "out = v == True"),
    "a constant's type to text": ("out = [1]", "out = ['1']"),
    "the sign of zero": ("out = 0.0", "out = -0.0"),
    "bytes for text": ("out = 'a'", "out = b'a'"),
    "text inside quotes": ("out = 'a # b'", "out = 'a  # b'"),
    "the order of statements": ("a = v\nb = 2\nout = a", "b = 2\na = v\nout = a"),
    "a default": ("def f(x=1): return x\nout = f()", "def f(x=2): return x\nout = f()"),
    "a nested block": (
        "for i in range(3):\n    if i:\n        out = i",
        "for i in range(3):\n    if i:\n        pass\n    out = i",
    ),
    "an operator": ("out = v + 1", "out = v - 1"),
    "a name": ("a = b = v\nout = a", "a = b = v\nout = b"),
    "a part of a formatted text": ("out = f'{v:.2f}'", "out = f'{v:.3f}'"),
    "a conversion in a formatted text": ("out = f'{v}'", "out = f'{v!r}'"),
    "text that is no docstring": ("v\n'one'\nout = v", "v\n'two'\nout = v"),
    "text that is the value": ("'one'", "'two'"),
    "a keyword argument's name": ("out = dict(a=1)", "out = dict(b=1)"),
    "a star": ("out = [*v]", "out = [v]"),
}  # fmt: skip


def test_a_body_that_no_longer_awaits_is_another_one() -> None:
    before = "async def f(): return 1\nout = await f()"

    assert changed(captured(body=before), captured(body=before.replace("await ", ""))) == {
        "code body"
    }


# name -> (cells, what is replaced, by what, the body, the component that says so)
HELPER_EDITS: dict[str, tuple[str, str, str, str, str]] = {
    "direct": (HELPER, "3", "4", "out = scale(v)", "helper scale"),
    "transitive": (
        "def a(v): return b(v)\ndef b(v): return c(v)\ndef c(v): return v + 1",
        "v + 1", "v + 2", "out = a(v)", "helper c",
    ),
    "recursive": (
        "def f(n): return 1 if n < 1 else n * f(n - 1)",
        "n < 1", "n < 2", "out = f(v)", "helper f",
    ),
    "mutually recursive": (
        "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)",
        "n != 0", "n > 0", "out = even(v)", "helper odd",
    ),
    "a decorator's body": (
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(*a):\n"
        "        return 2 * f(*a)\n    return inner\n@twice\ndef g(v): return v",
        "2 * f", "3 * f", "out = g(v)", "helper g",
    ),
    "a decorated function": (
        "def twice(f):\n    def inner(*a):\n        return 2 * f(*a)\n    return inner\n"
        "@twice\ndef g(v): return v + 1",
        "v + 1", "v + 2", "out = g(v)", "helper g",
    ),
    "a builtin class that an object wraps": (
        "from functools import update_wrapper\nclass By:\n    def __init__(self, f):\n"
        "        self.f = f\n        update_wrapper(self, f)\n    def __call__(self, v):\n"
        "        return self.f(v)\nclass Calc: number = By(float)",
        "By(float)", "By(int)", "out = Calc.number(v)", "helper Calc",
    ),
    "a decorator's argument": (
        "def times(n):\n    def wrap(f):\n        return lambda *a: n * f(*a)\n    return wrap\n"
        "@times(2)\ndef g(v): return v",
        "times(2)", "times(3)", "out = g(v)", "helper g",
    ),
    "what lru_cache wraps": (
        "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef g(v): return v + 1",
        "v + 1", "v + 2", "out = g(v)", "helper g",
    ),
    "a context manager": (
        "from contextlib import contextmanager\n@contextmanager\ndef around():\n    yield 1",
        "yield 1", "yield 2", "with around() as out: pass", "helper around",
    ),
    "a method": (
        "class C:\n    def m(self, v): return v + 1", "v + 1", "v + 2", "out = C().m(v)", "helper C",
    ),
    "a method of an instance": (
        "class C:\n    def m(self, v): return v + 1\nc = C()",
        "v + 1", "v + 2", "out = c.m(v)", "captured c",
    ),
    "a method of a base class": (
        "class B:\n    def m(self): return 1\nclass C(B):\n    pass\nc = C()",
        "return 1", "return 2", "out = c.m()", "captured c",
    ),
    "a class attribute": (
        "class C:\n    rate = 1\n    def m(self): return self.rate",
        "rate = 1", "rate = 2", "out = C().m()", "helper C",
    ),
    "a property": (
        "class C:\n    @property\n    def p(self): return 1", "return 1", "return 2",
        "out = C().p", "helper C",
    ),
    "a static method": (
        "class C:\n    @staticmethod\n    def s(): return 1", "return 1", "return 2",
        "out = C.s()", "helper C",
    ),
    "a class method": (
        "class C:\n    @classmethod\n    def s(cls): return 1", "return 1", "return 2",
        "out = C.s()", "helper C",
    ),
    "a cached property": (
        "from functools import cached_property\nclass C:\n    @cached_property\n"
        "    def p(self): return 1", "return 1", "return 2", "out = C().p", "helper C",
    ),
    "a bound method": (
        "class C:\n    def __init__(self, k): self.k = k\n    def m(self, v): return v * self.k\n"
        "m = C(2).m", "C(2)", "C(3)", "out = m(v)", "captured m",
    ),
    "a closure cell": (
        "def make(n):\n    def inner(v): return v * n\n    return inner\nf = make(2)",
        "make(2)", "make(3)", "out = f(v)", "helper f",
    ),
    "a closure's function": (
        "def make(g):\n    def inner(v): return g(v)\n    return inner\nf = make(lambda v: v + 1)",
        "v + 1", "v + 2", "out = f(v)", "helper f",
    ),
    "a lambda": ("f = lambda v: v + 1", "v + 1", "v + 2", "out = f(v)", "helper f"),
    "one of two lambdas on a line": (
        "f, g = (lambda v: v + 1), (lambda v: v + 5)", "v + 1", "v + 2", "out = f(v)", "helper f",
    ),
    "a partial's function": (
        "from functools import partial\ndef f(k, v): return k * v + 1\np = partial(f, 2)",
        "v + 1", "v + 2", "out = p(v)", "captured p",
    ),
    "a partial's argument": (
        "from functools import partial\ndef f(k, v): return k * v\np = partial(f, 2)",
        "partial(f, 2)", "partial(f, 3)", "out = p(v)", "captured p",
    ),
    "a nested function": (
        "def f(v):\n    def inner(w): return w + 1\n    return inner(v)",
        "w + 1", "w + 2", "out = f(v)", "helper f",
    ),
    "a generator": (
        "def f(v):\n    yield v + 1", "v + 1", "v + 2", "out = list(f(v))", "helper f",
    ),
    "an async function": (
        "async def f(v): return v + 1", "v + 1", "v + 2", "out = await f(v)", "helper f",
    ),
    "a helper in a comprehension": (HELPER, "3", "4", "out = [scale(i) for i in v]", "helper scale"),
    "a helper inside a helper's comprehension": (
        HELPER + "\ndef many(v): return [scale(i) for i in v]", "3", "4", "out = many(v)",
        "helper scale",
    ),
    "a dict of functions": (
        HELPER + "\ntable = {'s': scale}", "3", "4", "out = table['s'](v)", "captured table",
    ),
    "a list of lambdas": (
        "steps = [lambda v: v + 1, lambda v: v * 2]", "v * 2", "v * 3",
        "out = [s(v) for s in steps]", "captured steps",
    ),
    "a global that a helper reads": (
        "factor = 2\ndef f(v): return v * factor", "factor = 2", "factor = 3", "out = f(v)",
        "captured factor",
    ),
    "a global that a lambda in a list reads": (
        "factor = 2\nsteps = [lambda v: v * factor]", "factor = 2", "factor = 3",
        "out = steps[0](v)", "captured factor",
    ),
    "a global that a method reads": (
        "factor = 2\nclass C:\n    def m(self, v): return v * factor\nc = C()",
        "factor = 2", "factor = 3", "out = c.m(v)", "captured factor",
    ),
    "a helper's default": (
        "def f(v, k=2): return v * k", "k=2", "k=3", "out = f(v)", "helper f",
    ),
    "a helper's default made elsewhere": (
        "limit = 2\ndef f(v, k=limit): return v * k", "limit = 2", "limit = 3", "out = f(v)",
        "helper f",
    ),
    "a keyword-only default": (
        "limit = [2]\ndef f(v, *, k=limit): return v * k[0]", "[2]", "[3]", "out = f(v)", "helper f",
    ),
    "a callable object": (
        "class Add:\n    def __init__(self, k): self.k = k\n    def __call__(self, v): return v + self.k\n"
        "add = Add(1)", "v + self.k", "v - self.k", "out = add(v)", "captured add",
    ),
    "a callable object's state": (
        "class Add:\n    def __init__(self, k): self.k = k\n    def __call__(self, v): return v + self.k\n"
        "add = Add(1)", "Add(1)", "Add(2)", "out = add(v)", "captured add",
    ),
    "a branch of a single dispatch": (
        "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n"
        "@f.register\ndef _(v: int): return 1", "return 1", "return 2", "out = f(v)", "helper f",
    ),
    "a new branch of a single dispatch": (
        "from functools import singledispatch\n@singledispatch\ndef f(v): return 0\n"
        "f.register(str, lambda v: 1)", "str", "int", "out = f(v)", "helper f",
    ),
    "a dataclass's default": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1",
        "int = 1", "int = 2", "out = P().x", "helper P",
    ),
    "a dataclass's default factory": (
        "from dataclasses import dataclass, field\n@dataclass\nclass P:\n"
        "    x: list = field(default_factory=lambda: [1])", "[1]", "[2]", "out = P().x", "helper P",
    ),
    "a dataclass's method": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\n"
        "    def m(self): return self.x + 1\np = P()", "self.x + 1", "self.x + 2", "out = p.m()",
        "captured p",
    ),
    "a dataclass's order": (
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int = 1",
        "order=True", "order=False", "out = P()", "helper P",
    ),
    "an enum's value": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    B = 2", "B = 2", "B = 3",
        "out = E.B.value", "helper E",
    ),
    "an enum's method": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    def m(self): return 1",
        "return 1", "return 2", "out = E.A.m()", "helper E",
    ),
    "the enum of a member": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n    def m(self): return 1\ne = E.A",
        "return 1", "return 2", "out = e.m()", "captured e",
    ),
    "a named tuple's default": (
        "from typing import NamedTuple\nclass T(NamedTuple):\n    x: int = 1", "= 1", "= 2",
        "out = T()", "helper T",
    ),
    "a named tuple's method": (
        "from typing import NamedTuple\nclass T(NamedTuple):\n    x: int = 1\n"
        "    def m(self): return 1\nt = T()", "return 1", "return 2", "out = t.m()", "captured t",
    ),
    "a protocol's method": (
        "from typing import Protocol\nclass P(Protocol):\n    def m(self): return 1\n"
        "class C(P):\n    pass", "return 1", "return 2", "out = C().m()", "helper C",
    ),
    "an abstract base's method": (
        "from abc import ABC, abstractmethod\nclass P(ABC):\n    def m(self): return 1\n"
        "    @abstractmethod\n    def n(self): ...\nclass C(P):\n    def n(self): return 0",
        "return 1", "return 2", "out = C().m()", "helper C",
    ),
    "a metaclass": (
        "class M(type):\n    def m(cls): return 1\nclass C(metaclass=M):\n    pass",
        "return 1", "return 2", "out = C.m()", "helper C",
    ),
    "an overloaded operator": (
        "class C:\n    def __add__(self, v): return 1\nc = C()", "return 1", "return 2",
        "out = c + v", "captured c",
    ),
    "a descriptor": (
        "class D:\n    def __get__(self, o, t): return 1\nclass C:\n    d = D()",
        "return 1", "return 2", "out = C().d", "helper C",
    ),
    "slots": (
        "class C:\n    __slots__ = ('a',)\n    def m(self): return 1\nc = C()",
        "return 1", "return 2", "out = c.m()", "captured c",
    ),
    "super": (
        "class B:\n    def m(self): return 1\nclass C(B):\n    def m(self): return super().m()",
        "return 1", "return 2", "out = C().m()", "helper C",
    ),
    "a function's attribute": (
        "def f(v): return v * f.k\nf.k = 2", "f.k = 2", "f.k = 3", "out = f(v)", "helper f",
    ),
    "a class changed after it was made": (
        "class C:\n    k = 1\nC.k = 2", "C.k = 2", "C.k = 3", "out = C.k", "helper C",
    ),
    "a method put in afterwards": (
        "class C:\n    pass\ndef m(self): return 1\nC.m = m", "return 1", "return 2",
        "out = C().m()", "helper C",
    ),
    "the module behind a name": (
        "import math as m", "math", "cmath", "out = m.sqrt(v)", "captured m",
    ),
    "the function behind a name": (
        "from math import sin as f", "sin", "cos", "out = f(v)", "captured f",
    ),
    "a list changed in place": (
        "items = [1]\nitems.append(2)", "append(2)", "append(3)", "out = items", "captured items",
    ),
    "an attrs class": (
        "import attrs\n@attrs.define\nclass P:\n    x: int = 1\n    def m(self): return 1\np = P()",
        "return 1", "return 2", "out = p.m()", "captured p",
    ),
    "an attrs class's default": (
        "import attrs\n@attrs.define\nclass P:\n    x: int = 1", "int = 1", "int = 2",
        "out = P()", "helper P",
    ),
    "a pydantic model's validator": (
        "import pydantic\nclass P(pydantic.BaseModel):\n    x: int = 1\n"
        "    @pydantic.field_validator('x')\n    @classmethod\n    def up(cls, x): return x + 1",
        "x + 1", "x + 2", "out = P(x=1).x", "helper P",
    ),
    "a pydantic model's default": (
        "import pydantic\nclass P(pydantic.BaseModel):\n    x: int = 1", "int = 1", "int = 2",
        "out = P().x", "helper P",
    ),
    "a pydantic model of an instance": (
        "import pydantic\nclass P(pydantic.BaseModel):\n    x: int = 1\n"
        "    def m(self): return 1\np = P()", "return 1", "return 2", "out = p.m()", "captured p",
    ),
    "numpy's vectorize": (
        "import numpy as np\nf = np.vectorize(lambda v: v + 1)", "v + 1", "v + 2", "out = f(v)",
        "captured f",
    ),
    "a function that exec made": (
        "exec('def f(v): return v + 1')", "v + 1", "v + 2", "out = f(v)", "helper f",
    ),
    "a function of a timed cell": (
        "%time f = lambda v: v + 1", "v + 1", "v + 2", "out = f(v)", "helper f",
    ),
    "a wrapper that says it is numpy's": (
        "import functools, numpy as np\n@functools.wraps(np.sum)\ndef f(v): return 1",
        "return 1", "return 2", "out = f(v)", "helper f",
    ),
    "a notebook function inside scikit-learn": (
        "from sklearn.preprocessing import FunctionTransformer\nimport numpy as np\n"
        "def step(v): return np.asarray(v) + 1\nt = FunctionTransformer(step)",
        "+ 1", "+ 2", "out = t.transform([[v]])", "captured t",
    ),
    "an object that knows itself": (
        "class N:\n    def __init__(self): self.me, self.k = self, 1\n    def m(self): return self\n"
        "n = N()", "self, 1", "self, 2", "out = n.m().k", "captured n",
    ),
    "two closures that know one another": (
        "def make(k):\n    def a(n): return b(n - 1) if n else k\n    def b(n): return a(n)\n"
        "    return a\nf = make(1)", "make(1)", "make(2)", "out = f(v)", "helper f",
    ),
    "a subclass of list": (
        "class L(list):\n    def m(self): return 1\nitems = L([1, 2])",
        "return 1", "return 2", "out = items.m()", "captured items",
    ),
    "a generic class": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass G(Generic[T]):\n"
        "    def m(self): return 1\nclass H(G[int]): pass", "return 1", "return 2",
        "out = H().m()", "helper H",
    ),
    "variables of types": (
        "from typing import ParamSpec, TypeVarTuple\nP, Ts = ParamSpec('P'), TypeVarTuple('Ts')",
        "'Ts'", "'Us'", "out = P.__name__ + Ts.__name__", "captured Ts",
    ),
    "a typed dict": (
        "from typing import TypedDict\nclass D(TypedDict):\n    x: int", "x: int", "x: str",
        "out = D(x=1)", "helper D",
    ),
    "an int flag": (
        "from enum import IntFlag\nclass F(IntFlag):\n    A = 1\n    B = 2", "B = 2", "B = 4",
        "out = F.A | F.B", "helper F",
    ),
    "an exception class": (
        "class E(Exception):\n    code = 1", "code = 1", "code = 2", "out = E.code", "helper E",
    ),
    "a frozen dataclass with slots": (
        "from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass P:\n"
        "    x: int = 1\n    def m(self): return 1\np = P()", "return 1", "return 2", "out = p.m()",
        "captured p",
    ),
    "a global that an inner class reads": (
        "k = 1\ndef f():\n    class C:\n        a = k\n    return C.a", "k = 1", "k = 2", "out = f()",
        "captured k",
    ),
    "a docstring that is read": (
        "def f(v):\n    '''one'''\n    return v\ndef g(v): return f.__doc__", "one", "two",
        "out = g(v), f(v)", "helper f",
    ),
    "a comment whose text is read": (
        "def f(v):\n    # one\n    return v", "one", "two",
        "import inspect\nout = inspect.getsource(f)", "helper f",
    ),
}  # fmt: skip
if sys.version_info >= (3, 12):
    HELPER_EDITS |= {
        "a type alias": (
            "type Pair[T] = tuple[T, T]", "[T, T]", "[T, T, T]",
            "out = str(Pair.__value__)", "captured Pair",
        ),
        "a type alias that names itself": (
            "type Json = list[Json] | int", "int", "str",
            "out = str(Json.__value__), Json.__value__.__args__[0].__args__[0] is Json",
            "captured Json",
        ),
        "a class with type parameters": (
            "class A[*Ts, **P]:\n    def m[U](self): return 1", "return 1", "return 2",
            "out = A().m()", "helper A",
        ),
    }  # fmt: skip
if sys.version_info >= (3, 13):
    HELPER_EDITS["a type parameter's default"] = (
        "class A[T, **P = [int]]: pass", "[int]", "[str]",
        "out = str(A.__type_params__)", "helper A",
    )  # fmt: skip


@pytest.mark.parametrize("name", HELPER_EDITS)
def test_the_same_cells_give_the_same_components_wherever_they_stand(name: str) -> None:
    cells, _, _, body, _ = HELPER_EDITS[name]

    before = captured(cells, body=body)
    after = captured("import os", "pass", "\n\n# moved\n" + cells, body=body)

    assert changed(before, after) == set()


def found_in_all(*, reverse: bool = False) -> dict[str, list[list[str]]]:
    """Return what enters the hash, of all cells and bodies above as they are before the edit."""
    all_cells = {
        **{name: (cells, body) for name, (cells, _, _, body, _) in HELPER_EDITS.items()},
        **{f"unchanged: {name}": each[:2] for name, each in UNCHANGED.items()},
        **{f"body: {name}": ("", before) for name, (before, _) in BODY_EDITS.items()},
    }
    return {
        name: sorted([*key, value] for key, value in keys(captured(cells, body=body)).items())
        for name, (cells, body) in sorted(all_cells.items(), reverse=reverse)
    }


_CHILD = """
import json
from tests.engine.test_capture_code import found_in_all
print(json.dumps(found_in_all(reverse=True)))
"""


def test_another_process_with_another_hash_seed_gives_the_same_components() -> None:
    import json

    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(root)}
    shown = subprocess.run(
        [sys.executable, "-c", _CHILD],
        env=environ,
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    other = json.loads(shown.splitlines()[-1])

    assert other == found_in_all()


def test_a_comment_of_the_body_counts_where_the_body_reads_its_own_text() -> None:
    body = "def f():\n    # {}\n    return 1\nimport inspect\nout = inspect.getsource(f)"

    before = captured(body=body.format("one"))
    after = captured(body=body.format("two"))

    assert changed(before, after) == {"code body"}
