"""How many shares: by hand, at each cap, and what holds for any numbers."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core.evidence import Gate
from mtum_eod.core.parameters import RiskParameters
from mtum_eod.core.sizing import Size, share_cost, size_entry

DEFAULTS = RiskParameters()
BARE = RiskParameters(price_buffer_pct=0.0, transaction_cost=0.0)


def test_a_share_costs_its_price_the_buffer_and_the_cost_of_trading():
    """200.00, 1 % more at the close, 0.1 % of that to trade: 200 x 1.01 x 1.001."""
    assert 202.202 == pytest.approx(share_cost(200.0, DEFAULTS), abs=1e-9)


@pytest.mark.parametrize(
    ("price", "equity", "cash", "risk", "expected"),
    [
        (200.0, 5000.0, 5000.0, {}, 24),  # 5000 / 202.202 = 24.73
        (204.1, 5000.0, 5000.0, {}, 24),  # 5000 / 206.347 = 24.23
        (206.1, 5000.0, 5000.0, {}, 23),  # 5000 / 208.369 = 23.996
        (200.0, 6000.0, 6000.0, {}, 24),  # a profit does not lift the cap in USD
        (200.0, 4000.0, 5000.0, {}, 19),  # 4000 / 202.202 = 19.78
        (200.0, 5000.0, 1500.0, {}, 7),  # 1500 / 202.202 = 7.42
        (200.0, 5000.0, 5000.0, {"max_position_pct": 50.0}, 12),  # 2500 / 202.202 = 12.36
        (200.0, 5000.0, 5000.0, {"max_position_size": 1000.0}, 4),  # 1000 / 202.202 = 4.95
        (200.0, 9000.0, 9000.0, {"max_position_size": 9000.0}, 44),  # 9000 / 202.202 = 44.51
        (200.0, 5000.0, 5000.0, {"price_buffer_pct": 0.0, "transaction_cost": 0.0}, 25),  # 5000 / 200
        (200.0, 5000.0, 5000.0, {"price_buffer_pct": 5.0}, 23),  # 5000 / 210.21 = 23.79
        (200.0, 5000.0, 5000.0, {"transaction_cost": 0.05}, 23),  # 5000 / 212.1 = 23.57
    ],
)
def test_shares_by_hand(price, equity, cash, risk, expected):
    """Each row: price, equity, cash, settings, whole shares; the division beside it."""
    assert Size(shares=expected) == size_entry(price, equity, cash, RiskParameters(**risk))


@pytest.mark.parametrize(
    ("equity", "cash", "expected"),
    [
        (100.0, 100.0, Size(shares=1)),  # exactly one share, at 100 without buffer and cost
        (100.0, 99.99, Size(shares=0, blocked_by=Gate.CASH)),
        (99.99, 100.0, Size(shares=0, blocked_by=Gate.SIZE)),
        (99.99, 99.99, Size(shares=0, blocked_by=Gate.SIZE)),  # too small a book: no cash would help
        (5000.0, nan, Size(shares=0, blocked_by=Gate.CASH)),  # the broker did not say: not enough
        (50.0, nan, Size(shares=0, blocked_by=Gate.SIZE)),
        (5000.0, -20.0, Size(shares=0, blocked_by=Gate.CASH)),
        (-300.0, 5000.0, Size(shares=0, blocked_by=Gate.SIZE)),
        (0.0, 0.0, Size(shares=0, blocked_by=Gate.SIZE)),
    ],
)
def test_less_than_one_share_is_cash_where_only_cash_is_short(equity, cash, expected):
    """Each row: equity, cash, and what becomes of an entry at 100.00."""
    assert expected == size_entry(100.0, equity, cash, BARE)


USD = st.floats(min_value=-1000, max_value=100_000)
PRICES = st.floats(min_value=0.01, max_value=2000)
RISKS = st.builds(
    RiskParameters,
    max_position_pct=st.floats(min_value=1, max_value=100),
    max_position_size=st.floats(min_value=1, max_value=100_000),
    transaction_cost=st.floats(min_value=0, max_value=0.05),
    price_buffer_pct=st.floats(min_value=0, max_value=20),
)
ROUNDING = 1 + 1e-12


@given(PRICES, USD, USD | st.just(nan), RISKS)
def test_at_the_worst_price_no_cap_and_not_the_cash_is_passed(price, equity, cash, risk):
    """Shares times what one may cost; and never a short sale."""
    size = size_entry(price, equity, cash, risk)
    worst = size.shares * price * (1 + risk.price_buffer_pct / 100) * (1 + risk.transaction_cost)

    assert 0 <= size.shares
    if size.shares:
        assert worst <= risk.max_position_size * ROUNDING
        assert worst <= equity * risk.max_position_pct / 100 * ROUNDING
        assert worst <= cash * ROUNDING


@given(PRICES, USD, USD | st.just(nan), RISKS)
def test_there_are_shares_or_a_gate_that_says_why_not(price, equity, cash, risk):
    """Never both, never neither."""
    size = size_entry(price, equity, cash, risk)

    assert (size.shares == 0) == (size.blocked_by is not None)


@given(PRICES, USD, USD, RISKS)
def test_one_share_more_would_pass_a_cap(price, equity, cash, risk):
    """No money is left idle that could have bought a share."""
    size = size_entry(price, equity, cash, risk)
    room = min(equity * risk.max_position_pct / 100, risk.max_position_size, cash)

    assert (size.shares + 1) * share_cost(price, risk) * ROUNDING > room


@given(PRICES, PRICES, USD, USD, USD, USD, RISKS)
def test_more_money_never_buys_less_and_a_higher_price_never_more(price, other_price, equity, more, cash, extra, risk):
    """Monotone in equity and cash, and the other way round in the price."""
    low, high = sorted((price, other_price))
    before = size_entry(low, equity, cash, risk).shares

    assert before <= size_entry(low, equity + abs(more), cash + abs(extra), risk).shares
    assert before >= size_entry(high, equity, cash, risk).shares
