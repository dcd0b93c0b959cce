"""Nextflow's words for what has another name, or another way, here: for hints in errors.

Only words that no error of ours would guess: `flatMap` is near enough to `flat_map`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SPLIT = (
    'a process that makes the parts, -> parts: list[path] = "part_*", and then '
    ".flat_map(lambda parts: parts)"
)
_FOLD = ".reduce(lambda so_far, item: ..., start)"

OPERATORS: Mapping[str, str] = {
    "collate": ".buffer(n)",
    "collectFile": "a process that takes .collect() and writes the file",
    "concat": ".mix(...), which keeps the order",
    "count": ".reduce(lambda count, item: count + 1, 0)",
    "cross": '.combine(other, by="FIELD")',
    "distinct": '.unique("FIELD")',
    "dump": ".view()",
    "flatten": ".flat_map(lambda members: members)",
    "groupTuple": '.group_by("FIELD")',
    "into": "%channel NAME = ..., which any number of processes may read",
    "max": _FOLD,
    "merge": "two channels side by side: from a, b",
    "min": _FOLD,
    "out": '.select("NAME"), or an input of that name',
    "multiMap": "one %channel for each, with .map(...)",
    "set": "%channel NAME = ...",
    "splitCsv": "from_table(...)",
    "splitFasta": _SPLIT,
    "splitFastq": _SPLIT,
    "splitJson": ".flat_map(...) with a function that reads the file",
    "splitText": _SPLIT,
    "sum": _FOLD,
    "tap": "%channel NAME = ..., which any number of processes may read",
    "toList": ".collect()",
    "toSortedList": ".collect().map(sorted)",
    "transpose": ".flat_map(...)",
}

DIRECTIVES: Mapping[str, str] = {
    "accelerator": "--gpus N",
    "afterScript": "--after LINE",
    "arch": "--platform",
    "beforeScript": "--before LINE",
    "conda": "--files environment.yml, in the environment that runs the notebook",
    "echo": "--debug",
    "errorStrategy": "--on_error ACTION",
    "executor": "for a whole run: %nbcache run --executor dask:ADDRESS",
    "maxErrors": "for a whole run: %nbcache run --max-errors N",
    "maxRetries": "--retries N",
    "module": '--before "module load ..."',
    "publishDir": "--publish FOLDER",
    "queue": "a matter of the dask cluster: %nbcache run --executor dask:ADDRESS",
    "shell": "--script INTERPRETER",
    "storeDir": "--store FOLDER",
}

_BLOCK = re.compile(r"\s*(input|output|script|shell|exec|when)[ \t]*:[ \t]*([^=:\s][^=]*)?")
BLOCKS_HINT = (
    "what Nextflow says in blocks stands in the header here: "
    "%%process NAME(INPUTS) -> OUTPUTS from CHANNEL, and --bash for a script"
)


def is_block(line: str) -> bool:
    """Whether a line of a body begins one of Nextflow's blocks, such as `input:` or `output: x`."""
    return _BLOCK.fullmatch(line.rstrip()) is not None


def said_here(word: str, words: Mapping[str, str]) -> str | None:
    """Return the hint for a word of Nextflow, however it is cased; None for other words."""
    folded = word.lower().replace("_", "").replace("-", "")
    named = next((each for each in words if each.lower() == folded), None)
    return None if named is None else f"what Nextflow calls {named} is here {words[named]}"
