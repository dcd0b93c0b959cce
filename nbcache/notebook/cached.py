"""`%%cached` in a shell: the cell stays an ordinary cell of the kernel.

The input transformer turns the magic's line into a call, so that line numbers, errors,
top-level `await` and the final value are those of any cell. The syntax transformer sees the call
and decides: on a hit it puts the replay in place of the cell; else it lets the cell run, recorded,
and what it made is kept when IPython says that the cell has ended.
"""

from __future__ import annotations

import ast
import builtins
import linecache
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nbcache.engine.identity.loaded import LoadedModules
from nbcache.errors import NotKept, NotRunError
from nbcache.notebook import render
from nbcache.notebook.recorder import Recorder, replay
from nbcache.notebook.transform import CACHED_CALL as CALL
from nbcache.plan.language.cell import parse_cached_cell

if TYPE_CHECKING:
    from nbcache.engine.cells import Begun, Cells, Restored
    from nbcache.notebook.front import Front


@dataclass
class _Running:
    """A cell that runs now and may be kept."""

    info: object
    begun: Begun | None
    recorder: Recorder | None
    reason: str = ""
    completed: bool = False


class CachedCells(ast.NodeTransformer):
    """Hung into a shell by the extension; also what the call in a marked cell refers to."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._info: object = None  # of the cell that IPython runs now
        self._running: _Running | None = None
        self._hit: tuple[Begun, Restored] | None = None
        self._error: BaseException | None = None
        self._cells: Cells | None = None
        self._loaded = LoadedModules()

    # ------------------------------------------------------------------ what IPython calls

    def install(self) -> None:
        """Hang in; the shell's other hooks are the extension's."""
        shell = self._front.shell
        shell.ast_transformers.append(self)
        shell.events.register("pre_run_cell", self.before_cell)
        shell.events.register("post_run_cell", self.after_cell)
        setattr(builtins, CALL, self)

    def uninstall(self) -> None:
        """Take out what `install` hung in."""
        shell = self._front.shell
        shell.ast_transformers[:] = [each for each in shell.ast_transformers if each is not self]
        shell.events.unregister("pre_run_cell", self.before_cell)
        shell.events.unregister("post_run_cell", self.after_cell)
        if getattr(builtins, CALL, None) is self:
            delattr(builtins, CALL)

    def before_cell(self, info: Any) -> None:
        """A cell begins."""
        self._info = info
        self._loaded.cell_begins()

    def visit_Module(self, node: ast.Module) -> ast.Module:  # ast's own name
        match node.body[:1]:
            case [
                ast.Expr(
                    value=ast.Call(
                        func=ast.Name(id=name),
                        args=[ast.Constant(value=str(header)), ast.Constant(value=str(body))],
                    )
                )
            ] if name == CALL:
                return self._begin(node, header, body)
        return node

    def after_cell(self, result: Any) -> None:
        """A cell has ended: keep what it made, if it is one of ours and ended well."""
        self._info = None
        running = self._running
        if running is None or result.info is not running.info:
            return
        self._running = None
        reason = running.reason
        if running.begun is not None and running.recorder is not None:
            shown = running.recorder.stop()
            watched = self.cells.unwatch(running.begun)
            if not (result.success and running.completed):
                return
            try:
                self.cells.keep(running.begun, shown, watched)
            except NotKept as error:
                reason = str(error)
        if reason and result.success:
            self._say(f"not kept: {reason}")

    # ------------------------------------------------------------------ what the cell calls

    def __call__(self, header: str, body: str) -> None:
        """Where nobody saw the call, the cell runs as any other."""

    def last(self, value: object) -> object:
        """The cell has come to its final expression, whose value this is."""
        if self._running is not None:
            self._running.completed = True
        return value

    def replay(self) -> None:
        """Show what a kept cell showed, and where it comes from."""
        assert self._hit is not None
        (begun, restored), self._hit = self._hit, None
        replay(list(restored.chunks))
        self.cells.note_hit(begun, restored)
        entry = restored.entry
        made = datetime.fromtimestamp(entry.at / 1e6, tz=UTC)
        now = datetime.now().astimezone()
        words = [
            ", ".join(restored.values) or "nothing assigned",
            f"cached {render.when(made, now)}",
            f"saved {render.duration(entry.realtime or 0.0)}",
        ]
        if entry.user and entry.user != self.cells.user:
            words.insert(2, f"by {entry.user}")
        sure = [name for name in begun.cell.names if name not in begun.cell.unsure]
        left = [name for name in sure if name not in restored.values]
        if left:
            words.append(f"shown and not kept: {', '.join(left)}")
        text = " · ".join(words)
        words[1] = f"cached {render.when(made)}"  # a notebook is read on other days
        self._say(text, " · ".join(words))

    def fail(self) -> None:
        """Raise what was wrong with the cell's header."""
        error, self._error = self._error, None
        assert error is not None
        raise error

    # ------------------------------------------------------------------ inside

    @property
    def cells(self) -> Cells:
        """The session's cells, made at the first one."""
        if self._cells is None:
            from nbcache.engine.cells import Cells

            self._cells = Cells(self._front.session, self._loaded)
        return self._cells

    def _begin(self, node: ast.Module, header: str, body: str) -> ast.Module:
        """Decide; never raises, since IPython would drop a transformer that does."""
        first_line, node.body = node.body[0].lineno, node.body[1:]
        if self._info is None or self._running is not None:
            return node  # run silently, or inside of another cached cell: as any cell
        try:
            return self._decide(node, header, body, first_line)
        except NotKept as error:
            self._running = _Running(self._info, None, None, str(error))
            return node
        except Exception as error:
            self._error = error
            return _only(f"{CALL}.fail()")

    def _decide(self, node: ast.Module, header: str, body: str, first_line: int) -> ast.Module:
        front = self._front
        cell = parse_cached_cell(
            header,
            body,
            cell_name=front.cell_name,
            filename=_filename(front.shell, header) or front.filename_for(body),
            line_above=first_line - 1,
        )
        begun = self.cells.begin(cell)
        fresh = front.headless is not None and bool(front.headless.choices.get("fresh"))
        restored = None if fresh else self.cells.look_up(begun)
        if restored is not None:
            self._hit = (begun, restored)
            return _only(f"{CALL}.replay()")
        if front.session.is_dry:
            raise NotRunError("what this cell makes is not cached, and nothing runs for a plan")
        recorder = Recorder(front.shell)
        self._running = _Running(self._info, begun, recorder)
        self.cells.watch(begun)
        recorder.start()
        return _with_end(node)

    def _say(self, text: str, kept: str = "") -> None:
        html = render.box(render.line(kept or text, render.FAINT).html, "cached")
        self._front.show_said(render.Rendered(text, html))


def _filename(shell: Any, header: str) -> str | None:
    """Return the name under which IPython compiles the cell, and put the magic's line back where
    tracebacks show it."""
    for name in reversed(list(getattr(shell.compile, "_filename_map", ()))):
        entry = linecache.cache.get(name)
        if entry is None or len(entry) == 1:
            continue
        for place, line in enumerate(entry[2]):
            if line.startswith(CALL):
                entry[2][place] = f"%%cached{header}\n"
                return str(name)
    return None


def _only(call: str) -> ast.Module:
    """Return a cell that does only this, and has no Out[]."""
    return ast.parse(f"if True: {call}")


def _with_end(node: ast.Module) -> ast.Module:
    """Let a cell say when it has come to its end; its final value stays the cell's own."""
    end = ast.parse(f"{CALL}.last(None)").body[0]
    assert isinstance(end, ast.Expr)
    assert isinstance(end.value, ast.Call)
    final = node.body[-1] if node.body else None
    if isinstance(final, ast.Expr):
        end.value.args = [final.value]
        node.body[-1] = ast.copy_location(end, final)
        for each in (end.value, end.value.func):
            ast.copy_location(each, final)
        ast.fix_missing_locations(end)
    else:
        node.body.append(ast.If(ast.Constant(True), [end], []))
        ast.fix_missing_locations(node)
    return node
