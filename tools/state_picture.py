"""docs/state-machine.svg: the states where we put them, the edges as the table has them.

Nodes and routes are placed by hand below; the words on an edge come from the table. An edge of the table without a
route, and a route without an edge, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from state_pages import moves

from squareoff.core.events import Event
from squareoff.core.machine import STATE_LABEL, Fact, NewRun, State

S, E = State, Event
WIDTH, HEIGHT = 1610, 818
TOP, BOTTOM = 133, 742  # lower edge of `stopped`, upper edge of `failed`

# centre x, centre y, width, height
NODES: dict[State, tuple[int, int, int, int]] = {
    S.CREATED: (110, 430, 150, 60),
    S.READY: (325, 430, 170, 60),
    S.RUNNING: (565, 430, 180, 60),
    S.BOUGHT: (805, 430, 190, 60),
    S.STOP_PENDING: (1120, 260, 180, 60),
    S.SELL_PENDING: (1120, 430, 180, 60),
    S.SL_PENDING: (1120, 600, 180, 60),
    S.SOLD: (1475, 430, 160, 60),
    S.EXITED_BY_SL: (1475, 600, 190, 60),
    S.STOPPED: (805, 105, 1570, 56),
    S.FAILED: (805, 770, 1570, 56),
}
GROUP = (990, 200, 260, 460)  # x, y, width, height of the box around the open exits
LOOK: dict[State, str] = {
    S.RUNNING: "wait",
    S.SELL_PENDING: "wait",
    S.SL_PENDING: "wait",
    S.STOP_PENDING: "wait",
    S.BOUGHT: "hold",
    S.SOLD: "done",
    S.EXITED_BY_SL: "done",
    S.STOPPED: "done",
    S.FAILED: "fail",
}
BAR_LABEL = {
    S.STOPPED: "archived: keys, grouping and timers deleted",
    S.FAILED: "automation gave up; while anything may be held, getting out goes on and the alarm keeps ringing",
}


@dataclass(frozen=True)
class Route:
    """A line through these points; its words stand at `at`, one event a line or all `in_line`."""

    points: tuple[tuple[int, int], ...]
    at: tuple[int, int] | None
    anchor: str = "start"
    kind: str = "other"
    in_line: bool = False


ROUTES: dict[tuple[State, State], Route] = {
    # the specification's own way, drawn strong
    (S.CREATED, S.READY): Route(((185, 430), (240, 430)), (212, 420), "middle", "main"),
    (S.READY, S.RUNNING): Route(((410, 430), (475, 430)), (442, 420), "middle", "main"),
    (S.RUNNING, S.BOUGHT): Route(((655, 430), (710, 430)), (682, 420), "middle", "main"),
    (S.BOUGHT, S.SELL_PENDING): Route(((900, 430), (1030, 430)), (945, 420), "middle", "main"),
    (S.BOUGHT, S.SL_PENDING): Route(((870, 460), (1030, 602)), (918, 536), "end", "main"),
    (S.BOUGHT, S.STOP_PENDING): Route(((870, 400), (1030, 258)), (918, 322), "end", "main"),
    (S.SELL_PENDING, S.SOLD): Route(((1210, 430), (1395, 430)), (1346, 420), "middle", "main"),
    (S.SL_PENDING, S.EXITED_BY_SL): Route(((1210, 600), (1380, 600)), (1310, 590), "middle", "main"),
    (S.STOP_PENDING, S.STOPPED): Route(((1120, 230), (1120, TOP)), (1110, 160), "end", "main"),
    # a more urgent exit overtakes
    (S.SELL_PENDING, S.SL_PENDING): Route(((1120, 460), (1120, 570)), (1130, 498), "start", "main"),
    (S.SELL_PENDING, S.STOP_PENDING): Route(((1120, 400), (1120, 290)), (1130, 342), "start"),
    (S.STOP_PENDING, S.SL_PENDING): Route(
        ((1060, 290), (1060, 318), (1010, 318), (1010, 540), (1060, 540), (1060, 570)), (1018, 498), "start", "main"
    ),
    (S.SELL_PENDING, S.EXITED_BY_SL): Route(
        ((1190, 460), (1190, 512), (1412, 512), (1412, 570)), (1262, 505), "start", "seen", in_line=True
    ),
    (S.STOP_PENDING, S.EXITED_BY_SL): Route(
        ((1210, 260), (1290, 260), (1290, 512), (1412, 512), (1412, 570)), None, "start", "seen"
    ),
    # to stopped
    (S.CREATED, S.STOPPED): Route(((110, 400), (110, TOP)), (118, 280)),
    (S.READY, S.STOPPED): Route(((305, 400), (305, TOP)), (297, 280), "end"),
    (S.RUNNING, S.STOPPED): Route(((565, 400), (565, TOP)), (573, 330)),
    (S.BOUGHT, S.STOPPED): Route(((775, 400), (775, TOP)), (767, 280), "end"),
    (S.SELL_PENDING, S.STOPPED): Route(((1190, 400), (1190, 345), (1230, 345), (1230, TOP)), (1238, 176)),
    (S.SOLD, S.STOPPED): Route(((1475, 400), (1475, TOP)), (1467, 265), "end"),
    (S.EXITED_BY_SL, S.STOPPED): Route(((1562, 570), (1562, TOP)), (1554, 522), "end"),
    (S.FAILED, S.STOPPED): Route(((27, BOTTOM), (27, TOP)), (35, 640)),
    # to failed
    (S.READY, S.FAILED): Route(((325, 460), (325, BOTTOM)), (333, 580)),
    (S.RUNNING, S.FAILED): Route(((565, 460), (565, BOTTOM)), (573, 580)),
    (S.BOUGHT, S.FAILED): Route(((805, 460), (805, BOTTOM)), (813, 640)),
    (S.SL_PENDING, S.FAILED): Route(((1175, 630), (1175, BOTTOM)), (1183, 690)),
    # again
    (S.STOPPED, S.READY): Route(((345, TOP), (345, 400)), (353, 280), "start", "again"),
}

SHARED: dict[tuple[tuple[State, ...], State], Route] = {
    ((S.STOP_PENDING, S.SELL_PENDING, S.SL_PENDING), S.FAILED): Route(((1060, 660), (1060, BOTTOM)), (1052, 690), "end")
}
"""One line for the words that all of these states have in common."""

STYLE = """
  .page { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e }
  .node { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.5 }
  .wait { fill: #fff8c5; stroke: #bf8700 } .hold { fill: #ddf4ff; stroke: #0969da; stroke-width: 2.5 }
  .done { fill: #dafbe1; stroke: #1a7f37 } .fail { fill: #ffebe9; stroke: #cf222e }
  .line { fill: none; stroke: #818b98; stroke-width: 1.3 } .main { stroke: #1f2328; stroke-width: 2.4 }
  .seen { stroke: #cf222e; stroke-dasharray: 5 4 } .again { stroke: #0969da; stroke-dasharray: 2 4; stroke-width: 2 }
  .tip { fill: #818b98 } .tip-main { fill: #1f2328 } .tip-seen { fill: #cf222e } .tip-again { fill: #0969da }
  .group { fill: none; stroke: #bf8700; stroke-dasharray: 2 4; stroke-width: 1.3 }
  .word { font-size: 13px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
"""
DARK = """
    .page { fill: #0d1117 } .ink { fill: #f0f6fc } .soft { fill: #9198a1 }
    .node { fill: #151b23; stroke: #656c76 }
    .wait { fill: #2b2408; stroke: #d29922 } .hold { fill: #0c2d4d; stroke: #4493f8 }
    .done { fill: #0f2a17; stroke: #3fb950 } .fail { fill: #3a1114; stroke: #f85149 }
    .line { stroke: #656c76 } .main { stroke: #f0f6fc } .seen { stroke: #f85149 } .again { stroke: #4493f8 }
    .tip { fill: #656c76 } .tip-main { fill: #f0f6fc } .tip-seen { fill: #f85149 } .tip-again { fill: #4493f8 }
    .group { fill: none; stroke: #bf8700; stroke-dasharray: 2 4; stroke-width: 1.3 }
  .word { stroke: #0d1117 }
"""


def picture() -> str:
    lines = [*_shared(words := edges())]
    if set(words) != set(ROUTES):
        undrawn, unknown = set(words) - set(ROUTES), set(ROUTES) - set(words)
        raise SystemExit(f"tools/state_picture.py: without a route {undrawn}; without an edge {unknown}")
    lines += [(ROUTES[edge], names) for edge, names in words.items()]
    x, y, width, height = GROUP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="The states of a run and the events that move it" '
        f'font-family="ui-sans-serif, system-ui, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif">',
        "<!-- Made by tools/generate_docs.py from src/squareoff/core/machine.py -->",
        f"<style>{STYLE}  @media (prefers-color-scheme: dark) {{{DARK}  }}\n</style>",
        f"<defs>{''.join(_tip(kind) for kind in ('other', 'main', 'seen', 'again'))}</defs>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
        '<text class="ink" x="22" y="40" font-size="22" font-weight="600">The states of a run</text>',
        '<text class="soft" x="22" y="62" font-size="13">strong: the way of the specification · '
        "red, dashed: the stop-loss was seen before · blue, dotted: a new run · "
        "not drawn: what leaves the state as it is (RETRY, look-ups, late news)</text>",
        f'<rect class="group" x="{x}" y="{y}" width="{width}" height="{height}" rx="14"/>',
        f'<text class="soft" x="{x + 10}" y="{y + 18}" font-size="12">the exit is open</text>',
    ]
    parts += [_line(route) for route, _ in lines]
    parts += [_node(state) for state in State]
    parts += [_words(route, names) for route, names in lines]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _shared(words: dict[tuple[State, State], list[str]]) -> Iterator[tuple[Route, list[str]]]:
    """The shared lines with their words, which are taken out of `words`."""
    for (origins, to), route in SHARED.items():
        own = [words[origin, to] for origin in origins]
        common = [name for name in own[0] if all(name in names for names in own)]
        yield route, common
        for origin in origins:
            words[origin, to] = [name for name in words[origin, to] if name not in common]
            if not words[origin, to]:
                del words[origin, to]


def edges() -> dict[tuple[State, State], list[str]]:
    """What leads from state to state. Where several ways exist, the exceptional ones are left to the table."""
    plain: dict[tuple[State, State], list[str]] = {}
    seen: dict[tuple[State, State], list[str]] = {}
    for state, event, leaf, to in moves():
        origin = S.STOPPED if isinstance(leaf.answer, NewRun) else state
        exceptional = leaf.asks(Fact.STOP_SEEN, True) or (leaf.asks(Fact.BOUGHT_SOME, True) and event is not E.FILLED)
        names = (seen if exceptional else plain).setdefault((origin, to), [])
        name = "close of session" if event is E.SESSION_CLOSED else str(event)
        if name not in names:
            names.append(name)
    return {**seen, **plain}


def _tip(kind: str) -> str:
    style = "tip" if kind == "other" else f"tip-{kind}"
    return (
        f'<marker id="tip-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path class="{style}" d="M0 0 10 5 0 10z"/></marker>'
    )


def _line(route: Route) -> str:
    (x, y), *rest = route.points
    path = f"M{x} {y}" + "".join(f" L{x} {y}" for x, y in rest)
    style = "line" if route.kind == "other" else f"line {route.kind}"
    return f'<path class="{style}" d="{path}" stroke-linejoin="round" marker-end="url(#tip-{route.kind})"/>'


def _node(state: State) -> str:
    x, y, width, height = NODES[state]
    label = BAR_LABEL.get(state, STATE_LABEL[state])
    return (
        f'<g><rect class="node {LOOK.get(state, "")}" x="{x - width // 2}" y="{y - height // 2}" width="{width}" '
        f'height="{height}" rx="9"/>'
        f'<text class="ink" x="{x}" y="{y - 4}" text-anchor="middle" font-size="16" font-weight="600" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono, monospace">{state}</text>'
        f'<text class="soft" x="{x}" y="{y + 17}" text-anchor="middle" font-size="12">{escape(label)}</text></g>'
    )


def _words(route: Route, names: list[str]) -> str:
    if route.at is None:
        return ""
    x, y = route.at
    rows = [" · ".join(names)] if route.in_line else names
    top = y - (len(rows) - 1) * 15 if route.anchor == "middle" else y
    lines = "".join(f'<tspan x="{x}" y="{top + 15 * row}">{escape(text)}</tspan>' for row, text in enumerate(rows))
    return f'<text class="ink word" text-anchor="{route.anchor}">{lines}</text>'
