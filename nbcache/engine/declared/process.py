"""What a process and a channel are to their user: objects bound to names in the notebook.

A `Process` stands for its output channel wherever a channel is expected, can be called with other
channels, and gives its results when read. It holds no state of runs; the session does.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from nbcache.engine.declared.scripts import scripts_of
from nbcache.engine.identity.sources import name_of_source
from nbcache.errors import BodyError, HeaderError
from nbcache.model.channel import Node
from nbcache.model.process import ChannelDecl, Input, Option, PortType, ProcessDecl
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.language.body import analyse_body
from nbcache.plan.language.body_checks import check_body, check_script, check_types, infer_outputs
from nbcache.plan.language.directive_checks import check_store, check_templates
from nbcache.plan.language.directives import parse_options
from nbcache.plan.language.facts import BodyFacts
from nbcache.plan.language.header import parse_output_list, reserved_in_scripts
from nbcache.plan.language.header_text import nearest
from nbcache.plan.language.script import script_facts

if TYPE_CHECKING:
    from nbcache.engine.record.results import Results


class Reader(Protocol):
    """What processes and channels ask of their session."""

    def read(self, held: Readable, first: int | None = None) -> Results: ...


class Readable(Channel):
    """What can be read through its name: reading runs what is missing for it, and nothing else."""

    __slots__ = ("_reader", "name", "namespace", "notes")

    def __init__(
        self,
        node: Node,
        namespace: Mapping[str, object],
        reader: Reader,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(node)
        self.name, self.namespace, self.notes = node.label, namespace, tuple(notes)
        self._reader = reader

    @property
    def reader(self) -> Reader:
        """The session that reads it."""
        return self._reader

    def __dir__(self) -> list[str]:
        """What Tab offers: reading, and the operators."""
        operators = [name for name in dir(Channel) if name[:1] != "_" and name != "node"]
        return [*operators, "results", "table", "value"]

    @property
    def results(self) -> Results:
        """The results of all tasks (the items of a channel), after running what is missing."""
        return self._reader.read(self)

    @property
    def value(self) -> object:
        """The only result (or an error that says how many there are)."""
        return self.results.value

    def __iter__(self) -> Iterator[object]:
        return iter(self.results)

    def __getitem__(self, index: int | slice) -> object:
        return self._reader.read(self, first=_reach(index))[index]

    def table(self) -> object:
        """Return a DataFrame of scalars: inputs and outputs, one row per task (per item)."""
        return self.results.table()


def _reach(index: int | slice) -> int | None:
    """Return how many results from the start an index needs; None: all of them."""
    if isinstance(index, int):
        return index + 1 if index >= 0 else None
    match index:
        case slice(start=int() | None as start, stop=int(stop), step=int() | None as step):
            is_forward = (start or 0) >= 0 and stop >= 0 and (step is None or step > 0)
            return stop if is_forward else None
    return None


class NamedChannel(Readable):
    """A channel bound to a name; its expression is evaluated at every run, read and plan.

    `list(pairs)`, `pairs[0]`, `pairs.table()` and `genome.value` read its items.
    """

    __slots__ = ("decl",)

    def __init__(
        self,
        decl: ChannelDecl,
        namespace: Mapping[str, object],
        reader: Reader,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(Node(op="named", target=self, label=decl.name), namespace, reader, notes)
        self.decl = decl


class Process(Readable):
    """A declared process. It stands for its output channel wherever a channel is expected.

    Reading it (`fit.value`, `for score in fit`, `fit[0]`, `fit.table()`) runs what is missing;
    `fit` alone shows its card, and operators such as `fit.collect()` make channels of it.
    """

    __slots__ = ("decl", "facts", "sources")

    def __init__(
        self,
        decl: ProcessDecl,
        facts: BodyFacts | None,
        namespace: Mapping[str, object],
        reader: Reader,
        notes: Sequence[str] = (),
        sources: tuple[Channel, ...] | None = None,
    ) -> None:
        node = Node(op="process", target=self, parents=None, label=decl.name)
        super().__init__(node, namespace, reader, notes)
        self.decl, self.facts = decl, facts
        self.sources = sources  # given as objects (the twin); else decl.sources says them

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what a process has not; an output is told where it is."""
        where = ""
        if name[:1] != "_" and name not in Process.__slots__:
            outputs = [each.name for each in self.decl.outputs or ()]
            if outputs == [name]:
                where = f"; it is the output: {self.name}[0], of all tasks list({self.name})"
            elif name in outputs:
                all_of_it = f"[each.{name} for each in {self.name}]"
                where = f"; it is an output: {self.name}[0].{name}, of all tasks {all_of_it}"
            elif meant := nearest(name, dir(self)):
                where = f'; did you mean "{meant}"?'
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{where}")

    def __call__(self, *channels: object) -> Channel:
        """Use the process at another place: `quant(pairs, index)`; returns its output channel.

        In the history places are `quant`, `quant-2`, ...: where it is wired, then its calls in the
        order of the names of the channels that make them.
        """
        nodes = []
        for position, channel in enumerate(channels):
            node = getattr(channel, "node", None)
            if not isinstance(node, Node):
                node = Node(
                    op="source",
                    names=(None,),
                    is_value=True,
                    load=lambda item=channel: [(item,)],  # type: ignore[misc]
                    label=f"argument {position + 1} of {self.name}",
                )
            nodes.append(node)
        return Channel(Node(op="process", target=self, parents=tuple(nodes), label=self.name))


def complete_decl(
    decl: ProcessDecl, namespace: Mapping[str, object]
) -> tuple[ProcessDecl, BodyFacts | None]:
    """Read a declaration's body and fill in the outputs that it leaves to inference.

    What can be told only with the inputs filled in is checked by `check_filled`.

    Raises:
        BodyError: the body cannot run as a task, or never sets a declared output.
    """
    facts = read_body(decl)
    if facts is None:
        decl = replace(decl, outputs=decl.outputs or ())
    elif decl.outputs is None:
        decl = replace(decl, outputs=infer_outputs(decl, facts), inferred=True)
    if decl.inputs is not None or decl.sources is None:
        check_filled(decl, facts, namespace)
    return decl, facts


def read_body(decl: ProcessDecl) -> BodyFacts | None:
    """Read a Python body; None for a script.

    Raises:
        BodyError: it cannot run as a task.
    """
    if decl.language == "script":
        return None
    return analyse_body(
        decl.body,
        body_line=decl.body_line,
        filename=decl.filename,
        cell_name=decl.cell,
        keyboard=True,
    )


def check_filled(
    decl: ProcessDecl, facts: BodyFacts | None, namespace: Mapping[str, object]
) -> None:
    """Check a declaration whose inputs are known against its body.

    Raises:
        DeclarationError: the body changes a captured object, an output is never set, a template
            names what is no input, an input of a script has a reserved name.
    """
    lines = decl.source.split("\n")
    check_types(decl, namespace.keys())
    check_templates(decl, lines)
    check_store(decl, passed_outputs(decl, facts, {each.name for each in decl.inputs or ()}), lines)
    _check_commands(decl, lines)
    if facts is None:
        for script in scripts_of(decl) or (decl,):
            check_script(script, script_facts(script.body))
        for each in decl.inputs or ():
            if reserved_in_scripts(each.name):
                raise HeaderError(
                    f"process {decl.name!r}: an input of a script cannot be called {each.name}, "
                    "which the shell itself uses",
                    hint="Rename it with .fields(...), or name the inputs in the header.",
                )
        return
    data = {name for name in facts.free if _is_data(namespace.get(name))}
    check_body(decl, facts, data - {each.name for each in decl.inputs or ()})


def _check_commands(decl: ProcessDecl, lines: Sequence[str]) -> None:
    for each in decl.outputs or ():
        if each.command is not None and decl.language == "python":
            raise BodyError(
                f'output "{each.name}": a command\'s answer is for scripts, and this is Python',
                line=each.line,
                column=each.column,
                source=lines[each.line - 1],
                hint=f"set it in the body: {each.name} = subprocess.check_output(...)",
            )


def passed_outputs(
    decl: ProcessDecl, facts: BodyFacts | None, inputs: Collection[str]
) -> frozenset[str]:
    """Return the outputs that are an untouched input."""
    bound = script_facts(decl.body).variables if facts is None else facts.bound
    return frozenset(
        each.name
        for each in decl.outputs or ()
        if each.name in inputs and each.name not in bound
        if each.pattern is None and each.command is None
    )


def _is_data(held: object) -> bool:
    """Whether changing it in place would change a copy: not so for modules and code."""
    code = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type, Channel)
    return held is not None and not isinstance(held, code)


WHOLE = "__body__"  # how the body calls a function that is kept whole


def decl_from_function(
    function: Callable[..., object],
    *,
    outputs: str | Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    options: Mapping[str, object] | None = None,
) -> ProcessDecl:
    """Return the declaration that a function makes: its parameters are the inputs.

    A function whose only `return` is its last statement has the hash of the cell with the same
    body; any other is kept as a function that the body calls.

    Raises:
        BodyError: the function has `**kwargs`, or no source can be found for it.
    """
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError) as error:
        raise BodyError(f"no source for {function!r}: a process needs it") from error
    source = textwrap.dedent("".join(lines))
    tree = ast.parse(source).body[0]
    if not isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise BodyError(f"@process goes above a function, not {type(tree).__name__}")
    inputs = tuple(_inputs_of(function))
    names = outputs if outputs is None or isinstance(outputs, str) else ", ".join(outputs)
    declared = None if names is None else parse_output_list(names)
    body, line = _body_text(tree, source, [each.name for each in declared or ()])
    directives, language, interpreter = parse_options(
        [
            Option(key, str(each), 1, 0)
            for key, text in (options or {}).items()
            for each in (text if isinstance(text, (list, tuple)) else [text])
        ]
    )
    return ProcessDecl(
        name=function.__name__,
        inputs=inputs,
        outputs=declared and tuple(replace(each, line=start, column=0) for each in declared),
        sources=None if sources is None else tuple(sources),
        directives=directives,
        language=language,
        interpreter=interpreter,
        body=body,
        body_line=start + line - 1,
        cell=name_of_source(inspect.getfile(function)),
        filename=f"<{function.__name__}>",
        source=source,
        source_line=start,
        function=function,
    )


def function_scope(function: Callable[..., object]) -> Mapping[str, object]:
    """Return the names that a function sees: its module's, and those it closes over."""
    names: dict[str, object] = getattr(function, "__globals__", {})
    closure = getattr(function, "__closure__", None) or ()
    free = function.__code__.co_freevars
    own = {name: cell.cell_contents for name, cell in zip(free, closure, strict=True)}
    return ChainMap({**own, WHOLE: function}, names)


def _inputs_of(function: Callable[..., object]) -> Iterator[Input]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise BodyError(f"{function.__name__}: a process takes no **{parameter.name}")
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        is_path = text.rpartition(".")[2] in ("Path", "path") or annotation is Path
        yield Input(
            parameter.name,
            PortType("path") if is_path else None,
            None if parameter.default is parameter.empty else repr(parameter.default),
            rest=parameter.kind is parameter.VAR_POSITIONAL,
        )


def _body_text(
    tree: ast.FunctionDef | ast.AsyncFunctionDef, source: str, outputs: Sequence[str]
) -> tuple[str, int]:
    """Return the function's body as a cell's body, and the line at which it starts.

    A tuple that is returned for several outputs is taken apart.
    """
    returns = [node for node in ast.walk(tree) if isinstance(node, (ast.Return, ast.Yield))]
    last = tree.body[-1]
    own = [node for node in returns if not _inside_nested(tree, node)]
    targets = f"{', '.join(outputs)} = " if len(outputs) > 1 else ""
    if (
        own not in ([], [last])
        or isinstance(tree, ast.AsyncFunctionDef)
        or tree.lineno == last.lineno
    ):
        arguments = [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]
        call = ", ".join(f"{each.arg}={each.arg}" for each in arguments)
        wait = "await " if isinstance(tree, ast.AsyncFunctionDef) else ""
        return f"{targets}{wait}{WHOLE}({call})\n", 1
    has_docstring = ast.get_docstring(tree) is not None and len(tree.body) > 1
    first = tree.body[1 if has_docstring else 0].lineno
    lines = source.split("\n")[first - 1 : last.end_lineno]
    if not own and isinstance(last, ast.Expr):  # a function returns its last line only if it says
        end = last.end_col_offset or 0
        lines[-1] = lines[-1].encode()[:end].decode() + ";"
    if own and isinstance(last, ast.Return):
        at = last.lineno - first
        indent = last.col_offset
        kept = lines[at].encode()[indent + len("return") :].decode().lstrip()
        if not (isinstance(last.value, ast.Tuple) and len(last.value.elts) == len(outputs)):
            targets = ""
        spans = last.end_lineno != last.lineno
        lines[at] = f"{' ' * indent}{targets}{'(' if spans else ''}{kept}"
        if spans:
            lines[-1] += ")"
    return textwrap.dedent("\n".join(lines)) + "\n", first


def _inside_nested(tree: ast.AST, wanted: ast.AST) -> bool:
    for node in ast.walk(tree):
        if node is tree or not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        ):
            continue
        if any(child is wanted for child in ast.walk(node)):
            return True
    return False


def channel_sources(
    process: Process, is_channel: Callable[[str], bool]
) -> tuple[tuple[str, ...], bool] | None:
    """Return the names of the channels that a process without `from` takes, or None.

    With inputs: wired if every input without a default names a channel. Without: a Python body's
    free names that are channels; a body without any runs once.

    """
    decl = process.decl
    if decl.inputs is not None:
        needed = [each.name for each in decl.inputs if each.default is None]
        named = [name for name in needed if is_channel(name)]
        return (tuple(named), True) if len(named) == len(needed) else None
    if process.facts is None:
        return (), True
    return tuple(sorted(name for name in process.facts.free if is_channel(name))), True
