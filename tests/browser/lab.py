"""A real JupyterLab and a real browser: notebooks opened, cells run, outputs looked at.

One server serves all tests of a process, one page those of a file: loading JupyterLab takes most of
a test's time. Each test finds its own cells, an empty folder and a kernel that was just started.
What a page says on its console as an error, and any request that leaves this machine, fails the
test that caused it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import nbformat
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page
from playwright.sync_api import Request as PageRequest

from tests.servers.serving import free_port
from tests.waiting import PATIENCE_S, wait_until

CHROMIUM = "/usr/bin/chromium"
TOKEN = "t"
PATIENCE_MS = PATIENCE_S * 1000
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
]
# As `python -m jupyterlab`, without a grammar of URLs, which takes two seconds to load.
_SERVE = (
    "import sys; sys.modules['rfc3987_syntax'] = None; "
    "from jupyterlab.labapp import main; sys.exit(main())"
)
QUIET = (  # what the front end itself says, whatever is in the notebook
    "ResizeObserver loop",
    "favicon",
    "widget model not found",  # of an output that it draws anew after its kernel was restarted
    "[anywidget] Failed to initialize model",  # in a busy page: docs/widgets.md
    # Notebook 7, with `1 + 1` alone, while it starts: its toolbars and menus hear of a plugin that
    # its settings have not, its file browser is restored where there is no such command.
    "Cannot read properties of undefined (reading 'schema')",
    "filebrowser:open-path",
)


@dataclass
class Server:
    """A Jupyter server over a folder of its own."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    opens: str = "/doc/tree"  # where its pages open a notebook; of Notebook 7: /notebooks

    def request(self, method: str, path: str) -> Any:
        """Ask the server's REST interface."""
        request = Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urlopen(request, timeout=PATIENCE_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_sessions(self) -> None:
        """End all kernels."""
        for session in self.request("GET", "/api/sessions"):
            self.request("DELETE", f"/api/sessions/{session['id']}")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """Run a Jupyter server, with JupyterLab and Notebook 7, that knows nothing of this user."""
    home = folder / "home"
    work = folder / "work"
    for each in (home, work):
        each.mkdir(parents=True)
    startup = home / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00-patient-cards.py").write_text(  # as tests/conftest.py has it for its process
        "from nbcache.engine import describe\n"
        f"describe.COUNT_S = describe.Allowance.MOST_S = {PATIENCE_S}\ndel describe\n"
    )
    settings = home / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    labconfig = home / "config/labconfig"
    labconfig.mkdir(parents=True)
    (labconfig / "page_config.json").write_text(  # else each page that is loaded starts Node.js
        '{"buildAvailable": false, "buildCheck": false}'
    )
    port = free_port()
    # Kernels are reached through sockets there (own_kernel says why), whose names must be short.
    runtime = tempfile.mkdtemp(prefix="nbcache-lab-")
    environment = {
        **os.environ,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": runtime,
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    command = [
        *(sys.executable, "-c", _SERVE),
        *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", "--KernelManager.transport=ipc"),
        *(f"--IdentityProvider.token={TOKEN}", "--log-level=ERROR"),
        *("--expose-app-in-browser", "--JupyterNotebookApp.expose_app_in_browser=True"),
        f"--ServerApp.root_dir={work}",
    ]
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    server = Server(process, f"http://127.0.0.1:{port}", work)
    try:
        wait_until_served(server, log)
        yield server
        server.end_sessions()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)
        shutil.rmtree(runtime, ignore_errors=True)


def wait_until_served(server: Server, log: Path) -> None:
    def answers() -> bool:
        assert server.process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            server.request("GET", "/api/status")
            return True
        return False

    wait_until(answers, "the server's answer")


@dataclass
class Notebook:
    """A notebook open in a page, with a kernel of its own."""

    server: Server
    page: Page
    name: str
    errors: list[str] = field(default_factory=list)
    modules: int = 0  # how often the view's module came from the kernel

    @property
    def path(self) -> Path:
        return self.server.folder / self.name

    def open(self) -> None:
        """Load the notebook's page, and wait for its kernel."""
        self.page.goto(f"{self.server.url}{self.server.opens}/{self.name}?token={TOKEN}&reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            """() => {
                const widget = window.jupyterapp?.shell.currentWidget;
                return widget?.context?.isReady && widget.sessionContext?.isReady
                    && widget.sessionContext.session?.kernel?.status === "idle";
            }""",
            timeout=PATIENCE_MS,
        )

    def begin_again(self, cells: Sequence[str]) -> None:
        """Hold these cells instead, with a new kernel in an emptied folder."""
        self._hold([])  # first, so that no view is left that misses its kernel
        self.restart()
        self._empty_folder()
        self._hold(cells)
        self.errors.clear()
        self.modules = 0

    def _empty_folder(self) -> None:
        """Delete all but the notebook, while the end of the last run may still be tidying there."""

        def is_empty() -> bool:
            left = [each for each in self.path.parent.iterdir() if each != self.path]
            for each in left:
                if each.is_dir():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink(missing_ok=True)
            return not left

        wait_until(is_empty, "an empty folder")

    def _hold(self, cells: Sequence[str]) -> None:
        """Replace all cells."""
        self.page.evaluate(
            """(cells) => {
                const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;
                model.transact(() => {
                    model.deleteCellRange(0, model.cells.length);
                    model.insertCells(0, cells.map((source) => (
                        { cell_type: "code", source, metadata: {}, outputs: [] })));
                });
            }""",
            list(cells),
        )

    def run(self, cell: int) -> None:
        """Run a cell and wait for its end."""
        self.select(cell)
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")

    def start(self, cell: int) -> None:
        """Run a cell without waiting for it."""
        self.select(cell)
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")

    def select(self, cell: int) -> None:
        self.page.evaluate(
            """(cell) => {
                const content = window.jupyterapp.shell.currentWidget.content;
                content.activeCellIndex = cell;
                content.deselectAll();
            }""",
            cell,
        )

    def edit(self, cell: int, source: str) -> None:
        """Replace the source of a cell."""
        self.page.evaluate(
            """([cell, source]) => {
                const content = window.jupyterapp.shell.currentWidget.content;
                content.widgets[cell].model.sharedModel.setSource(source);
            }""",
            [cell, source],
        )

    def outputs(self, cell: int) -> list[dict[str, Any]]:
        """Return what the notebook keeps of a cell's outputs."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """(cell) => window.jupyterapp.shell.currentWidget.content.widgets[cell].model
                .outputs.toJSON()""",
            cell,
        )
        return found

    def cell(self, cell: int) -> Locator:
        return self.page.locator(".jp-Cell").nth(cell)

    def view(self, cell: int) -> Locator:
        """The live view below a cell."""
        return self.cell(cell).locator(".nbcache-view")

    def wait_for_cells(self) -> None:
        """Wait until no cell runs or waits to run."""
        self.page.wait_for_function(
            """() => ![...document.querySelectorAll(".jp-InputPrompt")]
                .some((prompt) => prompt.textContent.includes("*"))""",
            timeout=PATIENCE_MS,
        )

    def reload(self) -> None:
        """Save, and load the page again, as after closing the tab."""
        self.save()
        self.open()

    def save(self) -> None:
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def restart(self) -> None:
        """Restart the kernel."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()"
        )
        self.wait_for_kernel()


def new_notebook(server: Server, page: Page, name: str, cells: Sequence[str]) -> Notebook:
    """Write a notebook and open it."""
    folder = server.folder / name
    folder.mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, folder / f"{name}.ipynb")
    notebook = Notebook(server, page, f"{name}/{name}.ipynb")

    def note(text: str, where: str = "") -> None:
        if not any(each in text for each in QUIET):
            notebook.errors.append(f"{text}{where}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            note(message.text, f" ({message.location.get('url')})")

    def on_request(request: PageRequest) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            notebook.errors.append(f"asked {request.url}")

    def on_frame(frame: str | bytes) -> None:
        found = (
            frame.count("class CardView")
            if isinstance(frame, str)
            else frame.count(b"class CardView")
        )
        notebook.modules += found

    page.on("websocket", lambda socket: socket.on("framereceived", on_frame))
    page.on("console", on_console)
    page.on("pageerror", lambda error: note(str(error)))
    page.on("request", on_request)
    notebook.open()
    return notebook


def axe_violations(page: Page, selector: str) -> list[str]:
    """Return what axe-core finds against accessibility in a part of the page."""
    script = Path(str(files("axe_playwright_python"))) / "axe.min.js"
    page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("(selector) => axe.run(selector)", selector)
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in found["violations"]
    ]


def new_page(browser: Browser, *, dark: bool = False, width: int = 1280) -> Page:
    """Open an empty page."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page
