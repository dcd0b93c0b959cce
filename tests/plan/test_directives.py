"""Options, sizes, times, expressions and templates."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcache.errors import OptionError
from nbcache.model.digest import identity_digest
from nbcache.model.process import Directives, Dynamic, Option
from nbcache.model.value import RemoteFile, Stored
from nbcache.plan.language.directives import parse_options
from nbcache.plan.language.option_values import evaluate_option
from nbcache.plan.language.options import OPTIONS
from nbcache.plan.language.quantities import (
    evaluate_dynamic,
    parse_duration,
    parse_size,
    render_pattern,
    render_template,
    template_fields,
    with_literals,
)


def options(**values: str) -> list[Option]:
    return [Option(key, text, 1, 10 + at) for at, (key, text) in enumerate(values.items())]


def directives(**values: str) -> Directives:
    return parse_options(options(**values))[0]


def fault(given: Sequence[Option]) -> OptionError:
    with pytest.raises(OptionError) as caught:
        parse_options(given)
    return caught.value


TASK = SimpleNamespace(attempt=3)

# Sizes and times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GB", 4_000_000_000),
        ("4 gb", 4_000_000_000),
        ("4G", 4_000_000_000),
        ("1.5KB", 1500),
        ("2GiB", 2 * 1024**3),
        ("512 MiB", 512 * 1024**2),
        ("1TB", 10**12),
        ("100B", 100),
        ("1_000", 1000),
    ],
)
def test_a_size_is_read_in_bytes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90.0),
        ("90", 90.0),
        ("2h", 7200.0),
        ("30 min", 1800.0),
        ("5m", 300.0),
        ("1d 4h", 100_800.0),
        ("1h30m", 5400.0),
        ("250 ms", 0.25),
        ("1 week", 604_800.0),
    ],
)
def test_a_time_is_read_in_seconds(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "4GX", "-4GB", "4GB 2MB", "four"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "h", "4x", "1 2", "2h 3", "-1s", "2h!"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_duration(text)


# Options


def test_every_field_of_directives_has_an_option_and_its_default() -> None:
    plain = Directives()

    for name in plain.__dataclass_fields__.keys() - {"cache_of"}:  # a part of what `cache` says
        assert OPTIONS[name].default == getattr(plain, name)


def test_options_are_read_by_their_forms() -> None:
    read = directives(
        cpus="2",
        memory="4GB",
        time="1h",
        max_forks="3",
        tag="{x}-{{",
        cache="lenient",
        env="A, B,A",
        seed="-7",
        platform="",
        ignore="log",
    )

    assert read == Directives(
        cpus=2,
        memory=4_000_000_000,
        time=3600.0,
        max_forks=3,
        tag="{x}-{{",
        cache="lenient",
        env=("A", "B"),
        seed=-7,
        platform=True,
        ignore=("log",),
    )


def test_expressions_stay_dynamic_and_constant_ones_are_worked_out_at_once() -> None:
    read = directives(cpus="task.attempt", memory="2 * 4GB", time="1h * task.attempt", when="x > 1")

    assert read.cpus == Dynamic("task.attempt")
    assert read.memory == 8_000_000_000
    assert read.time == Dynamic("1h * task.attempt")
    assert read.when == Dynamic("x > 1")


def test_dashes_and_underscores_in_a_key_are_the_same() -> None:
    assert parse_options([Option("max-forks", "3", 1, 0)])[0].max_forks == 3


def test_retries_imply_retry_unless_something_else_is_said() -> None:
    assert directives(retries="2").on_error == "retry"
    assert directives(retries="2", on_error="ignore").on_error == "ignore"
    assert directives().on_error == "continue"


@pytest.mark.parametrize(
    ("given", "argv"),
    [
        (options(bash=""), ("bash", "-euo", "pipefail")),
        (options(script="Rscript"), ("Rscript",)),
        (options(script="python3 -I 'a b'"), ("python3", "-I", "a b")),
        (options(script="/usr/bin/env perl"), ("perl",)),
    ],
)
def test_an_interpreter_makes_the_body_a_script(given: list[Option], argv: tuple[str, ...]) -> None:
    _, language, interpreter = parse_options(given)

    assert (language, interpreter) == ("script", argv)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cpus": "0"}, "--cpus: it has to be 1 or more, not 0"),
        ({"cpus": "2.5"}, "--cpus '2.5' gives 2.5: a whole number is needed"),
        ({"max_forks": "many"}, "--max_forks: 'many' is not a whole number"),
        ({"memory": "4GX"}, "--memory: '4GX' is not a size"),
        ({"memory": "0"}, "--memory: it has to be above 0"),
        ({"time": "2 fortnights"}, "--time: '2 fortnights' is not a time"),
        ({"on_error": "retyr"}, 'did you mean "retry"?'),
        ({"cache": "depe"}, 'did you mean "deep"?'),
        ({"when": "x >"}, "--when: 'x >' is not a Python expression"),
        ({"tag": "{x[0]}"}, "--tag: {x[0]} is not a field"),
        ({"env": "A B"}, "--env: 'A B' is not a name"),
        ({"env": ""}, "--env needs a value"),
        ({"bash": "yes"}, "--bash is a flag"),
        ({"bash": "", "script": "R"}, "the body has two interpreters"),
        ({"bash": "", "ignore": "x"}, "--ignore is for Python bodies"),
        ({"script": "'"}, "no interpreter"),
        ({"cpu": "1"}, 'there is no option "--cpu"'),
        ({"zzzzz": "1"}, 'there is no option "--zzzzz"'),
    ],
)
def test_a_wrong_option_says_what_and_where(values: dict[str, str], message: str) -> None:
    error = fault(options(**values))

    assert message in error.message
    assert error.line == 1
    assert error.column == 9 + len(values)


def test_an_option_given_twice_names_the_line_of_the_first() -> None:
    error = fault([Option("cpus", "1", 1, 20), Option("cpus", "2", 4, 3)])

    assert (error.line, error.column) == (4, 3)
    assert (error.message, error.hint) == ("--cpus is given twice", "the first is in line 1")


# Expressions


def test_sizes_and_times_are_literals_in_an_expression() -> None:
    assert evaluate_option("memory", "4GB * task.attempt", {"task": TASK}) == 12_000_000_000
    assert evaluate_option("time", "1d 4h if task.attempt > 2 else 90s", {"task": TASK}) == 100_800
    assert evaluate_option("time", "min(task.attempt * 30 min, 1h)", {"task": TASK}) == 3600.0
    assert evaluate_option("cpus", "2 ** 2", {}) == 4


def test_m_is_minutes_in_a_time_and_megabytes_in_a_size() -> None:
    assert evaluate_dynamic("5m", {}, "time") == 300.0
    assert evaluate_dynamic("5m", {}, "size") == 5_000_000


def test_what_stands_in_a_string_is_no_literal() -> None:
    assert with_literals('"4GB" + x4GB + 2h', "expression") == '"4GB" + x4GB + 7200.0'


def test_a_size_may_be_given_as_text_or_left_out_by_an_expression() -> None:
    assert evaluate_option("memory", '"4GB" if big else None', {"big": True}) == 4_000_000_000
    assert evaluate_option("memory", '"4GB" if big else None', {"big": False}) is None


def test_an_action_may_depend_on_the_attempt() -> None:
    text = '"retry" if task.attempt < 3 else "ignore"'

    assert evaluate_option("on_error", text, {"task": TASK}) == "ignore"
    assert evaluate_option("on_error", text, {"task": SimpleNamespace(attempt=1)}) == "retry"


def test_a_guard_sees_the_inputs_inside_comprehensions_too() -> None:
    assert evaluate_option("when", "any(x > limit for x in xs)", {"xs": [1, 5], "limit": 3}) is True
    assert evaluate_option("when", "alpha > 0.1", {"alpha": 0.05}) is False


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("when", "alpha > 0.1", "--when 'alpha > 0.1': NameError: name 'alpha' is not defined"),
        ("memory", "'much'", "--memory \"'much'\" gives 'much'"),
        ("memory", "-4GB", "it has to be above 0"),
        ("cpus", "0.5", "a whole number is needed"),
        ("cpus", "True", "a number is needed"),
        ("time", "[1]", "a number is needed"),
        ("on_error", "'again'", "it has to be one of continue, stop"),
        ("on_error", "1", "a text is needed"),
        ("when", "1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_expression_that_gives_nothing_usable_names_option_and_text(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        evaluate_option(name, text, {"task": TASK})

    assert message in str(caught.value)
    assert f"--{name}" in str(caught.value)


def test_a_name_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(OptionError) as caught:
        evaluate_option("when", "aplha > 1", {"task": TASK, "alpha": 1})

    assert caught.value.hint == "it may use alpha, task"


# Templates


def test_a_template_puts_values_in_literally() -> None:
    values = {"x": "a {y} $(rm) %s", "y": 3}

    assert render_template("{x}-{y}-{{z}}", values) == "a {y} $(rm) %s-3-{z}"


def test_a_path_stands_for_its_name_and_its_parts() -> None:
    values: dict[str, object] = {"r": pathlib.Path("/data/ggal_1.fq.gz"), "s": "d/x.csv"}

    assert render_template("{r}|{r.name}|{r.stem}|{r.suffix}|{s.stem}|{s}", values) == (
        "ggal_1.fq.gz|ggal_1.fq.gz|ggal_1.fq|.gz|x|d/x.csv"
    )


def test_stored_and_remote_files_stand_for_their_names() -> None:
    stored = Stored(identity_digest(b""), "file", "path", 0, name="out.bam")
    remote = RemoteFile("s3://bucket/in.bam")

    assert render_template("{a.stem} {b} {a}", {"a": stored, "b": str(remote.name)}) == (
        "out in.bam out.bam"
    )
    assert render_template("{b}", {"b": remote}) == "in.bam"


def test_what_is_put_into_a_file_name_pattern_matches_only_itself() -> None:
    pattern = render_pattern("quant_{sample}*", {"sample": "a[1]*"})

    assert fnmatchcase("quant_a[1]*.txt", pattern)
    assert not fnmatchcase("quant_a1x.txt", pattern)


def test_an_unknown_name_in_a_template_lists_the_names() -> None:
    with pytest.raises(OptionError) as caught:
        render_template("{smaple}", {"sample": 1, "index": 2})

    assert caught.value.message == "{smaple} in '{smaple}' names no input"
    assert caught.value.hint == 'did you mean "sample"? the inputs are: index, sample'


@pytest.mark.parametrize("template", ["{", "}", "{x[0]}", "{x.parent}", "{x:03d}", "{}", "{x!r}"])
def test_what_is_no_field_is_refused(template: str) -> None:
    with pytest.raises(OptionError):
        render_template(template, {"x": 1})
    with pytest.raises(ValueError):
        template_fields(template)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_can_be_put_into_any_escaped_text(around: str, value: str) -> None:
    escaped = around.replace("{", "{{").replace("}", "}}")

    assert render_template(escaped + "{x}", {"x": value}) == around + value


@given(st.sampled_from(sorted(OPTIONS)), st.text(max_size=30))
def test_no_text_of_an_option_fails_with_anything_but_an_option_error(name: str, text: str) -> None:
    try:
        read = parse_options([Option(name, text, 1, 0)])
    except OptionError as error:
        read = None
        said = str(error)
    assert read is not None or said
