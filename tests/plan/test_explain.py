"""One line says which component differs, in words that a user would use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.plan.identity.explain import (
    differences,
    nearest,
    new_inputs,
    one_line,
    phrase,
    source_diff,
)
from nbcache.plan.identity.fingerprint import KINDS, SharedPart, component


def _of(
    kind: str, name: str, content: str, summary: str = "", text: str | None = None
) -> Component:
    return component(kind, name, identity_digest(content.encode()), summary, text)


BODY = _of("code", "body", "body", "cell [5]", "out = norm(v)")
NORM = _of("helper", "norm", "1", "cell 3, line 2", "def norm(v):\n    w = v\n    return w / 2\n")
NORM_EDITED = _of(
    "helper", "norm", "2", "cell 3, line 2", "def norm(v):\n    w = v\n    return w / 3\n"
)
TEXT = _of("input", "text", "a", "'a'")


def hash_of(components: list[Component]) -> Digest:
    inputs = [(e.name, e.kind, e.digest) for e in components if e.kind in ("input", "file")]
    shared = SharedPart(e for e in components if e.kind not in ("input", "file"))
    return shared.task_hash(inputs)


def _line(old: list[Component], new: list[Component]) -> str:
    return one_line("fit", differences(old, new), len({each.key for each in (*old, *new)}))


def test_an_edited_helper_is_named_with_cell_and_line_of_the_edit() -> None:
    assert _line([BODY, NORM, TEXT], [BODY, NORM_EDITED, TEXT]) == (
        "helper norm changed (cell 3, line 4); other components equal"
    )


def test_a_module_of_another_name_and_the_same_text_is_one_difference_that_names_both() -> None:
    old = [BODY, _of("captured", "f", "tools"), _of("module", "tools", "1", "tools.py", "x = 1\n")]
    new = [BODY, _of("captured", "f", "gear"), _of("module", "gear", "1", "gear.py", "x = 1\n")]

    assert _line(old, new) == "module tools → gear, and f changed; other components equal"
    new[2] = _of("module", "gear", "2", "gear.py", "x = 2\n")
    assert _line(old, new) == "f changed, and 2 more; other components equal"


def test_an_edited_body_is_named_before_what_follows_from_it() -> None:
    old = [BODY, NORM]
    new = [_of("code", "body", "other", "cell [5]")]

    assert _line(old, new) == ("the code of fit changed (cell [5]), and helper norm is gone")


def test_a_setting_of_a_module_that_counts_no_more_is_not_called_gone() -> None:
    old = [BODY, _of("captured", "m.RATE", "1"), _of("captured", "k30", "1")]

    assert _line(old, [BODY]) == (
        "k30 is gone, and m.RATE is no longer read, or no longer set; other components equal"
    )


def test_a_package_says_both_versions() -> None:
    old, new = _of("package", "numpy", "1", "2.1.0"), _of("package", "numpy", "2", "2.2.0")

    assert _line([BODY, old], [BODY, new]) == (
        "package numpy 2.1.0 → 2.2.0; other components equal"
    )


def test_a_package_of_the_same_version_says_what_it_needs_of_another_one() -> None:
    needs = ("pandas 2.2.0\nnumpy 2.1.0\npytz 1", "pandas 2.2.0\nnumpy 2.2.0\ntzdata 3")
    old, new = (_of("package", "pandas", each, "2.2.0", each) for each in needs)

    assert _line([BODY, old], [BODY, new]) == (
        "package pandas: needs numpy 2.1.0 → 2.2.0, needs pytz 1 → none, and 1 more; "
        "other components equal"
    )


def test_a_container_says_both_images() -> None:
    old, new = (
        _of("container", "container", each, f"lab/tool:{each} sha256:{each}") for each in "12"
    )

    assert _line([BODY, old], [BODY, new]).startswith(
        "container lab/tool:1 sha256:1 → lab/tool:2 sha256:2"
    )


def test_a_time_zone_is_no_variable() -> None:
    zone, other = (_of("env", "time zone", each, each) for each in ("Asia/Tokyo", "Etc/GMT"))

    assert _line([BODY], [BODY, zone]).startswith("time zone is new (Asia/Tokyo)")
    assert _line([BODY, zone], [BODY, other]).startswith("time zone Asia/Tokyo → Etc/GMT")


def test_a_small_value_says_both_values() -> None:
    old, new = _of("captured", "factor", "1", "10"), _of("captured", "factor", "2", "11")

    assert _line([BODY, old], [BODY, new]) == "factor 10 → 11; other components equal"


def test_only_another_input_is_a_new_input() -> None:
    other = _of("input", "text", "b", "'b'")

    assert _line([BODY, TEXT], [BODY, other]) == "new input: no earlier task has text 'b'"


def test_many_differences_are_counted() -> None:
    new = [BODY, *(_of("helper", name, name, "") for name in "abc")]

    assert _line([BODY], new).startswith("helper a is new, and 2 more")


def test_the_nearest_task_shares_most_components() -> None:
    candidates = [[BODY], [BODY, NORM], [BODY, NORM, _of("input", "text", "b")]]

    assert nearest(candidates, [BODY, NORM, TEXT]) == 1
    assert nearest([[TEXT]], [BODY]) is None


def test_the_diff_shows_the_edited_line() -> None:
    shown = source_diff(NORM, NORM_EDITED).splitlines()

    assert "-    return w / 2" in shown
    assert "+    return w / 3" in shown


def test_a_newer_encoder_is_no_edit() -> None:
    old = Component("helper", "norm", 0, identity_digest(b"older"), "cell 3, line 2", NORM.evidence)

    assert phrase(differences([old], [NORM])[0]) == (
        "helper norm is encoded anew by this version of nbcache"
    )


_components = st.lists(
    st.builds(
        lambda kind, name, content: _of(kind, name, content),
        st.sampled_from(sorted(KINDS)),
        st.sampled_from("abc"),
        st.sampled_from("xyz"),
    ),
    unique_by=lambda each: each.key,
    max_size=6,
)


@given(_components, _components)
def test_there_is_a_reason_exactly_when_the_hash_differs(
    old: list[Component], new: list[Component]
) -> None:
    assert (hash_of(old) != hash_of(new)) == bool(differences(old, new))


def test_a_helper_whose_text_is_as_before_changed_in_what_it_holds() -> None:
    held = _of("helper", "norm", "2", "cell 3, line 2", NORM.evidence)

    assert phrase(differences([NORM], [held])[0]) == (
        "helper norm changed in what it holds: a decorator, closure or default, not its text"
    )


def test_an_object_of_which_nobody_can_say_what_changed_comes_with_the_way_out() -> None:
    before, after = (_of("captured", "parser", content, "lark.lark.Lark") for content in "ab")

    assert phrase(differences([before], [after])[0]) == (
        "parser changed (lark.lark.Lark, of other content; where it is so at every run: "
        "--ignore parser)"
    )


def test_files_of_a_list_with_other_content_are_no_file_of_a_long_name() -> None:
    text = "list of 2: x (1 B), y (1 B)"
    before, after = (_of("input", "fs", content, text) for content in "ab")

    (found,) = differences([before], [after])

    assert one_line("p", [found], 2) == f"input fs ({text}) changed"


def test_a_file_with_other_content_changed_and_is_no_new_input() -> None:
    old, new = _of("input", "data", "a", "x.csv (4 B)"), _of("input", "data", "b", "x.csv (4 B)")

    assert _line([BODY, old], [BODY, new]) == "file x.csv (input data) changed"


def test_a_file_that_is_named_in_the_code_is_told_beside_a_new_input_and_is_none() -> None:
    old, new = _of("file", "f.txt", "a", "f.txt, named in the code"), _of("file", "f.txt", "b", "")
    other = _of("input", "text", "b", "'b'")

    assert _line([BODY, TEXT, old], [BODY, other, new]) == (
        "file f.txt changed; new input: no earlier task has text 'b'"
    )
    before, after = ([_of("file", f"{n}.txt", side) for n in range(40)] for side in "ab")
    assert _line([BODY, *before], [BODY, *after]) == (
        "file 0.txt changed and file 1.txt changed, and 38 more"
    )


def test_inputs_that_read_alike_are_counted_and_named_once() -> None:
    said = new_inputs((), ["count pickle 8 B", "count pickle 8 B", "n 1", "count pickle 8 B"])

    assert said == "4 new inputs: count pickle 8 B, n 1, ..."
