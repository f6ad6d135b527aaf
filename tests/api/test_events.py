"""What is pushed: the whole, then what changed, and after a lost connection where it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from squareoff import wiring
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.rows import update_run
from squareoff.apps.api import hub
from squareoff.apps.up import supervisor
from squareoff.core.run import Run
from squareoff.core.types import Position, Symbol, Tick, UserId
from squareoff.errors import BrokerUnavailable
from tests.api.client import Browser
from tests.api.conftest import Served
from tests.apps.conftest import MONDAY_MORNING
from tests.apps.runs import PAPER, put_into
from tests.apps.test_daily_command import held, selling, sold
from tests.apps.test_status_command import of_strategy

Added = Callable[..., int]
SHARE = Symbol("NSE:SHARE")


def test_the_stream_begins_with_everything_and_goes_on_with_what_changes(
    browser: Browser, added: Added, served: Served
) -> None:
    one, other = added("one"), added("two")
    events = browser.events()
    events.until(lambda document: len(document["rows"]) == 2)
    put_into(served.data / "squareoff.db", of_strategy(held(), one), [])
    document = events.until(lambda document: document["groups"]["holding"] == [one])
    assert events.row("one")["held"] == "50"
    assert document["groups"]["not_started"] == [other]
    patches = [data for _, event, data in events.seen if event == "patch" and "rows" in data]
    assert all(str(other) not in patch["rows"] for patch in patches)  # what did not change is not sent again
    with Database.open(served.data / "squareoff.db").write() as connection:
        update_run(connection, replace(of_strategy(sold(), one), version=99))
    events.until(lambda document: document["groups"]["done"] == [one])
    events.close()


def test_a_beat_comes_each_second(browser: Browser) -> None:
    events = browser.events()
    events.until(lambda _: [event for _, event, _ in events.seen].count("beat") >= 2, within_s=6)
    events.close()


def test_who_was_away_for_a_moment_goes_on_where_it_was(browser: Browser, added: Added) -> None:
    first = browser.events()
    first.until(lambda _: len(first.seen) >= 2, within_s=6)
    last_id = first.seen[-1][0]
    first.close()
    added("meanwhile")
    again = browser.events(last_id)
    again.document = first.document
    again.until(lambda _: again.row("meanwhile") != {})
    assert "today" not in [event for _, event, _ in again.seen]
    again.close()


def test_who_was_away_too_long_begins_anew(browser: Browser) -> None:
    for last_id in ("other-5", "epoch-99999", "nonsense", "epoch-x"):
        events = browser.events(last_id)
        events.until(lambda document: "rows" in document)
        assert events.seen[0][1] == "today"
        events.close()


def test_new_lines_of_the_journal_are_pushed(browser: Browser, added: Added) -> None:
    id_ = added()
    events = browser.events()
    events.until(lambda _: len(events.seen) >= 2, within_s=6)
    browser("PUT", f"strategies/{id_}", {"quantity": "7", "revision": 0})
    events.until(lambda _: any(event == "journal" for _, event, _ in events.seen))
    (lines,) = [data["entries"] for _, event, data in events.seen if event == "journal"]
    assert [line["text"] for line in lines] == ["morning edited: quantity 50 -> 7"]
    events.close()


def test_a_viewer_who_does_not_read_begins_anew_and_keeps_no_other_waiting(served: Served) -> None:
    from squareoff.apps.api.hub import WAITING_AT_MOST, Hub

    async def watch() -> tuple[list[str], int]:
        hub = Hub(desk=served.desk, user=UserId(1), epoch="e")
        stream = hub.events(None)
        told = [await anext(stream), await anext(stream)]
        for number in range(WAITING_AT_MOST + 10):
            hub._push("patch", f'{{"n":{number}}}')
        while "event: today" not in told[-1] or len(told) < 3:
            told.append(await anext(stream))
        viewers = hub.viewers
        await hub.close()
        return told, viewers

    told, viewers = asyncio.run(watch())
    assert told[-1].startswith("id: e-")
    assert len(told) < 20
    assert viewers == 1


def test_the_stream_ends_for_who_was_signed_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from squareoff.apps.api.routes import system

    browser = served.signed_in()
    monkeypatch.setattr(system, "STILL_SIGNED_IN_EVERY_S", 0.0)
    events = browser.events()
    events.until(lambda _: True)
    served.desk.access.sign_out_everywhere(UserId(1))
    events.until(lambda _: [event for _, event, _ in events.seen][-1] == "bye", within_s=6)
    events.close()


def test_who_comes_after_nobody_looked_sees_nothing_old(
    browser: Browser, added: Added, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.0)
    first = browser.events()
    first.until(lambda document: document["rows"] == {})
    first.close()
    time.sleep(0.5)
    added("meanwhile")
    again = browser.events()
    again.until(lambda _: True)
    assert [row["name"] for row in again.seen[0][2]["rows"].values()] == ["meanwhile"]
    again.close()


def test_a_fault_while_looking_silences_the_beat_and_ends_nothing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = browser.events()
    events.until(lambda _: "beat" in [event for _, event, _ in events.seen])
    whole = hub.today

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(hub, "today", broken)
    time.sleep(1.2)
    beats = len(events.seen)
    time.sleep(1.5)
    assert len(events.seen) == beats  # three seconds of that, and the page says NOT LIVE
    monkeypatch.setattr(hub, "today", whole)
    events.until(lambda _: len(events.seen) > beats)
    events.close()


def test_a_broker_that_says_nothing_any_more_proves_nothing(served: Served) -> None:
    from squareoff.apps.api import shapes

    of = hub.Hub(desk=served.desk, user=UserId(1), epoch="e")
    said = shapes.BrokerSays(account="paper", state="same", at=None, age_s=0, text="the broker says the same")
    of._broker[PAPER], of._broker_at_s[PAPER] = said, time.monotonic() - hub.BROKER_OLD_S - 1
    (told,) = of._with_ages().values()
    assert (told.state, told.text) == ("unknown", "the broker has said nothing since")


def test_what_was_pushed_adds_up_to_what_is_so(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of which only the price moved are not put into words anew: the sum must be the same all the same."""
    prices = {"now": "1560"}
    monkeypatch.setattr(supervisor, "running", lambda _: {"pid": 1, "redis_url": "redis://nowhere:1"})
    monkeypatch.setattr(wiring, "last_ticks", lambda *_: {SHARE: Tick(SHARE, Decimal(prices["now"]), MONDAY_MORNING)})
    one, other = added("one"), added("two")
    put_into(served.data / "squareoff.db", of_strategy(held(), one), [])
    events = browser.events()
    for price in ("1559.95", "1561", "1545"):
        prices["now"] = price
        events.until(lambda _, price=price: events.row("one").get("price") == price)
        assert events.document["rows"] == looked_at_afresh(served)["rows"]
    browser.post(f"strategies/{other}/start")
    events.until(lambda _: events.row("two")["pending"] == "START")
    assert events.document["rows"] == looked_at_afresh(served)["rows"]
    assert events.row("one")["gain"] == "-870"  # (1,545.00 - 1,562.40) x 50
    events.close()


def looked_at_afresh(served: Served) -> dict[str, Any]:
    return asyncio.run(hub.Hub(desk=served.desk, user=UserId(1), epoch="e").document()).model_dump(mode="json")


# ------------------------------------------------------------------ the second witness


def says(served: Served, monkeypatch: pytest.MonkeyPatch, *answers: str | None, run: Run) -> list[tuple[str, str]]:
    """What is shown of the broker after each of its answers: so many shares held, None: it is away."""
    put_into(served.data / "squareoff.db", of_strategy(run, 1), [])
    waiting = iter(answers)

    async def held_at_broker(*_: object) -> list[Position]:
        if (qty := next(waiting)) is None:
            raise BrokerUnavailable("away")
        return [Position(symbol=run.plan.symbol, product=run.plan.product, net_qty=Decimal(qty))]

    monkeypatch.setattr(type(served.desk), "held_at_broker", held_at_broker)

    async def ask() -> list[tuple[str, str]]:
        of, told = hub.Hub(desk=served.desk, user=UserId(1), epoch="e"), []
        for _ in answers:
            await of.document()
            await of._ask_brokers()
            (shown,) = (await of.document()).broker
            told.append((shown.state, shown.text))
        return told

    return asyncio.run(ask())


NOT_YET = ("unknown", "the broker was not asked yet")
SAME = ("same", "the broker says the same")


def test_that_the_broker_says_the_same_is_said(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    assert says(served, monkeypatch, "50", run=held()) == [SAME]


def test_shares_of_ones_own_beside_ours_are_no_difference(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    assert says(served, monkeypatch, "60", run=held()) == [
        ("same", "the broker says the same, and 10 NSE:INFY of your own")
    ]


def test_a_difference_is_told_when_it_stays_and_forgotten_when_it_goes(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once may be a moment between a fill and its news."""
    added()
    differs = ("differs", "the broker holds only 20 of the 50 NSE:INFY that squareoff bought")
    told = says(served, monkeypatch, "20", "50", "20", "20", "50", run=held())
    assert told == [NOT_YET, SAME, SAME, differs, SAME]


def test_a_broker_that_is_away_is_never_read_as_flat(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    assert says(served, monkeypatch, None, None, None, run=held()) == [NOT_YET] * 3


def test_while_an_order_is_out_the_two_are_not_compared(
    browser: Browser, added: Added, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    assert says(served, monkeypatch, "0", "0", run=selling()) == [NOT_YET, NOT_YET]
