"""Packages by whatever way they are installed: editable, without a version, shadowed, compiled.

The kernels are those of an environment of their own, whose site-packages the scenarios change.
"""
# ruff: noqa: E501 - a scenario is easiest to read with its cell on one line

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernels.scenarios import (
    Change,
    Notebook,
    Scenario,
    Seen,
    check,
    error_of,
    play,
    text_of,
)

F = "def f(v):\n    return v + 1\ndef other(v):\n    return v + 7\n"
G = F.replace("v + 1", "v + 2")
UNREACHED = F.replace("v + 7", "v + 8")
_FINDER = """
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
MAPPING = {mapping!r}
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in MAPPING:
            return spec_from_file_location(name, MAPPING[name])
def install():
    sys.meta_path.append(Finder)
"""
_C = """
#include <Python.h>
static PyObject *f(PyObject *self, PyObject *v) {{ return PyLong_FromLong(PyLong_AsLong(v) + {by}); }}
static PyMethodDef methods[] = {{{{"f", f, METH_O, ""}}, {{NULL, NULL, 0, NULL}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "compiled8", "", -1, methods}};
PyMODINIT_FUNC PyInit_compiled8(void) {{ return PyModule_Create(&module); }}
"""


def site(folder: Path) -> Path:
    """Return the site-packages of the environment that belongs to a notebook's folder."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return folder.parent / "env" / "lib" / version / "site-packages"


def put(files: dict[str, str]) -> Change:
    """Write files; `{site}` begins a name in site-packages, `{src}` one elsewhere, `{here}`
    one beside the notebook."""

    def change(folder: Path) -> None:
        for name, text in files.items():
            path = Path(name.format(site=site(folder), src=folder.parent / "src", here=folder))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{src}", str(folder.parent / "src")))

    return change


def metadata(name: str, version: str) -> dict[str, str]:
    return {
        f"{{site}}/{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{{site}}/{name}-{version}.dist-info/RECORD": f"{name}.py,,\n",
    }


def upgraded(name: str, old: str, new: str, text: str) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(site(folder) / f"{name}-{old}.dist-info")
        put({f"{{site}}/{name}.py": text, **metadata(name, new)})(folder)

    return change


def compiled(by: int) -> Change:
    def change(folder: Path) -> None:
        source = folder.parent / "compiled8.c"
        source.write_text(_C.format(by=by))
        target = folder / f"compiled8{sysconfig.get_config_var('EXT_SUFFIX')}"
        made = target.with_suffix(".new")
        include = sysconfig.get_paths()["include"]
        command = ["cc", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True)
        made.replace(target)

    return change


def scenario(
    name: str, module: str, before: Change, after: Change, because: str | None
) -> Scenario:
    return Scenario(
        name=name, cells=f"import {module}", body=f"out = {module}.f(v)", prepare=before,
        change=after, because=because, back=False,
    )  # fmt: skip


_PTH = {"{site}/src1.pth": "{src}/one\n{src}/two\n{src}/three\n"}
_HOOK = {
    "{site}/__editable___hook5_finder.py": _FINDER.format(
        mapping={"hook5": "{src}/hooked/hook5.py"}
    ),
    "{site}/__editable__.hook5.pth": "import __editable___hook5_finder; __editable___hook5_finder.install()\n",
}
INSTALLS = [
    scenario("folder of a pth file", "ed1", put({**_PTH, "{src}/one/ed1.py": F}), put({"{src}/one/ed1.py": G}), "module ed1"),
    scenario("folder of a pth file unreached", "ed2", put({**_PTH, "{src}/one/ed2.py": F}), put({"{src}/one/ed2.py": UNREACHED}), None),
    scenario("namespace package in two folders", "ns3.b", put({"{src}/one/ns3/a.py": F, "{src}/two/ns3/b.py": F}), put({"{src}/two/ns3/b.py": G}), "module ns3.b"),
    scenario("other part of a namespace package", "ns4.b", put({"{src}/one/ns4/a.py": F, "{src}/two/ns4/b.py": F}), put({"{src}/one/ns4/a.py": G}), None),
    scenario("editable by a finder", "hook5", put({**_HOOK, "{src}/hooked/hook5.py": F}), put({"{src}/hooked/hook5.py": G}), "module hook5"),
    scenario("package with a version edited in place", "ver6", put({"{site}/ver6.py": F, **metadata("ver6", "1.0")}), put({"{site}/ver6.py": UNREACHED}), None),
    scenario("package upgraded", "ver7", put({"{site}/ver7.py": F, **metadata("ver7", "1.0")}), upgraded("ver7", "1.0", "1.1", G), "package ver7"),
    scenario("package without a version", "nov9", put({"{site}/nov9.py": F}), put({"{site}/nov9.py": G}), "package nov9"),
    scenario("package without a version in a folder", "nov10", put({"{site}/nov10/__init__.py": "from .low import f\n", "{site}/nov10/low.py": F}), put({"{site}/nov10/low.py": G}), "package nov10"),
    scenario("package without a version imported by another", "nov13", put({"{site}/nov13.py": "import re, low13 as low\nf = low.f\n", "{site}/low13.py": F}), put({"{site}/low13.py": G}), "package nov13"),
    scenario("package imported by one without a version", "nov14", put({"{site}/nov14.py": "from ver14 import f\n", "{site}/ver14.py": F, **metadata("ver14", "1.0")}), upgraded("ver14", "1.0", "1.1", G), "package nov14"),
    scenario("package shadowed by a local module", "shadow11", put({"{site}/shadow11.py": F, **metadata("shadow11", "1.0")}), put({"{here}/shadow11.py": G}), "module shadow11"),
    scenario("local module no longer shadowed", "shadow12", put({"{src}/three/shadow12.py": F}), put({"{src}/one/shadow12.py": G}), "module shadow12"),
]  # fmt: skip
COMPILED = scenario("compiled module", "compiled8", compiled(1), compiled(2), "module compiled8")
if shutil.which("cc"):
    held = replace(COMPILED, name="function of a compiled module", prepare=None, change=None)
    taken = "from compiled8 import f as compiled\nsteps = {'f': compiled}"
    INSTALLS += [COMPILED, replace(held, cells=taken, body="out = steps['f'](v)")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder with an environment of its own, and that environment's Python."""
    root = tmp_path_factory.mktemp("installs")
    env = root / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    packages = sysconfig.get_paths()["purelib"]
    here = str(Path(__file__).parents[2])
    (site(root / "notebook") / "tests.pth").write_text(f"{packages}\n{here}\n")
    return root, str(env / "bin" / "python")


@pytest.fixture(scope="module")
def installs(place: tuple[Path, str]) -> dict[str, Seen]:
    root, python = place
    return play(root, INSTALLS, python)


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in INSTALLS])
def test_a_package_counts_by_what_it_is_however_it_is_installed(
    installs: dict[str, Seen], scenario: Scenario
) -> None:
    check(scenario, installs)


def test_a_package_that_is_upgraded_in_a_living_kernel_is_the_new_one_in_its_tasks(
    place: tuple[Path, str], tmp_path: Path
) -> None:
    notebook = Notebook(tmp_path / "living", place[1])
    files = site(place[0] / "notebook")
    for old in files.glob("living13*"):
        old.unlink()
    put({"{site}/living13.py": F, **metadata("living13", "1.0")})(place[0] / "notebook")
    upgrade = (
        "import pathlib, shutil\n"
        f"site = pathlib.Path({str(files)!r})\n"
        "(site / 'living13-1.0.dist-info').rename(site / 'living13-1.1.dist-info')\n"
        f"(site / 'living13.py').write_text({G!r})"
    )
    executed = notebook.execute(
        [
            "%load_ext nbcache",
            "%channel one = of(3)",
            "%%process work(v) -> out from one\nimport living13\nout = living13.f(v)",
            "%nbcache run",
            "print(work.value)",
            upgrade,
            "%nbcache run",
            "print(work.value)",
        ]
    )

    assert [error_of(each) for each in executed if error_of(each)] == []
    assert [text_of(executed[index]).strip() for index in (4, 7)] == ["4", "5"]
    assert "package living13 1.0 → 1.1" in text_of(executed[6])
