"""Draw docs/demo.svg: the screen of a real `squareoff demo` after its worst half, and the day's ledger; and keep the
journals of its runs in docs/journals, from which the sequence diagrams are drawn.

    python tools/record_demo.py

Takes as long as the demo. The fills' prices depend on the moment an order arrives, so two recordings differ a little.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group
from sequence_pages import export, keep

from squareoff.apps.demo import screen
from squareoff.apps.demo.screen import ledger_table, verdict
from squareoff.apps.demo.script import ACTS
from squareoff.apps.demo.stage import Stage
from squareoff.apps.demo_command import _Play
from squareoff.core.machine import State

TARGET = Path(__file__).parents[1] / "docs" / "demo.svg"
JOURNALS = TARGET.parent / "journals"
WIDTH = 132
LINES = 21
"""More than the screen has: from the kill to the stop-loss that was hit after Redis was flushed."""

SVG = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
SVG = SVG.replace("<svg ", '<svg xml:space="preserve" ', 1)
"""Drawn in the viewer's own fixed-width font, so that the picture asks nobody for anything; spaces count."""


class _Recorded(_Play):
    """The demo, keeping one of its frames."""

    frame: Group | None = None

    def _look(self) -> None:
        super()._look()
        flushed = self.runs.get("redis-flushed")
        if self.frame is None and flushed is not None and flushed.outcome is State.EXITED_BY_SL:
            self.frame = self._view()


def main() -> int:
    screen.LINES = LINES
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage.set_up(Path(folder) / "demo", ACTS)
        try:
            play = _Recorded(stage, Console(file=sys.stderr, width=WIDTH, force_terminal=False))
            play.run()
        finally:
            stage.tear_down()
        audit = stage.audit()
        journals = export(stage.folder)
    kept, lines = verdict(audit, play.runs, stage.acts, stage.kills)
    if not kept or play.frame is None:
        sys.stderr.write(f"this day is not for the picture: {'; '.join(lines)}\n")
        return 1
    keep(journals, JOURNALS)
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, color_system="truecolor")
    console.print(play.frame)
    console.print()
    console.print(ledger_table(audit, play.runs))
    for text in lines:
        console.print(text, style="bold green", highlight=False)
    console.save_svg(str(TARGET), title="squareoff demo", code_format=SVG, unique_id="demo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
