"""Hang Tab completion into a shell; what completes is imported at the first Tab.

On the lines that are nbcache's own, its words stand alone: Python's would be noise there.
"""

from __future__ import annotations

import re
from typing import Any

_WORDS = {  # how a line begins -> the function of `completion` that completes it
    "%nbcache": "command_words",
    "%%process": "header_words",
    "%channel": "channel_words",
    "#|": "header_words",
}
_OWN = re.compile(r"(?:^|=)\s*(?P<line>(?P<key>%nbcache|%%process|%channel|#\|).*)$")
_IDENTIFIER = "nbcache"


def install(shell: Any) -> None:
    """Hang the completer in."""
    from IPython.core.completer import context_matcher

    namespace = shell.user_ns

    @context_matcher(identifier=_IDENTIFIER)  # type: ignore[untyped-decorator]
    def complete(context: Any) -> Any:
        from IPython.core.completer import SimpleCompletion

        own = _OWN.search(context.text_until_cursor)
        if own is None:
            return {"completions": []}
        from nbcache.notebook import completion

        found = getattr(completion, _WORDS[own["key"]])(own["line"], namespace)
        return {
            "completions": [SimpleCompletion(text=word) for word in found],
            "matched_fragment": completion.typed_at_end(own["line"]),
            "suppress": bool(found),
        }

    shell.Completer.custom_matchers.append(complete)


def uninstall(shell: Any) -> None:
    """Take the completer out again."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [
        each for each in matchers if getattr(each, "matcher_identifier", None) != _IDENTIFIER
    ]
