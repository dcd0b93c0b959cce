"""Programs on PATH and scripts beside the notebook: replaced, exactly their processes run again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernels.scenarios import Change, Scenario, Seen, check

_PATH = {"PATH": "{folder}/tools:{folder}/../programs:" + os.environ["PATH"]}
_PYTHON = f"#!{sys.executable}\nfrom numpy import array\nprint(array({{}}))\n"
_SHELL = "#!/bin/sh\necho {}\n"


def _programs(texts: dict[str, str]) -> Change:
    """Write programs, by their names as seen from the notebook's folder."""

    def change(folder: Path) -> None:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)

    return change


def _replaced(
    number: int, name: str, body: str, text: str = _SHELL, files: dict[str, str] | None = None
) -> Scenario:
    """A program TOOL is replaced by another one."""
    tool = f"program{number}"
    return Scenario(
        name=name,
        body=body.replace("TOOL", tool),
        header="(v) -> out from one --bash",
        files={name: text.replace("TOOL", tool) for name, text in (files or {}).items()},
        prepare=_programs({f"tools/{tool}": text.format(1)}),
        change=_programs({f"tools/{tool}": text.format(2)}),
        env=_PATH,
        because=f"tool {tool}",
        back=False,
    )


PROGRAMS = [
    _replaced(1, "behind flags with a value", "out=$(echo a | xargs -n 1 -I X TOOL X)"),
    _replaced(2, "in the list of a loop", "for each in TOOL; do out=$($each); done"),
    _replaced(3, "in a sourced file", ". ./a3.sh\nout=$(g)", files={"a3.sh": "g() { TOOL; }\n"}),
    _replaced(4, "in a called script", "out=$(bash a4.sh)", files={"a4.sh": "TOOL\n"}),
    _replaced(5, "written in python by the user", "out=$(TOOL)", _PYTHON),
    _replaced(6, "behind a limit of time", "out=$(timeout -k 3 5s TOOL)"),
    Scenario(
        name="behind a program that is a script",
        body="out=$(outer7)",
        header="(v) -> out from one --bash",
        prepare=_programs({"../programs/outer7": "exec inner7", "../programs/inner7": "echo 1"}),
        change=_programs({"../programs/inner7": "echo 2"}),
        env=_PATH,
        because="tool inner7",
        back=False,
    ),
    Scenario(
        name="beside a program that is a script",
        body="out=$(outer8)",
        header="(v) -> out from one --bash",
        prepare=_programs(
            {"tools/outer8": 'exec $(dirname "$0")/../aside/inner8', "aside/inner8": "echo 1"}
        ),
        change=_programs({"aside/inner8": "echo 2"}),
        env=_PATH,
        because="tool outer8: ../aside/inner8",
        back=False,
    ),
    Scenario(
        name="program that is a script in another place",
        body="out=$(outer10)",
        header="(v) -> out from one --bash",
        prepare=_programs(
            {
                "../programs/outer10": 'exec "$(dirname "$0")/../libexec/inner10"',
                "../libexec/inner10": "echo 1",
            }
        ),
        change=_programs(
            {
                "tools/outer10": 'exec "$(dirname "$0")/../libexec/inner10"',
                "libexec/inner10": "echo 1",
            }
        ),
        env=_PATH,
        back=False,
    ),
    Scenario(
        name="file named like one beside a program",
        body="out=$(outer9)",
        header="(v) -> out from one --bash",
        prepare=_programs({"../programs/outer9": "[ -e lib9.sh ] && . ./lib9.sh; echo 1"}),
        files_after={"lib9.sh": "echo 2"},
        env=_PATH,
        back=False,
    ),
    Scenario(
        name="script that a script calls",
        body="out=$(bash outer.sh)",
        header="(v) -> out from one --bash",
        files={"outer.sh": "bash inner.sh\n", "inner.sh": "echo 1\n"},
        files_after={"inner.sh": "echo 2\n"},
        because="file inner.sh",
        back=False,
    ),
    Scenario(
        name="script that nobody calls",
        body="out=$(bash outer2.sh)",
        header="(v) -> out from one --bash",
        files={"outer2.sh": "# bash other.sh\necho 1\n", "other.sh": "echo 1\n"},
        files_after={"other.sh": "echo 2\n"},
        back=False,
    ),
]


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in PROGRAMS])
def test_a_script_runs_again_when_what_it_calls_is_another(
    played: Callable[[list[Scenario]], dict[str, Seen]], scenario: Scenario
) -> None:
    check(scenario, played(PROGRAMS))
