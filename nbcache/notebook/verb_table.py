"""The one table of verbs: names, words, options and help of all that `%nbcache` and `nbcache` do.

Words only, and only verbs that work. `verbs` parses with it and makes the help texts, so that the
notebook, the shell, completion and docs/commands.md cannot disagree. What a verb does is in
`answers` (both places), `magics` (a notebook) and `cli` (a shell).
"""

from __future__ import annotations

from collections.abc import Mapping

from nbcache.notebook.verb import Flag, Verb

_JSON = Flag(name="--json", help="print JSON instead of a table")
_CACHE = Flag(
    name="--cache",
    value="PLACE",
    help="the cache to read or write (default: .nbcache in this folder)",
    places=("shell",),
)
_PARAMETER = Flag(
    name="--parameter",
    short="-p",
    value="NAME=VALUE",
    many=True,
    help="give a parameter another value for this run (of the cell tagged `parameters`)",
)

_RETENTION = Flag(
    name="--retention",
    value="POLICY",
    help="how long results are kept: `30d`, `success=7d`, `failure=24h`, `intermediate`, `keep`",
)
_RETENTION_HELP = (
    "A retention counts from a run's end.\n"
    "`intermediate`: what only tasks of other processes took goes when the run has succeeded.\n"
    "A result goes when every run that made or used it lets go of it."
)
_DETACH = Flag(name="--detach", help="return at once, the run goes on", places=("notebook",))
_FRESH = Flag(name="--fresh", help="ignore what is cached; results are kept")
_FROM = Flag(
    name="--from",
    value="PROCESS",
    many=True,
    help="run this process and all below it again, whatever is cached",
)
_LABEL = Flag(
    name="--label", value="LABEL", help="the processes with this label", places=("notebook",)
)
_STUB = Flag(name="--stub", help="run the stub body of each process that has one")
_HOW = (
    Flag(name="--levels", help="level by level: a process starts when all above it have ended"),
    Flag(name="--max-parallel", value="N", help="at most N tasks at once; 1: one after another"),
    Flag(name="--max-errors", value="N", help="start no more once N tasks have failed"),
    Flag(
        name="--executor",
        value="WHERE",
        help="where tasks run: local (default), or dask:ADDRESS of a dask scheduler",
    ),
)
_DATAFLOW = Flag(name="--dataflow", help="not level by level, where the run was")
_HEADLESS = (
    Flag(
        name="--output",
        short="-o",
        value="OUT.ipynb",
        help="write the executed notebook here",
        places=("shell",),
    ),
    _CACHE,
    Flag(name="--verbose", short="-v", help="print what cells print", places=("shell",)),
    Flag(
        name="--json",
        help="print JSON at the end, and on stderr how it goes",
        places=("shell",),
    ),
)
_NOTEBOOK = Flag(
    name="--notebook",
    value="FILE",
    help="the run's notebook, where it has moved",
    places=("shell",),
)

_TASK_HELP = (
    "TASK is the start of a task's hash (8 hex digits do), or a process with a tag, a position\n"
    "or a field: `fit 3`, `fit sample_a`, `fit depth=8 rep=1`; or as it is shown: `fit[sample_a]`."
)

_TABLE: tuple[Verb, ...] = (
    Verb(
        name="use",
        summary="use this cache from now on",
        words="PLACE",
        least=1,
        most=1,
        places=("notebook",),
        flags=(_RETENTION,),
        more="PLACE is a folder, made at the first run; without this .nbcache beside the\n"
        "notebook. A URL is that of a shared cache (see share), behind .nbcache.\n"
        + _RETENTION_HELP,
    ),
    Verb(
        name="run",
        summary="run the pipeline, or some processes and what they need",
        words="[PROCESS...]",
        shell_words="NOTEBOOK",
        most=None,
        shell_takes=(1, 1),
        completes="processes",
        flags=(
            _PARAMETER,
            _LABEL,
            _FRESH,
            _FROM,
            Flag(name="--no-cache", help="neither use nor keep results", places=("notebook",)),
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
        name="auto",
        summary="run a process as soon as its cell is executed: on, or off (as at first)",
        words="[on|off]",
        most=1,
        places=("notebook",),
    ),
    Verb(
        name="plan",
        summary="say what a run would do now, without running anything",
        words="[PROCESS...]",
        shell_words="NOTEBOOK [PROCESS...]",
        most=None,
        shell_takes=(1, None),
        completes="processes",
        flags=(_PARAMETER, _LABEL, _FRESH, _FROM, _STUB, _CACHE, _JSON),
        more="In a shell the notebook's cells are executed in a fresh kernel in which nothing\n"
        "runs; cells that need a result that is not cached are left out.",
    ),
    Verb(
        name="try",
        acts="for results",
        summary="run one item of a process in the kernel; nothing is cached, %debug works",
        words="PROCESS [ITEM]",
        least=1,
        most=None,
        completes="processes",
        flags=(
            Flag(name="--item", value="ITEM", help="a position, field=value, or `failed`"),
            Flag(name="--into", help="leave its inputs and outputs as variables"),
        ),
        places=("notebook",),
    ),
    Verb(
        name="debug",
        acts="for results",
        summary="enter a failed task: its work directory, its variables, its script",
        words="[TASK | FOLDER]",
        most=None,
        completes="processes",
        flags=(
            Flag(name="--again", help="run it again there; %debug or pdb works on what it raises"),
            Flag(name="--print", help="say where it is and how it was run, and do nothing"),
            Flag(name="--attempt", value="N", help="this attempt that failed (default: the last)"),
            Flag(name="--run", value="RUN", help="look in this run (default: last)"),
            _CACHE,
        ),
        more="In a notebook its inputs, and captured names that are free, become variables. In a\n"
        "shell a shell opens in its work directory, with its environment and, for a bash script,\n"
        "its inputs as variables. The code is that of the attempt, not what the cell says now.\n"
        "TASK is as for `why`; a process means its first failed task, nothing the latest one.\n"
        "A work directory has .command.sh or .command.py, .command.run and .command.log.",
    ),
    Verb(
        name="resume",
        acts="for results",
        summary="go on with a failed, cancelled or interrupted run under its own id",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(_PARAMETER, *_HOW, _DATAFLOW, _DETACH, _RETENTION, _NOTEBOOK, *_HEADLESS),
        more="RUN is a run's name, the start of its id, or `last` (the default: the newest run of\n"
        "this notebook). What succeeded is not run again; targets, parameters and options are\n"
        "those of the run unless they are given anew, the code is that of now. In a shell the\n"
        "run's notebook is executed in a fresh kernel, and the run resumed there.",
    ),
    Verb(
        name="relaunch",
        acts="for results",
        summary="start a new run with the parameters and options of an old one",
        words="[RUN]",
        most=1,
        completes="runs",
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
        name="restore",
        summary="bind the processes of a run to its results; nothing is decoded until it is read",
        words="[RUN]",
        most=1,
        completes="runs",
        places=("notebook",),
        more="Works in a new kernel, without running the notebook's cells. Names that hold\n"
        "something are left alone. RUN is a run's name, the start of its id, or `last` (the\n"
        "default: the newest run of this notebook). `r = %nbcache restore` gives r['fit'].",
    ),
    Verb(
        name="status",
        summary="runs that are going now",
        flags=(_JSON, _CACHE),
    ),
    Verb(
        name="cancel",
        acts="yes",
        summary="end a run in order; what has finished is kept",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(_CACHE,),
    ),
    Verb(
        name="runs",
        summary="the runs of this cache, newest first",
        flags=(Flag(name="--limit", short="-n", value="N", help="at most N (20)"), _JSON, _CACHE),
    ),
    Verb(
        name="show",
        summary="one run: parameters, processes, failures",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(
            Flag(name="--mermaid", help="print its pipeline in Mermaid's language"),
            _JSON,
            _CACHE,
        ),
        more="RUN is a run's name, the start of its id, or `last` (the default).",
    ),
    Verb(
        name="log",
        summary="the tasks of a run, one line each",
        words="[RUN...]",
        most=None,
        completes="runs",
        flags=(
            Flag(name="--fields", short="-f", value="A,B,...", help="fields to show"),
            Flag(name="--list-fields", short="-l", help="list all fields"),
            Flag(name="--filter", short="-F", value="SQL", help="keep tasks where this holds"),
            Flag(
                name="--template",
                short="-t",
                value="TEXT|FILE",
                help="print this for each task, {field} filled in",
            ),
            Flag(
                name="--separator",
                short="-s",
                value="TEXT",
                help="print fields as they are kept, with this in between (\\t: a tab)",
            ),
            Flag(name="--before", value="RUN", help="the tasks of all runs before this one"),
            Flag(name="--after", value="RUN", help="the tasks of all runs after this one"),
            Flag(name="--but", value="RUN", help="the tasks of all other runs"),
            Flag(name="--process", value="PROCESS", help="keep tasks of this process"),
            Flag(name="--status", value="STATUS", help="keep tasks that ended so"),
            _JSON,
            _CACHE,
        ),
        more="RUN is a run's name, the start of its id, `last` (the default) or `all`. Fields are\n"
        "the columns of the view `tasks` (docs/history.md) and stdout, stderr, log, traceback,\n"
        "script, inputs, outputs; %cpu is cpu_percent. A filter: \"status = 'FAILED' AND\n"
        'realtime > 60"; a template: "{name} took {realtime} s".',
    ),
    Verb(
        name="why",
        summary="why a task ran, or was a hit",
        words="TASK",
        least=1,
        most=None,
        completes="processes",
        flags=(
            Flag(name="--run", value="RUN", help="look in this run (default: last)"),
            Flag(name="--full", help="all components, also equal ones"),
            _JSON,
            _CACHE,
        ),
        more=_TASK_HELP + "\nOf a process with several tasks: their reasons, and a task for each.",
    ),
    Verb(
        name="diff",
        summary="what changed between two runs: what ran again and why, what came out different",
        words="[RUN_A [RUN_B]]",
        most=2,
        completes="runs",
        flags=(
            Flag(name="--data", help="compare the results that differ by their data"),
            Flag(name="--process", value="PROCESS", help="this process only"),
            Flag(name="--limit", value="N", help="with --data: N tasks per process (20)"),
            _JSON,
            _CACHE,
        ),
        more="A run is its name, the start of its id, or `last`. One run alone is compared with\n"
        "the run before it of the same notebook; no run means `last`.",
    ),
    Verb(
        name="lineage",
        summary="what a result was made from, and what was made of it",
        words="TASK[.OUTPUT]|FILE",
        least=1,
        most=None,
        completes="processes",
        flags=(
            Flag(name="--run", value="RUN", help="look in this run (default: last)"),
            Flag(name="--mermaid", help="print the graph in Mermaid's language"),
            Flag(name="--html", help="print a page", places=("shell",)),
            Flag(
                name="--crate",
                value="FOLDER",
                help="write an RO-Crate with the outputs (Workflow Run Crate 0.5)",
            ),
            Flag(name="--license", value="URL", help="with --crate: the licence of what is in it"),
            _JSON,
            _CACHE,
        ),
        more="FILE is any file or folder: it is known by its content, whatever it is called now.\n"
        + _TASK_HELP
        + "\n`quant.table gut` means the output `table` of that task.",
    ),
    Verb(
        name="report",
        acts="yes",
        summary="write a page about a run: timeline, resources, failures, all tasks",
        words="[RUN]",
        most=1,
        completes="runs",
        flags=(
            Flag(
                name="--output",
                short="-o",
                value="FILE.html",
                help="write it here (report-RUN.html in this folder; -: print it)",
            ),
            _CACHE,
        ),
        more="One HTML file that needs nothing else: for a browser, an e-mail, an archive.",
    ),
    Verb(
        name="sql",
        summary="ask the history in SQL",
        words="SELECT ...",
        least=1,
        most=None,
        raw=True,
        flags=(
            Flag(
                name="--format",
                value="FORMAT",
                help="df, arrow, polars, json (a list of dicts), csv",
                places=("notebook",),
            ),
            Flag(
                name="--format", value="FORMAT", help="table, json, csv, arrow", places=("shell",)
            ),
            Flag(name="--shared", help="ask the history of the shared cache: of the whole team"),
            Flag(name="--files", help="let the query read and write files, and more than read"),
            _JSON,
            _CACHE,
        ),
        more="Views: tasks, attempts, runs, processes, components, inputs, outputs, lineage;\n"
        "docs/history.md has their columns. In a notebook options stand before the query.",
    ),
    Verb(
        name="clean",
        acts="yes",
        summary="take away results that nobody needs any more, and what is left over",
        flags=(
            Flag(name="--older-than", value="TIME", help="not used for so long: `30d`, `12h`"),
            Flag(name="--run", value="RUN", many=True, help="only this run made or used"),
            Flag(name="--process", value="PROCESS", many=True, help="of this process"),
            Flag(name="--hash", value="HASH", many=True, help="of tasks whose hash begins so"),
            Flag(name="--status", value="STATUS", many=True, help="that ended so: `failed`, ..."),
            Flag(name="--incomplete", help="what failed and killed tasks left, and no results"),
            Flag(name="--expired", help="whose runs' retention is over"),
            Flag(name="--keep-last", value="N", help="not of the last N runs of each notebook"),
            Flag(
                name="--max-size",
                value="SIZE",
                help="only until the cache is so small; first what is quickest to have again",
            ),
            Flag(name="--compact", help="merge the files of the log too"),
            Flag(name="--shared", help="clean the shared cache behind this one, in steps"),
            Flag(name="--dry-run", short="-n", help="say what would go (the default)"),
            Flag(name="--force", short="-f", help="do it"),
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
        name="trust",
        acts="yes",
        summary="let results of before an edit count after it; alone: what is trusted",
        words="[PROCESS...]",
        shell_words="",
        most=None,
        shell_takes=(0, 0),
        completes="processes",
        flags=(
            Flag(
                name="--why",
                value="TEXT",
                help="why the edit changes no result; without it nothing is written",
                places=("notebook",),
            ),
            Flag(name="--revoke", value="WHAT", help="a process, or the start of a hash"),
            _JSON,
            _CACHE,
        ),
        more="After an edit that cannot change a result (a name, a log line, a refactoring), the\n"
        "earlier results with the same inputs are taken for those of the edited code. It is your\n"
        "word: it stands in the log with your name and reason, `why` and `lineage` tell it, it\n"
        "counts in this cache alone, and it can be revoked. Data is never taken for equal.",
    ),
    Verb(
        name="pin",
        acts="yes",
        summary="keep results from being cleaned up; alone: what is pinned",
        words="[TASK]",
        most=None,
        completes="processes",
        flags=(
            Flag(name="--run", value="RUN", help="all that a run made or used"),
            Flag(name="--process", value="PROCESS", help="all of a process"),
            Flag(name="--reason", value="TEXT", help="why, for whoever finds it"),
            Flag(name="--list", help="list what is pinned"),
            Flag(name="--team", help="list what anybody has pinned in the shared cache"),
            _JSON,
            _CACHE,
        ),
        more=_TASK_HELP,
    ),
    Verb(
        name="unpin",
        acts="yes",
        summary="let results be cleaned up again",
        words="[TASK]",
        most=None,
        completes="processes",
        flags=(
            Flag(name="--run", value="RUN", help="all that a run made or used"),
            Flag(name="--process", value="PROCESS", help="all of a process"),
            Flag(name="--user", value="NAME", help="a colleague's pins in the shared cache"),
            _JSON,
            _CACHE,
        ),
        more="In a shared cache everybody's pins count. Those of one who has left go with --user:\n"
        "all of them, or those that a TASK (the start of its hash) or --run names.",
    ),
    Verb(
        name="du",
        summary="whose the bytes of the cache are, and what they would cost a month on S3",
        flags=(_JSON, _CACHE),
        more="A blob that several need counts for each in equal parts.",
    ),
    Verb(
        name="verify",
        acts="yes",
        summary="check the cache: every journal, segment and blob",
        flags=(
            Flag(name="--quick", help="leave the contents of blobs out"),
            Flag(name="--repair", help="repair what can be, clear away what was left over"),
            _JSON,
            _CACHE,
        ),
    ),
    Verb(
        name="check",
        acts="for results",
        summary="run kept tasks again and report outputs that do not come out the same",
        words="--repeat [PROCESS...]",
        most=None,
        completes="processes",
        flags=(
            Flag(name="--repeat", help="what to check: that a repetition gives the same"),
            Flag(
                name="--sample", short="-n", value="N", help="N tasks of each process, or `all` (3)"
            ),
            _JSON,
        ),
        places=("notebook",),
        more="The kept results stay as they are.",
    ),
    Verb(
        name="share",
        acts="yes",
        summary="put a cache of a team behind this one: s3://, gs://, az:// or a shared folder",
        words="[URL]",
        most=1,
        flags=(
            Flag(name="--read-only", help="use what is there, send nothing"),
            Flag(
                name="--claim",
                value="WHEN",
                help="which tasks are claimed first: auto (long ones and unknown), always, never",
            ),
            Flag(name="--off", help="share no more; what came from there stays"),
            _JSON,
            _CACHE,
        ),
        more="Results of others count as hits and are fetched when somebody looks at them; what\n"
        "runs here from now on is sent in the background. Without URL it says what is shared.\n"
        "docs/sharing.md tells how a team sets it up.",
    ),
    Verb(
        name="push",
        acts="yes",
        summary="send results to the shared cache now: of one run, or all that it lacks",
        words="[RUN]",
        most=1,
        flags=(_JSON, _CACHE),
        completes="runs",
    ),
    Verb(
        name="pull",
        acts="yes",
        summary="fetch results from the shared cache now: of one run, or all, to work off line",
        words="[RUN]",
        most=1,
        flags=(_JSON, _CACHE),
        completes="runs",
    ),
    Verb(
        name="keys",
        acts="yes",
        summary="whom you trust: the keys whose results may run code as you, and your own key",
        words="[list|show]",
        shell_words="[list|show|make|trust KEY|trust FOLDER|revoke KEY]",
        most=1,
        shell_takes=(0, 2),
        flags=(
            Flag(name="--name", value="NAME", help="whose key it is", places=("shell",)),
            Flag(name="--yes", help="do not ask", places=("shell",)),
            _JSON,
        ),
        more="A cache that you did not make yourself is foreign: its tables, arrays, texts and\n"
        "files are used, and what runs code when it is read (a pickle) only if a key that you\n"
        "trust has signed it; else its task runs again. `show` prints your public key, for others\n"
        "to trust. To make, trust and revoke takes a shell. `trust FOLDER` takes a cache for your\n"
        "own. docs/security.md says what from and what not this protects.",
    ),
    Verb(
        name="doctor",
        summary="look at this installation and cache for what goes wrong",
        words="[STORE]",
        most=1,
        flags=(_JSON, _CACHE),
        more="STORE is a shared folder or a URL (s3://bucket/prefix, gs://, az://): what may be\n"
        "read, written and deleted there is tried with the credentials of this machine, and\n"
        "whether of several who create an object at once exactly one is first, which claims\n"
        "need. That writes a few small objects below probes/ and deletes them. Without it, the\n"
        "store behind the cache is only read.",
    ),
    Verb(
        name="completion",
        summary="print what lets a shell complete nbcache with Tab",
        words="bash|zsh|fish",
        most=1,
        completes="shells",
        places=("shell",),
        flags=(Flag(name="--line", value="TEXT", help="print what may stand at the end of it"),),
        more="In ~/.bashrc or ~/.zshrc: `source <(nbcache completion bash)` (or zsh); in fish's\n"
        "configuration: `nbcache completion fish | source`. Verbs, options, runs and processes of\n"
        "the cache in the folder are offered, and files.",
    ),
    Verb(
        name="help",
        summary="this text, or the help of a verb",
        words="[VERB]",
        most=1,
        completes="verbs",
    ),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _TABLE}
