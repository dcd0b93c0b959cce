"""Read from compiled code which outer names it uses and what it imports.

Bytecode and not the syntax tree: there the compiler has already told local names from global
ones, in every nested scope, also for functions without source. Decides nothing, does no I/O.
"""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from nbcache.plan.identity.code import nested_codes
from nbcache.plan.identity.named_in_text import names_in_texts

Chain = tuple[str, ...]
"""Attributes read in a row off a name: `m.a.b` gives ("a", "b"); () is the name itself."""

DEFINED: Chain = ("*",)
"""What a star takes of a module: all that its source defines, and not all that it imports."""

_READS = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL", "STORE_GLOBAL"}
)
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ASKS = _READS | {"IMPORT_FROM"}
_BETWEEN = frozenset({"CACHE", "NOP", "EXTENDED_ARG", "NOT_TAKEN"})


NAME_MODULES = frozenset({"import_module", "__import__", "find_spec", "modules", "run_module"})
"""What code uses that takes modules by a text: importlib.import_module, sys.modules, ..."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: `import a.b` has no names; `from a import b` has them; a star is ("*",).

    `bound` says that the names it binds (`targets`) are names of the module or cell itself, and so
    are seen in `Uses.names`; else they are local variables of a function. `aliased`: the target
    of an import without names is the module itself, not the package at the head of its name.
    `reads` are the attributes read off it where it is a local variable; None: cannot be told.
    """

    module: str
    level: int
    names: tuple[str, ...]
    bound: bool
    targets: tuple[str, ...] = ()
    aliased: bool = True
    reads: frozenset[Chain] | None = None

    def read_locally(self) -> Iterator[tuple[str, set[Chain]]]:
        """Yield the modules that an import in a function brings, with what it reads off them."""
        chains: set[Chain] = {(name,) for name in self.names}
        chains = chains or ({()} if self.reads is None else {*self.reads})
        yield self.module, chains if self.aliased else set()
        if not self.aliased:
            yield self.module.partition(".")[0], chains


@dataclass(frozen=True, slots=True)
class Uses:
    """What code uses from outside itself.

    `names` maps each global (or builtin) name that may be read to the attribute chains read off
    it. `texts` are the string constants. `stored` are names bound at the top level of the code.
    `by_text` are those of `names` that are read through a text alone, see `identity.named_in_text`.
    `attributes` are all names and attributes that it mentions, `read` those that it does not bind.
    `members` are the attributes read: the name that stands before it or "", itself, is it called.
    `taken_from` are the names of which it takes `.modules` by a key that no text in it names.
    """

    names: dict[str, frozenset[Chain]]
    imports: tuple[Import, ...]
    texts: frozenset[str]
    stored: frozenset[str]
    attributes: frozenset[str]
    by_text: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    members: frozenset[tuple[str, str, bool]] = frozenset()
    taken_from: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def uses_of(code: types.CodeType) -> Uses:
    """Return what a code object and all code nested in it use."""
    names: dict[str, set[Chain]] = {}
    imports: list[Import] = []
    texts: set[str] = set()
    stored: set[str] = set()
    attributes: set[str] = set()
    local: set[str] = set()
    read: set[str] = set()
    members: set[tuple[str, str, bool]] = set()
    for each in nested_codes(code):
        _scan(each, each is code, names, imports, stored, read, members)
        texts.update(const for const in _flat(each.co_consts) if isinstance(const, str))
        attributes.update(each.co_names)
        local.update(each.co_varnames, each.co_cellvars, each.co_freevars)
    by_text = set(names_in_texts(texts, names, attributes)) - names.keys() - local
    names.update((name, {()}) for name in by_text)
    return Uses(
        {name: frozenset(chains) for name, chains in names.items()},
        tuple(imports),
        frozenset(texts),
        frozenset(stored),
        frozenset(attributes),
        frozenset(by_text),
        frozenset(read),
        frozenset(members),
        frozenset(name for each in nested_codes(code) for name in _taken_from(each)),
    )


def modules_told(uses: Uses, module: str = "") -> set[str]:
    """Return the names of modules in the texts of code that takes some by a text; of ".core" all
    that it may mean in a package that another text names, or that `module`, where it stands, is or
    lies in."""
    if uses.attributes.isdisjoint(NAME_MODULES):
        return set()
    texts = {each for each in uses.texts if each.replace(".", "").isidentifier()}
    told = {each for each in texts if each[0] != "."}
    steps = module.split(".") if module else []
    around = told | {".".join(steps[:count]) for count in range(1, len(steps) + 1)}
    inner = {each.lstrip(".") for each in texts - told}
    return told | {f"{each}.{name}" for each in around for name in inner}


def takes_any(uses: Uses, called_sys: Collection[str] = ()) -> bool:
    """Say whether code takes from `sys.modules` what no text in it names; of `from sys import
    modules` that cannot be told. called_sys: names that code around it gave to `sys`."""
    imported = [each for each in uses.imports if each.module == "sys"]
    own = {name for each in imported if not each.names for name in each.targets}
    return any("modules" in each.names for each in imported) or not uses.taken_from.isdisjoint(
        {"sys", *own, *called_sys}
    )


def _taken_from(code: types.CodeType) -> Iterator[str]:
    if "modules" not in code.co_names:
        return
    steps = [each for each in _steps(code) if each.opname != "PUSH_NULL"]
    for at, step in enumerate(steps):
        is_read = step.argval == "modules" and step.opname in _ATTRIBUTES
        if is_read and not _is_key_told(*steps[at + 1 : at + 4]):
            yield _member(steps, at)[0]


_KEY_ENDS = frozenset(
    "BINARY_SUBSCR STORE_SUBSCR DELETE_SUBSCR LOAD_CONST PRECALL CALL KW_NAMES".split()
)
"""What follows on a key that is one text: it is looked up, or stands before a default."""


def _is_key_told(key: dis.Instruction, *further: dis.Instruction) -> bool:
    """Say whether what is done with `sys.modules` is `["a"]`, `.get(__name__)` or `in`."""
    if key.opname in _ATTRIBUTES and key.argval in ("get", "pop", "setdefault"):
        return _is_key_told(*further)
    if key.argval == "__name__":
        return further[0].opname not in _ATTRIBUTES
    if key.opname == "LOAD_CONST" and isinstance(key.argval, str):  # else "a." + what follows
        return further[0].opname in _KEY_ENDS or further[0].argrepr == "[]"
    return key.opname == "CONTAINS_OP" or (key.opname in _ATTRIBUTES and key.argval == "keys")


def _flat(constants: tuple[object, ...]) -> list[object]:
    found: list[object] = []
    for each in constants:
        found += _flat(each) if isinstance(each, tuple) else [each]
    return found


def _scan(
    code: types.CodeType,
    outermost: bool,
    names: dict[str, set[Chain]],
    imports: list[Import],
    stored: set[str],
    read: set[str],
    members: set[tuple[str, str, bool]],
) -> None:
    steps = _steps(code)
    # A function's own names are local; at the top of a module or cell they are stored by name.
    top = not code.co_flags & 0x02  # CO_NEWLOCALS
    for at, step in enumerate(steps):
        if step.opname in _ASKS and step.argval != "__annotations__":  # a class fills its own
            read.add(str(step.argval))
        if step.opname in _ATTRIBUTES:
            read.add(str(step.argval))
            members.add(_member(steps, at))
        if step.opname in _READS:
            names.setdefault(str(step.argval), set()).add(_chain(steps, at))
        elif step.opname == "IMPORT_NAME":
            found = _import(steps, at, outermost and top)
            if not found.bound and not found.names and len(found.targets) == 1:
                found = replace(found, reads=_local_reads(code, steps, found.targets[0]))
            imports.append(found)
        elif step.opname == "STORE_NAME" and outermost:
            stored.add(str(step.argval))
    # What a class body binds and reads by name is its own; a global of that name may still be
    # meant where the class reads it before it binds it, so nothing is taken away here.


def _steps(code: types.CodeType) -> list[dis.Instruction]:
    return [each for each in dis.get_instructions(code) if each.opname not in _BETWEEN]


def _member(steps: list[dis.Instruction], at: int) -> tuple[str, str, bool]:
    step, before = steps[at], steps[at - 1].argval if at else None
    if isinstance(before, tuple):  # two loads in one instruction
        before = before[-1]
    # From Python 3.12 on the lowest bit of the operand says that a method is loaded for a call.
    called = step.opname == "LOAD_METHOD" or (
        sys.version_info >= (3, 12) and bool((step.arg or 0) & 1)
    )
    return before if isinstance(before, str) else "", str(step.argval), called


def _chain(steps: list[dis.Instruction], at: int) -> Chain:
    chain: list[str] = []
    for follower in steps[at + 1 :]:
        if follower.opname not in _ATTRIBUTES:
            break
        chain.append(str(follower.argval))
    return tuple(chain)


def _local_reads(
    code: types.CodeType, steps: list[dis.Instruction], name: str
) -> frozenset[Chain] | None:
    """Return what is read off a local variable; None where inner functions may read it too."""
    if name in code.co_cellvars or name in code.co_freevars:
        return None
    found: set[Chain] = set()
    for at, step in enumerate(steps):
        if not step.opname.startswith("LOAD_FAST"):
            if isinstance(step.argval, tuple) and name in step.argval:
                return None  # two loads, or a store and a load, in one instruction
        elif step.argval == name:
            found.add(_chain(steps, at))
        elif isinstance(step.argval, tuple) and name in step.argval:
            return None
    return frozenset(found)


def _import(steps: list[dis.Instruction], at: int, bound: bool) -> Import:
    module = str(steps[at].argval)
    level, names = _import_operands(steps, at)
    targets: list[str] = []
    aliased = "." not in module
    for follower in steps[at + 1 :] if names != ("*",) else ():
        if follower.opname == "IMPORT_NAME" or (names and follower.opname == "POP_TOP"):
            break
        if follower.opname == "IMPORT_FROM" and not names:
            aliased = True  # `import a.b as c` walks down from a to b
        if follower.opname.startswith("STORE_"):
            targets.append(str(follower.argval))
            if len(targets) == max(1, len(names)):
                break
    return Import(module, level, names, bound, tuple(targets), aliased or bool(names))


def _import_operands(steps: list[dis.Instruction], at: int) -> tuple[int, tuple[str, ...]]:
    # IMPORT_NAME takes the level and the tuple of names from the two constants before it.
    level, names = 0, ()
    if at >= 2:
        first, second = steps[at - 2].argval, steps[at - 1].argval
        level = first if isinstance(first, int) else 0
        names = second if isinstance(second, tuple) else ()
    return level, names
