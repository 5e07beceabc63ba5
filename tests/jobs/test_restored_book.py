"""A book brought back from a backup knows nothing of what it did since: the broker is asked before sending."""

from pathlib import Path
from shutil import copyfile

import pytest
from fakes import KEY, SESSION, Bench

from mtum_eod.core.trading import OrderStatus
from mtum_eod.errors import BrokerUnavailable


def test_an_order_that_the_restored_book_has_forgotten_is_adopted(tmp_path: Path) -> None:
    """The order is out, this morning's backup comes back, and the run decides again: one order, and it is ours."""
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    bench = Bench(before)
    bench.store.close()
    copyfile(before, after)
    bench = Bench(before)
    bench.decide()
    restored = Bench(after, data=bench.data, broker=bench.broker)
    restored.decide(before_close=18)
    order = restored.store.order(SESSION)

    assert [f"{KEY}/{SESSION}/BUY"] == [intent.reference for intent in bench.broker.received]
    assert order
    assert OrderStatus.WORKING is order.status


def test_nothing_is_sent_before_the_broker_has_said_what_it_had(tmp_path: Path) -> None:
    """The list of orders does not come: the intent waits, and the next run, which gets the list, sends it once."""
    bench = Bench(tmp_path / "book.db")
    bench.broker.silent = {"orders"}
    with pytest.raises(BrokerUnavailable, match="whether the broker has had an order"):
        bench.decide()
    before = len(bench.broker.received)
    bench.broker.silent = set()
    bench.decide(before_close=18)

    assert (0, 1) == (before, len(bench.broker.received))
