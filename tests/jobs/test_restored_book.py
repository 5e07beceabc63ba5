"""A book brought back from a backup knows nothing of what it did since: the broker is asked before sending."""

from pathlib import Path
from shutil import copyfile

from fakes import KEY, SESSION, Bench

from mtum_eod.core.trading import OrderStatus


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
