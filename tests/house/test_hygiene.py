"""What must not lie about in the repository."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from pathlib import Path

from tests.house.reading import PACKAGE, ROOT, text_files

# Written in pieces, so that this file is not found by its own search.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
        ("conda", "anaconda", "org"),
    )
]
LEFTOVERS = [r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bX" r"XX\b"]
LONGEST_FILE, LONGEST_FUNCTION = 700, 70  # lines
HOMES = r"(?<![\w.])/(?:home|Users|root)/\w+"


def lines_with(pattern: str) -> list[str]:
    """Return "file:line: text" for every line of the repository that matches."""
    wanted = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, text in text_files()
        if path.name != "LICENSE"
        for number, line in enumerate(text.split("\n"), 1)
        if wanted.search(line)
    ]


def long_functions(text: str) -> list[int]:
    """Return the first lines of functions that are too long."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    parent = ROOT.parent
    shared = parent in (Path("/"), Path(tempfile.gettempdir()))
    # Invented paths may begin alike; what lies beside the repository here is no invention.
    beside = [ROOT] if shared else sorted(parent.iterdir())
    names = "|".join(rf"(?<![\w.]){re.escape(str(path))}(?![\w-])" for path in beside)

    assert lines_with(f"{names}|{HOMES}") == []


def test_no_file_names_a_package_registry() -> None:
    assert lines_with("|".join(map(re.escape, REGISTRY_HOSTS))) == []


def test_nothing_is_left_to_do_in_a_comment() -> None:
    assert lines_with("|".join(LEFTOVERS)) == []


def test_no_test_sleeps() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, text in text_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "tests"
        for line in sleeping_lines(text)
    ]

    assert found == []


def test_a_sleep_is_found_however_it_is_written() -> None:
    text = "import time\ntime.sleep(1)\nfrom time import sleep\ncell = 'time.sleep(1)'\n"

    assert sleeping_lines(text) == [2, 3]


def sleeping_lines(text: str) -> list[int]:
    """Return where a program uses time.sleep; text that it only quotes does not count."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                lines.append(node.lineno)
            case ast.ImportFrom(module="time") if any(each.name == "sleep" for each in node.names):
                lines.append(node.lineno)
    return sorted(lines)


def test_no_file_of_the_package_and_no_function_in_it_has_grown_too_long() -> None:
    """From 400 lines on a file, and from 60 on a function, is a question; these are the answer."""
    code = {
        path.relative_to(ROOT): text
        for path, text in text_files()
        if path.is_relative_to(PACKAGE) and path.suffix in (".py", ".js")
    }

    assert [name for name, text in code.items() if text.count("\n") > LONGEST_FILE] == []
    assert [
        f"{name}:{line}"
        for name, text in code.items()
        if name.suffix == ".py"
        for line in long_functions(text)
    ] == []


def test_a_long_function_is_found() -> None:
    lines = "    x = 1\n" * LONGEST_FUNCTION

    assert long_functions(f"y = 1\ndef f():\n{lines}") == [2]
    assert long_functions(f"async def f():\n{lines[10:]}") == []


def test_notebooks_are_committed_without_outputs() -> None:
    books = [path for path, _ in text_files() if path.suffix == ".ipynb"]
    assert books
    for book in books:
        cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
        ran = [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")]
        assert ran == [], f"{book.name}: clear the outputs of {ran}"
