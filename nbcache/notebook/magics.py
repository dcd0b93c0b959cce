"""The magics: they read a cell, ask the session, and show what it answers. No logic of their own.

`%%process`, `%channel`, `%%channel`, `%nbcache VERB`, `%nbsql`, `%%nbsql`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from nbcache.errors import NotRunError, UsageError, WiringError
from nbcache.notebook import cards, live, verbs
from nbcache.notebook import progress as pictures
from nbcache.notebook.choices import choices_of
from nbcache.notebook.front import Front
from nbcache.notebook.trying import from_the_body, named, try_line
from nbcache.plan.language.header import parse_channel_cell, parse_channel_line, parse_process_cell

if TYPE_CHECKING:
    from nbcache.engine.running.run import Run
    from nbcache.notebook.answer import Answer
    from nbcache.notebook.widget.view import Page
    from nbcache.store.history import Logged

_INTO = re.compile(r"(?:^|(?<=\s))([^\W\d]\w*)\s*<<\s*$")


@magics_class
class NbcacheMagics(Magics):  # type: ignore[misc]  # IPython comes without types
    """The magics of one shell."""

    def __init__(self, front: Front) -> None:
        super().__init__(shell=front.shell)
        self.front = front

    @no_var_expand
    @cell_magic
    def process(self, line: str, cell: str) -> None:
        """Make this cell a process: a step that runs for each item of its channels.

        %%process NAME(INPUTS) -> OUTPUTS from SOURCES --OPTION VALUE

            %%process fit(depth, trees) -> score from grid --cpus 2
            score = evaluate(depth, trees)

        Everything after the name may be left out. Nothing runs until a run or a read asks for it.
        """
        front = self.front
        decl = parse_process_cell(line, cell, cell_name=front.cell_name)
        decl = replace(decl, filename=front.filename_for(decl.source))
        process = front.session.declare(decl)
        front.place_card(process, front.session.card(process, declared=True))
        if front.auto and not front.session.is_dry:
            with contextlib.suppress(WiringError):  # its card says what is missing
                front.watch(front.session.start([process.name]))

    @no_var_expand
    @cell_magic
    def cached(self, line: str, cell: str) -> None:
        """Keep what this cell assigns and shows; bring it back where nothing has changed.

        %%cached [NAME, NAME...] [--env VARIABLES] [--ignore NAMES]

            %%cached model, score
            model = train(table)
            score = model.score(test)

        Runs in the kernel, as any cell. The second time, also in a fresh kernel, the names and what
        was shown come back, unless code, data, modules or files that it reads have changed. Without
        names all that it assigns is kept.
        """
        self.shell.run_cell(f"%%cached{line and ' ' + line}\n{cell}")

    @no_var_expand
    @line_magic
    def channel(self, line: str) -> None:
        """Name a channel: %channel NAME = EXPRESSION

            %channel reads = from_file_pairs("data/*_{1,2}.fq")
            %channel grid = product(depth=[2, 4, 8], rep=range(3))

        The expression is evaluated at each run, read and plan, with the files and variables then.
        """
        self._declare_channel(parse_channel_line(line))

    @no_var_expand
    @cell_magic("channel")
    def channel_cell(self, line: str, cell: str) -> None:
        """Name a channel by a block of Python whose last expression is the channel.

        %%channel NAME
        rows = [row for row in table.itertuples() if row.good]
        from_iterable(rows)
        """
        self._declare_channel(parse_channel_cell(line, cell))

    def _declare_channel(self, decl: Any) -> None:
        session = self.front.session
        channel = session.declare_channel(decl)
        self.front.show(cards.render_channel(session.channel_view(channel)))

    @no_var_expand
    @line_magic
    def nbcache(self, line: str) -> object:
        """Overwritten below by the verb table's own text."""
        __tracebackhide__ = True  # what a tried body raises is shown from the body on
        if not line.strip():
            print(verbs.overview("notebook"))
            return None
        return self._perform(verbs.parse_line(line))

    @no_var_expand
    @line_magic
    def nbsql(self, line: str) -> object:
        """Ask the history: %nbsql SELECT process, count(*) FROM tasks GROUP BY 1

        `df = %nbsql SELECT ...` keeps the answer, a DataFrame; `--format arrow` (polars, json, csv)
        before the query gives it another form. Views: tasks, attempts, runs, processes, components,
        inputs, outputs, lineage.
        """
        return self._sql(line)

    @no_var_expand
    @cell_magic("nbsql")
    def nbsql_cell(self, line: str, cell: str) -> object:
        """Ask the history: `%%nbsql` above the query; `%%nbsql NAME <<` binds the answer to NAME.

        Options as for %nbsql: `%%nbsql --format polars NAME <<`.
        """
        into = _INTO.search(line)
        if into is None:
            return self._sql(f"{line}\n{cell}")
        self.shell.user_ns[into[1]] = self._sql(f"{line[: into.start()]}\n{cell}")
        return None

    def _sql(self, text: str) -> object:
        if not text.strip():
            raise UsageError("usage: %nbsql SELECT ..., or %%nbsql above a query")
        parsed = verbs.parse_line(f"sql {text.strip()}")
        return self._queried(parsed)

    def _queried(self, parsed: verbs.Parsed) -> object:
        from nbcache.notebook.query_result import for_notebook

        session = self.front.session
        history: Logged = session.cache
        if "--shared" in parsed:
            from nbcache.notebook import team_view

            history = team_view.history_of(session.tier() or team_view.tier_of(session.cache))
        return for_notebook(history, parsed.words[0], parsed)

    def _perform(self, parsed: verbs.Parsed) -> object:
        __tracebackhide__ = True
        own: dict[str, Callable[[verbs.Parsed], object]] = {
            "use": self._use,
            "auto": self._auto,
            "run": self._run,
            "resume": self._resume,
            "relaunch": self._relaunch,
            "restore": self._restore,
            "plan": self._plan,
            "trust": self._trust,
            "try": self._try,
            "debug": self._debug,
            "cancel": self._cancel,
            "check": self._check,
            "keys": self._keys,
            "share": self._share,
            "push": self._transfer,
            "pull": self._transfer,
            "show": self._show,
            "runs": self._runs,
            "diff": self._diff,
            "help": self._help,
        }
        name = parsed.verb.name
        is_looked_at = name == "share" and parsed.words  # nothing is changed by that
        if parsed.verb.acts and self.front.session.is_dry and not is_looked_at:
            if parsed.verb.acts == "for results":
                raise NotRunError(f"%nbcache {name} does nothing in a plan")
            self.front.say(f"%nbcache {name} does nothing in a plan")
            return None
        if name in own:
            return own[name](parsed)
        if name == "sql":
            return self._queried(parsed)
        return self._tell(parsed, _answers().perform(parsed, self.front.session.cache))

    def _tell(self, parsed: verbs.Parsed, answer: Answer) -> object:
        """Return the data for `--json`, else show the picture."""
        if "--json" in parsed:
            return answer.data
        self.front.show(answer.rendered)
        return None

    def _use(self, parsed: verbs.Parsed) -> None:
        headless = self.front.headless
        if headless is None or headless.cache is None:  # the command line's --cache goes first
            self.front.session.use(parsed.words[0], retention=parsed.text("--retention") or "")

    def _auto(self, parsed: verbs.Parsed) -> None:
        if parsed.words and parsed.words[0] not in ("on", "off"):
            raise UsageError(f"auto is on or off, not {parsed.words[0]!r}")
        if parsed.words:
            self.front.auto = parsed.words[0] == "on"
        else:
            print(f"auto is {'on' if self.front.auto else 'off'}")

    def _run(self, parsed: verbs.Parsed) -> object:
        session, pending = self.front.session, self.front.pending
        headless = self.front.headless
        asked = headless.choices if headless is not None else {}
        targets = self._targets(parsed)
        if pending is not None and pending.takes(targets, session.names.declared()):
            start = getattr(session, pending.again.verb)
            return self._follow(parsed, start, pending.again.run, parameters={}, **asked)
        if pending is not None:  # not the run that goes on
            asked = {}
        return self._follow(
            parsed,
            session.start,
            targets,
            no_cache="--no-cache" in parsed,
            **asked,
        )

    def _targets(self, parsed: verbs.Parsed) -> list[str]:
        """Return the processes that are named, and those with the label that is."""
        label = parsed.text("--label")
        return [*parsed.words, *(self.front.session.names.labelled(label) if label else ())]

    def _resume(self, parsed: verbs.Parsed) -> object:
        return self._follow(parsed, self.front.session.resume, parsed.word)

    def _relaunch(self, parsed: verbs.Parsed) -> object:
        return self._follow(parsed, self.front.session.relaunch, parsed.word)

    def _follow(
        self, parsed: verbs.Parsed, start: Callable[..., Run], what: object, **how: object
    ) -> Run:
        """Begin a run as the command says, and show it; `how` goes before what it says."""
        front = self.front
        detached = "--detach" in parsed
        how.setdefault("parameters", parsed.parameters())
        told = front.headless.retention if front.headless is not None else None
        how["retention"] = told if told is not None else parsed.text("--retention")
        run = start(what, detached=detached, **{**choices_of(parsed), **how})
        if detached:
            front.detach(run)
        else:
            front.watch(run)
        return run

    def _restore(self, parsed: verbs.Parsed) -> object:
        restored = self.front.session.restore(parsed.word)
        self.front.show(_answers().restored_answer(restored).rendered)
        return restored

    def _plan(self, parsed: verbs.Parsed) -> object:
        session, headless = self.front.session, self.front.headless
        asked = headless.choices if headless is not None else {}
        options = session.manner.but({**choices_of(parsed), **asked})
        targets = self._targets(parsed)
        not_known: dict[str, str] = {}
        if session.is_dry and not targets:
            fitting, not_known = session.names.fitting()
            targets = fitting if not_known else []
        plans = session.plan(targets, options, parameters=parsed.parameters())
        records = [asdict(plan) for plan in plans]
        if "--json" in parsed:
            return records
        told = {"plan": records, "not_known": not_known}
        self.front.show(
            pictures.render_plan(plans), {pictures.PLAN_MIME: told} if session.is_dry else {}
        )
        return None

    def _trust(self, parsed: verbs.Parsed) -> object:
        return self._tell(parsed, _answers().trust(parsed, self.front.session))

    def _try(self, parsed: verbs.Parsed) -> None:
        __tracebackhide__ = True
        name, *rest = parsed.words
        chosen = parsed.text("--item")
        if chosen is not None and rest:
            raise UsageError("give the item once: as words or with --item")
        item = chosen if chosen is not None else " ".join(rest) or None
        session, into = self.front.session, "--into" in parsed
        made = from_the_body(self.shell, lambda: session.try_one(name, item, into=into))
        print(try_line(made))

    def _debug(self, parsed: verbs.Parsed) -> None:
        __tracebackhide__ = True
        from nbcache.engine import debugging
        from nbcache.notebook.debugging import describe

        session = self.front.session
        opened = debugging.open_task(
            session.cache, parsed.words, parsed.text("--run"), parsed.text("--attempt")
        )
        if "--print" in parsed:
            self.front.show(describe(opened))
            return
        self.front.show(describe(opened, debugging.bind(opened, session.namespace)))
        if "--again" in parsed:
            made = from_the_body(self.shell, lambda: debugging.run_again_here(opened))
            print(" · ".join(named(made)))

    def _check(self, parsed: verbs.Parsed) -> object:
        from nbcache.notebook import housekeeping

        return self._tell(parsed, housekeeping.check_answer(parsed, self.front.session))

    def _keys(self, parsed: verbs.Parsed) -> object:
        from nbcache.notebook.keys_view import keys_answer

        return self._tell(parsed, keys_answer(parsed, "notebook"))

    def _share(self, parsed: verbs.Parsed) -> object:
        from nbcache.notebook import team_view

        session = self.front.session
        if "--off" in parsed:
            team_view.check_words(parsed)
            session.unshare()
            return self._tell(parsed, team_view.off())
        if not parsed.words:
            return self._tell(parsed, team_view.status(session.cache, session.tier()))
        tier = session.share(parsed.words[0], **team_view.manner(parsed))
        return self._tell(parsed, team_view.status(session.cache, tier))

    def _transfer(self, parsed: verbs.Parsed) -> object:
        from nbcache.notebook import team_view

        tier = self.front.session.tier() or team_view.tier_of(self.front.session.cache)
        return self._tell(parsed, team_view.TRANSFERS[parsed.verb.name](parsed, tier))

    def _cancel(self, parsed: verbs.Parsed) -> None:
        run = self.front.session.last_run
        if run is not None and not run.done and parsed.word in (None, "last", run.name, run.id):
            run.cancel()
            run.wait(live.GRACE_S)
            self.front.show(pictures.render_progress(run.progress()))
            return
        self.front.show(_answers().perform(parsed, self.front.session.cache).rendered)

    def _show(self, parsed: verbs.Parsed) -> object:
        session = self.front.session
        answer = _answers().perform(parsed, session.cache)
        if "--json" in parsed:
            return answer.data
        if "--mermaid" in parsed:
            self.front.show(answer.rendered)
        else:
            self.front.show_run(str(answer.data["run"]), answer.rendered)
        return None

    def _runs(self, parsed: verbs.Parsed) -> object:
        answer = _answers().perform(parsed, self.front.session.cache)
        if "--json" in parsed:
            return answer.data
        if answer.data:
            self.front.show_run(str(answer.data[0]["run"]), answer.rendered, page={"name": "runs"})
        else:
            self.front.show(answer.rendered)
        return None

    def _diff(self, parsed: verbs.Parsed) -> object:
        answer = _answers().perform(parsed, self.front.session.cache)
        if "--json" in parsed:
            return answer.data
        runs = [{"run": str(each["run"]), "name": str(each["name"])} for each in
                (answer.data["before"], answer.data["after"])]  # fmt: skip
        asked = {"data": "--data" in parsed, "process": parsed.text("--process"),
                 "limit": parsed.text("--limit")}  # fmt: skip
        page: Page = {"name": "diff", "runs": runs, "asked": asked}
        self.front.show_run(runs[1]["run"], answer.rendered, page=page)
        return None

    def _help(self, parsed: verbs.Parsed) -> None:
        if parsed.words:
            print(verbs.help_of(verbs.find_verb(parsed.words[0], "notebook"), "notebook"))
        else:
            print(verbs.overview("notebook"))


def _answers() -> ModuleType:
    """The answers from the log, imported when first asked for, so that loading stays quick."""
    from nbcache.notebook import answers

    return answers


NbcacheMagics.nbcache.__doc__ = verbs.overview("notebook")
