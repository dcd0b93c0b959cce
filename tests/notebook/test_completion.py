"""What Tab offers on the lines of nbcache."""

from __future__ import annotations

import pytest

from nbcache import process
from nbcache.notebook.completion import command_words
from nbcache.notebook.verbs import VERBS

RUNS = ("calm-otter", "calm-mole", "wise-hen")


def offered(line: str) -> list[str]:
    return command_words(line, {}, lambda: RUNS)


@pytest.mark.parametrize("name", [v.name for v in VERBS.values() if v.completes == "runs"])
def test_every_verb_that_takes_a_run_offers_their_names(name: str) -> None:
    if "notebook" in VERBS[name].places:
        assert offered(f"%nbcache {name} ") == sorted([*RUNS, "last"])
        assert offered(f"%nbcache {name} ca") == ["calm-mole", "calm-otter"]


@pytest.mark.parametrize("name", list(VERBS))
def test_every_option_that_takes_a_run_offers_their_names(name: str) -> None:
    for flag in VERBS[name].flags_at("notebook"):
        if flag.value == "RUN":
            assert offered(f"%nbcache {name} {flag.name} wi") == ["wise-hen"]


def test_options_that_take_a_process_a_label_or_a_format_offer_those_there_are() -> None:
    @process(label="big")
    def align() -> int:
        return 1

    def offered(line: str) -> list[str]:
        return command_words(line, {"align": align}, lambda: RUNS)

    assert offered("%nbcache clean --process ") == ["align"]
    assert offered("%nbcache run --label b") == ["big"]
    assert offered("%nbcache sql --format p") == ["polars"]


def test_an_option_with_another_value_offers_none() -> None:
    assert offered("%nbcache resume -p ") == []
    assert offered("%nbcache resume --max-parallel ") == []


def test_verbs_whose_words_are_runs_say_so() -> None:
    for verb in VERBS.values():
        first = verb.words.strip("[]").split(" ")[0].rstrip(".")
        assert (verb.completes == "runs") is first.startswith("RUN"), verb.name
