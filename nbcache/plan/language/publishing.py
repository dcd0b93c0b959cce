"""Read publish and store rules, and say under which names results go where.

    publish = FOLDER { "," KEY "=" VALUE }     KEY: only pattern as mode enabled overwrite

FOLDER and `as` are templates over the inputs; `as` also knows `{file}`, the name that the result
has. What is put into a template can never lead out of the folder that the rule's own text names.
No I/O.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, get_args

from nbcache.errors import OptionError
from nbcache.model.process import Dynamic, PublishMode, PublishRule
from nbcache.plan.language.header_text import is_public_name, literal_string, nearest
from nbcache.plan.language.quantities import (
    expression_names,
    names_hint,
    parse_expression,
    render_template,
    template_fields,
)
from nbcache.plan.language.scanning import scan_logical_line, split_at

_KEYS = ("only", "pattern", "as", "mode", "enabled", "overwrite")
_WITHOUT_COMMA = re.compile(rf"\s((?:{'|'.join(_KEYS)})=.*)")
_MODES: tuple[PublishMode, ...] = get_args(PublishMode)
_NOT_OFFERED = {
    "move": "results stay in the cache, so that they are hits; choose copy or symlink",
    "link": "a hard link shares its bytes with the cache: who edits the file would change the "
    "result. Choose copy (which costs no space where the file system can clone) or symlink",
}


def parse_rule(text: str) -> PublishRule:
    """Return the rule that a text means.

    Raises:
        ValueError: a part is missing, unknown or malformed.
    """
    scan = scan_logical_line(text)
    if scan.fault is not None or scan.end != len(text):
        raise ValueError(f"{text!r} has a quote or bracket that does not close")
    parts = [text[begin:end].strip() for begin, end in split_at(scan, ",", scan.start, scan.end, 0)]
    folder = _folder(parts[0])
    given: dict[str, str] = {}
    for part in parts[1:]:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key not in _KEYS:
            _refuse_part(part, key)
        if key in given:
            raise ValueError(f"{key}= is given twice")
        quoted = literal_string(value)
        given[key] = value if quoted is None else quoted
    name = given.get("as")
    if name is not None:
        _check_name(name)
    return PublishRule(
        folder=folder,
        only=_names(given.get("only")),
        pattern=given.get("pattern"),
        name=name,
        mode=_mode(given.get("mode", "copy")),
        enabled=_enabled(given.get("enabled")),
        overwrite=_flag(given.get("overwrite", "false")),
    )


def _folder(part: str) -> str:
    quoted = literal_string(part)
    folder = part if quoted is None else quoted
    if quoted is None and (after := _WITHOUT_COMMA.search(folder)):
        raise ValueError(f"a comma is missing before {after[1]} in {part!r}")
    if not folder or "=" in part.partition("/")[0]:
        raise ValueError(f"{part!r} is no folder: a rule begins with one, such as results/{{name}}")
    template_fields(folder)
    return folder


def _refuse_part(part: str, key: str) -> NoReturn:
    meant = nearest(key, _KEYS)
    hint = f'; did you mean "{meant}="?' if meant and meant != key else ""
    raise ValueError(f"{part!r} is none of {', '.join(f'{each}=...' for each in _KEYS)}{hint}")


def _mode(text: str) -> PublishMode:
    for mode in _MODES:
        if text == mode:
            return mode
    reason = _NOT_OFFERED.get(text) or f"it is one of {', '.join(_MODES)}"
    raise ValueError(f"mode={text}: {reason}")


def _names(text: str | None) -> tuple[str, ...]:
    names = tuple((text or "").split())
    for name in names:
        if not is_public_name(name):
            raise ValueError(f"only={text}: {name!r} is no output; names are divided by blanks")
    return names


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"overwrite={text}: it is true or false")
    return text.lower() == "true"


def _enabled(text: str | None) -> Dynamic | None:
    if text is None or text.lower() == "true":
        return None
    text = "False" if text.lower() == "false" else text
    try:
        parse_expression(text, "expression")
    except SyntaxError:
        raise ValueError(f"enabled={text} is no Python expression") from None
    return Dynamic(text)


def _check_name(name: str) -> None:
    template_fields(name)
    if name.startswith("/") or ".." in name.split("/") or not name.strip("/. "):
        raise ValueError(f"as={name}: it has to be a name inside of the folder")


def check_rule(rule: PublishRule, inputs: Collection[str] | None, outputs: Sequence[str]) -> None:
    """Check that a rule names inputs and outputs that there are (inputs None: not known yet).

    Raises:
        OptionError: it names something else.
    """
    for name in rule.only:
        if name not in outputs:
            raise OptionError(
                f'--publish: "{name}" is none of its outputs', hint=_listed(name, outputs)
            )
    if inputs is None:
        return
    used = [*template_fields(rule.folder)]
    if rule.name is not None:
        used += [each for each in template_fields(rule.name) if each != "file"]
    if rule.enabled is not None:
        names = expression_names(parse_expression(rule.enabled.text, "expression"))
        used += sorted(names - {"task"})
    for name in used:
        if name not in inputs:
            raise OptionError(
                f'--publish: "{name}" is none of its inputs', hint=names_hint(name, inputs)
            )


def _listed(name: str, outputs: Sequence[str]) -> str:
    meant = nearest(name, outputs)
    listed = ", ".join(outputs) or "none"
    return (f'did you mean "{meant}"? ' if meant else "") + f"the outputs are: {listed}"


def render_folder(template: str, values: Mapping[str, object]) -> str:
    """Return the folder of a rule for one task.

    Raises:
        OptionError: a value that is put in would lead elsewhere.
    """
    return render_template(template, values, escape=_inside(template))


def published_name(rule: PublishRule, file: str, values: Mapping[str, object]) -> str | None:
    """Return where in the folder a result of this name goes; None: the rule leaves it out.

    Raises:
        OptionError: the name would lie outside of the folder.
    """
    if rule.pattern is not None and not fnmatch.fnmatchcase(file, rule.pattern):
        return None
    if rule.name is None:
        return file
    used = {name: values[name] for name in template_fields(rule.name) if name in values}
    named = render_template(rule.name, {**used, "file": file}, escape=_inside(rule.name))
    name = posixpath.normpath(named)
    if name.startswith(("/", "../")) or name in (".", ".."):
        raise OptionError(f"as={rule.name} gives {named!r}, which is no name inside of the folder")
    return name


def _inside(template: str) -> Callable[[str], str]:
    """Return what refuses a text that would lead out of the folder that a template names."""

    def refuse(text: str) -> str:
        if text.startswith(("/", "~")) or ".." in text.split("/") or "\0" in text:
            raise OptionError(
                f"{template!r}: the value {text!r} would lead out of the folder",
                hint="put in a value without / at its start and without ..",
            )
        return text

    return refuse
