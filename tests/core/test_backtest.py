"""The rules over a history: trades by hand in each fill model, and the same trades that live decisions make."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, time
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtum_eod.core import backtest as core_backtest
from mtum_eod.core.backtest import BacktestResult, FillModel, OpenPosition, Tape, Trade, backtest, last_known
from mtum_eod.core.decision import decide
from mtum_eod.core.evidence import Evidence, Funds, Gate, Indicators, PendingExit
from mtum_eod.core.indicators import atr, rsi, sma
from mtum_eod.core.ledger import ledger
from mtum_eod.core.parameters import Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.strategy import EntryRule, ExitReason
from mtum_eod.core.trading import Action, Fill, Position, Side

DEFAULTS = Parameters()
CAPITAL = 5000.0

# The first nine weekdays of 2024 that are sessions.
SESSIONS = [date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10, 11, 12)]


def tape(closes: list[float], **columns: list[float]) -> Tape:
    """All four entry rules hold at any close above 90.00, the ATR is 2.50; opens are the closes unless given."""
    count = len(closes)
    values: dict[str, Any] = {
        "open": closes,
        "volume": [2e6] * count,
        "ma_50": [90.0] * count,
        "rsi": [60.0] * count,
        "atr": [2.5] * count,
        "volume_ma_20": [1e6] * count,
        "vix": [18.0] * count,
    }
    arrays = {name: np.array(column) for name, column in (values | columns | {"close": closes}).items()}
    return Tape(sessions=SESSIONS[:count], **arrays)


def usd(amount: float) -> Any:
    return pytest.approx(amount, abs=1e-6)


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_a_history_by_hand():
    """Entry, profit taken, entry, crash, an entry refused after a leap, and a position still open.

    01-02  buy 49 at 100.00 (5,000 / 101.101 = 49.5), cost 4.90; target 110.00
    01-03  105.00: 5,000 + 245 - 4.90
    01-04  sell 49 at 110.00, cost 5.39: 490 - 10.29 = 479.71; no entry in the session of an exit
    01-05  buy 44 at 111.00 (5,000, the cap, / 112.222 = 44.6), cost 4.884
    01-08  sell 44 at 85.00, cost 3.74: -1,144 - 8.624 = -1,152.624; a move of 23 % holds no exit back
    01-09  100.00 is 17.6 % up: the entry is refused
    01-10  buy 42 at 101.00 (4,327.086 / 102.112 = 42.4), cost 4.242
    """
    result = backtest(tape([100.0, 105.0, 110.0, 111.0, 85.0, 100.0, 101.0]), DEFAULTS, CAPITAL, start=0)

    assert BacktestResult(
        sessions=SESSIONS[:7],
        equity=[usd(value) for value in (4995.1, 5240.1, 5479.71, 5474.826, 4327.086, 4327.086, 4322.844)],
        shares=[49, 49, 0, 44, 0, 0, 42],
        trades=(
            Trade(
                entry_session=SESSIONS[0],
                entry_price=100.0,
                shares=49,
                entry_atr=2.5,
                exit_session=SESSIONS[2],
                exit_price=110.0,
                exit_reasons=(ExitReason.ATR_PROFIT,),
                gross_pnl=usd(490.0),
                costs=usd(10.29),
                days=2,
                sessions=2,
            ),
            Trade(
                entry_session=SESSIONS[3],
                entry_price=111.0,
                shares=44,
                entry_atr=2.5,
                exit_session=SESSIONS[4],
                exit_price=85.0,
                exit_reasons=(ExitReason.TREND,),
                gross_pnl=usd(-1144.0),
                costs=usd(8.624),
                days=3,  # over a weekend
                sessions=1,
            ),
        ),
        open_position=OpenPosition(
            entry_session=SESSIONS[6], entry_price=101.0, shares=42, entry_atr=2.5, unrealised=usd(-4.242)
        ),
        blocked=((SESSIONS[5], Gate.PRICE_MOVE),),
        daily_losses=(SESSIONS[4],),
    ) == (result)


def test_a_trades_net_is_gross_less_costs_and_its_reason_the_first():
    result = backtest(tape([100.0, 85.0], vix=[18.0, 31.0]), DEFAULTS, CAPITAL, start=0)
    trade = result.trades[0]

    # 49 x -15 = -735; 4.90 + 4.165
    assert (usd(-744.065), ExitReason.TREND, (ExitReason.TREND, ExitReason.VIX)) == (
        trade.net_pnl,
        trade.exit_reason,
        trade.exit_reasons,
    )


@pytest.mark.parametrize(("close", "expected"), [(90.0, None), (100.0, 49)])  # at the average itself nothing is bought
def test_it_starts_flat_and_earlier_bars_only_warm_up(close, expected):
    """A signal before the start buys nothing; the first decided session can."""
    result = backtest(tape([100.0, 100.0, close]), DEFAULTS, CAPITAL, start=2)

    assert ([SESSIONS[2]], 1, expected) == (
        result.sessions,
        len(result.equity),
        result.open_position and result.open_position.shares,
    )


def test_the_move_into_the_first_session_counts():
    """From 80.00 to 100.00 over the start."""
    result = backtest(tape([80.0, 100.0]), DEFAULTS, CAPITAL, start=1)

    assert ((SESSIONS[1], Gate.PRICE_MOVE),) == result.blocked


def test_a_book_too_small_for_a_share_is_blocked_by_size():
    assert ((SESSIONS[0], Gate.SIZE),) == backtest(tape([100.0]), DEFAULTS, 101.0, start=0).blocked


@pytest.mark.parametrize("column", ["volume", "volume_ma_20", "vix", "rsi", "ma_50"])
def test_without_an_input_nothing_is_bought(column):
    result = backtest(tape([100.0], **{column: [nan]}), DEFAULTS, CAPITAL, start=0)

    assert (None, ()) == (result.open_position, result.blocked)


def test_an_exit_without_a_price_stays_due():
    """The VIX spikes on a day without a close: sold at the next one, for the reason decided then.

    Until then the position stands at its last known close: 5,000 - 4.90.
    """
    prices = [100.0, nan, 101.0]
    result = backtest(tape(prices, vix=[18.0, 31.0, 18.0]), DEFAULTS, CAPITAL, start=0)

    assert ((ExitReason.VIX,), SESSIONS[2], 101.0) == (
        result.trades[0].exit_reasons,
        result.trades[0].exit_session,
        result.trades[0].exit_price,
    )
    assert [usd(4995.1), usd(4995.1)] == result.equity[:2]
    assert [49, 49, 0] == result.shares  # all entry rules hold again, and nothing is bought in the session of an exit


@pytest.mark.parametrize(("limit", "expected"), [(240.0, 1), (239.0, 1), (241.0, 0)])
def test_a_daily_loss_of_exactly_the_limit_is_counted(limit, expected):
    """48 shares at 100.00 without costs lose 5.00 each; by default nothing is sold for it."""
    risk = RiskParameters(transaction_cost=0.0, price_buffer_pct=0.0, max_position_size=4800.0, max_daily_loss=limit)
    result = backtest(tape([100.0, 95.0]), Parameters(risk=risk), CAPITAL, start=0)

    assert (expected, [48, 48]) == (len(result.daily_losses), result.shares)


SELLS_AT_245 = Parameters(risk=RiskParameters(max_daily_loss=245.0, daily_loss_exit=True))
"""What 49 shares lose in a session that falls by 5.00."""


def test_a_daily_loss_sells_where_the_owner_wants_it():
    """Since the last close, not since the entry; entries go on, since a backtest latches nothing.

    01-02  buy 49 at 100.00, cost 4.90; target 110.00
    01-03  104.00: 5,000 + 196 - 4.90
    01-04  99.00: 49 x 5.00 lost since the last close; sold, cost 4.851: -49 - 9.751 = -58.751; no entry this session
    01-05  buy 49 at 99.00 (4,941.249 / 100.09 = 49.4), cost 4.851
    01-08  85.00: the trend breaks first, the loss is named after it: -686 - 9.016 = -695.016
    """
    result = backtest(tape([100.0, 104.0, 99.0, 99.0, 85.0]), SELLS_AT_245, CAPITAL, start=0)

    assert [
        (SESSIONS[0], 49, SESSIONS[2], 99.0, (ExitReason.DAILY_LOSS,), usd(-58.751)),
        (SESSIONS[3], 49, SESSIONS[4], 85.0, (ExitReason.TREND, ExitReason.DAILY_LOSS), usd(-695.016)),
    ] == [(t.entry_session, t.shares, t.exit_session, t.exit_price, t.exit_reasons, t.net_pnl) for t in result.trades]
    assert [usd(value) for value in (4995.1, 5191.1, 4941.249, 4936.398, 4246.233)] == result.equity
    assert (SESSIONS[2], SESSIONS[4]) == result.daily_losses


@pytest.mark.parametrize(("second", "expected"), [(95.0, [49, 0]), (95.01, [49, 49])])
def test_a_cent_less_than_the_daily_loss_sells_nothing(second, expected):
    assert expected == backtest(tape([100.0, second]), SELLS_AT_245, CAPITAL, start=0).shares


def test_a_daily_loss_is_measured_from_the_last_known_close():
    """Nobody can say on a day without a close; on the next one 49 x 6.00 are lost since 100.00."""
    result = backtest(tape([100.0, nan, 94.0]), SELLS_AT_245, CAPITAL, start=0)

    assert ((ExitReason.DAILY_LOSS,), SESSIONS[2]) == (result.trades[0].exit_reasons, result.trades[0].exit_session)


def test_a_daily_loss_seen_before_the_close_is_measured_from_the_last_final_close():
    """Seen at 95.00 after a close of 100.00, where 97.00 was seen; sold at that session's close."""
    final, seen = tape([100.0, 102.0]), tape([97.0, 95.0])
    trade = backtest(final, SELLS_AT_245, CAPITAL, start=0, decided_on=seen).trades[0]

    assert ((ExitReason.DAILY_LOSS,), 102.0) == (trade.exit_reasons, trade.exit_price)


@pytest.mark.parametrize(("close", "expected"), [(97.0, 111.0), (97.1, None)])
def test_on_the_day_of_a_purchase_the_loss_is_its_own(close, expected):
    """Bought at the open, 48 at 102.00 for 4.896: at 97.00 that is 244.896, at 97.10 it is 240.096. Limit 244.

    The book was flat at the last close, so the fall from there, 3.00, is not what it lost.
    """
    p = Parameters(risk=RiskParameters(max_daily_loss=244.0, daily_loss_exit=True))
    history = tape([100.0, close, close], open=[99.0, 102.0, 111.0])
    result = backtest(history, p, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert expected == (result.trades[0].exit_price if result.trades else None)


def test_the_first_reason_of_an_exit_stands_until_it_is_filled():
    """Decided for the VIX without a price to sell at; the trend that breaks meanwhile is not why."""
    result = backtest(tape([100.0, nan, 85.0], vix=[18.0, 31.0, 18.0]), DEFAULTS, CAPITAL, start=0)

    assert ((ExitReason.VIX,), 85.0) == (result.trades[0].exit_reasons, result.trades[0].exit_price)


def test_a_share_may_cost_less_than_a_dollar():
    """Bought at 0.80 (5,000 / 0.808808 = 6,181.9) and sold at 0.60."""
    cents = tape([0.8, 0.6], ma_50=[0.7, 0.7])
    at_close, next_open = (
        backtest(cents, DEFAULTS, CAPITAL, start=0, fill=fill) for fill in (FillModel.CLOSE, FillModel.NEXT_OPEN)
    )
    trade = at_close.trades[0]

    assert (6181, 0.8, 0.6) == (trade.shares, trade.entry_price, trade.exit_price)
    assert (6181, 0.6) == (next_open.open_position.shares, next_open.open_position.entry_price)


@pytest.mark.parametrize(("limit", "expected"), [(25.0, 1), (24.9, 0)])
def test_a_move_of_exactly_the_limit_is_bought(limit, expected):
    """From 80.00 to 100.00 is 25 % in binary too."""
    p = Parameters(risk=RiskParameters(max_price_move_pct=limit))
    result = backtest(tape([80.0, 100.0]), p, CAPITAL, start=1)

    assert expected == sum(shares > 0 for shares in result.shares)


SPOILT = {
    EntryRule.TREND_BULLISH: {"ma_50": [100.0]},
    EntryRule.VIX_STABLE: {"vix": [25.0]},
    EntryRule.RSI_BULLISH: {"rsi": [50.0]},
    EntryRule.VOLUME_CONFIRM: {"volume": [1e6]},
}


def test_without_a_price_nothing_is_bought_whatever_is_left_out():
    """The trend is not asked, all else holds, and there is no close to size an entry on."""
    result = backtest(tape([nan, 100.0]), DEFAULTS, CAPITAL, start=0, left_out=EntryRule.TREND_BULLISH)

    assert [0, 49] == result.shares


@pytest.mark.parametrize("left_out", EntryRule)
@pytest.mark.parametrize("spoilt", EntryRule)
def test_a_rule_left_out_is_the_only_one_not_asked(left_out, spoilt):
    """One rule does not hold: bought where it is the one left out, and nowhere else."""
    result = backtest(tape([100.0], **SPOILT[spoilt]), DEFAULTS, CAPITAL, start=0, left_out=left_out)

    assert (left_out is spoilt) == (result.open_position is not None)


# -- other fills ------------------------------------------------------------------------------------------------------


def test_slippage_makes_each_side_worse():
    """1 % of it: bought at 101.00, so the target is 111.00; sold at 112.00 less 1 %, 110.88; 49 x 9.88 = 484.12."""
    trade = backtest(tape([100.0, 112.0]), DEFAULTS, CAPITAL, start=0, slippage_pct=1.0).trades[0]

    assert (usd(101.0), usd(110.88), usd(484.12), usd(4.949 + 5.43312)) == (
        trade.entry_price,
        trade.exit_price,
        trade.gross_pnl,
        trade.costs,
    )


def test_next_open_fills_a_day_later_and_never_on_credit():
    """Decided on 100.00 for 49 shares, opened at 102.00: 5,000 / (102 x 1.001) = 48.97, so 48.

    Target 112.00, closed there on 01-04, sold at the open of 01-05, 111.00: 48 x 9 = 432; 4.896 + 5.328.
    """
    history = tape([100.0, 103.0, 112.0, 80.0], open=[99.0, 102.0, 104.0, 111.0])
    result = backtest(history, DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert (
        Trade(
            entry_session=SESSIONS[1],
            entry_price=102.0,
            shares=48,
            entry_atr=2.5,
            exit_session=SESSIONS[3],
            exit_price=111.0,
            exit_reasons=(ExitReason.ATR_PROFIT,),
            gross_pnl=usd(432.0),
            costs=usd(10.224),
            days=2,
            sessions=2,
        ),
    ) == result.trades
    assert [0, 48, 48, 0] == result.shares


def test_a_later_fill_pays_its_slippage_and_spends_no_more_than_there_is():
    """49 bought at 101.00 (1 % over 100.00), sold at 119.00 less 1 %: 49 x 16.81 = 823.69, less 4.949 + 5.77269.

    Decided at 105.00 for 47 (5,000 / 106.156), opened at 130.00: 5,812.97 / (131.30 x 1.001) = 44.2.
    """
    closes, opens = [100.0, 119.0, 105.0, 131.0], [100.0, 100.0, 119.0, 130.0]
    history = tape(closes, open=opens)
    result = backtest(history, DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN, slippage_pct=1.0)

    assert (49, usd(101.0), usd(117.81), usd(823.69 - 4.949 - 5.77269)) == (
        result.trades[0].shares,
        result.trades[0].entry_price,
        result.trades[0].exit_price,
        result.trades[0].net_pnl,
    )
    assert (44, usd(131.3)) == (result.open_position.shares, result.open_position.entry_price)


def test_next_close_fills_at_the_close_of_the_day_after():
    """Decided on 100.00, filled at 100.50, still the 49 shares asked for."""
    history = tape([100.0, 100.5], open=[99.0, 104.0])
    result = backtest(history, DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_CLOSE)

    assert (49, 100.5, SESSIONS[1]) == (
        result.open_position.shares,
        result.open_position.entry_price,
        result.open_position.entry_session,
    )


def test_the_atr_of_an_entry_is_its_decisions():
    """2.50 when decided, 9.00 when filled."""
    result = backtest(tape([100.0, 100.5], atr=[2.5, 9.0]), DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert 2.5 == result.open_position.entry_atr


def test_an_order_of_the_last_session_stays_unfilled():
    result = backtest(tape([100.0]), DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert ([CAPITAL], None, ()) == (result.equity, result.open_position, result.trades)


def test_an_order_without_a_price_to_fill_at_waits_for_one():
    """No open on 01-03: filled at the open of 01-04, and not decided a second time between."""
    history = tape([100.0, 101.0, 102.0], open=[100.0, nan, 101.5])
    result = backtest(history, DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert ([0, 0, 49], 101.5) == (result.shares, result.open_position.entry_price)


def test_a_gap_beyond_all_the_money_buys_nothing():
    """Opened at 6,000.00; the leap back is no entry either."""
    history = tape([100.0, 90.0, 90.0], open=[100.0, 6000.0, 90.0])
    result = backtest(history, DEFAULTS, CAPITAL, start=0, fill=FillModel.NEXT_OPEN)

    assert ([0, 0, 0], None) == (result.shares, result.open_position)


def test_the_fill_models_are_named_as_typed():
    assert ["close", "next-open", "next-close"] == list(FillModel)


# -- against the live decision ----------------------------------------------------------------------------------------


def random_tape(seed: int, length: int = 700) -> Tape:
    """A walk with calm and nervous stretches, so that every rule speaks."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    opens, highs, lows, closes, volumes, vixes = [], [], [], [], [], []
    close, vix = 100.0, 17.0
    for _ in range(length):
        vix = max(10.0, vix + 0.08 * (18 - vix) + chance.gauss(0, 1.6))
        opened = close * (1 + chance.gauss(0, 0.003))
        close = opened * (1 + chance.gauss(0.0006, 0.0006 * vix))
        opens.append(opened)
        highs.append(max(opened, close) * 1.003)
        lows.append(min(opened, close) * 0.997)
        closes.append(close)
        volumes.append(float(chance.randint(500_000, 1_500_000)))
        vixes.append(vix)
    h, low, c, v = (np.array(values) for values in (highs, lows, closes, volumes))
    first = date(2015, 1, 1).toordinal()
    return Tape(
        sessions=[date.fromordinal(first + day) for day in range(length)],
        open=np.array(opens),
        close=c,
        volume=v,
        ma_50=sma(c, 50),
        rsi=rsi(c, 14),
        atr=atr(h, low, c, 14),
        volume_ma_20=sma(v, 20),
        vix=np.array(vixes),
    )


def lived(
    tape: Tape, p: Parameters, start: int, capital: float = CAPITAL
) -> tuple[list[tuple[Any, ...]], list[float], list[tuple[date, Gate]]]:
    """The same history decided on every session as a live run does, filled at the close: orders, equity, gates.

    An exit that no price can be had for stays due, for the reasons that it was decided for.
    """
    fills: list[Fill] = []
    orders: list[tuple[Any, ...]] = []
    equity: list[float] = []
    blocked: list[tuple[date, Gate]] = []
    marked = last_known(tape.close).tolist()
    entry_atr, due = nan, ()
    for i in range(start, len(tape.sessions)):
        session, close = tape.sessions[i], tape.close.item(i)
        book = ledger(capital, fills)
        held = book.holding
        position = held and Position(
            shares=held.shares,
            entry_price=held.entry_price,
            entry_session=held.entry_session,
            entry_atr=entry_atr,
            entry_commission_usd=held.entry_commission_usd,
        )
        indicators = Indicators(
            close=close,
            ma_50=tape.ma_50.item(i),
            rsi=tape.rsi.item(i),
            atr=tape.atr.item(i),
            volume=tape.volume.item(i),
            volume_ma_20=tape.volume_ma_20.item(i),
            vix=tape.vix.item(i),
            previous_close=tape.close.item(i - 1),
        )
        evidence = Evidence(
            session=session,
            as_of=datetime.combine(session, time(21), tzinfo=UTC),
            indicators=indicators,
            position=position,
            funds=Funds(
                sizing_equity=book.sizing_equity,
                cash=book.cash,
                settled_cash=book.cash,
                last_final_equity=book.equity(marked[i - 1]),
            ),
            broker_shares=held.shares if held else 0,
            pending_exit=PendingExit(since=session, words="due") if due else None,
        )
        decision = decide(evidence, p)
        if decision.action is Action.BUY and decision.blocked_by:
            blocked.append((session, decision.blocked_by))
        due = due or decision.exit_reasons
        if decision.shares:
            orders.append((session, str(decision.action), decision.shares, due))
            entry_atr, due = tape.atr.item(i) if decision.action is Action.BUY else nan, ()
            fills.append(
                Fill(
                    execution_id=str(i),
                    reference="by hand",
                    session=session,
                    executed_at=evidence.as_of,
                    side=Side(decision.action),
                    shares=decision.shares,
                    price_usd=close,
                    commission_usd=p.risk.transaction_cost * decision.shares * close,
                )
            )
        equity.append(ledger(capital, fills).equity(marked[i]))
    return orders, equity, blocked


def orders_of(result: BacktestResult) -> list[tuple[Any, ...]]:
    """A backtest's orders as `lived` tells them."""
    orders: list[tuple[Any, ...]] = []
    for trade in result.trades:
        orders.append((trade.entry_session, "BUY", trade.shares, ()))
        orders.append((trade.exit_session, "SELL", trade.shares, trade.exit_reasons))
    if result.open_position:
        orders.append((result.open_position.entry_session, "BUY", result.open_position.shares, ()))
    return orders


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("daily_loss", [False, True])
def test_a_backtest_makes_the_trades_that_live_decisions_make(seed, stop, daily_loss):
    """Sessions, shares, reasons and each day's equity, over 400 sessions of a random walk."""
    p = Parameters(
        strategy=StrategyParameters(stop_loss_enabled=stop, stop_loss_pct=3.0),
        risk=RiskParameters(max_daily_loss=60.0, daily_loss_exit=daily_loss),
    )
    history = random_tape(seed)
    result = backtest(history, p, CAPITAL, start=300)
    orders, equity, _ = lived(history, p, 300)

    assert len(orders) > 4
    assert daily_loss == any(ExitReason.DAILY_LOSS in reasons for *_, reasons in orders)
    assert orders == orders_of(result)
    assert equity == pytest.approx(result.equity, abs=1e-6)


def mostly(usual: float, *others: float) -> st.SearchStrategy[float]:
    """The usual number in half of the cases, else one of the others or one that is not known."""
    return st.sampled_from([*[usual] * (len(others) + 1), *others, nan])


FAULTY_SESSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "open": mostly(100.0, 95.0, 120.0),
            "close": st.sampled_from([88.0, 90.0, 99.0, 100.0, 101.0, 105.0, 110.0, 120.0, nan]),
            "ma_50": mostly(89.0, 90.0, 100.0),
            "rsi": mostly(60.0, 29.0, 30.0, 50.0, 51.0),
            "atr": mostly(2.5, 0.25),
            "volume": mostly(2e6, 1e6, 1.5e6),
            "volume_ma_20": mostly(1e6, 1.5e6),
            "vix": mostly(18.0, 24.0, 25.0, 30.0, 31.0),
        }
    ),
    min_size=20,
    max_size=60,
)
"""Prices on and around every threshold, leaps, and numbers that are not known, in any order."""

PARAMETERS = st.builds(
    lambda stop, move, size, loss, sells: Parameters(
        strategy=StrategyParameters(stop_loss_enabled=stop, stop_loss_pct=10.0),
        risk=RiskParameters(
            max_price_move_pct=move, max_position_size=size, max_daily_loss=loss, daily_loss_exit=sells
        ),
    ),
    st.booleans(),
    st.sampled_from([5.0, 10.0, 15.0, 50.0]),
    st.sampled_from([100.0, 1000.0, 5000.0]),
    st.sampled_from([50.0, 500.0]),
    st.booleans(),
)


def tape_of(rows: list[dict[str, float]]) -> Tape:
    first = date(2015, 1, 1).toordinal()
    days = [date.fromordinal(first + day) for day in range(len(rows))]
    return Tape(sessions=days, **{name: np.array([row[name] for row in rows]) for name in rows[0]})


@settings(max_examples=150, deadline=None)
@given(FAULTY_SESSIONS, PARAMETERS, st.sampled_from([90.0, 150.0, 5000.0]))
def test_a_live_decision_on_every_session_of_a_faulty_history_makes_the_same_trades(rows, p, capital):
    """What the backtest jumps over, `decide` holds through: the same orders, the same gates, the same equity."""
    history = tape_of(rows)
    result = backtest(history, p, capital, start=1)
    orders, equity, blocked = lived(history, p, 1, capital)

    assert (orders, blocked) == (orders_of(result), list(result.blocked))
    assert equity == pytest.approx(result.equity, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    FAULTY_SESSIONS,
    PARAMETERS,
    st.sampled_from(FillModel),
    st.sampled_from([None, *EntryRule]),
    st.sampled_from([0.0, 0.5]),
    st.integers(0, 10),
)
def test_jumping_from_event_to_event_changes_nothing(rows, p, fill, left_out, slippage, shift):
    """Every figure to its last digit as where the rules are asked session by session, in each fill model.

    shift: decided on the numbers of that many sessions before, so that decisions and fills see different ones;
    a close that is not known is known to neither.
    """
    history, seen = tape_of(rows), tape_of([*rows[-shift:], *rows[:-shift]])
    seen = replace(seen, close=np.where(np.isnan(history.close), nan, last_known(seen.close)))

    def played() -> str:
        return repr(
            backtest(history, p, CAPITAL, start=1, fill=fill, slippage_pct=slippage, left_out=left_out, decided_on=seen)
        )

    jumped = played()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_backtest._Run, "next_event", lambda _, i: i)
        walked = played()

    assert walked == jumped


@pytest.mark.parametrize("fill", FillModel)
def test_cutting_off_the_future_changes_no_past_trade(fill: FillModel):
    """At each of the 400 sessions decided of 700."""
    whole = random_tape(1)
    after = backtest(whole, DEFAULTS, CAPITAL, start=300, fill=fill)

    assert len(after.trades) > 5
    for end in range(301, 701):
        cut = Tape(**{name: getattr(whole, name)[:end] for name in Tape.__dataclass_fields__})
        before = backtest(cut, DEFAULTS, CAPITAL, start=300, fill=fill)
        assert (before.equity, before.shares) == (after.equity[: end - 300], after.shares[: end - 300])
        assert before.trades == after.trades[: len(before.trades)]


# -- one entry rule left out ------------------------------------------------------------------------------------------


def test_a_rule_left_out_is_not_asked():
    """The VIX is above its threshold throughout: no trade with the rule, an entry at once without it."""
    stormy = tape([100.0, 101.0, 102.0], vix=[26.0, 26.0, 26.0])

    asked = backtest(stormy, DEFAULTS, CAPITAL, start=0)
    unasked = backtest(stormy, DEFAULTS, CAPITAL, start=0, left_out=EntryRule.VIX_STABLE)

    assert [0, 0, 0] == asked.shares
    assert [49, 49, 49] == unasked.shares
