from __future__ import annotations

import pytest

from nbcache.plan.language.header import parse_process_cell
from nbcache.plan.language.suggesting import header_taking

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
        (
            "%%process rel(\n    depth,  # in (m)\n) -> score from grid\ndepth",
            f"%%process rel(\n    depth, {DECLARED},  # in (m)\n) -> score from grid",
        ),
        (
            "%%process rel(depth) \\\n  from grid --cpus 2\ndepth",
            f"%%process rel(depth, {DECLARED}) \\\n  from grid --cpus 2",
        ),
        ("%%process rel(depth\ndepth", f"%%process rel(depth, {DECLARED})"),
        ("@process\ndef rel(depth): ...", f"%%process rel(depth, {DECLARED})"),
    ],
)
def test_a_header_to_paste_is_the_written_one_with_the_new_input(
    written: str, with_it: str
) -> None:
    assert header_taking("data/x.csv", written, "rel", ("depth",), ()) == (with_it, "x")


@pytest.mark.parametrize(
    ("file", "declared"),
    [
        ("2021-a b.csv", 'file_2021_a_b: path = "2021-a b.csv"'),
        ("d/class.txt", 'class_file: path = "d/class.txt"'),
        ("depth.csv", 'depth_file: path = "depth.csv"'),
        ("score.csv", 'score_file: path = "score.csv"'),
        ("list.txt", 'list_file: path = "list.txt"'),
        ("task.txt", 'task_file: path = "task.txt"'),
        (".---", 'data: path = ".---"'),
        ('say "x"\n.txt', "say_x: path = 'say \"x\"\\n.txt'"),
    ],
)
def test_the_input_of_a_header_to_paste_has_a_name_that_it_may_have(
    file: str, declared: str
) -> None:
    header, name = header_taking(file, "%%process rel(depth)", "rel", ("depth",), ("score",))

    assert header == f"%%process rel(depth, {declared})"
    rest = header.removeprefix("%%process ")
    decl = parse_process_cell(f"{rest} -> score from grid", f"{name}.read_text()")
    assert [each.name for each in decl.inputs or ()] == ["depth", name]
