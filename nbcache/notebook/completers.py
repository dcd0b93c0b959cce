"""Hang Tab completion into a shell; what completes is imported at the first Tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {  # the beginning of a line -> the function of `completion` that completes it
    "%nbcache": "command_words",
    "%%process": "header_words",
    "%channel": "channel_words",
    "#|": "header_words",
}


def install(shell: Any) -> None:
    """Hang the completers in."""
    for key, name in _WORDS.items():
        shell.set_hook("complete_command", _completer(name, shell.user_ns), str_key=key)


def _completer(name: str, namespace: Mapping[str, object]) -> Any:
    def complete(_shell: Any, event: Any) -> list[str]:
        from nbcache.notebook import completion

        found: list[str] = getattr(completion, name)(event.text_until_cursor, namespace)
        return found

    return complete


def uninstall(shell: Any) -> None:
    """Take the completers out again."""
    for key in _WORDS:
        shell.strdispatchers["complete_command"].strs.pop(key, None)
