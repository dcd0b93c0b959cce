"""What values are to a shell: variables with quoted texts, and texts that become values again.

A value is never pasted into a script: it is declared, whatever it holds.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from nbcache.engine.work.python_body import TaskInfo
from nbcache.errors import OutputError, ScriptError, kind_of
from nbcache.model.process import Output


def task_variables(task: TaskInfo) -> dict[str, object]:
    """Return what a script may ask about its own attempt."""
    return {
        "cpus": task.cpus,
        "task_cpus": task.cpus,
        "task_memory": task.memory if task.memory is not None else "",
        "task_time": f"{task.time:g}" if task.time is not None else "",
        "task_gpus": task.gpus,
        "task_disk": task.disk if task.disk is not None else "",
        "task_attempt": task.attempt,
        "task_index": task.index,
        "task_process": task.process,
    }


def declarations(inputs: Mapping[str, object], task: TaskInfo) -> list[str]:
    """Return what a task has for variables, as bash declares them."""
    held = (*task_variables(task).items(), *inputs.items())
    return [declaration(name, value) for name, value in held]


def declaration(name: str, value: object) -> str:
    """Return a bash declaration whose right side is quoted, whatever the value holds."""
    if isinstance(value, (list, tuple)):
        texts = (shell_text(f"{name}[{place}]", member) for place, member in enumerate(value))
        return f"declare -a {name}=({' '.join(map(shlex.quote, texts))})"
    if isinstance(value, Mapping):
        pairs = " ".join(
            f"[{shlex.quote(str(key))}]={shlex.quote(shell_text(f'{name}[{key}]', member))}"
            for key, member in value.items()
        )
        return f"declare -A {name}=({pairs})"
    return f"declare -- {name}={shlex.quote(shell_text(name, value))}"


def shell_text(name: str, value: object) -> str:
    """Return a scalar as the text that a script sees.

    Raises:
        ScriptError: the value is no text, number, bool, path or None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, PurePath):
        text = os.fspath(value)
        return f"./{text}" if text.startswith("-") else text
    if isinstance(value, (str, int, float)):
        text = str(value)
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        text = str(value.item())
    elif hasattr(value, "isoformat"):
        text = value.isoformat()
    else:
        raise ScriptError(
            f"input {name!r} is {kind_of(value)}: a script takes text, numbers, paths and "
            "lists of these. Turn it into one of them in a Python process first."
        )
    if "\0" in text:
        raise ScriptError(f"input {name!r} holds a NUL character, which no shell variable can")
    return text


def environment_text(value: object) -> str:
    """Return a value as the text of an environment variable; "" where it has none."""
    if isinstance(value, (list, tuple)):
        return " ".join(shlex.quote(shell_text("", member)) for member in value)
    try:
        return shell_text("", value)
    except ScriptError:
        return ""


def json_value(name: str, value: object) -> object:
    """Return an input as `$NBCACHE_INPUTS` holds it."""
    if isinstance(value, PurePath):
        return shell_text(name, value)
    if isinstance(value, (list, tuple)):
        return [json_value(name, member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): json_value(name, member) for key, member in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return shell_text(name, value)


def typed(output: Output, text: str | list[str]) -> object:
    """Return a script's text as the declared type (text, where none is declared)."""
    kind = output.type.base if output.type is not None else "str"
    convert = _CONVERSIONS.get(kind)
    members: Sequence[str] = text if isinstance(text, list) else [text]
    if convert is None:
        return text
    try:
        made = [convert(member) if isinstance(member, str) else member for member in members]
    except ValueError:
        raise OutputError(
            f"output {output.name!r} is declared as {output.type}, but the script made {text!r}\n"
            "  declare the type that the script makes; without one it is text"
        ) from None
    return made if isinstance(text, list) else made[0]


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "1", "yes", "false", "0", "no", ""):
        raise ValueError(text)
    return word in ("true", "1", "yes")


_CONVERSIONS: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "bool": _bool,
    "json": json.loads,
    "dict": json.loads,
}
