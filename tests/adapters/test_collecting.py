"""Executions collected piecemeal, repeatedly and before their commissions add up to the same book."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from book_by_hand import day, fill, intent, recording

from mtum_eod.adapters.store import SqlStore, open_store
from mtum_eod.core.ledger import Ledger, ledger
from mtum_eod.core.trading import Side, Step

# 20 bought in three prints, 15 of them sold in two: realised 12 x 10 + 3 x 9 - 1.5 of the entry's 2.00 - 1.65.
FILLS = [
    fill("01-03", Side.BUY, 8, 100.0, 0.8, 1),
    fill("01-03", Side.BUY, 7, 100.0, 0.7, 2),
    fill("01-03", Side.BUY, 5, 100.0, 0.5, 3),
    fill("01-08", Side.SELL, 12, 110.0, 1.32, 1),
    fill("01-08", Side.SELL, 3, 109.0, 0.33, 2),
]


@pytest.fixture
def store(tmp_path: Path):
    """A book with a purchase on 01-03 and a sale on 01-08, sent and not collected."""
    opened = open_store(tmp_path / "book.db")
    for text, side, shares in (("01-03", Side.BUY, 20), ("01-08", Side.SELL, 15)):
        run_id = opened.start_run(Step.DECIDE, day(text), FILLS[0].executed_at)
        opened.record(recording(run_id, text, intent=intent(text, side, shares)))
    yield opened
    opened.close()


def book(store: SqlStore) -> Ledger:
    return ledger(5000.0, store.fills())


def test_the_book_by_hand(store):
    """5,000 - 2,002 + 1,647 - 1.65 in cash; 5 left with 0.50 of the entry's cost."""
    store.add_fills(FILLS)
    found = book(store)

    assert (pytest.approx(143.85, abs=1e-9), pytest.approx(4643.35, abs=1e-9), 5) == (
        found.realised,
        found.cash,
        found.holding.shares,
    )


@pytest.mark.parametrize("cut", range(len(FILLS) + 1))
def test_collecting_in_two_halves_equals_collecting_at_once(store, cut):
    """Wherever the connection dropped."""
    store.add_fills(FILLS[:cut])
    store.add_fills(FILLS[cut:])

    assert (ledger(5000.0, FILLS), FILLS) == (book(store), store.fills())


@pytest.mark.parametrize("seed", range(6))
def test_collecting_again_and_again_changes_nothing(store, seed):
    """Overlapping answers, some before the commissions were known, the whole list at the end."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(5):
        part = sorted(chance.sample(FILLS, chance.randint(0, len(FILLS))), key=FILLS.index)
        store.add_fills([replace(one, commission_usd=chance.choice([one.commission_usd, None])) for one in part])
    store.add_fills(FILLS)
    store.add_fills([replace(one, commission_usd=None) for one in FILLS])

    assert (ledger(5000.0, FILLS), FILLS) == (book(store), store.fills())
