"""The one table of verbs: names, words, options and help of all that `%nbcache` and `nbcache` do.

Words only, and only verbs that work. `verbs` parses with it and makes the help texts, so that the
notebook, the shell, completion and docs/commands.md cannot disagree. What a verb does is in
`answers` (both places), `magics` (a notebook) and `cli` (a shell).
"""

from __future__ import annotations

from collections.abc import Mapping

from nbcache.notebook.verb import Flag, Verb

_JSON = Flag("--json", "print JSON instead of a table")
_CACHE = Flag(
    "--cache PLACE",
    "the cache to read or write (default: .nbcache in this folder)",
    places=("shell",),
)
_PARAMETER = Flag(
    "-p --parameter NAME=VALUE",
    "give a parameter another value for this run (of the cell tagged `parameters`)",
    many=True,
)

_RETENTION = Flag(
    "--retention POLICY",
    "how long results are kept: `30d`, `success=7d`, `failure=24h`, `intermediate`, `keep`",
)
_RETENTION_HELP = (
    "A retention counts from a run's end.\n"
    "`intermediate`: what only tasks of other processes took goes when the run has succeeded.\n"
    "A result goes when every run that made or used it lets go of it."
)
_DETACH = Flag("--detach", "return at once, the run goes on", places=("notebook",))
_FRESH = Flag("--fresh", "ignore what is cached; results are kept")
_FROM = Flag(
    "--from PROCESS", "run this process and all below it again, whatever is cached", many=True
)
_LABEL = Flag("--label LABEL", "the processes with this label", places=("notebook",))
_STUB = Flag("--stub", "run the stub body of each process that has one")
_HOW = (
    Flag("--levels", "level by level: a process starts when all above it have ended"),
    Flag("--max-parallel N", "at most N tasks at once; 1: one after another"),
    Flag("--max-errors N", "start no more once N tasks have failed"),
    Flag(
        "--executor WHERE", "where tasks run: local (default), or dask:ADDRESS of a dask scheduler"
    ),
)
_DATAFLOW = Flag("--dataflow", "not level by level, where the run was")
_HEADLESS = (
    Flag("-o --output OUT.ipynb", "write the executed notebook here", places=("shell",)),
    _CACHE,
    Flag("-v --verbose", "print what cells print", places=("shell",)),
    Flag("--json", "print JSON at the end, and on stderr how it goes", places=("shell",)),
)
_NOTEBOOK = Flag("--notebook FILE", "the run's notebook, where it has moved", places=("shell",))

_TASK_HELP = (
    "TASK is the start of a task's hash (8 hex digits do), or a process with a tag, a position\n"
    "or a field: `fit 3`, `fit sample_a`, `fit depth=8 rep=1`; or as it is shown: `fit[sample_a]`."
)

_TABLE: tuple[Verb, ...] = (
    Verb(
        "use PLACE",
        "use this cache from now on",
        places=("notebook",),
        flags=(_RETENTION,),
        more="PLACE is a folder, made at the first run; without this .nbcache beside the\n"
        "notebook. A URL is that of a shared cache (see share), behind .nbcache.\n"
        + _RETENTION_HELP,
    ),
    Verb(
        "run [PROCESS...]",
        "run the pipeline, or some processes and what they need",
        in_shell="run NOTEBOOK",
        flags=(
            _PARAMETER,
            _LABEL,
            _FRESH,
            _FROM,
            Flag("--no-cache", "neither use nor keep results", places=("notebook",)),
            *_HOW,
            _STUB,
            _DETACH,
            _RETENTION,
            *_HEADLESS,
        ),
        more="Only tasks whose result is not cached run. In a shell the notebook runs from top to\n"
        "bottom in a fresh kernel; where no cell says `%nbcache run`, the pipeline runs last.",
    ),
    Verb(
        "auto [on|off]",
        "run a process as soon as its cell is executed: on, or off (as at first)",
        places=("notebook",),
    ),
    Verb(
        "plan [PROCESS...]",
        "say what a run would do now, without running anything",
        in_shell="plan NOTEBOOK [PROCESS...]",
        flags=(_PARAMETER, _LABEL, _FRESH, _FROM, _STUB, _CACHE, _JSON),
        more="In a shell the notebook's cells are executed in a fresh kernel in which nothing\n"
        "runs; cells that need a result that is not cached are left out.",
    ),
    Verb(
        "try PROCESS [ITEM]",
        "run one item of a process in the kernel; nothing is cached, %debug works",
        acts="for results",
        places=("notebook",),
        flags=(
            Flag("--item ITEM", "a position, field=value, or `failed`"),
            Flag("--into", "leave its inputs and outputs as variables"),
        ),
    ),
    Verb(
        "debug [TASK | FOLDER]",
        "enter a failed task: its work directory, its variables, its script",
        acts="for results",
        flags=(
            Flag("--again", "run it again there; %debug or pdb works on what it raises"),
            Flag("--print", "say where it is and how it was run, and do nothing"),
            Flag("--attempt N", "this attempt that failed (default: the last)"),
            Flag("--run RUN", "look in this run (default: last)"),
            _CACHE,
        ),
        more="In a notebook its inputs, and captured names that are free, become variables. In a\n"
        "shell a shell opens in its work directory, with its environment and, for a bash script,\n"
        "its inputs as variables. The code is that of the attempt, not what the cell says now.\n"
        "TASK is as for `why`; a process means its first failed task, nothing the latest one.\n"
        "A work directory has .command.sh or .command.py, .command.run and .command.log.",
    ),
    Verb(
        "resume [RUN]",
        "go on with a failed, cancelled or interrupted run under its own id",
        acts="for results",
        flags=(_PARAMETER, *_HOW, _DATAFLOW, _DETACH, _RETENTION, _NOTEBOOK, *_HEADLESS),
        more="RUN is a run's name, the start of its id, or `last` (the default: the newest run of\n"
        "this notebook). What succeeded is not run again; targets, parameters and options are\n"
        "those of the run unless they are given anew, the code is that of now. In a shell the\n"
        "run's notebook is executed in a fresh kernel, and the run resumed there.",
    ),
    Verb(
        "relaunch [RUN]",
        "start a new run with the parameters and options of an old one",
        acts="for results",
        flags=(
            _PARAMETER,
            _FROM,
            _FRESH,
            *_HOW,
            _DATAFLOW,
            _STUB,
            _DETACH,
            _RETENTION,
            _NOTEBOOK,
            *_HEADLESS,
        ),
        more="RUN is a run's name, the start of its id, or `last` (the default: the newest run of\n"
        "this notebook). In a shell the run's notebook is executed in a fresh kernel.",
    ),
    Verb(
        "restore [RUN]",
        "bind the processes of a run to its results; nothing is decoded until it is read",
        places=("notebook",),
        more="Works in a new kernel, without running the notebook's cells. Names that hold\n"
        "something are left alone. RUN is a run's name, the start of its id, or `last` (the\n"
        "default: the newest run of this notebook). `r = %nbcache restore` gives r['fit'].",
    ),
    Verb(
        "status",
        "runs that are going now",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        "cancel [RUN]",
        "end a run in order; what has finished is kept",
        acts="yes",
        flags=(_CACHE,),
    ),
    Verb(
        "runs",
        "the runs of this cache, newest first",
        flags=(Flag("-n --limit N", "at most N (20)"), _JSON, _CACHE),
    ),
    Verb(
        "show [RUN]",
        "one run: parameters, processes, failures",
        flags=(
            Flag("--mermaid", "print its pipeline in Mermaid's language"),
            _JSON,
            _CACHE,
        ),
        more="RUN is a run's name, the start of its id, or `last` (the default).",
    ),
    Verb(
        "log [RUN...]",
        "the tasks of a run, one line each",
        flags=(
            Flag("-f --fields A,B,...", "fields to show"),
            Flag("-l --list-fields", "list all fields"),
            Flag("-F --filter SQL", "keep tasks where this holds"),
            Flag("-t --template TEXT|FILE", "print this for each task, {field} filled in"),
            Flag(
                "-s --separator TEXT",
                "print fields as they are kept, with this in between (\\t: a tab)",
            ),
            Flag("--before RUN", "the tasks of all runs before this one"),
            Flag("--after RUN", "the tasks of all runs after this one"),
            Flag("--but RUN", "the tasks of all other runs"),
            Flag("--process PROCESS", "keep tasks of this process"),
            Flag("--status STATUS", "keep tasks that ended so"),
            _JSON,
            _CACHE,
        ),
        more="RUN is a run's name, the start of its id, `last` (the default) or `all`. Fields are\n"
        "the columns of the view `tasks` (docs/history.md) and stdout, stderr, log, traceback,\n"
        "script, inputs, outputs; %cpu is cpu_percent. A filter: \"status = 'FAILED' AND\n"
        'realtime > 60"; a template: "{name} took {realtime} s".',
    ),
    Verb(
        "why TASK",
        "why a task ran, or was a hit",
        flags=(
            Flag("--run RUN", "look in this run (default: last)"),
            Flag("--full", "all components, also equal ones"),
            _JSON,
            _CACHE,
        ),
        more=_TASK_HELP + "\nOf a process with several tasks: their reasons, and a task for each.",
    ),
    Verb(
        "diff [RUN_A [RUN_B]]",
        "what changed between two runs: what ran again and why, what came out different",
        flags=(
            Flag("--data", "compare the results that differ by their data"),
            Flag("--process PROCESS", "this process only"),
            Flag("--limit N", "N tasks per process (20)", beside="--data"),
            _JSON,
            _CACHE,
        ),
        more="A run is its name, the start of its id, or `last`. One run alone is compared with\n"
        "the run before it of the same notebook; no run means `last`.",
    ),
    Verb(
        "lineage TASK[.OUTPUT]|FILE",
        "what a result was made from, and what was made of it",
        flags=(
            Flag("--run RUN", "look in this run (default: last)"),
            Flag("--mermaid", "print the graph in Mermaid's language"),
            Flag("--html", "print a page", places=("shell",)),
            Flag("--crate FOLDER", "write an RO-Crate with the outputs (Workflow Run Crate 0.5)"),
            Flag("--license URL", "the licence of what is in it", beside="--crate"),
            _JSON,
            _CACHE,
        ),
        more="FILE is any file or folder: it is known by its content, whatever it is called now.\n"
        + _TASK_HELP
        + "\n`quant.table gut` means the output `table` of that task.",
    ),
    Verb(
        "report [RUN]",
        "write a page about a run: timeline, resources, failures, all tasks",
        acts="yes",
        flags=(
            Flag(
                "-o --output FILE.html",
                "write it here (report-RUN.html in this folder; -: print it)",
            ),
            _CACHE,
        ),
        more="One HTML file that needs nothing else: for a browser, an e-mail, an archive.",
    ),
    Verb(
        "sql SELECT ...",
        "ask the history in SQL",
        raw=True,
        flags=(
            Flag(
                "--format FORMAT",
                "df, arrow, polars, json (a list of dicts), csv",
                places=("notebook",),
            ),
            Flag("--format FORMAT", "table, json, csv, arrow", places=("shell",)),
            Flag("--shared", "ask the history of the shared cache: of the whole team"),
            Flag("--files", "let the query read and write files, and more than read"),
            _JSON,
            _CACHE,
        ),
        more="Views: tasks, attempts, runs, processes, components, inputs, outputs, lineage;\n"
        "docs/history.md has their columns. In a notebook options stand before the query.",
    ),
    Verb(
        "clean",
        "take away results that nobody needs any more, and what is left over",
        acts="yes",
        flags=(
            Flag("--older-than TIME", "not used for so long: `30d`, `12h`"),
            Flag("--run RUN", "only this run made or used", many=True),
            Flag("--process PROCESS", "of this process", many=True),
            Flag("--hash HASH", "of tasks whose hash begins so", many=True),
            Flag("--status STATUS", "that ended so: `failed`, ...", many=True),
            Flag("--incomplete", "what failed and killed tasks left, and no results"),
            Flag("--expired", "whose runs' retention is over"),
            Flag("--keep-last N", "not of the last N runs of each notebook"),
            Flag(
                "--max-size SIZE",
                "only until the cache is so small; first what is quickest to have again",
            ),
            Flag("--compact", "merge the files of the log too"),
            Flag("--shared", "clean the shared cache behind this one, in steps"),
            Flag("-n --dry-run", "say what would go (the default)"),
            Flag("-f --force", "do it"),
            _JSON,
            _CACHE,
        ),
        more="All conditions have to hold. Without -f nothing is deleted. What is pinned stays,\n"
        "and what a run uses that is going on; the history stays in any case. Left-overs of\n"
        "failed and killed tasks and blobs that nothing needs go with every clean-up.\n"
        "With --shared, what is chosen is marked first; the next clean-up a day later takes what\n"
        "nobody has used since, whoever does it.",
    ),
    Verb(
        "trust [PROCESS...]",
        "let results of before an edit count after it; alone: what is trusted",
        in_shell="trust",
        acts="yes",
        flags=(
            Flag(
                "--why TEXT",
                "why the edit changes no result; without it nothing is written",
                places=("notebook",),
            ),
            Flag("--revoke WHAT", "a process, or the start of a hash"),
            _JSON,
            _CACHE,
        ),
        more="After an edit that cannot change a result (a name, a log line, a refactoring), the\n"
        "earlier results with the same inputs are taken for those of the edited code. It is your\n"
        "word: it stands in the log with your name and reason, `why` and `lineage` tell it, it\n"
        "counts in this cache alone, and it can be revoked. Data is never taken for equal.",
    ),
    Verb(
        "pin [TASK]",
        "keep results from being cleaned up; alone: what is pinned",
        acts="yes",
        flags=(
            Flag("--run RUN", "all that a run made or used"),
            Flag("--process PROCESS", "all of a process"),
            Flag("--reason TEXT", "why, for whoever finds it"),
            Flag("--list", "list what is pinned"),
            Flag("--team", "list what anybody has pinned in the shared cache"),
            _JSON,
            _CACHE,
        ),
        more=_TASK_HELP,
    ),
    Verb(
        "unpin [TASK]",
        "let results be cleaned up again",
        acts="yes",
        flags=(
            Flag("--run RUN", "all that a run made or used"),
            Flag("--process PROCESS", "all of a process"),
            Flag("--user NAME", "a colleague's pins in the shared cache"),
            _JSON,
            _CACHE,
        ),
        more="In a shared cache everybody's pins count. Those of one who has left go with --user:\n"
        "all of them, or those that a TASK (the start of its hash) or --run names.",
    ),
    Verb(
        "du",
        "whose the bytes of the cache are, and what they would cost a month on S3",
        flags=(_JSON, _CACHE),
        more="A blob that several need counts for each in equal parts.",
    ),
    Verb(
        "verify",
        "check the cache: every journal, segment and blob",
        acts="yes",
        flags=(
            Flag("--quick", "leave the contents of blobs out"),
            Flag("--repair", "repair what can be, clear away what was left over"),
            _JSON,
            _CACHE,
        ),
    ),
    Verb(
        "check --repeat [PROCESS...]",
        "run kept tasks again and report outputs that do not come out the same",
        acts="for results",
        places=("notebook",),
        flags=(
            Flag("--repeat", "what to check: that a repetition gives the same"),
            Flag("-n --sample N", "N tasks of each process, or `all` (3)"),
            _JSON,
        ),
        more="The kept results stay as they are.",
    ),
    Verb(
        "share [URL]",
        "put a cache of a team behind this one: s3://, gs://, az:// or a shared folder",
        acts="yes",
        flags=(
            Flag("--read-only", "use what is there, send nothing"),
            Flag(
                "--claim WHEN",
                "which tasks are claimed first: auto (long ones and unknown), always, never",
            ),
            Flag("--off", "share no more; what came from there stays"),
            _JSON,
            _CACHE,
        ),
        more="Results of others count as hits and are fetched when somebody looks at them; what\n"
        "runs here from now on is sent in the background. Without URL it says what is shared.\n"
        "docs/sharing.md tells how a team sets it up.",
    ),
    Verb(
        "push [RUN]",
        "send results to the shared cache now: of one run, or all that it lacks",
        acts="yes",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        "pull [RUN]",
        "fetch results from the shared cache now: of one run, or all, to work off line",
        acts="yes",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        "keys [list|show]",
        "whom you trust: the keys whose results may run code as you, and your own key",
        in_shell="keys [list|show|make|trust KEY|trust FOLDER|revoke KEY]",
        acts="yes",
        flags=(
            Flag("--name NAME", "whose key it is", places=("shell",)),
            Flag("--yes", "do not ask", places=("shell",)),
            _JSON,
        ),
        more="A cache that you did not make yourself is foreign: its tables, arrays, texts and\n"
        "files are used, and what runs code when it is read (a pickle) only if a key that you\n"
        "trust has signed it; else its task runs again. `show` prints your public key, for others\n"
        "to trust. To make, trust and revoke takes a shell. `trust FOLDER` takes a cache for your\n"
        "own. docs/security.md says what from and what not this protects.",
    ),
    Verb(
        "doctor [STORE]",
        "look at this installation and cache for what goes wrong",
        flags=(_JSON, _CACHE),
        more="STORE is a shared folder or a URL (s3://bucket/prefix, gs://, az://): what may be\n"
        "read, written and deleted there is tried with the credentials of this machine, and\n"
        "whether of several who create an object at once exactly one is first, which claims\n"
        "need. That writes a few small objects below probes/ and deletes them. Without it, the\n"
        "store behind the cache is only read.",
    ),
    Verb(
        "completion [bash|zsh|fish]",
        "print what lets a shell complete nbcache with Tab",
        places=("shell",),
        flags=(Flag("--line TEXT", "print what may stand at the end of it"),),
        more="In ~/.bashrc or ~/.zshrc: `source <(nbcache completion bash)` (or zsh); in fish's\n"
        "configuration: `nbcache completion fish | source`. Verbs, options, runs and processes of\n"
        "the cache in the folder are offered, and files.",
    ),
    Verb(
        "help [VERB]",
        "this text, or the help of a verb",
    ),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _TABLE}
