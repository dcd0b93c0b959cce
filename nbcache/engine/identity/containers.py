"""Container images of scripts: resolve them to a digest, and write the command that enters one.

An image counts by its digest, wherever it was found: in the reference itself, in the store of a
local engine, or in its registry. A tag that nobody resolves is refused, since it may mean anything.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nbcache.errors import FingerprintError
from nbcache.model.digest import Digest

ENGINES = ("docker", "podman", "apptainer", "singularity")
_WITH_IMAGES = ("docker", "podman")  # that keep images by name
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_FILES = (".sif", ".simg", ".img", ".sqsh")  # images that apptainer runs
_TIMEOUT_S = 20.0
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def resolve_image(
    reference: str, folder: Path, engines: Sequence[str], digest_of: Callable[[Path], Digest]
) -> tuple[str, str]:
    """Return the engine that runs an image, of those that could, and the image's digest:
    "sha256:..." of a registry's or engine's, or of a file.

    Where docker and podman both are there, it is the one that has the image: the other may have
    no daemon.

    Raises:
        FingerprintError: nobody knows which image the reference means.
    """
    first = next(iter(engines), "")
    file = folder / reference
    if file.is_file():
        return first, digest_of(file)
    keep = [each for each in engines if Path(each).name in _WITH_IMAGES]
    fixed = _DIGEST.search(reference)
    if fixed is not None:
        held = _in_engine(reference, keep) if len(keep) > 1 else None
        return held[0] if held is not None else first, fixed.group(1)
    if reference.endswith((*_FILES, "/")) or reference.startswith((".", "/", "~")):
        if file.is_dir():
            raise FingerprintError(
                f"container image {reference!r} is a folder, which has no digest\n"
                f"  Make a file of it (`apptainer build NAME.sif {reference}`), and give that."
            )
        raise FingerprintError(
            f"container image {reference!r} is not there (looked in {folder})\n"
            "  Give the path of a file from the notebook's folder, or the name of an image."
        )
    if "@" in reference:
        raise FingerprintError(
            f"container image {reference!r} has no whole digest\n"
            f"  Write {_without_tag(reference.partition('@')[0])}@sha256: and 64 hex digits, or "
            "only its tag."
        )
    engine, found = _in_engine(reference, keep) or (first, _from_registry(reference))
    if found is None:
        raise FingerprintError(
            f"container image {reference!r} cannot be resolved to a digest: no engine on PATH "
            "has it, and its registry does not tell.\n"
            f"  Pull it first (`docker pull {reference}`), or name it by digest: "
            f"{_without_tag(reference)}@sha256:..."
        )
    return engine, found


def engines_for(reference: str, folder: Path, search_path: str) -> list[str]:
    """Return the programs on PATH that run a container, the first choice first; apptainer alone
    takes files.

    Raises:
        FingerprintError: there is none.
    """
    wanted = ENGINES[2:] if (folder / reference).is_file() else ENGINES
    there = [each for name in wanted if (each := shutil.which(name, path=search_path))]
    if there:
        return there
    raise FingerprintError(
        f"container image {reference!r} needs {' or '.join(wanted)}, and none is on PATH.\n"
        "  Install one, or leave out --container."
    )


def enter(
    engine: str,
    image: str,
    argv: Sequence[str],
    folder: Path,
    variables: Iterable[str],
    gpus: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the command that runs `argv` in a container, in `folder` and with its inputs.

    Staged inputs are links: what they lead to is mounted read-only under its own path.
    `variables` are handed on from the environment of the engine's client, `gpus` are the ids of
    those that the script has for itself.
    """
    targets = sorted({os.path.realpath(each) for each in folder.rglob("*") if each.is_symlink()})
    name = Path(engine).name
    if name in _WITH_IMAGES:
        mounts = [f"{folder}:{folder}", *(f"{each}:{each}:ro" for each in targets)]
        return (
            engine, "run", "--rm", "--init",
            "--user", f"{os.getuid()}:{os.getgid()}", "--workdir", str(folder),
            *_gpu_options(name, gpus),
            *(word for each in mounts for word in ("--volume", each)),
            *(word for each in sorted(variables) for word in ("--env", each)),
            "--entrypoint", argv[0], image, *argv[1:],
        )  # fmt: skip
    mounts = [str(folder), *(f"{each}:{each}:ro" for each in targets)]
    source = image if os.path.isfile(image) else f"docker://{image}"
    return (
        engine, "exec", "--pwd", str(folder), *_gpu_options(name, gpus),
        *(word for each in mounts for word in ("--bind", each)),
        source, *argv,
    )  # fmt: skip


def _gpu_options(engine: str, gpus: Sequence[str]) -> list[str]:
    """Return how an engine is asked for these GPUs.

    docker and podman bring in only these, counted anew from 0. apptainer brings in the driver with
    all of them; which of them are the task's its CUDA_VISIBLE_DEVICES says, as outside.
    """
    if not gpus:
        return []
    if engine == "docker":
        return ["--gpus", f'"device={",".join(gpus)}"']  # quoted: it reads the value as CSV
    if engine == "podman":
        return [word for each in gpus for word in ("--device", f"nvidia.com/gpu={each}")]
    return ["--nv"]


def pinned(reference: str, digest: str, folder: Path) -> str:
    """Return the image by its digest, as an engine takes it; a file by its path."""
    if (folder / reference).is_file():
        return str(folder / reference)
    return reference if "@" in reference else f"{_without_tag(reference)}@{digest}"


def _without_tag(reference: str) -> str:
    head, slash, last = reference.rpartition("/")
    return head + slash + last.partition(":")[0]


def _in_engine(reference: str, engines: Iterable[str]) -> tuple[str, str] | None:
    """Return the first engine that tells an image's digest, and the digest."""
    for engine in engines:
        command = [engine, "image", "inspect", "--format", "{{json .RepoDigests}}", reference]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
            listed = json.loads(ended.stdout) if ended.returncode == 0 else None
        except (OSError, ValueError, subprocess.TimeoutExpired):
            continue
        for each in listed or ():
            found = _DIGEST.search(each)
            if found is not None:
                return engine, found.group(1)
    return None


def _from_registry(reference: str) -> str | None:
    """Ask the registry for the digest of a tag; None where it does not answer or refuses."""
    host, name, tag = _parts(reference)
    scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", host) else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{tag}"
    try:
        try:
            answer = _ask(url, {"Accept": _MANIFESTS})
        except urllib.error.HTTPError as error:
            if error.code != 401:
                return None
            token = _token(error.headers.get("WWW-Authenticate", ""))
            answer = _ask(url, {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"})
        return str(answer.headers.get("Docker-Content-Digest") or "") or None
    except (OSError, ValueError):
        return None


def _parts(reference: str) -> tuple[str, str, str]:
    """Return registry, repository and tag of a reference, with what docker takes for granted."""
    bare = _without_tag(reference)
    tag = reference[len(bare) + 1 :] or "latest"
    first, slash, rest = bare.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest, tag
    return "registry-1.docker.io", bare if slash else f"library/{bare}", tag


def _token(challenge: str) -> str:
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith(("http://", "https://")):
        raise ValueError("the registry asks for a login that is not known here")
    query = "&".join(f"{key}={value}" for key, value in fields.items())
    held = json.loads(_ask(f"{realm}?{query}", {}, method="GET").read())
    return str(held.get("token") or held["access_token"])


def _ask(url: str, headers: dict[str, str], method: str = "HEAD") -> Any:
    return urllib.request.urlopen(
        urllib.request.Request(url, headers=headers, method=method), timeout=_TIMEOUT_S
    )
