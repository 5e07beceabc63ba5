"""The owner compares the book with the broker, and puts it right by hand."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench

from mtum_eod.adapters.store import upkeep
from mtum_eod.core.market import VIX
from mtum_eod.core.trading import OrderStatus, Split
from mtum_eod.errors import BrokerUnavailable, MarketDataError, MtumEodError, SettingsError
from mtum_eod.jobs import reconcile
from mtum_eod.jobs.gather import position_of
from mtum_eod.jobs.replay import replay
from mtum_eod.jobs.session import settle_all

BEFORE, NEXT, THIRD = date(2024, 11, 4), date(2024, 11, 6), date(2024, 11, 7)
BUY_KEY = f"{KEY}/{SESSION}/BUY"
BY = "owner@home"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def hold(bench: Bench) -> Bench:
    """A settled session without a trade: the book is there, and flat."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.settle()
    return bench


def acts(bench: Bench) -> list[tuple[str, str | None, str]]:
    return bench.sql("SELECT act, session, acted_by FROM owner_act ORDER BY id")


def estimated(bench: Bench) -> Bench:
    """33 shares bought at SESSION, known by the position alone: estimated at 148.00 with 4.884 USD."""
    bench.decide()
    bench.broker.shares = 33.0
    bench.broker.at_broker.clear()
    bench.at(NEXT, 60)
    settle_all(bench.desk)
    return bench


# -- comparing --------------------------------------------------------------------------------------------------------


def test_a_book_that_agrees_says_so(bench: Bench):
    bench.buy(SESSION, price=148.0)
    bench.broker.usd = 115.0
    compared = reconcile.compare(bench.desk)

    assert (0, True) == (compared.exit_code, compared.document["agree"])
    assert [
        ("position", "33 shares", "33 shares"),
        ("open orders", "none", "none"),
        ("executions", "1 booked", "1 visible"),
        ("cash", "115.00 USD", "115.00 USD to spend"),
    ] == [(line.what, line.book, line.broker) for line in compared.lines]


def test_every_difference_has_a_line_and_exits_5(bench: Bench):
    """Two shares too many, an order the book does not know as open, an execution not booked, too little money."""
    bench.buy(SESSION, price=148.0)
    bench.broker.shares, bench.broker.usd = 35.0, 100.0
    bench.broker.executed.append(replace(bench.broker.executed[0], execution_id="by hand", shares=2))
    bench.broker.end(BUY_KEY, OrderStatus.WORKING)
    compared = reconcile.compare(bench.desk)

    assert 5 == compared.exit_code
    assert ["position", BUY_KEY, "by hand", "cash"] == [line.what for line in compared.lines if line.agrees is False]


@pytest.mark.parametrize(
    ("held", "left", "cure"),
    [
        (33.0, 0.0, ""),
        (0.0, 0.0, "sold by hand: `mtum-eod reconcile --sold 33@PRICE --exit-date SESSION`"),
        (20.5, 5.0, "sold by hand: `mtum-eod reconcile --sold 17@PRICE --exit-date SESSION`"),
        (40.0, 5.0, "your own: `mtum-eod reconcile --leave 7`"),
    ],
)
def test_a_difference_of_shares_says_what_to_type(bench: Bench, held: float, left: float, cure: str):
    bench.buy(SESSION)
    bench.broker.shares = held
    bench.store.leave(left, bench.clock.now())

    assert cure == reconcile.compare(bench.desk).lines[0].cure


def test_shares_beside_a_flat_book_are_the_owners_or_the_programs(bench: Bench):
    bench.broker.shares = 19.0

    assert (
        "your own: `mtum-eod reconcile --leave 19`; "
        "the program's: `mtum-eod reconcile --adopt 19@PRICE --entry-date SESSION`"
    ) == reconcile.compare(bench.desk).lines[0].cure


def test_shares_left_to_the_owner_are_no_difference(bench: Bench):
    hold(bench)
    bench.broker.shares = 5.0
    bench.store.leave(5.0, bench.clock.now())

    assert 0 == reconcile.compare(bench.desk).exit_code


@pytest.mark.parametrize("silent", ["orders", "executions", "shares_held", "cash"])
def test_what_the_broker_does_not_say_is_no_agreement(bench: Bench, silent: str):
    bench.broker.silent.add(silent)

    assert 4 == reconcile.compare(bench.desk).exit_code


# -- adopting ---------------------------------------------------------------------------------------------------------


def test_adopted_shares_are_a_position_with_the_atr_of_their_session(bench: Bench):
    """The ATR is the one a replay of that session shows."""
    hold(bench)
    [seen] = replay(bench.desk.sources, bench.desk.book, bench.parameters, SESSION, bench.clock.now())
    bench.broker.shares = 20.0
    bench.at(NEXT, 60)
    reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)
    held = position_of(bench.store, bench.desk.ledger())

    assert (20, 147.5, SESSION, seen.document["atr"]) == (
        held.shares,
        held.entry_price,
        held.entry_session,
        pytest.approx(held.entry_atr, abs=1e-9),
    )
    assert [("adopt", "2024-11-05", BY)] == acts(bench)
    assert [(20, pytest.approx(147.5 + 4 * held.entry_atr))] == bench.sql("SELECT shares, target FROM position")


def test_adopted_shares_are_sold_by_the_rules(bench: Bench):
    hold(bench)
    bench.broker.shares = 20.0
    bench.at(NEXT, 60)
    reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)
    bench.data.edit(VIX, NEXT, close=31.0)
    document = bench.decide(NEXT).document
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 20, 150.0, 1.0)
    bench.settle(NEXT)

    assert ("SELL", 20, None) == (document["action"], document["shares"], document["blocked_by"])
    assert [("2024-11-05", 147.5, "vix", 49.0)] == bench.sql(
        "SELECT entry_session, entry_price, exit_reason, net_pnl FROM trades"
    )
    assert [] == upkeep.check(bench.path)


def test_adopting_corrects_the_equity_since(bench: Bench):
    """20 at 147.50, marked at 148.00: 10 USD more, 2,950 in shares."""
    hold(bench)
    bench.broker.shares = 20.0
    bench.at(NEXT, 60)
    reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)

    assert [(2050.0, 2960.0, 5010.0)] == bench.sql("SELECT cash, position_value, value FROM equity")


@pytest.mark.parametrize(
    ("shares", "price", "session", "words"),
    [
        (21, 147.5, SESSION, "the broker holds 20 that are not the owner's own"),
        (20, 300.0, SESSION, "would cost 6,000.00 USD, the book has 5,000.00"),
        (20, 14.75, SESSION, "far from the close of 2024-11-05, 148.00"),
        (20, 147.5, date(2024, 11, 2), "no session"),
        (20, 147.5, THIRD, "has not begun yet"),
        (20, 147.5, NEXT, "has not closed yet"),
    ],
)
def test_adopting_nonsense_is_refused_and_writes_nothing(
    bench: Bench, shares: int, price: float, session: date, words: str
):
    hold(bench)
    bench.broker.shares = 20.0
    bench.at(NEXT, 60)
    with pytest.raises(SettingsError) as refused:
        reconcile.adopt(bench.desk, shares, price, session, BY)

    assert words in refused.value.message
    assert ([], []) == (acts(bench), bench.store.fills())


def sold_past_the_book(bench: Bench, left: float = 0.0) -> None:
    """33 shares bought at 148.00; in the broker's own window the owner has sold all but some of them."""
    bench.buy(SESSION)
    bench.broker.shares, bench.broker.usd = left, 6000.0
    bench.decide(NEXT)
    bench.settle(NEXT)
    bench.at(THIRD, 60)


def test_shares_sold_past_the_book_are_taken_out(bench: Bench):
    """The book was told of the difference every day, and had no way to follow. 33 at 1.50 more than was paid."""
    sold_past_the_book(bench)
    before = reconcile.compare(bench.desk).exit_code
    words = reconcile.sold(bench.desk, 33, 149.5, NEXT, BY)

    assert (5, 0) == (before, reconcile.compare(bench.desk).exit_code)
    assert "33 shares taken out, sold at 149.50 on 2024-11-06" == words
    assert [("sold", "2024-11-06", BY)] == acts(bench)
    assert [("2024-11-05", 148.0, 149.5, 33, 48.5)] == bench.sql(
        "SELECT entry_session, entry_price, exit_price, shares, net_pnl FROM trades"
    )
    assert [("2024-11-06", 5048.5)] == bench.sql("SELECT session, value FROM equity ORDER BY session DESC LIMIT 1")
    assert [] == upkeep.check(bench.path)


def test_a_book_that_had_shares_taken_out_buys_again(bench: Bench):
    sold_past_the_book(bench)
    reconcile.sold(bench.desk, 33, 149.5, NEXT, BY)
    bench.data.know_volumes(THIRD, today=900_000.0, before=800_000.0)
    document = bench.decide(THIRD).document

    assert ("BUY", None) == (document["action"], document["blocked_by"])


def test_a_part_of_the_shares_is_taken_out(bench: Bench):
    sold_past_the_book(bench, left=13.0)
    reconcile.sold(bench.desk, 20, 149.5, NEXT, BY)

    assert (13, 0) == (bench.desk.shares(), reconcile.compare(bench.desk).exit_code)


@pytest.mark.parametrize(
    ("shares", "price", "session", "words"),
    [
        (21, 149.5, NEXT, "21 shares of 33 in the book to be taken out, and the broker still holds 13"),
        (20, 14.95, NEXT, "far from the close of 2024-11-06"),
        (20, 149.5, SESSION, "the book last traded in the session 2024-11-05, a sale on 2024-11-05 is not after it"),
        (20, 149.5, date(2024, 11, 2), "no session"),
        (20, 149.5, THIRD, "has not closed yet"),
    ],
)
def test_taking_out_nonsense_is_refused_and_writes_nothing(
    bench: Bench, shares: int, price: float, session: date, words: str
):
    sold_past_the_book(bench, left=13.0)
    with pytest.raises(SettingsError) as refused:
        reconcile.sold(bench.desk, shares, price, session, BY)

    assert words in refused.value.message
    assert ([], 33) == (acts(bench), bench.desk.shares())


def test_a_close_that_nobody_knows_takes_nothing_out(bench: Bench):
    sold_past_the_book(bench)
    bench.data.edit("MTUM", NEXT, close=float("nan"))
    with pytest.raises(MarketDataError, match="no close of 2024-11-06"):
        reconcile.sold(bench.desk, 33, 149.5, NEXT, BY)

    assert ([], 33) == (acts(bench), bench.desk.shares())


def test_what_the_owner_keeps_cannot_be_adopted(bench: Bench):
    hold(bench)
    bench.broker.shares = 20.0
    bench.store.leave(5.0, bench.clock.now())
    with pytest.raises(SettingsError, match="the broker holds 15 that are not the owner's own"):
        reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)


def test_adopting_needs_a_known_position(bench: Bench):
    hold(bench)
    bench.broker.silent.add("shares_held")
    with pytest.raises(BrokerUnavailable, match="position is not known"):
        reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)


def test_adopting_beside_a_position_or_before_a_trade_is_refused(bench: Bench):
    bench.buy(SESSION, price=148.0)
    bench.broker.shares = 40.0
    with pytest.raises(SettingsError, match="the book holds 33 shares already"):
        reconcile.adopt(bench.desk, 7, 148.0, SESSION, BY)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    with pytest.raises(SettingsError, match="nobody can say whose shares these are"):
        reconcile.adopt(bench.desk, 7, 148.0, SESSION, BY)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, 148.0, 1.0)
    bench.settle(NEXT)
    with pytest.raises(SettingsError, match=f"last traded in the session {NEXT}"):
        reconcile.adopt(bench.desk, 7, 148.0, NEXT, BY)


def test_a_book_that_is_not_there_cannot_be_put_right(bench: Bench):
    with pytest.raises(SettingsError, match="no book yet"):
        reconcile.adopt(bench.desk, 20, 147.5, SESSION, BY)
    with pytest.raises(SettingsError, match="no book yet"):
        reconcile.leave(bench.desk, 2.0, BY)


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_what_is_left_is_never_counted_and_never_sold(bench: Bench):
    """38.5 at the broker, 33 of the book, 5.5 the owner's: no mismatch, and the exit sells 33."""
    bench.buy(SESSION)
    bench.broker.shares = 38.5
    said = bench.decide(NEXT).document["blocked_by"], len(bench.notices("mismatch"))
    reconcile.leave(bench.desk, 5.5, BY)
    bench.data.edit(VIX, THIRD, close=31.0)
    outcome = bench.decide(THIRD)

    assert (1, 33, 0) == (said[1], outcome.document["shares"], outcome.exit_code)
    assert [("leave", None, BY)] == acts(bench)


def test_an_exit_under_a_mismatch_sells_only_what_is_the_books(bench: Bench):
    """20.7 at the broker, 5 of them the owner's: 15 whole shares may go of the book's 33."""
    bench.buy(SESSION)
    bench.store.leave(5.0, bench.clock.now())
    bench.broker.shares = 20.7
    bench.data.edit(VIX, NEXT, close=31.0)
    outcome = bench.decide(NEXT)

    assert ("SELL", 15, 5) == (outcome.document["action"], outcome.document["shares"], outcome.exit_code)


def test_more_than_there_is_cannot_be_left(bench: Bench):
    bench.buy(SESSION)
    bench.broker.shares = 35.0
    with pytest.raises(SettingsError) as refused:
        reconcile.leave(bench.desk, 3.0, BY)

    assert ("at most 2 can be left", []) == (refused.value.hint, acts(bench))


def test_leaving_nothing_takes_it_back(bench: Bench):
    hold(bench)
    bench.broker.shares = 5.0
    reconcile.leave(bench.desk, 5.0, BY)
    bench.broker.shares = 0.0
    reconcile.leave(bench.desk, 0.0, BY)

    assert (0.0, 2) == (bench.store.shares_left(), len(acts(bench)))


# -- filling in -------------------------------------------------------------------------------------------------------


def test_the_statements_price_takes_the_estimates_place_and_corrects_the_equity(bench: Bench):
    """33 at 147.90 with 1.05: 5,000 - 4,880.70 - 1.05 = 118.25 in cash, and no estimate left anywhere."""
    estimated(bench)
    before = bench.sql("SELECT estimated FROM fills")
    reconcile.fill(bench.desk, SESSION, 147.9, 1.05, BY)

    assert ([(1,)], [(33, 147.9, 1.05, 0)]) == (
        before,
        bench.sql("SELECT quantity, price, commission, estimated FROM fills"),
    )
    assert [(118.25, 4884.0, 5002.25)] == [
        tuple(round(value, 6) for value in row) for row in bench.sql("SELECT cash, position_value, value FROM equity")
    ]
    assert ([("fill", "2024-11-05", BY)], []) == (acts(bench), upkeep.check(bench.path))


def test_a_typing_error_can_be_filled_in_again(bench: Bench):
    estimated(bench)
    reconcile.fill(bench.desk, SESSION, 149.7, 1.05, BY)
    reconcile.fill(bench.desk, SESSION, 147.9, 1.05, BY)

    assert [(33, 147.9, 1.05)] == bench.sql("SELECT quantity, price, commission FROM fills")


def test_a_price_far_from_the_estimate_is_refused(bench: Bench):
    estimated(bench)
    with pytest.raises(SettingsError, match=r"14\.79 USD a share is far from what was estimated for .*, 148\.00"):
        reconcile.fill(bench.desk, SESSION, 14.79, 1.05, BY)


@pytest.mark.parametrize("price", [147.9, 73.95])
def test_the_statement_price_of_before_a_split_is_brought_to_the_scale_of_the_book(bench: Bench, price: float):
    """33 at 147.90 are 66 at 73.95 since; the owner may type either."""
    estimated(bench)
    bench.store.split(Split(session=NEXT, ratio=2.0), bench.clock.now())
    reconcile.fill(bench.desk, SESSION, price, 1.05, BY)

    assert [(66, 73.95, 1.05)] == bench.sql("SELECT quantity, price, commission FROM fills")


@pytest.mark.parametrize("session", [SESSION, NEXT])
def test_nothing_estimated_is_nothing_to_fill_in(bench: Bench, session: date):
    bench.buy(SESSION)
    with pytest.raises(SettingsError, match=f"nothing is estimated in the session {session}"):
        reconcile.fill(bench.desk, session, 147.9, 1.05, BY)


# -- resolving --------------------------------------------------------------------------------------------------------


def in_doubt(bench: Bench) -> Bench:
    """The order's end cannot be told: the position moved by 40."""
    bench.decide()
    bench.broker.shares = 40.0
    bench.broker.at_broker.clear()
    bench.at(NEXT, 60)
    settle_all(bench.desk)
    return bench


@pytest.mark.parametrize(
    ("executed", "status", "fills"),
    [(None, "filled", [(33, 148.0, 1)]), (0, "cancelled", []), (12, "partly_filled", [(12, 148.0, 1)])],
)
def test_the_owners_word_ends_an_order_in_doubt(
    bench: Bench, executed: int | None, status: str, fills: list[tuple[int, float, int]]
):
    in_doubt(bench)
    reconcile.resolve(bench.desk, SESSION, executed=executed, by=BY)
    settlements = settle_all(bench.desk)

    assert ([(status,)], fills) == (
        bench.sql("SELECT status FROM order_intent"),
        bench.sql("SELECT quantity, price, estimated FROM fills"),
    )
    assert ([True], [("resolve", "2024-11-05", BY)]) == ([s.is_settled for s in settlements], acts(bench))
    assert [] == upkeep.check(bench.path)


def test_a_part_that_nobody_acknowledged_is_the_owners_to_tell(bench: Bench):
    """Sent and never acknowledged; a list was silent that evening, and the next day only the position has moved."""
    bench.broker.on_submit = "fall silent"
    with_doubt = bench.decide()
    bench.broker.at_broker.clear()
    bench.broker.silent.clear()
    bench.broker.shares = 12.0
    blocked = bench.decide(NEXT)
    said = reconcile.resolve(bench.desk, SESSION, executed=12, by=BY)
    [position, *_] = reconcile.compare(bench.desk).lines

    assert (5, 5, "order_unknown") == (with_doubt.exit_code, blocked.exit_code, blocked.document["blocked_by"])
    assert f"12 of 33 shares executed of {BUY_KEY}, 12 of them estimated" == said
    assert ("12 shares", True) == (position.book, position.agrees)


@pytest.mark.parametrize(
    ("executed", "status"), [(5, "partly_filled"), (12, "partly_filled"), (33, "filled"), (None, "filled")]
)
def test_what_is_booked_counts_among_what_was_executed(bench: Bench, executed: int | None, status: str):
    bench.decide()
    bench.broker.execute(BUY_KEY, 5, 147.5, 0.5)
    bench.settle()
    bench.broker.at_broker.clear()
    bench.broker.silent.add("executions")
    reconcile.resolve(bench.desk, SESSION, executed=executed, by=BY)

    assert ([(status,)], executed or 33) == (bench.sql("SELECT status FROM order_intent"), bench.desk.shares())


@pytest.mark.parametrize("executed", [4, 34])
def test_a_number_that_the_order_cannot_have_executed_is_refused(bench: Bench, executed: int):
    """5 of its 33 shares are booked."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 5, 147.5, 0.5)
    bench.settle()
    bench.broker.at_broker.clear()
    with pytest.raises(SettingsError) as refused:
        reconcile.resolve(bench.desk, SESSION, executed=executed, by=BY)

    expected = f"{executed} shares cannot have been executed of {BUY_KEY}: it is for 33, and 5 of it are booked"
    assert expected == refused.value.message
    assert "say none, filled, or a number from 5 to 33" == refused.value.hint


def test_an_order_the_broker_still_works_cannot_be_resolved(bench: Bench):
    bench.decide()
    with pytest.raises(SettingsError, match="is working at the broker"):
        reconcile.resolve(bench.desk, SESSION, executed=0, by=BY)


def test_executions_the_broker_shows_stand_above_the_owners_word(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.at(SESSION, -20)
    with pytest.raises(SettingsError, match="shows 1 execution of "):
        reconcile.resolve(bench.desk, SESSION, executed=0, by=BY)


@pytest.mark.parametrize(("session", "state"), [(SESSION, "its order is filled"), (BEFORE, "it has no order")])
def test_a_session_without_an_open_order_has_nothing_to_resolve(bench: Bench, session: date, state: str):
    bench.buy(SESSION)
    with pytest.raises(SettingsError) as refused:
        reconcile.resolve(bench.desk, session, executed=0, by=BY)

    assert state in refused.value.message


def test_an_order_cannot_have_filled_before_the_close(bench: Bench):
    bench.decide()
    bench.broker.at_broker.clear()
    with pytest.raises(SettingsError, match="has not closed yet"):
        reconcile.resolve(bench.desk, SESSION, executed=None, by=BY)


def test_an_act_that_cannot_be_kept_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The disk fills up while the act is written: neither the resolution nor its estimate is there."""
    in_doubt(bench)

    def full(*_: object) -> None:
        raise MtumEodError("disk full")

    monkeypatch.setattr(type(bench.store), "add_act", full)
    with pytest.raises(MtumEodError):
        reconcile.resolve(bench.desk, SESSION, executed=None, by=BY)

    assert ([("unknown",)], []) == (bench.sql("SELECT status FROM order_intent"), bench.store.fills())
