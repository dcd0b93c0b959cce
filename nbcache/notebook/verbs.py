"""Parse `%nbcache VERB` and the shell's `nbcache VERB`, and make their help, from one table.

The table is `verb_table`. Reads words and makes texts; does nothing.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nbcache.errors import UsageError
from nbcache.notebook.verb import Place, Verb
from nbcache.notebook.verb_table import VERBS


@dataclass(frozen=True, slots=True)
class Parsed:
    """A verb with its words and options: `flags` maps "--name" to its texts ([""] of a switch)."""

    verb: Verb
    words: tuple[str, ...]
    flags: Mapping[str, list[str]] = field(default_factory=dict)

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def word(self) -> str | None:
        """The first word; None where there is none."""
        return self.words[0] if self.words else None

    def text(self, flag: str) -> str | None:
        """Return the text given with an option, or None where it is not there."""
        texts = self.flags.get(flag)
        return texts[-1] if texts else None

    def number(self, flag: str, default: int) -> int:
        """Return the number given with an option, 1 or more."""
        text = self.text(flag) or str(default)
        if not text.isdecimal() or not int(text):
            raise UsageError(f"{flag} takes a number from 1 on, not {text!r}")
        return int(text)

    def parameters(self) -> dict[str, str]:
        """Return the NAME=VALUE pairs given with `--parameter`."""
        pairs: dict[str, str] = {}
        for text in self.flags.get("--parameter", ()):
            name, equals, value = text.partition("=")
            if not equals or not name.strip().isidentifier():
                raise UsageError(f"--parameter takes NAME=VALUE, not {text!r}")
            pairs[name.strip()] = value = value.strip()
            if _TORN.fullmatch(value) and _CLOSES[value[0]] not in value:
                quoted = shlex.quote(f"{name.strip()}={value!r}")
                raise UsageError(
                    f"-p {text}: what begins with {value[0]} does not end. What holds spaces has "
                    f"quotes, -p 'NAME=[1, 2]'; a text that begins so has its own: -p {quoted}"
                )
        return pairs


_CLOSES = {"[": "]", "{": "}", "(": ")"}
_TORN = re.compile(r"""[\[{(](.*,|\s*[-+]?\d[\d.]*\s*(,.*)?|\s*['"].*)|\{.*:""", re.DOTALL)

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "tasks or a cell failed",
    2: "wrong usage",
    3: "the cache cannot be read or written",
    130: "interrupted",
}


def parse_line(line: str) -> Parsed:
    """Return the command in a notebook's line such as "run fit --fresh".

    Raises:
        UsageError: names what was not understood and the nearest that would be.
    """
    name, _, rest = line.strip().partition(" ")
    verb = find_verb(name, "notebook")
    if verb.raw:
        return _parse_raw(verb, rest.strip())
    try:
        words = shlex.split(rest, comments=True)
    except ValueError as error:
        raise UsageError(f"%nbcache {line.strip()}: {str(error).lower()}") from None
    return parse_words(verb, words, "notebook")


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


def _parse_raw(verb: Verb, rest: str) -> Parsed:
    """The rest of the line as one word; options stand before it."""
    by_name = {name: flag for flag in verb.flags_at("notebook") for name in (flag.name, flag.short)}
    options: list[str] = []
    while rest.startswith("--") and (word := rest.split(maxsplit=1)[0])[2:]:
        flag = by_name.get(word.partition("=")[0])
        count = 2 if flag is not None and flag.value and "=" not in word else 1
        *taken, rest = [*rest.split(maxsplit=count), ""][: count + 1]
        options += taken
    rest = _unquoted(rest)
    if not rest:
        raise UsageError(f"usage: {verb.usage('notebook')}")
    parsed = parse_words(verb, [*options, "--", rest], "notebook")
    return Parsed(verb, (rest,), parsed.flags)


def _unquoted(text: str) -> str:
    """Return the one word that a shell would see, quoted as a whole; any other text as it is. A
    quote that is doubled inside stands for itself, as in SQL: 'SELECT ''a'' AS x'."""
    text = text.strip()
    if not text.startswith(("'", '"')):
        return text
    twice = text[0] * 2
    inner = text[1:-1].split(twice)
    if text[-1] == text[0] and len(inner) > 1 and not any(text[0] in part for part in inner):
        return text[0].join(inner)
    try:
        words = shlex.split(text)
    except ValueError:
        return text  # the database says what is wrong with it
    return words[0] if len(words) == 1 else text  # no query is one quoted name


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
    for flag in verb.flags_at(place):
        if flag.name in flags and flag.beside and flag.beside not in flags:
            raise UsageError(f"{flag.name} goes with {flag.beside}: {verb.usage(place)}")
    least, most = verb.takes(place)
    if len(plain) < least or (most is not None and len(plain) > most):
        raise UsageError(f"usage: {verb.usage(place)}")
    return Parsed(verb, tuple(plain), flags)


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdigit()


def _unknown_flag(verb: Verb, name: str, place: Place) -> str:
    known = [each for flag in verb.flags_at(place) for each in (flag.name, flag.short) if each]
    long = [each for each in known if each.startswith("--")]
    hint = _nearest(name, long if name.startswith("--") else known) or (
        f"; it takes {', '.join(known)}" if known else ""
    )
    return f"`{verb.name}` has no option {name}{hint}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at the nearest; dashes, which all options have, make none near."""
    by_word = {each.lstrip("-"): each for each in known}
    close = difflib.get_close_matches(name.lstrip("-"), by_word, n=1)
    return f'; did you mean "{by_word[close[0]]}"?' if close else ""


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
        lines += ["", *(f"  {h:<{width}}  {f.told}" for h, f in zip(heads, flags, strict=True))]
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
