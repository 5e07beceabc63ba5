"""The evidence of a session: what is gathered from market, book, broker and owner, and what is not known."""

from datetime import date
from math import isnan
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench

from mtum_eod.core.evidence import Window
from mtum_eod.core.market import VIX, FindingKind
from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.trading import CashFlow, CashKind, Halt
from mtum_eod.errors import MarketDataError
from mtum_eod.jobs.gather import gather

NEXT = date(2024, 11, 6)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def evidence_at(bench: Bench, session: date = SESSION, before_close: float = 20):
    bench.at(session, before_close)
    return gather(bench.desk, session).evidence


def test_a_flat_book_is_worth_its_capital_and_has_no_position(bench: Bench):
    evidence = evidence_at(bench)

    assert (None, 5000.0, 5000.0, 0) == (
        evidence.position,
        evidence.funds.sizing_equity,
        evidence.funds.last_final_equity,
        evidence.broker_shares,
    )
    assert (None, False, "", "", None, False) == (
        evidence.halt,
        evidence.daily_loss_latched,
        evidence.order_unknown,
        evidence.mismatch,
        evidence.pending_exit,
        evidence.has_order,
    )


def test_a_position_has_the_price_of_its_executions_and_the_atr_of_its_decision(bench: Bench):
    """33 shares at 145; the ATR that day was (13 x 2 + 3) / 14. At 148.00, the last close, they were 98 USD up."""
    bench.buy(SESSION, price=145.0)
    evidence = evidence_at(bench, NEXT)
    position = evidence.position
    assert position is not None

    assert (33, 145.0, SESSION, 1.0) == (
        position.shares,
        position.entry_price,
        position.entry_session,
        position.entry_commission_usd,
    )
    assert pytest.approx(29 / 14, rel=1e-9) == position.entry_atr
    assert (5000.0, 5098.0) == (evidence.funds.sizing_equity, evidence.funds.last_final_equity)


def test_money_paid_in_is_there_to_be_sized_on(bench: Bench):
    bench.store.add_cash_flow(CashFlow(kind=CashKind.DEPOSIT, amount_usd=250.0, session=SESSION), bench.clock.now())

    assert 5250.0 == evidence_at(bench).funds.sizing_equity


def test_what_the_broker_does_not_say_is_not_known(bench: Bench):
    bench.broker.silent = {"shares_held", "cash"}
    evidence = evidence_at(bench)

    assert evidence.broker_shares is None
    assert isnan(evidence.funds.cash)
    assert "the broker's position is not known (the list of positions never ended)" == evidence.mismatch


def test_the_owners_halt_and_the_daily_loss_latch_are_told_apart(bench: Bench):
    for is_daily_loss in (False, True):
        halt = Halt(
            halted_at=bench.clock.now(), why="w", by="b", allow_exits=is_daily_loss, is_daily_loss=is_daily_loss
        )
        bench.store.halt(halt)
    evidence = evidence_at(bench)

    assert evidence.daily_loss_latched
    assert (False, "w") == (evidence.halt and evidence.halt.is_daily_loss, evidence.halt and evidence.halt.why)


def test_an_order_of_the_session_is_known(bench: Bench):
    bench.decide()

    assert evidence_at(bench, before_close=18).has_order


def test_the_window_is_that_of_the_end_of_the_reading(bench: Bench):
    """Fetching takes six minutes: what was in time when it began is late when it is decided."""
    read = bench.data.daily

    def slow(*args, **kwargs):
        bench.clock.sleep(bench.parameters.schedule.hard_stop_before / 5)
        return read(*args, **kwargs)

    bench.data.daily = slow
    evidence = evidence_at(bench)

    assert Window.LATE is evidence.window


def test_what_is_known_at_the_decision_never_goes_beyond_it(bench: Bench):
    evidence = evidence_at(bench, before_close=-300)

    assert "2024-11-05T21:00:00+00:00" == evidence.as_of.isoformat()


def test_stored_bars_serve_where_the_source_cannot_be_reached(bench: Bench):
    """The source is down the day after; today's bar is missing then, and the position is judged by what is left."""
    bench.buy(SESSION)
    bench.data.down = {"MTUM"}
    evidence = evidence_at(bench, NEXT)
    kinds = {finding.kind for finding in evidence.findings}

    assert {FindingKind.SERVED_FROM_STORE, FindingKind.BAR_MISSING} <= kinds
    assert isnan(evidence.indicators.close)
    assert 15.0 == evidence.indicators.vix


@pytest.mark.parametrize(
    ("symbol", "asked", "age"),
    [("MTUM", 24, None), ("MTUM", 26, 6), (VIX, 49, None), (VIX, 51, 31)],
)
def test_a_stored_bar_is_as_old_as_when_it_was_seen(bench: Bench, symbol: str, asked: int, age: int | None):
    """The owner was asked so many minutes before the close; the source is silent at close - 20. Allowed: 5 and 30."""
    bench.parameters = Parameters(risk=RiskParameters(require_confirmation=True))
    bench.decide(before_close=asked)
    bench.data.down = {symbol}
    stale = [finding for finding in evidence_at(bench).findings if finding.kind is FindingKind.STALE_PRICE]

    said = f"{symbol}: last known {age} min ago, {5 if symbol == 'MTUM' else 30} allowed"
    assert ([(said, True)] if age else []) == [(finding.words, finding.is_fatal) for finding in stale]


@pytest.mark.parametrize(("asked", "is_known"), [(49, True), (51, False)])
def test_an_exit_wants_a_stored_price_that_is_not_too_old_either(bench: Bench, asked: int, is_known: bool):
    """30 minutes are allowed."""
    bench.parameters = Parameters(risk=RiskParameters(require_confirmation=True))
    bench.decide(before_close=asked)
    bench.data.down = {"MTUM"}

    assert is_known is evidence_at(bench).indicators.has_price


def test_a_stored_bar_of_a_finished_session_does_not_age(bench: Bench):
    """Both sources are down a day later, at which the session is looked at again."""
    bench.decide()
    bench.settle()
    bench.data.down = {"MTUM", VIX}
    bench.at(NEXT, 60)
    kinds = {finding.kind for finding in gather(bench.desk, SESSION).evidence.findings}

    assert {FindingKind.SERVED_FROM_STORE} == kinds


def test_without_any_bar_there_is_nothing_to_gather(bench: Bench):
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError, match="no answer"):
        evidence_at(bench)


@pytest.mark.parametrize(("factor", "kind"), [(0.5, FindingKind.RATIO), (1.0, None)])
def test_a_constant_ratio_to_the_stored_closes_is_found(bench: Bench, factor: float, kind: FindingKind | None):
    """After a 2 for 1 split every close comes at half of what was stored."""
    bench.decide()
    for column in ("open", "high", "low", "close"):
        bench.data.frames["MTUM"][column] *= factor
    found = [finding.kind for finding in evidence_at(bench, NEXT).findings if finding.is_fatal]

    assert ([kind] if kind else []) == found


def test_volumes_in_lots_are_found(bench: Bench):
    bench.decide()
    bench.data.frames["MTUM"]["volume"] /= 100
    found = [finding.kind for finding in evidence_at(bench, NEXT).findings if finding.is_fatal]

    assert [FindingKind.VOLUME_UNITS] == found


def test_a_mismatch_names_both_sides(bench: Bench):
    bench.buy(SESSION)
    bench.broker.shares = 20.5

    assert "the book holds 33 shares, the broker 20.5" == evidence_at(bench, NEXT).mismatch


def test_an_exit_decided_and_not_done_is_pending_with_its_words(bench: Bench):
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.broker.on_submit = "reject"
    bench.decide(NEXT)
    pending = evidence_at(bench, date(2024, 11, 7)).pending_exit

    assert (NEXT, "VIX spike (31.0 > 30)") == (pending and pending.since, pending and pending.words)


def test_an_exit_of_an_earlier_position_is_not_pending_for_the_next_one(bench: Bench):
    third = date(2024, 11, 7)
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/2024-11-06/SELL", 33, 146.0, 1.0)
    bench.settle(NEXT)
    bench.data.edit("MTUM", third, close=150.0)
    bench.data.know_volumes(third, today=900_000.0, before=800_000.0)
    bench.buy(third)

    assert evidence_at(bench, date(2024, 11, 8)).pending_exit is None
