"""Remote files through real kernels: fetched once, known by content, with a reason."""

from __future__ import annotations

from pathlib import Path

from tests.engine.web import serving
from tests.kernels.scenarios import Notebook, error_of, text_of


def test_a_remote_file_is_an_input_like_any_other_between_kernels(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    with serving() as web:
        one, two = web.put("x.txt", "one", '"1"'), web.put("mirror/x.txt", "one", '"9"')

        def run(url: str) -> tuple[list[str], str, list[str]]:
            """Return what ran, what `why` says, and what was downloaded."""
            body = f"{notebook.mark('work')}\ntext = f.read_text()"
            executed = notebook.execute(
                [
                    "%load_ext nbcache",
                    f"%nbcache use {tmp_path}/cache",
                    f"%channel src = value(path({url!r}))",
                    f"%%process work(f: path) -> text from src\n{body}",
                    "%nbcache run",
                    "print(work.value)",
                    "%nbcache why work",
                ]
            )
            assert [error_of(each) for each in executed if error_of(each)] == []
            assert text_of(executed[5]).strip() == web.files["x.txt"][0].decode()
            return notebook.ran(), text_of(executed[6]).splitlines()[0], web.downloads()

        assert run(one)[::2] == (["work"], ["x.txt"])
        assert run(one)[::2] == ([], [])
        assert run(two)[::2] == ([], ["mirror/x.txt"])
        web.put("x.txt", "other", '"2"')
        ran, said, downloads = run(one)
        assert (ran, downloads) == (["work"], ["x.txt"])
        assert "file x.txt (input f) changed" in said
