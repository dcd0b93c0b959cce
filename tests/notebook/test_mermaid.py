from __future__ import annotations

from dataclasses import replace

from nbcache.notebook import mermaid
from nbcache.notebook.widget.scene import scene_of
from nbcache.notebook.widget.twin import render_twin
from nbcache.plan.dataflow.outline import Edge, Origin, Outline
from tests.notebook.views import place, progress

OUTLINE = Outline(
    ("fit", 'check "<b>'),
    (Origin("#0", "grid", 0, False), Origin("#1", "genome", 1, True)),
    (Edge("#0", "fit", 0, ""), Edge("#1", "fit", 1, ""), Edge("fit", 'check "<b>', 3, "good")),
)
RUN = replace(
    progress("failed", place("fit", completed=18), place('check "<b>', completed=17, failed=1)),
    items={0: 18, 1: 1, 3: 17},
)


def test_a_pipeline_in_mermaid_has_its_counts_items_and_states() -> None:
    assert mermaid.pipeline(OUTLINE, RUN).splitlines() == [
        "flowchart LR",
        '  p0["fit<br/>18 ran, 0 cached"]',
        '  p1["check #quot;#lt;b#gt;<br/>17 ran, 0 cached, 1 failed"]',
        '  c0(["grid"])',
        '  c1(["genome"])',
        '  c0 -->|"18"| p0',
        "  c1 --> p0",
        '  p0 -->|"good 17"| p1',
        "  classDef done stroke:#009E73,stroke-width:2px",
        "  class p0 done",
        "  classDef failed stroke:#D55E00,stroke-width:2px",
        "  class p1 failed",
    ]


def test_the_output_of_a_run_carries_text_html_and_mermaid() -> None:
    bundle = render_twin(scene_of(OUTLINE), RUN).bundle()
    assert set(bundle) == {"text/plain", "text/html", "text/vnd.mermaid"}
    assert "data:image/svg+xml" in str(bundle["text/html"])
