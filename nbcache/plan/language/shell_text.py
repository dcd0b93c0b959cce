"""Divide the text of a shell script: into here-documents and the rest, commands, words.

Best effort, and nothing is run. What quotes and substitutions hold is read where it is code.
`script` reads what the commands mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:(['\"])([^'\"\n]+)\2|(\\?)([\w.-]+))")
_ANSI_QUOTED = re.compile(r"\$'((?:[^'\\]|\\.)*)'?", re.DOTALL)  # $'it\'s'
_OPENS = {"$((": "))", "$(": ")", "${": "}", '"': '"', "`": "`"}  # and what ends it; in quotes, too
_OPENS_IN_CODE = {"((": "))", "<(": ")", ">(": ")", "(": ")"}
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?\+?=")


class Word(NamedTuple):
    """A word of a command: as written, with `"` for each quoted piece; and as the shell sees it."""

    shape: str
    text: str


def without_heredocs(body: str, documents: dict[str, str]) -> tuple[str, list[str]]:
    """Return a script without its here-documents, and what these run by substitution.

    They are added to `documents`, under the numbers that stand in their places. `<<` begins one in
    code only: in quotes it is text, in arithmetic it shifts.
    """
    if "<<" not in body:
        return body, []
    kept: list[str] = []
    inside: list[str] = []
    begun: list[tuple[str, re.Match[str]]] = []
    # What ends the quotes, ... that the place is in; and whether that is a variable's in quotes.
    within: list[tuple[str, bool]] = []
    at = 0
    while at < len(body):
        end, is_quoted = within[-1] if within else ("", False)
        is_code = end in ("", ")", "`")
        found = _HEREDOC.match(body, at) if is_code else None
        after = at + 1
        if found is not None and not body.startswith("<<<", at):
            number = str(len(documents))
            kept.append(f"<<\0{number} ")
            begun.append((number, found))
            documents[number] = ""
            at = found.end()
            continue
        if body[at] == "\\":
            after = at + 2
        elif end and body.startswith(end, at):
            after = at + len(end)
            within.pop()
        elif end != '"' and (quoted := _ANSI_QUOTED.match(body, at)):
            after = quoted.end()
        elif body[at] == "'" and end != '"' and not (is_quoted and _is_alone(body, at)):
            after = body.find("'", at + 1) + 1 or len(body)
        elif body.startswith("<<<", at):
            after = at + 3
        elif is_code and body[at] == "#" and body[at - 1 : at] in ("", *" \t\n;|&("):
            after = _next(body, "\n", at)
        elif opening := _opening(body, at, is_code):
            is_quoted = opening == "${" and (end == '"' or is_quoted)
            within.append(({**_OPENS, **_OPENS_IN_CODE}[opening], is_quoted))
            after = at + len(opening)
        kept.append(body[at:after])
        at = after
        if is_code and kept[-1] == "\n":
            for number, each in begun:
                lines, at = _heredoc(body, at, each)
                documents[number] = "\n".join(lines)
                if not each[2] and not each[4]:
                    inside += [text for line in lines for text in _substitutions(line)]
            begun = []
    return "".join(kept), inside


def _opening(body: str, at: int, is_code: bool) -> str:
    """Return what opens quotes, a substitution or the like here, "" where nothing does."""
    known = (*_OPENS, *_OPENS_IN_CODE) if is_code else tuple(_OPENS)
    return next(
        (
            each
            for each in known
            if body.startswith(each, at)
            and (not each.endswith("((") or _is_arithmetic(body, at + len(each)))
        ),
        "",
    )


def _is_alone(body: str, at: int) -> bool:
    """Whether an apostrophe in `"${name:-it's}"` is a letter, as it is for sh: bash wants two."""
    return "'" not in body[at + 1 :].partition("}")[0]


def _is_arithmetic(body: str, at: int) -> bool:
    """Whether two parentheses that were opened ahead of an offset close as a pair: else they are
    two, as in `((a; b) | c)`."""
    _, end = _substitution(body, at)
    return body.startswith(")", end)


def _heredoc(body: str, at: int, begin: re.Match[str]) -> tuple[list[str], int]:
    """Return the lines of the here-document at an offset, and its end."""
    word = begin[3] or begin[5]
    lines: list[str] = []
    while at < len(body):
        line = body[at : _next(body, "\n", at)]
        at += len(line) + 1
        if (line.lstrip("\t") if begin[1] else line) == word:
            break
        lines.append(line)
    return lines, at


def simple_commands(text: str) -> Iterator[list[Word]]:
    """Yield the words of each simple command, those inside of substitutions first."""
    words: list[Word] = []
    shape = plain = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            follower = "" if text.startswith("\n", at + 1) else text[at + 1 : at + 2]
            at, shape, plain = at + 2, shape + follower, plain + follower
        elif quoted := _ANSI_QUOTED.match(text, at):
            at, shape, plain = quoted.end(), shape + '"', plain + quoted[1]
        elif char == "'":
            end = _next(text, "'", at + 1)
            at, shape, plain = end + 1, shape + '"', plain + text[at + 1 : end]
        elif char == '"':
            end = _double_quoted(text, at + 1)
            for each in _substitutions(text[at + 1 : end]):
                yield from simple_commands(each)
            at, shape, plain = end + 1, shape + '"', plain + text[at + 1 : end]
        elif text.startswith("$((", at) and "))" in text[at:]:
            end = text.index("))", at)
            for each in _substitutions(text[at + 3 : end]):
                yield from simple_commands(each)
            at, shape, plain = end + 2, shape + '"', plain + '"'
        elif text.startswith(("$(", "<(", ">("), at):
            inner, at = _substitution(text, at + 2)
            shape, plain = shape + '"', plain + '"'
            yield from simple_commands(inner)
        elif text.startswith("${", at):
            end = _next(text, "}", at)
            for each in _substitutions(text[at + 2 : end]):
                yield from simple_commands(each)
            at, shape, plain = end + 1, shape + '"', plain + text[at : end + 1]
        elif char == "`":
            end = _next(text, "`", at + 1)
            yield from simple_commands(text[at + 1 : end])
            at, shape, plain = end + 1, shape + '"', plain + '"'
        elif char == "#" and not shape:
            at = _next(text, "\n", at)
        elif char == "(" and ASSIGNMENT.fullmatch(shape):
            inner, at = _substitution(text, at + 1)
            for each in _substitutions(inner):
                yield from simple_commands(each)
            shape, plain = shape + '"', f"{plain}({inner}"
        elif char in " \t":
            words, at = [*words, Word(shape, plain)] if shape else words, at + 1
            shape = plain = ""
        elif char in "\n;|&()":
            if char == "&" and (shape.endswith((">", "<")) or text.startswith(">", at + 1)):
                at, shape, plain = at + 1, shape + char, plain + char  # 2>&1, &>file
                continue
            yield [*words, Word(shape, plain)] if shape else words
            words, at = [], at + 1
            shape = plain = ""
        else:
            at, shape, plain = at + 1, shape + char, plain + char
    yield [*words, Word(shape, plain)] if shape else words


def _next(text: str, what: str, at: int) -> int:
    """Return where something stands next from an offset on; the end where it does not."""
    found = text.find(what, at)
    return len(text) if found < 0 else found


def _double_quoted(text: str, at: int) -> int:
    """Return the offset of the quote that ends a double-quoted string."""
    while at < len(text) and text[at] != '"':
        if text.startswith("$(", at) and not text.startswith("$((", at):
            _, at = _substitution(text, at + 2)
        else:
            at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _substitutions(text: str) -> list[str]:
    """Return the texts of the command substitutions in a text that is no code itself."""
    inner: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text.startswith("$(", at) and not text.startswith("$((", at):
            found, at = _substitution(text, at + 2)
            inner.append(found)
        elif text[at] == "`" and "`" in text[at + 1 :]:
            end = text.index("`", at + 1)
            inner.append(text[at + 1 : end])
            at = end + 1
        else:
            at += 1
    return inner


def _substitution(text: str, at: int) -> tuple[str, int]:
    """Return the text of a substitution up to its closing parenthesis, and the offset behind it."""
    start, depth = at, 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "'":
            at = _next(text, "'", at + 1)
        elif text[at] == '"':
            at = _double_quoted(text, at + 1)
        elif text[at] == "#" and text[at - 1 : at] in ("", *" \t\n;&|("):  # a remark
            at = _next(text, "\n", at)
        elif text[at] in "()":
            depth += 1 if text[at] == "(" else -1
            if depth == 0:
                return text[start:at], at + 1
        at += 1
    return text[start:], len(text)
