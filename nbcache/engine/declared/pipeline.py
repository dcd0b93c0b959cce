"""From the names in a kernel to a compiled graph: what the pipeline is right now.

The pipeline is what the public names of the notebook hold: every process that is wired, and every
channel whose expression calls a process or watches items. Expressions are evaluated here, afresh
each time, in a copy of the notebook's names in which the factories answer where they are called.
"""

from __future__ import annotations

import ast
import builtins
import functools
import linecache
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from nbcache.engine.declared.factories import Factories, is_table
from nbcache.engine.declared.process import NamedChannel, Process, channel_sources
from nbcache.engine.record.results import Results, restored_text
from nbcache.errors import (
    ChannelError,
    HeaderError,
    NbcacheError,
    UnknownNameError,
    WiringError,
    kind_of,
)
from nbcache.model.channel import Graph, Node
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.process import ChannelDecl, Input, ProcessDecl
from nbcache.plan.dataflow.channel import Branches, Channel
from nbcache.plan.dataflow.failures import FIELDS, failures_of
from nbcache.plan.dataflow.graph import PlaceSpec, compile_graph
from nbcache.plan.identity.code import normalise
from nbcache.plan.language.header_text import meant
from nbcache.plan.language.nextflow import OPERATORS, said_here
from nbcache.plan.language.places import place_of_header, place_of_source, said_place


class Pipeline:
    """One look at the notebook's names: resolves channels and processes, each evaluated once."""

    def __init__(self, namespace: Mapping[str, object], factories: Factories) -> None:
        self.namespace = dict(namespace)
        self._live = namespace
        self.factories = factories
        self._declared: dict[tuple[str, str, str], Process] = {}
        self._evaluated: dict[NamedChannel, Node] = {}
        self._within: Collection[str] | None = None  # channels whose calls count; None: all

    def processes(self) -> Iterator[Process]:
        """Yield the processes that public names hold, each once, in the order of their names."""
        seen: set[int] = set()
        for name in sorted(self.namespace):
            held = self.namespace[name]
            if isinstance(held, Process) and not name.startswith("_") and id(held) not in seen:
                seen.add(id(held))
                yield held

    def compile(self, only: Collection[str] | None = None) -> Graph:
        """Return the compiled graph of the whole pipeline, or of what `only` names and needs.

        Raises:
            WiringError, ChannelError, HeaderError: something does not fit together; says what.
        """
        if only is None:
            return compile_graph(self._targets(), self)
        self._check_known(only)
        # Nothing but what is asked for is looked at, so that one broken process spoils no other.
        targets = {
            name if number == 1 else f"{name}-{number}": node
            for name in only
            for number, node in enumerate(self._nodes_of(name), 1)
        }
        graph = compile_graph(targets, self)
        forensic = {
            process.name: process.node
            for process in self.processes()
            if {node.decl.name for node in graph.nodes if node.decl is not None}
            & set(process.decl.directives.on_failure_of)
        }
        self._within = graph.channels  # what looks into failures brings no other call along
        return compile_graph({**targets, **forensic}, self) if forensic else graph

    def _nodes_of(self, name: str) -> Sequence[Node]:
        """Return what a name stands for: a process that is only called, for all its calls."""
        held = cast(Channel, self.namespace[name])
        if isinstance(held, Process) and self._wiring(held) is None:
            return self._uses(held)
        return [held.node]

    def _targets(self) -> dict[str, Node]:
        targets: dict[str, Node] = {}
        for process in self.processes():
            if self._wiring(process) is not None:
                targets[process.name] = process.node
        for name, held in sorted(self.namespace.items()):
            if isinstance(held, NamedChannel) and not name.startswith("_"):
                try:
                    node = self.channel(held)
                except NbcacheError:
                    continue  # said when its own cell runs, or when something that is run needs it
                if _acts(node):
                    targets[name] = held.node
        return targets

    def _check_known(self, names: Collection[str]) -> None:
        for name in names:
            if not isinstance(self.namespace.get(name), Channel):
                known = [
                    each
                    for each, held in self.namespace.items()
                    if isinstance(held, (Process, NamedChannel)) and not each.startswith("_")
                ]
                listed = ", ".join(sorted(known)) or "none"
                said = f"no process or channel is called {name!r} (there are: {listed})"
                raise WiringError("; ".join(filter(None, (said, meant(name, known, cutoff=0.6)))))

    # What plan.graph asks for.

    def channel(self, target: object) -> Node:
        """Return the node that a named channel's expression gives now."""
        if not isinstance(target, NamedChannel):
            raise WiringError(f"{target!r} is no channel")
        if target not in self._evaluated:
            self._evaluated[target] = self._evaluate_channel(target.decl, target.namespace)
        return self._evaluated[target]

    def process(self, target: object, parents: tuple[Node, ...] | None) -> PlaceSpec:
        """Return a process's place: its declaration with the nodes that feed it."""
        if not isinstance(target, Process):
            raise WiringError(f"{target!r} is no process")
        decl = target.decl
        self._declared[_key(decl)] = target
        if parents is not None:
            names = tuple(node.label or f"argument {at + 1}" for at, node in enumerate(parents))
            return PlaceSpec(decl.name, decl, decl.inputs, parents, names, False)
        wiring = self._wiring(target)
        if wiring is None:
            wanted = ", ".join(each.name for each in decl.inputs or ())
            raise WiringError(
                f"process {decl.name!r} is not wired: its inputs are ({wanted}) and no channels "
                f"have these names.\n  Say where they come from: `%%process {decl.name}({wanted}) "
                f"... from CHANNEL`, or call it: `%channel x = {decl.name}(CHANNEL)`."
                f"\n  {said_place(decl, place_of_header(decl))}"
            )
        nodes, names, by_channel = wiring
        inputs = decl.inputs
        if by_channel:
            given = {each.name: each for each in inputs or ()}
            named = [given.pop(name, Input(name)) for name in names]
            inputs = (*named, *given.values())
            decl = replace(decl, inputs=inputs)
        return PlaceSpec(decl.name, decl, inputs, nodes, names, by_channel)

    def _wiring(self, process: Process) -> tuple[tuple[Node, ...], tuple[str, ...], bool] | None:
        decl = process.decl
        if decl.directives.on_failure_of:
            return self._failures(process)
        if process.sources is not None:
            given = tuple(each.node for each in process.sources)
            return given, tuple(node.label or "a channel" for node in given), False
        if decl.sources is not None:
            nodes = tuple(self._source_node(process, text) for text in decl.sources)
            return nodes, tuple(text.strip() for text in decl.sources), False
        found = channel_sources(process, lambda name: self._is_channel(name, process))
        if found is None:
            return None
        names, by_channel = found
        return tuple(cast(Channel, self.namespace[name]).node for name in names), names, by_channel

    def _failures(self, process: Process) -> tuple[tuple[Node, ...], tuple[str, ...], bool]:
        """Return what feeds a process that looks into the failures of others."""
        decl = process.decl
        names = decl.directives.on_failure_of
        if decl.sources is not None or process.sources is not None:
            raise HeaderError(
                f"process {decl.name!r} is fed by the failures of {', '.join(names)}, so it has no "
                "`from`",
                hint=f"Its inputs may be {', '.join(FIELDS)}.",
            )
        self._check_known(names)
        held = [self.namespace[name] for name in names]
        for name, each in zip(names, held, strict=True):
            if not isinstance(each, Process):
                raise HeaderError(f"process {decl.name!r}: {name} is a channel, and no process")
        looked_into = [
            (name, node)
            for name, each in zip(names, held, strict=True)
            for node in self._uses(cast(Process, each))
        ]
        labels, nodes = zip(*looked_into, strict=True)
        node = failures_of(labels, nodes)
        return (node,), (node.label,), False

    def _uses(self, process: Process) -> list[Node]:
        """Return the nodes of all places of a process: where it is wired, and where it is called.

        That which is neither is returned as if it were wired; the error says what is missing.
        """
        found: dict[int, Node] = {}
        if self._wiring(process) is not None:
            found[id(process.node)] = process.node
        for name, held in sorted(self.namespace.items()):
            within = self._within is None or name in self._within
            if isinstance(held, NamedChannel) and not name.startswith("_") and within:
                try:
                    found |= {id(each): each for each in _calls(self.channel(held), process)}
                except NbcacheError:
                    continue  # said when its own cell runs
        return list(found.values()) or [process.node]

    def process_of(self, decl: ProcessDecl) -> Process:
        """Return the process whose place has this declaration (after `compile`)."""
        return self._declared[_key(decl)]

    def note(self, decl: ProcessDecl, process: Process) -> None:
        """Let `process_of` know another process."""
        self._declared[_key(decl)] = process

    def wiring(self, graph: Graph) -> dict[str, str]:
        """Return, of each channel of a graph that was compiled here, and of each process with a
        `from`, a digest of what is written there."""
        written = {
            each.decl.name: each.decl.expression or each.decl.block or ""
            for each in self._evaluated
            if each.decl.name in graph.channels
        }
        for process in self._declared.values():
            if process.decl.sources is not None:
                written[process.name] = f"({', '.join(process.decl.sources)},)"
        return {name: _identity(text) for name, text in written.items()}

    def scope_of(self, process: Process) -> Mapping[str, object]:
        """Return the names that a process's body sees: a snapshot for those of the notebook."""
        return self.namespace if process.namespace is self._live else process.namespace

    def is_channel(self, name: str) -> bool:
        """Whether a name of the notebook holds a channel or process."""
        return isinstance(self.namespace.get(name), Channel)

    def _is_channel(self, name: str, reader: Process) -> bool:
        held = self.scope_of(reader).get(name)
        return isinstance(held, Channel) and held is not reader

    def _source_node(self, process: Process, text: str) -> Node:
        place = f"process {process.name!r}: from {text.strip()}"
        value = self._evaluate(text, process.namespace, place, process.decl)
        if isinstance(value, Results):
            raise WiringError(f"{place}: {restored_text(text.strip())}")
        if not isinstance(value, Channel):
            raise WiringError(
                f"{place}: this is {kind_of(value)}, not a channel.\n"
                f"  {_made_a_channel(value, text.strip(), 'from ')}\n"
                f"  {said_place(process.decl, place_of_header(process.decl))}"
            )
        return value.node

    def _evaluate_channel(self, decl: ChannelDecl, namespace: Mapping[str, object]) -> Node:
        place = f"channel {decl.name!r}"
        if decl.expression is not None:
            value = self._evaluate(decl.expression, namespace, place, decl)
        else:
            value = self._evaluate_block(decl, namespace)
        if isinstance(value, Channel):
            return value.node
        what, hint = kind_of(value), _made_a_channel(value, (decl.expression or "...").strip())
        if isinstance(value, Branches):
            first = next(iter(dir(value)), "NAME")
            what, hint = (
                "several branches",
                f"name each: `%channel {first} = ....branch(...).{first}`",
            )
        raise HeaderError(
            f"{place}: the expression gives {what}, not a channel",
            line=decl.line,
            source=(decl.expression or decl.source).strip().split("\n")[0],
            hint=hint,
        )

    def _scope(self, namespace: Mapping[str, object]) -> dict[str, object]:
        scope = dict(self.namespace if namespace is self._live else namespace)
        scope.update({_mangled(name): getattr(self.factories, name) for name in Factories.names})
        return scope

    def _evaluate(
        self, text: str, namespace: Mapping[str, object], place: str, decl: object
    ) -> object:
        tree = _FactoryCalls().visit(ast.parse(text.strip(), mode="eval"))
        filename = f"<{place}: {text.strip()}>"
        # So that what a lambda returns can be read from its source (plan.calls.result_fields).
        linecache.cache[filename] = (len(text), None, text.strip().splitlines(True), filename)
        code = compile(ast.fix_missing_locations(tree), filename, "eval")
        return self._guarded(lambda: eval(code, self._scope(namespace)), text, place, decl)

    def _evaluate_block(self, decl: ChannelDecl, namespace: Mapping[str, object]) -> object:
        place = f"channel {decl.name!r}"
        tree = _FactoryCalls().visit(ast.parse(decl.block or ""))
        final = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if final is None:
            raise HeaderError(f"{place}: the last line of the cell has to be the channel")
        ast.fix_missing_locations(tree)
        scope = self._scope(namespace)
        code = compile(tree, decl.filename, "exec")
        value = ast.fix_missing_locations(ast.Expression(final.value))

        def run() -> object:
            exec(code, scope)
            return eval(compile(value, decl.filename, "eval"), scope)

        return self._guarded(run, decl.block or "", place, decl)

    def _guarded(
        self, evaluate: Callable[[], object], text: str, place: str, decl: object
    ) -> object:
        """Evaluate, and say errors of the user's expression with its place."""
        try:
            return evaluate()
        except NbcacheError as error:
            if isinstance(error, ChannelError) and place not in str(error):
                where = ""
                if isinstance(decl, ProcessDecl):
                    where = f"\n  {said_place(decl, place_of_header(decl))}"
                raise type(error)(f"{place}: {error}{where}") from error
            raise
        except NameError as error:
            name = error.name or ""
            own = set(self.namespace) - {*_SHELLS, *dir(builtins)}
            known = [each for each in (*sorted(own), *Factories.names) if each[:1] != "_"]
            otherwise = _as_field(text, name) or "run the cell that declares it first"
            hint = meant(name, known, otherwise, 0.6)
            if name in ("Channel", "channel"):
                hint = "the factories stand alone here: of(...), from_path(...)"
            if name in Factories.names:
                hint = f"nbcache's `{name}` has to be called: lambda x: {name}(x)"
            line, source = _raised_at(error, text, decl)
            column: int | None = source.find(name)
            if isinstance(decl, ProcessDecl) and (at := place_of_source(decl, text, name)):
                line, source, column = at
            raise UnknownNameError(
                f"{place}: no channel, process or variable is called {name!r}",
                line=line,
                column=None if column == -1 else column,
                source=source,
                hint=hint,
                cell=getattr(decl, "cell", ""),
            ) from None
        except Exception as error:
            if isinstance(error, AttributeError) and isinstance(error.obj, Channel):
                raise _no_operator(error, text, place, decl) from None
            said = str(error).replace(f"{Factories.__name__}.", "")
            line, source = _raised_at(error, text, decl)
            where = f"{place}, line {line}" if line and line > 1 else place
            raise ChannelError(f"{where}: {source}\n  {type(error).__name__}: {said}") from error


def _as_field(text: str, name: str) -> str:
    """Return what to write where a name stands for a field of an operator, "" if it does not."""
    for each in ast.walk(ast.parse(text.strip())):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            given = [*each.args, *(keyword.value for keyword in each.keywords)]
            if each.func.attr in _TAKE_FIELDS and name in map(ast.unparse, given):
                return f'the name of a field is a text: "{name}"'
    return ""


_TAKE_FIELDS = ("fields", "group_by", "join", "select", "unique")
_SHELLS = ("In", "Out", "exit", "get_ipython", "open", "quit")  # IPython's own


def _raised_at(error: BaseException, text: str, decl: object) -> tuple[int | None, str]:
    """Return the line of the cell at which an expression or block raised, and its text."""
    lines = text.strip("\n").split("\n")
    row, tb = 1, error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename == getattr(decl, "filename", None):
            row = tb.tb_lineno
        tb = tb.tb_next
    first = getattr(decl, "line", None)
    source = lines[row - 1] if row <= len(lines) else lines[0]
    return None if first is None else first + row - 1, source.strip()


def _no_operator(error: AttributeError, text: str, place: str, decl: object) -> HeaderError:
    operators = [name for name, each in vars(Channel).items() if name[:1] != "_" and callable(each)]
    near = meant(error.name or "", operators, cutoff=0.6)
    hint = near or f"there are {', '.join(operators)}"
    if isinstance(error.obj, Channel) and not near:
        hint = f'.select("{error.name}") if that is a field; {hint}'
    first = next((line for line in text.split("\n") if f".{error.name}" in line), text).strip()
    return HeaderError(
        f"{place}: a channel has no operator {error.name!r}",
        line=getattr(decl, "line", None),
        column=first.find(f".{error.name}") + 1,
        source=first,
        hint=said_here(error.name or "", OPERATORS) or hint,
    )


class _FactoryCalls(ast.NodeTransformer):
    """Make called factory names mean nbcache's, whatever the notebook calls `path` or `value`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in Factories.names:
            node.func = ast.copy_location(ast.Name(_mangled(node.func.id), ast.Load()), node.func)
        return node


def _made_a_channel(value: object, text: str, before: str = "") -> str:
    """Say which factory makes a channel of what an expression gave."""
    item = f"for one item `{before}value({text})`"
    if is_table(value):
        return f"for its rows write `{before}from_table({text})`, {item}"
    if isinstance(value, str):
        return f"for files with such a name write `{before}from_path({text})`, {item}"
    if isinstance(value, Iterable) and not isinstance(value, (bytes, dict)):
        return f"for its members write `{before}from_iterable({text})`, {item}"
    return f"write `{before}value({text})` for one item, `{before}of(...)` for several"


@functools.lru_cache(4096)  # a card asks after each cell
def _identity(text: str) -> Digest:
    return identity_digest(normalise(text.strip()))


def _key(decl: ProcessDecl) -> tuple[str, str, str]:
    return (decl.name, decl.body, decl.filename)


def _mangled(name: str) -> str:
    return f"__nbcache_{name}"


def _calls(node: Node, process: Process) -> Iterator[Node]:
    """Yield the calls of a process in a channel's expression."""
    if node.op == "process" and node.target is process and node.parents is not None:
        yield node
    for parent in node.parents or ():
        yield from _calls(parent, process)


def _acts(node: Node) -> bool:
    """Whether a channel does something of its own: calls a process, shows or passes on items."""
    if node.op in ("view", "subscribe") or (node.op == "process" and node.parents is not None):
        return True
    return any(_acts(parent) for parent in node.parents or ())
