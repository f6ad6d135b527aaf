"""Whatever is typed: one sentence or an answer, never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from squareoff import wiring
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import FIELDS, check, read
from squareoff.core.instruments import Instruments
from squareoff.core.session import ExchangeHours
from tests.apps.conftest import MARKET, MONDAY_MORNING, Squareoff

GOOD: dict[str, object] = {
    "name": "morning",
    "symbol": "NSE:SHARE",
    "quantity": "50",
    "buy_time": "09:20",
    "sell_time": "15:10",
    "stop_loss": "1540",
    "repeat": "once",
    "product": "MIS",
    "account": "paper",
}
OPTIONS = {
    "buy_time": "--buy",
    "sell_time": "--sell",
    "stop_loss": "--stop-loss",
    "repeat": "--repeat",
    "product": "--product",
    "account": "--account",
}
NUMBERS = st.one_of(st.decimals().map(str), st.floats().map(str), st.integers().map(str))
TEXT = st.one_of(
    st.text(max_size=80),
    NUMBERS,
    st.builds("{}{}".format, NUMBERS, st.sampled_from(["%", "pts", " %", "e9", "pt"])),
    st.from_regex(r"[0-9]{1,30}(\.[0-9]{1,30})?(%|pts)?", fullmatch=True),
    st.times().map(str),
    st.text(alphabet=st.characters(codec=None), max_size=20),  # half letters, as a terminal may send them
)
ANY_TOML = st.recursive(
    st.one_of(
        TEXT, st.integers(), st.booleans(), st.decimals(), st.times(), st.dates(), st.datetimes(timezones=st.none())
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One folder for all examples: most of them save nothing."""
    data = tmp_path_factory.mktemp("any") / "data"
    (data / "reference").mkdir(parents=True)
    (data / "reference" / "instruments.csv").write_text(MARKET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "now", lambda _: MONDAY_MORNING)
        yield Squareoff(data)


@pytest.fixture(scope="module")
def market(anything: Squareoff) -> tuple[Instruments, ExchangeHours]:
    from squareoff.config import Config

    reference = wiring.reference_data(Config(data=anything.data))
    return reference.instruments, reference.hours["NSE"]


def is_told_well(squareoff: Squareoff, *arguments: str) -> None:
    answer = squareoff(*arguments)  # raises what is no SystemExit
    assert answer.status in (0, 1, 2)
    if answer.status:
        *before, last, end = answer.errors.split("\n")
        assert last.startswith("squareoff: ")
        assert end == ""
        assert not any(before)


@SLOW
@given(field=st.sampled_from(FIELDS), text=TEXT)
@example(field="stop_loss", text="9" * 40)
@example(field="stop_loss", text="1e999999999")
@example(field="quantity", text="1e999999999")
@example(field="quantity", text="1e-999999999")
@example(field="quantity", text="0e999999999")
@example(field="symbol", text="NSE:\0")
@example(field="symbol", text="NSE:\ud800")
@example(field="account", text="1\n2")
def test_any_text_in_any_field_of_add(anything: Squareoff, field: str, text: str) -> None:
    fields = {**GOOD, field: text}
    place = [str(fields[key]) for key in ("name", "symbol", "quantity")]
    options = [f"{option}={fields[key]}" for key, option in OPTIONS.items()]
    is_told_well(anything, "add", *options, "--", *place)


@SLOW
@given(text=TEXT)
def test_any_price(anything: Squareoff, text: str) -> None:
    options = [f"{option}={GOOD[key]}" for key, option in OPTIONS.items()]
    is_told_well(anything, "add", "morning", "SHARE", "50", *options, f"--price={text}")


@SLOW
@given(words=st.lists(st.one_of(TEXT, st.sampled_from(["--buy", "--file", "-1", "--", "--json"])), max_size=6))
def test_any_words_after_add(anything: Squareoff, words: list[str]) -> None:
    is_told_well(anything, "add", *words)


@SLOW
@given(command=st.sampled_from(["show", "why", "rm"]), name=TEXT)
def test_any_name_of_a_strategy(anything: Squareoff, command: str, name: str) -> None:
    is_told_well(anything, command, *(["--yes"] if command == "rm" else []), "--", name)


@SLOW
@given(run=TEXT)
def test_any_number_of_a_run(anything: Squareoff, run: str) -> None:
    is_told_well(anything, "why", "1", f"--run={run}")


@SLOW
@given(path=TEXT)
def test_any_path(anything: Squareoff, path: str) -> None:
    is_told_well(anything, "add", f"--file={path}")
    is_told_well(anything, "instruments", "import", "--", path)


@SLOW
@given(text=st.one_of(st.text().map(str.encode), st.binary()))
def test_any_file_of_strategies(anything: Squareoff, text: bytes) -> None:
    file = anything.data / "any.toml"
    file.write_bytes(text)
    is_told_well(anything, "add", "--file", str(file))


@SLOW
@given(field=st.sampled_from(("as_of", "header", "row")), text=st.text(max_size=40))
def test_any_list_of_instruments(anything: Squareoff, tmp_path_factory: Any, field: str, text: str) -> None:
    file: Path = tmp_path_factory.getbasetemp() / "any.csv"
    header = "symbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,tradable,closing_auction"
    whole = {"as_of": f"# as of {text}\n{header}\n", "header": text, "row": f"# as of 2026-11-23\n{header}\n{text}\n"}
    file.write_text(whole[field])
    is_told_well(Squareoff(anything.data.parent / "other"), "instruments", "import", str(file))


@settings(max_examples=600)
@given(field=st.sampled_from(FIELDS), value=ANY_TOML)
def test_any_value_in_any_field_is_read_or_refused_with_the_field(
    market: tuple[Instruments, ExchangeHours], field: str, value: object
) -> None:
    instruments, hours = market
    said = ""
    try:
        draft = read({**GOOD, field: value}, where="mine.toml, strategy 1")
        if draft.symbol in instruments:
            instrument, day = instruments.find(draft.symbol), MONDAY_MORNING.date()
            check(draft, instrument=instrument, hours=hours, trading_day=day, where="mine.toml, strategy 1")
        level = draft.stop_loss.price_for(draft.stop_loss.value + 1, instruments.find("NSE:SHARE").tick_size)
        assert level.is_finite()
    except BadInput as error:
        said = str(error)
    assert said == "" or said.startswith("mine.toml, strategy 1: ")
    assert len(said) < 400
