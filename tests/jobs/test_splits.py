"""A split overnight: the source's history and the broker's shares come back on another scale, and the book follows.

At SESSION 33 shares are bought at 148.00; the ATR of the entry is 2-odd USD. The next morning all earlier bars, and the
shares at the broker, are multiplied.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from shutil import copyfile

import pytest
from fakes import KEY, SESSION, Bench, ScriptedBroker, calendar, entry_data

from mtum_eod.adapters.simulated_broker import SimulatedBroker
from mtum_eod.adapters.store import SimulatedOrders, SqlStore, upkeep
from mtum_eod.core.market import VIX, DailyBars
from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.trading import Mode, OrderStatus, Side, Split
from mtum_eod.errors import MarketDataError
from mtum_eod.jobs import reconcile
from mtum_eod.jobs.decide import preview
from mtum_eod.jobs.flatten import flatten
from mtum_eod.jobs.gather import gather
from mtum_eod.jobs.replay import replay_recorded
from mtum_eod.jobs.session import settle_all, settle_step
from mtum_eod.ports import Known, Unknown

MONDAY, NEXT, THIRD = date(2024, 11, 4), date(2024, 11, 6), date(2024, 11, 7)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def rescale_source(bench: Bench, ratio: float) -> None:
    """All prices on the scale after `ratio` new shares for one, rounded to cents; volume the other way."""
    frame = bench.data.frames["MTUM"]
    for column in ("open", "high", "low", "close"):
        frame[column] = (frame[column] / ratio).round(2)
    frame["volume"] = frame["volume"] * ratio


def refuse_history(bench: Bench) -> Callable[[str, date, date, datetime], DailyBars]:
    """The long read that follows a split is refused from now on; returns how bars were read before."""
    read = bench.data.daily

    def paced(symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        if (symbol, last) == ("MTUM", SESSION):  # without today's: it is the history
            raise MarketDataError("MTUM: pacing violation", hint="")
        return read(symbol, first, last, as_of)

    bench.data.daily = paced  # type: ignore[method-assign]
    return read


def enter_on_an_evening_without_vix(bench: Bench) -> None:
    """33 shares at 148.00; the mark of their session waits for the VIX."""
    bench.decide()
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, 1.0)
    bench.data.down = {VIX}
    bench.settle()
    bench.data.down.clear()


def position(bench: Bench) -> list[tuple[float, ...]]:
    return bench.sql(
        "SELECT shares, round(entry_price, 4), round(entry_atr, 6), round(shares * entry_price, 6) FROM position"
    )


def test_a_mark_that_waited_for_the_vix_over_a_split_keeps_its_value(bench: Bench):
    """The round trip of 33 shares ended before the split of two for one: its close is not theirs any more."""
    enter_on_an_evening_without_vix(bench)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, 147.0, 1.0)
    bench.data.down = {VIX}
    bench.settle(NEXT)
    bench.data.down.clear()
    rescale_source(bench, 2)
    bench.decide(THIRD)
    bench.settle(THIRD)

    marks = bench.sql("SELECT session, value, position_value, is_final FROM equity_mark ORDER BY session")
    assert [("2024-11-05", 4999.0, 4884.0, 1), ("2024-11-06", 4965.0, 0.0, 1), ("2024-11-07", 4965.0, 0.0, 0)] == marks


def test_a_mark_that_waited_for_the_vix_over_a_split_of_what_was_held_becomes_final_at_the_revised_close(bench: Bench):
    """33 shares are 66 overnight and sold that day; of the entry's close, 148.00, the source then says 147.00."""
    enter_on_an_evening_without_vix(bench)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 66, 74.0, 1.0)
    bench.data.edit("MTUM", SESSION, close=73.5)
    bench.settle(NEXT)

    marks = bench.sql("SELECT session, value, position_value, is_final FROM equity_mark ORDER BY session")
    assert ("2024-11-05", 115.0 + 66 * 73.5, 66 * 73.5, 1) == marks[0]
    assert 0 == bench.desk.shares()


@pytest.mark.parametrize(
    ("ratio", "shares", "price"),
    [(2, 66, 74.0), (3, 99, 49.3333), (1 / 11, 3, 1628.0), (4 / 3, 44, 111.0)],
)
def test_a_split_rescales_shares_entry_price_and_atr_and_keeps_the_cost(
    bench: Bench, ratio: float, shares: int, price: float
):
    """2:1, 3:1, 1:11 and 4:3 of 33 shares at 148.00; 4,884 USD each time."""
    bench.buy(SESSION)
    [(_, _, atr, _)] = position(bench)
    rescale_source(bench, ratio)
    bench.broker.shares = 33 * ratio
    outcome = bench.decide(NEXT)

    assert [(shares, price, pytest.approx(atr / ratio, abs=1e-5), 4884.0)] == position(bench)
    assert ("HOLD", None, 0) == (outcome.document["action"], outcome.document["blocked_by"], outcome.exit_code)
    assert [
        (f"MTUM: a split of {ratio:.6g} new shares for one, followed on {NEXT}; 33 shares held: {shares} now",)
    ] == [(words,) for words, _ in bench.notices("mismatch")]
    assert [] == upkeep.check(bench.path)


def test_a_split_is_followed_once_and_all_stored_bars_get_a_new_version(bench: Bench):
    """Before it 148.00 was the newest close, after it 74.00; the earlier version stays."""
    bench.buy(SESSION)
    first = bench.store.bars("MTUM", date(2020, 1, 1), SESSION)
    revision = bench.store.bars_revision()
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.decide(NEXT)
    bench.decide(NEXT, before_close=18)
    bench.settle(NEXT)
    after = bench.store.bars("MTUM", date(2020, 1, 1), SESSION)

    then = bench.store.bars("MTUM", date(2020, 1, 1), SESSION, revision)
    assert {0.5} == set((after.close / first.close).round(3))
    assert first.values.tolist() == then.values.tolist()
    assert ([("2024-11-06", 2.0)], 1) == (bench.sql("SELECT session, ratio FROM split"), len(bench.notices("mismatch")))


def test_equity_is_the_same_before_and_after_a_split(bench: Bench):
    """5,000 less 1.00 of commission, all of it marked at the entry's own price."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.decide(NEXT)
    bench.settle(NEXT)
    close = float(bench.data.frames["MTUM"].loc[str(NEXT), "close"])

    assert [("2024-11-05", 4999.0), ("2024-11-06", round(115.0 + 66 * close, 2))] == bench.sql(
        "SELECT session, round(value, 2) FROM equity"
    )
    assert [] == upkeep.check(bench.path)


@pytest.mark.parametrize(
    ("ratio", "held", "why"),
    [
        (2, 33.0, "the broker holds 33 shares, where a split would have made 66 of 33"),
        (1.5, 33.0, "the broker holds 33 shares, where a split would have made 49 of 33"),
        (1 / 40, 0.0, "a split of 0.025 new shares for one makes 0.825 of 33 shares, less than a whole one"),
        (1.004, 33.0, "perhaps the source changed how it adjusts"),
    ],
)
def test_a_ratio_without_its_shares_changes_nothing_blocks_and_is_told_once(
    bench: Bench, ratio: float, held: float, why: str
):
    """A split not booked yet, one that leaves no share, a dividend taken out of the prices."""
    bench.buy(SESSION)
    before = position(bench)
    rescale_source(bench, ratio)
    bench.broker.shares = held
    first, second = bench.decide(NEXT), bench.decide(NEXT, before_close=18)
    told = [words for words, urgent in bench.notices("mismatch") if why in words and urgent]

    assert (before, [], 1) == (position(bench), bench.sql("SELECT * FROM split"), len(told))
    assert ["data", "data"] == [first.document["blocked_by"], second.document["blocked_by"]]
    assert (0, {3, 5} & {first.exit_code}) == (first.document["shares"], {first.exit_code})


def test_an_unknown_broker_position_confirms_no_split(bench: Bench):
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.broker.silent.add("shares_held")
    bench.decide(NEXT)
    during = bench.sql("SELECT * FROM split")
    bench.broker.silent.clear()
    bench.decide(NEXT, before_close=18)

    assert ([], 66) == (during, bench.desk.shares())


def test_a_split_is_seen_by_the_same_answer_as_what_can_be_sold(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The broker says once that it holds 66, and nothing the next time."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.at(NEXT, 20)
    answers = [Known(66.0), Unknown("no answer in time")]
    monkeypatch.setattr(bench.broker, "shares_held", lambda _: answers.pop(0))
    gathered = gather(bench.desk, NEXT)

    assert (Split(session=NEXT, ratio=2.0), 66) == (gathered.split, gathered.evidence.broker_shares)


def test_no_rule_compares_an_entry_price_with_closes_of_another_scale(bench: Bench):
    """One for ten: 1,480 USD against an entry of 148 is no profit of 900 %, nor is 14.80 a loss of the day."""
    bench.parameters = Parameters(risk=RiskParameters(daily_loss_exit=True))
    bench.buy(SESSION)
    rescale_source(bench, 1 / 10)
    up = bench.decide(NEXT)
    rescale_source(bench, 100)
    down = bench.decide(NEXT, before_close=18)

    assert [("HOLD", []), ("HOLD", [])] == [(o.document["action"], o.document["exit_reasons"]) for o in (up, down)]
    assert (None, []) == (up.document["position"]["entry_price"], bench.store.halts())


def test_another_exit_rule_still_sells_what_the_broker_has(bench: Bench):
    """The VIX needs no entry price."""
    bench.buy(SESSION)
    rescale_source(bench, 1 / 10)
    bench.broker.shares = 3.0
    bench.data.edit(VIX, NEXT, close=31.0)
    document = bench.decide(NEXT).document

    assert ("SELL", 3, ["vix"]) == (document["action"], document["shares"], document["exit_reasons"])


def test_a_sale_beside_a_split_in_doubt_is_no_older_one_where_an_earlier_session_is_settled(bench: Bench):
    """The entry's evening is still open when 33 new shares are sold; the broker books the 33 more on the day after."""
    bench.decide(SESSION)
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, 1.0)
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        bench.settle(SESSION)
    bench.data.down.clear()
    rescale_source(bench, 2)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, bench.data.frames["MTUM"].loc[str(NEXT), "close"], 1.0)
    bench.at(NEXT, -60)
    for session in (NEXT, SESSION):
        with pytest.raises(MarketDataError, match="the broker holds 0 shares, where a split would have made 33 of 0"):
            settle_step(bench.desk, session)
    bench.broker.shares = 33.0
    third = bench.decide(THIRD).document

    assert ("SELL", 33, [(str(NEXT), 2.0)]) == (
        third["action"],
        third["shares"],
        bench.sql("SELECT session, ratio FROM split"),
    )


@pytest.mark.parametrize("by_hand", [False, True])
def test_beside_a_split_into_fewer_shares_none_is_sold_that_the_owner_bought(bench: Bench, by_hand: bool):
    """One for ten makes 3 of 33 shares; the owner has bought 4 that morning. The book's 33 would cover all 7."""
    bench.buy(SESSION)
    rescale_source(bench, 1 / 10)
    bench.broker.shares = 7.0
    bench.data.edit(VIX, NEXT, close=31.0)
    if by_hand:
        bench.at(NEXT, 30)
        flatten(bench.desk, why="", by="owner")
    else:
        bench.decide(NEXT)
    order = bench.store.order(NEXT)

    assert order
    assert (Side.SELL, 3) == (order.intent.side, order.intent.shares)


def test_beside_a_split_into_fewer_shares_that_were_sold_the_owners_stay(bench: Bench):
    """The same, a day later: none of the 4 that are left is the book's, though an exit is still due there."""
    bench.buy(SESSION)
    rescale_source(bench, 1 / 10)
    bench.broker.shares = 7.0
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    close = bench.data.frames["MTUM"].loc[str(NEXT), "close"]
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 3, close, 1.0)
    bench.broker.shares = 4.0
    bench.at(NEXT, -60)
    with pytest.raises(MarketDataError, match="the broker holds 4 shares, where a split would have made 0 of 30"):
        settle_all(bench.desk)
    bench.data.edit(VIX, THIRD, close=31.0)
    third = bench.decide(THIRD).document

    assert ("SELL", 0, "reconcile_mismatch") == (third["action"], third["shares"], third["blocked_by"])


def test_a_split_that_cannot_be_followed_for_want_of_history_holds_back_no_exit(bench: Bench):
    """The price is there; the long read that follows the split is refused. All 66 are sold, and booked that evening."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66
    bench.data.edit(VIX, NEXT, close=31.0)
    read = refuse_history(bench)
    document = bench.decide(NEXT).document
    replayed = replay_recorded(bench.store.signal(NEXT), bench.store, calendar(), bench.desk.book)  # type: ignore[arg-type]
    unfollowed = bench.sql("SELECT shares FROM position")
    [(words, _)] = bench.notices("mismatch")
    bench.data.daily = read  # type: ignore[method-assign]
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 66, 73.0, 1.0)
    evening = bench.settle(NEXT)

    assert ("SELL", None, 66) == (document["action"], document["blocked_by"], document["order"]["shares"])
    assert ([(33,)], ["vix"], 66) == (unfollowed, replayed.document["exit_reasons"], replayed.document["shares"])
    assert "it could not be followed: MTUM: pacing violation" in words
    assert (True, [(66, 74.0, 73.0)]) == (
        evening.is_settled,
        bench.sql("SELECT shares, entry_price, exit_price FROM trades"),
    )


def test_a_split_that_could_not_be_followed_is_followed_by_the_next_run(bench: Bench):
    """No exit is due: the session waits for the history, and is decided once it comes."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66
    read = refuse_history(bench)
    waits = bench.decide(NEXT)
    bench.data.daily = read  # type: ignore[method-assign]
    decided = bench.decide(NEXT, before_close=19)

    assert ("data", 3) == (waits.document["blocked_by"], waits.exit_code)
    assert ("HOLD", None, [(66,)]) == (
        decided.document["action"],
        decided.document["blocked_by"],
        bench.sql("SELECT shares FROM position"),
    )


def test_a_sale_beside_a_split_in_doubt_is_not_taken_for_cancelled_by_the_position(bench: Bench):
    """The broker books the split a day late: 33 of 66 are sold, 33 are left, as many as the book has had all along."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.data.edit(VIX, NEXT, close=31.0)
    sold = bench.decide(NEXT).document["order"]["shares"]
    bench.broker.at_broker.clear()
    bench.broker.shares = 33.0
    bench.data.edit(VIX, THIRD, close=31.0)
    outcome = bench.decide(THIRD)
    status = bench.sql("SELECT status FROM order_intent ORDER BY session")[-1]

    assert (33, 5, "unknown", "order_unknown") == (sold, outcome.exit_code, *status, outcome.document["blocked_by"])


def test_a_sale_beside_a_split_in_doubt_that_the_owner_resolves_was_of_new_shares(bench: Bench):
    """33 of 66 were sold at 73-odd USD: at twice that, no split would explain the 33 that are left."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.at_broker.clear()
    bench.broker.shares = 33.0
    bench.at(THIRD, 60)
    reconcile.resolve(bench.desk, NEXT, executed=33, by="owner")
    close = bench.data.frames["MTUM"].loc[str(NEXT), "close"]
    priced = bench.sql("SELECT price FROM fills ORDER BY executed_at DESC LIMIT 1")
    bench.settle(NEXT)

    assert [(close,)] == priced
    assert ([(2.0,)], [(33, 74.0)]) == (bench.sql("SELECT ratio FROM split"), [row[:2] for row in position(bench)])


def test_a_sale_by_hand_beside_a_split_in_doubt_is_not_either(bench: Bench):
    """The same, by the owner's hand, who sees 33 shares on both sides."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.at(NEXT, 30)
    sold = flatten(bench.desk, why="", by="owner")
    bench.broker.at_broker.clear()
    bench.broker.shares = 33.0
    bench.decide(THIRD)

    assert (0, ["filled", "unknown"]) == (
        sold.exit_code,
        [status for (status,) in bench.sql("SELECT status FROM order_intent ORDER BY session")],
    )


def test_a_split_in_doubt_is_followed_later_where_a_sale_came_to_nothing(bench: Bench):
    """What the sale was decided on is recorded, and replays; the stored closes must tell of the split still."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.on_submit = "reject"
    bench.data.edit(VIX, NEXT, close=31.0)
    recorded = bench.decide(NEXT).document
    bench.broker.shares = 66.0
    bench.data.edit(VIX, THIRD, close=26.0)
    bench.decide(THIRD)
    signal = bench.store.signal(NEXT)
    assert signal
    replayed = replay_recorded(signal, bench.store, calendar(), bench.desk.book).document

    assert (33, 66, [(2.0,)]) == (recorded["shares"], bench.desk.shares(), bench.sql("SELECT ratio FROM split"))
    assert [recorded[name] for name in ("close", "ma_50", "atr")] == [
        replayed[name] for name in ("close", "ma_50", "atr")
    ]


def test_a_flat_book_rescales_its_bars_only(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.settle()
    rescale_source(bench, 2)
    bench.data.edit(VIX, NEXT, close=26.0)
    outcome = bench.decide(NEXT)

    assert (None, 0) == (outcome.document["blocked_by"], outcome.exit_code)
    assert [(74.0,)] == bench.sql(
        "SELECT close FROM bar WHERE symbol = 'MTUM' AND session = '2024-11-05' ORDER BY revision DESC LIMIT 1"
    )


def test_a_flat_book_follows_no_ratio_that_is_no_split(bench: Bench):
    bench.decide(SESSION, before_close=20)
    bench.broker.end(f"mtum-eod/paper/DU1/MTUM/{SESSION}/BUY", bench.store.open_orders()[0].status.CANCELLED)
    bench.settle()
    rescale_source(bench, 1.004)
    outcome = bench.decide(NEXT)

    assert ("data", 3) == (outcome.document["blocked_by"], outcome.exit_code)


def test_shares_left_to_the_owner_are_split_too(bench: Bench):
    bench.buy(SESSION)
    bench.store.leave(5.0, bench.clock.now())
    rescale_source(bench, 2)
    bench.broker.shares = 76.0
    outcome = bench.decide(NEXT)

    assert (66, 10.0, None) == (bench.desk.shares(), bench.store.shares_left(), outcome.document["blocked_by"])


def test_a_dry_run_shows_the_split_and_writes_nothing(bench: Bench):
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.at(NEXT, 20)
    before = bench.sql("SELECT count(*) FROM bar")
    document = preview(bench.desk, NEXT).document

    assert (66, 74.0, "HOLD", None) == (
        document["position"]["shares"],
        document["position"]["entry_price"],
        document["action"],
        document["blocked_by"],
    )
    assert any("the next run makes 66 of the shares held" in warning for warning in document["warnings"])
    assert ([], before) == (bench.sql("SELECT * FROM split"), bench.sql("SELECT count(*) FROM bar"))


def test_a_missed_decision_leaves_the_split_to_settlement(bench: Bench):
    """Nothing ran at NEXT before the close; the evening's settlement follows the split before it writes a bar."""
    bench.decide()
    key = f"mtum-eod/paper/DU1/MTUM/{SESSION}/BUY"
    bench.broker.execute(key, 33, 148.0, None)
    bench.settle()
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.broker.report_commission(0, 1.0)
    bench.at(NEXT, -30)
    settlements = settle_all(bench.desk)

    assert ([(66, 74.0)], [True]) == (
        bench.sql("SELECT shares, entry_price FROM position"),
        [s.is_settled for s in settlements if s.session == SESSION],
    )
    assert [] == upkeep.check(bench.path)


def test_settlement_writes_no_bar_beside_others_of_another_scale(bench: Bench):
    """The ratio must stand out again at the next decision."""
    bench.decide()
    key = f"mtum-eod/paper/DU1/MTUM/{SESSION}/BUY"
    bench.broker.execute(key, 33, 148.0, None)
    bench.settle()
    rescale_source(bench, 2)
    before = bench.store.bars_revision()
    outcome = bench.decide(NEXT)

    assert (before, "data") == (bench.store.bars_revision(), outcome.document["blocked_by"])
    assert any("closes are 0.5 times the stored ones" in note for note in outcome.notes)


def test_a_crash_while_following_leaves_all_or_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Killed after the shares, before the bars: neither is there, and the next run does both."""

    class Killed(BaseException):
        """The process ends here."""

    def die(*_: object) -> int:
        raise Killed

    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "add_bars", die)
        with pytest.raises(Killed):
            bench.decide(NEXT)
    during = (bench.desk.shares(), bench.sql("SELECT * FROM split"))
    bench.decide(NEXT)

    assert ((33, []), 66) == (during, bench.desk.shares())


class SimulatedBench(Bench):
    """The same desk, trading with the embedded broker in the book's own file."""

    @property
    def desk(self):
        book = replace(super().desk.book, mode=Mode.SIMULATED, account="SIMULATED")
        broker = SimulatedBroker(
            orders=SimulatedOrders(self.store, self.store),
            book=self.store,
            capital_usd=5000.0,
            prices=self.data,
            symbol="MTUM",
            calendar=calendar(),
            clock=self.clock,
            cost_ratio=0.001,
        )
        return replace(super().desk, book=book, broker=broker)


@pytest.mark.parametrize("is_settled_before", [True, False])
def test_a_simulated_book_survives_a_split_and_sells_it_all(tmp_path: Path, is_settled_before: bool):
    """33 shares at 148.00 are 66 at 74.00, for the embedded broker too; settled the evening before or not."""
    bench = SimulatedBench(tmp_path / "book.db", data=entry_data(), broker=ScriptedBroker())
    bench.decide()
    if is_settled_before:
        bench.settle()
    rescale_source(bench, 2)
    bench.decide(NEXT)
    held = bench.desk.broker.shares_held("MTUM").value, bench.desk.shares()
    bench.settle(NEXT)
    bench.data.edit(VIX, THIRD, close=31.0)
    bench.decide(THIRD)
    bench.settle(THIRD)

    assert ((66.0, 66), (0.0, 0)) == (held, (bench.desk.broker.shares_held("MTUM").value, bench.desk.shares()))
    assert [(66, 74.0)] == bench.sql("SELECT shares, entry_price FROM trades")
    assert [] == upkeep.check(bench.path)


def test_a_wait_of_which_only_the_numbers_change_is_told_once(bench: Bench):
    """Closes as after a split, but not the broker's shares; cron tries again every minute till the close."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide(SESSION)
    bench.settle(SESSION)
    rescale_source(bench, 3)
    bench.broker.shares = 2.0
    for minutes in (14, 13, 12):
        bench.data.know_volumes(NEXT, today=3e6 - 1000 * minutes, before=2.4e6)
        bench.decide(NEXT, before_close=minutes)
    told = [words.split(":")[0] for words, _ in bench.notices("daily_summary")]

    assert ["HOLD (flat)", "BUY (flat), blocked by outside_window"] == told


def restored_after_buying(bench: Bench, *, after_a_split: bool) -> Bench:
    """A backup of MONDAY's evening, flat, that is back once SESSION's order is filled.

    after_a_split: of two for one, in source and order, in the night between.
    """
    backup = bench.path.with_name("backup.db")
    bench.data.edit(VIX, MONDAY, close=26.0)
    bench.decide(MONDAY)
    bench.settle(MONDAY)
    bench.store.close()
    copyfile(bench.path, backup)
    bench = Bench(bench.path, data=bench.data, broker=bench.broker)
    if after_a_split:
        rescale_source(bench, 2)
    shares = bench.decide(SESSION).document["order"]["shares"]
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", shares, 148.0 / (1 + after_a_split), 1.0)
    return Bench(backup, data=bench.data, broker=bench.broker)


def test_a_restored_book_whose_shares_are_new_ones_already_follows_with_its_bars_alone(bench: Bench):
    """The order was sent after the split; the bars of the backup are from before it. The exit is judged, and sells."""
    book = restored_after_buying(bench, after_a_split=True)
    evening = book.settle(SESSION)
    held = position(book)
    book.data.edit(VIX, NEXT, close=31.0)
    document = book.decide(NEXT).document

    assert (True, [(66, 74.0)]) == (evening.is_settled, [row[:2] for row in held])
    assert [("2024-11-05", 2.0)] == book.sql("SELECT session, ratio FROM split")
    assert ("SELL", 66, ["vix"]) == (document["action"], document["shares"], document["exit_reasons"])


def test_a_restored_book_whose_shares_are_old_ones_waits_for_the_broker_to_split_them(bench: Bench):
    """As many shares as the broker holds, and yet bought on the old scale: 148.00 where the close is 74.00 now."""
    book = restored_after_buying(bench, after_a_split=False)
    book.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        book.settle(SESSION)
    book.data.down.clear()
    rescale_source(bench, 2)
    document = book.decide(NEXT).document
    before = book.sql("SELECT * FROM split")
    book.broker.shares = 66.0
    book.decide(NEXT, before_close=18)

    assert ("HOLD", "data", []) == (document["action"], document["blocked_by"], before)
    assert ([(2.0,)], [(66, 74.0)]) == (
        book.sql("SELECT ratio FROM split"),
        [row[:2] for row in position(book)],
    )


def test_an_order_that_a_book_from_before_a_split_has_forgotten_was_of_new_shares(bench: Bench, tmp_path: Path):
    """66 bought at 74.00 after two for one; then a backup from before both, and their executions gone by morning.

    Taken for old shares at 148.00, no split would explain the 66 that the broker holds.
    """
    bench.data.edit(VIX, MONDAY, close=26.0)
    bench.decide(MONDAY)
    bench.settle(MONDAY)
    backup = upkeep.backup(bench.path, tmp_path / "backups")
    rescale_source(bench, 2)
    bought = bench.decide(SESSION).document["order"]["shares"]
    bench.broker.shares = float(bought)
    bench.store.close()
    restored = Bench(Path(copyfile(backup, tmp_path / "restored.db")), data=bench.data, broker=bench.broker)
    restored.decide(SESSION, before_close=18)
    restored.broker.at_broker.clear()
    restored.at(NEXT, 60)
    reconcile.resolve(restored.desk, SESSION, executed=None, by="owner")
    settle_all(restored.desk)

    assert ([(66, 74.0, 1)], [(2.0, "2024-11-05")]) == (
        restored.sql("SELECT shares, price_usd, is_estimated FROM execution"),
        restored.sql("SELECT ratio, session FROM split"),
    )


def test_shares_that_an_open_order_may_have_bought_bear_out_no_split(bench: Bench):
    """A restored book with 33 shares that were sold since; after two for one it had bought 66, forgotten as well.

    Until that purchase is booked the 66 at the broker look like the 33, split.
    """
    bench.buy(SESSION)
    rescale_source(bench, 2)
    key = f"{KEY}/{NEXT}/BUY"
    forgotten = replace(
        next(iter(bench.broker.at_broker.values())), reference=key, status=OrderStatus.WORKING, shares=66
    )
    bench.broker.at_broker = {key: forgotten}
    bench.broker.shares = 0.0
    bench.decide(NEXT)
    bench.broker.shares = 66.0
    with pytest.raises(MarketDataError, match=f"order {key} is still working"):
        bench.settle(NEXT)

    assert ([], 33) == (bench.sql("SELECT * FROM split"), bench.desk.shares())


def test_a_split_shown_on_the_evening_of_the_entry_waits_for_the_broker(bench: Bench):
    """33 old shares at both, on that very day: they are not new ones because the split would begin with it."""
    bench.decide()
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, None)
    bench.settle()
    rescale_source(bench, 2)
    bench.broker.report_commission(0, 1.0)
    with pytest.raises(MarketDataError, match="the broker holds 33 shares, where a split would have made 66 of 33"):
        bench.settle(SESSION, after_close=120)
    evening = position(bench)
    bench.broker.shares = 66.0
    bench.decide(NEXT)

    assert [33, 66] == [row[0] for row in evening + position(bench)]
    assert [("2024-11-06", 2.0)] == bench.sql("SELECT session, ratio FROM split")


@pytest.mark.parametrize("is_late", [True, False])
def test_an_execution_that_nobody_reported_is_priced_on_the_scale_of_its_shares(bench: Bench, is_late: bool):
    """33 bought, their executions gone by midnight, split by then; the broker books that a day late, or in time."""
    bench.decide()
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, 1.0)
    bench.broker.executed.clear()
    bench.broker.at_broker.clear()
    rescale_source(bench, 2)
    if is_late:
        bench.decide(NEXT)
    else:
        bench.broker.shares = 66.0
        bench.decide(NEXT)
        reconcile.resolve(bench.desk, SESSION, executed=None, by="me")
    booked = bench.sql("SELECT shares, price_usd FROM execution")
    bench.broker.shares = 66.0
    bench.decide(NEXT, before_close=18)

    assert ([(33, 148.0)], [(66, 74.0)]) == (booked, [row[:2] for row in position(bench)])


def test_a_sale_that_nobody_reported_is_priced_on_the_scale_of_its_shares(bench: Bench):
    """33 bought at 148.00 and sold at 146.20, the day before two for one: no result of half the price."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, 146.2, 1.0)
    bench.broker.executed.clear()
    bench.broker.at_broker.clear()
    rescale_source(bench, 2)
    bench.decide(THIRD)

    assert [(33, 148.0, 146.2)] == bench.sql("SELECT shares, entry_price, exit_price FROM trades")


def test_a_restored_book_that_holds_old_shares_books_the_sale_of_the_new_ones(bench: Bench):
    """33 in the backup; the lost book followed two for one and sold 66. They are not 33 that nobody bought."""
    backup = bench.path.with_name("backup.db")
    bench.buy(SESSION)
    bench.store.close()
    copyfile(bench.path, backup)
    bench = Bench(bench.path, data=bench.data, broker=bench.broker)
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 66, 73.0, 1.0)
    book = Bench(backup, data=bench.data, broker=bench.broker)
    evening = book.settle(NEXT)

    assert (True, [(66, 74.0, 73.0)]) == (
        evening.is_settled,
        book.sql("SELECT shares, entry_price, exit_price FROM trades"),
    )
    assert [] == upkeep.check(backup)


def test_a_correction_on_the_old_scale_does_not_undo_a_split(bench: Bench):
    """Of an execution of before it, and a list that reaches back past midnight: only its commission is news."""
    bench.decide()
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, None)
    bench.settle()
    rescale_source(bench, 2)
    bench.broker.shares = 66.0
    bench.decide(NEXT)
    bench.broker.executed[0] = replace(bench.broker.executed[0], revision=1, price_usd=147.99, commission_usd=1.25)
    bench.settle(NEXT)
    settle_all(bench.desk)

    assert [(66, 74.0, 1.25)] == bench.sql("SELECT shares, price_usd, commission_usd FROM execution")


@pytest.mark.parametrize(("ratio", "shares", "of_one"), [(1.5, 49, "0.5"), (1 / 10, 3, "0.3")])
def test_the_fraction_that_a_split_leaves_is_cash_of_which_the_owner_is_told(
    bench: Bench, ratio: float, shares: int, of_one: str
):
    """33 are 49.5 or 3.3: the broker holds the whole ones. They carry all that was paid."""
    bench.buy(SESSION)
    rescale_source(bench, ratio)
    bench.broker.shares = float(shares)
    outcome = bench.decide(NEXT)

    assert (None, [(shares, 4884.0)]) == (
        outcome.document["blocked_by"],
        bench.sql("SELECT shares, round(shares * entry_price, 6) FROM position"),
    )
    assert [True] == [
        f"for {of_one} of a share the broker pays cash: once it is there, `mtum-eod cash add dividend AMOUNT`" in words
        for words, _ in bench.notices("mismatch")
    ]


def test_a_split_that_leaves_no_whole_share_is_followed_once_the_owner_says_what_became_of_it(bench: Bench):
    """One for fifty of 33 shares: 0.66, for which the broker pays. Told at the old close; equity does not move."""
    bench.buy(SESSION)
    rescale_source(bench, 1 / 50)
    bench.broker.shares = 0.0
    held_back = bench.decide(NEXT).document["blocked_by"]
    with pytest.raises(MarketDataError, match="less than a whole one"):
        bench.settle(NEXT)
    bench.at(THIRD, 60)
    reconcile.sold(bench.desk, 33, 148.0, NEXT, "owner")
    bench.at(THIRD, -20)
    settle_all(bench.desk)

    assert "data" == held_back
    assert ([(1 / 50,)], 0) == (bench.sql("SELECT ratio FROM split"), bench.desk.shares())
    assert [("2024-11-05", 4999.0), ("2024-11-06", 4999.0)] == bench.sql(
        "SELECT session, value FROM equity WHERE session < '2024-11-07' ORDER BY session"
    )
    assert [] == bench.store.halts()


def test_a_session_from_before_a_split_that_is_settled_late_is_marked_at_its_own_close(bench: Bench):
    """The entry's evening had no bars; sold on the next day, and split in the night after. No loss is latched."""
    bench.decide(SESSION)
    bench.broker.execute(f"{KEY}/{SESSION}/BUY", 33, 148.0, 1.0)
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        bench.settle(SESSION)
    bench.data.down.clear()
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, 147.0, 1.0)
    bench.at(NEXT, -20)
    settle_step(bench.desk, NEXT)
    bench.sql("UPDATE session SET is_settled = 0 WHERE session = '2024-11-05'")
    rescale_source(bench, 2)
    bench.decide(THIRD)
    bench.at(THIRD, -20)
    settle_step(bench.desk, SESSION)

    assert [("2024-11-05", 4999.0)] == bench.sql("SELECT session, value FROM equity_mark WHERE session = '2024-11-05'")
    assert [] == bench.store.halts()


def test_the_embedded_broker_pays_for_the_fraction(tmp_path: Path):
    """33 shares at 148.00 are 49.5: half a share at the last close, 98.67 USD, is 49.34."""
    bench = SimulatedBench(tmp_path / "book.db", data=entry_data(), broker=ScriptedBroker())
    bench.decide()
    bench.settle()
    rescale_source(bench, 1.5)
    bench.decide(NEXT)
    bench.settle(NEXT)

    assert (49.0, 49) == (bench.desk.broker.shares_held("MTUM").value, bench.desk.shares())
    assert [("dividend", 49.34)] == bench.sql("SELECT kind, amount_usd FROM cash_flow")
    assert [] == upkeep.check(bench.path)


def test_shares_bought_past_the_program_do_not_hide_a_split(bench: Bench):
    """One more than the book's when it was last decided, two since: a split of them all. The exit sells all 66."""
    bench.buy(SESSION)
    bench.broker.shares = 34.0
    bench.decide(NEXT)
    bench.settle(NEXT)
    rescale_source(bench, 2)
    bench.broker.shares = 68.0
    bench.data.edit(VIX, THIRD, close=31.0)
    document = bench.decide(THIRD).document

    assert ("SELL", 66, ["vix"]) == (document["action"], document["shares"], document["exit_reasons"])
    assert [True] == ["the book holds 66 shares, the broker 68" in words for words, _ in bench.notices("mismatch")[-1:]]


def test_shares_left_to_the_owner_when_the_broker_had_split_them_stay_as_he_named_them(bench: Bench):
    """10 of his own beside 66, typed while the book still held 33."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = 76.0
    bench.decide(NEXT)
    before = bench.desk.shares()
    bench.store.leave(10.0, bench.clock.now())
    outcome = bench.decide(NEXT, before_close=18)

    assert (33, 66, 10.0, None) == (
        before,
        bench.desk.shares(),
        bench.store.shares_left(),
        outcome.document["blocked_by"],
    )


def test_a_split_in_doubt_stands_out_however_long_nothing_was_settled(bench: Bench):
    """Three weeks later no bar of the new scale has joined those of the old one."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    for session in calendar().sessions(NEXT, date(2024, 11, 27)):
        with pytest.raises(MarketDataError, match="the broker holds 33 shares"):
            bench.settle(session)
    bench.broker.shares = 66.0
    bench.settle(date(2024, 11, 27))

    assert [(66, 74.0)] == [row[:2] for row in position(bench)]


def test_a_split_in_doubt_stands_out_however_often_decisions_saw_other_prices_than_the_close(bench: Bench):
    """A sale is refused four times while the broker has not booked the split; the auction's price is always another."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.on_submit = "reject"
    frame = bench.data.frames["MTUM"]
    doubtful = calendar().sessions(NEXT, date(2024, 11, 12))
    for session in doubtful:
        bench.data.edit(VIX, session, close=31.0)
        bench.decide(session)
        bench.data.edit("MTUM", session, close=float(frame.loc[str(session), "close"]) * 1.01)
    with pytest.raises(MarketDataError, match=r"closes are 0\.5 times the stored ones, but the broker holds 33 shares"):
        bench.settle(doubtful[-1])
    bench.broker.shares = 66.0
    bench.settle(doubtful[-1])

    assert ([(2.0,)], 66) == (bench.sql("SELECT ratio FROM split"), bench.desk.shares())


def test_what_a_split_made_beside_a_sale_of_as_many_shares_is_still_held(bench: Bench):
    """The broker books two for one a day late: 33 new shares were sold for the 33 old ones, and 33 are left."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", 33, 73.1, 1.0)
    bench.broker.shares = 33.0
    evening = bench.settle(NEXT)
    held = position(bench)
    document = bench.decide(THIRD).document

    assert (True, [(33, 74.0)]) == (evening.is_settled, [row[:2] for row in held])
    assert ("SELL", 33, ["exit_pending"]) == (document["action"], document["shares"], document["exit_reasons"])
    assert [] == upkeep.check(bench.path)


@pytest.mark.parametrize(("held", "follows"), [(67.0, True), (64.0, True), (74.0, False), (40.0, False)])
def test_a_few_shares_traded_past_the_program_since_hide_no_split(bench: Bench, held: float, follows: bool):
    """Closes of a half, and twice the shares but for a few: what is still unlike the book is told."""
    bench.buy(SESSION)
    rescale_source(bench, 2)
    bench.broker.shares = held
    document = bench.decide(NEXT).document

    assert (66 if follows else 33, "HOLD") == (bench.desk.shares(), document["action"])
    assert [True] == [f"the broker {held:g}" in words for words, _ in bench.notices("mismatch")[-1:]]


def sell_and_split_overnight(bench: Bench, ratio: float, held: float) -> None:
    """33 shares on sale at NEXT, nothing asked that evening; by the next morning all is split, and so much is left."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.at_broker.clear()
    rescale_source(bench, ratio)
    bench.broker.shares = held


@pytest.mark.parametrize(("ratio", "held"), [(2.0, 26.0), (3.0, 33.0)])
def test_a_position_split_overnight_does_not_tell_what_a_sale_came_to(bench: Bench, ratio: float, held: float):
    """20 of 33 sold and 13 left, two for one: 26, as after a sale of 7. 22 sold, three for one: 33, as after none."""
    sell_and_split_overnight(bench, ratio, held)
    bench.data.edit(VIX, THIRD, close=31.0)
    outcome = bench.decide(THIRD)
    statuses = [status for (status,) in bench.sql("SELECT status FROM order_intent ORDER BY session")]
    told = [words for words, _ in bench.notices("mismatch") if "split" in words and "--resolve 2024-11-06" in words]

    assert (["filled", "unknown"], 5, 33, 1) == (statuses, outcome.exit_code, bench.desk.shares(), len(told))


def test_what_the_broker_counted_before_a_split_tells_what_a_sale_came_to(bench: Bench):
    """20 of 33 by its count of the evening, no execution; 26 in the morning are the 13 left, two for one."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    key = f"{KEY}/{NEXT}/SELL"
    bench.broker.execute(key, 20, 146.0, 1.0)
    bench.broker.at_broker[key] = replace(bench.broker.at_broker[key], status=OrderStatus.PARTLY_FILLED)
    bench.broker.executed.clear()
    bench.settle(NEXT)
    bench.broker.at_broker.clear()
    rescale_source(bench, 2)
    bench.broker.shares = 26.0
    bench.at(THIRD, 60)
    settle_all(bench.desk)

    assert ("partly_filled", [(26, 74.0)]) == (
        bench.sql("SELECT status FROM order_intent ORDER BY session")[-1][0],
        [row[:2] for row in position(bench)],
    )


def test_once_the_owner_says_what_a_sale_came_to_the_split_overnight_is_followed(bench: Bench):
    sell_and_split_overnight(bench, 2.0, 26.0)
    bench.at(THIRD, 60)
    with pytest.raises(MarketDataError, match="from before it is still unknown"):
        settle_step(bench.desk, NEXT)
    reconcile.resolve(bench.desk, NEXT, executed=20, by="owner")
    settle_all(bench.desk)

    assert [(26, 74.0)] == [row[:2] for row in position(bench)]


@pytest.mark.parametrize(("held", "sold"), [(0.0, 33), (13.0, 20)])
def test_shares_that_no_split_can_have_made_tell_beside_one_too(bench: Bench, held: float, sold: int):
    """None are none on either scale, and no whole share was split into 13: the broker is late with it."""
    sell_and_split_overnight(bench, 2.0, held)
    bench.at(THIRD, 60)
    with suppress(MarketDataError):
        settle_step(bench.desk, NEXT)

    assert ("SELL", sold) == bench.sql("SELECT side, shares FROM execution ORDER BY executed_at")[-1]


def test_closes_that_cannot_be_had_leave_it_open_what_a_sale_came_to_overnight(bench: Bench):
    """They might tell of a split; once they are there, the position tells."""
    sell_and_split_overnight(bench, 1.0, 13.0)
    bench.data.down = {"MTUM"}
    bench.decide(THIRD)
    waits = bench.sql("SELECT status FROM order_intent ORDER BY session")[1]
    bench.data.down.clear()
    bench.at(THIRD, 10)
    settle_all(bench.desk)
    then = bench.sql("SELECT status FROM order_intent ORDER BY session")[1]

    assert ("working", "partly_filled", 13) == (*waits, *then, bench.desk.shares())


@pytest.mark.parametrize(("ratio", "held"), [(2.0, 26.0), (3.0, 33.0)])
def test_nor_what_became_of_a_lost_order(bench: Bench, ratio: float, held: float):
    """It never was acknowledged: 33 moved by nothing is no proof that it never arrived."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    with bench.killed("behind the wire"):
        bench.decide(NEXT)
    bench.broker.at_broker.clear()
    rescale_source(bench, ratio)
    bench.broker.shares = held
    bench.decide(THIRD)

    assert "unknown" == bench.sql("SELECT status FROM order_intent ORDER BY session")[1][0]
