"""The verbs that keep a cache small and sound, as a notebook and a shell say them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcache.cli import main
from nbcache.errors import UsageError
from nbcache.model.digest import blob_digest
from tests.notebook.shells import Shell, shell_in


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as opened:
        opened.ok("%channel src = of(1, 2)")
        opened.ok("%%process big(v) -> data from src\ndata = bytes([v]) * 100_000")
        opened.ok(
            "%%process noise(data) -> n from big\nimport os\nn = os.urandom(8).hex() + str(data[0])"
        )
        yield opened


def test_a_cache_is_looked_at_pinned_cleaned_checked_and_repaired(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.ok("%nbcache run --retention success=30d")

    used = shell.ok("%nbcache du").text
    assert "big" in used
    assert "200 kB" in used
    assert "a month on S3 Standard ($0.023 per GB" in used

    choices = shell.ok("%nbcache clean").text
    assert "%nbcache clean --older-than 30d" in choices
    assert "say what may go" in choices

    assert "task big[v=1]" in shell.ok("%nbcache pin big 0 --reason 'figure 2'").text
    assert "figure 2" in shell.ok("%nbcache pin").text

    would = shell.ok("%nbcache clean --process big").text
    assert "would take away what is kept of 1 task, 100 kB; to compute them again takes" in would
    assert "kept: 1 pinned" in would
    assert "add -f (--force)" in would
    assert "took away" in shell.ok("%nbcache clean --process big -f").text

    shell.ok("%nbcache run")
    repeated = shell.ok("%nbcache check --repeat -n all").text
    assert "big: 2 of 2 tasks run again, all came out the same" in repeated
    assert "n differs in 2: noise" in repeated
    assert shell.ok("%nbcache check --repeat noise --json").value[0]["reproducible"] is False

    blob = shell.session.cache.blobs.path(blob_digest(b"\2" * 100_000))
    blob.chmod(0o644)
    blob.write_bytes(b"x" * 100_000)
    assert main(["verify"]) == 3
    assert "--repair" in capsys.readouterr().out
    assert main(["verify", "--repair"]) == 0
    assert "put aside" in capsys.readouterr().out
    assert main(["verify"]) == 0
    capsys.readouterr()

    assert main(["clean", "--older-than", "0s", "-f", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"] is True
    assert told["pinned"] == 1
    assert main(["unpin", "big", "0"]) == 0
    assert main(["clean", "--compact", "-f"]) == 0
    assert "segment" in capsys.readouterr().out


def test_each_option_of_a_clean_up_chooses_what_its_help_says(shell: Shell) -> None:
    shell.ok("first = %nbcache run")
    shell.ok("%%process odd(v) from src --on_error ignore\nassert v == 1\nv")
    shell.ok("%nbcache run odd")
    name = shell.ok("first.name").value
    hash_ = shell.ok("%nbsql SELECT short FROM tasks WHERE task_id = 'big[1]'").value.iloc[0, 0]

    def chosen(words: str) -> dict[str, int]:
        told = shell.ok(f"%nbcache clean {words} --json").value
        return {each["process"]: each["results"] for each in told["processes"]}

    assert chosen(f"--run {name}") == {"big": 2, "noise": 2}
    assert chosen("--process odd --process big") == {"big": 2, "odd": 2}
    assert chosen(f"--hash {hash_}") == {"big": 1}
    assert chosen("--status ignored") == {"odd": 1}
    assert chosen("--incomplete") == {"odd": 1}
    assert chosen("--older-than 0s --status completed") == {"big": 2, "noise": 2, "odd": 1}
    assert chosen("--older-than 1d") == {}
    assert chosen("--keep-last 1") == {"big": 2, "noise": 2}
    assert chosen("--max-size 200kB --process big") == {"big": 1}
    assert chosen("--expired") == {}


@pytest.mark.parametrize(
    "words",
    [
        "clean --older-than soon",
        "clean --max-size big",
        "clean --keep-last -3",
        "clean --status done",
        "clean --process bigg",
        "clean --hash bigg",
        "clean -n -f",
        "check big",
        "check --repeat -n some",
        "runs -n 0",
        "pin big 0 --process big",
        "pin --team big 0",
        "pin --list big 0",
        "pin --reason keep",
        "run --retention fortnight",
        "use elsewhere --retention fortnight",
    ],
)
def test_what_is_not_understood_is_said_and_nothing_happens(shell: Shell, words: str) -> None:
    answer = shell.run(f"%nbcache {words}")

    assert isinstance(answer.error, UsageError), answer.error
    assert shell.session.last_run is None
