"""The package is built in layers, without circles, and has one door."""

from __future__ import annotations

import ast
import re

import nbcache
from tests.house.reading import (
    ROOT,
    all_imports,
    first_party_graph,
    first_party_imports,
    modules,
    text_files,
)

BELOW = frozenset({"errors", "model"})
MIDDLE = frozenset({"plan", "store", "codec"})
# What each layer may import beside itself. The top package is the door and opens on all of them.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "model": frozenset({"errors"}),
    "plan": BELOW,
    "store": BELOW,
    "codec": BELOW,
    "engine": BELOW | MIDDLE,
    "notebook": BELOW | MIDDLE | {"engine"},
    "cli": BELOW | MIDDLE | {"engine", "notebook"},
    "__main__": frozenset({"cli"}),
}
# The parts of a layer, each built on those before it; what is not named here stands above all.
PARTS = {
    "engine": (
        "garbage",
        "spec",
        "identity",
        "work",
        "executors",
        "record",
        "declared",
        "running",
        "upkeep",
    ),
    "plan": ("language", "identity", "dataflow"),
}
# Deciding is pure: nothing in it can read a disk, a clock or a network, or start a thread.
IMPURE = frozenset(
    {"asyncio", "multiprocessing", "secrets", "shutil", "socket", "subprocess", "tempfile"}
    | {"threading", "time"}
)
# Of these modules only such parts as touch nothing outside.
PURE_PARTS = {
    "os": frozenset({"PathLike", "fsdecode", "fsencode", "fspath", "sep"}),
    "random": frozenset({"Random", "SystemRandom"}),  # the classes, to tell values apart
}
TOP = "nbcache"


def layer(module: str) -> str:
    """Return "plan" for nbcache.plan.language.header, "" for the package itself."""
    return module.removeprefix(TOP).lstrip(".").partition(".")[0]


def part(module: str) -> str:
    """Return "identity" for nbcache.engine.identity.capture, "" for what stands above the parts."""
    _, _, below = module.removeprefix(f"{TOP}.").partition(".")
    name = below.partition(".")[0]
    return name if name in PARTS.get(layer(module), ()) else ""


def test_a_module_imports_only_from_its_own_layer_and_those_below() -> None:
    layers = {layer(name) for name in modules()} - {""}  # without the door
    assert layers == set(MAY_IMPORT), "another layer: add it to the table and say why"

    wrong = [
        str(each)
        for each in first_party_imports()
        if (own := layer(each.module)) and layer(each.target) not in {own, "", *MAY_IMPORT[own]}
    ]

    assert not wrong, "\n".join(wrong)


def test_a_part_of_a_layer_is_built_on_those_before_it() -> None:
    assert {part(name) for name in modules()} - {""} == {
        each for all in PARTS.values() for each in all
    }

    wrong = [
        str(each)
        for each in first_party_imports()
        if part(each.module)
        and layer(each.target) == layer(each.module)
        and not is_before(part(each.target), part(each.module), PARTS[layer(each.module)])
    ]

    assert not wrong, "\n".join(wrong)


def is_before(below: str, above: str, parts: tuple[str, ...]) -> bool:
    """Whether a part of a layer stands before another, or is it; "" stands above all."""
    return below in parts[: parts.index(above) + 1]


def test_nothing_imports_a_module_that_imports_it_in_turn() -> None:
    assert find_circles(first_party_graph()) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}

    assert find_circles(graph) == [["a", "b", "c"]]


def test_imports_are_absolute() -> None:
    relative = [str(each) for each in all_imports() if each.level]

    assert not relative, "\n".join(relative)


def test_what_decides_can_reach_no_disk_clock_or_thread() -> None:
    deciding = {name: tree for name, tree in modules().items() if layer(name) in {"plan", "model"}}
    impure = [
        str(each)
        for each in all_imports()
        if each.module in deciding
        and (
            each.target.partition(".")[0] in IMPURE
            or (each.target.partition(".")[2] and not is_pure_part(each.target))
        )
    ]
    used = [
        f"{name}, line {node.lineno}: {node.value.id}.{node.attr}"
        for name, tree in deciding.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and not is_pure_part(f"{node.value.id}.{node.attr}")
    ]

    assert deciding
    assert not impure + used, "\n".join(impure + used)


def is_pure_part(dotted: str) -> bool:
    """Return False for what `PURE_PARTS` leaves out: "os.listdir"."""
    module, _, part = dotted.partition(".")
    return module not in PURE_PARTS or part in PURE_PARTS[module]


def test_every_public_name_is_there() -> None:
    missing = [name for name in nbcache.__all__ if not hasattr(nbcache, name)]

    assert not missing
    assert len(set(nbcache.__all__)) == len(nbcache.__all__)
    assert "load_ipython_extension" in dir(nbcache)


def test_pages_and_examples_use_only_the_public_door() -> None:
    reading = [
        (path, text)
        for path, text in text_files()
        if path.suffix == ".ipynb"
        or (path.suffix == ".md" and path.parent in (ROOT, ROOT / "docs"))
    ]
    assert reading
    wrong = []
    for path, text in reading:
        inside = re.findall(r"(?:from|import) (nbcache\.\w[\w.]*)", text)
        called = re.findall(r"(?<![\w./`-])nbcache\.([a-z_]\w*)\(", text)
        wrong += [f"{path.name}: import of {name}" for name in inside]
        wrong += [f"{path.name}: nbcache.{n}" for n in called if n not in nbcache.__all__]

    assert not wrong, "\n".join(wrong)


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan), each sorted."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for after in sorted(graph.get(node, ())):
            if after not in order:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], order[after])
        if low[node] == order[node]:
            ring = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(ring) > 1:
                circles.append(sorted(ring))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return circles
