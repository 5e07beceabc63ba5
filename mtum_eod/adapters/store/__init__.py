"""The book in one SQLite file: `open_store` to write, `open_reader` to read without a trace, `upkeep` for the rest."""

from mtum_eod.adapters.simulated_order import SimulatedOrder
from mtum_eod.adapters.store.opening import open_reader, open_store
from mtum_eod.adapters.store.reading import SqlReader
from mtum_eod.adapters.store.simulated_orders import SimulatedOrders
from mtum_eod.adapters.store.sql_store import SqlStore

__all__ = ["SimulatedOrder", "SimulatedOrders", "SqlReader", "SqlStore", "open_reader", "open_store"]
