"""What `--option value` and `#| option: value` mean: their texts become `Directives`.

Which options there are is `language.options`. Nothing is run here; an option that is Python over
`task` and the inputs stays a `Dynamic` until a task needs it (`evaluate_dynamic`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from nbcache.errors import OptionError
from nbcache.model.process import (
    Directives,
    Dynamic,
    Language,
    Option,
    Output,
    ProcessDecl,
    Script,
)
from nbcache.plan.language.header_text import is_public_name, nearest
from nbcache.plan.language.nextflow import DIRECTIVES, said_here
from nbcache.plan.language.options import OPTIONS, OptionSpec
from nbcache.plan.language.parts import interpreter_words
from nbcache.plan.language.publishing import check_rule, parse_rule
from nbcache.plan.language.quantities import (
    Form,
    evaluate_dynamic,
    expression_names,
    names_hint,
    parse_duration,
    parse_expression,
    parse_size,
    render_pattern,
    render_template,
    template_fields,
)
from nbcache.plan.language.stage_as import parse_stage_as

__all__ = [
    "OPTIONS",
    "OptionSpec",
    "check_store",
    "check_templates",
    "evaluate_dynamic",
    "evaluate_option",
    "parse_duration",
    "parse_options",
    "parse_size",
    "render_pattern",
    "render_template",
    "staging_of",
    "template_fields",
]

BASH = ("bash", "-euo", "pipefail")
_FIELDS = frozenset(each.name for each in fields(Directives))


def parse_options(
    options: Sequence[Option],
    *,
    shebang: Option | None = None,
    lines: Sequence[str] = (),
    scripts: Sequence[Script] = (),
) -> tuple[Directives, Language, tuple[str, ...]]:
    """Return what options ask for, the body's language and its interpreter's argv.

    `shebang` is the `#!` line below the header, if there is one; `lines` are those of the cell, so
    that errors can show theirs. `scripts` are those of the body, where it has several.

    Raises:
        OptionError: an option is unknown, given twice, or its value does not parse.
    """
    given: dict[str, Option] = {}
    values: dict[str, Any] = {}
    for option in options:
        spec = _spec(option, lines)
        if spec.name in given and not spec.repeats:
            first = given[spec.name].line
            _fail(option, lines, f"--{spec.name} is given twice", f"the first is in line {first}")
        given[spec.name] = option
        if spec.name in _FIELDS:
            value = _value(spec, option, lines)
            values[spec.name] = (*values.get(spec.name, ()), value) if spec.repeats else value
    if "cache" in values:
        values["cache"], values["cache_of"] = values["cache"]
    if values.get("retries") and "on_error" not in values:
        values["on_error"] = "retry"
    interpreter = _interpreter(given, shebang, lines) or _of_scripts(scripts, lines)
    language: Language = "script" if interpreter else "python"
    for name, option in given.items():
        wanted = OPTIONS[name].language
        if wanted is not None and wanted != language:
            said = "Python bodies, and this one is a script"
            if wanted == "script":
                said = "scripts, and this body is Python"
            _fail(option, lines, f"--{name} is for {said}")
    return Directives(**values), language, interpreter


def _spec(option: Option, lines: Sequence[str]) -> OptionSpec:
    name = option.key.replace("-", "_")
    if name not in OPTIONS:
        meant = nearest(name, OPTIONS)
        near = f'did you mean "--{meant}"?' if meant else "known are: " + ", ".join(sorted(OPTIONS))
        hint = said_here(option.key, DIRECTIVES) or near
        _fail(option, lines, f'there is no option "--{option.key}"', hint)
    return OPTIONS[name]


def _fail(option: Option, lines: Sequence[str], message: str, hint: str | None = None) -> NoReturn:
    source = lines[option.line - 1].rstrip("\r") if 0 < option.line <= len(lines) else None
    raise OptionError(message, line=option.line, column=option.column, source=source, hint=hint)


def _interpreter(
    given: Mapping[str, Option], shebang: Option | None, lines: Sequence[str]
) -> tuple[str, ...]:
    ways = [given[name] for name in ("bash", "script") if name in given]
    if "bash" in given:
        _value(OPTIONS["bash"], given["bash"], lines)
    if len(ways) + (shebang is not None) > 1:
        last = shebang or max(ways, key=lambda each: (each.line, each.column))
        _fail(last, lines, "the body has two interpreters", "keep one of --bash, --script and #!")
    if "bash" in given:
        return BASH
    way = shebang or (ways[0] if ways else None)
    if way is None:
        return ()
    try:
        return interpreter_words(way.text)
    except ValueError as error:
        _fail(
            way,
            lines,
            f"no interpreter: {error}",
            "write --script Rscript, or #!/usr/bin/env Rscript",
        )


def _of_scripts(scripts: Sequence[Script], lines: Sequence[str]) -> tuple[str, ...]:
    """Return the interpreter of the first script where the header names none: then each has one."""
    for each in scripts:
        if not each.interpreter:
            place = Option("if", "", each.line, 0)
            hint = "write --bash, or a #! line; in a Python body, a plain if"
            _fail(place, lines, "this script has no interpreter", hint)
    return scripts[0].interpreter if scripts else ()


def _value(spec: OptionSpec, option: Option, lines: Sequence[str]) -> object:
    """Read an option's text by its form; a text that is an expression becomes a Dynamic."""
    text = option.text.strip() or spec.bare
    if spec.bare and text.lower() == "false":
        return spec.default
    if spec.form == "flag":
        if text.lower() not in ("", "true"):
            _fail(option, lines, f"--{spec.name} is a flag: it takes no value ({text!r} was given)")
        return True
    if not text:
        _fail(option, lines, f"--{spec.name} needs a value", f"write --{spec.name} {spec.value}")
    try:
        return _READERS[spec.form](spec, text)
    except ValueError as error:
        _fail(option, lines, f"--{spec.name}: {error}")
    except OptionError as error:
        _fail(option, lines, error.message, error.hint)


def _read_int(spec: OptionSpec, text: str) -> object:
    try:
        number = int(text)
    except ValueError:
        return _read_dynamic(spec, text, f"{text!r} is not a whole number")
    if number < spec.least and spec.name != "seed":
        raise ValueError(f"it has to be {spec.least} or more, not {number}")
    return number


_BARE = 1 << 20  # below it a number without a unit is one whose unit was forgotten


def _read_size(spec: OptionSpec, text: str) -> object:
    try:
        size = parse_size(text)
    except ValueError as error:
        return _read_dynamic(spec, text, str(error))
    if 0 < size < _BARE and text.strip().isdigit():
        unit = "GB" if size < 1000 else "MB"  # 2000 is 2 GB rather than 2 TB
        raise ValueError(f"{size} is a number of bytes; write {size}{unit}, or {size}B")
    return _above_zero(size)


def _read_time(spec: OptionSpec, text: str) -> object:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        return _read_dynamic(spec, text, str(error))
    return _above_zero(seconds)


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("it has to be above 0")
    return value


def _read_choice(spec: OptionSpec, text: str) -> object:
    if text in spec.choices:
        return text
    meant = nearest(text, spec.choices)
    reason = f"{text!r} is none of {', '.join(spec.choices)}"
    if meant:
        reason += f'; did you mean "{meant}"?'
    return _read_dynamic(spec, text, reason, names_too=False)


def _read_text(spec: OptionSpec, text: str) -> object:
    if spec.template:
        template_fields(text)
    return text


def _read_names(spec: OptionSpec, text: str) -> object:
    names = tuple(each.strip() for each in text.split(","))
    for name in names:
        if not is_public_name(name):
            raise ValueError(f"{name!r} is not a name; names are divided by commas: A,B")
    return tuple(dict.fromkeys(names))


def _read_words(spec: OptionSpec, text: str) -> object:
    words = tuple(each.strip() for each in text.split(","))
    if not all(words):
        raise ValueError(f"{text!r} has an empty part; parts are divided by commas: A,B")
    return tuple(dict.fromkeys(words))


def _read_modes(spec: OptionSpec, text: str) -> object:
    """Return the mode of a process, and those of single inputs: "standard, genome=lenient"."""
    mode, inputs = spec.default, []
    for each in text.split(","):
        name, sign, value = (part.strip() for part in each.rpartition("="))
        chosen = _read_choice(spec, value)
        if not sign:
            mode = chosen
        elif chosen == "off" or not is_public_name(name):
            raise ValueError(f"{each.strip()!r} is not INPUT=MODE with deep, standard or lenient")
        else:
            inputs.append((name, chosen))
    return mode, tuple(inputs)


def _read_staging(spec: OptionSpec, text: str) -> object:
    return parse_stage_as(text)


def _read_rule(spec: OptionSpec, text: str) -> object:
    return parse_rule(text)


def _read_expression(spec: OptionSpec, text: str) -> object:
    return _read_dynamic(spec, text, f"{text!r} is not a Python expression")


_READERS: Mapping[Form, Any] = {
    "int": _read_int,
    "count": _read_int,
    "size": _read_size,
    "time": _read_time,
    "choice": _read_choice,
    "text": _read_text,
    "names": _read_names,
    "words": _read_words,
    "modes": _read_modes,
    "expression": _read_expression,
    "rule": _read_rule,
    "staging": _read_staging,
}


def _read_dynamic(spec: OptionSpec, text: str, reason: str, *, names_too: bool = True) -> object:
    """Return a Dynamic, or the value itself where the expression takes no name."""
    if not spec.dynamic:
        raise ValueError(reason)
    try:
        tree = parse_expression(text, spec.form)
    except SyntaxError:
        raise ValueError(f"{reason}{_or_expression(spec)}") from None
    if isinstance(tree.body, ast.Name) and not names_too:
        raise ValueError(reason)
    if expression_names(tree) or spec.form == "expression":
        return Dynamic(text)
    return evaluate_option(spec.name, text, {})


def _or_expression(spec: OptionSpec) -> str:
    return "" if spec.form == "expression" else ", and no expression over task and the inputs"


def evaluate_option(name: str, text: str, names: Mapping[str, object]) -> object:
    """Evaluate the Dynamic `text` of option `name` over `task` and the inputs."""
    spec = OPTIONS[name]
    return evaluate_dynamic(text, names, spec.form, option=name, choices=spec.choices)


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
                _fail(place, lines, f"{said}: {error}")
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
            used = expression_names(parse_expression(value.text, OPTIONS[field.name].form))
            literal = _LITERALS.get(OPTIONS[field.name].form, "")
            _check_known(place, lines, sorted(used), known | {"task"}, f"--{field.name}", literal)
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
        _fail(place, lines, error.message, error.hint)
    types = {each.name: each.type for each in decl.inputs or ()}
    for name, pattern in staging.items():
        _check_known(place, lines, [name, *template_fields(pattern)], known, "--stage_as")
        declared = types[name]
        if declared is not None and not declared.is_path:
            _fail(place, lines, f'--stage_as: "{name}" is declared as {declared}, and no file')


def _check_rules(decl: ProcessDecl, lines: Sequence[str], known: frozenset[str] | None) -> None:
    outputs = decl.outputs
    for rule in decl.directives.publish:
        place = _place_of("publish", decl)
        if outputs is not None and not any(_may_be_a_file(each, decl) for each in outputs):
            _fail(
                place,
                lines,
                "--publish: none of its outputs is a file",
                'a file is declared as NAME: path = "its name"',
            )
        try:
            names = [*(rule.only if outputs is None else (each.name for each in outputs))]
            check_rule(rule, known, names)
        except OptionError as error:
            _fail(place, lines, error.message, error.hint)


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
        _fail(
            place, lines, "--store: no output is declared", 'declare a file: -> NAME: path = "..."'
        )
    for each in own:
        if each.type is None or not each.type.is_path:
            said = f'--store: the output "{each.name}" is no file, and a store folder holds files'
            _fail(place, lines, said, f'write {each.name}: path = "its name"')
        if each.pattern is None and decl.language == "python":
            said = f'--store: the file of the output "{each.name}" has no name beforehand'
            _fail(place, lines, said, f'write {each.name}: path = "its name"')
    if all(each.type is not None and each.type.optional for each in own):
        _fail(
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
            _fail(place, lines, f'{said}: "{name}" is none of its inputs', hint)


def _place_of(name: str, decl: ProcessDecl) -> Option:
    """Find where an option stands in the cell as written."""
    spelled = name.replace("_", "[-_]")
    pattern = rf"--{spelled}\b|^#\|\s*{spelled}\s*:"
    for number, line in enumerate(decl.source.split("\n")[: decl.body_line], 1):
        found = re.search(pattern, line)
        if found:
            return Option(name, "", number, found.start())
    return Option(name, "", 1, 0)
