"""What Tab offers on the lines of nbcache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nbcache import process
from nbcache.errors import UsageError
from nbcache.notebook.completion import command_words
from nbcache.notebook.query_result import SHELL_FORMATS
from nbcache.notebook.shell_completion import offered as shell_offers
from nbcache.notebook.shell_completion import script_for
from nbcache.notebook.verb_table import VERBS
from nbcache.store.cache import Cache
from tests.engine.story import Story, tell_two_runs

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
        first = verb.words(verb.places[0]).strip("[]").split(" ")[0].rstrip(".")
        assert (verb.completes == "runs") is first.startswith("RUN"), verb.name


def test_a_shell_offers_verbs_options_and_the_runs_and_processes_of_the_cache_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shell_offers("nbcache re") == ["relaunch", "report", "resume"]
    assert shell_offers("nbcache resume --max-") == ["--max-errors", "--max-parallel"]
    assert shell_offers("nbcache try ") == []
    assert shell_offers("nbcache help t") == ["trust"]  # and no verb of notebooks
    assert shell_offers("nbcache show ") == ["last"]
    with Cache.open(tmp_path / "there") as cache:
        tell_two_runs(Story(cache))
    assert shell_offers("nbcache show --cache there ") == ["bold-ant", "calm-otter", "last"]
    assert shell_offers("nbcache clean --cache there --process f") == ["fit"]
    for named in ("--cache=there", "--cache 'there'", "--cache ~/there"):
        assert shell_offers(f"nbcache show {named} b") == ["bold-ant"]
    assert shell_offers("nbcache completion ") == ["bash", "fish", "zsh"]
    assert shell_offers("nbcache sql --format ") == sorted(SHELL_FORMATS)
    assert shell_offers("nbcache run ") == []  # a file: the shell knows
    (tmp_path / "there" / "nbcache.json").write_text("nonsense")
    assert shell_offers("nbcache show --cache there ") == []


# What each shell does when Tab is pressed behind `nbcache WORDS`; compdef and compadd are zsh's own
# only while somebody types.
PRESSED = {
    "bash": """source <(nbcache completion bash); complete -p nbcache >&2 || exit
        COMP_LINE="$1 x"; COMP_POINT=${#1}; _nbcache_complete ./nbcache
        printf '%s\n' "${COMPREPLY[@]}" """,
    "zsh": """compdef() {}; compadd() { print -l -- ${(P)2} }; _files() { print -l -- * }
        source <(nbcache completion zsh)
        words=(./nbcache ${(z)${1#nbcache }}); CURRENT=$#words; _nbcache_complete""",
    "fish": "nbcache completion fish | source; complete --do-complete $argv[1]",
}


@pytest.mark.parametrize("shell", PRESSED)
def test_what_a_shell_reads_completes_there(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "nbcache").write_text(f'#!/bin/sh\nexec {sys.executable} -m nbcache "$@"\n')
    (tmp_path / "nbcache").chmod(0o755)
    (tmp_path / "report.html").touch()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def offered(line: str) -> list[str]:
        words = [shell, "-c", PRESSED[shell], *(() if shell == "fish" else (shell,)), line]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=True)
        return done.stdout.decode().split()

    assert offered("nbcache re") == ["relaunch", "report", "resume"]  # and no file
    if shell != "bash":  # which completes files itself
        assert "report.html" in offered("nbcache run re")


def test_a_shell_that_nobody_has_heard_of_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match="bash, zsh, fish"):
        script_for("tcsh")
