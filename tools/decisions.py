"""Decisions of the core as text: what went in, what came out. `tools/record_decisions.py` keeps those of a demo and of
a practice week; `tests/recorded` asks today's code the same questions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from squareoff.core.events import Signal, Source
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Sent, Unknown, hear, judge
from squareoff.core.run import Run, advance
from squareoff.core.triggers import due
from squareoff.core.types import OrderReport, SlotName, Tick

_SENT: dict[str, type] = {kind.__name__: kind for kind in (Answered, Refused, NotSent, GateSaidNo, Limited, Unknown)}


def _sent_as_text(sent: Sent) -> Any:
    return {"kind": type(sent).__name__, "of": msgspec.to_builtins(sent)}


def _sent(told: Any) -> Sent:
    sent: Sent = msgspec.convert(told["of"], _SENT[told["kind"]])
    return sent


QUESTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "advance": (advance, (Run, Signal)),
    "hear": (hear, (Run, OrderReport, datetime)),
    "judge": (judge, (Run, SlotName, Sent, datetime)),
    "due": (due, (Run, datetime, Tick | None, Source, datetime | None)),
}
"""What is asked, and of which kinds the answers depend."""


def asked(name: str, given: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """The arguments of a call, as they are written down."""
    if name == "due":
        run, now, last, *rest = given
        given = (run, now, last, rest[0] if rest else Source.ENGINE, named.get("as_of"))
    kinds = QUESTIONS[name][1]
    return [_sent_as_text(v) if k is Sent else msgspec.to_builtins(v) for v, k in zip(given, kinds, strict=True)]


def answered(answer: Any) -> Any:
    """The answer, as it is written down."""
    return msgspec.to_builtins(answer)


def ask_again(name: str, told: list[Any]) -> Any:
    """What today's code answers to the same question, as it would be written down."""
    function, kinds = QUESTIONS[name]
    given = [_sent(v) if k is Sent else msgspec.convert(v, k) for v, k in zip(told, kinds, strict=True)]
    if name == "due":
        return answered(function(*given[:4], as_of=given[4]))
    return answered(function(*given))
