"""Read a shell script for what it assigns and calls: best effort, and nothing is run.

Used for the fingerprint's tools and for a check of declared outputs. A word that is no command
costs a look at PATH; a command that is missed is not watched, as the docs say of scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbcache.plan.facts import ScriptFacts

_HEREDOC = re.compile(r"<<(-?)\s*(['\"]?)([\w.-]+)\2")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?\+?=")
_WORD = re.compile(r"[\w./@+:-]+$")
_AHEAD = frozenset("if then elif else do while until ! { ( time exec command builtin".split())
_RUNS_NEXT = frozenset(
    "env nice nohup sudo xargs srun mpirun mpiexec timeout stdbuf setsid".split()
)
_DECLARES = frozenset(
    "export declare typeset local readonly read mapfile readarray getopts".split()
)
_SHELL = frozenset(
    ". : [ [[ ]] alias bg bind break builtin caller case cd compgen complete compopt continue "
    "declare dirs disown done echo enable esac eval exit export false fc fg fi for function "
    "getopts hash help history in jobs kill let local logout mapfile popd printf pushd pwd read "
    "readarray readonly return select set shift shopt source suspend test times trap true type "
    "typeset ulimit umask unalias unset wait } )".split()
)


def script_facts(body: str) -> ScriptFacts:
    """Return the variables that a shell script assigns and the commands that it names."""
    variables: dict[str, None] = {}
    commands: dict[str, None] = {}
    opaque = False
    for words in _simple_commands(_without_heredocs(body)):
        opaque |= _read_command(words, variables, commands)
    return ScriptFacts(frozenset(variables), tuple(commands), opaque)


def _without_heredocs(body: str) -> str:
    kept: list[str] = []
    ends: list[tuple[str, bool]] = []
    for line in body.split("\n"):
        if ends:
            word, tabs = ends[0]
            if (line.lstrip("\t") if tabs else line) == word:
                ends.pop(0)
            continue
        if "<<<" not in line and not line.lstrip().startswith("#"):
            ends = [(found.group(3), bool(found.group(1))) for found in _HEREDOC.finditer(line)]
        kept.append(_HEREDOC.sub("", line) if ends else line)
    return "\n".join(kept)


def _simple_commands(text: str, start: int = 0) -> Iterator[list[str]]:
    """Yield the words of each simple command; a quoted piece of a word is a `"`."""
    words: list[str] = []
    word = ""
    at = start
    while at < len(text):
        char = text[at]
        if char == "\\":
            word += "" if text.startswith("\n", at + 1) else text[at + 1 : at + 2]
            at += 2
        elif char == "'":
            end = text.find("'", at + 1)
            at, word = (len(text) if end < 0 else end + 1), word + '"'
        elif char == '"':
            inner, at = _double_quoted(text, at + 1)
            word += '"'
            for each in inner:
                yield from _simple_commands(each)
        elif text.startswith("$((", at) and "))" in text[at:]:
            at, word = text.index("))", at) + 2, word + '"'
        elif text.startswith(("$(", "<(", ">("), at):
            inner_text, at = _substitution(text, at + 2)
            word += '"'
            yield from _simple_commands(inner_text)
        elif text.startswith("${", at):
            end = text.find("}", at)
            at, word = (len(text) if end < 0 else end + 1), word + '"'
        elif char == "`":
            end = text.find("`", at + 1)
            end = len(text) if end < 0 else end
            yield from _simple_commands(text[at + 1 : end])
            at, word = end + 1, word + '"'
        elif char == "#" and not word:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char == "(" and _ASSIGNMENT.fullmatch(word):
            end = text.find(")", at)
            at, word = (len(text) if end < 0 else end + 1), word + '"'
        elif char in " \t":
            words, word, at = [*words, word] if word else words, "", at + 1
        elif char in "\n;|&()":
            if char == "&" and (word.endswith((">", "<")) or text.startswith(">", at + 1)):
                at, word = at + 1, word + char  # 2>&1, &>file
                continue
            yield [*words, word] if word else words
            words, word, at = [], "", at + 1
        else:
            word, at = word + char, at + 1
    yield [*words, word] if word else words


def _double_quoted(text: str, at: int) -> tuple[list[str], int]:
    """Return the command substitutions inside a double-quoted string, and the offset behind it."""
    inner = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 2
        elif text.startswith("$(", at) and not text.startswith("$((", at):
            found, at = _substitution(text, at + 2)
            inner.append(found)
        else:
            at += 1
    return inner, at + 1


def _substitution(text: str, at: int) -> tuple[str, int]:
    """Return the text of a substitution up to its closing parenthesis, and the offset behind it."""
    start, depth = at, 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "'":
            end = text.find("'", at + 1)
            at = len(text) if end < 0 else end
        elif text[at] in "()":
            depth += 1 if text[at] == "(" else -1
            if depth == 0:
                return text[start:at], at + 1
        at += 1
    return text[start:], len(text)


def _without_redirections(words: list[str]) -> Iterator[str]:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif re.match(r"\d*&?[<>]", word):
            skip = re.fullmatch(r"\d*&?(<|>|>>|>\||<<<)", word) is not None
        else:
            yield word


def _read_command(words: list[str], variables: dict[str, None], commands: dict[str, None]) -> bool:
    """Note what one simple command assigns and calls; True where it runs text."""
    words = list(_without_redirections(words))
    at = 0
    while at < len(words):
        word = words[at]
        assigned = _ASSIGNMENT.match(word)
        if assigned:
            variables[assigned.group(1)] = None
        elif word == "for" or word == "select":
            if at + 1 < len(words):
                variables[words[at + 1]] = None
            return False
        elif word == "function":
            return False
        elif word not in _AHEAD:
            break
        at += 1
    if at == len(words):
        return False
    word, rest = words[at], words[at + 1 :]
    if word in ("eval", "source", "."):
        return True
    if word in _DECLARES or (word == "printf" and rest[:1] == ["-v"]):
        for each in rest:
            found = re.match(r"[A-Za-z_]\w*", each)
            if found:
                variables[found.group()] = None
    elif word not in _SHELL and _WORD.match(word) and not word.startswith("-"):
        commands[word] = None
    if word in _RUNS_NEXT:
        following = [each for each in rest if not re.match(r"-|\d+[smhd]?$|\w+=", each)]
        return _read_command(following, variables, commands)
    return False
