"""Scripts in containers, by the engines that people have: the command line, and what comes out.

There need be no engine on this machine: a small program stands in for it, which reads the very
command line as the real ones do, refuses whatever it does not know, and executes what is inside.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcache.engine.work.staging import COPIED
from nbcache.model.task import RunStatus
from tests.engine.notebooks import Notebook

DIGEST = "sha256:" + "a" * 64

_ENGINE = f"""#!{sys.executable}
import argparse, json, os, sys
name = os.path.basename(sys.argv[0])
known = argparse.ArgumentParser(allow_abbrev=False)
ways = known.add_subparsers(dest="way", required=True)
if name in ("docker", "podman"):
    image = ways.add_parser("image", allow_abbrev=False)
    image.add_argument("verb", choices=["inspect"])
    image.add_argument("--format", required=True)
    image.add_argument("reference")
    run = ways.add_parser("run", allow_abbrev=False)
    for flag in ("--rm", "--init"):
        run.add_argument(flag, action="store_true", required=True)
    for option in ("--user", "--workdir", "--entrypoint"):
        run.add_argument(option, required=True)
    if name == "docker":
        run.add_argument("--gpus")
    else:
        run.add_argument("--device", action="append")
    run.add_argument("--volume", action="append", default=[])
    run.add_argument("--env", action="append", default=[])
else:
    run = ways.add_parser("exec", allow_abbrev=False)
    run.add_argument("--pwd", dest="workdir", required=True)
    run.add_argument("--bind", dest="volume", action="append", default=[])
    run.add_argument("--nv", action="store_true")
run.add_argument("image")
run.add_argument("inner", nargs=argparse.REMAINDER)
asked = known.parse_args()
if asked.way == "image":
    known = asked.reference in ("lab/tool:1", "lab/tool@{DIGEST}")
    print(json.dumps(["lab/tool@{DIGEST}"] if known else []))
    sys.exit(0)
for each in asked.volume:
    assert os.path.exists(each.split(":")[0]), each
argv, inside = asked.inner, dict(os.environ)
if name in ("docker", "podman"):  # a container has its own environment
    argv = [asked.entrypoint, *argv]
    inside = {{each: os.environ[each] for each in asked.env}} | {{"PATH": "/usr/bin:/bin"}}
with open(sys.argv[0] + ".asked", "a") as out:
    out.write(json.dumps(vars(asked)) + "\\n")
os.chdir(asked.workdir)
os.execvpe(argv[0], argv, inside)
"""


def engine_on_path(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = folder / "engines" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(_ENGINE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def asked_of(program: Path) -> list[dict[str, Any]]:
    lines = program.with_name(f"{program.name}.asked").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["docker", "podman", "apptainer", "singularity"])
def test_a_script_runs_in_the_image_with_its_inputs_variables_and_outputs(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program = engine_on_path(notebook.folder, name, monkeypatch)
    has_images = name in ("docker", "podman")
    (notebook.folder / "tool.sif").write_bytes(b"image")
    (notebook.folder / "small file.txt").write_text("small\n")
    (notebook.folder / "large.txt").write_text("x" * (COPIED + 1))
    monkeypatch.setenv("DECLARED", "a b")
    monkeypatch.setenv("HIDDEN_TOKEN", "s3cret-value")
    image = "lab/tool:1" if has_images else "tool.sif"
    notebook.cell(
        "%%process work(small: path = 'small file.txt', large: path = 'large.txt') "
        "-> said, size, seen, out: path = 'out.txt' "
        f"--bash --container {image} --env DECLARED --secret HIDDEN_TOKEN\n"
        'said=$(cat "$small")\n'
        'size=$(wc -c < "$large")\n'
        'seen="$DECLARED ${#HIDDEN_TOKEN} ${UNDECLARED:-none}"\n'
        "pwd > out.txt"
    )
    monkeypatch.setenv("UNDECLARED", "leaks")

    run = notebook.run()

    assert run.status is RunStatus.SUCCEEDED, run.failures
    said, size, seen, out = next(iter(run["work"]))
    assert (said, int(size)) == ("small", COPIED + 1)
    assert seen == ("a b 12 none" if has_images else "a b 12 leaks")
    (asked,) = asked_of(program)
    assert Path(out).read_text().strip() == asked["workdir"]
    assert f"{notebook.folder}/large.txt:{notebook.folder}/large.txt:ro" in asked["volume"]
    if has_images:
        assert asked["image"] == f"lab/tool@{DIGEST}"
        assert asked["user"] == f"{os.getuid()}:{os.getgid()}"
    else:
        assert asked["image"] == str(notebook.folder / "tool.sif")
    assert "s3cret-value" not in json.dumps(asked)
    assert notebook.run().counts() == {"cached": 1}
    assert len(asked_of(program)) == 1


@pytest.mark.parametrize("image", ["lab/tool:1", f"lab/tool@{DIGEST}"])
def test_the_engine_that_has_the_image_runs_it_where_the_other_has_no_daemon(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    podman = engine_on_path(notebook.folder, "podman", monkeypatch)
    docker = engine_on_path(notebook.folder, "docker", monkeypatch)
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    notebook.cell(f"%%process work() -> n: int --bash --container {image}\nn=1")

    run = notebook.run()

    assert run.failures == []
    assert asked_of(podman)[0]["image"] == f"lab/tool@{DIGEST}"


@pytest.mark.parametrize("name", ["docker", "apptainer"])
def test_a_script_that_fails_inside_fails_the_task_with_its_exit_code(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine_on_path(notebook.folder, name, monkeypatch)
    (notebook.folder / "tool.sif").write_bytes(b"image")
    image = "lab/tool:1" if name == "docker" else "tool.sif"
    notebook.cell(
        f"%%process work() -> n --bash --container {image}\nn=1\necho went wrong >&2\nexit 3"
    )

    (failure,) = notebook.run().failures

    assert "exit code 3" in failure.error
    assert "went wrong" in failure.error


@pytest.mark.parametrize(
    ("name", "option", "value", "seen"),
    [
        ("docker", "gpus", '"device=2,5"', "none"),
        ("podman", "device", ["nvidia.com/gpu=2", "nvidia.com/gpu=5"], "none"),
        ("apptainer", "nv", True, "2,5"),
    ],
)
def test_a_container_gets_the_gpus_of_its_task(
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    option: str,
    value: object,
    seen: str,
) -> None:
    program = engine_on_path(notebook.folder, name, monkeypatch)
    (notebook.folder / "tool.sif").write_bytes(b"image")
    monkeypatch.setenv("NBCACHE_GPUS", "2,5")
    image = "tool.sif" if name == "apptainer" else "lab/tool:1"
    notebook.cells(
        [
            f"%%process with_gpus() -> seen --bash --gpus 2 --container {image}\n"
            "seen=${CUDA_VISIBLE_DEVICES:-none}",
            f"%%process without() -> seen --bash --container {image}\nseen=1",
        ]
    )

    run = notebook.run()

    assert run.failures == []
    assert run["with_gpus"].value == seen  # counted anew inside, where only these are
    asked = [each[option] for each in asked_of(program)]
    assert value in asked
    assert [each for each in asked if each != value] in ([None], [False])


def test_other_interpreters_run_in_the_image_too(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = engine_on_path(notebook.folder, "podman", monkeypatch)
    notebook.cell(
        "%%process work(x = 3) -> n: int --script perl --container lab/tool:1\n"
        "open(my $out, '>', $ENV{NBCACHE_OUTPUTS}); print $out '{\"n\": ' . $ENV{x} * 2 . '}';"
    )

    assert notebook.run()["work"].value == 6
    assert asked_of(program)[0]["entrypoint"] == "perl"


def test_without_an_engine_the_message_names_those_that_would_do(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    notebook.cell(f"%%process work() -> n --bash --container lab/tool@{DIGEST}\nn=1")

    with pytest.raises(Exception, match="docker or podman or apptainer or singularity"):
        notebook.run()
