"""Sizes, times, templates, and directives that are Python over `task` and the inputs.

Sizes are bytes: KB, MB, GB, TB, PB are powers of 1000 (K, M, G, T, P mean the same), KiB, MiB, ...
powers of 1024. Times are seconds. In a directive's expression both are literals: `4GB *
task.attempt`. Evaluates only expressions that the user wrote as directives.
"""

from __future__ import annotations

import ast
import builtins
import glob
import math
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from nbcache.errors import OptionError, kind_of
from nbcache.plan.language.header_text import nearest
from nbcache.plan.language.scanning import string_end

Form = Literal[
    "flag",
    "int",
    "count",
    "size",
    "time",
    "choice",
    "text",
    "names",
    "words",
    "modes",
    "expression",
    "rule",
    "staging",
]

_PREFIXES = "KMGTP"
_SIZES = {"b": 1}
for _power, _prefix in enumerate(_PREFIXES, 1):
    _SIZES[f"{_prefix}b".lower()] = _SIZES[_prefix.lower()] = 1000**_power
    _SIZES[f"{_prefix}ib".lower()] = 1024**_power
_TIMES = {
    unit: seconds
    for seconds, units in (
        (0.001, "ms milli millis millisecond milliseconds"),
        (1.0, "s sec secs second seconds"),
        (60.0, "m min mins minute minutes"),
        (3600.0, "h hour hours"),
        (86400.0, "d day days"),
        (604800.0, "w week weeks"),
    )
    for unit in units.split()
}
_NUMBER = r"\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?"
_ONE = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]*)\s*")
_LITERAL = re.compile(rf"(?<![\w.])({_NUMBER})\s*([A-Za-z]+)(?![\w.])")


def parse_size(text: str) -> int:
    """Return the bytes that "4GB", "512 MiB" or "1000" mean.

    Raises:
        ValueError: the text is no size.
    """
    found = _ONE.fullmatch(text)
    factor = _SIZES.get((found.group(2) or "b").lower()) if found else None
    if found is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write 4GB, 500MB or 2GiB")
    return round(float(found.group(1)) * factor)


def size_text(count: float) -> str:
    """Return bytes as people say them: "900 B", "25 kB", "1.3 GB"."""
    power = 0
    while power < len(_PREFIXES) and round(count) >= 1000 and count / 1000**power >= 999.5:
        power += 1
    number, unit = count / 1000**power, ("B", "kB", *(f"{each}B" for each in _PREFIXES[1:]))[power]
    return f"{number:.{int(number < 9.95)}f}".removesuffix(".0") + f" {unit}"


def duration_text(seconds: float) -> str:
    """Return seconds as people say them: "40 ms", "9.1 s", "2 min 05 s", "3 h 20 min"."""
    if seconds < 0.0995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def parse_duration(text: str) -> float:
    """Return the seconds that "90s", "2h", "1d 4h", "30 min" or "90" mean.

    Raises:
        ValueError: the text is no time.
    """
    total, at = 0.0, 0
    parts = list(_pairs(text))
    if not parts or (len(parts) > 1 and any(not unit for _, unit, _ in parts)):
        raise ValueError(_no_time(text))
    for number, unit, end in parts:
        factor = _TIMES.get(unit if unit else "s")
        if factor is None:
            raise ValueError(_no_time(text))
        total, at = total + number * factor, end
    if text[at:].strip():
        raise ValueError(_no_time(text))
    return total


def _pairs(text: str) -> Iterator[tuple[float, str, int]]:
    at = 0
    while found := _ONE.match(text, at):
        yield float(found.group(1)), found.group(2), found.end()
        at = found.end()


def _no_time(text: str) -> str:
    return f"{text!r} is not a time; write 90s, 30min, 2h or 1d 4h"


def with_literals(text: str, form: Form) -> str:
    """Return an expression with its size and time literals written as numbers.

    Which unit `m` or `M` is depends on the option: minutes for a time, megabytes for a size; in
    any other expression `m` is minutes and `M` megabytes.
    """
    pieces, at = [], 0
    while at < len(text):
        quote = min(
            (found for found in (text.find("'", at), text.find('"', at)) if found >= 0),
            default=len(text),
        )
        pieces.append(_replace_literals(text[at:quote], form))
        if quote == len(text):
            break
        end, _ = string_end(text, quote)
        pieces.append(text[quote:end])
        at = end
    return "".join(pieces)


def _replace_literals(text: str, form: Form) -> str:
    pieces, at, before = [], 0, -1
    for found in _LITERAL.finditer(text):
        value = _unit_value(found.group(1), found.group(2), form)
        if value is None:
            continue
        between = text[at : found.start()]
        # "1d 4h" is one time: literals with only blanks between them are added
        pieces.append("+" if at == before and not between.strip() and at else between)
        pieces.append(value)
        at = before = found.end()
    pieces.append(text[at:])
    return "".join(pieces)


def _unit_value(number: str, unit: str, form: Form) -> str | None:
    size, seconds = _SIZES.get(unit.lower()), _TIMES.get(unit)
    if form == "time":
        size = None
    elif form == "size":
        seconds = None
    elif size is not None and seconds is not None:
        size, seconds = (size, None) if unit.isupper() else (None, seconds)
    if size is not None:
        return str(round(float(number) * size))
    if seconds is not None:
        return repr(float(number) * seconds)
    return None


def parse_expression(text: str, form: Form) -> ast.Expression:
    """Return the syntax tree of a directive's expression.

    Raises:
        SyntaxError: it is no expression.
    """
    try:
        return ast.parse(with_literals(text, form).strip(), mode="eval")
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error)) from None


def expression_names(tree: ast.Expression) -> frozenset[str]:
    """Return the names that an expression takes from outside, builtins left out."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return frozenset(read - own - set(dir(builtins)))


def attributes_asked(tree: ast.Expression, name: str) -> frozenset[str]:
    """Return the attributes that an expression takes of what a name stands for."""
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    )


def evaluate_dynamic(
    text: str,
    names: Mapping[str, object],
    form: Form,
    *,
    option: str = "",
    choices: Collection[str] = (),
) -> object:
    """Evaluate a directive over `names` (`task` and the inputs) and check what it gives.

    Only what it names is asked of `names`. Returns an int (int, size), a float of seconds or None
    (time), None or bytes (size), a str (text, choice) or a bool (expression). `option` is for
    messages.

    Raises:
        OptionError: the expression fails, or gives what the option cannot be.
    """
    said = f"--{option} {text!r}" if option else repr(text)
    try:
        tree = parse_expression(text, form)
        code = compile(tree, f"<--{option or form}>", "eval", dont_inherit=True)
    except Exception as error:
        raise _failed(said, error, names) from error
    asked = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    seen = {name: names[name] for name in names if name in asked}
    try:
        value = eval(code, {"__builtins__": builtins, **seen})
    except Exception as error:
        raise _failed(said, error, names) from error
    try:
        return _checked(value, form, choices)
    except (ValueError, TypeError) as error:
        raise OptionError(f"{said} gives {value!r:.80}: {error}") from error


def _failed(said: str, error: Exception, names: Collection[str]) -> OptionError:
    hint = None
    if isinstance(error, NameError):
        hint = f"it may use {', '.join(sorted(names)) or 'nothing'}"
    reason = getattr(error, "msg", None) or str(error)
    return OptionError(f"{said}: {type(error).__name__}: {reason}", hint=hint)


def _checked(value: object, form: Form, choices: Collection[str]) -> object:
    if hasattr(value, "item") and callable(value.item) and not isinstance(value, type):
        value = value.item()  # a NumPy scalar
    if form == "expression":
        return bool(value)
    if form in ("text", "choice"):
        if not isinstance(value, str):
            raise TypeError("a text is needed")
        if choices and value not in choices:
            raise ValueError(f"it has to be one of {', '.join(choices)}")
        return value
    if form in ("size", "time") and value is None:
        return None
    if isinstance(value, str):
        return parse_size(value) if form == "size" else parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number is needed")
    if not math.isfinite(value) or value < 0 or (value == 0 and form != "count"):
        raise ValueError("it has to be 0 or more" if form == "count" else "it has to be above 0")
    if form == "time":
        return float(value)
    if form in ("int", "count") and value != int(value):
        raise ValueError("a whole number is needed")
    return math.ceil(value) if form == "size" else int(value)


_ATTRIBUTES = ("name", "stem", "suffix")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def template_fields(template: str) -> tuple[str, ...]:
    """Return the names that a template uses, in order.

    Raises:
        ValueError: a brace is left open, or a field is no {name} or {name.stem}.
    """
    return tuple(dict.fromkeys(name for name, _ in _fields(template) if name))


def _fields(template: str) -> Iterator[tuple[str, str]]:
    """Yield (name, attribute) of each field and ("", text) of what stands between."""
    at = 0
    for found in _FIELD.finditer(template):
        yield "", template[at : found.start()]
        at = found.end()
        mark = found.group()
        if mark in ("{{", "}}"):
            yield "", mark[0]
            continue
        if len(mark) == 1:
            raise ValueError(f'"{mark}" stands alone in {template!r}; write {mark * 2} for a brace')
        name, dot, attribute = (found.group(1) or "").strip().partition(".")
        if not name.isidentifier() or (dot and attribute not in _ATTRIBUTES):
            raise ValueError(
                f"{mark} is not a field: write {{name}}, or {{name.stem}}, {{name.name}}, "
                "{name.suffix} of a path"
            )
        yield name, attribute
    yield "", template[at:]


def render_template(
    template: str,
    values: Mapping[str, object],
    *,
    escape: Callable[[str], str] | None = None,
) -> str:
    """Return the template with its fields replaced by the text of the values, literally.

    A path stands for its file name. `{{` and `}}` are braces. `escape` is applied to each text
    that is put in (see `render_pattern`).

    Raises:
        OptionError: a field is malformed, or names what is not in `values`.
    """
    try:
        parts = list(_fields(template))
    except ValueError as error:
        raise OptionError(str(error)) from None
    pieces = []
    for name, rest in parts:
        if not name:
            pieces.append(rest)
            continue
        if name not in values:
            raise OptionError(
                f"{{{name}}} in {template!r} names no input", hint=names_hint(name, values)
            )
        text = _value_text(template, name, rest, values[name])
        pieces.append(escape(text) if escape else text)
    return "".join(pieces)


def render_pattern(template: str, values: Mapping[str, object]) -> str:
    """Return an output's file name pattern for one task: what stands in it is a glob, what is put
    into it is not (a sample named `a[1]` matches itself only)."""
    return render_template(template, values, escape=glob.escape)


def _value_text(template: str, name: str, attribute: str, value: object) -> str:
    is_path = isinstance(value, os.PathLike)
    stored = getattr(value, "name", None)
    if not is_path and not attribute:
        # a stored file is known by its name; anything else by its text
        stands_for_file = getattr(value, "kind", None) in ("file", "tree") or hasattr(value, "url")
        return str(stored) if stands_for_file and stored else str(value)
    if is_path:
        path = pathlib.PurePath(os.fspath(value))  # type: ignore[call-overload]
    elif isinstance(value, str):
        path = pathlib.PurePath(value)
    elif isinstance(stored, str):
        path = pathlib.PurePath(stored)
    else:
        raise OptionError(
            f"{{{name}.{attribute}}} in {template!r}: {name} is {kind_of(value)}, no path"
        )
    return str(getattr(path, attribute or "name"))


def names_hint(name: str, known: Collection[str]) -> str:
    """Say which names there are, and the one that was likely meant."""
    meant = "task.attempt" if name == "attempt" and "task" in known else nearest(name, known)
    said = f"the inputs are: {', '.join(sorted(known)) or 'none'}"
    if meant:
        return f'did you mean "{meant}"? {said}'
    return f"{said}; a variable of the notebook becomes one by a default: ({name}={name})"
