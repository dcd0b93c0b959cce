"""Which commands a script names, in every place where a shell takes one."""

from __future__ import annotations

import pytest

from nbcache.plan.language.script import script_facts

COMMANDS = {
    "plain": ("t1 > o.txt", "t1"),
    "in a pipe": ("echo a | t2 > o.txt", "t2"),
    "in a subshell": ("(cd . && t3) > o.txt", "t3"),
    "in a function": ("f() {\n  t4 > o.txt\n}\nf", "t4"),
    "in a variable": ("TOOL=t5\n$TOOL > o.txt", "t5"),
    "in a variable with braces": ('TOOL=t6\n"${TOOL}" > o.txt', "t6"),
    "in a variable default": ("${TOOL:-t7} > o.txt", "t7"),
    "in an array": ('cmd=(t8 -a)\n"${cmd[@]}" > o.txt', "t8"),
    "in a substitution": ("echo $(t9) > o.txt", "t9"),
    "in backticks": ("echo `t10` > o.txt", "t10"),
    "in a quoted substitution": ('echo "$(t11)" > o.txt', "t11"),
    "in a heredoc": ("cat > o.txt <<END\n$(t12)\nEND", "t12"),
    "after and": ("true && t13 > o.txt", "t13"),
    "in a condition": ("if t14 > o.txt; then echo; fi", "t14"),
    "in a loop": ("for i in 1; do t15 > o.txt; done", "t15"),
    "in a while": ("t16 | while read x; do echo $x > o.txt; done", "t16"),
    "in process substitution": ("cat <(t17) > o.txt", "t17"),
    "by xargs": ("echo a | xargs t18 > o.txt", "t18"),
    "by find": ("touch q\nfind . -name q -exec t19 {} \\; > o.txt", "t19"),
    "tool by bash -c": ("bash -c 't20 > o.txt'", "t20"),
    "tool by eval": ("eval 't21 > o.txt'", "t21"),
    "by env": ("env A=1 t22 > o.txt", "t22"),
    "with assignment": ("A=1 t23 > o.txt", "t23"),
    "by time": ("time t24 > o.txt", "t24"),
    "by exec": ("exec t25 > o.txt", "t25"),
    "by command": ("command t26 > o.txt", "t26"),
    "in case": ("case a in\n a) t27 > o.txt ;;\nesac", "t27"),
    "in background": ("t28 > o.txt &\nwait", "t28"),
    "tool by trap": ("trap 't29 > o.txt' EXIT", "t29"),
    "not called": ("echo t30 > o.txt", None),
    "in a comment": ("# t31\necho a > o.txt", None),
    "tool in a text": ("echo 'a; t32' > o.txt", None),
    "by timeout": ("timeout 10 t33 > o.txt", "t33"),
    "continued": ("\\\n  t34 \\\n  > o.txt", "t34"),
    "in arithmetic": ("echo $(( $(t35) + 1 )) > o.txt", "t35"),
    "in a quoted word": ('"t36" > o.txt', "t36"),
    "negated": ("! t37 > o.txt || true", "t37"),
    "in coproc group": ("{ t38; } > o.txt", "t38"),
    "behind a redirection": ("> o.txt t39", "t39"),
    "by nested function": ("function g { t40; }\nf() { g; }\nf > o.txt", "t40"),
    "by a tool variable from export": ("export X=t41\n$X > o.txt", "t41"),
    "below a shift": ("x=$((1<<SHIFT))\n(( x = 1 << BY ))\nt42 > o.txt", "t42"),
    "below a quoted shift": ("python3 -c 'print(1<<2)' \"<<a\"\nt43 > o.txt", "t43"),
    "below a quoted shift on lines": ('python3 -c "\nx = 1 <<2\n"\nt44 > o.txt', "t44"),
    "below a heredoc": ("cat <<-'E F' > p.txt\nt0\n\tE F\nt45 > o.txt", "t45"),
    "below a heredoc in quotes": ('x="$(cat <<END\nt0\nEND\n)"\nt46 > o.txt', "t46"),
    "below a here-string": ("cat <<< t0 # don't\nt47 > o.txt", "t47"),
    "below a quote in a quote": ("echo $'it\\'s <<a'\nt49 > o.txt", "t49"),
    "below an apostrophe in quotes": (
        '#!/bin/sh\ncat <<A; echo "${n:-it\'s}"\nt0 $(date)\nA\nt58 > o.txt',
        "t58",
    ),
    "below a quoted command in quotes": (
        'echo "$(grep \'it"s\' x)"\ncat <<A\nt0\nA\nt59 > o.txt',
        "t59",
    ),
    "below a group of a group": ("((cat <<A\nt0\nA\n) | sort)\nt60 > o.txt", "t60"),
    "below the output of a group of a group": (
        "x=$((cat <<A\nt0\nA\n) | sort)\nt61 > o.txt",
        "t61",
    ),
    "below a shift of a group": ("((x = (1 << BY) + 2))\nt62 > o.txt", "t62"),
    "below two heredocs": ("cat <<A <<\\B\nt0\nA\n$(t0)\nB\nt48 > o.txt", "t48"),
    "by an alias": ("shopt -s expand_aliases\nalias x='t63 -a'\nx > o.txt", "t63"),
    "in an array's substitution": ("x=($(t68 a) b)\necho ${x[@]} > o.txt", "t68"),
    "by a function that runs its words": ('run() { "$@"; }\nrun t69 a > o.txt', "t69"),
    "below an array with a remark": ("x=(\n a  # don't (\n)\nt87 > o.txt", "t87"),
    "below a substitution with quotes": ('x=$(echo "it\'s")\nt88 > o.txt', "t88"),
    "by sudo for a user with a space": ('sudo -u "a b" t89 > o.txt', "t89"),
    "by a named coproc": ("coproc P { t90; }", "t90"),
    "beside a function that runs its words": (
        'log() {\n  echo "$@"\n}\nrun() {\n  "$@"\n}\nlog t91 a; log "eval x; source y"',
        None,
    ),
    "in a text for parallel": ('ls | parallel -j 4 "t70 {} | sort"', "t70"),
    "asked for": ("p=$(command -v t64)\n$p > o.txt", "t64"),
    "looked for": ("$(which t65) > o.txt", "t65"),
    "by an env with a folder": ("/usr/bin/env t66 > o.txt", "t66"),
    "by exec with a name": ("exec -a name t67 > o.txt", "t67"),
    "in a heredoc for a shell": ("bash <<A\nt71 a > o.txt\nA", "t71"),
    "in a quoted heredoc for a shell": ("sh -s a <<'A'\nt72 > o.txt\nA", "t72"),
    "in a heredoc that goes to a shell": ("cat <<A | bash\nt73 > o.txt\nA", "t73"),
    "in a heredoc of a file": ("cat <<A > o.txt\nt0\nA", None),
    "in a string for a shell": ("bash <<< 't74 a > o.txt'", "t74"),
    "behind a lock": ("flock -w 10 LOCK t75 > o.txt", "t75"),
    "in a text behind a lock": ("flock LOCK -c 't76 a > o.txt'", "t76"),
    "watched": ("watch -n 1 t77", "t77"),
    "in an environment of conda": ("conda run --no-capture-output -n X t78 a > o.txt", "t78"),
    "in an environment of micromamba": ("micromamba run -p /x bash -c t79 > o.txt", "t79"),
    "by a text for env": ("env -i A=1 -S't80 a' > o.txt", "t80"),
    "by ionice and nice": ("ionice -c 2 -n 7 nice -n 10 t81 > o.txt", "t81"),
    "on some processors": ("taskset -c 0,1 t82 > o.txt", "t82"),
    "on processors of a mask": ("taskset 0x3 t83 > o.txt", "t83"),
    "on a node": ("numactl -N 0 -m 0,1 t84 > o.txt", "t84"),
    "in a session": ("setsid --wait t85 > o.txt", "t85"),
    "without a buffer": ("stdbuf -o L t86 > o.txt", "t86"),
    "tool called by python subprocess": ("python3 -c 'import subprocess; print(1)' > o.txt", None),
}


@pytest.mark.parametrize("where", COMMANDS)
def test_a_command_is_found_wherever_a_script_names_it(where: str) -> None:
    body, command = COMMANDS[where]

    found = {each for each in script_facts(body).commands if each[:1] == "t" and each[1:].isdigit()}

    assert found == ({command} if command else set())


@pytest.mark.parametrize(
    ("body", "scripts"),
    [
        ('step=x.sh\nout=$(bash "$step")', {"x.sh"}),
        ("for each in x y; do bash step_$each.sh; done", {"step_x.sh", "step_y.sh"}),
        ('all=(x.sh "y.sh")\nfor each in "${all[@]}"; do bash $each; done', {"x.sh", "y.sh"}),
        ("all=(x.sh)\nall+=(y.sh)\nbash ${all[1]}", {"x.sh", "y.sh"}),
        ('there=$(dirname "$0")/sub\nbash "$there/x.sh"', {"$/sub/x.sh"}),
        ("name=$name.x\nbash $name", set()),
    ],
)
def test_a_script_is_known_by_what_the_variables_in_its_name_may_hold(
    body: str, scripts: set[str]
) -> None:
    assert set(script_facts(body).scripts) == scripts


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ("python3 -u /a/x.py 1", {"/a/x.py"}),
        ("for each in x y; do sh /a/$each.sh; done", {"/a/x.sh", "/a/y.sh"}),
        ("echo true > /a/x.sh\nbash /a/x.sh", set()),
        ("there=/a\necho true > $there/x.sh\nbash $there/x.sh", set()),
    ],
)
def test_a_script_that_is_called_where_it_lies_is_a_program_unless_it_was_written_just_before(
    body: str, called: set[str]
) -> None:
    assert {each for each in script_facts(body).commands if "/" in each} == called


def test_of_an_array_only_the_first_word_may_be_a_command() -> None:
    assert set(script_facts('tool=(samtools view)\n"${tool[@]}" x').commands) == {"samtools"}
