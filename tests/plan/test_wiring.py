"""Which input is filled by which field: the filling rules of the language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import WiringError
from nbcache.model.channel import Fields
from nbcache.model.process import DefaultPick, FieldPick, Filling, Input
from nbcache.plan.dataflow.wiring import SourceFields, fill, infer_inputs, said_pick


def inputs(text: str) -> list[Input]:
    """Read "a b=1 *rest"."""
    made = []
    for word in text.split():
        name, _, default = word.partition("=")
        made.append(Input(name.lstrip("*"), default=default or None, rest=word.startswith("*")))
    return made


def channel(name: str, fields: Fields = (None,)) -> SourceFields:
    return SourceFields(name, fields, is_value=False)


def filled(text: str, *sources: SourceFields) -> Filling:
    return fill("fit", inputs(text), sources)


def said(text: str, *sources: SourceFields) -> dict[str, str]:
    return {
        name: said_pick(pick, sources) if isinstance(pick, FieldPick) else f"= {pick.text}"
        for name, pick in filled(text, *sources).items()
    }


def refusal(text: str, *sources: SourceFields) -> str:
    with pytest.raises(WiringError) as caught:
        filled(text, *sources)
    return str(caught.value)


GRID = channel("grid", ("depth", "trees"))
THREE = channel("pairs", (None, None, None))
INDEX = channel("index", ("index",))
UNKNOWN = channel("made", None)


def test_an_input_takes_the_field_of_its_name_whatever_the_order() -> None:
    expected = {"trees": FieldPick(1, 1), "index": FieldPick(0, 0), "depth": FieldPick(1, 0)}

    assert filled("trees index depth", INDEX, GRID) == expected


def test_fields_that_nobody_names_are_left() -> None:
    assert filled("trees", GRID) == {"trees": FieldPick(0, 1)}


def test_a_field_of_two_channels_is_an_error_that_names_both() -> None:
    text = refusal("depth", GRID, channel("other", ("depth",)))

    assert 'input "depth" is a field of "grid" and "other"' in text
    assert "channels: grid (depth, trees), other (depth)" in text


def test_a_tuple_without_names_fills_free_inputs_from_left_to_right() -> None:
    assert said("sample r1 r2 index", THREE, INDEX) == {
        "sample": "pairs[0]",
        "r1": "pairs[1]",
        "r2": "pairs[2]",
        "index": "index",
    }


def test_named_fields_that_no_input_names_fill_by_position_too() -> None:
    assert filled("a b", GRID) == {"a": FieldPick(0, 0), "b": FieldPick(0, 1)}


def test_one_free_input_gets_the_whole_item() -> None:
    assert filled("row", GRID) == {"row": FieldPick(0, None)}
    assert filled("row", UNKNOWN) == {"row": FieldPick(0, None)}


def test_one_free_input_gets_the_value_of_a_one_field_channel() -> None:
    assert filled("outs", channel("work.collect()", ("out",))) == {"outs": FieldPick(0, 0)}
    assert filled("v", channel("src")) == {"v": FieldPick(0, 0)}


def test_items_of_unknown_shape_are_taken_apart_when_they_come() -> None:
    assert filled("a b c", UNKNOWN) == {
        "a": FieldPick(0, None, member=0, of=3),
        "b": FieldPick(0, None, member=1, of=3),
        "c": FieldPick(0, None, member=2, of=3),
    }


def test_several_channels_share_the_free_inputs_in_order() -> None:
    two = channel("two", (None, None))

    assert said("a b c", two, channel("one")) == {"a": "two[0]", "b": "two[1]", "c": "one"}
    assert said("a b c", channel("one"), two) == {"a": "one", "b": "two[0]", "c": "two[1]"}
    assert said("a b", two, channel("one")) == {"a": "two", "b": "one"}
    assert said("a b c d", channel("one"), UNKNOWN, channel("last")) == {
        "a": "one",
        "b": "made[0]",
        "c": "made[1]",
        "d": "last",
    }


def test_channels_named_like_inputs_do_not_cross() -> None:
    assert said("b a", channel("a"), channel("b")) == {"b": "b", "a": "a"}


def test_fields_without_names_fill_what_is_free_beside_fields_that_were_named() -> None:
    pairs = channel("pairs", ("sample", None, None))

    assert said("sample r1 r2 index", pairs, INDEX)["r2"] == "pairs[2]"


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("x y=1", channel("m"), {"x": "m", "y": "= 1"}),
        ("x y=1", channel("m", (None, None)), {"x": "m[0]", "y": "m[1]"}),
        ("x y=1", channel("m", None), {"x": "m", "y": "= 1"}),
        ("x=1 y=2", channel("m"), {"x": "m", "y": "= 2"}),
        ("x=1 y", channel("m"), {"x": "= 1", "y": "m"}),
        ("x=1 depth", GRID, {"x": "= 1", "depth": "grid.depth"}),
    ],
)
def test_defaults_are_filled_by_position_only_where_fields_are_enough(
    text: str, source: SourceFields, expected: dict[str, str]
) -> None:
    assert said(text, source) == expected


def test_a_default_keeps_its_expression() -> None:
    assert filled("x=[1,2]") == {"x": DefaultPick("[1,2]")}


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("*all", THREE, {"all": FieldPick(0, None, rest_from=0)}),
        ("a *rest", THREE, {"a": FieldPick(0, 0), "rest": FieldPick(0, None, rest_from=1)}),
        (
            "a *rest",
            UNKNOWN,
            {"a": FieldPick(0, None, member=0), "rest": FieldPick(0, None, rest_from=1)},
        ),
        ("depth *rest", GRID, {"depth": FieldPick(0, 0), "rest": FieldPick(0, None, rest_from=1)}),
    ],
)
def test_a_rest_input_takes_what_a_tuple_has_left(
    text: str, source: SourceFields, expected: Filling
) -> None:
    assert filled(text, source) == expected


def test_a_rest_input_cannot_jump_over_fields() -> None:
    assert '"*rest" cannot take the rest of "grid"' in refusal("trees *rest", GRID)


def test_an_unfilled_input_shows_both_lists_and_the_nearest_field() -> None:
    assert refusal("depht trees", GRID) == (
        'process fit: input "depht" is filled by nothing\n'
        "  inputs:   depht <- ?, trees <- grid.trees\n"
        "  channels: grid (depth, trees)\n"
        '  did you mean "depth" instead of "depht"?'
    )


@pytest.mark.parametrize(
    ("text", "sources", "message"),
    [
        ("a b", [THREE], "2 inputs are free (a, b), and 3 fields are left"),
        ("a b", [channel("one")], "2 inputs are free (a, b), and 1 field is left"),
        ("a", [], 'input "a" is filled by nothing'),
        ("*rest", [], 'input "rest" is filled by nothing'),
        ("depth", [GRID, channel("other")], 'channel "other" fills no input'),
        ("", [GRID], 'channel "grid" fills no input'),
        ("a", [channel("quiet", ())], 'channel "quiet" carries nothing'),
        ("a b c", [UNKNOWN, channel("b2", None)], "cannot be told"),
    ],
)
def test_what_does_not_fit_shows_both_lists(
    text: str, sources: list[SourceFields], message: str
) -> None:
    error = refusal(text, *sources)

    assert message in error
    assert "\n  inputs:   " in error
    assert "\n  channels: " in error


def test_inferred_inputs_are_all_fields_in_order() -> None:
    found = infer_inputs([GRID, channel("rounds"), channel("made", None)])

    assert [each.name for each in found] == ["depth", "trees", "rounds", "made"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([THREE], "its fields have no names"),
        ([channel("grid.map(f)", None)], "has no name to take as an input"),
        ([channel("quiet", ())], "carries nothing"),
        ([GRID, channel("depth")], '"depth" is a field of "grid" and of "depth"'),
    ],
)
def test_inputs_that_cannot_be_inferred_say_how_to_name_them(
    sources: list[SourceFields], message: str
) -> None:
    with pytest.raises(WiringError) as caught:
        infer_inputs(sources)

    assert message in str(caught.value)
    assert any(way in str(caught.value) for way in ("NAME(", ".fields(", "-> value"))


NAMES = st.sampled_from("abcdef")
FIELDS = st.one_of(
    st.none(),
    st.lists(NAMES, unique=True, max_size=3).map(tuple),
    st.integers(1, 3).map(lambda count: (None,) * count),
)


@given(
    st.lists(st.tuples(NAMES, st.booleans()), unique_by=lambda each: each[0], max_size=5),
    st.lists(FIELDS, max_size=3),
    st.booleans(),
)
def test_a_filling_is_complete_uses_every_channel_and_no_field_twice(
    names: list[tuple[str, bool]], fields: list[Fields], rest: bool
) -> None:
    declared = [Input(name, default="0" if default else None) for name, default in names]
    if rest:
        declared.append(Input("rest", rest=True))
    sources = [channel(f"ch{at}", each) for at, each in enumerate(fields)]
    try:
        found = fill("fit", declared, sources)
    except WiringError:
        return

    picks = [pick for pick in found.values() if isinstance(pick, FieldPick)]
    assert list(found) == [each.name for each in declared]
    assert {pick.source for pick in picks} == set(range(len(sources)))
    places = [(pick.source, pick.field, pick.member, pick.rest_from) for pick in picks]
    assert len(set(places)) == len(places)
    for pick in picks:
        known = fields[pick.source]
        assert pick.field is None or (known is not None and pick.field < len(known))


@given(st.lists(FIELDS, min_size=1, max_size=3))
def test_inferred_inputs_can_always_be_filled(fields: list[Fields]) -> None:
    sources = [channel(f"ch{at}", each) for at, each in enumerate(fields)]
    try:
        found = infer_inputs(sources)
    except WiringError:
        return

    filling = fill("fit", found, sources)

    assert [each.name for each in found] == list(filling)
