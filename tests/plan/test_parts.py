"""Bodies in parts: a script for each case, and a stub."""

from __future__ import annotations

import pytest

from nbcache.errors import DeclarationError
from nbcache.model.process import Dynamic, ProcessDecl
from nbcache.plan.language.header import parse_process_cell


def decl(body: str, header: str = "work(mode) --bash") -> ProcessDecl:
    return parse_process_cell(header, body)


def test_scripts_have_their_conditions_lines_and_interpreters() -> None:
    found = decl(
        "#| cpus: 2\n"
        "#| if: mode == 'a'\n"
        "echo a\n"
        "#| elif: mode in 'bc'\n"
        "\n"
        "#!/usr/bin/env python3\n"
        "print(1)\n"
        "#| else:\n"
        "# none of them\n"
        "echo d\n"
        "#| stub:\n"
        "echo stub"
    )
    first, second, third = found.scripts
    assert (first.when, first.body, first.body_line) == (Dynamic("mode == 'a'"), "echo a", 4)
    assert (second.interpreter, second.body, second.body_line) == (("python3",), "print(1)", 8)
    assert (third.when, third.body_line) == (None, 10)
    assert found.stub == "echo stub"
    assert found.directives.cpus == 2


def test_scripts_that_all_name_an_interpreter_need_none_in_the_header() -> None:
    found = decl(
        "#| if: mode\n#!/bin/bash\necho a\n#| else:\n#!/usr/bin/perl\nprint 1", "work(mode)"
    )
    assert found.language == "script"


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("echo x\n#| if: mode\necho a", 3, "above the first of several scripts"),
        ("#| else:\necho a", 2, "no #| if: above"),
        ("#| if: mode\necho a\n#| if: not mode\necho b", 4, "one chain"),
        ("#| if: mode\necho a\n#| elif: mode\necho b", 4, "stands above already"),
        ("#| if: mode\necho a\n#| else:\necho b\n#| elif: 1\necho c", 6, "nothing can follow"),
        ("#| if: mode\necho a\n#| else: mode\necho b", 4, "takes no condition"),
        ("#| if:\necho a", 2, "needs a condition"),
        ("#| if: mode ==\necho a", 2, "not a Python expression"),
        ("#| if: mode\n# nothing\n#| else:\necho b", 2, "no script below"),
        ("#| if: other\necho a", 2, '"other" is none of its inputs'),
        ("#| if: task.attempt > 1\necho a", 2, '"task" is none of its inputs'),
        ("#| if: mode\n#!\necho a", 3, "no interpreter"),
        ("echo a\n#| stub:\n#| if: mode\necho b", 3, "a stub is one script"),
    ],
)
def test_lines_that_divide_a_body_wrongly_are_errors_at_their_line(
    body: str, line: int, said: str
) -> None:
    with pytest.raises(DeclarationError) as raised:
        decl(body)
    assert said in raised.value.message
    assert raised.value.line == line


def test_a_python_body_is_told_to_use_a_plain_if() -> None:
    with pytest.raises(DeclarationError, match="in a Python body, a plain if"):
        decl("#| if: mode\nx = 1\n#| else:\nx = 2", "work(mode)")
