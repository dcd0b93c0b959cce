"""What the text of an option means, by the form that its option takes (`language.options`).

Nothing is run here; an option that is Python over `task` and the inputs stays a `Dynamic` until a
task needs it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from nbcache.model.process import Dynamic
from nbcache.plan.language.header_text import is_public_name, nearest
from nbcache.plan.language.options import OPTIONS, OptionSpec
from nbcache.plan.language.publishing import parse_rule
from nbcache.plan.language.quantities import (
    Form,
    evaluate_dynamic,
    expression_names,
    parse_duration,
    parse_expression,
    parse_size,
    template_fields,
)
from nbcache.plan.language.stage_as import parse_stage_as


def read_value(spec: OptionSpec, text: str) -> object:
    """Return what a text means; one that is an expression becomes a Dynamic.

    Raises:
        ValueError, OptionError: it is not of the option's form.
    """
    return _READERS[spec.form](spec, text)


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


def _read_expression(spec: OptionSpec, text: str) -> object:
    return _read_dynamic(spec, text, f"{text!r} is not a Python expression")


_READERS: Mapping[Form, Callable[[OptionSpec, str], object]] = {
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
    "rule": lambda _, text: parse_rule(text),
    "staging": lambda _, text: parse_stage_as(text),
}


def _read_dynamic(spec: OptionSpec, text: str, reason: str, *, names_too: bool = True) -> object:
    """Return a Dynamic, or the value itself where the expression takes no name."""
    if not spec.dynamic:
        raise ValueError(reason)
    try:
        tree = parse_expression(text, spec.form)
    except SyntaxError:
        if spec.form != "expression":
            reason += ", and no expression over task and the inputs"
        raise ValueError(reason) from None
    if isinstance(tree.body, ast.Name) and not names_too:
        raise ValueError(reason)
    if expression_names(tree) or spec.form == "expression":
        return Dynamic(text)
    return evaluate_option(spec.name, text, {})


def evaluate_option(name: str, text: str, names: Mapping[str, object]) -> object:
    """Evaluate the Dynamic `text` of option `name` over `task` and the inputs."""
    spec = OPTIONS[name]
    return evaluate_dynamic(text, names, spec.form, option=name, choices=spec.choices)
