"""Say why two fingerprints differ: in one line, and as a diff of the text as written.

Compares the very components that the hash was made of, so it cannot disagree with the key. Reads
nothing: evidence that lies in a blob is handed in by the caller.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nbcache.model.fingerprint import Component
from nbcache.plan.identity.outline import apart, changed_parts

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
_ALONE = frozenset("sharing outputs platform python seed interpreter container".split())
_WITH_VALUES = frozenset(
    "package python platform env seed input captured interpreter container tool outputs".split()
)
# An input that is a file: its name, its size, what it counts by, if not by content, and under which
# other name it is seen.
FILE = re.compile(
    r"(?!list of \d+: )(.+) \(([\d,?]+ B|\?|folder)(?:, by ([a-z ]+))?(?:, as (.+))?\)", re.DOTALL
)
_FILES = re.compile(r"list of \d+: .+ \(.*", re.DOTALL)
_PLACE = re.compile(r"(.*?line )(\d+)(?: of (\w+))?$")
_DEFINITION = re.compile(r"\s*(?:async )?(?:def|class) (\w+)")
PART = "# -- "  # before the place of a further piece of code, in a component's text
_CODE = ("code", "helper", "resource", "module", "script")
TIME_ZONE = "time zone"  # of the kind "env", like variables, though it may be set in a file


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

    @property
    def is_renamed(self) -> bool:
        """Whether the two sides have different names."""
        sides = (self.old, self.new)
        return len({each.name for each in sides if each is not None}) > 1

    @property
    def exact(self) -> tuple[object, ...]:
        """What differs from what: equal for tasks that differ by the very same content."""
        sides = ((side.digest if side is not None else None) for side in (self.old, self.new))
        return (self.component.key, *sides)


def differences(old: Sequence[Component], new: Sequence[Component]) -> tuple[Difference, ...]:
    """Return what differs, in the order in which people want to hear it.

    A module that has another name and the same text differs once, first of all: what comes out of
    it is known by its name.
    """
    before = {each.key: each for each in old}
    after = {each.key: each for each in new}
    gone = [each for key, each in before.items() if each.kind == "module" and key not in after]
    for key, each in after.items():
        if each.kind == "module" and key not in before:
            for renamed in [old for old in gone if _same_text(old, each)][:1]:
                gone.remove(renamed)
                before[key] = before.pop(renamed.key)
    found: list[Difference] = []
    for key in before.keys() | after.keys():
        left, right = before.get(key), after.get(key)
        if left is None:
            found.append(Difference("new", None, right))
        elif right is None:
            found.append(Difference("gone", left, None))
        elif (left.name, left.digest, left.version) != (right.name, right.digest, right.version):
            found.append(Difference("changed", left, right))
    return tuple(sorted(found, key=_rank))


def _rank(difference: Difference) -> tuple[int, int, str]:
    kind = difference.component.kind
    place = _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
    if difference.is_renamed:
        place = -1
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
    process: str, found: Sequence[Difference], total: int, rest: str = "other components equal"
) -> str:
    """Return "helper norm changed (cell 3, line 4); other components equal".

    `found` is all that differs from the earlier task (something does), of `total` components;
    `rest` is said where there are more.
    """
    if _is_another_input(found):
        return _new_input(found)
    shown = found[:2] if len(found) == 2 else found[:1]
    text = ", and ".join(phrase(each, process) for each in shown)
    if len(found) > len(shown):
        text += f", and {len(found) - 1} more"
    return f"{text}; {rest}" if len(found) < total else text


def _is_another_input(found: Sequence[Difference]) -> bool:
    return all(each.component.kind in ("input", "file") for each in found) and all(
        each.change == "changed" for each in found
    )


def _new_input(found: Sequence[Difference]) -> str:
    files = [phrase(each) for each in found if each.component.kind == "file"]
    more = f", and {len(files) - 2} more" if len(files) > 2 else ""
    inputs = [each for each in found if each.component.kind == "input"]
    said = " and ".join(files[:2]) + more
    return "; ".join(filter(None, (said, _another_input(inputs) if inputs else "")))


def _another_input(found: Sequence[Difference]) -> str:
    edited = [edited_file(each) for each in found]
    if all(edited):
        return new_inputs(list(map(str, edited)), ())
    held = _held(found[0]) if len(found) == 1 else ""
    if held:
        return f"input {found[0].component.name}: {held}"
    parts = [f"{each.component.name} {each.component.summary}".strip() for each in found]
    return f"new input: no earlier task has {' and '.join(parts[:3])}"


def other_parts(difference: Difference) -> list[str]:
    """Return which parts of what a component holds are others than before, where that is known."""
    if difference.component.kind == "package":
        return _other_needs(difference)
    old, new = (_outline(side) for side in (difference.old, difference.new))
    return changed_parts(old, new) if old is not None and new is not None else []


def _other_needs(difference: Difference) -> list[str]:
    """Return which packages that one of the same version needs have another version, or are new."""
    old, new = difference.old, difference.new
    if old is None or new is None or old.summary != new.summary:
        return []
    before, after = (dict(line.partition(" ")[::2] for line in _lines(each)) for each in (old, new))
    if not before or not after:
        return []
    return [
        f"needs {name} {' → '.join((before.get(name, 'none'), after.get(name, 'none')))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _outline(each: Component | None) -> str | None:
    if each is None:
        return None
    return each.evidence if each.kind == "input" else apart(each.evidence)[1]


def _held(difference: Difference) -> str:
    """Return the first two other parts in words."""
    parts = other_parts(difference)
    return ", ".join(parts[:2]) + (f", and {len(parts) - 2} more" if len(parts) > 2 else "")


def new_inputs(edited: Sequence[str], new: Sequence[str]) -> str:
    """Return in one line which files of inputs were edited and which inputs are new."""
    said = []
    if len(edited) > 3:
        first = edited[0].removesuffix(" changed")
        said.append(f"{len(edited)} files of inputs changed, such as {first}")
    elif edited:
        said.append(" and ".join(edited))
    if len(new) == 1:
        said.append(f"new input: no earlier task has {new[0]}")
    elif new:
        shown = list(dict.fromkeys(new[:3]))  # several may read alike
        more = ", ..." if len(new) > len(shown) else ""
        said.append(f"{len(new)} new inputs: {', '.join(shown)}{more}")
    return "; ".join(said)


def edited_file(difference: Difference) -> str | None:
    """Return what an input that is the same file, or files, has other than before: content, or
    mode.

    None: it is no file, or another one.
    """
    old, new = difference.old, difference.new
    if old is None or new is None:
        return None
    if old.summary == new.summary and _FILES.fullmatch(new.summary):
        return f"input {new.name} ({new.summary}) changed"
    before, after = FILE.fullmatch(old.summary), FILE.fullmatch(new.summary)
    if before is None or after is None or before[1] != after[1]:
        return None
    kind = "folder" if after[2] == "folder" else "file"
    name = f"{kind} {after[1]} (input {new.name})"
    if before[4] != after[4]:
        seen, no_longer = (each[4] or each[1] for each in (after, before))
        return f"{name} is seen as {seen}, no longer as {no_longer}"
    if before[3] == after[3]:
        return f"{name} changed"
    by, no_longer = (each[3] or "content" for each in (after, before))
    return f"{name} counts by {by}, no longer by {no_longer}"


def phrase(difference: Difference, process: str = "") -> str:
    """Return what differs in a few words: "package numpy 2.1.0 → 2.2.0"."""
    each = difference.component
    name = _label(each, process)
    if difference.change == "new":
        said = each.kind in (*_CODE, "sharing") or name == TIME_ZONE
        return f"{name} is new{_in_brackets(each.summary if said else '')}"
    if difference.change == "gone":
        if each.kind == "captured" and "." in each.name:  # what a cell set in a module
            return f"{name} is no longer read, or no longer set"
        return f"{name} is gone{_in_brackets(each.summary if each.kind == 'sharing' else '')}"
    old, new = difference.old, difference.new
    assert old is not None
    assert new is not None
    if difference.is_renamed:
        return f"{_label(old, process)} → {new.name}"
    held = _held(difference)
    if each.kind in _WITH_VALUES and old.summary != new.summary and old.summary and new.summary:
        is_whole = new.summary.startswith(("{", "[", "(", "partial("))  # all that it holds
        if not held or is_whole:
            return f"{name} {old.summary} → {new.summary}"
        return f"{name}: {held}"
    is_same = _same_text(old, new)
    if old.version != new.version and old.digest != new.digest and is_same:
        return f"{name} is encoded anew by this version of nbcache"
    if each.kind in ("helper", "resource") and (is_same or (held and not _lines(new))):
        held = held or "a decorator, closure or default, not its text"
        return f"{name} changed in what it holds: {held}"
    inside, where = ("", "") if is_same else _edited(difference)
    if not where and each.kind in _CODE:
        where = new.summary
    elif not where and held:
        return f"{name}: {held}"
    elif not where and each.kind == "captured" and new.summary:
        where = f"{new.summary}, of other content"
        if each.name.isidentifier():  # that of a library may be another in each process
            where += f"; where it is so at every run: --ignore {each.name}"
    return f"{name} changed{inside and f' in {inside}'}{_in_brackets(where)}"


def _label(each: Component, process: str) -> str:
    if each.kind == "code":
        return f"the code of {process}" if process else "the code"
    if each.kind == "env" and each.name == TIME_ZONE:
        return TIME_ZONE
    word = _WORDS.get(each.kind, each.kind)
    if each.kind in _ALONE:
        return word
    return f"{word} {each.name}".strip()


def _same_text(old: Component, new: Component) -> bool:
    return apart(old.evidence)[0] is not None and _lines(old) == _lines(new)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _lines(each: Component | None) -> list[str]:
    """Return a component's text without the places in it: cells get other numbers all the time."""
    text = apart(each.evidence)[0] if each is not None else None
    lines = text.splitlines() if text is not None else []
    return [PART.rstrip() if text.startswith(PART) else text for text in lines]


def _edited(difference: Difference) -> tuple[str, str]:
    """Return what the first edit is in, where that is not what bears the component's name, and the
    place of that edit; "" for what is not known."""
    new = difference.new
    before, after = _lines(difference.old), _lines(new)
    if new is None or not before or not after:
        return "", ""
    edited = (i for i, text in enumerate(after) if i >= len(before) or before[i] != text)
    index = next(edited, len(after) - 1)
    written = (apart(new.evidence)[0] or "").splitlines()
    heads = (i for i in range(index, -1, -1) if written[i].startswith(PART))
    start = next(heads, -1)
    place = written[start].removeprefix(PART) if start >= 0 else new.summary
    match = _PLACE.match(place)
    if match is None or new.kind not in ("helper", "resource", "captured"):
        return "", _moved(match, max(index - start - 1, 0))
    defined = next(filter(None, map(_DEFINITION.match, written[start + 1 :])), None)
    inside = match[3] or (defined[1] if defined else "")
    return inside if inside != new.name else "", _moved(match, max(index - start - 1, 0))


def _moved(place: re.Match[str] | None, lines: int) -> str:
    return f"{place[1]}{int(place[2]) + lines}" if place is not None else ""


def source_diff(old: Component | None, new: Component | None) -> str:
    """Return a unified diff of two components' texts; "" where neither has one, and where `phrase`
    tells it all: of a value in one line that it writes out, or of which it names every part."""
    before, after = _lines(old), _lines(new)
    one = new if new is not None else old
    assert one is not None
    if old is not None and new is not None and one.kind == "captured":
        is_whole = (before, after) == ([old.summary], [new.summary])
        is_named = len(other_parts(Difference("changed", old, new))) in (1, 2)  # as in `_held`
        if is_whole or (is_named and len(before) == len(after) == 1):
            return ""
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
        said = new if old == new else f"{old} → {new}"  # an edit where it stood stands there yet
        lines.append(f"{each.component.kind:<10} {each.component.name:<20} {said}".rstrip())
        lines += [f"{'':<10} {part}" for part in other_parts(each)]
    return tuple(lines)
