"""What a report computes, by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np
import pytest

from mtum_eod.core.backtest import BacktestResult, OpenPosition, Tape, Trade
from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.review import (
    ALREADY_HOLDING,
    Eve,
    Missed,
    MonthReturn,
    NearMiss,
    ReasonLine,
    Review,
    RunLine,
    SignalDay,
    StepLine,
    Subject,
    accuracy,
    backtest_signals,
    cost_impact,
    curves,
    dividends,
    months,
    review,
    steps,
    time_weighted,
)
from mtum_eod.core.strategy import EntryRule, ExitReason
from mtum_eod.core.trading import Split

# The first nine weekdays of 2024 that are sessions.
SESSIONS = [date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10, 11, 12)]
CLOSES = [100.0, 104.0, 110.0, 108.0, 99.0, 100.0, 101.0, 102.0, 103.0]


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-12, nan_ok=True)


def tape(**columns: list[float]) -> Tape:
    """All four entry rules hold while the close is above 90.00."""
    values: dict[str, Any] = {
        "open": CLOSES,
        "close": CLOSES,
        "volume": [2e6] * 9,
        "ma_50": [90.0] * 9,
        "rsi": [60.0] * 9,
        "atr": [2.5] * 9,
        "volume_ma_20": [1e6] * 9,
        "vix": [18.0] * 9,
    }
    arrays = {name: np.array(column) for name, column in (values | columns).items()}
    return Tape(sessions=SESSIONS, **arrays)


# 40 shares at 100.00 on 01-02, cost 4.00, target 110.00; sold on 01-04 at 110.00, cost 4.40: 400 - 8.40 = 391.60.
# 50 at 108.00 on 01-05, cost 5.40; sold on 01-08 at 99.00, cost 4.95: -450 - 10.35 = -460.35.
WON = Trade(
    entry_session=SESSIONS[0],
    entry_price=100.0,
    shares=40,
    entry_atr=2.5,
    exit_session=SESSIONS[2],
    exit_price=110.0,
    exit_reasons=(ExitReason.ATR_PROFIT,),
    gross_pnl=400.0,
    costs=8.4,
    days=2,
    sessions=2,
)
LOST = Trade(
    entry_session=SESSIONS[3],
    entry_price=108.0,
    shares=50,
    entry_atr=3.0,
    exit_session=SESSIONS[4],
    exit_price=99.0,
    exit_reasons=(ExitReason.TREND, ExitReason.VIX),
    gross_pnl=-450.0,
    costs=10.35,
    days=3,
    sessions=1,
)
EQUITY = [4996.0, 5156.0, 5391.6, 5386.2, 4931.25, 4931.25, 4931.25, 4931.25, 4931.25]
RESULT = BacktestResult(
    sessions=SESSIONS,
    equity=EQUITY,
    shares=[40, 40, 0, 50, 0, 0, 0, 0, 0],
    trades=(WON, LOST),
    open_position=None,
    blocked=(),
    daily_losses=(),
)


def subject(**changes: Any) -> Subject:
    values: dict[str, Any] = {
        "title": "Backtest",
        "period": "January",
        "symbol": "MTUM",
        "source": "arrays",
        "is_synthetic": False,
        "is_book": False,
        "result": RESULT,
        "capital": 5000.0,
        "values": EQUITY,
        "parameters": Parameters(),
        "tape": tape(),
        "dividends": None,
        "signals": [],
        "expectations": (),
        "monthly_costs": 0.0,
    }
    return Subject(**values | changes)


def reviewed(**changes: Any) -> Review:
    return review(subject(**changes))


def day(n: int, *, failing: tuple[EntryRule, ...] = (), **changes: Any) -> SignalDay:
    rules: dict[EntryRule, bool | None] = {rule: rule not in failing for rule in EntryRule}
    return SignalDay(session=SESSIONS[n], rules=rules, **({"is_flat": True} | changes))


# -- curves -----------------------------------------------------------------------------------------------------------


def test_buy_and_hold_begins_with_the_same_money_at_the_first_close():
    """5,000 USD at 100.00 are worth 5,150 at 103.00."""
    assert near([50 * close for close in CLOSES]) == reviewed().curves.hold


def test_a_drawdown_is_measured_from_the_highest_close_so_far():
    """5,391.60 is the high; 4,931.25 lies 8.54 % below it."""
    assert near(1 - 4931.25 / 5391.6) == reviewed().curves.drawdown[-1]


def test_dividends_are_worked_back_from_adjusted_closes():
    """0.50 paid on the third day: the vendor scales the two closes before by 1 - 0.50 / 101."""
    close = np.array([100.0, 101.0, 100.0, 102.0])
    adjusted = close * np.array([1 - 0.5 / 101, 1 - 0.5 / 101, 1.0, 1.0])

    assert {SESSIONS[2]: near(0.5)} == dividends(SESSIONS[:4], close, adjusted)


def test_rounded_adjusted_closes_make_no_dividends():
    """Yahoo's six decimals leave steps of a few millionths."""
    assert {} == dividends(SESSIONS[:2], np.array([50.919998, 51.24]), np.array([43.799534, 44.074787]))


def test_total_return_counts_what_was_paid_on_shares_held_the_day_before():
    """1.00 a share on 01-03, when 40 were held: 40 USD in cash. The holder's 50 shares get 50 USD at 104.00."""
    lines = curves(subject(dividends={SESSIONS[0]: 9.0, SESSIONS[1]: 1.0}))

    assert near([4996.0, 5196.0, 5431.6]) == (lines.equity_with_dividends or [])[:3]
    assert near([5000.0, 5250.0]) == (lines.hold_with_dividends or [])[:2]


def test_a_range_of_a_book_begins_for_both_at_the_close_before_it():
    """All 5,000 USD were in 50 shares at 100.00 on the eve, 01-02, and stayed there: the fund made the very same."""
    equity = [50 * close for close in CLOSES[1:]]
    held = replace(RESULT, sessions=SESSIONS[1:], equity=equity, shares=[50] * 8, trades=())
    found = reviewed(
        result=held, values=equity, is_book=True, eve=Eve(session=SESSIONS[0], shares=50), dividends={SESSIONS[1]: 1.0}
    )

    assert near(equity) == found.curves.hold
    assert near(found.curves.drawdown) == found.curves.hold_drawdown
    assert (near(0.03), near(1.03 ** (365.25 / 10) - 1)) == (found.benchmark.total_return, found.benchmark.cagr)
    assert found.metrics.curve == found.benchmark
    # paid on the range's first session to who held on its eve: 50 USD in cash, and 50 USD reinvested at 104.00
    assert near([equity[0] + 50, equity[-1] + 50]) == [found.curves.equity_with_dividends[at] for at in (0, -1)]
    assert near([5250.0, 5150 * 1.05 / 1.04]) == [found.curves.hold_with_dividends[at] for at in (0, -1)]


def test_a_fall_on_the_first_session_of_a_range_is_a_drawdown():
    """From 108.00 on the eve, 01-05, to 99.00."""
    result = replace(RESULT, sessions=SESSIONS[4:6], equity=[5000.0] * 2, shares=[0, 0], trades=())
    found = reviewed(result=result, values=[5000.0] * 2, is_book=True, eve=Eve(session=SESSIONS[3], shares=0))

    assert near(1 - 99 / 108) == found.benchmark.max_drawdown == found.curves.hold_drawdown[0]


def test_deposits_are_no_return():
    """1,000 to 1,100, then 500 come in and the book stands at 1,650: 10 % and 1,150 / 1,100, not 65 %."""
    assert near([1100.0, 1150.0]) == time_weighted([1100.0, 1650.0], [0.0, 500.0], 1000.0)


def test_a_month_runs_from_the_last_value_before_it():
    """January ends at 110, February at 99."""
    days = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1)]

    assert (
        MonthReturn(year=2024, month=1, ratio=near(0.1)),
        MonthReturn(year=2024, month=2, ratio=near(-0.1)),
    ) == months(days, [105.0, 110.0, 99.0], 100.0)


# -- trades -----------------------------------------------------------------------------------------------------------


def test_profit_and_loss_stand_under_the_primary_reason():
    """391.60 by target; -460.35 by trend, the VIX beside it notwithstanding."""
    assert (
        ReasonLine(reason="atr_profit", trades=1, wins=1, net_pnl=near(391.6), average_pnl=near(391.6)),
        ReasonLine(reason="trend", trades=1, wins=0, net_pnl=near(-460.35), average_pnl=near(-460.35)),
    ) == reviewed().by_reason


def test_a_path_runs_from_entry_to_target():
    """Entry 100, target 110: 0, 0.4 and 1. Entry 108, target 120: 0 and -0.75."""
    assert [near([0.0, 0.4, 1.0]), near([0.0, -0.75])] == [path.progress for path in reviewed().paths]


def test_a_path_runs_to_the_target_of_its_own_decision():
    """The first was decided with a multiple of 8: 100 to 120, so 104 and 110 are 0.2 and 0.5 of the way."""
    found = reviewed(multiples={SESSIONS[0]: 8.0})

    assert [near([0.0, 0.2, 0.5]), near([0.0, -0.75])] == [path.progress for path in found.paths]


def test_trades_closed_before_a_split_are_drawn_on_its_scale():
    """Two new shares for one on 01-11: the tape's closes are halved, both trades have long been closed."""
    halved = [close / 2 for close in CLOSES]
    split = Split(session=SESSIONS[7], ratio=2.0)
    found = reviewed(tape=tape(close=halved), splits=[split], dividends={SESSIONS[1]: 0.5})

    assert [near([0.0, 0.4, 1.0]), near([0.0, -0.75])] == [path.progress for path in found.paths]
    assert [(50.0, 55.0), (54.0, 49.5)] == [(t.entry_price, t.exit_price) for t in found.subject.trades_on_scale]
    assert near(reviewed().idle.cash_share_held) == found.idle.cash_share_held
    assert near([4996.0, 5196.0]) == (found.curves.equity_with_dividends or [])[:2]  # 40 shares were 80 of today


def test_a_trade_held_through_a_split_is_on_its_scale_already():
    """The book rescaled it on 01-05, while it was held; a split at the exit's own session came before the exit."""
    on_scale = reviewed(splits=[Split(session=session, ratio=2.0) for session in (SESSIONS[3], SESSIONS[4])])

    assert (LOST.entry_price, LOST.exit_price) == (
        on_scale.subject.trades_on_scale[1].entry_price,
        on_scale.subject.trades_on_scale[1].exit_price,
    )


def test_an_open_position_has_a_path_and_one_without_a_target_has_none():
    """Held from 01-11 at 102.00 with an ATR of 2.00; then one whose ATR nobody knows."""
    held = OpenPosition(entry_session=SESSIONS[7], entry_price=102.0, shares=40, entry_atr=2.0, unrealised=35.9)
    known = reviewed(result=replace(RESULT, trades=(), open_position=held))
    unknown = reviewed(result=replace(RESULT, trades=(), open_position=replace(held, entry_atr=nan)))

    assert [near([0.0, 0.125])] == [path.progress for path in known.paths]
    assert () == unknown.paths


def test_five_a_month_are_1_2_percent_of_5000_a_year():
    """And over the 11 days from 01-02 to 01-12, 5 x 12 x 11 / 365.25 = 1.81 USD."""
    impact = cost_impact(RESULT.trades, 5000.0, 5.0, SESSIONS)

    assert near(0.012) == impact.monthly_costs_a_year
    assert near((-50.0, 18.75, -68.75)) == (impact.gross_pnl, impact.costs, impact.net_pnl)
    assert near(-68.75 - 5 * 12 * 11 / 365.25) == impact.net_after_all


def test_the_cap_shuts_out_what_stands_above_it():
    """A cap of 4,500: 500 shut out at the first entry, 891.60 at the second, 431.25 now."""
    capped = reviewed(parameters=Parameters(risk=RiskParameters(max_position_size=4500.0)))

    assert near((695.8, 431.25)) == (capped.idle.above_cap, capped.idle.above_cap_now)
    # in cash: 1 - 4,000 / 4,996, 1 - 4,160 / 5,156 and 1 - 5,400 / 5,386.20, which entry costs make negative
    assert near((3 - 4000 / 4996 - 4160 / 5156 - 5400 / 5386.2) / 3) == capped.idle.cash_share_held


# -- filters and signals ----------------------------------------------------------------------------------------------


def test_each_filter_is_left_out_once():
    """The VIX stands at 26: only without its rule is anything bought."""
    stormy = reviewed(tape=tape(vix=[26.0] * 9))

    assert [(None, 0.0), *((rule, 1.0 if rule is EntryRule.VIX_STABLE else 0.0) for rule in EntryRule)] == [
        (effect.left_out, float(effect.metrics.exposure > 0)) for effect in stormy.filters
    ]


def test_a_range_before_the_indicators_has_no_filter_effects():
    assert () == reviewed(tape=tape(ma_50=[nan] * 9)).filters


def test_missed_signals_are_those_while_flat_with_a_reason():
    """One blocked, one traded, one while shares were held."""
    days = [day(0), day(1, why_not=ALREADY_HOLDING, is_flat=False), day(2, why_not="cash: convert first")]
    found = reviewed(signals=days)

    assert (Missed(session=SESSIONS[2], why="cash: convert first", forward=near(nan)),) == found.missed
    assert 1 == found.signals_while_holding


def test_three_of_four_while_flat_is_a_near_miss():
    """An unknown rule counts as one that does not hold; two failing rules are no near miss."""
    one, two = (EntryRule.VOLUME_CONFIRM,), (EntryRule.VOLUME_CONFIRM, EntryRule.VIX_STABLE)
    unknown = {rule: None if rule is EntryRule.RSI_BULLISH else True for rule in EntryRule}
    days = [
        day(0, failing=one),
        day(1, failing=two),
        day(2, failing=one, is_flat=False),
        SignalDay(session=SESSIONS[3], rules=unknown, is_flat=True),
    ]

    assert (
        NearMiss(session=SESSIONS[0], rule=EntryRule.VOLUME_CONFIRM, forward=near(nan)),
        NearMiss(session=SESSIONS[3], rule=EntryRule.RSI_BULLISH, forward=near(nan)),
    ) == reviewed(signals=days).near_misses


def test_accuracy_looks_from_close_to_close():
    """After 01-02: 104 / 100; after 01-05: 99 / 108. Six of the eight sessions that have a next one rose into it."""
    [one, five, *_] = accuracy(tape(), [SESSIONS[0], SESSIONS[3]], SESSIONS)
    each = [after / before - 1 for before, after in pairwise(CLOSES)]

    assert (1, 2, near((0.04 + 99 / 108 - 1) / 2), 0.5) == (one.horizon, one.signals, one.mean, one.positive)
    assert near((sum(each) / 8, 6 / 8)) == (one.mean_any, one.positive_any)
    assert (5, 2, near((0.0 + 103 / 108 - 1) / 2)) == (five.horizon, five.signals, five.mean)


def test_a_signal_whose_future_is_not_known_yet_is_left_out():
    """01-10 has two sessions after it: its signal counts one session later, and not five, ten or twenty."""
    assert [1, 0, 0, 0] == [line.signals for line in accuracy(tape(), [SESSIONS[6]], SESSIONS)]


def test_a_backtest_tells_of_each_session_whether_it_was_flat():
    """Held overnight on 01-03, 01-04 and 01-08; the signal of 01-04, still held, led to no trade."""
    days = backtest_signals(tape(), RESULT, Parameters())

    assert [True, False, False, True, False, True, True, True, True] == [each.is_flat for each in days]
    assert ALREADY_HOLDING == days[2].why_not


# -- drift and stability ----------------------------------------------------------------------------------------------


def test_drift_counts_what_was_compared():
    """Two compared, one of them different; one not compared yet."""
    days = [
        day(0, action="BUY", drift_action="HOLD"),
        day(1, action="HOLD", drift_action="HOLD"),
        day(2, action="HOLD"),
    ]
    drift = reviewed(is_book=True, signals=days).drift

    assert drift is not None
    assert (2, (days[0],)) == (drift.compared, drift.differing)


def test_a_run_that_never_ended_has_failed():
    """Three runs of 1 s, 3 s and without an end; 2 retries."""
    began = datetime(2024, 1, 2, 20, 40, tzinfo=UTC)
    lines = [
        RunLine(step="decide", session=None, started_at=began, took=took, exit_code=code, retries=retries, error="")
        for took, code, retries in ((timedelta(seconds=1), 0, 0), (timedelta(seconds=3), 0, 2), (None, None, 0))
    ]

    assert (StepLine(step="decide", runs=3, failed=1, retries=2, median_seconds=2.0, longest_seconds=3.0),) == steps(
        lines
    )
