from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
from IPython.core.completer import provisionalcompleter

from nbcache.errors import HeaderError, RunFailed, UsageError
from nbcache.model.task import RunStatus
from nbcache.notebook import render
from nbcache.notebook.extension import leave
from nbcache.notebook.task_table import cell
from tests.notebook.shells import Shell, shell_in
from tests.waiting import PATIENCE_S, is_alive, wait_until


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as found:
        yield found


@pytest.fixture
def fitted(shell: Shell) -> Shell:
    """A grid of four items and a process over it, nothing run yet."""
    shell.ok("%channel grid = product(depth=[2, 4], rep=range(2))")
    shell.ok(
        "%%process fit(depth, rep) -> score from grid\nprint('hi', depth)\nscore = depth * 10 + rep"
    )
    return shell


def test_loading_is_silent_and_loading_again_changes_nothing(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        session = shell.session
        transformers = list(shell.ip.input_transformers_cleanup)

        assert shell.ok("%load_ext nbcache").text.strip() == ""
        assert shell.ok("x = 1\n%load_ext nbcache\nx").value == 1
        assert shell.ok("%reload_ext nbcache").text.strip() == ""
        assert shell.ok("import nbcache\nnbcache.load_ipython_extension(get_ipython())").text == ""

        assert shell.session is session
        assert shell.ip.input_transformers_cleanup == transformers


def test_results_lie_beside_the_notebook_wherever_the_kernel_went_after_the_load(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    shell.ok("import os; os.chdir('deeper')")
    shell.ok("%channel xs = of(1)")
    shell.ok("%%process double(x) -> y from xs\ny = 2 * x")

    shell.ok("%nbcache run")

    assert (tmp_path / ".nbcache").is_dir()
    assert not (tmp_path / "deeper" / ".nbcache").exists()


def test_plain_python_finds_the_session_of_the_kernel(shell: Shell) -> None:
    assert shell.ok("import nbcache; nbcache.session()").value is shell.session


def test_unloading_takes_the_magics_out(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        shell.ok("%unload_ext nbcache")

        assert "not found" in shell.run("%nbcache runs").text
        assert not any("nbcache" in str(each) for each in shell.ip.ast_transformers)

        shell.ok("%load_ext nbcache")
        assert "no runs yet" in shell.ok("%nbcache runs").text


def test_a_kernel_is_left_in_order_where_a_cell_unloaded_the_magics(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        shell.ok("%%process at -> pid\nimport os\npid = os.getpid()")
        worker = shell.ok("at.value").value
        go_on = tmp_path / "go_on"
        shell.ok(
            f"%%process late -> said\nimport os, time\nwhile not os.path.exists({str(go_on)!r}):\n"
            "    time.sleep(0.01)\nsaid = 'done'"
        )
        shell.ok("run = %nbcache run late --detach")
        shell.ok("%unload_ext nbcache")
        run = shell.ip.user_ns["run"]
        Timer(0.3, go_on.touch).start()

        leave(shell.ip, cancelled=False)

        assert (run.status, list(run["late"])) == (RunStatus.SUCCEEDED, ["done"])
        wait_until(lambda: not is_alive(worker), "the worker to end")


def test_a_channel_shows_its_fields_and_first_items(shell: Shell) -> None:
    answer = shell.ok("%channel grid = product(depth=[2, 4, 8], rep=range(2))  # a remark")

    assert answer.text.startswith("grid · 6 items · depth, rep\n  depth=2 rep=0")
    assert "<script" not in answer.shown[0]["text/html"]


def test_a_channel_may_span_lines_and_a_glob_without_a_match_says_where_it_looked(
    shell: Shell, tmp_path: Path
) -> None:
    shell.ok("%channel grid = product(\n    depth=[2, 4],\n)")

    assert "no file matches data/*.fq" in shell.run('%channel reads = from_path("data/*.fq")').text


def test_a_process_shows_its_card_and_runs_nothing(fitted: Shell) -> None:
    text = fitted.ok("fit").text

    assert "fit(depth, rep) → score · from grid" in text
    assert "4 tasks: 0 cached, 4 to run" in text
    assert fitted.session.last_run is None


def test_a_process_below_a_comment_is_a_process(shell: Shell) -> None:
    shell.ok("%channel xs = of(1, 2)")

    assert (
        "double(x) → y" in shell.ok("# twice\n\n%%process double(x) -> y from xs\ny = 2 * x").text
    )


def test_a_typo_in_the_header_points_at_it_and_the_earlier_process_stays(fitted: Shell) -> None:
    before = fitted.ip.user_ns["fit"]

    answer = fitted.run("%%process fit(depth, rep) -> score form grid\nscore = 1")

    assert isinstance(answer.error, HeaderError)
    assert 'did you mean "from"?' in answer.text
    assert "^" in answer.text
    assert "Traceback" not in answer.text
    assert "magics.py" not in answer.text
    assert fitted.ip.user_ns["fit"] is before


def test_a_bare_run_is_shown_once_and_not_again_as_out(fitted: Shell) -> None:
    answer = fitted.ok("%nbcache run")

    assert answer.value is None
    assert answer.text.count("4 ran, 0 cached") == 2  # the process, then the whole
    assert "run" not in fitted.ip.user_ns


def test_an_assigned_run_gives_the_results(fitted: Shell) -> None:
    fitted.ok("run = %nbcache run")

    assert list(fitted.ip.user_ns["run"]["fit"]) == [20, 21, 40, 41]
    table = fitted.ok("fit.table()").value
    assert list(table.columns) == ["depth", "rep", "score"]
    assert len(table) == 4


def test_a_second_run_is_a_badge(fitted: Shell) -> None:
    fitted.ok("%nbcache run")

    lines = fitted.ok("%nbcache run").out.splitlines()

    badge = next(line for line in lines if line.startswith("4 cached · today "))
    assert "by you" in badge
    assert "saved" in badge
    assert "hi 2" in lines[lines.index(badge) :]


def test_options_of_a_run(fitted: Shell) -> None:
    fitted.ok("%nbcache run")

    assert "4 ran, 0 cached" in fitted.ok("%nbcache run fit --fresh").text
    detached = fitted.ok("run = %nbcache run --detach")
    fitted.ip.user_ns["run"].wait(PATIENCE_S)
    assert detached.error is None
    assert fitted.ip.user_ns["run"].progress().status == "succeeded"


def test_a_failed_task_ends_the_cell_in_a_short_report(shell: Shell) -> None:
    shell.ok("%channel reps = of(1, 2, 3)")
    shell.ok("def norm(x):\n    return 1 / x")
    shell.ok("%%process inverse(rep) -> score from reps\nscore = norm(rep - 1)")

    answer = shell.run("%nbcache run")

    assert isinstance(answer.error, RunFailed)
    report = answer.out[answer.out.index("RunFailed") :].strip().splitlines()
    assert len(report) <= 6
    assert "inverse[rep=1] ZeroDivisionError" in report[0]
    assert "cell [3] line 2: score = norm(rep - 1)" in report[1]
    assert "2 of 3 done and kept" in answer.out
    assert "%nbcache try inverse --item failed" in answer.out
    assert shell.session.last_run is not None
    told = shell.session.last_run.failures[0].traceback.splitlines()
    assert told[1:3] == ["  cell [3], line 2, in <module>", "    score = norm(rep - 1)"]
    assert "  cell [2], line 2, in norm" in told


def test_a_try_prints_plainly_and_says_what_came_of_it(fitted: Shell) -> None:
    fitted.ok("import numpy as np")
    fitted.ok("%%process fit(depth, rep) from grid\nprint('hi', depth)\nnp.float64(depth / 10)")
    fitted.ip.events.register("post_execute", figure := lambda: print("a figure"))

    answer = fitted.ok("%nbcache try fit depth=4")
    fitted.ip.events.unregister("post_execute", figure)

    lines = answer.out.splitlines()
    assert lines[:2] == ["hi 4", "a figure"]  # what a cell shows at its end comes before
    assert lines[2].startswith("item depth=4 rep=0 · ")
    assert lines[2].endswith("not cached · fit = 0.4")

    folder = Path.cwd()
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert "fit = 0.2" in fitted.ok("%nbcache try fit").out  # also where the kernel's is deleted
    os.chdir(folder)


def test_a_try_that_fails_has_an_ordinary_traceback_into_the_cell(shell: Shell) -> None:
    shell.ok("%channel xs = of(0, 1)")
    shell.ok("%%process inverse(x) -> y from xs\ny = 1 / x")

    answer = shell.run("%nbcache try inverse")

    assert isinstance(answer.error, ZeroDivisionError)
    assert "y = 1 / x" in answer.out
    assert "engine" not in answer.out
    assert "magics.py" not in answer.out


def test_a_plan_says_what_would_run_and_why(fitted: Shell) -> None:
    fitted.ok("%nbcache run")
    fitted.ok("%%process fit(depth, rep) -> score from grid\nscore = depth * 100 + rep")

    text = fitted.ok("%nbcache plan").text

    assert "0 cached, 4 to run" in text
    assert "the code of fit changed" in text
    assert fitted.ok("%nbcache plan --json").value[0]["to_run"] == 4


def test_a_plan_takes_the_choices_of_the_run_that_it_foretells(shell: Shell) -> None:
    shell.ok("scale = 2\n%channel xs = of(1, 2)")
    shell.ok("%%process fit(x) -> y from xs --label quick\ny = x * scale\n#| stub:\ny = 0")
    shell.ok("%%process other(x) -> z from xs\nz = x")
    shell.ok("%nbcache run")

    def to_run(options: str) -> dict[str, int]:
        plans = shell.ok(f"%nbcache plan {options} --json").value
        return {plan["name"]: plan["to_run"] for plan in plans}

    assert to_run("") == {"fit": 0, "other": 0}
    assert (
        to_run("--stub") == to_run("-p scale=3") == to_run("--from fit") == {"fit": 2, "other": 0}
    )
    assert to_run("--label quick --fresh") == {"fit": 2}


def test_the_log_answers_in_the_notebook(fitted: Shell) -> None:
    fitted.ok("%nbcache run")
    fitted.ok("%nbcache run")

    assert "succeeded" in fitted.ok("%nbcache runs").text
    assert "0 ran, 4 cached" in fitted.ok("%nbcache show").text
    assert fitted.ok("%nbcache log").text.count("CACHED") == 4
    assert "was cached" in fitted.ok("%nbcache why fit 1").text
    assert "no run is going" in fitted.ok("%nbcache status").text
    assert "all is well" in fitted.ok("%nbcache verify").text
    assert "packages" in fitted.ok("%nbcache doctor").text
    assert fitted.ok("%nbcache show --json").value["counts"] == {"cached": 4}


def test_queries_give_data_frames(fitted: Shell) -> None:
    fitted.ok("%nbcache run")

    assert fitted.ok("n = %nbsql SELECT count(*) AS n FROM tasks").error is None
    assert int(fitted.ip.user_ns["n"]["n"][0]) == 4
    fitted.ok("%%nbsql counts <<\nSELECT process, count(*) AS n\nFROM tasks GROUP BY 1")
    assert list(fitted.ip.user_ns["counts"]["process"]) == ["fit"]
    assert int(fitted.ok("%%nbsql SELECT 41 + 1 AS answer").value["answer"][0]) == 42
    fitted.ok("%%nbsql --format arrow arrow <<\nSELECT count(*) AS n FROM tasks")
    assert fitted.ip.user_ns["arrow"].column("n").to_pylist() == [4]
    assert "no view 'nowhere'" in fitted.run("%nbsql SELECT nothing FROM nowhere").text
    assert "usage: %nbcache sql" in fitted.run("%%nbsql --format csv").text


def test_python_gets_a_live_connection_to_the_notebooks_cache(fitted: Shell) -> None:
    fitted.ok("%nbcache run")

    fitted.ok("import nbcache; connection = nbcache.connect()")
    connection = fitted.ip.user_ns["connection"]
    try:
        assert connection.sql("SELECT count(*) FROM tasks").fetchall() == [(4,)]
        fitted.ok("%nbcache run")
        wait_until(lambda: connection.sql("SELECT count(*) FROM tasks").fetchall() == [(8,)])
    finally:
        connection.close()


def test_a_connection_to_a_folder_without_a_cache_is_refused(shell: Shell, tmp_path: Path) -> None:
    answer = shell.run(f"import nbcache; nbcache.connect({str(tmp_path / 'none')!r})")

    assert "there is no nbcache cache" in answer.text
    assert not (tmp_path / "none").exists()


def test_the_log_shows_what_a_task_asked_for_as_people_write_it() -> None:
    shown = [cell(name, 90_000_000) for name in ("disk", "memory")]

    assert shown == [render.size(90_000_000)] * 2
    assert cell("time", 90) == render.duration(90)


def test_the_log_fills_in_a_template(fitted: Shell, tmp_path: Path) -> None:
    fitted.ok("%nbcache run")

    text = fitted.ok("%nbcache log -t '{task_id} {status}' -F 'attempt = 1'").text
    assert "fit[0] COMPLETED\nfit[1] COMPLETED" in text
    (tmp_path / "line.txt").write_text("{process}-{position}\n")
    text = fitted.ok(f"%nbcache log -t {tmp_path / 'line.txt'}").text
    assert "fit-0\nfit-1" in text
    assert "fit\t0\nfit\t1" in fitted.ok("%nbcache log -s '\\t' -f process,position").text
    assert 'did you mean "stdout"' in fitted.run("%nbcache log -f stdot").text
    fitted.ok("told = %nbcache log -f start --json")
    assert fitted.ip.user_ns["told"][0]["start"][10] == "T"  # ISO 8601, as in SQL's JSON
    for wrong in ("name", "'{name'", str(tmp_path)):
        said = fitted.run(f"%nbcache log -t {wrong}").text
        assert "names no {field}, and cannot be read as a file: " in said
        assert "Write fields in braces" in said
        assert "Errno" not in said
    assert "do not go together" in fitted.run("%nbcache log -t '{name}' -f name").text
    assert "%cpu" in fitted.ok("%nbcache log -l").text


def test_dollars_and_braces_are_not_expanded(shell: Shell) -> None:
    shell.ip.user_ns["x"] = "WRONG"
    shell.ok("%channel xs = of('a')")

    shell.ok("%%process say(x) -> stdout from xs --bash --tag '{x}'\nstdout=\"$x {x}\"")

    assert "WRONG" not in shell.ip.user_ns["say"].decl.source


def test_a_wrong_verb_or_option_names_the_nearest(shell: Shell) -> None:
    assert 'did you mean "runs"' in shell.run("%nbcache rns").text
    answer = shell.run("%nbcache run --frehs")
    assert isinstance(answer.error, UsageError)
    assert 'did you mean "--fresh"' in answer.text
    assert "Traceback" not in answer.text


def test_help_is_at_hand(shell: Shell) -> None:
    assert "run the pipeline" in shell.ok("%nbcache").out
    assert "--detach" in shell.ok("%nbcache help run").out
    assert "%nbcache VERB" in shell.ip.magics_manager.magics["line"]["nbcache"].__doc__


def test_tab_completes_verbs_options_processes_and_channels(fitted: Shell) -> None:
    def completions(text: str) -> list[str]:
        with provisionalcompleter():
            return [each.text for each in fitted.ip.Completer.completions(text, len(text))]

    assert "plan" in completions("%nbcache pl")
    assert "fit" in completions("%nbcache try f")
    assert "--fresh" in completions("%nbcache run --fr")
    assert "--memory" in completions("%%process best from fit --mem")
    assert "grid" in completions("%%process best from gr")
    assert "from_path" in completions("%channel x = from_p")
    assert completions("run_ = %nbcache run f") == ["fit"]
    assert completions("%%process best from grid.first(), f") == ["fit"]
    assert completions("%%process best from fit\n#| retr") == ["retries:"]
    assert {"collect", "table", "value"} <= set(completions("fit."))
    assert "decl" not in completions("fit.")
    fitted.ok("done = %nbcache run")
    assert {"fit", "grid"} <= set(completions('done["'))


def test_auto_runs_a_process_when_its_cell_is_executed(fitted: Shell) -> None:
    assert "auto is off" in fitted.ok("%nbcache auto").out
    fitted.ok("%nbcache auto on")

    fitted.ok("%%process best(score) from fit.collect()\nmax(score)")
    done = fitted.session.last_run
    fitted.ok("%%process later(x) from not_yet\nx")  # not wired: its card says so

    assert done is not None
    assert done["best"].value == 41
    assert fitted.session.last_run is done
    fitted.ok("%nbcache auto off")
    fitted.ok("%%process best(score) from fit.collect()\nmin(score)")
    assert fitted.session.last_run is done
    assert isinstance(fitted.run("%nbcache auto maybe").error, UsageError)


def test_using_another_place_keeps_results_there(shell: Shell, tmp_path: Path) -> None:
    shell.ok("%nbcache use ./elsewhere")
    shell.ok("%channel xs = of(1, 2)")
    shell.ok("%%process double(x) -> y from xs\ny = 2 * x")
    shell.ok("%nbcache run")

    assert (tmp_path / "elsewhere" / "nbcache.json").exists()
    assert not (tmp_path / ".nbcache").exists()
