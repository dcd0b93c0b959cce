"""The one table of verbs: what `%nbcache VERB` and the shell's `nbcache VERB` both read.

Words only: names, options, help. Parsing and help texts come from the table, so that the notebook,
the shell, completion and docs/commands.md cannot disagree. What a verb does is in `answers` (both
places), `magics` (a notebook) and `cli` (a shell). Only verbs that work stand here.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nbcache.errors import UsageError

Place = Literal["notebook", "shell"]

BOTH: tuple[Place, ...] = ("notebook", "shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of a verb. `value` names what it takes; empty for a switch."""

    name: str
    help: str
    value: str = ""
    short: str = ""
    many: bool = False
    places: tuple[Place, ...] = BOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb. `words` is its usage line after the name, per place where they differ; `least` and
    `most` bound how many words it takes (most None: any number)."""

    name: str
    summary: str
    words: str = ""
    shell_words: str | None = None
    least: int = 0
    most: int | None = 0
    flags: tuple[Flag, ...] = ()
    places: tuple[Place, ...] = BOTH
    completes: Literal["", "processes", "runs", "verbs"] = ""
    raw: bool = False  # the rest of the line is one word, as written
    more: str = ""

    def usage(self, place: Place) -> str:
        """Return the usage line: "%nbcache run [PROCESS...] [--fresh] ..."."""
        head = "%nbcache" if place == "notebook" else "nbcache"
        words = self.words if place == "notebook" or self.shell_words is None else self.shell_words
        flags = " ".join(f"[{_flag_usage(flag)}]" for flag in self.flags_at(place))
        return " ".join(filter(None, (head, self.name, words, flags)))

    def flags_at(self, place: Place) -> list[Flag]:
        """Return the options that the verb takes there."""
        return [flag for flag in self.flags if place in flag.places]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A verb with its words and options: `flags` maps "--name" to its texts ([""] of a switch)."""

    verb: Verb
    words: tuple[str, ...]
    flags: Mapping[str, list[str]] = field(default_factory=dict)

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    def text(self, flag: str) -> str | None:
        """Return the text given with an option, or None where it is not there."""
        texts = self.flags.get(flag)
        return texts[-1] if texts else None

    def assignments(self, flag: str) -> dict[str, str]:
        """Return the NAME=VALUE pairs given with an option."""
        pairs: dict[str, str] = {}
        for text in self.flags.get(flag, ()):
            name, equals, value = text.partition("=")
            if not equals or not name.strip().isidentifier():
                raise UsageError(f"{flag} takes NAME=VALUE, not {text!r}")
            pairs[name.strip()] = value.strip()
        return pairs


_JSON = Flag(name="--json", help="print JSON instead of a table")
_CACHE = Flag(
    name="--cache",
    value="PLACE",
    help="the cache to read or write (default: .nbcache in this folder)",
    places=("shell",),
)
_PARAMETER = Flag(
    name="--parameter",
    short="-p",
    value="NAME=VALUE",
    many=True,
    help="give a parameter another value for this run (of the cell tagged `parameters`)",
)

_TASK_HELP = (
    "TASK is the start of a task's hash (8 hex digits do), or a process with a tag, a position\n"
    "or a field: `fit 3`, `fit sample_a`, `fit depth=8 rep=1`."
)

_TABLE: tuple[Verb, ...] = (
    Verb(
        name="use",
        summary="use this cache from now on",
        words="PLACE",
        least=1,
        most=1,
        places=("notebook",),
        more="PLACE is a folder, made at the first run; without this .nbcache beside the notebook",
    ),
    Verb(
        name="run",
        summary="run the pipeline, or some processes and what they need",
        words="[PROCESS...]",
        shell_words="NOTEBOOK",
        most=None,
        completes="processes",
        flags=(
            _PARAMETER,
            Flag(name="--fresh", help="ignore what is cached; results are kept"),
            Flag(name="--no-cache", help="neither use nor keep results", places=("notebook",)),
            Flag(name="--detach", help="return at once, the run goes on", places=("notebook",)),
            Flag(
                name="--output",
                short="-o",
                value="OUT.ipynb",
                help="write the executed notebook here",
                places=("shell",),
            ),
            _CACHE,
            Flag(name="--verbose", short="-v", help="print what cells print", places=("shell",)),
        ),
        more="Only tasks whose result is not cached run. In a shell the notebook runs from top to\n"
        "bottom in a fresh kernel; where no cell says `%nbcache run`, the pipeline runs last.",
    ),
    Verb(
        name="plan",
        summary="say what a run would do now, without running anything",
        words="[PROCESS...]",
        most=None,
        completes="processes",
        flags=(_JSON,),
        places=("notebook",),
    ),
    Verb(
        name="try",
        summary="run one item of a process in the kernel; nothing is cached, %debug works",
        words="PROCESS [ITEM]",
        least=1,
        most=None,
        completes="processes",
        flags=(
            Flag(name="--item", value="ITEM", help="a position, field=value, or `failed`"),
            Flag(name="--into", help="leave its inputs and outputs as variables"),
        ),
        places=("notebook",),
    ),
    Verb(
        name="status",
        summary="runs that are going now",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        name="cancel",
        summary="end a run in order; what has finished is kept",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(_CACHE,),
    ),
    Verb(
        name="runs",
        summary="the runs of this cache, newest first",
        flags=(Flag(name="--limit", short="-n", value="N", help="at most N (20)"), _JSON, _CACHE),
    ),
    Verb(
        name="show",
        summary="one run: parameters, processes, failures",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(_JSON, _CACHE),
        more="RUN is a run's name, the start of its id, or `last` (the default).",
    ),
    Verb(
        name="log",
        summary="the tasks of a run, one line each",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(
            Flag(name="--fields", short="-f", value="A,B,...", help="columns to show"),
            Flag(name="--filter", short="-F", value="SQL", help="keep tasks where this holds"),
            Flag(name="--process", value="NAME", help="keep tasks of this process"),
            Flag(name="--status", value="STATUS", help="keep tasks that ended so"),
            _JSON,
            _CACHE,
        ),
        more="RUN is a run's name, the start of its id, `last` (the default) or `all`.",
    ),
    Verb(
        name="why",
        summary="why a task ran, or was a hit",
        words="TASK",
        least=1,
        most=None,
        completes="processes",
        flags=(
            Flag(name="--run", value="RUN", help="look in this run (default: last)"),
            Flag(name="--full", help="all components, also equal ones"),
            _JSON,
            _CACHE,
        ),
        more=_TASK_HELP,
    ),
    Verb(
        name="diff",
        summary="what changed between two runs: what ran again and why, what came out different",
        words="[RUN_A [RUN_B]]",
        most=2,
        completes="runs",
        flags=(
            Flag(name="--data", help="compare the results that differ by their data"),
            Flag(name="--process", value="NAME", help="this process only"),
            Flag(name="--limit", value="N", help="with --data: N tasks per process (20)"),
            _JSON,
            _CACHE,
        ),
        more="A run is its name, the start of its id, or `last`. One run alone is compared with\n"
        "the run before it of the same notebook; no run means `last`.",
    ),
    Verb(
        name="sql",
        summary="ask the log: views tasks, attempts, runs, components, inputs, outputs, processes",
        words="SELECT ...",
        least=1,
        most=None,
        raw=True,
        flags=(_JSON, _CACHE),
    ),
    Verb(
        name="verify",
        summary="check the cache: every journal, segment and blob",
        flags=(
            Flag(name="--quick", help="leave the contents of blobs out"),
            _JSON,
            _CACHE,
        ),
    ),
    Verb(
        name="doctor",
        summary="look at this installation and cache for what goes wrong",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        name="help",
        summary="this text, or the help of a verb",
        words="[VERB]",
        most=1,
        completes="verbs",
    ),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _TABLE}

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "tasks or a cell failed",
    2: "wrong usage",
    3: "the cache cannot be read or written",
    130: "interrupted",
}


def parse_line(line: str, place: Place = "notebook") -> Parsed:
    """Return the command in a line such as "run fit --fresh".

    Raises:
        UsageError: names what was not understood and the nearest that would be.
    """
    name, _, rest = line.strip().partition(" ")
    verb = find_verb(name, place)
    if verb.raw:
        return _parse_raw(verb, rest.strip(), place)
    try:
        words = shlex.split(rest, comments=True)
    except ValueError as error:
        raise UsageError(f"%nbcache {line.strip()}: {str(error).lower()}") from None
    return parse_words(verb, words, place)


def parse_argv(argv: Sequence[str]) -> Parsed:
    """Return the command that a shell gave as words."""
    verb = find_verb(argv[0] if argv else "", "shell")
    return parse_words(verb, argv[1:], "shell")


def find_verb(name: str, place: Place) -> Verb:
    """Return the verb of that name, or raise UsageError with the nearest."""
    verb = VERBS.get(name)
    known = [each.name for each in VERBS.values() if place in each.places]
    if verb is None:
        if not name:
            raise UsageError(f"which verb? {', '.join(known)}")
        hint = _nearest(name, known)
        raise UsageError(f"no verb {name!r}{hint or '; there are ' + ', '.join(known)}")
    if place not in verb.places:
        where = "a notebook" if place == "shell" else "a shell"
        raise UsageError(f"`{name}` works in {where}: {verb.usage(verb.places[0])}")
    return verb


def _parse_raw(verb: Verb, rest: str, place: Place) -> Parsed:
    """The rest of the line as one word; options stand before it."""
    flags: dict[str, list[str]] = {}
    names = {flag.name for flag in verb.flags_at(place) if not flag.value}
    while (first := rest.partition(" ")[0]) in names:
        flags[first] = [""]
        rest = rest.partition(" ")[2].lstrip()
    if not rest:
        raise UsageError(f"usage: {verb.usage(place)}")
    return Parsed(verb, (rest,), flags)


def parse_words(verb: Verb, words: Sequence[str], place: Place) -> Parsed:
    """Return the command made of a verb and the words after it."""
    by_name = {name: flag for flag in verb.flags_at(place) for name in (flag.name, flag.short)}
    plain: list[str] = []
    flags: dict[str, list[str]] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            plain += queue
            break
        if not word.startswith("-") or _is_number(word):
            plain.append(word)
            continue
        name, equals, text = word.partition("=")
        flag = by_name.get(name)
        if flag is None:
            raise UsageError(_unknown_flag(verb, name, place))
        if flag.value and not equals:
            if not queue:
                raise UsageError(f"{name} takes {flag.value}: {verb.usage(place)}")
            text = queue.pop(0)
        elif not flag.value and equals:
            raise UsageError(f"{name} takes no value: {verb.usage(place)}")
        if flag.name in flags and not flag.many:
            raise UsageError(f"{flag.name} is given twice")
        flags.setdefault(flag.name, []).append(text)
    most = 1 if place == "shell" and verb.name == "run" else verb.most
    least = 1 if place == "shell" and verb.name == "run" else verb.least
    if len(plain) < least or (most is not None and len(plain) > most):
        raise UsageError(f"usage: {verb.usage(place)}")
    return Parsed(verb, tuple(plain), flags)


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdigit()


def _unknown_flag(verb: Verb, name: str, place: Place) -> str:
    known = [each for flag in verb.flags_at(place) for each in (flag.name, flag.short) if each]
    hint = _nearest(name, known) or (f"; it takes {', '.join(known)}" if known else "")
    return f"`{verb.name}` has no option {name}{hint}"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""


def _flag_usage(flag: Flag) -> str:
    text = f"{flag.short or flag.name} {flag.value}".rstrip()
    return text + ("..." if flag.many else "")


def overview(place: Place) -> str:
    """Return the help of all verbs."""
    head = "%nbcache" if place == "notebook" else "nbcache"
    verbs = [verb for verb in VERBS.values() if place in verb.places]
    lines = [f"{head} VERB [WORDS] [OPTIONS]", ""]
    lines += [f"  {verb.name:<8} {verb.summary}" for verb in verbs]
    more = f"{head} help VERB" if place == "notebook" else f"{head} VERB --help"
    lines += ["", f"`{more}` says more about one."]
    if place == "shell":
        lines += ["", "Exit codes: " + ", ".join(f"{k} {v}" for k, v in EXIT_CODES.items())]
    return "\n".join(lines)


def help_of(verb: Verb, place: Place) -> str:
    """Return the help of one verb."""
    lines = [verb.usage(place), "", verb.summary]
    if verb.more:
        lines += ["", verb.more]
    flags = verb.flags_at(place)
    if flags:
        names = [", ".join(filter(None, (flag.short, flag.name))) for flag in flags]
        heads = [f"{name} {flag.value}".rstrip() for name, flag in zip(names, flags, strict=True)]
        width = max(map(len, heads))
        lines += ["", *(f"  {h:<{width}}  {f.help}" for h, f in zip(heads, flags, strict=True))]
    return "\n".join(lines)


def markdown() -> str:
    """Return docs/commands.md: the whole table, for a notebook and a shell."""
    lines = [
        "# Commands",
        "",
        "`%nbcache VERB` in a notebook and `nbcache VERB` in a shell read one table (this page is",
        "made from it: `python -m nbcache.notebook.verbs > docs/commands.md`).",
        "",
        "| verb | notebook | shell | what it does |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{verb.name}` | {'yes' if 'notebook' in verb.places else ''} "
        f"| {'yes' if 'shell' in verb.places else ''} | {verb.summary} |"
        for verb in VERBS.values()
    ]
    for verb in VERBS.values():
        lines += ["", f"## {verb.name}"]
        for place in verb.places:
            lines += ["", "```text", help_of(verb, place), "```"]
    lines += ["", "## Exit codes of `nbcache`", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
