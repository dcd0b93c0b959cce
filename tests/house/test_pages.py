"""README and docs tell the truth: their links lead somewhere, their commands and examples work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat
import pytest

from nbcache.engine.declared.factories import Factories
from nbcache.notebook import verbs
from nbcache.notebook.verb import Verb
from nbcache.notebook.verb_table import VERBS
from nbcache.plan.dataflow.channel import Channel
from nbcache.plan.language.options import OPTIONS
from tests.executing import execute
from tests.house.reading import ROOT, fenced, pages, prose, shell_lines

LINK = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")
PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
WITH_EXAMPLES = [page for page in pages() if fenced(page, "ipython")]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in found}


@PAGES
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["to"].partition("#")
        if target.startswith("https://"):
            continue  # another's house; nothing is fetched in a test
        assert "://" not in target, match[0]
        found = (page.parent / target) if target else page
        assert found.exists(), f"{page.name}: {match[0]}"
        if anchor:
            assert anchor in headings(found), f"{page.name}: {match[0]}"


def test_every_command_of_the_pages_is_one_that_there_is() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    seen = set()
    for page, words in shell_lines():
        place = f"{page}: {' '.join(words)}"
        seen.add(words[0])
        if words[0] == "make":
            assert set(words[1:]) <= targets, place
        elif words[0] == "nbcache":
            verbs.parse_argv(words[1:])
        elif words[0] == "cd":
            assert (ROOT / words[1]).is_dir(), place
        elif words[0] == "pip":
            asked = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert {each for group in asked for each in group.split(",")} <= set(extras), place
        else:
            pytest.fail(f"{place}: no test knows {words[0]}")

    assert {"make", "nbcache"} <= seen


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(block) for block in fenced(page, "ipython")]
    notebook = nbformat.v4.new_notebook(cells=cells)

    execute(notebook, tmp_path)

    assert any(cell.outputs for cell in notebook.cells)


def test_the_readme_holds_an_example() -> None:
    assert ROOT / "README.md" in WITH_EXAMPLES


def test_the_page_of_commands_is_what_the_verb_table_makes() -> None:
    written = (ROOT / "docs/commands.md").read_text(encoding="utf-8")

    assert written == verbs.markdown(), (
        "python -m nbcache.notebook.verbs > docs/commands.md makes it anew"
    )


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_verb_and_option_is_documented(verb: Verb) -> None:
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")

    assert f"\n## {verb.name}\n" in page
    section = page.split(f"\n## {verb.name}\n", 1)[1].split("\n## ", 1)[0]
    assert verb.summary in section
    for flag in verb.flags:
        assert flag.name in section
        assert flag.told in section


def test_every_directive_is_documented_and_no_other() -> None:
    text = (ROOT / "docs/directives.md").read_text(encoding="utf-8")
    table = text.split("| directive |", 1)[1].split("\n\n", 1)[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.M)

    assert sorted(documented) == sorted(OPTIONS)


def test_every_factory_and_operator_is_documented() -> None:
    text = (ROOT / "docs/language.md").read_text(encoding="utf-8")
    operators = [
        name
        for name, member in vars(Channel).items()
        if callable(member) and not name.startswith("_")
    ]
    assert "collect" in operators

    missing = [name for name in (*operators, *Factories.names) if f"`{name}(" not in text]

    assert [name for name in missing if f", `{name}(" not in text] == []


def test_every_bench_is_in_the_table_of_measurements() -> None:
    folder = ROOT / "tests/bench"
    listed = re.findall(r"^\| `(\w+)` \|", (folder / "README.md").read_text("utf-8"), re.M)

    assert sorted(listed) == sorted(
        path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py")
    )
