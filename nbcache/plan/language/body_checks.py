"""Check a body against its declaration, and tell which outputs it has without `->`.

Errors point at the line of the cell: at the header for an output that nothing sets, at the body for
a change to a captured object. Knows names only, never values.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

from nbcache.errors import BodyError, HeaderError
from nbcache.model.process import Input, Output, ProcessDecl
from nbcache.plan.language.facts import BodyFacts, ScriptFacts
from nbcache.plan.language.header_text import BUILTINS, nearest
from nbcache.plan.language.scanning import line_of

_TYPES = ("path", "str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set", "json")


def check_types(decl: ProcessDecl, known: Collection[str]) -> None:
    """Check that no type of the header is a slip of the pen; `known` are the notebook's names.

    A type that nothing near is called is let through: it may say something to people.

    Raises:
        HeaderError: a type is no name that there is, and nearly one that nbcache knows.
    """
    ports: list[Input | Output] = [*(decl.inputs or ()), *(decl.outputs or ())]
    for each in ports:
        base = "path" if each.type is None else each.type.base
        root = base.partition(".")[0]
        if root in _TYPES or root in known or root in BUILTINS:
            continue
        meant = nearest(root, _TYPES)
        if meant is None:
            continue
        source = line_of(decl.source, each.line - decl.source_line + 1)
        column = source.find(base, each.column + len(each.name))
        raise HeaderError(
            f'there is no type "{base}"',
            line=each.line,
            column=column if column >= 0 else each.column,
            source=source,
            hint=f'did you mean "{meant}"?',
        )


def check_body(decl: ProcessDecl, facts: BodyFacts, captured: Collection[str] = ()) -> None:
    """Check a Python body's facts against its declaration.

    `captured` are the free names that the notebook gives as *data*: leave out modules (whose
    settings a body may change) and functions. Call it again with inputs filled in when they were
    inferred: only then can be told what an output passes through.

    Raises:
        BodyError: the body changes a captured object, an output is never set or is a class that
            the body defines, an input hides a builtin that the body calls.
    """
    inputs = {each.name for each in decl.inputs or ()}
    _check_mutations(decl, facts, set(captured) - inputs)
    _check_hidden_builtins(decl, facts, inputs)
    _check_classes(decl, facts)
    if facts.stars:
        return  # `import *` may set anything
    unset = [
        each
        for each in decl.outputs or ()
        if not (each.type is not None and each.type.is_path)
        and each.name not in facts.bound
        and each.name not in inputs
    ]
    if decl.inputs is None or _takes_final_expression(unset, facts):
        return
    if unset:
        _never_set(decl, unset, facts.bound, _ending(facts))


def _takes_final_expression(unset: list[Output], facts: BodyFacts) -> bool:
    result = facts.result
    return len(unset) == 1 and result.kind in ("expression", "name") and not result.suppressed


def _ending(facts: BodyFacts) -> str:
    if facts.result.suppressed:
        return "the body ends in `;`, so its final expression is not kept"
    return "set it, or let the body end in an expression that is its value"


def _never_set(
    decl: ProcessDecl, unset: list[Output], bound: Collection[str], ending: str
) -> NoReturn:
    first = unset[0]
    meant = nearest(first.name, bound)
    hint = ending
    if len(unset) > 1:
        others = ", ".join(f'"{each.name}"' for each in unset)
        hint = f"one output can take the final expression, and {others} would need it"
    if meant:
        hint = f'did you mean "{meant}"? {hint}'
    _fail(decl, f'output "{first.name}" is never set', first.line, first.column, hint)


def _fail(
    decl: ProcessDecl, message: str, line: int, column: int, hint: str | None = None
) -> NoReturn:
    in_body = line >= decl.body_line  # as it is compiled: of a function without its indentation
    source = line_of(decl.body, line - decl.body_line + 1) if in_body else None
    source = source or line_of(decl.source, line - decl.source_line + 1) or None
    raise BodyError(message, line=line, column=column, source=source, hint=hint)


def _check_mutations(decl: ProcessDecl, facts: BodyFacts, captured: Collection[str]) -> None:
    for each in facts.mutations:
        if each.name in captured:
            sets_attribute = each.how.startswith(f"{each.name}.") and each.how.endswith("= ...")
            copied = f"copy.copy({each.name})" if sets_attribute else f"{each.name}.copy()"
            _fail(
                decl,
                f'`{each.how}` would change a copy of "{each.name}", which comes from the notebook',
                each.line,
                each.column,
                f"make it an output, or copy it first: {each.name} = {copied}",
            )


def _check_hidden_builtins(decl: ProcessDecl, facts: BodyFacts, inputs: Collection[str]) -> None:
    for name, line, column in facts.calls:
        if name in inputs and name in BUILTINS:
            _fail(
                decl,
                f'the input "{name}" hides the builtin {name}() that the body calls',
                line,
                column,
                "give the input another name, or rename the field with .fields(...)",
            )


def _check_classes(decl: ProcessDecl, facts: BodyFacts) -> None:
    for each in decl.outputs or ():
        if each.name in facts.classes:
            _class_output(decl, each.name, each.line, each.column)
    result = facts.result
    if result.kind == "name" and not result.suppressed and result.name in facts.classes:
        _class_output(decl, result.name, result.line, result.column)


def _class_output(decl: ProcessDecl, name: str, line: int, column: int) -> NoReturn:
    _fail(
        decl,
        f'"{name}" is a class defined in the body: nobody outside could read it back',
        line,
        column,
        "define the class in another cell or a module, and give its values as output",
    )


def infer_outputs(decl: ProcessDecl, facts: BodyFacts) -> tuple[Output, ...]:
    """Return the outputs of a Python body without `->`: what its last statement gives.

    A final bare name gives that name; another final expression the process's name; a final
    assignment to one name that name; a trailing `;`, or what can only be None, gives nothing.
    """
    result = facts.result
    if result.suppressed or result.empty or result.kind == "nothing":
        return ()
    if result.kind == "expression":
        return (Output(decl.name),)
    assert result.name is not None
    return (Output(result.name),)


def check_script(decl: ProcessDecl, facts: ScriptFacts) -> None:
    """Check that a shell script sets the variables that it declares as outputs.

    Raises:
        BodyError: an output that is no path is never assigned. Only bash and sh are read.
    """
    shell = decl.interpreter[0].rpartition("/")[2] if decl.interpreter else ""
    if shell not in ("bash", "sh", "dash", "zsh", "ksh") or facts.opaque or decl.inputs is None:
        return
    inputs = {each.name for each in decl.inputs}
    unset = [
        each
        for each in decl.outputs or ()
        if not (each.type is not None and each.type.is_path)
        and each.command is None
        and each.name not in facts.variables
        and each.name not in inputs
        and each.name != "stdout"  # what the script prints
    ]
    if unset:
        name = unset[0].name
        hint = f"a script's output is a shell variable ({name}=...) or a file ({name}: path)"
        _never_set(decl, unset[:1], facts.variables, hint)
