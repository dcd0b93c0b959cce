"""Scripts beside the notebook that a body calls by name: there, and counted by content."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nbcache.engine.identity.called_files import called_files
from nbcache.model.task import RunStatus
from nbcache.plan.language.script import script_facts
from tests.engine.notebooks import Notebook

HELPERS = {
    "count.sh": "echo counted",
    "lib.sh": "greet() { echo greeted; }",
    "plot.py": "print('plotted')",
    "bin/tool": "#!/bin/sh\necho tooled",
    "bin/other": "#!/bin/sh\necho other",
    "own": "#!/bin/sh\necho owned",
}


@pytest.fixture
def helped(notebook: Notebook) -> Notebook:
    for name, text in HELPERS.items():
        path = notebook.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
        path.chmod(0o755 if path.read_bytes().startswith(b"#!") else 0o644)
    return notebook


def test_what_a_program_calls_in_its_own_prefix_is_called_alike_in_another(tmp_path: Path) -> None:
    prefixes = (installed(tmp_path / "anna" / "env"), installed(tmp_path / "ben"))

    first, second = (called_files(["w"], ["bash"], None, (), f"{each}/bin") for each in prefixes)

    expected = {"w: x", "w: ../libexec/y", "w: ../libexec/z", "w: ../opt/v"}
    assert first.elsewhere.keys() == second.elsewhere.keys() == expected
    assert first.commands == second.commands >= {"w", "v", "/bin/sh"}
    assert first.search == second.search == []


def installed(prefix: Path) -> Path:
    """Write a program that is a script and calls others by whatever way."""
    texts = {
        "bin/w": f"PATH={prefix}/opt:$PATH\n$(dirname $0)/x; {prefix}/libexec/y; v; /bin/sh",
        "bin/x": "exec $(dirname $0)/../libexec/z",
        **dict.fromkeys(("libexec/y", "libexec/z", "opt/v"), "echo"),
    }
    for name, text in texts.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(f"#!/bin/sh\n{text}\n")
        (prefix / name).chmod(0o755)
    return prefix


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        ("bash count.sh -e prod", "count.sh", "counted"),
        ("source ./lib.sh\ngreet", "lib.sh", "greeted"),
        (". lib.sh\ngreet", "lib.sh", "greeted"),
        ("python3 -I plot.py -m 5", "plot.py", "plotted"),
        ('n=1\npython3 -c "import plot; $n"', "plot.py", "plotted"),
        ("python3 - <<'END'\nimport plot\nEND", "plot.py", "plotted"),
        ("echo 'import plot' | python3", "plot.py", "plotted"),
        ('for each in count; do bash "$each.sh"; done', "count.sh", "counted"),
        ("tool", "bin/tool", "tooled"),
        ("own | cat", "own", "owned"),
        ("./bin/tool", "bin/tool", "tooled"),
        ("echo $(bin/tool)", "bin/tool", "tooled"),
        ("bash HERE/count.sh", "count.sh", "counted"),
        ("there=HERE\n. $there/lib.sh\ngreet", "lib.sh", "greeted"),
    ],
)
def test_23_a_script_that_is_called_by_name_is_there_and_counts_by_content(
    helped: Notebook, body: str, name: str, said: str
) -> None:
    body = body.replace("HERE", str(helped.folder))
    helped.cell(f"%%process work() -> stdout --bash\n{body}")
    run = helped.run()
    assert run.status is RunStatus.SUCCEEDED, run.failures
    assert run["work"].value == f"{said}\n"
    for other in HELPERS.keys() - {name}:
        (helped.folder / other).write_text("changed\n")
    assert helped.run().counts() == {"cached": 1}
    path = helped.folder / name
    path.write_text(path.read_text().replace(said, "anew"))
    run = helped.run()
    assert run.counts() == {"completed": 1}
    assert run["work"].value == "anew\n"


NEIGHBOURS = {
    "tools/run.sh": 'here="$(cd "$(dirname "$0")" && pwd)"\n. "$here/lib.sh"\ngreet\n',
    "tools/lib.sh": "greet() { echo greeted; }\n",
    "tools/unused.sh": "true\n",
    "tools/main.py": "def late():\n    from pack import low\n    return low.said\nprint(late())\n",
    "tools/pack/__init__.py": "",
    "tools/pack/low.py": "from .lower import said\n",
    "tools/pack/lower.py": "said = 'imported'\n",
    "tools/pack/unused.py": "",
    "bin/program": "#!/usr/bin/env python3\nimport beside\n",
    "bin/beside.py": "print('programmed')\n",
}


@pytest.mark.parametrize(
    ("body", "edited", "said"),
    [
        ("bash tools/run.sh", "tools/lib.sh", "greeted"),
        ("python3 tools/main.py", "tools/pack/lower.py", "imported"),
        ("program", "bin/beside.py", "programmed"),
    ],
)
def test_what_a_called_script_takes_from_beside_it_counts_and_nothing_else_does(
    notebook: Notebook, body: str, edited: str, said: str
) -> None:
    for name, text in NEIGHBOURS.items():
        path = notebook.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    notebook.cell(f"%%process work() -> stdout --bash\n{body}")
    assert notebook.run()["work"].value == f"{said}\n"
    for each in ("tools/unused.sh", "tools/pack/unused.py"):
        (notebook.folder / each).write_text("# other\n")
    assert notebook.run().counts() == {"cached": 1}

    path = notebook.folder / edited
    path.write_text(path.read_text().replace(said, "anew"))
    run = notebook.run()

    assert run["work"].value == "anew\n"
    assert f"file {edited} changed" in run.reasons["work"]


def test_a_tool_of_a_folder_that_the_script_puts_on_its_path_counts(
    notebook: Notebook, tmp_path: Path
) -> None:
    tool, other = tmp_path / "more" / "tool_of_more", tmp_path / "more" / "other_of_more"
    tool.parent.mkdir()
    for each in (tool, other):
        each.write_text("#!/bin/sh\necho one\n")
        each.chmod(0o755)
    notebook.cell(
        f"%%process work() -> stdout --bash\nTOP={tmp_path}\n"
        'export PATH="$PATH:$TOP/more"\ntool_of_more'
    )
    assert notebook.run()["work"].value == "one\n"
    other.write_text("#!/bin/sh\necho two\n")
    assert notebook.run().counts() == {"cached": 1}

    tool.write_text("#!/bin/sh\necho two\n")
    run = notebook.run()

    assert run["work"].value == "two\n"
    assert f"tool {tool} changed" in run.reasons["work"]


@pytest.mark.parametrize(
    "body",
    [
        "PATH={more}:$PATH first_tool\nsecond_tool",
        "(export PATH={more}:$PATH; first_tool)\nsecond_tool",
        "second_tool\nexport PATH={more}:$PATH\nfirst_tool",
        "export PATH=$PATH:{more}\nfirst_tool\nsecond_tool",
        "BIN={more}\nPATH=$BIN:$PATH first_tool\nsecond_tool",
        "PATH={more} first_tool\nPATH=${{NONE:-{usual}}}:/bin second_tool",
        "env PATH={more}:$PATH first_tool\nsecond_tool",
        "hash -p {more}/first_tool first_tool\nfirst_tool\nsecond_tool",
        "PATH={more}${{PATH:+:$PATH}} second_tool\nPATH={usual}:$PATH second_tool",
        "OLD=$PATH\nPATH={more}:$PATH\nsecond_tool\nPATH=$OLD\nsecond_tool",
        "PATH={more}:$PATH\nsecond_tool\nPATH=${{PATH#*:}}\nsecond_tool",
        "PATH=$MORE:$PATH second_tool\nsecond_tool",
    ],
)
def test_each_tool_counts_that_a_command_may_be_under_a_path_that_the_script_writes(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    usual, spare, more = (tmp_path / each for each in ("usual", "spare", "more"))
    tools = [
        folder / name for folder in (usual, spare, more) for name in ("first_tool", "second_tool")
    ]
    for each in tools:
        each.parent.mkdir(exist_ok=True)
        each.write_text(f"#!/bin/sh\necho {each.parent.name}\n")
        each.chmod(0o755)
    monkeypatch.setenv("PATH", f"{usual}:{spare}:{os.environ['PATH']}")
    monkeypatch.setenv("MORE", f"/none:{more}")
    places = {"usual": usual, "spare": spare, "more": more}
    notebook.cell("%%process work() -> stdout --bash\n" + body.format(**places))
    said = notebook.run()["work"].value
    assert notebook.run().counts() == {"cached": 1}

    for each in tools:
        each.write_text(f"#!/bin/sh\necho {each.parent.name} edited\n")
        run = notebook.run()
        fresh = subprocess.run(
            ["bash", "-c", body.format(**places)], capture_output=True, text=True, check=True
        )
        assert run["work"].value == fresh.stdout != ""
    assert said != fresh.stdout


def test_a_helper_is_no_output_and_an_input_of_its_name_comes_first(helped: Notebook) -> None:
    helped.cell('%%process work() -> fs: list[path] = "*" --bash\nbash count.sh > made.txt')
    assert [f.name for f in helped.run()["work"].value] == ["made.txt"]
    (helped.folder / "data").mkdir()
    (helped.folder / "data/count.sh").write_text("echo from the input\n")
    helped.cell('%%process work(f: path = "data/count.sh") -> stdout --bash\nbash count.sh')
    assert helped.run()["work"].value == "from the input\n"


def test_a_result_beside_the_notebook_that_a_body_writes_is_no_helper(helped: Notebook) -> None:
    helped.cell(
        '%%process work() -> o: path = "out.txt" --bash --publish .\n'
        "echo text > out.txt; cat out.txt"
    )
    assert helped.run().counts() == {"completed": 1}
    assert (helped.folder / "out.txt").exists()
    assert helped.run().counts() == {"cached": 1}


def test_a_module_that_the_script_makes_itself_is_its_output(notebook: Notebook) -> None:
    (notebook.folder / "conf.py").write_text("K = 1\n")
    (notebook.folder / "job.py").write_text("import conf\nprint(conf.K)\n")
    notebook.cell(
        '%%process work() -> o: path = "conf.py", stdout --bash\necho K=9 > conf.py; python3 job.py'
    )
    assert notebook.run()["work"].value[1] == "9\n"
    (notebook.folder / "conf.py").write_text("K = 2\n")
    assert notebook.run().counts() == {"cached": 1}


def test_a_helper_that_the_script_writes_anew_is_an_output_too(notebook: Notebook) -> None:
    for name in ("gen.py", "lib.py"):
        (notebook.folder / name).write_text("import lib\nprint('old')\n")
    (notebook.folder / "lib.py").write_text("K = 1\n")
    body = "chmod +x lib.py\npython3 gen.py > said\necho 'print(2)' > gen.py"
    notebook.cell(f'%%process some() -> o: list[path] = "*.py" --bash\n{body}')
    notebook.cell(f'%%process one() -> o: path = "gen.py", s: path = "said" --bash\n{body}')

    run = notebook.run()

    assert [each.read_text() for each in run["some"].value] == ["print(2)\n"]
    assert [each.read_text() for each in run["one"].value] == ["print(2)\n", "old\n"]
    assert (notebook.folder / "gen.py").read_text() == "import lib\nprint('old')\n"
    (notebook.folder / "gen.py").write_text("import lib\nprint('new')\n")
    assert notebook.run().counts() == {"completed": 2}


def test_a_script_that_misses_what_lies_beside_the_notebook_is_told_how_to_declare_it(
    helped: Notebook,
) -> None:
    (helped.folder / "Mine.pm").write_text("1;\n")
    helped.cell("%%process reads() -> stdout --bash\ncat ./count.sh")
    helped.cell("%%process imports() -> stdout --bash\npython3 -c 'exec(\"import plot\")'")
    helped.cell(
        "%%process uses() -> stdout --bash\n"
        'echo "Can\'t locate Mine.pm in @INC (you may need to install it)" >&2; exit 2'
    )
    helped.cell('%%process given() -> stdout --bash\nf() { bash "$1"; }\nf count.sh')
    helped.cell("%%process other() -> stdout --bash\necho count.sh; exit 1")

    failed = {each.process: each.error for each in helped.run().failures}

    assert 'reads(count: path = "./count.sh")' in failed["reads"]
    assert 'given(count: path = "count.sh")' in failed["given"]
    assert 'imports(plot: path = "plot.py")' in failed["imports"]
    assert 'uses(Mine: path = "Mine.pm")' in failed["uses"]
    assert "beside the notebook" not in failed["other"]


def test_a_command_of_an_output_finds_helpers_too(helped: Notebook, tmp_path: Path) -> None:
    helped.cell('%%process work() -> said = "$(tool)", more = "$(python3 plot.py)" --bash\ntrue')
    assert list(helped.run()["work"].value) == ["tooled", "plotted"]
    assert helped.session.try_one("work").outputs == {"said": "tooled", "more": "plotted"}


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("python3 a.py x.py", ("a.py",)),
        ("python3 -c 'x' a.py; Rscript -e a.R", ()),
        (
            "bash -eo pipefail a.sh -c x; python3 -W ignore b.py -c x; . c.sh -e",
            ("a.sh", "b.py", "c.sh"),
        ),
        ("bash -lc 'sh a.sh'; perl -I lib -ne 'x' a.pl; gnuplot -e 'x=1' b.gp", ("a.sh", "b.gp")),
        ("python3 -m a", ("a.py", "a/__init__.py", "a/__main__.py")),
        ("awk -v x=1 -f a.awk data; sed --file=b.sed; grep -f c.txt", ("a.awk", "b.sed")),
        ('source "$(dirname "$0")/lib.sh"; . $here/a.sh', ("$/lib.sh", "$/a.sh")),
        ('D=tools; bash "$D/a.sh"', ("tools/a.sh",)),
        ('D=tools; T="$D/a"; "$T" x', ("tools/a",)),
        ('bash "$x"; ./run.sh >out; /usr/bin/env', ("./run.sh",)),
        ("nice Rscript --vanilla plot.R | cat", ("plot.R",)),
    ],
)
def test_only_words_where_a_script_can_stand_are_looked_for(
    text: str, scripts: tuple[str, ...]
) -> None:
    assert script_facts(text).scripts == scripts
