"""Check what options of a process say of its inputs and outputs, once these are known.

Inputs that the header leaves out are known when the pipeline is wired.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields

from nbcache.errors import OptionError
from nbcache.model.process import Dynamic, Option, Output, ProcessDecl
from nbcache.model.task import AskedTask
from nbcache.plan.language.header_text import meant
from nbcache.plan.language.options import OPTIONS, refuse
from nbcache.plan.language.publishing import check_rule
from nbcache.plan.language.quantities import (
    Form,
    attributes_asked,
    expression_names,
    names_hint,
    parse_expression,
    template_fields,
)


def check_templates(decl: ProcessDecl, lines: Sequence[str]) -> None:
    """Check that templates and expressions of a process name only its inputs (and `task`).

    Inputs that the header leaves out are known when the pipeline is wired: call it again then.

    Raises:
        OptionError: a name is none of the inputs, or a template is malformed.
    """
    if decl.inputs is None:
        known = None
    else:
        known = frozenset(each.name for each in decl.inputs)
    for each in decl.outputs or ():
        if each.pattern is not None:
            place = Option(each.name, each.pattern, each.line, each.column)
            said = f'the file name of "{each.name}"'
            try:
                used: Iterable[str] = template_fields(each.pattern)
            except ValueError as error:
                refuse(place, lines, f"{said}: {error}")
            _check_known(place, lines, used, known, said)
    _check_rules(decl, lines, known)
    if known is None:
        return
    _check_staging(decl, lines, known)
    for script in decl.scripts:
        if script.when is not None:
            place = Option("if", "", script.line, 0)
            used = expression_names(parse_expression(script.when.text, "expression"))
            _check_known(place, lines, sorted(used), known, "#| if:")
    for field in fields(decl.directives):
        value = getattr(decl.directives, field.name)
        place = _place_of(field.name, decl)
        if isinstance(value, Dynamic):
            tree = parse_expression(value.text, OPTIONS[field.name].form)
            literal = _LITERALS.get(OPTIONS[field.name].form, "")
            used = expression_names(tree)
            _check_known(place, lines, sorted(used), known | {"task"}, f"--{field.name}", literal)
            if "task" in used - known:  # and is neither an input nor a name of a comprehension
                asked = sorted(attributes_asked(tree, "task"))
                _check_task(place, lines, asked, f"--{field.name}")
        elif field.name in OPTIONS and OPTIONS[field.name].template and value is not None:
            _check_known(place, lines, template_fields(value), known, f"--{field.name}")


def staging_of(decl: ProcessDecl) -> dict[str, str]:
    """Return the pattern of each input that is staged under another name.

    Raises:
        OptionError: a pattern names no input, and there is not exactly one declared path.
    """
    paths = [each.name for each in decl.inputs or () if each.type is not None and each.type.is_path]
    found: dict[str, str] = {}
    for name, pattern in decl.directives.stage_as:
        if not name and len(paths) != 1:
            raise OptionError(
                f"--stage_as {pattern}: which input? {len(paths)} are declared as path",
                hint=f"write --stage_as {(paths or ['INPUT'])[0]}={pattern}",
            )
        found[name or paths[0]] = pattern
    return found


def _check_staging(decl: ProcessDecl, lines: Sequence[str], known: frozenset[str]) -> None:
    if not decl.directives.stage_as:
        return
    place = _place_of("stage_as", decl)
    try:
        staging = staging_of(decl)
    except OptionError as error:
        refuse(place, lines, error.message, error.hint)
    types = {each.name: each.type for each in decl.inputs or ()}
    for name, pattern in staging.items():
        _check_known(place, lines, [name, *template_fields(pattern)], known, "--stage_as")
        declared = types[name]
        if declared is not None and not declared.is_path:
            refuse(place, lines, f'--stage_as: "{name}" is declared as {declared}, and no file')


def _check_rules(decl: ProcessDecl, lines: Sequence[str], known: frozenset[str] | None) -> None:
    outputs = decl.outputs
    for rule in decl.directives.publish:
        place = _place_of("publish", decl)
        if outputs is not None and not any(_may_be_a_file(each, decl) for each in outputs):
            refuse(
                place,
                lines,
                "--publish: none of its outputs is a file",
                'a file is declared as NAME: path = "its name"',
            )
        try:
            names = [*(rule.only if outputs is None else (each.name for each in outputs))]
            check_rule(rule, known, names)
        except OptionError as error:
            refuse(place, lines, error.message, error.hint)
        if rule.enabled is not None:
            tree = parse_expression(rule.enabled.text, "expression")
            _check_task(place, lines, sorted(attributes_asked(tree, "task")), "--publish: enabled")


def check_store(decl: ProcessDecl, passed: Collection[str], lines: Sequence[str]) -> None:
    """Check that a store folder can hold all that a process makes, and tell whether it is there.

    Raises:
        OptionError: an output is no file, or has no name beforehand; or none is required.
    """
    if decl.directives.store is None:
        return
    own = [each for each in decl.outputs or () if each.name not in passed]
    place = _place_of("store", decl)
    if not own or decl.inferred:
        refuse(
            place, lines, "--store: no output is declared", 'declare a file: -> NAME: path = "..."'
        )
    for each in own:
        if each.type is None or not each.type.is_path:
            said = f'--store: the output "{each.name}" is no file, and a store folder holds files'
            refuse(place, lines, said, f'write {each.name}: path = "its name"')
        if each.pattern is None and decl.language == "python":
            said = f'--store: the file of the output "{each.name}" has no name beforehand'
            refuse(place, lines, said, f'write {each.name}: path = "its name"')
    if all(each.type is not None and each.type.optional for each in own):
        refuse(
            place,
            lines,
            "--store: every output is optional, so an empty folder would do",
            "let at least one output be required",
        )


def _may_be_a_file(output: Output, decl: ProcessDecl) -> bool:
    """Whether an output may turn out to be a file: a Python body may make one undeclared."""
    if output.type is None:
        return decl.language == "python"
    return output.type.is_path


_LITERALS: Mapping[Form, str] = {  # what is written where it is no expression
    "int": "write a number, or compute with the inputs; ",
    "count": "write a number, or compute with the inputs; ",
    "size": "write a size (4GB, 500MB), or compute with the inputs; ",
    "time": "write a time (90s, 2h), or compute with the inputs; ",
}


def _check_known(
    place: Option,
    lines: Sequence[str],
    used: Iterable[str],
    known: frozenset[str] | None,
    said: str,
    literal: str = "",
) -> None:
    for name in used:
        if known is not None and name not in known:
            hint = literal + names_hint(name, known)
            refuse(place, lines, f'{said}: "{name}" is none of its inputs', hint)


def _check_task(place: Option, lines: Sequence[str], used: Iterable[str], said: str) -> None:
    known = [each.name for each in fields(AskedTask)]
    for name in used:
        if name not in known:
            hint = meant(name, known, f"it has {', '.join(known)}")
            refuse(place, lines, f"{said}: task has no {name!r}", hint)


def _place_of(name: str, decl: ProcessDecl) -> Option:
    """Find where an option stands in the cell as written."""
    spelled = name.replace("_", "[-_]")
    pattern = rf"--{spelled}\b|^#\|\s*{spelled}\s*:"
    for number, line in enumerate(decl.source.split("\n")[: decl.body_line], 1):
        found = re.search(pattern, line)
        if found:
            return Option(name, "", number, found.start())
    return Option(name, "", 1, 0)
