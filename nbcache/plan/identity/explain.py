"""Say why two fingerprints differ: in one line, and as a diff of the text as written.

Compares the very components that the hash was made of, so it cannot disagree with the key. Reads
nothing: evidence that lies in a blob is handed in by the caller.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from nbcache.model.fingerprint import Component

Change = Literal["changed", "new", "gone"]

# In the order in which people want to hear it: what they edited before what follows from it.
_ORDER = (
    "code helper captured sharing resource module options outputs file input env seed interpreter "
    "tool package container lock python platform ignored"
).split()
_WORDS = {
    "captured": "",
    "sharing": "what captured names share",
    "outputs": "the declared outputs",
    "platform": "platform",
    "python": "Python",
    "seed": "seed",
    "interpreter": "interpreter",
    "ignored": "--ignore",
    "env": "environment variable",
    "script": "the script for",
}
_ALONE = frozenset({"sharing", "outputs", "platform", "python", "seed", "interpreter"})
_WITH_VALUES = frozenset(
    {"package", "python", "platform", "env", "seed", "input", "captured", "interpreter", "tool"}
)
_FILE = re.compile(r"(.+) \(([\d,]+ B|folder)\)", re.DOTALL)  # an input that is a file
_PLACE = re.compile(r"(.*?)line (\d+)$")


@dataclass(frozen=True, slots=True)
class Difference:
    """A component that is not the same in two fingerprints; one side is None where it is not."""

    change: Change
    old: Component | None
    new: Component | None

    @property
    def component(self) -> Component:
        """The newer side, or the only one."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


def differences(old: Sequence[Component], new: Sequence[Component]) -> tuple[Difference, ...]:
    """Return what differs, in the order in which people want to hear it."""
    before = {each.key: each for each in old}
    after = {each.key: each for each in new}
    found: list[Difference] = []
    for key in before.keys() | after.keys():
        left, right = before.get(key), after.get(key)
        if left is None:
            found.append(Difference("new", None, right))
        elif right is None:
            found.append(Difference("gone", left, None))
        elif (left.digest, left.version) != (right.digest, right.version):
            found.append(Difference("changed", left, right))
    return tuple(sorted(found, key=_rank))


def _rank(difference: Difference) -> tuple[int, int, str]:
    kind = difference.component.kind
    place = _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
    return place, {"changed": 0, "new": 1, "gone": 2}[difference.change], difference.component.name


def equal_count(old: Sequence[Component], new: Sequence[Component]) -> int:
    """Return how many components of `new` are in `old` with the same digest."""
    before = {(each.key, each.version, each.digest) for each in old}
    return sum((each.key, each.version, each.digest) in before for each in new)


def nearest(
    candidates: Sequence[Sequence[Component]], components: Sequence[Component]
) -> int | None:
    """Return the index of the candidate with most equal components, the first of equals.

    None: there is no candidate that has even one component in common.
    """
    best, most = None, 0
    for index, each in enumerate(candidates):
        equal = equal_count(each, components)
        if equal > most:
            best, most = index, equal
    return best


def one_line(
    process: str,
    found: Sequence[Difference],
    equal: int,
    total: int,
    *,
    run: str = "",
    changed_line: Callable[[Difference], int | None] | None = None,
) -> str:
    """Return "helper norm changed (cell 3, line 4); 7 of 8 components equal".

    `equal` of `total` components are the same as in the earlier task; with `total` 0 there is
    none to compare with. `run` names the earlier task's run.
    """
    if not total:
        return "first run of this code here"
    end = f"{equal} of {total} components equal{f' to run {run}' if run else ''}"
    if not found:
        return f"nothing changed; {end}"
    if _is_another_input(found):
        return f"{_new_input(found)}; {end}"
    first, rest = found[0], len(found) - 1
    text = phrase(first, process, changed_line)
    if rest == 1:
        text += f", and {phrase(found[1], process, changed_line)}"
    elif rest:
        text += f", and {rest} more"
    return f"{text}; {end}"


def _is_another_input(found: Sequence[Difference]) -> bool:
    return all(each.component.kind in ("input", "file") for each in found) and all(
        each.change == "changed" for each in found
    )


def _new_input(found: Sequence[Difference]) -> str:
    edited = [_edited_file(each) for each in found]
    if all(edited):
        return f"{' and '.join(map(str, edited[:3]))} changed"
    parts = [
        f"{each.component.name} {each.component.summary}".strip()
        for each in found
        if each.new is not None
    ]
    if len(parts) == 1 and found[0].component.kind == "file":
        return f"file {found[0].component.name} changed"
    return f"new input: no earlier task has {' and '.join(parts[:3])}"


def _edited_file(difference: Difference) -> str | None:
    """Return "file reads.fq (input reads)" where an input is the same file with other content."""
    old, new = difference.old, difference.new
    if old is None or new is None:
        return None
    before, after = _FILE.fullmatch(old.summary), _FILE.fullmatch(new.summary)
    if before is None or after is None or before[1] != after[1]:
        return None
    kind = "folder" if after[2] == "folder" else "file"
    return f"{kind} {after[1]} (input {new.name})"


def phrase(
    difference: Difference,
    process: str = "",
    changed_line: Callable[[Difference], int | None] | None = None,
) -> str:
    """Return what differs in a few words: "package numpy 2.1.0 → 2.2.0"."""
    each = difference.component
    name = _label(each, process)
    if difference.change == "new":
        return f"{name} is new{_behind(each)}"
    if difference.change == "gone":
        return f"{name} is gone"
    old, new = difference.old, difference.new
    assert old is not None
    assert new is not None
    if each.kind in _WITH_VALUES and old.summary != new.summary and old.summary and new.summary:
        return f"{name} {old.summary} → {new.summary}"
    if old.version != new.version and old.digest != new.digest and _same_text(old, new):
        return f"{name} is encoded anew by this version of nbcache"
    if each.kind == "helper" and _same_text(old, new):
        return f"{name} changed in what it holds: a decorator, closure or default, not its text"
    line = (changed_line or line_of_change)(difference)
    return f"{name} changed{_behind(new, line)}"


def _label(each: Component, process: str) -> str:
    if each.kind == "code":
        return f"the code of {process}" if process else "the code"
    word = _WORDS.get(each.kind, each.kind)
    if each.kind in _ALONE:
        return word
    return f"{word} {each.name}".strip()


def _same_text(old: Component, new: Component) -> bool:
    return old.evidence is not None and old.evidence == new.evidence


def _behind(each: Component, line: int | None = None) -> str:
    if each.kind not in ("code", "helper", "resource", "module", "script") or not each.summary:
        return ""
    match = _PLACE.match(each.summary)
    if match is not None and line is not None:
        return f" ({match[1]}line {line})"
    if line is not None and each.kind == "module":
        return f" ({each.summary})"
    return f" ({each.summary})"


def line_of_change(difference: Difference) -> int | None:
    """Return the line (of the cell or file) of the first edit, where both texts are at hand."""
    old, new = difference.old, difference.new
    if old is None or new is None or not old.evidence or not new.evidence:
        return None
    match = _PLACE.match(new.summary)
    if match is None:
        return None
    before, after = old.evidence.splitlines(), new.evidence.splitlines()
    for index, text in enumerate(after):
        if index >= len(before) or before[index] != text:
            # A line that only grew a comment or blank space is not the edit people look for, but
            # it is where the texts part; the diff shows the rest.
            return int(match[2]) + index
    return int(match[2]) + max(len(after) - 1, 0)


def source_diff(old: Component | None, new: Component | None) -> str:
    """Return a unified diff of two components' texts ("" where neither has one)."""
    before = (old.evidence or "").splitlines() if old is not None else []
    after = (new.evidence or "").splitlines() if new is not None else []
    one = new if new is not None else old
    assert one is not None
    name = f"{one.kind} {one.name}"
    return "\n".join(
        difflib.unified_diff(before, after, f"{name} (before)", f"{name} (now)", lineterm="")
    )


def value_lines(found: Sequence[Difference]) -> tuple[str, ...]:
    """Return one line per difference, with what was and what is, for the expanded answer."""
    lines: list[str] = []
    for each in found:
        old = each.old.summary if each.old is not None else "-"
        new = each.new.summary if each.new is not None else "-"
        lines.append(f"{each.component.kind:<10} {each.component.name:<20} {old} → {new}")
    return tuple(lines)
