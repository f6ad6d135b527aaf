"""The shapes of what the API answers and takes. Money and quantities are text, so that no reader rounds them; instants
carry the offset of the exchange; ids are numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[int, Field(ge=1, le=2**53 - 1)]
Text = Annotated[str, Field(max_length=200)]
Amount = Annotated[str | int | float, Field(union_mode="left_to_right", description="a number; text keeps it exact")]


class Asked(BaseModel):
    """What somebody asks for: a field we do not know is a mistake, not noise."""

    model_config = ConfigDict(extra="forbid")


# ------------------------------------------------------------------ access


class UserShape(BaseModel):
    id: int
    name: str
    role: Literal["admin", "trader"]
    disabled: bool = False
    has_password: bool = False


class SessionShape(BaseModel):
    user: UserShape
    csrf: str
    login: Literal["link", "password"]
    version: str


class SignIn(Asked):
    """A one-time key, or a name with its password."""

    key: Annotated[str, Field(max_length=200)] | None = None
    name: Text | None = None
    password: Annotated[str, Field(max_length=1000)] | None = None


class OpenSession(BaseModel):
    id: int
    created_at: str
    last_seen_at: str
    about: str
    current: bool


class OpenSessions(BaseModel):
    sessions: list[OpenSession]


class TokenShape(BaseModel):
    id: int
    name: str
    scope: Literal["read", "trade", "admin"]
    created_at: str
    last_used_at: str | None
    expires_at: str | None


class Tokens(BaseModel):
    tokens: list[TokenShape]


class NewToken(Asked):
    name: Annotated[str, Field(min_length=1, max_length=60)]
    scope: Literal["read", "trade", "admin"] = "read"
    days: Annotated[int, Field(ge=1, le=3650)] | None = None


class MadeToken(TokenShape):
    token: str
    """Shown this once."""


class Users(BaseModel):
    users: list[UserShape]


class NewUser(Asked):
    name: Text
    password: Annotated[str, Field(max_length=1000)]
    role: Literal["admin", "trader"] = "trader"


class ChangedUser(Asked):
    password: Annotated[str, Field(max_length=1000)] | None = None
    role: Literal["admin", "trader"] | None = None
    disabled: bool | None = None


class NewPassword(Asked):
    old: Annotated[str, Field(max_length=1000)] = ""
    new: Annotated[str, Field(max_length=1000)]


class AuditEntry(BaseModel):
    id: int
    at: str
    user: str
    via: str
    action: str
    target: str
    detail: str
    address: str


class Audit(BaseModel):
    entries: list[AuditEntry]
    next: int | None


# ------------------------------------------------------------------ strategies


class StrategyShape(BaseModel):
    id: int
    name: str
    symbol: str
    quantity: str
    buy_time: str
    sell_time: str
    stop_loss: str
    repeat: str
    until: str | None
    product: str
    account: str
    revision: int
    state: str
    label: str
    open_run_id: int | None


class Fields(Asked):
    """Of a definition, as docs/strategies.md tells them. Everything may be missing: what must not is said."""

    name: Text | None = None
    symbol: Text | None = None
    quantity: Amount | None = None
    buy_time: Text | None = None
    sell_time: Text | None = None
    stop_loss: Amount | None = None
    repeat: Text | None = None
    until: Text | None = None
    product: Text | None = None
    account: Text | None = None

    def given(self) -> dict[str, object]:
        """What was written, by its field. An empty text is as good as nothing, but for `until`, which it takes away."""
        told = self.model_dump(exclude_unset=True, exclude={"id", "revision", "price"})
        return {name: value for name, value in told.items() if value is not None or name == "until"}


class Edit(Fields):
    revision: Annotated[int, Field(ge=0, le=2**53 - 1)]
    """Of the definition that is edited: another tab may have been faster."""


class Checked(Fields):
    id: Id | None = None
    """Of the strategy that is edited; nothing: a new one."""


class Strategies(BaseModel):
    strategies: list[StrategyShape]


class Saved(StrategyShape):
    warnings: list[str] = []


class Imported(BaseModel):
    strategies: list[StrategyShape]
    warnings: list[str]


class Toml(Asked):
    toml: Annotated[str, Field(max_length=500_000)]


class FieldIssue(BaseModel):
    field: str
    wrong: str
    right: str = ""


class CheckShape(BaseModel):
    name: str
    ok: bool | None
    text: str
    mend: str


class Checks(BaseModel):
    checks: list[CheckShape]


class Risk(BaseModel):
    value: str | None
    loss_at_stop: str | None
    price: str | None
    text: str


class When(BaseModel):
    day: str
    opens_at: str
    buy_at: str
    sell_at: str
    closes_at: str
    now: str
    text: str


class CheckAnswer(BaseModel):
    fields: list[FieldIssue]
    warnings: list[str]
    sentence: str | None
    risk: Risk
    when: When | None
    lot: str | None
    tick: str | None
    checks: list[CheckShape]


class Change(BaseModel):
    field: str
    old: str
    new: str
    when: str


class Changes(BaseModel):
    changes: list[Change]


class Wished(BaseModel):
    """`result`: what was saved, not what has happened; that is told by /events."""

    result: Literal["saved", "already", "refused", "taken_back", "not_started"]
    text: str
    run_id: int | None = None


class HowToStop(Asked):
    how: Literal["square_off", "hand_over"] = "square_off"


class NewName(Asked):
    name: Text


class Told(BaseModel):
    text: str


class Template(BaseModel):
    name: str
    title: str
    about: str
    fields: dict[str, str]


class Templates(BaseModel):
    templates: list[Template]


# ------------------------------------------------------------------ runs


class FillShape(BaseModel):
    trade_id: str
    quantity: str
    price: str
    at: str


class OrderShape(BaseModel):
    slot: Literal["entry", "exit"]
    attempt: int
    client_order_id: str
    broker_order_id: str | None
    quantity: str
    filled_quantity: str
    limit_price: str | None
    phase: str
    reason: str
    fills: list[FillShape]


class RunShape(BaseModel):
    run_id: int
    date: str
    strategy_id: int
    strategy: str
    symbol: str
    account: str
    product: str
    state: str
    label: str
    outcome: str | None
    cause: str | None
    cause_label: str | None
    detail: str
    exposure: str
    exposure_label: str
    closed: bool
    quantity: str
    held: str
    stop_price: str | None
    entry_price: str | None
    exit_price: str | None
    pnl: str | None
    buy_at: str
    sell_at: str
    stop_loss: str
    zone: str
    orders: list[OrderShape]


class StrategyWithRuns(StrategyShape):
    runs: list[RunShape]


class Runs(BaseModel):
    runs: list[RunShape]
    next: int | None


class WhyLine(BaseModel):
    section: str
    at: str | None
    what: str
    why: str
    tone: str


class Why(BaseModel):
    run: RunShape
    lines: list[WhyLine]


class Step(BaseModel):
    state: str
    at: str | None
    event: str


class Path(BaseModel):
    path: list[Step]


class Bar(BaseModel):
    """Prices are numbers here, and only here: they are drawn, not reckoned with. `t`: seconds since 1970, UTC."""

    t: int
    o: float
    h: float
    l: float  # noqa: E741 - the field's usual name
    c: float


class Mark(BaseModel):
    t: int
    side: Literal["BUY", "SELL", "STOP-LOSS"]
    price: str
    qty: str


class Prices(BaseModel):
    interval_s: int
    bars: list[Bar]
    marks: list[Mark]
    stop_price: str | None
    note: str


class OrderOfRun(OrderShape):
    run_id: int
    strategy: str
    symbol: str
    account: str
    side: Literal["BUY", "SELL"]


class Orders(BaseModel):
    orders: list[OrderOfRun]


class FillOfRun(FillShape):
    run_id: int
    strategy: str
    symbol: str
    account: str
    side: Literal["BUY", "SELL"]
    client_order_id: str


class Fills(BaseModel):
    fills: list[FillOfRun]


class JournalLine(BaseModel):
    seq: int
    at: str
    account: str
    kind: str
    engine: str
    run_id: int | None
    strategy_id: int | None
    text: str
    data: dict[str, Any]


class JournalPage(BaseModel):
    entries: list[JournalLine]
    next: int | None


class PositionShape(BaseModel):
    account: str
    symbol: str
    product: str
    ours: str
    broker: str | None
    state: Literal["same", "differs", "unknown"]


class Positions(BaseModel):
    positions: list[PositionShape]


# ------------------------------------------------------------------ today


class DayMoney(BaseModel):
    """Gross. `loss_if_stopped`: the day's result if every stop-loss is hit now, at its level; None: a level is not
    known yet. `left_of_limit`: what may still be lost today; None: no limit."""

    pnl: str
    pnl_closed: str
    pnl_open: str
    loss_if_stopped: str | None
    left_of_limit: str | None
    limit: str | None


class AccountMoney(DayMoney):
    account: str


class Pnl(BaseModel):
    day: DayMoney
    accounts: list[AccountMoney]


class Special(BaseModel):
    date: str
    text: str


class MarketShape(BaseModel):
    exchange: str
    open: bool
    text: str
    next_special: Special | None
    practice: str
    speed: float


class Trust(BaseModel):
    up: bool
    feed_age_s: float | None
    feed_ok: bool | None
    text: str


class KillShape(BaseModel):
    pressed: bool
    text: str
    accounts: list[str]
    holds: int


class Need(BaseModel):
    key: str
    severity: Literal["alarm", "warning"]
    text: str
    since: str | None
    doing: str
    todo: str
    strategy_id: int | None = None
    run_id: int | None = None
    can_acknowledge: bool = False


class Guard(BaseModel):
    account: str
    who: Literal["squareoff", "nobody"]
    text: str


class BrokerSays(BaseModel):
    account: str
    state: Literal["same", "differs", "unknown"]
    at: str | None
    age_s: float | None
    text: str


class AccountHead(BaseModel):
    id: str
    broker: str
    level: Literal["normal", "no_entries", "square_off"]
    level_reason: str
    level_by: str
    level_at: str | None
    worker: bool


class Red(BaseModel):
    name: str
    text: str
    mend: str


class Moving(BaseModel):
    side: Literal["BUY", "SELL"]
    since: str | None
    filled: str
    wanted: str
    attempt: int
    client_order_id: str
    broker_order_id: str | None


class TodayRow(BaseModel):
    id: int
    name: str
    symbol: str
    account: str
    group: Literal["moving", "holding", "waiting", "done", "not_started"]
    state: str
    label: str
    exposure: str
    exposure_label: str
    words: str
    next: str
    run_id: int | None
    quantity: str
    filled: str
    held: str
    price: str | None
    entry_price: str | None
    stop_price: str | None
    stop_distance: str | None
    gain: str | None
    pnl: str | None
    buy_at: str | None
    sell_at: str | None
    guard: Literal["squareoff", "nobody", ""]
    armed: bool | None
    red: Red | None
    skipped: bool
    moving: Moving | None
    pending: str | None
    revision: int
    stop_loss: str


class Groups(BaseModel):
    moving: list[int] = []
    holding: list[int] = []
    waiting: list[int] = []
    done: list[int] = []
    not_started: list[int] = []


class Today(BaseModel):
    now: str
    zone: str
    mode: Literal["PAPER", "LIVE"]
    market: MarketShape
    trust: Trust
    kill: KillShape
    needs: list[Need]
    day: DayMoney
    guards: list[Guard]
    broker: list[BrokerSays]
    accounts: list[AccountHead]
    groups: Groups
    rows: dict[str, TodayRow]


# ------------------------------------------------------------------ market and accounts


class CalendarDay(BaseModel):
    date: str
    open: bool
    opens: str | None
    closes: str | None
    name: str


class CalendarShape(BaseModel):
    exchange: str
    zone: str
    days: list[CalendarDay]
    problem: str


class InstrumentShape(BaseModel):
    symbol: str
    name: str
    kind: str
    lot: str
    tick_size: str


class Instruments(BaseModel):
    instruments: list[InstrumentShape]


class MachineState(BaseModel):
    state: str
    label: str
    final: bool


class MachineStep(BaseModel):
    to: str
    event: str
    label: str
    from_: Annotated[str, Field(serialization_alias="from")]


class Machine(BaseModel):
    states: list[MachineState]
    transitions: list[MachineStep]
    exposures: dict[str, str]
    causes: dict[str, str]


class LimitsShape(BaseModel):
    max_order_qty: str | None
    max_order_value: str | None
    max_open_positions: int | None
    max_orders_per_day: int | None
    max_loss_per_day: str | None
    square_off_at_loss: bool


class NewLimits(Asked):
    """The whole of them: what is left out or null is no limit."""

    max_order_qty: Amount | None = None
    max_order_value: Amount | None = None
    max_open_positions: Amount | None = None
    max_orders_per_day: Amount | None = None
    max_loss_per_day: Amount | None = None
    square_off_at_loss: bool = False


class AccountShape(AccountHead):
    limits: LimitsShape
    funds: str | None


class Accounts(BaseModel):
    accounts: list[AccountShape]


class NewAccount(Asked):
    name: Text
    cash: Amount | None = None


class Kill(Asked):
    level: Literal["no_entries", "square_off"]
    accounts: Annotated[list[Text], Field(min_length=1, max_length=100)]
    reason: Annotated[str, Field(max_length=500)] = ""


class Pressed(BaseModel):
    account: str
    file: bool
    database: bool
    why_not: str


class Killed(BaseModel):
    accounts: list[Pressed]
    would_sell: list[str]


class Reason(Asked):
    reason: Annotated[str, Field(max_length=500)]


class AlertShape(BaseModel):
    at: str
    severity: str
    headline: str
    text: str
    run_id: int | None


class ChannelShape(BaseModel):
    channel: str
    minimum: str


class Alerts(BaseModel):
    alerts: list[AlertShape]
    channels: list[ChannelShape]
    problem: str


class TestAlert(BaseModel):
    channel: str
    delivered: bool
    reason: str | None


class TestAlerts(BaseModel):
    sent: list[TestAlert]


# ------------------------------------------------------------------ replay and the machine itself


class NewReplay(Asked):
    toml: Annotated[str, Field(max_length=500_000)] | None = None
    csv: Annotated[str, Field(max_length=19_000_000)] | None = None
    csv_name: Annotated[str, Field(max_length=100)] = "prices.csv"
    bars_labelled: Literal["start", "end"] = "start"


class ReplayShape(BaseModel):
    id: int
    state: Literal["running", "done", "failed"]
    error: str
    results: list[dict[str, Any]]
    totals: dict[str, Any]
    oddities: list[str]
    days: int
    ticks: int


class Settings(BaseModel):
    data_folder: str
    database: str
    redis: str
    version: str
    channels: int
    users: int
    zone: str


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    ready: bool
    checks: list[CheckShape]


class Version(BaseModel):
    version: str
    api: str
