"""Containers, lock files, programs and modes of single inputs: what makes a task run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from nbcache.engine.identity import installed_by
from nbcache.engine.identity.containers import enter, resolve_image
from nbcache.engine.identity.installed_by import package_of
from nbcache.engine.identity.tools import tool_components
from nbcache.errors import FingerprintError, OptionError
from nbcache.model.digest import Digest
from nbcache.model.process import Option
from nbcache.plan.language.directives import parse_options
from nbcache.store.filestate import hash_file, stat_key
from tests.engine.notebooks import Notebook

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64

# An engine as far as nbcache needs one: it knows one image, and runs a program of this machine.
_ENGINE = """#!/bin/sh
case "$1 $2" in
  "image inspect")
    echo asked >> "$0.asked"
    [ "$5" = lab/tool:1 ] && echo "[\\"lab/tool@$(cat "$0.digest")\\"]";;
  "run --rm")
    while [ "$1" != --entrypoint ]; do shift; done
    program=$2; echo "$3" >> "$0.ran"; shift 3; exec "$program" "$@";;
esac
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    made = Notebook(tmp_path)
    yield made
    made.close()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an engine called docker first on PATH; return it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(_ENGINE)
    program.chmod(0o755)
    (folder / "docker.digest").write_text(ONE)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return program


def _digest_of(path: Path) -> Digest:
    return hash_file(str(path), stat_key(path))


def _declare(notebook: Notebook, options: str, body: str = "cat $f > o.txt") -> None:
    notebook.cell("%channel src = value(path('in.txt'))")
    notebook.cell(f"%%process a(f: path) -> out: path = 'o.txt' from src --bash {options}\n{body}")


def test_a_script_runs_in_its_image_and_again_when_the_tag_means_another(
    notebook: Notebook, engine: Path
) -> None:
    (notebook.folder / "in.txt").write_text("data\n")
    shutil.copy(engine, engine.with_name("podman"))
    _declare(notebook, "--container lab/tool:1")

    counts = [dict(notebook.run().counts()) for _ in range(2)]
    engine.with_name("docker.digest").write_text(TWO)
    counts.append(dict(notebook.run().counts()))

    assert [sorted(map(str, each)) for each in counts] == [["completed"], ["cached"], ["completed"]]
    assert engine.with_name("docker.asked").read_text().split() == ["asked"] * len(counts)
    ran = engine.with_name("docker.ran").read_text().split()
    assert ran == [f"lab/tool@{ONE}", f"lab/tool@{TWO}"]
    (value,) = notebook.names["a"]
    assert Path(value).read_text() == "data\n"


def test_a_tag_that_nobody_knows_is_refused_with_the_ways_out(
    notebook: Notebook, engine: Path
) -> None:
    (notebook.folder / "in.txt").write_text("data\n")
    _declare(notebook, "--container localhost:1/lab/other:2")

    with pytest.raises(FingerprintError) as caught:
        notebook.run()

    assert "'localhost:1/lab/other:2' cannot be resolved" in str(caught.value)
    assert "localhost:1/lab/other@sha256:..." in str(caught.value)


def test_an_image_named_by_digest_is_asked_of_nobody(tmp_path: Path) -> None:
    assert resolve_image(f"lab/tool@{ONE}", tmp_path, (), _digest_of) == ("", ONE)


def test_the_file_of_an_image_counts_by_content(tmp_path: Path) -> None:
    (tmp_path / "tool.sif").write_bytes(b"image")

    found = resolve_image("tool.sif", tmp_path, ("apptainer",), _digest_of)

    assert found == ("apptainer", _digest_of(tmp_path / "tool.sif"))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("tool.sif", "is not there (looked in "),
        ("./images/tool", "is not there (looked in "),
        ("./box", "is a folder, which has no digest\n  Make a file of it (`apptainer build "),
        ("box/", "is a folder, which has no digest\n  Make a file of it (`apptainer build "),
        ("lab/tool:1@sha256:abc", "Write lab/tool@sha256: and 64 hex digits"),
    ],
)
def test_an_image_that_nobody_can_have_is_asked_of_nobody(
    tmp_path: Path, reference: str, said: str
) -> None:
    (tmp_path / "box").mkdir()

    with pytest.raises(FingerprintError) as caught:
        resolve_image(reference, tmp_path, (), _digest_of)

    assert said in str(caught.value)


class _Registry(BaseHTTPRequestHandler):
    """A registry with one tag, which wants a token as the public ones do."""

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer abc":
            self.send_response(401)
            where = f"http://{self.headers['Host']}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{where}",service="s"')
        elif self.path == "/v2/lab/tool/manifests/1":
            self.send_response(200)
            self.send_header("Docker-Content-Digest", TWO)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"token": "abc"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_registry_resolves_a_tag(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Registry)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        _, found = resolve_image(f"{host}/lab/tool:1", tmp_path, (), _digest_of)
        with pytest.raises(FingerprintError):
            resolve_image(f"{host}/lab/tool:2", tmp_path, (), _digest_of)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert found == TWO


def test_a_container_sees_what_its_inputs_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("data")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "in.txt").symlink_to(tmp_path / "real.txt")

    by_docker = enter("/bin/docker", "i", ["bash", "s"], folder, ["A"])
    by_apptainer = enter("/bin/apptainer", "i", ["bash", "s"], folder, ["A"])

    mount = f"{tmp_path}/real.txt:{tmp_path}/real.txt:ro"
    assert by_docker[by_docker.index(mount) - 1] == "--volume"
    assert by_docker[-4:] == ("--entrypoint", "bash", "i", "s")
    assert by_apptainer[by_apptainer.index(mount) - 1] == "--bind"
    assert by_apptainer[-3:] == ("docker://i", "bash", "s")


def test_a_lock_file_counts_by_content_for_scripts_and_python_alike(notebook: Notebook) -> None:
    (notebook.folder / "in.txt").write_text("data\n")
    (notebook.folder / "env.lock").write_text("a 1")
    _declare(notebook, "--files env.lock")
    notebook.cell("%%process b(f: path) -> n from src --files env.lock\nn = 1")

    notebook.run()
    os.utime(notebook.folder / "env.lock", (1, 1))
    again = notebook.run()
    (notebook.folder / "env.lock").write_text("a 2")
    changed = notebook.run()

    assert sorted(map(str, again.counts())) == ["cached"]
    assert sorted(map(str, changed.counts())) == ["completed"]
    assert changed.reasons["b"].startswith("lock env.lock changed")


def test_a_lock_file_that_is_not_there_is_an_error(notebook: Notebook) -> None:
    (notebook.folder / "in.txt").write_text("data\n")
    _declare(notebook, "--files none.lock")

    with pytest.raises(FingerprintError, match=r"no file none\.lock, named by --files"):
        notebook.run()


@pytest.mark.parametrize(("mode", "runs"), [("content", True), ("version", True), ("off", False)])
def test_programs_count_as_the_header_says(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, mode: str, runs: bool
) -> None:
    folder = notebook.folder / "bin"
    folder.mkdir()
    (notebook.folder / "in.txt").write_text("data\n")
    (folder / "mine").write_text("#!/bin/sh\necho 1\n")
    (folder / "mine").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    _declare(notebook, f"--tools {mode}", "mine > o.txt")

    notebook.run()
    (folder / "mine").write_text("#!/bin/sh\necho 2\n")
    again = notebook.run()

    assert sorted(map(str, again.counts())) == (["completed"] if runs else ["cached"])


def test_a_program_of_conda_counts_by_its_package_and_version(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    record = '{"name": "salmon", "version": "1.10", "build": "h1", "files": ["bin/salmon"]}'
    (tmp_path / "conda-meta" / "salmon.json").write_text(record)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "salmon"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = str(program.parent)

    before = tool_components(["salmon"], (), _digest_of, path, mode="version")
    program.write_text("#!/bin/sh\n# built again\n")
    after = tool_components(["salmon"], (), _digest_of, path, mode="version")

    assert package_of(program) == ("salmon", "1.10 h1")
    assert before == after


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no Debian: nobody to ask")
def test_a_program_of_debian_counts_by_its_package_and_version() -> None:
    asked = ["dpkg-query", "-W", "-f", "${Version}", "sed"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    (found,) = tool_components(["sed"], (), _digest_of, os.environ["PATH"], mode="version")
    (content,) = tool_components(["sed"], (), _digest_of, os.environ["PATH"], mode="content")

    assert f"(sed {version})" in found.summary
    assert found.digest != content.digest


def test_an_upgrade_counts_in_a_kernel_that_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, program = tmp_path / "dpkg", tmp_path / "bin" / "aligner"
    for folder in (records / "info", program.parent):
        folder.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (records / "info" / "aligner:amd64.list").write_text(f"{program}\n")
    monkeypatch.setattr(installed_by, "_DPKG", records)

    told = []
    for version in ("1.0-1", "1.0-1", "1.0-2"):
        (records / "new").write_text(
            f"Package: other\nVersion: 9\n\nPackage: aligner\nVersion: {version}\n"
        )
        (records / "new").replace(records / "status")  # as dpkg does
        told += tool_components(["aligner"], (), _digest_of, str(program.parent), mode="version")

    assert told[0].digest == told[1].digest != told[2].digest
    assert "(aligner 1.0-2)" in told[2].summary


def test_one_input_may_count_in_another_way_than_the_rest(notebook: Notebook) -> None:
    for name in ("big.txt", "small.txt"):
        (notebook.folder / name).write_text("1234")
    notebook.cell("%channel one = value(path('big.txt'))\n")
    notebook.cell("%channel two = value(path('small.txt'))\n")
    notebook.cell(
        "%%process a(big: path, small: path) -> n from one, two --cache big=lenient\n"
        "n = big.read_text() + small.read_text()"
    )

    notebook.run()
    (notebook.folder / "big.txt").write_text("5678")
    same_size = notebook.run()
    (notebook.folder / "small.txt").write_text("5678")
    other = notebook.run()

    assert sorted(map(str, same_size.counts())) == ["cached"]
    assert sorted(map(str, other.counts())) == ["completed"]


@pytest.mark.parametrize("text", ["big=off", "fast", "big=fast", "=deep", "a b=deep"])
def test_a_mode_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_options([Option("cache", text, 1, 0)])


def test_an_interpreter_without_asserts_is_another_one_and_so_are_its_workers() -> None:
    told = "from nbcache.engine.identity import python_itself as it\n"
    told += "print(it.python_component().summary, it.python_flags())"

    said = [
        subprocess.run([sys.executable, *flags, "-c", told], capture_output=True, text=True).stdout
        for flags in ([], ["-O"])
    ]

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert said[0].startswith(version)
    assert "-O" not in said[0]
    assert said[1].startswith(f"{version}, -O")
    assert "['-O'" in said[1]
