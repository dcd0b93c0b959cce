"""A declared process: its header, its body and its directives, as plain records.

Made by `language.header` from a cell or by `declared.process` from a function; read by everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class PortType:
    """The declared type of an input or output.

    `base` is "path", or the name of a Python type as written ("str", "pd.DataFrame"); `depth`
    counts the `list[...]` around it; `optional` is a trailing `| None`; `arity` (min, max or
    None for no limit) bounds the members of a list.
    """

    base: str
    depth: int = 0
    optional: bool = False
    arity: tuple[int, int | None] | None = None

    @property
    def is_path(self) -> bool:
        return self.base == "path"

    def __str__(self) -> str:
        text = self.base
        for level in range(self.depth):
            counts = self._counts() if level == self.depth - 1 else ""
            text = f"list[{text}{counts}]"
        return text + (" | None" if self.optional else "")

    def _counts(self) -> str:
        if self.arity is None:
            return ""
        least, most = self.arity
        if least == most:
            return f", {least}"
        return f", {least}, {'...' if most is None else most}"

    def misfit(self, count: int) -> str | None:
        """Return how a list of `count` members does not fit, None where it fits."""
        if self.arity is None:
            return None
        least, most = self.arity
        if least <= count and (most is None or count <= most):
            return None
        wanted = f"{least} or more" if most is None else f"{least} to {most}"
        return f"{f'exactly {least}' if least == most else wanted} declared, but there are {count}"


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    type: PortType | None = None
    default: str | None = None  # a Python expression
    rest: bool = False  # `*NAME`: what a tuple has left
    column: int = 0  # in the cell's line `line`, for carets
    line: int = 1


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    type: PortType | None = None
    pattern: str | None = None  # a glob with {name}, {name.stem}
    column: int = 0
    line: int = 1
    command: str | None = None  # whose answer it is, run by bash after the script


@dataclass(frozen=True, slots=True)
class Option:
    """A directive as written: `--key text` in the header or `#| key: text`; line is 1-based."""

    key: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A directive that is Python over `task` and the inputs, evaluated per task and attempt."""

    text: str


PublishMode = Literal["copy", "symlink", "rellink"]
"""copy: a clone where the file system has them, else a copy; the others lead into the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRule:
    """Where results of a process are shown to people: never part of a hash.

    `folder` and `name` are templates over the inputs (`name` knows `{file}` too, None keeps the
    result's own name); `only` names outputs (none: all), `pattern` is a glob over their names.
    """

    folder: str
    only: tuple[str, ...] = ()
    pattern: str | None = None
    name: str | None = None
    mode: PublishMode = "copy"
    enabled: Dynamic | None = None
    overwrite: bool = False  # also files that nbcache did not put there


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What a process asks of the engine. Sizes in bytes, times in seconds.

    Of these only what can change a result enters the hash: `env`, `seed`, `container`, `tools`,
    `files`, `platform`, `stage_as`, `before` and `after`.
    """

    cpus: int | Dynamic = 1
    gpus: int | Dynamic = 0
    memory: int | Dynamic | None = None
    disk: int | Dynamic | None = None
    time: float | Dynamic | None = None
    max_forks: int | None = None
    retries: int = 0
    backoff: float | None = None  # seconds
    on_error: str | Dynamic = "continue"
    on_failure_of: tuple[str, ...] = ()  # names of processes whose failures it looks into
    tag: str | None = None  # a template
    when: Dynamic | None = None
    cache: str = "deep"  # off, deep, standard, lenient
    cache_of: tuple[tuple[str, str], ...] = ()  # input, mode: where it differs from the process's
    env: tuple[str, ...] = ()  # names of environment variables
    secret: tuple[str, ...] = ()
    seed: int | None = None
    ignore: tuple[str, ...] = ()
    platform: bool = False
    container: str | None = None  # an image, or a file of one
    tools: str = "content"  # content, version, off: how the programs of a script count
    files: tuple[str, ...] = ()  # lock and environment files beside the notebook
    publish: tuple[PublishRule, ...] = ()
    store: str | None = None  # a template
    scratch: str | None = None  # "true", or a folder that may name environment variables
    stage_as: tuple[tuple[str, str], ...] = ()  # input ("" is the only path), pattern
    before: tuple[str, ...] = ()  # lines of bash
    after: tuple[str, ...] = ()
    debug: bool = False
    label: tuple[str, ...] = ()


Language = Literal["python", "script"]


@dataclass(frozen=True, slots=True)
class Script:
    """One of several scripts under a header: the first whose `when` holds runs (None: else)."""

    when: Dynamic | None
    body: str
    body_line: int  # 1-based, in the cell
    interpreter: tuple[str, ...] = ()
    line: int = 1  # of its `#| if:`

    def __str__(self) -> str:
        return "else" if self.when is None else self.when.text


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDecl:
    """A process as declared.

    `inputs` and `sources` are None where the header leaves them out (then they are inferred when
    the pipeline is wired); `outputs` is None without `->`. `body` is the text below the header
    without option lines; its first line is line `body_line` (1-based) of the cell `cell`.
    """

    name: str
    inputs: tuple[Input, ...] | None
    outputs: tuple[Output, ...] | None
    sources: tuple[str, ...] | None  # Python expressions
    directives: Directives
    language: Language
    interpreter: tuple[str, ...] = ()  # argv before the script's path; () for Python
    body: str
    body_line: int = 1
    cell: str = ""  # how people find it: "cell [5]", "pipeline.py"
    filename: str = "<process>"  # what tracebacks name
    source: str = ""  # the whole cell as written
    source_line: int = 1  # where `source` begins in its file; lines are counted from there
    inferred: bool = False  # `outputs` were found in the body, not declared
    stub: str | None = None  # what a stub run does in place of the body; first line `stub_line`
    stub_line: int = 1
    is_stub: bool = False  # `body` is the stub
    scripts: tuple[Script, ...] = ()  # of which a task runs one; `body` is the text of all
    function: Callable[..., object] | None = field(default=None, compare=False)  # the twin's
    stub_decl: ProcessDecl | None = field(default=None, compare=False)  # of the twin's stub


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDecl:
    """A channel as declared: one Python expression, or a block that ends in one.

    `line` and `column` (1-based, 0-based) say where expression or block begin in the cell.
    """

    name: str
    expression: str | None
    block: str | None
    line: int = 1
    column: int = 0
    source: str = ""  # the whole cell (or line) as written
    filename: str = "<channel>"


@dataclass(frozen=True, slots=True)
class FieldPick:
    """Where one input takes its value: field `field` of source `source` (0-based).

    `field` None takes the whole item; `member` k (with `field` None) takes element k of an item
    whose shape is known only when it comes; `rest_from` k takes the tuple of what is left.
    """

    source: int
    field: int | None
    member: int | None = None
    rest_from: int | None = None
    of: int | None = None  # how many members the whole item must have


@dataclass(frozen=True, slots=True)
class DefaultPick:
    """An input that no source fills and that has a default expression."""

    text: str


Filling = Mapping[str, FieldPick | DefaultPick]
