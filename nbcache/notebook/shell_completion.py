"""Tab completion in bash, zsh and fish: a few lines for the shell, which asks `nbcache` itself.

What it offers are verbs, options, and names of the cache in the folder, or of `--cache`; where it
offers nothing the shell completes files.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbcache.errors import NbcacheError, UsageError
from nbcache.notebook.shell_words import place_in
from nbcache.notebook.verb_words import words_for

RUNS = 50  # names of runs that are offered, the newest

SCRIPTS: Mapping[str, str] = {
    "bash": """\
_nbcache_complete() {
    local IFS=$'\\n'
    COMPREPLY=($("${1/#\\~/$HOME}" completion --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o default -F _nbcache_complete nbcache""",
    "zsh": """\
_nbcache_complete() {
    local -a found
    found=("${(@f)$(${~${(Q)words[1]}} completion --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _nbcache_complete nbcache""",
    "fish": """\
function __nbcache_complete
    set -l found (nbcache completion --line (commandline -cp | string collect) 2>/dev/null)
    and set -q found[1]
    and printf '%s\\n' $found
    or __fish_complete_path (commandline -ct)
end
complete -c nbcache -f -a '(__nbcache_complete)'""",
}


def script_for(shell: str) -> str:
    """Return what a shell has to read.

    Raises:
        UsageError: it is none of those.
    """
    if shell not in SCRIPTS:
        raise UsageError(f"completion takes the name of a shell: {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def offered(line: str) -> list[str]:
    """Return what may stand at the end of a line; in doubt nothing: typing is never disturbed."""
    place = Path(os.path.expanduser(place_in(_words_of(line)) or ".nbcache"))

    def names(kind: str) -> Sequence[str]:
        if kind == "formats":
            from nbcache.notebook.query_result import SHELL_FORMATS

            return SHELL_FORMATS
        if kind == "shells":
            return tuple(SCRIPTS)
        if kind not in ("runs", "processes") or not place.is_dir():
            return []
        from nbcache.engine.record import history
        from nbcache.store.cache import Cache

        with Cache.open(place, create=False) as cache:
            runs = history.runs(cache)
        if kind == "runs":
            return [run.name for run in runs[:RUNS]]
        return [record.name for record in runs[0].processes] if runs else []

    with contextlib.suppress(NbcacheError, OSError):
        return words_for(line, "shell", names)
    return []


def _words_of(line: str) -> list[str]:
    """Return the words that a shell makes of a line: without its quotes."""
    try:
        return shlex.split(line)
    except ValueError:  # a quote is still open
        return line.split()
