"""docs/runtime-schema.md and .json: what Redis holds of a run, from `core/runtime_view.py`."""

from __future__ import annotations

import json
from typing import Any

from state_pages import GENERATED, table

from squareoff.adapters.redis import keys
from squareoff.core.runtime_view import (
    EVENT_FIELDS,
    RUNTIME_FIELDS,
    STRATEGY_FIELDS,
    TIMER_MEANING,
    Field,
    FieldType,
)
from squareoff.core.types import AccountId, StrategyId, Symbol

_SOURCE = "src/squareoff/core/runtime_view.py"
_DECIMAL = r"^-?\d+(\.\d+)?$"

TYPES: dict[FieldType, tuple[str, dict[str, Any]]] = {
    FieldType.TEXT: ("text", {}),
    FieldType.WORD: ("one word of the list", {}),
    FieldType.INTEGER: ("whole number", {"pattern": r"^-?\d+$"}),
    FieldType.DECIMAL: ("decimal number, no exponent", {"pattern": _DECIMAL}),
    FieldType.INSTANT: ("ISO 8601 instant, UTC", {"format": "date-time"}),
    FieldType.DAY: ("ISO 8601 date", {"format": "date"}),
    FieldType.FLAG: ("`true` or `false`", {"enum": ["true", "false"]}),
}

_ACCOUNT, _STRATEGY, _SYMBOL = AccountId("A1"), StrategyId(7), Symbol("NSE:INFY")
KEYS: tuple[tuple[str, str, str], ...] = (
    (keys.strategy_key(_ACCOUNT, _STRATEGY), "hash", "what the trader asked for, for one trading day"),
    (keys.runtime_key(_ACCOUNT, _STRATEGY), "hash", "where its run is"),
    (keys.symbol_key(_ACCOUNT, _SYMBOL), "set", "ids of the started strategies on this symbol"),
    (keys.lock_key(_ACCOUNT, _STRATEGY), "string with an expiry", "who works on it: `fence:owner`"),
    (keys.timers_key(_ACCOUNT), "sorted set", "member `id:name`, score in milliseconds since 1970 UTC"),
    (keys.events_key(_ACCOUNT), "stream", "one entry for each change: a record, never the carrier of a wish"),
    (keys.prices_key(_ACCOUNT), "hash", "symbol → last price, a space, its instant: for those who look"),
    (keys.epoch_key(_ACCOUNT), "hash", "`epoch` and `server_run_id` of the last rebuild"),
    (keys.done_key(_ACCOUNT), "sorted set", "requests carried out in the last minutes: a repeated one changes nothing"),
    (keys.bell_key(_ACCOUNT), "stream of one entry", "a wish waits in SQL"),
)


def schema() -> str:
    """JSON Schema of the hashes and of a stream entry, as text in Redis: every value is a string."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Made by tools/generate_docs.py from {_SOURCE}",
        "title": "What Redis holds of a run",
        "description": "Every value is text, as Redis gives it. A field whose value is not known is absent, "
        "never empty.",
        "$ref": "#/$defs/runtime",
        "$defs": {
            "strategy": _object("Hash strategy:{account}id: what the trader asked for", STRATEGY_FIELDS),
            "runtime": _object("Hash runtime:{account}id: where the run is", RUNTIME_FIELDS),
            "event": _object("Entry of stream events:{account}: one change", EVENT_FIELDS),
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _object(title: str, fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {each.name: _property(each) for each in fields},
        "required": [each.name for each in fields if not each.optional],
        "additionalProperties": False,
    }


def _property(each: Field) -> dict[str, Any]:
    rule = {"type": "string", "description": each.meaning, **TYPES[each.type][1]}
    if each.values:
        rule["enum"] = list(each.values)
    return rule


def page() -> str:
    parts = [
        GENERATED.format(source=_SOURCE),
        "# What Redis holds",
        "Redis is where the running system meets; it is never the truth. Everything in it can be rebuilt from SQL, the "
        "worker's memory and the broker, and a Redis that is not the one we wrote is noticed by its epoch. The same as "
        "JSON Schema: [runtime-schema.json](runtime-schema.json).",
        "## Keys",
        "`{A1}` is the account: its hash tag keeps all keys of an account together, also in a Redis Cluster, so that "
        "one script changes all of them at once. `7` is the strategy. Only START and a rebuild create keys.",
        table(("key", "kind", "holds"), [(f"`{key}`", kind, text) for key, kind, text in KEYS]),
        "## `runtime`",
        _fields(RUNTIME_FIELDS),
        "## `strategy`",
        _fields(STRATEGY_FIELDS),
        "## `events`",
        _fields(EVENT_FIELDS),
        "## Timers",
        table(("name", "when"), [(f"`{name}`", text) for name, text in TIMER_MEANING.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _fields(fields: tuple[Field, ...]) -> str:
    rows = []
    for each in fields:
        kind = " · ".join(f"`{value}`" for value in each.values) or TYPES[each.type][0]
        rows.append((f"`{each.name}`", kind, "may be absent" if each.optional else "", each.meaning))
    return table(("field", "value", "", "meaning"), rows)
