"""Runs example notebooks through fresh kernels and sees which bodies really ran.

Each process of a copy gets one line more at the top of its body, which appends the process's name
to a trace file: so what ran is observed, not reported by nbcache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.executing import execute
from tests.waiting import PATIENCE_S

EXAMPLES = Path(__file__).resolve().parents[2] / "example_notebooks"
IMAGE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
Edit = Callable[[str], str]


@dataclass
class Ran:
    """An executed notebook, and the names of the processes whose bodies ran, sorted."""

    bodies: list[str]
    notebook: NotebookNode

    def result(self, cell: str) -> str:
        """Return the text of a cell's result (its Out[]), or "" where it has none."""
        (found,) = [each for each in self.notebook.cells if each.id == cell]
        texts = [
            str(output.data["text/plain"])
            for output in found.outputs
            if output.output_type == "execute_result"
        ]
        return "\n".join(texts)

    def images(self, cell: str) -> list[str]:
        """Return the figures that a cell shows, as their stored text; those in a card, too."""
        (found,) = [each for each in self.notebook.cells if each.id == cell]
        bundles = [output.data for output in found.outputs if "data" in output]
        inside = [IMAGE.findall(str(bundle.get("text/html", ""))) for bundle in bundles]
        shown = [str(bundle["image/png"]) for bundle in bundles if "image/png" in bundle]
        return [*shown, *(image for images in inside for image in images)]


@dataclass
class Bench:
    """A folder with a traced copy of an example, its cache beside it as for any user."""

    root: Path
    name: str

    @classmethod
    def with_copy(cls, root: Path, name: str) -> Bench:
        """Put a traced copy of example `name` into the folder `root`."""
        self = cls(root, name)
        notebook = nbformat.read(EXAMPLES / name, as_version=4)
        for cell in notebook.cells:
            cell.source = traced(cell.source, self.trace)
        nbformat.write(notebook, self.path)
        return self

    @property
    def path(self) -> Path:
        """The notebook."""
        return self.root / self.name

    @property
    def trace(self) -> Path:
        """Where bodies leave their names."""
        return self.root.parent / f"{self.root.name}.trace"

    def edit(self, cell: str, change: Edit) -> None:
        """Change the text of one cell; it has to become another text."""
        notebook = nbformat.read(self.path, as_version=4)
        (found,) = [each for each in notebook.cells if each.id == cell]
        changed = change(found.source)
        assert changed != found.source, f"the edit of cell {cell} changes nothing"
        found.source = changed
        nbformat.write(notebook, self.path)

    def run(self) -> Ran:
        """Execute the notebook in a fresh kernel, beside itself."""
        self.trace.write_text("")
        notebook = nbformat.read(self.path, as_version=4)
        execute(notebook, self.root)
        return Ran(self.bodies(), notebook)

    def run_from_a_shell(self, *words: str) -> tuple[Ran, str]:
        """Execute it as `nbcache run NOTEBOOK WORDS` does; returns what that printed, too."""
        self.trace.write_text("")
        output = self.root / "output.ipynb"
        answer = nbcache_command("run", str(self.path), "--output", str(output), *words)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return Ran(self.bodies(), nbformat.read(output, as_version=4)), answer.stdout

    def bodies(self) -> list[str]:
        """Return the names of the processes whose bodies ran since the trace was begun, sorted."""
        return sorted(self.trace.read_text().split())


def traced(source: str, trace: Path) -> str:
    """Return a cell with a tracing line at the top of its body, if it declares a process."""
    if not source.startswith("%%process "):
        return source
    header, *rest = source.split("\n")
    while rest and rest[0].startswith("#|"):
        header += "\n" + rest.pop(0)
    body = "\n".join(rest)
    name = header.split()[1].partition("(")[0]
    if " --bash" in header:
        line = f'echo {name} >> "{trace}"'
    else:
        line = f"open({str(trace)!r}, 'a').write({name + chr(10)!r})"
    return f"{header}\n{line}\n{body}"


def nbcache_command(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the `nbcache` of this environment."""
    command = shutil.which("nbcache", path=str(Path(sys.executable).parent))
    assert command is not None, "the environment has no nbcache command; pip install -e ."
    return subprocess.run(
        [command, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=PATIENCE_S,
    )


def missing_tools(names: Sequence[str]) -> list[str]:
    """Return those of the commands that are not on the PATH."""
    return [name for name in names if shutil.which(name) is None]
