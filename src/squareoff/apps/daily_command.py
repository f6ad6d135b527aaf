"""`squareoff start` and `squareoff stop`: the wishes of every day.

A wish is committed to SQL before it is answered; the worker of `squareoff up` takes it from there. What is said after
that is what SQL shows, never what should have happened.
"""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.apps.completion_command import strategy_names
from squareoff.apps.strategies_command import Json, find_strategy, standing
from squareoff.apps.wishes import Answer, ask_to_stop, in_the_way, last_wishes, open_run, to_start
from squareoff.config import Config
from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.apps.facts import Machine
    from squareoff.core.preflight import Check
    from squareoff.core.run import Run
    from squareoff.core.strategy import Strategy
    from squareoff.core.types import AccountId, StrategyId
    from squareoff.ports import WishRecord

TAKEN_WITHIN_S = 3.0
"""How long `start` waits for the worker: it finds a wish within a second even without its bell."""
PRICE_WITHIN_S = 3.0
"""A symbol that nobody watched before has its first price within this time."""
STOPPED_WITHIN_S = 30.0
LOOK_EVERY_S = 0.1

START_HELP = """Start strategies: each is armed for its next session.

It is armed for today while its BUY time has not passed, else for the next trading day. `squareoff up` does the
trading. What is started already stays as it is.

\b
Examples:
  squareoff start morning
  squareoff start morning noon
  squareoff start --all

Exit status 1: a check is red (it is judged again before the BUY), or no worker took it up yet. 2: refused.
"""

STOP_HELP = """Stop strategies. With a position it asks: square off, or hand over?

--square-off sells what is held now. --hand-over leaves it to you: squareoff forgets it and its stop-loss. Where
nothing was bought there is nothing to ask. A daily strategy is not started again on the next days.

\b
Examples:
  squareoff stop morning
  squareoff stop morning --square-off
  squareoff stop --all --square-off --yes

Exit status 1: not flat yet; what is still open is told. 2: refused, nothing was done.
"""

NOBODY_TRADES = "`squareoff up` does not run here: nothing trades until it does"

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Names or ids.", show_default=False, autocompletion=strategy_names),
]


def register(app: typer.Typer) -> None:
    app.command("start", help=START_HELP, short_help="Start strategies, each for its next session.")(_start)
    app.command("stop", help=STOP_HELP, short_help="Stop strategies: square off, or hand over.")(_stop)


# ------------------------------------------------------------------ what both need


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """Who is there to obey, asked once. `redis_url` None: no bell to ring."""

    is_up: bool
    redis_url: str | None
    orphans: frozenset[AccountId] = frozenset()
    """Where `up` was killed: accounts whose workers go on, and hear."""

    def hears(self, strategy: Strategy) -> bool:
        return self.is_up or strategy.account in self.orphans

    @classmethod
    def look(cls, config: Config) -> _Desk:
        from squareoff.apps.up.supervisor import running, worker_pids

        told = running(config)
        return cls(
            is_up=told is not None,
            redis_url=(told or {}).get("redis_url") or config.redis_url,
            orphans=frozenset(worker_pids(config)),
        )

    def ring(self, strategies: Iterable[Strategy]) -> None:
        from squareoff import wiring

        for account in {strategy.account for strategy in strategies} if self.redis_url else ():
            wiring.ring_bell(self.redis_url or "", account)


def _chosen(store: StrategyStore, names: Sequence[str] | None, everything: bool) -> list[Strategy]:
    """Every one of them, found before anything is done. Raises BadInput."""
    if everything and names:
        raise BadInput("--all", "cannot be given together with names", "leave out one of them")
    if everything:
        strategies = list(store.list())
        if not strategies:
            raise BadInput("--all", "there are no strategies yet", "add one: `squareoff add --help` shows how")
        return strategies
    if not names:
        raise BadInput("name", "is missing", "name the strategies, or write --all; `squareoff list` shows them")
    found = [find_strategy(store, name) for name in names]
    return list({strategy.id: strategy for strategy in found}.values())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name
        return "the command line"


def _print(answers: Sequence[Answer], desk: _Desk, config: Config, *, as_json: bool) -> None:
    from squareoff.apps.formats import plain, print_json
    from squareoff.market import load_market

    status = max((answer.status for answer in answers), default=0)
    if as_json:
        print_json({"up": desk.is_up or bool(desk.orphans), "strategies": [answer.row() for answer in answers]})
        raise typer.Exit(status)
    for answer in answers:
        refused = answer.status == 2
        typer.echo(f"{'squareoff: ' if refused else ''}{answer.strategy.name}: {plain(answer.text)}", err=refused)
        for check in answer.red:
            typer.echo(f"  {check.name}: {plain(check.text)}" + (f" -> {plain(check.mend)}" if check.mend else ""))
    if any(answer.word == "saved" and not desk.hears(answer.strategy) for answer in answers):
        typer.echo(f"{NOBODY_TRADES}. Start it: squareoff up --market {load_market(config.run_folder) or 'practice'}")
    raise typer.Exit(status)


def _until(is_done: Callable[[], bool], within_s: float) -> bool:
    """Ask again and again. False: not within this time, or somebody pressed Ctrl-C."""
    end_s = time.monotonic() + within_s
    try:
        while not is_done():
            if time.monotonic() > end_s:
                return False
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:  # it ends the waiting: the wish is saved, and what became of it so far is told
        return False
    return True


# ------------------------------------------------------------------ start


def _start(
    context: typer.Context,
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Every strategy.")] = False,
    as_json: Json = False,
) -> None:
    from squareoff import wiring

    config: Config = context.obj
    desk = _Desk.look(config)
    store = wiring.open_strategy_store(config)
    try:
        strategies = _chosen(store, names, everything)
        answers = _started(config, store, strategies, desk)
    finally:
        store.close()
    _print(answers, desk, config, as_json=as_json)


def _started(config: Config, store: StrategyStore, strategies: Sequence[Strategy], desk: _Desk) -> list[Answer]:
    from squareoff import wiring

    reference, now = wiring.reference_data(config), wiring.now(config)
    runs, pending = store.open_runs(), last_wishes(store)
    answers: list[Answer] = []
    wishes: dict[int, WishRecord] = {}
    before: dict[int, Run | None] = {}
    for strategy in strategies:
        answer = in_the_way(strategy, open_run(runs, strategy.id), pending, reference, now)
        if answer is None:
            answer = to_start(strategy, reference, now)
        if answer.word == "saved":
            before[strategy.id] = _latest(store, strategy.id)
            wishes[strategy.id] = _wish_start(store, strategy, now)
        answers.append(answer)
    if heard := [a for a in answers if a.word == "saved" and desk.hears(a.strategy)]:
        desk.ring([answer.strategy for answer in heard])
        _see_what_the_worker_makes(store, heard, wishes, before)
    _judge(config, [answer for answer in answers if answer.strategy.id in wishes], desk)
    return answers


def _wish_start(store: StrategyStore, strategy: Strategy, now: datetime) -> WishRecord:
    from squareoff.core.events import Event

    return store.wish(strategy.id, Event.START, at=now, by=_user())


def _latest(store: StrategyStore, strategy_id: StrategyId) -> Run | None:
    return next(iter(store.runs(strategy_id, limit=1)), None)


def _see_what_the_worker_makes(
    store: StrategyStore,
    answers: Sequence[Answer],
    wishes: Mapping[int, WishRecord],
    before: Mapping[int, Run | None],
) -> None:
    """Wait until each has its run, or is refused one, or the time is over."""
    waiting = list(answers)

    def look() -> bool:
        for answer in list(waiting):
            if _is_taken(store, answer, wishes[answer.strategy.id], before[answer.strategy.id]):
                waiting.remove(answer)
        return not waiting

    if _until(look, TAKEN_WITHIN_S):
        return
    for answer in waiting:
        answer.word, answer.status = "not_taken", 1
        answer.text += f"; no worker took it up within {TAKEN_WITHIN_S:g} s: look at `squareoff status`"


def _is_taken(store: StrategyStore, answer: Answer, wish: WishRecord, before: Run | None) -> bool:
    from squareoff.apps.status.next_action import is_over
    from squareoff.core.machine import State

    is_taken = store.is_wish_taken(wish.id)  # asked first: the run is saved before the wish counts as taken
    run = _latest(store, answer.strategy.id)
    if run is None or (before is not None and run.plan.run_id == before.plan.run_id):
        if is_taken:
            answer.word, answer.status = "not_started", 1
            answer.text = _why_not_started(store, answer.strategy)
        return is_taken
    if run.state is State.CREATED:
        return False
    answer.word, answer.run, answer.plan = "armed", run, run.plan
    answer.text = f"armed for {answer.more['when']}"
    if is_over(run):
        answer.text, answer.status = f"started, and over already: {standing(run)}", 1
    return True


def _why_not_started(store: StrategyStore, strategy: Strategy) -> str:
    """In the worker's own words, if its journal has them on disk already."""
    from squareoff.ports import JournalKind

    told, after = "", 0
    while page := store.journal(strategy_id=strategy.id, after_seq=after):
        after = page[-1][0]
        told = next((e.text for _, e in reversed(page) if e.kind is JournalKind.ALERT), told)
    return told or f"the worker did not start it; look: squareoff doctor {strategy.name}"


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """The facts that are the same for all. `clock_off_s`: real seconds, however fast trading time runs."""

    facts: Machine
    clock_off_s: float | None
    is_up: bool


def _judge(config: Config, answers: Sequence[Answer], desk: _Desk) -> None:
    """Ask every check of the preflight; what is red is told, and judged again before the BUY."""
    if not answers:
        return
    machine = _look_around(config, desk)
    for answer in answers:

        def look(answer: Answer = answer) -> bool:
            answer.red = _red(config, answer.strategy, machine)
            return not any(check.name == "feed" for check in answer.red)

        # the worker subscribes to the symbol only now
        _until(look, PRICE_WITHIN_S if answer.word == "armed" else 0)
        if answer.red:
            answer.status = max(answer.status, 1)
            verb, _, rest = answer.text.partition(" ")
            answer.text = f"{verb}, but red: {', '.join(check.name for check in answer.red)}; {rest}"


def _look_around(config: Config, desk: _Desk) -> _Machine:
    from squareoff import wiring
    from squareoff.apps.facts import look_around
    from squareoff.market import load_market

    facts, market = look_around(config), load_market(config.run_folder)
    speed = 1.0 if market is None else market.speed
    told = facts.broker.now
    off_s = None if told is None else (wiring.now(config) - told).total_seconds() / speed
    return _Machine(facts=facts, clock_off_s=off_s, is_up=desk.is_up or bool(desk.orphans))


def _red(config: Config, strategy: Strategy, machine: _Machine) -> list[Check]:
    from squareoff import wiring
    from squareoff.apps.facts import gather
    from squareoff.core.preflight import CheckName, preflight

    now = wiring.now(config)
    facts = gather(config, strategy, now=now, machine=machine.facts)
    checks = preflight(strategy, replace(facts, clock_difference_s=machine.clock_off_s), when=now)
    # without `up` there is no feed: that it does not run is told once, for all
    return [check for check in checks if check.ok is False and (machine.is_up or check.name is not CheckName.FEED)]


# ------------------------------------------------------------------ stop


def _stop(
    context: typer.Context,
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Every strategy.")] = False,
    square_off: Annotated[bool, typer.Option("--square-off", help="Sell what is held, now.")] = False,
    hand_over: Annotated[
        bool, typer.Option("--hand-over", help="You keep what is held; squareoff forgets it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is flat.")] = False,
    as_json: Json = False,
) -> None:
    from squareoff import wiring

    if square_off and hand_over:
        raise BadInput("stop", "--square-off and --hand-over cannot both be done", "choose one")
    config: Config = context.obj
    desk = _Desk.look(config)
    store = wiring.open_strategy_store(config)
    try:
        chosen = _chosen(store, names, everything)
        cases = _cases(store, chosen)
        may_ask = not yes and not as_json and _is_terminal()
        if everything and may_ask and any(case.has_something for case in cases):
            _confirm_all(cases)
        _decide(cases, square_off=square_off, hand_over=hand_over, may_ask=may_ask)
        answers = _stopped(config, store, cases, desk, wait_s=0 if no_wait else STOPPED_WITHIN_S)
    finally:
        store.close()
    _print(answers, desk, config, as_json=as_json)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass(kw_only=True)
class _Case:
    """One strategy to stop: the run that is not closed, whether a START still waits, and what is asked for."""

    strategy: Strategy
    run: Run | None
    is_starting: bool
    is_repeating: bool
    hand_over: bool = False
    wish: WishRecord | None = None
    taken_back: bool = False
    """Its START was still waiting for a worker, and is no more."""
    was_late: bool = False
    """It should have been, but a worker took the START up in the same moment: it is stopped like any other."""

    @property
    def has_something(self) -> bool:
        return self.run is not None or self.is_starting or self.is_repeating

    @property
    def may_hold(self) -> bool:
        from squareoff.apps.status.next_action import EXPOSED

        return self.run is not None and self.run.exposure in EXPOSED

    @property
    def is_a_choice(self) -> bool:
        """Only what is not being sold already: an open exit goes on, whatever is said."""
        from squareoff.core.machine import State

        return self.may_hold and self.run is not None and self.run.state in (State.RUNNING, State.BOUGHT)


def _cases(store: StrategyStore, strategies: Sequence[Strategy]) -> list[_Case]:
    from squareoff.core.events import Event

    runs, pending = store.open_runs(), last_wishes(store)
    repeating = {strategy.id for strategy, _ in store.repeating()}
    return [
        _Case(
            strategy=strategy,
            run=open_run(runs, strategy.id),
            is_starting=strategy.id in pending and pending[strategy.id].event is Event.START,
            is_repeating=strategy.id in repeating,
        )
        for strategy in strategies
    ]


def _confirm_all(cases: Sequence[_Case]) -> None:
    names = [case.strategy.name for case in cases if case.has_something]
    typer.confirm(f"Stop {len(names)}: {', '.join(names)}?", abort=True, err=True)


def _decide(cases: Sequence[_Case], *, square_off: bool, hand_over: bool, may_ask: bool) -> None:
    """Square off or hand over, for each that holds something; all is answered before anything is done."""
    from squareoff.core.machine import State

    for case in cases:
        if case.run is None or not case.may_hold:
            continue
        if hand_over and case.run.state is not State.BOUGHT:
            raise BadInput(case.strategy.name, _no_hand_over(case.run), "wait, or choose --square-off")
        if hand_over:
            case.hand_over = True
        elif case.is_a_choice and not square_off:
            if not may_ask:
                right = "say --square-off (sell it now) or --hand-over (you keep it, squareoff forgets it)"
                raise BadInput(case.strategy.name, f"it {_what_it_holds(case.run)}", f"{right}; nothing was done")
            case.hand_over = _ask(case.strategy.name, case.run)


def _what_it_holds(run: Run) -> str:
    from squareoff.apps.formats import quantity
    from squareoff.apps.status.next_action import held_words
    from squareoff.core.machine import State

    if run.state is State.RUNNING:
        return f"is buying {quantity(run.plan.quantity)} {run.plan.symbol} and may hold some"
    return f"holds {held_words(run)}"


def _no_hand_over(run: Run) -> str:
    from squareoff.core.machine import STATE_LABEL

    return f"it cannot be handed over while it is not simply held ({STATE_LABEL[run.state]})"


def _ask(name: str, run: Run) -> bool:
    """True: hand over; False: square off. Raises typer.Abort: leave it as it is."""
    from squareoff.core.machine import State

    sell, give = "[s] square off (sell now)", "[h] hand over (you keep it, squareoff forgets it)"
    can_hand_over = run.state is State.BOUGHT
    choice = f"{sell} or {give}" if can_hand_over else sell
    while True:
        question = f"{name} {_what_it_holds(run)}: {choice}? [k] leaves it as it is"
        word = typer.prompt(question, default="k", show_default=False, err=True).strip().lower()
        if word in ("k", "keep"):
            raise typer.Abort
        if word in ("s", "square off"):
            return False
        if word in ("h", "hand over") and can_hand_over:
            return True


def _stopped(
    config: Config, store: StrategyStore, cases: Sequence[_Case], desk: _Desk, *, wait_s: float
) -> list[Answer]:
    from squareoff import wiring

    now, by = wiring.now(config), _user()
    asked = [case for case in cases if case.has_something]
    for case in asked:
        starting = case.is_starting and case.run is None
        case.wish = ask_to_stop(store, case.strategy.id, is_starting=starting, hand_over=case.hand_over, at=now, by=by)
        case.taken_back = case.wish is None
        case.was_late = starting and not case.taken_back
    if heard := [case for case in asked if case.wish is not None and desk.hears(case.strategy)]:
        desk.ring([case.strategy for case in heard])
        if wait_s:
            _wait_until_over(store, heard, wait_s)
    runs = store.open_runs()
    return [_told(store, case, open_run(runs, case.strategy.id), desk) for case in cases]


def _wait_until_over(store: StrategyStore, cases: Sequence[_Case], within_s: float) -> None:
    from squareoff.apps.formats import console

    with console(errors=True).status("") as line:  # seen at a terminal only

        def look() -> bool:
            taken = {case.strategy.id for case in cases if case.wish and store.is_wish_taken(case.wish.id)}
            runs = store.open_runs()  # read after: a wish counts as taken only when what it changed is saved
            waiting = [case for case in cases if case.strategy.id not in taken or not _is_settled(case, runs)]
            line.update(f"waiting for {', '.join(case.strategy.name for case in waiting)}")
            return not waiting

        _until(look, within_s)


def _is_settled(case: _Case, runs: Sequence[Run]) -> bool:
    """Nothing more comes of a wish that was taken: the run is closed, or could not be handed over any more."""
    return case.hand_over or open_run(runs, case.strategy.id) is None


def _told(store: StrategyStore, case: _Case, now_open: Run | None, desk: _Desk) -> Answer:
    """What SQL shows of it now."""
    from squareoff.apps.status.next_action import held_words, result_words

    strategy, wish = case.strategy, case.wish
    more = {"asked": None if wish is None else str(wish.event)}

    def answer(word: str, text: str, status: int = 0, run: Run | None = now_open) -> Answer:
        late = "the worker had just taken the start up, so no start was taken back; " if case.was_late else ""
        return Answer(strategy=strategy, word=word, text=f"{late}{text}", status=status, run=run, more=more)

    if case.taken_back:
        return answer(
            "taken_back", "the start was taken back: no worker had taken it up, and none will; no run is made"
        )
    if wish is None:
        return answer("not_started", "not started: there is nothing to stop")
    if not desk.hears(strategy):
        if now_open is not None and case.may_hold:
            done = "hands it over" if case.hand_over else "sells"
            unwatched = f"UNWATCHED: {held_words(now_open)}"
            return answer("saved", f"saved, but nobody {done} until `squareoff up` runs. {unwatched}", 1)
        return answer("saved", "saved: it is stopped as soon as `squareoff up` runs")
    if now_open is not None:
        held = f", {held_words(now_open)}" if case.may_hold else ""
        if case.hand_over and store.is_wish_taken(wish.id):
            return answer("still_open", f"was not handed over: {standing(now_open)}{held}", 1)
        return answer("still_open", f"still open: {standing(now_open)}{held}; look at `squareoff status`", 1)
    if not store.is_wish_taken(wish.id):
        return answer("not_taken", "saved; no worker took it up yet: look at `squareoff status`", 1)
    latest = _latest(store, strategy.id) if case.run is None else store.run(case.run.plan.run_id)
    if latest is None or (case.run is None and not case.is_starting):
        return answer("stopped", "stopped: it is not started again on the next days")
    word = "handed_over" if latest.handed_over else "flat"
    return answer(word, result_words(latest), 0, latest)
