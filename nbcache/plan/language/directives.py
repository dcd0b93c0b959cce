"""What `--option value` and `#| option: value` mean: their texts become `Directives`.

Which options there are is `language.options`, what their texts mean `language.option_values`, and
whether they fit the inputs and outputs `language.directive_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from nbcache.errors import OptionError
from nbcache.model.process import Directives, Language, Option, Script
from nbcache.plan.language.header_text import nearest
from nbcache.plan.language.nextflow import DIRECTIVES, said_here
from nbcache.plan.language.option_values import read_value
from nbcache.plan.language.options import OPTIONS, OptionSpec, refuse
from nbcache.plan.language.parts import interpreter_words

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
            refuse(option, lines, f"--{spec.name} is given twice", f"the first is in line {first}")
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
            refuse(option, lines, f"--{name} is for {said}")
    return Directives(**values), language, interpreter


def _spec(option: Option, lines: Sequence[str]) -> OptionSpec:
    name = option.key.replace("-", "_")
    if name not in OPTIONS:
        meant = nearest(name, OPTIONS)
        near = f'did you mean "--{meant}"?' if meant else "known are: " + ", ".join(sorted(OPTIONS))
        hint = said_here(option.key, DIRECTIVES) or near
        refuse(option, lines, f'there is no option "--{option.key}"', hint)
    return OPTIONS[name]


def _interpreter(
    given: Mapping[str, Option], shebang: Option | None, lines: Sequence[str]
) -> tuple[str, ...]:
    ways = [given[name] for name in ("bash", "script") if name in given]
    if "bash" in given:
        _value(OPTIONS["bash"], given["bash"], lines)
    if len(ways) + (shebang is not None) > 1:
        last = shebang or max(ways, key=lambda each: (each.line, each.column))
        refuse(last, lines, "the body has two interpreters", "keep one of --bash, --script and #!")
    if "bash" in given:
        return BASH
    way = shebang or (ways[0] if ways else None)
    if way is None:
        return ()
    try:
        return interpreter_words(way.text)
    except ValueError as error:
        refuse(
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
            refuse(place, lines, "this script has no interpreter", hint)
    return scripts[0].interpreter if scripts else ()


def _value(spec: OptionSpec, option: Option, lines: Sequence[str]) -> object:
    """Read an option's text by its form; a text that is an expression becomes a Dynamic."""
    text = option.text.strip() or spec.bare
    if spec.bare and text.lower() == "false":
        return spec.default
    if spec.form == "flag":
        if text.lower() not in ("", "true"):
            refuse(
                option, lines, f"--{spec.name} is a flag: it takes no value ({text!r} was given)"
            )
        return True
    if not text:
        refuse(option, lines, f"--{spec.name} needs a value", f"write --{spec.name} {spec.value}")
    try:
        return read_value(spec, text)
    except ValueError as error:
        refuse(option, lines, f"--{spec.name}: {error}")
    except OptionError as error:
        refuse(option, lines, error.message, error.hint)
