"""The one table of options: `--option value` in a header, `#| option: value` below it.

`OPTIONS` is the only place to extend: an entry says how a text is read, which field of
`Directives` it sets and what help shows. How each form of text is read is
`language.option_values`' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from nbcache.errors import OptionError
from nbcache.model.process import Language, Option
from nbcache.plan.language.quantities import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option: how its text is read and what it sets.

    `default` is what holds without it; `least` the smallest number it may be; `language` where it
    makes sense (None: anywhere); `repeats` that it may be given several times; `template` that
    {name} stands for an input; `bare` is what it means without a value.
    """

    name: str
    form: Form
    help: str
    default: object = None
    dynamic: bool = False
    choices: tuple[str, ...] = ()
    least: int = 0
    language: Language | None = None
    repeats: bool = False
    template: bool = False
    bare: str = ""
    value: str = ""  # how help shows what follows


def _table(*specs: OptionSpec) -> Mapping[str, OptionSpec]:
    return {spec.name: spec for spec in specs}


OPTIONS: Mapping[str, OptionSpec] = _table(
    OptionSpec(
        name="bash", form="flag", default=False, language="script",
        help="the body is a bash script, run with -euo pipefail",
    ),
    OptionSpec(
        name="script", form="text", value="INTERPRETER", language="script",
        help="the body is a script for this interpreter",
    ),
    OptionSpec(
        name="cpus", form="int", default=1, dynamic=True, least=1, value="N",
        help="processors that a task occupies",
    ),
    OptionSpec(
        name="gpus", form="count", default=0, dynamic=True, value="N",
        help="GPUs that a task has for itself",
    ),
    OptionSpec(
        name="memory", form="size", dynamic=True, least=1, value="SIZE",
        help="memory that a task may use, such as 4GB",
    ),
    OptionSpec(
        name="disk", form="size", dynamic=True, least=1, value="SIZE",
        help="room that a task has for itself on the disk, such as 20GB",
    ),
    OptionSpec(
        name="time", form="time", dynamic=True, value="TIME",
        help="how long a task may take, such as 2h; then it is killed",
    ),
    OptionSpec(
        name="max_forks", form="int", least=1, value="N",
        help="how many tasks of the process run at once",
    ),
    OptionSpec(
        name="retries", form="int", default=0, value="N",
        help="how often a failed task is tried again",
    ),
    OptionSpec(
        name="backoff", form="time", value="TIME",
        help="the longest wait before the first retry; it doubles with each further one",
    ),
    OptionSpec(
        name="on_error", form="choice", default="continue", dynamic=True, value="ACTION",
        choices=("continue", "stop", "finish", "ignore", "retry"),
        help="what a failed task means: continue, stop, finish, ignore or retry",
    ),
    OptionSpec(
        name="on_failure_of", form="names", default=(), value="PROCESS[,PROCESS]",
        help="run for each task of these that failed for good, to look into it",
    ),
    OptionSpec(
        name="tag", form="text", template=True, value="TEMPLATE",
        help="how a task is called in lists, such as {sample}",
    ),
    OptionSpec(
        name="when", form="expression", dynamic=True, value="EXPRESSION",
        help="a task runs only where this is true",
    ),
    OptionSpec(
        name="cache", form="modes", default="deep", value="MODE[,INPUT=MODE]",
        choices=("off", "deep", "standard", "lenient"),
        help="files count by content (deep), by path, size and time (standard), by path and size "
        "(lenient), also of one input: genome=lenient; off keeps nothing",
    ),
    OptionSpec(
        name="env", form="names", default=(), value="NAME[,NAME]",
        help="environment variables that the body reads; they count by value",
    ),
    OptionSpec(
        name="secret", form="names", default=(), value="NAME[,NAME]",
        help="environment variables that the body reads and that are never kept",
    ),
    OptionSpec(
        name="seed", form="int", value="N",
        help="the random state that all tasks start with; without it each has its own",
    ),
    OptionSpec(
        name="ignore", form="names", default=(), language="python", value="NAME[,NAME]",
        help="captured names that do not count",
    ),
    OptionSpec(
        name="container", form="text", language="script", value="IMAGE",
        help="the image in which a script runs; it counts by its digest",
    ),
    OptionSpec(
        name="tools", form="choice", default="content", language="script",
        choices=("content", "version", "off"), value="MODE",
        help="programs that a script names count by content, by their package's version, or not",
    ),
    OptionSpec(
        name="files", form="words", default=(), value="FILE[,FILE]",
        help="lock and environment files; they count by content",
    ),
    OptionSpec(
        name="platform", form="flag", default=False,
        help="operating system and machine architecture count",
    ),
    # Where results go and files come from.
    OptionSpec(
        name="publish", form="rule", default=(), repeats=True, value="FOLDER[,KEY=VALUE]",
        help="show results in a folder: results/{sample}, mode=symlink, as={file.stem}.txt",
    ),
    OptionSpec(
        name="store", form="text", template=True, value="FOLDER",
        help="take results that stand in this folder instead of running, and put new ones there",
    ),
    OptionSpec(
        name="scratch", form="text", bare="true", value="[FOLDER]",
        help="run in the machine's temporary folder, or in this one ($SCRATCH), not in the cache's",
    ),
    OptionSpec(
        name="stage_as", form="staging", default=(), repeats=True,
        value="[INPUT=]PATTERN",
        help="under which names files are staged: reads.fq, reads=part?.fq, dir??/*",
    ),
    # Around a body, and what is told of it.
    OptionSpec(
        name="before", form="text", default=(), repeats=True, language="script",
        value="LINE", help="a line of bash to run before the script, such as module load salmon",
    ),
    OptionSpec(
        name="after", form="text", default=(), repeats=True, language="script",
        value="LINE", help="a line of bash to run after the script, also if it failed",
    ),
    OptionSpec(
        name="debug", form="flag", default=False,
        help="what its tasks print is shown while they run",
    ),
    OptionSpec(
        name="label", form="names", default=(), value="NAME[,NAME]",
        help="names to call several processes by: nbcache run --label NAME",
    ),
)  # fmt: skip


def refuse(option: Option, lines: Sequence[str], message: str, hint: str | None = None) -> NoReturn:
    """Raise an OptionError that shows the option where it stands in the lines of its cell."""
    source = lines[option.line - 1].rstrip("\r") if 0 < option.line <= len(lines) else None
    raise OptionError(message, line=option.line, column=option.column, source=source, hint=hint)
