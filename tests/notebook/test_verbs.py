from __future__ import annotations

import pathlib

import pytest

from nbcache.errors import UsageError
from nbcache.notebook import verbs
from nbcache.notebook.verb_table import VERBS


def test_a_line_becomes_verb_words_and_options() -> None:
    parsed = verbs.parse_line('run fit "best" --fresh -p depth=3 -p name="a b"')

    assert parsed.verb.name == "run"
    assert parsed.words == ("fit", "best")
    assert "--fresh" in parsed
    assert parsed.parameters() == {"depth": "3", "name": "a b"}


def test_the_shell_and_the_notebook_share_the_parser() -> None:
    assert verbs.parse_argv(["log", "last", "--json"]) == verbs.parse_line("log last --json")


def test_an_unknown_verb_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no verb 'rum'; did you mean \"run\""):
        verbs.parse_line("rum fit")


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='`run` has no option --frsh; did you mean "--fresh"'):
        verbs.parse_line("run --frsh")
    with pytest.raises(UsageError, match="`run` has no option --foo; it takes --parameter"):
        verbs.parse_line("run --foo")


def test_a_verb_of_the_other_place_says_where_it_works() -> None:
    with pytest.raises(UsageError, match="works in a notebook"):
        verbs.parse_argv(["try", "fit"])
    with pytest.raises(UsageError, match="no option --verbose"):
        verbs.parse_line("run --verbose")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("use", "usage: %nbcache use PLACE"),
        ("use a b", "usage: %nbcache use PLACE"),
        ("run --fresh=yes", "takes no value"),
        ("why fit --run", "--run takes RUN"),
        ("run -p depth", "NAME=VALUE"),
        ("run --fresh --fresh", "given twice"),
        ('run "fit', "no closing quotation"),
        ("sql", "usage: %nbcache sql"),
        ("lineage fit --license https://x.org", "--license goes with --crate: %nbcache lineage"),
    ],
)
def test_wrong_usage_says_what_is_right(line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        verbs.parse_line(line).parameters()


def test_a_query_is_taken_as_it_is_written() -> None:
    query = "SELECT '--json', \"a b\" FROM tasks -- all of them"

    assert verbs.parse_line(f"sql {query}").words == (query,)
    assert "--json" in verbs.parse_line(f"sql --json {query}")
    assert verbs.parse_line("sql --json \"SELECT 'a'\"").words == ("SELECT 'a'",)
    assert verbs.parse_line(r'sql "SELECT \"a b\" FROM tasks"').words == (
        'SELECT "a b" FROM tasks',
    )
    assert verbs.parse_line("""sql 'SELECT "a"'""").words == ('SELECT "a"',)
    doubled = """sql "SELECT 1 AS ""my n"", '' AS b" """
    assert verbs.parse_line(doubled).words == ("""SELECT 1 AS "my n", '' AS b""",)
    assert verbs.parse_line("sql 'it''s' \n").words == ("it's",)


def test_negative_numbers_are_words_and_a_double_dash_ends_options() -> None:
    assert verbs.parse_line("why fit -3").words == ("fit", "-3")
    assert verbs.parse_line("why fit -- --odd").words == ("fit", "--odd")


def test_every_verb_has_help_in_every_place_where_it_works() -> None:
    for verb in VERBS.values():
        for place in verb.places:
            text = verbs.help_of(verb, place)
            assert verb.summary in text
            assert all(flag.name in text for flag in verb.flags_at(place))
            assert verb.name in verbs.overview(place)


def test_the_page_of_commands_is_made_from_the_table() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "commands.md"

    assert page.read_text(encoding="utf-8") == verbs.markdown()
