"""`nbcache VERB` in a shell: the verb table, the answers from the log, notebooks without a browser.

Exit codes are those of `verbs.EXIT_CODES`. What a person reads goes to stdout, errors to stderr;
`--json` prints nothing but JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nbcache.errors import (
    MissingParameterError,
    NbcacheError,
    RunError,
    StoreError,
    UsageError,
    plain,
    spoken,
)
from nbcache.notebook import verbs
from nbcache.notebook.shell_words import as_typed, place_in
from nbcache.notebook.verbs import Parsed

if TYPE_CHECKING:
    from nbcache.notebook.answer import Answer
    from nbcache.notebook.settings import Headless

OK, FAILED, USAGE, CACHE, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with spoken(partial(as_typed, place=place_in(words))):
        return _told(words)


def _told(words: list[str]) -> int:
    """Run one command; an error is a message and an exit code."""
    try:
        code = _main(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `nbcache log | head`
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (UsageError, RunError, MissingParameterError) as error:
        print(f"nbcache: {error}", file=sys.stderr)
        return USAGE
    except StoreError as error:
        print(f"nbcache: {error}", file=sys.stderr)
        return CACHE
    except NbcacheError as error:
        print(f"nbcache: {error}", file=sys.stderr)
        return FAILED


def _main(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h"):
        print(verbs.overview("shell"))
        return OK if words else USAGE
    if words[0] == "--version":
        from nbcache import __version__

        print(f"nbcache {__version__}")
        return OK
    if {"--help", "-h"} & set(words[1:]):
        print(verbs.help_of(verbs.find_verb(words[0], "shell"), "shell"))
        return OK
    parsed = verbs.parse_argv(words)
    if parsed.verb.name == "help":
        verb = parsed.words and verbs.find_verb(parsed.words[0], "shell")
        print(verbs.help_of(verb, "shell") if verb else verbs.overview("shell"))
        return OK
    return _VERBS.get(parsed.verb.name, _answer)(parsed)


def _keys(parsed: Parsed) -> int:
    from nbcache.notebook.keys_view import keys_answer

    return _tell(parsed, keys_answer(parsed, "shell"))


def _completion(parsed: Parsed) -> int:
    from nbcache.notebook import shell_completion

    line = parsed.text("--line")
    if line is not None:
        print("".join(f"{word}\n" for word in shell_completion.offered(line)), end="")
    else:
        print(shell_completion.script_for(parsed.word or ""))
    return OK


def _share(parsed: Parsed) -> int:
    from nbcache.notebook import answers, team_view

    place = Path(parsed.text("--cache") or ".nbcache")
    if parsed.words and "--off" not in parsed:
        return _tell(parsed, team_view.share_in_shell(parsed, place))
    with answers.open_for_reading(place) as cache:
        return _tell(parsed, team_view.sharing_in_shell(parsed, cache))


def _debug(parsed: Parsed) -> int:
    from nbcache.engine.debugging import open_task
    from nbcache.notebook import answers, debugging

    cache = None
    place = Path(parsed.text("--cache") or ".nbcache")
    if "--cache" in parsed or place.is_dir():
        cache = answers.open_for_reading(place)
    opened = open_task(cache, parsed.words, parsed.text("--run"), parsed.text("--attempt"))
    print(debugging.describe(opened).text, flush=True)
    if "--print" in parsed:
        return OK
    if "--again" in parsed:
        return debugging.run_again_in_shell(opened)
    return debugging.open_shell(opened)


def _run(parsed: Parsed) -> int:
    return _run_notebook(parsed, Path(parsed.words[0]), _absolute(parsed.text("--cache")))


def _run_notebook(parsed: Parsed, notebook: Path, place: str | None) -> int:
    from nbcache.notebook.choices import choices_of
    from nbcache.notebook.settings import Headless

    given = parsed.parameters()
    settings = Headless(
        place,
        choices_of(parsed),
        str(notebook.resolve()),
        given,
        retention=_retention(parsed),
        typed_cache=parsed.text("--cache"),
    )
    return _execute(parsed, notebook, given, settings)


def _plan(parsed: Parsed) -> int:
    """Say what a run of a notebook would do: its cells are executed in a kernel that runs nothing,
    without those that need what would have to run."""
    from nbcache.notebook import answers
    from nbcache.notebook.choices import choices_of
    from nbcache.notebook.headless import execute
    from nbcache.notebook.report import PlanWatcher
    from nbcache.notebook.settings import Headless

    notebook, *targets = parsed.words
    given, path = parsed.parameters(), Path(notebook)
    place = _absolute(parsed.text("--cache"))
    if place is not None:
        answers.open_for_reading(Path(place)).close()  # a plan makes none
    settings = Headless(
        place,
        choices_of(parsed),
        str(path.resolve()),
        given,
        is_dry=True,
        typed_cache=parsed.text("--cache"),
    )
    execution = execute(
        path, given=given, settings=settings, output=None, watcher=PlanWatcher(), targets=targets
    )
    if execution.interrupted:
        raise KeyboardInterrupt
    if execution.failed_cell is not None:
        return _cell_failed(execution.failed_cell)
    found = execution.planning
    print(json.dumps(found.record(), indent=2) if "--json" in parsed else found.words())
    return OK


def _cell_failed(failed: tuple[int, str]) -> int:
    number, traceback = failed
    print(f"\ncell [{number}] failed:\n{_readable(traceback)}", file=sys.stderr)
    return FAILED


def _retention(parsed: Parsed) -> str | None:
    """Return what was said of it, checked before a kernel is started for it."""
    from nbcache.engine.upkeep.cleaning import check_retention

    retention = parsed.text("--retention")
    check_retention(retention or "")
    return retention


def _again(parsed: Parsed) -> int:
    """Resume or relaunch: the run's notebook in a fresh kernel, which performs it."""
    from nbcache.engine.record import history
    from nbcache.engine.running import resuming
    from nbcache.model.run_options import RunOptions
    from nbcache.notebook import again, answers
    from nbcache.notebook.choices import choices_of
    from nbcache.notebook.headless import read_notebook
    from nbcache.notebook.settings import Headless

    word = parsed.word
    place = Path(parsed.text("--cache") or ".nbcache").resolve()
    changes = parsed.parameters()
    named = parsed.text("--notebook")
    may_be_first = named is not None and word in (None, "last")
    if may_be_first and not place.exists():
        return _first_run(parsed, place)
    with answers.open_for_reading(place) as cache:
        if may_be_first and not history.runs(cache):
            return _first_run(parsed, place)
        if named is None and not cache.is_own:
            raise UsageError(
                f"{place} is not your cache, so it does not say which notebook to execute: "
                "--notebook FILE"
            )
        find = resuming.find_resumable if parsed.verb.name == "resume" else history.find_run
        run = find(cache, word, notebook=named)
    notebook = again.notebook_of(run, place.parent, named)
    manner = RunOptions.from_texts(run.options).manner()
    settings = Headless(
        str(place),
        {**manner.choices(), **choices_of(parsed)},  # also of what else the notebook runs
        str(notebook.resolve()),
        {**run.parameters, **changes},
        again.again_of(parsed.verb.name, run),
        _retention(parsed),
        typed_cache=parsed.text("--cache"),
    )
    given = again.injected(read_notebook(notebook), run.parameters, changes)
    return _execute(parsed, notebook, given, settings)


def _first_run(parsed: Parsed, place: Path) -> int:
    """Run the notebook that a resume or relaunch names, where there is no run to go on with."""
    said = sys.stderr if "--json" in parsed else sys.stdout
    print(f"the cache {place} has no runs yet: this is a plain run", file=said)
    return _run_notebook(parsed, Path(parsed.text("--notebook") or ""), str(place))


def _execute(parsed: Parsed, notebook: Path, given: Mapping[str, str], settings: Headless) -> int:
    from nbcache.notebook.headless import execute
    from nbcache.notebook.report import TerminalWatcher, final_words, record_of

    output = _writable(parsed.text("--output"))
    verbose, as_json = "--verbose" in parsed, "--json" in parsed
    said = sys.stderr if as_json else sys.stdout
    watcher = TerminalWatcher(said, verbose=verbose)
    execution = execute(notebook, given=given, settings=settings, output=output, watcher=watcher)
    watcher.finish()
    print(final_words(execution, verbose=verbose), end="", file=said)
    if execution.failed_cell is not None:
        _cell_failed(execution.failed_cell)
    if output is not None:
        print(f"wrote {output}", file=said)
    if as_json:
        print(json.dumps(record_of(execution, notebook), indent=2))
    if execution.interrupted:
        return INTERRUPTED
    return FAILED if execution.failed_cell is not None else OK


def _writable(output: str | None) -> Path | None:
    """Return the file that `--output` means, which is written when all has run.

    Raises:
        UsageError: nothing can be written there. Better now than after hours.
    """
    if output is None:
        return None
    path = Path(output).expanduser()
    folder, is_there = path.resolve().parent, path.exists()
    takers = [path] if is_there else []
    if path.is_file() or not is_there:
        takers.append(folder)  # where a new file replaces the old one
    if path.is_dir():
        reason = "it is a folder"
    elif not is_there and not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif not any(os.access(each, os.W_OK) for each in takers):
        reason = "permission denied"
    else:
        return path
    raise UsageError(f"cannot write {output}: {reason}")


def _absolute(place: str | None) -> str | None:
    """A folder is meant relative to the shell; the kernel works in the notebook's folder."""
    return place if place is None or "://" in place else str(Path(place).resolve())


def _readable(traceback: str) -> str:
    is_dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return plain(traceback) if is_dumb or not sys.stderr.isatty() else traceback


def _answer(parsed: Parsed) -> int:
    from nbcache.notebook import answers

    place = Path(parsed.text("--cache") or ".nbcache")
    if parsed.verb.name == "doctor" and "--cache" not in parsed and not place.exists():
        return _tell(parsed, answers.doctor(parsed, None))
    return _tell(parsed, answers.perform(parsed, answers.open_for_reading(place)))


def _tell(parsed: Parsed, answer: Answer) -> int:
    """Print an answer, and return the exit code that it means."""
    if answer.raw is not None:
        sys.stdout.buffer.write(answer.raw)
    elif "--json" in parsed:
        print(json.dumps(answer.data, indent=2, default=str))
    else:
        print(answer.rendered.text)
    return OK if answer.good else CACHE


_VERBS: dict[str, Callable[[Parsed], int]] = {  # that are not only answers from the log
    "run": _run,
    "plan": _plan,
    "share": _share,
    "debug": _debug,
    "resume": _again,
    "relaunch": _again,
    "keys": _keys,
    "completion": _completion,
}
