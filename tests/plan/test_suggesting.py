from __future__ import annotations

import pytest

from nbcache.plan.language.suggesting import header_with

DECLARED = 'x: path = "data/x.csv"'


@pytest.mark.parametrize(
    ("written", "with_it"),
    [
        ("%%process rel from grid", f"%%process rel(depth, {DECLARED}) from grid"),
        ("%%process rel(depth)", f"%%process rel(depth, {DECLARED})"),
        ("%%process rel() from a.map(f)", f"%%process rel({DECLARED}) from a.map(f)"),
        (
            "%%process rel(depth: int = (1), ) -> score from grid --cpus 2",
            f"%%process rel(depth: int = (1), {DECLARED}) -> score from grid --cpus 2",
        ),
        ("# above\n%%process rel # the (1)\nf(1)", f"%%process rel(depth, {DECLARED}) # the (1)"),
        ("%%process rel(\n    depth)\ndepth", f"%%process rel(depth, {DECLARED})"),
        ("@process\ndef rel(depth): ...", f"%%process rel(depth, {DECLARED})"),
    ],
)
def test_a_header_to_paste_is_the_written_one_with_the_new_input(
    written: str, with_it: str
) -> None:
    assert header_with(written, "rel", ("depth",), DECLARED) == with_it
