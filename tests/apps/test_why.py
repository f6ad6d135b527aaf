"""What `squareoff why` tells: each line with its cause, checkable by hand, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from squareoff.apps.why_command import (
    LINES_AT_MOST,
    Line,
    Section,
    Tone,
    average_sum,
    explain,
    stop_loss_sum,
    whole_story,
)
from squareoff.core.run import Run, StopSeen
from squareoff.core.strategy import StopLoss, StopLossKind
from squareoff.core.types import RunId, StrategyId
from squareoff.ports import EngineState, JournalEntry, JournalKind
from tests.apps.conftest import Squareoff
from tests.apps.runs import PAPER, at_0920_it_costs, play, put_into

IST = ZoneInfo("Asia/Kolkata")
K = JournalKind
NOON = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def told(run: Run, journal: Sequence[JournalEntry]) -> list[Line]:
    return explain(run, journal, zone=IST)


def story(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [(line.what, line.why) for line in lines if line.section is Section.STORY]


def result(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [(line.what, line.why) for line in lines if line.section is Section.RESULT]


def money(text: str) -> Decimal:
    return Decimal(text)


def a_day(*later: tuple[str, str], price: str = "1562.40", **fields: object) -> tuple[Run, Sequence[JournalEntry]]:
    day = play(at_0920_it_costs(price, *later), **fields)
    return day.runs[0], day.journal


# ------------------------------------------------------------------ real days


def test_a_stop_loss_is_explained_down_to_its_arithmetic() -> None:
    run, journal = a_day(("11:00:00", "1539"), ("11:00:01", "1538.50"))
    entry, exit_ = run.entry.attempts[0].client_order_id, run.exit.attempts[0].client_order_id
    lines = told(run, journal)
    assert story(lines) == [
        ("created -> ready: waiting for BUY time", "it was started for this day"),
        ("ready -> running: buying, not proven yet", "BUY time came, the last price is 1,562.40"),
        (f"sent BUY 50 NSE:INFY at market, order {entry}", "BUY time came"),
        (f"{entry} acknowledged as P000001: open", "the broker's answer"),
        ("BUY filled: 50 at 1,562.40", f"trade T000001 of order {entry}"),
        ("running -> bought: holding, stop-loss watched", "50 of 50 filled"),
        (
            "stop-loss at 1,539.00",
            "1,562.40 average fill x (1 - 1.5 %) = 1,538.964, rounded up to the tick of 0.05 = 1,539.00",
        ),
        ("bought -> sl_pending: selling: stop-loss hit", "the price 1,539.00 is at or below the stop-loss 1,539.00"),
        (f"sent SELL 50 NSE:INFY at market, order {exit_}", "the stop-loss was hit"),
        (f"{exit_} acknowledged as P000002: open", "the broker's answer"),
        ("SELL filled: 50 at 1,538.50", f"trade T000002 of order {exit_}"),
        ("sl_pending -> exited_by_sl: out at the stop-loss, flat", "the fills prove it: 50 of 50 sold"),
    ]
    assert result(lines) == [
        ("exited_by_sl: out at the stop-loss, flat", "the stop-loss was hit"),
        ("you hold nothing", "bought 50, sold 50"),
        ("P&L -1,195.00", "(1,538.50 - 1,562.40) x 50; gross, before charges"),
        ("no SELL at 15:10:00.000", "the stop-loss came first"),
    ]


def test_a_sell_on_time_says_that_the_stop_loss_was_not_reached() -> None:
    run, journal = a_day(("15:10:01", "1571.35"))
    assert result(told(run, journal)) == [
        ("sold: sold on time, flat", "SELL time came"),
        ("you hold nothing", "bought 50, sold 50"),
        ("P&L 447.50", "(1,571.35 - 1,562.40) x 50; gross, before charges"),
        ("no stop-loss at 1,539.00", "no price at or below it was seen while the position was held"),
    ]


def test_a_buy_that_was_not_made_says_why_and_that_nothing_is_held() -> None:
    run, journal = a_day(price="1540", stop_loss="1540")
    label = "skipped, you hold nothing: the price was already at or below the stop-loss"
    assert story(told(run, journal))[-1] == ("ready -> failed", f"{label}: 1,540.00 is not above 1,540.00")
    assert result(told(run, journal)) == [
        ("failed: nothing was bought", f"{label}: price 1,540.00 <= stop-loss 1,540.00"),
        ("you hold nothing", "nothing was bought"),
        ("no BUY, so no SELL and no stop-loss", "there was nothing to sell"),
    ]


def test_a_buy_without_a_fresh_price_says_what_was_waited_for() -> None:
    day = play([("09:16:00", "1562.40")])
    assert story(told(day.runs[0], day.journal))[1:] == [
        ("BUY time, but no fresh price: the first tick within the grace decides", ""),
        ("ready -> failed", "skipped, you hold nothing: no fresh price at BUY time"),
    ]


def test_an_exit_that_is_still_open_says_what_is_held_and_rings() -> None:
    run, journal = a_day(("10:00:00", "1570"))
    lines = told(run, journal)
    assert result(lines) == [
        ("sell_pending: selling: SELL time", "SELL time came"),
        ("you hold shares: 50 NSE:INFY", "bought 50, sold 0"),
    ]
    assert [line.tone for line in lines if line.what.startswith("you hold")] == [Tone.ALARM]


def test_every_line_of_the_story_but_a_waiting_one_has_its_cause() -> None:
    run, journal = a_day(("11:00:00", "1539"), ("11:00:01", "1538.50"))
    assert all(why for _, why in story(told(run, journal)))


def test_the_whole_journal_shows_every_entry_with_the_state_of_the_engine() -> None:
    _, journal = a_day(("11:00:00", "1539"))
    lines = whole_story(journal)
    assert len(lines) == len(journal)
    assert ("locked for BUY", "claim, engine locked") in [(line.what, line.why) for line in lines]
    assert {state for state in EngineState} - {EngineState.IDLE} <= {entry.engine for entry in journal}


# ------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (StopLossKind.PRICE, "1540", "the price you gave"),
        (StopLossKind.POINTS, "20", "1,562.40 average fill - 20.00 points = 1,542.40"),
        (
            StopLossKind.POINTS,
            "20.03",
            "1,562.40 average fill - 20.03 points = 1,542.37, rounded up to the tick of 0.05 = 1,542.40",
        ),
        (StopLossKind.PERCENT, "50", "1,562.40 average fill x (1 - 50 %) = 781.20"),
    ],
)
def test_the_sum_of_a_stop_loss_can_be_checked_by_hand(kind: StopLossKind, value: str, says: str) -> None:
    level = StopLoss(kind=kind, value=money(value))
    assert stop_loss_sum(level, money("1562.40"), money("0.05")) == says


def test_the_average_of_several_fills_can_be_checked_by_hand() -> None:
    fills = [(money("20"), money("1562.40")), (money("30"), money("1562.60"))]
    assert average_sum(fills) == ": (20 x 1,562.40 + 30 x 1,562.60) / 50 = 1,562.52"
    assert average_sum(fills[:1]) == ""
    thirds = [(money("1"), money("100")), (money("2"), money("100.10"))]
    assert average_sum(thirds) == ": (1 x 100.00 + 2 x 100.10) / 3 = ~100.066667"
    assert average_sum(fills * 3) == " in 6 parts, 1,562.52 on average"


# ------------------------------------------------------------------ what goes wrong


class Pen:
    """Writes journal entries one second apart, as the engine does."""

    def __init__(self, run: Run) -> None:
        self.run, self.entries = run, list[JournalEntry]()

    def __call__(self, kind: JournalKind, text: str, *, of_account: bool = False, **data: Any) -> None:
        at = NOON + timedelta(seconds=len(self.entries))
        run_id = None if of_account else self.run.plan.run_id
        self.entries.append(JournalEntry(at=at, account=PAPER, kind=kind, text=text, run_id=run_id, data=data))

    def moved(self, before: str, to: str, *, cause: str) -> None:
        data: dict[str, Any] = {"from": before, "to": to, "cause": cause}
        self(K.TRANSITION, f"{before} -> {to}", **data)

    @property
    def story(self) -> list[tuple[str, str]]:
        return story(told(self.run, self.entries))


@pytest.fixture
def pen() -> Pen:
    return Pen(a_day(("10:00:00", "1570"))[0])


def test_look_ups_of_a_lost_order_are_told_once_with_how_often(pen: Pen) -> None:
    order = "SQUG47MNDR6XX01"
    pen(K.ANSWER, f"no clear answer for {order}: timeout; it may be live", order=order, outcome="Unknown")
    pen(K.NOTE, "UNCONFIRMED : timeout", event="UNCONFIRMED", source="broker", price=None)
    for look in range(1, 13):
        pen(K.LOOK_UP, f"{order} is not in the broker's book yet", order=order, look=look)
    pen(K.LOOK_UP, f"{order} found at the broker: filled, 50 filled; it is not sent again", order=order, look=13)
    why = "look-up: an order whose outcome is unknown is never sent again blindly"
    assert pen.story == [
        (f"no clear answer for {order}: timeout; it may be live", "the broker's answer"),
        (f"{order} is not in the broker's book yet (12 times until 12:00:13.000)", why),
        (f"{order} found at the broker: filled, 50 filled; it is not sent again", why),
    ]


def test_a_rescue_that_is_refused_for_hours_stays_on_one_screen(pen: Pen) -> None:
    for number in range(1, 1000):
        order = f"SQUG47MNDR6XX{number:02d}"[:15]
        pen(K.TIMER, "RETRY", event="RETRY", source="timer", price=None)
        pen(K.REQUEST, f"SELL 50 NSE:INFY at market ({order})", order=order, attempt=number, cause="RETRY")
        pen(K.ANSWER, f"{order} refused: margin (may be tried again)", order=order, outcome="Refused")
        pen(K.RETRY, f"proven not placed: try {number + 1} in 5.00 s", tries=number)
    assert [what for what, _ in pen.story] == [
        "sent SELL 50 NSE:INFY at market (SQUG47MNDR6XX01)",
        "SQUG47MNDR6XX01 refused: margin (may be tried again)",
        "proven not placed: try 2 in 5.00 s",
        "the same again 998 times",
    ]


def test_the_loss_of_redis_and_a_restart_are_part_of_the_story(pen: Pen) -> None:
    pen(K.CLAIM, "STOPLOSS goes on without Redis: connection refused", event="STOPLOSS")
    pen(K.REDIS, "Redis is not there: connection refused")
    pen(K.RECOVERY, "start: 1 runs in SQL, 1 send marks and 0 latches in the spool", of_account=True, fence=2)
    pen(K.RECOVERY, "found sl_pending, exposure long", state="sl_pending", exposure="long")
    pen(K.RECOVERY, "the broker does not answer yet: timeout", of_account=True)
    pen(K.RECOVERY, "broker: 7 orders in its book, 1 of the 1 that may be live are there", of_account=True)
    pen(K.REDIS, "rebuilt from SQL: 1 runs", of_account=True)
    pen(K.RECOVERY, "done in 0.05 s: entries are allowed", of_account=True, seconds=0.05)
    assert pen.story == [
        ("STOPLOSS goes on without Redis: connection refused", "exits never wait for Redis"),
        ("Redis is not there: connection refused", "Redis"),
        (
            "squareoff was started again: found sl_pending, exposure long",
            "1 runs in SQL, 1 send marks and 0 latches in the spool",
        ),
        ("the broker does not answer yet: timeout", "squareoff was started again"),
        ("rebuilt from SQL: 1 runs", "Redis, the whole account"),
        ("recovery done in 0.05 s: entries are allowed", "all that may be live was asked for"),
    ]


def test_a_restart_that_found_nothing_new_is_told_in_its_place_and_once(pen: Pen) -> None:
    pen(K.RECOVERY, "start: 3 runs in SQL, 0 send marks and 0 latches in the spool", of_account=True, fence=2)
    pen(K.RECOVERY, "found as they were saved, no order of them open: 3 bought", of_account=True)
    pen(K.REDIS, "rebuilt from SQL: 3 runs", of_account=True)
    pen(K.RECOVERY, "done in 0.05 s: entries are allowed", of_account=True, seconds=0.05)
    assert [what for what, _ in pen.story] == [
        "squareoff was started again",
        "rebuilt from SQL: 3 runs",
        "recovery done in 0.05 s: entries are allowed",
    ]


def test_a_stop_loss_and_sell_at_the_same_instant_say_which_overrides(pen: Pen) -> None:
    pen.run = replace(pen.run, stop_seen=StopSeen(price=money("1500"), at=pen.run.plan.sell_at))
    pen(K.TIMER, "SELL", event="SELL", source="timer", price=None)
    pen.moved("bought", "sl_pending", cause="stop_loss")
    pen(K.REQUEST, "SELL", order="SQ", attempt=1, cause="SELL", side="SELL", qty="50")
    assert pen.story == [
        (
            "bought -> sl_pending: selling: stop-loss hit",
            "the price 1,500.00 was at or below the stop-loss; it overrides SELL",
        ),
        ("sent SELL 50 NSE:INFY at market, order SQ", "the stop-loss was hit"),
    ]


def test_a_run_that_is_archived_says_that_the_session_has_ended(pen: Pen) -> None:
    pen(K.TIMER, "SESSION_CLOSED", event="SESSION_CLOSED", source="timer", price=None)
    pen.moved("sold", "stopped", cause="sell_time")
    assert pen.story == [("sold -> stopped: archived", "the exchange's session has ended")]


def test_what_concerns_another_strategy_is_left_out(pen: Pen) -> None:
    pen(K.ALERT, "strategy 99 was not started: its calendar is missing", of_account=True)
    pen(K.ALERT, "strategy 1 was not started: its calendar is missing", of_account=True)
    assert [what for what, _ in pen.story] == ["strategy 1 was not started: its calendar is missing"]


def test_a_wish_that_does_nothing_says_why(pen: Pen) -> None:
    pen(K.WISH, "STOP", event="STOP", source="wish", price=None)
    pen(K.NOTHING, "the stop-loss overrides: its exit is already open", event="STOP")
    assert pen.story == [("STOP: nothing done", "the stop-loss overrides: its exit is already open")]


def test_a_buy_that_waits_says_for_what_and_until_when(pen: Pen) -> None:
    for _ in range(8):
        pen(K.TIMER, "BUY at price 1562.4", event="BUY", source="engine", price="1562.4")
        pen(K.NOTHING, "BUY waits: Redis is being rebuilt", blocked="Redis is being rebuilt")
    assert pen.story == [("BUY waits (8 times until 12:00:15.000)", "Redis is being rebuilt")]


def test_an_entry_that_is_called_back_says_that_its_time_is_over(pen: Pen) -> None:
    pen(K.TIMER, "ENTRY_EXPIRED", event="ENTRY_EXPIRED", source="timer", price=None)
    pen(K.CLAIM, "locked for ENTRY_EXPIRED", event="ENTRY_EXPIRED")
    pen(K.REQUEST, "cancel what is left of SQUG47MNDR6XE01", order="SQUG47MNDR6XE01", cancel=True)
    assert pen.story == [
        ("ENTRY_EXPIRED", "the entry order's life is over"),
        ("cancel what is left of SQUG47MNDR6XE01", "what is not filled is called back"),
    ]


def test_an_urgent_alarm_is_shown_and_a_warning_that_repeats_the_line_before_is_not(pen: Pen) -> None:
    pen(K.ALERT, "NSE:INFY: every try failed. you hold shares (50)", severity="urgent")
    pen(K.ALERT, "NSE:INFY: skipped", severity="warning")
    assert pen.story == [("ALARM NSE:INFY: every try failed. you hold shares (50)", "you were told")]


def test_a_story_too_long_for_one_screen_keeps_what_matters_and_says_what_is_left_out(pen: Pen) -> None:
    for n in range(100):
        pen(K.NOTE, f"note {'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10]}")
    pen(K.FILL, "SELL 50 filled at 1539", qty="50", price="1539", side="SELL", trade_id="T9", order="SQ")
    for n in range(100):
        pen(K.NOTE, f"note {'abcdefghij'[n % 10]}{'uvwxyzABCD'[n // 10]}")
    shown = [what for what, _ in pen.story]
    assert len(shown) <= LINES_AT_MOST + 2
    assert "SELL filled: 50 at 1,539.00" in shown
    assert (shown[0], shown[-1]) == ("note ak", "note jD")
    assert sum("more lines: --all shows them" in what for what in shown) == 2


def test_words_from_outside_cannot_write_on_the_terminal(pen: Pen) -> None:
    pen(K.ANSWER, "SQX refused: \x1b[2J\x07gone", outcome="Refused")
    assert pen.story == [("SQX refused:  [2J gone", "the broker's answer")]


def test_a_run_without_a_journal_still_shows_its_orders_and_how_it_ended() -> None:
    run, _ = a_day(("11:00:00", "1539"), ("11:00:01", "1538.50"))
    lines = told(run, [])
    assert story(lines) == [("the journal holds nothing of this run", "")]
    assert len([line for line in lines if line.section is Section.ORDERS]) == 2
    assert result(lines)[0] == ("exited_by_sl: out at the stop-loss, flat", "the stop-loss was hit")


# ------------------------------------------------------------------ the command


@pytest.fixture
def ran(squareoff: Squareoff) -> Squareoff:
    """A strategy with one run, which the stop-loss ended."""
    options = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")
    assert squareoff("add", "morning", "NSE:INFY", "50", *options).status == 0
    run, journal = a_day(("11:00:00", "1539"), ("11:00:01", "1538.50"))
    put_into(squareoff.data / "squareoff.db", run, journal)
    return squareoff


def test_why_fits_one_screen_and_shows_exchange_times_to_the_millisecond(ran: Squareoff) -> None:
    answer = ran("why", "morning")
    assert (answer.status, answer.errors) == (0, "")
    lines = answer.output.splitlines()
    assert len(lines) <= 40
    assert lines[0] == (
        "morning, run 1 on 2026-11-23: buy 50 NSE:INFY at 09:20:00, sell at 15:10:00 (IST), stop-loss 1.5%, MIS, "
        "account paper"
    )
    assert any(line.startswith("11:00:00.000  bought -> sl_pending") for line in lines)
    assert any("1,538.964, rounded up to the tick of 0.05 = 1,539.00" in line for line in lines)


def test_why_all_shows_the_whole_journal(ran: Squareoff) -> None:
    answer = ran("why", "morning", "--run", "1", "--all")
    assert answer.status == 0
    assert "claim, engine locked" in answer.output
    assert "P&L -1,195.00" in answer.output


def test_why_as_json_says_the_same_with_exact_money(ran: Squareoff) -> None:
    document = ran.json("why", "morning", "--all")
    assert document["run"]["pnl"] == "-1195"
    assert document["run"]["state"] == "exited_by_sl"
    assert document["lines"][-1]["what"] == "no SELL at 15:10:00.000"
    assert {entry["engine"] for entry in document["journal"]} >= {"validating", "locked", "executing"}
    assert "journal" not in ran.json("why", "morning")


def test_why_of_a_strategy_that_never_ran_says_so(squareoff: Squareoff) -> None:
    options = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")
    squareoff("add", "morning", "NSE:INFY", "50", *options)
    assert squareoff("why", "morning").output == "morning has not run yet: saved, not started.\n"
    assert squareoff.json("why", "morning") == {"strategy": "morning", "run": None, "lines": []}


def test_why_of_what_is_not_there_is_refused(ran: Squareoff) -> None:
    options = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")
    ran("add", "evening", "NSE:INFY", "50", *options)
    for arguments, says in (
        (("mornin",), "strategy: there is no strategy 'mornin'; did you mean morning?"),
        (("morning", "--run", "2"), "run: there is no run 2"),
        (("morning", "--run", str(10**30)), f"run: there is no run {10**29}"),
        (("evening", "--run", "1"), "run: run 1 is one of morning, not of evening"),
    ):
        answer = ran("why", *arguments)
        assert (answer.status, answer.output) == (2, "")
        assert answer.errors == f"squareoff: {says}\n"
    assert ran("why", "morning", "--run", "last").status == 2


def test_what_happened_to_the_account_meanwhile_is_read_with_the_run(squareoff: Squareoff) -> None:
    options = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")
    squareoff("add", "morning", "NSE:INFY", "50", *options)
    run, journal = a_day(("11:00:00", "1539"), ("11:00:01", "1538.50"))
    restart = JournalEntry(at=NOON, account=PAPER, kind=K.RECOVERY, text="start: 1 runs in SQL")
    other = replace(journal[0], run_id=RunId(9), strategy_id=StrategyId(9), text="another run")
    half = len(journal) // 2
    put_into(
        squareoff.data / "squareoff.db",
        run,
        [replace(restart, text="too early"), *journal[:half], restart, other, *journal[half:], restart],
    )
    texts = [entry["text"] for entry in squareoff.json("why", "morning", "--all")["journal"]]
    assert texts.count("start: 1 runs in SQL") == 1
    assert len(texts) == len(journal) + 1
