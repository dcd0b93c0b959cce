"""Under which names a task sees its input files: patterns as in Nextflow's `stageAs`.

    stage_as = [ INPUT "=" ] PATTERN            a pattern is a path in the work directory

`*` alone keeps a file's own name; elsewhere `*` stands for the file's number (for nothing, where
there is one file only), `??` for the number in as many digits. Of several files, `dir??/*` puts
each into a folder of its own. `{sample}` is an input's value, and never a wildcard. No I/O.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from nbcache.errors import OptionError
from nbcache.plan.language.quantities import render_template, template_fields

_NAMED = re.compile(r"\s*([^\W\d]\w*)\s*=\s*(.+)", re.DOTALL)
_WILDCARDS = str.maketrans({"*": "\ue000", "?": "\ue001"})
_BACK = str.maketrans({"\ue000": "*", "\ue001": "?"})


def parse_stage_as(text: str) -> tuple[str, str]:
    """Return (input, pattern) of one rule; the input is "" where the text names none.

    Raises:
        ValueError: the pattern leads out of the work directory or is malformed.
    """
    found = _NAMED.fullmatch(text)
    name, pattern = (found.group(1), found.group(2).strip()) if found else ("", text.strip())
    template_fields(pattern)
    _check_inside(pattern)
    return name, pattern


def _check_inside(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or parts[-1] in ("", ".") or "\0" in path:
        raise ValueError(f"{path!r} is no name inside of the work directory")
    if path.startswith(".nbcache"):
        raise ValueError(f"{path!r}: names that begin with .nbcache are nbcache's own")


def staged_names(
    pattern: str, names: Sequence[str], values: Mapping[str, object]
) -> tuple[str, ...]:
    """Return where the files of one input with these names are staged.

    Raises:
        OptionError: two files would have one name, or a name would lead out of the work directory.
    """
    pattern = render_template(pattern, values, escape=lambda text: text.translate(_WILDCARDS))
    if len(names) > 1 and not any(mark in pattern for mark in "*?"):
        pattern += "*"
    found = tuple(
        posixpath.normpath(_staged_name(pattern, name, number, len(names))).translate(_BACK)
        for number, name in enumerate(names, 1)
    )
    for name, count in Counter(found).items():
        try:
            _check_inside(name)
        except ValueError as error:
            raise OptionError(f"--stage_as: {error}") from None
        if count > 1:
            raise OptionError(
                f"--stage_as {pattern.translate(_BACK)}: {count} files would be {name}",
                hint="number them: file?.txt, or a folder for each: dir??/*",
            )
    return found


def _staged_name(pattern: str, name: str, number: int, count: int) -> str:
    parent, slash, last = pattern.rpartition("/")
    if last == "*":
        last = name.translate(_WILDCARDS)
    else:
        last = _numbered(last.replace("*", "" if count == 1 else str(number)), number)
    return _numbered(parent.replace("*", str(number)), number) + slash + last


def _numbered(text: str, number: int) -> str:
    return re.sub(r"\?+", lambda marks: str(number).zfill(len(marks.group())), text)
