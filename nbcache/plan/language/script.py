"""Read a shell script for what it assigns and calls: best effort, and nothing is run.

Used for the fingerprint's tools and for a check of declared outputs. Follows pipes, groups,
functions, substitutions, variables and arrays with literal values, and texts that are run (`eval`,
`trap`, `bash -c`). A word that is no command costs a look at PATH; a command that is missed is not
watched, as the docs say of scripts.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache

from nbcache.plan.language.facts import ScriptFacts
from nbcache.plan.language.shell_text import ASSIGNMENT, Word, simple_commands, without_heredocs

_WORD = re.compile(r"[\w./@+:-]+$")
_AHEAD = frozenset(
    "if then elif else do while until ! { ( time exec command builtin coproc".split()
)
_FUNCTION = re.compile(r"\bfunction\s+([\w:.-]+)|([\w:.-]+)\s*\(\s*\)")
_TAKE_OPTIONS = frozenset("time exec command builtin".split())  # of those
# Commands that run the first word behind their options, or that or the second, or behind `run`.
_RUNS_NEXT = frozenset(
    "env nice nohup sudo doas xargs srun mpirun mpiexec timeout stdbuf setsid parallel time ionice "
    "chrt numactl prlimit strace ltrace valgrind unbuffer watch script xvfb-run".split()
)
_RUNS_SECOND = frozenset("flock taskset perf chroot".split())
_RUNS_TEXTS = frozenset("parallel watch flock".split())  # those that give a word to a shell
_RUNS_IN_PLACES = frozenset("conda mamba micromamba pixi poetry uv".split())
_SPLITS = re.compile(r'(-\w*S|--split-string=)"')  # env -S"tool x"
_NAMES_COMMANDS = frozenset("which type hash".split())
_RUNS_TEXT = frozenset("eval trap".split())
_SHELLS = frozenset("bash sh dash zsh ksh".split())
_EXECUTES = frozenset("-exec -execdir -ok -okdir".split())
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:\[[^\]]*\])?(?::?[-=+]([^}]*))?\})$")
_PASTED = re.compile(r"\$\{?(\w+)\}?")  # a variable in a text for another language
_HELD = re.compile(r"\$(?:(\w+)|\{(?!PATH\b)(\w+)(?::?[-=+]([^}]*))?\})")
_WHOLE_PATH = re.compile(r"\$PATH\b|\$\{PATH(?::?[-+=][^}]*\}*)?\}")
_MOST_VALUES = 50  # of a name, or a PATH, that a script writes
_NAMED = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(\[)[^]]*\])?\})")
_LITERAL = re.compile(r"[\w./@+:$\[\]{}*\"-]+")  # but for variables and substitutions
_SUBSTITUTION = re.compile(r"\$\([^)]*\)|`[^`]*`")
_DECLARES = frozenset(
    "export declare typeset local readonly read mapfile readarray getopts".split()
)
_PYTHON = re.compile(r"(python[\d.]*|pypy3?)\Z")
_INTERPRETER = re.compile(
    r"(source|\.|bash|sh|dash|zsh|ksh|python[\d.]*|pypy3?|Rscript|perl|ruby|node|julia|lua|php"
    r"|gnuplot|octave)\Z"
)
# Options of interpreters: those behind which a text or a module stands instead of a file, and those
# that take the next word.
_OPTIONS = (
    (re.compile(r"(bash|sh|dash|zsh|ksh)\Z"), r"-\w*c", r"[-+]\w*[oO]|--rcfile|--init-file"),
    (_PYTHON, r"-\w*[cm]", r"-\w*[WX]"),
    (re.compile(r"(perl|ruby)\Z"), r"-[a-z0]*[eE]", r"-[IrC]"),
    (re.compile(r"node\Z"), r"-[ep]+|--eval|--print", r"-r|--require|--import"),
    (re.compile(r"gnuplot\Z"), r"(?!)", r"-e"),
    (re.compile(r""), r"-[er]|--eval", r"-[lL]"),
)
_REDIRECTION = re.compile(r"\d*&?(<<<|<<\0|>>|>\||[<>])")
_FROM_FILE = re.compile(r"(-\w*f|--file|--from-file)(?:=(.*))?\Z")  # an option of these:
_TAKES_FROM_FILE = frozenset("awk gawk mawk nawk sed gsed jq".split())
# A folder that the run finds out, and what lies in it: "$here/lib.sh", $(dirname "$0")/lib.sh
_IN_A_FOLDER = re.compile(r"(?:\$\w+|\$\{[^/]*(?:/\*)?\}|\$\(.*\)|`.*`|\")/([\w./@+-]+)")
SOMEWHERE = "$/"
"""How a script's name begins if it lies in a folder that only the run finds out."""
_SHELL = frozenset(
    ". : [ [[ ]] alias bg bind break builtin caller case cd compgen complete compopt continue "
    "declare dirs disown done echo enable esac eval exit export false fc fg fi for function "
    "getopts hash help history in jobs kill let local logout mapfile popd printf pushd pwd read "
    "readarray readonly return select set shift shopt source suspend test times trap true type "
    "typeset ulimit umask unalias unset wait } )".split()
)
SHELL_WORDS = _SHELL | _AHEAD
"""What the shell does itself, of what may stand where a command does."""


@lru_cache(maxsize=64)  # each look at a process reads the programs that it calls
def script_facts(body: str) -> ScriptFacts:
    """Return the variables that a shell script assigns and the commands that it names."""
    reading = _Reading()
    reading.script(body)
    return ScriptFacts(
        frozenset(reading.variables),
        tuple(reading.commands),
        reading.opaque,
        tuple(reading.scripts),
        frozenset(reading.written),
        tuple(reading.search),
        tuple(reading.programs),
    )


class _Reading:
    """One reading of a script and of the texts that it runs."""

    def __init__(self) -> None:
        self.variables: dict[str, None] = {}
        self.commands: dict[str, None] = {}
        self.scripts: dict[str, None] = {}
        self.written: set[str] = set()
        self.search: dict[str, None] = {}
        self.programs: dict[str, None] = {}
        self.opaque = False
        self._values: dict[str, list[str]] = {}  # variable -> first words that it may hold
        self._functions: dict[str, bool] = {}  # -> whether it runs its words: run() { "$@"; }
        self._runs_arguments = False
        self._documents: dict[str, str] = {}  # the here-documents, by what stands in their places
        self._said = ""  # what the script gave out last: to a shell, it may be
        self._depth = 0

    def script(self, text: str) -> None:
        """Read a whole script, or a text that is run as one."""
        if self._depth > 5:
            return
        self._depth += 1
        kept, inside = without_heredocs(text, self._documents)
        for name, body in _functions(kept):
            inner = _Reading()
            inner._depth, inner._functions = self._depth, {**self._functions}
            inner.script(body)
            self._functions[name] = inner._runs_arguments
        for each in (kept, *inside):
            for words in simple_commands(each):
                self.command(words)
        self._depth -= 1

    def command(self, words: list[Word]) -> None:
        """Note what one simple command assigns and calls."""
        words = self._without_redirections(words)
        at = 0
        while at < len(words):
            shape = words[at].shape
            if ASSIGNMENT.match(shape):
                self._assign(words[at])
            elif shape in ("for", "select"):
                if at + 1 < len(words):
                    name = words[at + 1].shape
                    self.variables[name] = None
                    self._values.setdefault(name, []).extend(w.text for w in words[at + 3 :])
                return
            elif shape == "function":
                at += 1  # its name; what follows is its body
            elif shape == "coproc" and [w.shape for w in words[at + 2 : at + 3]] == ["{"]:
                at += 1  # its name
            elif shape not in _AHEAD:
                break
            at += 1
            while shape in _TAKE_OPTIONS and at < len(words) and words[at].shape[:1] == "-":
                at += 2 if words[at].shape == "-a" else 1
        if at < len(words):
            self._call(words[at], words[at + 1 :])

    def _without_redirections(self, words: list[Word]) -> list[Word]:
        """Return the other words of a command; note what it is given and what it writes."""
        kept: list[Word] = []
        following = iter(words)
        for word in following:
            found = _REDIRECTION.match(word.shape)
            if found is None:
                kept.append(word)
                continue
            target = word.text[found.end() :] or getattr(next(following, None), "text", "")
            if found[1] == "<<\0":
                self._said = self._documents.get(target, "")
            elif found[1] == "<<<":
                self._said = target
            elif found[1] in (">", ">|"):
                made = posixpath.normpath(target)
                self.written |= {made}.difference(map(posixpath.normpath, self.scripts))
        return kept

    def _assign(self, word: Word) -> None:
        name, _, value = word.text.partition("=")
        name = re.match(r"\w+", name).group()  # type: ignore[union-attr]
        self.variables[name] = None
        if name == "PATH":
            self._search_in(value)
        words = value.lstrip("(").split()
        self._values.setdefault(name, []).extend(words[:1])
        if value.startswith("("):
            members = self._values.setdefault(name + "[]", [])
            members += [each.strip("()\"'") for each in words]

    def _search_in(self, value: str) -> None:
        """Note the folders of a value of PATH, also with what its variables may hold, and whether
        it may hold a part of the PATH before it."""
        waiting = [value]
        for each in waiting:  # grows meanwhile
            plain = _SUBSTITUTION.sub('"', each)
            folders = _WHOLE_PATH.sub(":", plain)
            if "PATH" in folders or ('"' in folders and folders == plain):
                self.search["$PATH"] = None
            self.search |= dict.fromkeys(filter(None, folders.split(":")))
            for found in _HELD.finditer(plain) if len(waiting) < _MOST_VALUES else ():
                name = found[1] or found[2]
                held = [] if found[3] is None else ["$" + name, found[3]]
                held += self._values.get(name, []) if name != "PATH" else []
                waiting += [plain[: found.start()] + one + plain[found.end() :] for one in held]

    def _call(self, word: Word, rest: list[Word]) -> None:
        name = word.text
        if word.shape in _DECLARES or (name == "printf" and [w.text for w in rest[:1]] == ["-v"]):
            for each in rest:
                if ASSIGNMENT.match(each.shape):
                    self._assign(each)
                elif found := re.match(r"[A-Za-z_]\w*", each.shape):
                    self.variables[found.group()] = None
            return
        self.opaque |= name in ("eval", "source", ".")
        self._runs_arguments |= name in ("$@", "$*")
        for command in self._names(name):
            if command not in _SHELL and _WORD.match(command) and not command.startswith("-"):
                self.commands[command] = None
            for script in _scripts_of(command, [w.text for w in rest]):
                for known in self._expanded(script):
                    if not known.startswith("/"):
                        self.scripts |= dict.fromkeys(_plain(known))
                    elif self.written.isdisjoint(map(posixpath.normpath, (script, known))):
                        self.commands[known] = None  # it counts where it lies, as a program does
        self._run_by(name, rest)

    def _names(self, word: str) -> list[str]:
        """Return the commands that a word may stand for: itself, or what its variable holds."""
        names = [word]
        if found := _VARIABLE.match(word):
            names = [*self._values.get(found[1] or found[2], []), *(found[3] or "").split()[:1]]
        return [known for each in names for known in self._expanded(each)]

    def _expanded(self, name: str) -> list[str]:
        """Return what a name may be with what its variables may hold, where that is known."""
        done: list[str] = []
        waiting = [name]
        for each in waiting:  # grows meanwhile
            for found in _NAMED.finditer(each) if len(waiting) < _MOST_VALUES else ():
                values = self._values.get((found[1] or found[2]) + ("[]" if found[3] else ""), [])
                known = [one for one in values if _LITERAL.fullmatch(one)]
                waiting += [each[: found.start()] + one + each[found.end() :] for one in known]
                if known:
                    break
            else:
                done.append(each)
        return done

    def _run_by(self, name: str, rest: list[Word]) -> None:
        """Follow commands that run what their arguments name."""
        program = name.rpartition("/")[2]
        if program in _RUNS_NEXT or self._functions.get(name):
            self._run_next(rest, texts=program in _RUNS_TEXTS)
        elif program in _RUNS_SECOND:
            self._run_next(rest, ahead=1, texts=program in _RUNS_TEXTS)
        elif program in _RUNS_IN_PLACES and [w.text for w in rest[:1]] == ["run"]:
            self._run_next(rest[1:])
        elif name in ("echo", "printf"):
            self._said = " ".join(w.text for w in rest)
        elif name in _NAMES_COMMANDS:
            for each in rest:
                self.command([each])
        elif name == "alias":
            for each in rest:
                self.script(each.text.partition("=")[2])
        elif name in _RUNS_TEXT and rest:
            self.script(" ".join(w.text for w in rest) if name == "eval" else rest[0].text)
        elif program in _SHELLS:
            given = _behind_options(program, [w.text for w in rest])
            if given[1:] and given[0].startswith("-"):
                self.script(given[1])
            elif not given or {"-s", "-"}.intersection(w.text for w in rest):
                self.script(self._said)
        elif _PYTHON.match(program):
            words = [w.text for w in rest]
            given = _behind_options(program, words)
            is_text = given[1:] and re.fullmatch(r"-\w*c", given[0])
            text = given[1] if is_text else self._said if not given or "-" in words else ""
            self.programs[_PASTED.sub(r"\1", text)] = None
        for at, each in enumerate(rest[:-1]):
            if each.text in _EXECUTES and name == "find":
                self.command(rest[at + 1 :])

    def _run_next(self, rest: list[Word], ahead: int = 0, *, texts: bool = False) -> None:
        """Follow the first word that may be a command: no flag, number, assignment.

        One behind a flag may be that one's value (`xargs -I X tool`), so there the next counts too,
        as it does behind those that may stand `ahead`.
        """
        for at, word in enumerate(rest):
            if given := _SPLITS.match(word.shape):
                self.script(word.text[given.end() - 1 :])
                return
            if word.text.startswith("PATH="):
                self._search_in(word.text[5:])
            if re.match(r"-|[\d.]+[smhd]?$|\w+=", word.text):
                continue
            if texts and " " in word.text:  # parallel "tool {} | sort"
                self.script(word.text)
                return
            self.command(rest[at:])
            if not at or not re.fullmatch(r"-\w|--\w[\w-]*", rest[at - 1].shape):
                if not ahead:
                    return
                ahead -= 1


def _functions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the functions of a script with their bodies: up to the brace that ends the line, or to
    the one that stands below their names."""
    for found in _FUNCTION.finditer(text):
        line, _, _ = text[found.end() :].partition("\n")
        if not 0 < line.count("{") <= line.count("}"):
            before = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
            indent = before[: len(before) - len(before.lstrip())]
            end = re.compile(f"^{indent}[)}}]", re.M).search(text, found.end())
            line = text[found.end() : end.start() if end else None]
        yield found[1] or found[2], line


def _scripts_of(word: str, rest: list[str]) -> list[str]:
    """Return the words of a command that may be files of scripts: itself, or arguments."""
    program = word.rpartition("/")[2]
    found = [word] if "/" in word else []
    if program in _TAKES_FROM_FILE:
        found += _given_from_file(rest)
    elif _INTERPRETER.match(program):
        given = _behind_options(program, rest)
        if not given[:1] or not given[0].startswith("-"):
            return found + given[:1]
        is_module = _PYTHON.match(program) and given[0].endswith("m") and len(given) > 1
        return module_files(given[1], main=True) if is_module else []
    return found


def _behind_options(program: str, rest: list[str]) -> list[str]:
    """Return the words of an interpreter's call from its script on, or from the option behind which
    a text or a module stands; what follows a script is the script's own."""
    _, gives_text, takes_word = next(each for each in _OPTIONS if each[0].match(program))
    at = 0
    while at < len(rest) and rest[at].startswith(("-", "+")):
        if re.fullmatch(gives_text, rest[at]):
            break
        at += 2 if re.fullmatch(takes_word, rest[at]) else 1
    return rest[at:]


def _given_from_file(rest: list[str]) -> list[str]:
    """Return the files of `-f file`, `--file=file`."""
    found: list[str] = []
    for at, each in enumerate(rest):
        if option := _FROM_FILE.match(each):
            found += [option[2]] if option[2] else rest[at + 1 : at + 2]
    return found


def _plain(name: str) -> list[str]:
    """Return a name as one below the notebook's folder, if it may be one."""
    if behind := _IN_A_FOLDER.fullmatch(name):
        return [SOMEWHERE + behind[1]]
    return [name] if _WORD.match(name) else []


def module_files(module: str, *, main: bool = False) -> list[str]:
    """Return the files that importing a module of Python may read, below a folder of its path.

    main: it is run, so a package's `__main__` is read, too.
    """
    found: list[str] = []
    steps = module.split(".")
    for count in range(1, len(steps) + 1):
        path = "/".join(steps[:count])
        found += [f"{path}.py", f"{path}/__init__.py"]
    return [*found, f"{'/'.join(steps)}/__main__.py"] if main else found
