"""Which field of which channel fills which input: by names and shapes, never by a value.

1. An input takes the field of its name, in whatever order the channels stand.
2. A channel of which no field was taken fills the free inputs from left to right: a tuple of n
   fills n; where one input is free for it, that gets the whole item (of a one-field channel: that
   field's value). `*rest` takes what the last such tuple has left.
3. What is still free takes its default.

Where the rules leave room: a channel whose only field is unnamed counts as named like itself, so
`f(b, a) from a, b` does not cross; fields without a name of a channel that others were taken from
fill what is free after rule 2; inputs with defaults are filled by position only where known fields
are enough, the leftmost first; several channels share the free inputs in order, the earlier
ones taken apart first. Every channel in `from` has to fill something.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from nbcache.errors import WiringError
from nbcache.model.channel import Fields
from nbcache.model.process import DefaultPick, FieldPick, Filling, Input
from nbcache.plan.language.header_text import is_public_name, nearest

_NOTHING = (
    "its process has no output: let the body end in the value to pass on, or name it, `-> value`"
)


@dataclass(frozen=True, slots=True)
class SourceFields:
    """A channel in `from`: its expression as written, its fields, and whether it is a value.

    `kept_back` maps inputs of the process that makes it, which are none of its outputs, to how
    they are passed on.
    """

    name: str
    fields: Fields
    is_value: bool = False
    kept_back: Mapping[str, str] = field(default_factory=dict)


def fill(process: str, inputs: Sequence[Input], sources: Sequence[SourceFields]) -> Filling:
    """Return where each input takes its value, by the rules above.

    Raises:
        WiringError: an input is filled by nothing or by two channels, a tuple does not fit, a
            channel fills nothing; the text shows both lists.
    """
    return _Filler(process, inputs, sources).run()


class _Filler:
    def __init__(
        self, process: str, inputs: Sequence[Input], sources: Sequence[SourceFields]
    ) -> None:
        self.process, self.inputs, self.sources = process, inputs, sources
        self.picks: dict[str, FieldPick | DefaultPick] = {}

    def run(self) -> Filling:
        for source in self.sources:
            if source.fields == ():
                self._fail(f'channel "{source.name}" carries nothing', _NOTHING)
        self._by_name()
        self._by_channel_name()
        untouched = [index for index in range(len(self.sources)) if index not in self._touched()]
        if untouched:
            self._by_position(untouched)
        self._by_unnamed_fields()
        self._rest(untouched)
        for each in self.inputs:
            if each.name not in self.picks:
                if each.default is None:
                    self._unfilled(each)
                self.picks[each.name] = DefaultPick(each.default)
        for index, source in enumerate(self.sources):
            if index not in self._touched():
                self._fail(f'channel "{source.name}" fills no input', "take it out of `from`")
        return {each.name: self.picks[each.name] for each in self.inputs}

    def _touched(self) -> set[int]:
        return {pick.source for pick in self.picks.values() if isinstance(pick, FieldPick)}

    def _free(self) -> list[Input]:
        return [each for each in self.inputs if not each.rest and each.name not in self.picks]

    def _by_name(self) -> None:
        for each in self.inputs:
            if each.rest:
                continue
            found = [
                (index, source.fields.index(each.name))
                for index, source in enumerate(self.sources)
                if source.fields is not None and each.name in source.fields
            ]
            if len(found) > 1:
                names = " and ".join(f'"{self.sources[index].name}"' for index, _ in found)
                self._fail(
                    f'input "{each.name}" is a field of {names}',
                    "rename one with .fields(...), or name the input differently",
                )
            if found:
                self.picks[each.name] = FieldPick(*found[0])

    def _by_channel_name(self) -> None:
        touched = self._touched()
        for index, source in enumerate(self.sources):
            if index in touched or source.fields != (None,):
                continue
            if any(each.name == source.name for each in self._free()):
                self.picks[source.name] = FieldPick(index, 0)

    def _by_position(self, untouched: Sequence[int]) -> None:
        """Share the free inputs among the channels of which no field was taken."""
        free = self._free()
        rest = next((each for each in self.inputs if each.rest), None)
        needed = [each for each in free if each.default is None]
        spare = [each for each in free if each.default is not None]
        if rest is not None:
            self._with_rest(untouched, needed)
            return
        arities = [self._arity(index) for index in untouched]
        # inputs with defaults are filled from the left, as many as there are fields for
        for count in range(len(spare), -1, -1):
            wanted = [each for each in free if each in needed or each in spare[:count]]
            if None in arities and count and needed:
                continue  # nobody knows yet whether such an item has members enough
            shares = _share(arities, len(wanted))
            if shares is not None:
                self._take(untouched, shares, wanted)
                return
        self._misfit(untouched, free)

    def _arity(self, index: int) -> int | None:
        fields = self.sources[index].fields
        return None if fields is None else len(fields)

    def _take(self, untouched: Sequence[int], shares: Sequence[int], free: list[Input]) -> None:
        at = 0
        for index, share in zip(untouched, shares, strict=True):
            for member, each in enumerate(free[at : at + share]):
                self.picks[each.name] = self._pick(index, member, share)
            at += share

    def _pick(self, index: int, member: int, share: int) -> FieldPick:
        arity = self._arity(index)
        if arity is None:
            if share == 1:
                return FieldPick(index, None)
            return FieldPick(index, None, member=member, of=share)
        if share == 1 and arity > 1:
            return FieldPick(index, None)
        return FieldPick(index, member)

    def _with_rest(self, untouched: Sequence[int], needed: list[Input]) -> None:
        """Channels before the last give what they have; the last gives the rest of its tuple."""
        *before, last = untouched
        at = 0
        for index in before:
            share = min(self._arity(index) or 1, len(needed) - at)
            self._take([index], [share], needed[at:])
            at += share
        arity = self._arity(last)
        ahead = needed[at:]
        if arity is not None and len(ahead) > arity:
            self._misfit(untouched, needed)
        for member, each in enumerate(ahead):
            if arity is None:
                self.picks[each.name] = FieldPick(last, None, member=member)
            else:
                self.picks[each.name] = FieldPick(last, member)

    def _by_unnamed_fields(self) -> None:
        taken = {
            (pick.source, pick.field)
            for pick in self.picks.values()
            if isinstance(pick, FieldPick) and pick.field is not None
        }
        left = [
            (index, position)
            for index in sorted({source for source, _ in taken})
            for position, name in enumerate(self.sources[index].fields or ())
            if name is None and (index, position) not in taken
        ]
        free = [each for each in self._free() if each.default is None]
        if any(each.rest for each in self.inputs) or len(left) != len(free):
            return
        for each, place in zip(free, left, strict=True):
            self.picks[each.name] = FieldPick(*place)

    def _rest(self, untouched: Sequence[int]) -> None:
        rest = next((each for each in self.inputs if each.rest), None)
        if rest is None:
            return
        if untouched:
            source = untouched[-1]
        else:
            source = max(self._touched(), default=-1)
        if source < 0:
            self._unfilled(rest)
        taken = sorted(
            pick.field if pick.field is not None else pick.member or 0
            for pick in self.picks.values()
            if isinstance(pick, FieldPick) and pick.source == source
        )
        if taken != list(range(len(taken))):
            self._fail(
                f'"*{rest.name}" cannot take the rest of "{self.sources[source].name}": '
                "the fields that are taken do not come first",
                "name the inputs in the order of the fields",
            )
        self.picks[rest.name] = FieldPick(source, None, rest_from=len(taken))

    # Errors

    def _misfit(self, untouched: Sequence[int], free: Sequence[Input]) -> NoReturn:
        if not free:
            index = untouched[0]
            self._fail(
                f'channel "{self.sources[index].name}" fills no input', "take it out of `from`"
            )
        if sum(self._arity(index) is None for index in untouched) > 1:
            self._fail(
                "which channel fills which input cannot be told",
                'name the fields: CHANNEL.fields("a", "b")',
            )
        given = sum(self._arity(index) or 1 for index in untouched)
        names = ", ".join(each.name for each in free)
        inputs = "1 input is" if len(free) == 1 else f"{len(free)} inputs are"
        fields = "1 field is" if given == 1 else f"{given} fields are"
        self._fail(
            f"{inputs} free ({names}), and {fields} left to fill them",
            self._meant(free),
        )

    def _unfilled(self, each: Input) -> NoReturn:
        self._fail(f'input "{each.name}" is filled by nothing', self._meant([each]))

    def _meant(self, free: Sequence[Input]) -> str:
        fields = {name for source in self.sources for name in source.fields or () if name}
        for each in free:
            for source in self.sources:
                if each.name in source.kept_back:
                    return source.kept_back[each.name]
            meant = nearest(each.name, fields - {one.name for one in self.inputs})
            if meant:
                return f'did you mean "{meant}" instead of "{each.name}"?'
        return "give it a default, name a field, or add a channel to `from`"

    def _fail(self, message: str, hint: str) -> NoReturn:
        raise WiringError(
            f"process {self.process}: {message}\n"
            f"  inputs:   {', '.join(map(self._said_input, self.inputs)) or 'none'}\n"
            f"  channels: {', '.join(map(said_source, self.sources)) or 'none'}\n"
            f"  {hint}"
        )

    def _said_input(self, each: Input) -> str:
        name = f"*{each.name}" if each.rest else each.name
        pick = self.picks.get(each.name)
        if isinstance(pick, FieldPick):
            return f"{name} <- {said_pick(pick, self.sources)}"
        if each.default is not None:
            return f"{name} = {each.default}"
        return f"{name} <- ?"


def _share(arities: Sequence[int | None], count: int) -> list[int] | None:
    """Share `count` inputs among channels in order, None where it does not come out even.

    A tuple of known length n fills n inputs, or one with the whole item; earlier ones are taken
    apart first. At most one of unknown length takes what is left, if there is more than one each.
    """
    unknown = arities.count(None)
    choices = [(arity, 1) if arity > 1 else (1,) for arity in arities if arity is not None]
    for picked in itertools.product(*choices):
        left = count - sum(picked)
        if left == unknown or (unknown == 1 and left > 1):
            known = iter(picked)
            each_unknown = left // unknown if unknown else 0
            return [each_unknown if arity is None else next(known) for arity in arities]
    return None


def said_pick(pick: FieldPick, sources: Sequence[SourceFields]) -> str:
    """Write where an input takes its value, as people read it: "grid.depth", "pairs[1]"."""
    source = sources[pick.source]
    name = source.name
    if pick.rest_from is not None:
        return f"{name}[{pick.rest_from}:]"
    if pick.field is None:
        return name if pick.member is None else f"{name}[{pick.member}]"
    field = source.fields[pick.field] if source.fields else None
    if field is None:
        return name if source.fields == (None,) else f"{name}[{pick.field}]"
    return name if field == name else f"{name}.{field}"


def said_source(source: SourceFields) -> str:
    """Write a channel with its fields: "grid (depth, trees)", "pairs (3 fields)"."""
    if source.fields is None:
        return f"{source.name} (fields unknown)"
    if not source.fields:
        return f"{source.name} (nothing)"
    if all(name is None for name in source.fields):
        count = len(source.fields)
        return source.name if count == 1 else f"{source.name} ({count} fields without names)"
    return f"{source.name} ({', '.join(name or '_' for name in source.fields)})"


def infer_inputs(sources: Sequence[SourceFields]) -> tuple[Input, ...]:
    """Return the inputs of a process whose header names none: all named fields of its channels.

    A channel with one unnamed field, or with unknown fields, gives one input of its own name.

    Raises:
        WiringError: two channels have the same field, or an item's fields have no names.
    """
    owners: dict[str, str] = {}
    for source in sources:
        for name in _input_names(source):
            if name in owners:
                raise WiringError(
                    f'"{name}" is a field of "{owners[name]}" and of "{source.name}"\n'
                    "  rename one with .fields(...), or write the inputs: NAME(a, b)"
                )
            owners[name] = source.name
    return tuple(Input(name) for name in owners)


def _input_names(source: SourceFields) -> Sequence[str]:
    fields = source.fields
    if fields == ():
        raise WiringError(f'channel "{source.name}" carries nothing\n  {_NOTHING}')
    if fields is not None and None not in fields:
        return [name for name in fields if name is not None]
    if fields is not None and len(fields) != 1:
        raise WiringError(
            f"channel {said_source(source)}: its fields have no names to take as inputs\n"
            "  write the inputs, NAME(a, b), or name the fields with .fields(...)"
        )
    if not is_public_name(source.name):
        raise WiringError(
            f'channel "{source.name}": what it gives has no name to take as an input\n'
            "  write the inputs, NAME(x), or give the channel a name: %channel x = ..."
        )
    return [source.name]
