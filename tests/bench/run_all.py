"""Run every bench module in a process of its own and print the figures beside their budgets.

    python -m tests.bench.run_all [--quick] [--strict] [--json FILE] [NAME ...]

Exits 1 when a module fails, and with --strict when a figure misses its budget. Figures carry noise
of a factor of two between machines; ratios in one run are solid.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.figure import Figure

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
_NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"


def names() -> list[str]:
    """Return the bench modules: "import" for bench_import.py."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def figures_of(name: str, quick: bool) -> list[Figure]:
    """Run one module; raises RuntimeError with what it said if it fails.

    Byte code is written, as it is for whoever installs the package; whoever measures has no keys.
    """
    environment = {name: text for name, text in os.environ.items() if name != _NO_BYTE_CODE}
    with tempfile.TemporaryDirectory() as config:
        return _figures_of(name, quick, {**environment, "NBCACHE_CONFIG_DIR": config})


def _figures_of(name: str, quick: bool, environment: Mapping[str, str]) -> list[Figure]:
    command = [sys.executable, "-m", f"tests.bench.bench_{name}", *(["--quick"] if quick else [])]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"bench_{name} failed:\n{answer.stderr.strip()[-2000:]}")
    return [Figure(**json.loads(line)) for line in answer.stdout.splitlines() if line[:1] == "{"]


def line(figure: Figure) -> str:
    """Return a figure as a line of text."""
    text = f"  {figure.name:<58} {figure.value:>12.4g}"
    if figure.budget is not None:
        sign = "≥" if figure.most else "≤"
        text += f"   {sign} {figure.budget:<8.4g} {'holds' if figure.holds else 'MISSED'}"
    for peer, value in figure.peers.items():
        ratio = value / figure.value if figure.value else float("inf")
        text += f"\n    {peer:<56} {value:>12.4g}   {ratio:.2f} of ours"
    return text


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--quick", action="store_true", help="smaller sizes, less exact")
    parser.add_argument("--strict", action="store_true", help="a missed budget is a failure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(names())
    if unknown:
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(names())}")

    found: dict[str, list[Figure]] = {}
    failed = False
    for name in asked.names or names():
        print(name, flush=True)
        try:
            found[name] = figures_of(name, asked.quick)
        except RuntimeError as error:
            failed = True
            print(f"  {error}", flush=True)
            continue
        print("\n".join(map(line, found[name])), flush=True)

    everything = [figure for figures in found.values() for figure in figures]
    missed = [figure for figure in everything if not figure.holds]
    print(f"{len(everything)} figures, {len(missed)} over budget")
    if asked.json:
        record = {
            name: [
                {"name": f.name, "value": f.value, "budget": f.budget, "holds": f.holds}
                for f in figures
            ]
            for name, figures in found.items()
        }
        asked.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(failed or (asked.strict and bool(missed)))


if __name__ == "__main__":
    sys.exit(main())
