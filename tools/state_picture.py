"""docs/state-machine.svg: the states where we put them, the edges as the table has them.

Nodes and routes are placed by hand below; the words on an edge come from the table. An edge of the table without a
route, and a route without an edge, is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from state_pages import moves

from squareoff.core.events import Event
from squareoff.core.machine import STATE_LABEL, Fact, NewRun, State

S, E = State, Event
WIDTH, HEIGHT = 1440, 850

# centre x, centre y, width, height
NODES: dict[State, tuple[int, int, int, int]] = {
    S.CREATED: (110, 430, 150, 60),
    S.READY: (330, 430, 170, 60),
    S.RUNNING: (580, 430, 180, 60),
    S.BOUGHT: (830, 430, 190, 60),
    S.STOP_PENDING: (1080, 260, 180, 60),
    S.SELL_PENDING: (1080, 430, 180, 60),
    S.SL_PENDING: (1080, 600, 180, 60),
    S.SOLD: (1325, 430, 160, 60),
    S.EXITED_BY_SL: (1325, 600, 180, 60),
    S.STOPPED: (720, 105, 1390, 56),
    S.FAILED: (720, 770, 1390, 56),
}
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
    """A line through these points; its words stand at `at`, one event a line, anchored as `anchor` says."""

    points: tuple[tuple[int, int], ...]
    at: tuple[int, int]
    anchor: str = "start"
    kind: str = "other"


TOP, BOTTOM = 133, 742  # lower edge of `stopped`, upper edge of `failed`

ROUTES: dict[tuple[State, State], Route] = {
    # the specification's own way, drawn strong
    (S.CREATED, S.READY): Route(((185, 430), (245, 430)), (215, 420), "middle", "main"),
    (S.READY, S.RUNNING): Route(((415, 430), (490, 430)), (452, 420), "middle", "main"),
    (S.RUNNING, S.BOUGHT): Route(((670, 430), (735, 430)), (702, 420), "middle", "main"),
    (S.BOUGHT, S.SELL_PENDING): Route(((925, 430), (990, 430)), (957, 420), "middle", "main"),
    (S.BOUGHT, S.SL_PENDING): Route(((900, 460), (990, 590)), (934, 548), "end", "main"),
    (S.BOUGHT, S.STOP_PENDING): Route(((900, 400), (990, 270)), (934, 312), "end", "main"),
    (S.SELL_PENDING, S.SOLD): Route(((1170, 430), (1245, 430)), (1207, 420), "middle", "main"),
    (S.SL_PENDING, S.EXITED_BY_SL): Route(((1170, 600), (1235, 600)), (1202, 590), "middle", "main"),
    (S.STOP_PENDING, S.STOPPED): Route(((1060, 230), (1060, TOP)), (1050, 176), "end", "main"),
    # one exit overtakes another
    (S.SELL_PENDING, S.SL_PENDING): Route(((1080, 460), (1080, 570)), (1090, 512), "start", "main"),
    (S.SELL_PENDING, S.STOP_PENDING): Route(((1080, 400), (1080, 290)), (1090, 342), "start"),
    (S.STOP_PENDING, S.SL_PENDING): Route(
        ((1010, 290), (1010, 330), (975, 365), (975, 510), (1010, 545), (1010, 570)), (982, 496), "start"
    ),
    (S.SELL_PENDING, S.EXITED_BY_SL): Route(((1150, 460), (1245, 570)), (1206, 506), "start", "seen"),
    (S.STOP_PENDING, S.EXITED_BY_SL): Route(
        ((1170, 260), (1215, 260), (1228, 290), (1228, 490), (1270, 570)), (1220, 250), "start", "seen"
    ),
    # to stopped
    (S.CREATED, S.STOPPED): Route(((110, 400), (110, TOP)), (118, 280)),
    (S.READY, S.STOPPED): Route(((310, 400), (310, TOP)), (302, 280), "end"),
    (S.RUNNING, S.STOPPED): Route(((580, 400), (580, TOP)), (588, 280)),
    (S.BOUGHT, S.STOPPED): Route(((800, 400), (800, TOP)), (792, 250), "end"),
    (S.SELL_PENDING, S.STOPPED): Route(
        ((1150, 400), (1150, 350), (1190, 310), (1190, TOP)), (1198, 176), "start"
    ),
    (S.SOLD, S.STOPPED): Route(((1325, 400), (1325, TOP)), (1317, 300), "end"),
    (S.EXITED_BY_SL, S.STOPPED): Route(((1412, 570), (1412, TOP)), (1404, 500), "end"),
    (S.FAILED, S.STOPPED): Route(((30, BOTTOM), (30, TOP)), (38, 640)),
    # to failed
    (S.READY, S.FAILED): Route(((330, 460), (330, BOTTOM)), (338, 580)),
    (S.RUNNING, S.FAILED): Route(((580, 460), (580, BOTTOM)), (588, 580)),
    (S.BOUGHT, S.FAILED): Route(((800, 460), (800, BOTTOM)), (792, 620), "end"),
    (S.SL_PENDING, S.FAILED): Route(((1080, 630), (1080, BOTTOM)), (1090, 676)),
    (S.SELL_PENDING, S.FAILED): Route(
        ((1010, 460), (1010, 480), (945, 545), (945, BOTTOM)), (937, 690), "end"
    ),
    (S.STOP_PENDING, S.FAILED): Route(
        ((990, 290), (960, 320), (885, 500), (885, BOTTOM)), (877, 690), "end"
    ),
    # again
    (S.STOPPED, S.READY): Route(((350, TOP), (350, 400)), (358, 280), "start", "again"),
}

STYLE = """
  .page { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e }
  .node { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.5 }
  .wait { fill: #fff8c5; stroke: #bf8700 } .hold { fill: #ddf4ff; stroke: #0969da; stroke-width: 2.5 }
  .done { fill: #dafbe1; stroke: #1a7f37 } .fail { fill: #ffebe9; stroke: #cf222e }
  .line { fill: none; stroke: #818b98; stroke-width: 1.3 } .main { stroke: #1f2328; stroke-width: 2.4 }
  .seen { stroke: #cf222e; stroke-dasharray: 5 4 } .again { stroke: #0969da; stroke-dasharray: 2 4; stroke-width: 2 }
  .tip { fill: #818b98 } .tip-main { fill: #1f2328 } .tip-seen { fill: #cf222e } .tip-again { fill: #0969da }
  .word { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round }
"""
DARK = """
    .page { fill: #0d1117 } .ink { fill: #f0f6fc } .soft { fill: #9198a1 }
    .node { fill: #151b23; stroke: #656c76 }
    .wait { fill: #2b2408; stroke: #d29922 } .hold { fill: #0c2d4d; stroke: #4493f8 }
    .done { fill: #0f2a17; stroke: #3fb950 } .fail { fill: #3a1114; stroke: #f85149 }
    .line { stroke: #656c76 } .main { stroke: #f0f6fc } .seen { stroke: #f85149 } .again { stroke: #4493f8 }
    .tip { fill: #656c76 } .tip-main { fill: #f0f6fc } .tip-seen { fill: #f85149 } .tip-again { fill: #4493f8 }
    .word { stroke: #0d1117 }
"""


def picture() -> str:
    words = edges()
    if set(words) != set(ROUTES):
        undrawn, unknown = set(words) - set(ROUTES), set(ROUTES) - set(words)
        raise SystemExit(f"tools/state_picture.py: without a route {undrawn}; without an edge {unknown}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="The states of a run and the events that move it" '
        f'font-family="ui-sans-serif, system-ui, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif">',
        "<!-- Made by tools/generate_docs.py from src/squareoff/core/machine.py -->",
        f"<style>{STYLE}  @media (prefers-color-scheme: dark) {{{DARK}  }}\n</style>",
        f"<defs>{''.join(_tip(kind) for kind in ('other', 'main', 'seen', 'again'))}</defs>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
        f'<text class="ink" x="25" y="42" font-size="22" font-weight="600">The states of a run</text>',
        '<text class="soft" x="25" y="62" font-size="13">strong: the way of the specification · '
        "red, dashed: the stop-loss was seen before · blue, dotted: a new run</text>",
    ]
    parts += [_line(route) for route in ROUTES.values()]
    parts += [_node(state) for state in State]
    parts += [_words(ROUTES[edge], names) for edge, names in words.items()]
    return "\n".join([*parts, "</svg>"]) + "\n"


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
    x, y = route.at
    top = y - (len(names) - 1) * 15 if route.anchor == "middle" else y
    lines = "".join(f'<tspan x="{x}" y="{top + 15 * row}">{escape(name)}</tspan>' for row, name in enumerate(names))
    return f'<text class="ink word" text-anchor="{route.anchor}">{lines}</text>'
