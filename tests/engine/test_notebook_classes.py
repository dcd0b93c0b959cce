"""Objects of the notebook's own classes go to workers and come back as what they are."""

from __future__ import annotations

from collections.abc import Callable

from tests.engine.notebooks import Notebook

CLASSES = """
from dataclasses import dataclass
from enum import Enum
K = 1
@dataclass
class P:
    x: int
    n = 0
    def m(self): return self.x + K
@dataclass(slots=True)
class S:
    x: int
class E(Enum):
    A = 1
"""
MAKE = "%%process make(v) -> made from one\nmade = [P(v), S(v), E.A]\nP.n = 7"
LOOK = "(made[0] == P(3), made[1] == S(3), made[2] is E.A, hasattr(made[1], '__dict__'), P.n)"


def test_an_object_of_a_notebook_class_is_one_of_that_class_wherever_it_comes_from(
    kernels: Callable[[], Notebook],
) -> None:
    for trial in (1, 2):
        # the second kernel has the first one's result, and a class of its own
        kernel = kernels()
        kernel.cells(
            [
                CLASSES,
                "%channel one = of(3)",
                f"{MAKE}\n{kernel.mark(1)}",
                f"%%process look(made) -> out from make\nout = {LOOK}, {trial}",
            ]
        )
        run = kernel.run()
        assert not run.error
        assert kernel.ran() == (["1"] if trial == 1 else [])
        assert list(run["look"]) == [((True, True, True, False, 0), trial)]

        classes = kernel.names
        [made] = run["make"]
        assert made == [classes["P"](3), classes["S"](3), classes["E"].A]
        # reading has not changed the classes: methods read the notebook's names as they are now
        assert (classes["P"].n, classes["P"].m.__globals__ is classes) == (0, True)
        kernel.cell("K = 100")
        assert made[0].m() == 103

    # where a result is read before its class's cell has run, it is of a copy only until then
    kernel = kernels()
    make = kernel.session.restore(run.id).results["make"]
    [before] = make
    kernel.cell(CLASSES)
    [after] = make
    assert [type(each).__name__ for each in before] == ["P", "S", "E"]
    assert after == [kernel.names["P"](3), kernel.names["S"](3), kernel.names["E"].A]


def test_results_hold_what_keeps_its_own_results(notebook: Notebook) -> None:
    notebook.cell(
        "import functools\n"
        "class Sample:\n    def __init__(self, size): self.size = size\n"
        "    @functools.cached_property\n    def twice(self): return self.size * 2\n"
        "    @functools.lru_cache\n    def plus(self, n): return self.size + n\n"
        "@functools.lru_cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@functools.singledispatch\ndef kind(x): return 'other'\n"
        "@kind.register\ndef _(x: int): return 'int'"
    )
    notebook.cell(
        "import random, struct\nHEAD = struct.Struct('<i')\n"
        "VIEW = memoryview(HEAD.pack(7)).cast('i')\nDRAW = random.random.__self__"
    )
    notebook.cell("%%process made() -> it\nit = (Sample(3), fib, kind)")
    notebook.cell(
        "%%process sent() -> it\nimport random\n"
        "it = [HEAD.unpack(b'abcd'), VIEW, DRAW, (VIEW[0], DRAW is random.random.__self__)]"
    )
    notebook.cell(
        "%%process used(it) -> n from made\nn = [it[0].twice, it[0].plus(1), it[1](9), it[2](1)]"
    )

    run = notebook.run()

    assert run.counts() == {"completed": 3}, run.failures
    assert run["used"].value == [6, 4, 34, "int"]
    _, view, draw, told = run["sent"].value
    assert (view, view.format, told) == (memoryview(b"\7\0\0\0").cast("i"), "i", (7, True))
    assert draw is notebook.names["DRAW"]
    sample, fib, kind = run["made"].value
    assert [sample.twice, sample.plus(1), fib(9), kind(1)] == run["used"].value


def test_what_a_task_adds_to_a_class_is_gone_for_the_next(kernels: Callable[[], Notebook]) -> None:
    kernel = kernels()
    body = "had = (hasattr(P, 'new'), P.n)\nP.new = P.n = 1"
    kernel.cells(
        [
            CLASSES,
            "%channel items = from_iterable(range(6))",
            f"%%process add(v) -> had from items\n{body}",
        ]
    )
    assert list(kernel.run()["add"]) == [(False, 0)] * 6  # more than there are workers
    # nor is it there where the class comes with an input alone
    made = "%%process count(v, it=P(1)) -> n from items\ntype(it).n += 1\nn = type(it).n"
    kernel.cell(made)
    assert list(kernel.run()["count"]) == [1] * 6


def test_nothing_that_a_task_does_to_a_class_is_there_for_the_next(
    kernels: Callable[[], Notebook],
) -> None:
    kernel = kernels()
    done = {  # what a body sees, and what it does then
        "(E.A.__dict__.get('n'), E.A.value)": "E.A.n = E.A._value_ = 7",
        "9 in E._value2member_map_": "E._value2member_map_[9] = E.A",
        "isinstance(1, Known)": "Known.register(int)",
        "[each.__name__ for each in Heir.__bases__]": "Heir.__bases__ = (Other,)",
        "(P.__name__, P.__qualname__)": "P.__name__ = P.__qualname__ = 'Q'",
        "len(P.__subclasses__())": "class Below(P): pass",
        "S(1).x": "del S.x",
    }
    kernel.cells(
        [
            CLASSES + "\nimport abc\nclass Known(abc.ABC): pass\nclass Base: pass\n"
            "class Other: pass\nclass Heir(Base): pass",
            "%channel items = from_iterable(range(4))",
            *(
                f"%%process look{n}(v) -> seen from items\nseen = repr({sees})\n{does}"
                for n, (sees, does) in enumerate(done.items())
            ),
        ]
    )

    run = kernel.run()

    assert run.counts() == {"completed": 4 * len(done)}, run.failures
    names = kernel.names
    for n, sees in enumerate(done):
        assert list(run[f"look{n}"]) == [repr(eval(sees, names))] * 4, sees
    # what outlives a task holds the members that later tasks have, and classes derived from theirs
    kernel.cell(
        "import nbcache, os\n@nbcache.resource\ndef held():\n    class Below(P): pass\n"
        "    return E.A, Below, os.getpid()"
    )
    kernel.cell(
        "%%process keep(v) -> same from items --max_forks 1\n"
        "E.A.n = 1\nsame = held[0] is E.A, held[2] == os.getpid(), held[2]"
    )
    assert len(set(kernel.run()["keep"])) == 1
    assert next(iter(kernel.run()["keep"]))[:2] == (True, True)
    # nor where the member comes with an input alone
    kernel.cell("%%process count(v, it=E.A) -> n from items\nn = it.n = getattr(it, 'n', 0) + 1")
    assert list(kernel.run()["count"]) == [1] * 4


def test_an_enum_has_its_aliases_in_every_task(notebook: Notebook) -> None:
    notebook.cells(
        [
            "import enum\n"
            "class Unit(enum.Enum):\n    M = 1\n    METRE = 1\n    KM = 1000\n"
            "    def __init__(self, size): self.size = size\n"
            "class Way(enum.Flag):\n    UP = 1\n    DOWN = 2\n    BOTH = 3\n"
            "class Any(enum.Flag, boundary=enum.KEEP):\n    ONE = 1\n    MANY = 7",
            "%channel items = from_iterable(range(6))",
            "%%process look(v) -> seen, made from items\n"
            "seen = repr([*Unit.__members__.items(), Unit.METRE.size, *Way.__members__.items(), "
            "Way(3).name, Way['BOTH'], *Any.__members__.items(), Any(8)])\n"
            "made = [Unit.METRE, Way.BOTH, v]",
            "%%process read(made) -> out from look\nout = repr([*type(made[1]).__members__])",
        ]
    )

    run = notebook.run()

    names = notebook.names
    unit, way, any_ = (names[each] for each in ("Unit", "Way", "Any"))
    seen = repr([*unit.__members__.items(), 1, *way.__members__.items(),
                 "BOTH", way.BOTH, *any_.__members__.items(), any_(8)])  # fmt: skip
    assert not run.failures
    # more than there are workers
    assert list(run["look"]) == [(seen, [unit.M, way.BOTH, v]) for v in range(6)]
    assert list(run["read"]) == ["['UP', 'DOWN', 'BOTH']"] * 6


def test_a_class_is_another_one_where_what_it_reaches_was_edited(
    kernels: Callable[[], Notebook],
) -> None:
    kernel = kernels()
    kernel.cells(
        [
            "def helper(x): return x + 1",
            "class C:\n    def f(self): return helper(1)",
            "def made():\n    class L: pass\n    return L",
            "A, B = made(), made()\nvalues = {A: 1, B: 2}",
            "%channel items = from_iterable(range(6))",
            "%%process make(v) -> c from items\nc = C()",
            "%%process use(c) -> got from make\ngot = c.f()",
            "%%process two(v) -> held from items\nheld = [values[A], values[B]]",
        ]
    )
    run = kernel.run()
    assert (list(run["use"]), list(run["two"])) == ([2] * 6, [[1, 2]] * 6)
    kernel.cell("def helper(x): return x + 2")
    assert list(kernel.run()["use"]) == [3] * 6
