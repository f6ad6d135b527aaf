"""Several accounts under one `squareoff up`, as their owner meets them: real processes, one practice market."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff import wiring
from squareoff.adapters.brokers.paper.ledger import read_ledger
from squareoff.apps.up.supervisor import worker_pid, worker_pids
from squareoff.core.access import Role
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.events import Event
from squareoff.core.limits import Level
from squareoff.core.machine import State
from squareoff.core.strategy import StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, StrategyId, Symbol, UserId
from tests.apps.test_up import IST, Desk, until

SECOND = AccountId("second")
BOTH = {DEFAULT_ACCOUNT, SECOND}
LOCAL = UserId(1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "data")
    yield desk
    for pid in worker_pids(desk.config).values():
        if not desk.told():
            os.kill(pid, signal.SIGTERM)
    desk.close()


def hold(desk: Desk, name: str, account: AccountId, user: UserId = LOCAL) -> None:
    """Bought on `account`, of `user`, 10 of the one symbol that both accounts trade."""
    now = wiring.now(desk.config).astimezone(IST)
    sell = now + timedelta(hours=3)
    if sell.date() != now.date() or (sell.hour, sell.minute) > (23, 40):
        pytest.skip("too near to midnight in Mumbai for a run of some hours at this speed")
    store = wiring.open_strategy_store(desk.config, user=user)
    strategy = store.add(
        Strategy(
            id=StrategyId(0),
            user=user,
            account=account,
            name=name,
            symbol=Symbol("SIM:ALPHA"),
            quantity=Decimal(10),
            buy_time=(now + timedelta(minutes=2)).time().replace(microsecond=0),
            sell_time=sell.time().replace(microsecond=0),
            stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(40)),
        )
    )
    store.wish(strategy.id, Event.START, at=now, by="test")
    until(lambda: any(run.state is State.BOUGHT for run in store.runs(strategy.id)), f"the BUY of {name}")
    store.close()


def net_at_the_broker(desk: Desk) -> dict[AccountId, Decimal]:
    """From the broker's own ledger."""
    lines = read_ledger(desk.config.broker / "ledger.jsonl").lines
    audit = wiring.paper_audit(desk.config.broker)
    assert not audit.doubles
    return {account: sum((r.net_qty for r in audit.runs if r.account == account), Decimal(0)) for account in BOTH} | {
        line.account: Decimal(-1) for line in lines if line.account not in BOTH
    }


@pytest.mark.processes
def test_an_account_added_while_up_runs_trades_beside_the_first_and_neither_touches_the_other(desk: Desk) -> None:
    desk.up()
    assert desk.run("accounts", "add", "second", "--cash", "500000").returncode == 0
    until(lambda: desk.pid("worker-second") and worker_pid(desk.config, SECOND), "a worker of its own")
    hold(desk, "one", DEFAULT_ACCOUNT)
    hold(desk, "two", SECOND)
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 10, SECOND: 10}
    status = desk.run("status").stdout
    assert "trading workers paper " in status
    assert "second" in status

    killed, other = desk.pid("worker-second"), desk.pid("worker")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: desk.pid("worker-second") not in (None, killed), "a new worker")
    assert "the trading worker of second was killed by SIGKILL; it is started again in 0.1 s" in desk.said()
    assert desk.pid("worker") == other, "the other account's worker is not disturbed"

    assert desk.run("stop", "one", "--square-off").returncode == 0
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 0, SECOND: 10}
    answer = desk.run("kill", "--square-off", "--all", "--yes", "--reason", "enough")
    assert answer.returncode == 0, answer
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 0, SECOND: 0}


@pytest.mark.processes
def test_the_account_of_another_user_is_worked_too_and_the_kill_switch_of_the_machine_reaches_it(desk: Desk) -> None:
    with closing(wiring.access_store(desk.config)) as access:
        asha = access.add_user("asha", None, Role.TRADER).id
    desk.up()
    with closing(wiring.open_strategy_store(desk.config, user=asha)) as store:
        store.add_account(SECOND, broker="paper")
    until(lambda: desk.pid("worker-second") and worker_pid(desk.config, SECOND), "a worker of its own")
    hold(desk, "hers", SECOND, asha)
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 0, SECOND: 10}
    answer = desk.run("kill", "--square-off", "--all", "--yes", "--reason", "enough")
    assert answer.returncode == 0, answer
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 0, SECOND: 0}
    with closing(wiring.open_strategy_store(desk.config, user=asha)) as store:
        assert store.rules(SECOND).level is Level.SQUARE_OFF
    assert desk.run("release", "second", "--reason", "checked").returncode == 0


@pytest.mark.processes
def test_an_account_whose_worker_cannot_start_keeps_no_other_from_trading_and_is_tried_again(desk: Desk) -> None:
    assert desk.run("accounts", "add", "second").returncode == 0
    in_the_way = desk.config.data / "accounts" / "second.spool"
    in_the_way.mkdir(parents=True)
    desk.up()
    assert "the trading worker of second did not start" in desk.said()
    # each try holds the lease for a moment
    until(lambda: "NONE FOR second" in desk.run("status").stdout, "that nobody works the account")
    in_the_way.rmdir()
    until(lambda: worker_pid(desk.config, SECOND), "a worker, once it can start")


@pytest.mark.processes
def test_kill_with_every_engine_dead_takes_each_account_and_sells(desk: Desk) -> None:
    assert desk.run("accounts", "add", "second").returncode == 0
    process = desk.up()
    hold(desk, "one", DEFAULT_ACCOUNT)
    hold(desk, "two", SECOND)
    workers = worker_pids(desk.config)
    assert set(workers) == BOTH
    process.kill()
    process.wait()
    for pid in workers.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not worker_pids(desk.config), "the end of the workers")
    answer = desk.run("kill", "--square-off", "--all", "--yes", "--reason", "all is dead")
    assert answer.returncode == 0, answer
    for account in BOTH:
        assert f"takes account {account} and squares off itself" in answer.stdout
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 0, SECOND: 0}
    assert worker_pids(desk.config) == {}
    desk.up()  # ends the orphaned broker


@pytest.mark.processes
def test_sigterm_tells_what_nobody_watches_any_more_on_every_account(desk: Desk) -> None:
    assert desk.run("accounts", "add", "second").returncode == 0
    process = desk.up()
    hold(desk, "one", DEFAULT_ACCOUNT)
    hold(desk, "two", SECOND)
    process.terminate()
    assert process.wait(30) == 0
    assert "NOT WATCHED ANY MORE: one: " in desk.said()
    assert "NOT WATCHED ANY MORE: two (account second): " in desk.said()
    assert worker_pids(desk.config) == {}
    assert net_at_the_broker(desk) == {DEFAULT_ACCOUNT: 10, SECOND: 10}


@pytest.mark.processes
def test_a_start_taken_back_before_any_worker_ran_makes_no_run_when_one_starts(desk: Desk) -> None:
    terms = ("SIM:ALPHA", "1", "--buy", "12:00", "--sell", "20:00", "--stop-loss", "40%", "--repeat", "daily")
    assert desk.run("add", "morning", *terms).returncode == 0
    desk.run("start", "morning")
    answer = desk.run("stop", "morning")
    assert (answer.returncode, "the start was taken back" in answer.stdout) == (0, True)
    desk.up()
    assert desk.run("status").returncode == 0  # some seconds of work of the worker: it has looked at its wishes
    store = wiring.open_strategy_store(desk.config)
    assert store.runs() == ()
    assert any("was taken back by" in entry.text for _, entry in store.journal())
    store.close()


@pytest.mark.processes
def test_a_strategy_beyond_the_accounts_money_is_red_with_figures_and_refused_by_the_broker(desk: Desk) -> None:
    assert desk.run("accounts", "add", "second", "--cash", "500").returncode == 0
    desk.up()
    now = wiring.now(desk.config).astimezone(IST)
    buy = now + timedelta(minutes=20)
    if buy.date() != now.date() or buy.hour >= 20:
        pytest.skip("too near to midnight in Mumbai")
    terms = ("--buy", f"{buy:%H:%M}", "--sell", "23:30", "--stop-loss", "40%", "--account", "second")
    assert desk.run("add", "dear", "SIM:ALPHA", "100", *terms).returncode == 0
    answer = desk.run("start", "dear")
    assert (answer.returncode, "but red: funds" in answer.stdout) == (1, True), answer
    assert "has 500.00" in answer.stdout
    store = wiring.open_strategy_store(desk.config)
    until(lambda: any(run.state is State.FAILED for run in store.runs()), "the refusal")
    (run,) = store.runs()
    assert run.entry.filled_qty == 0
    assert "insufficient funds" in run.entry.attempts[-1].reason
    store.close()
