"""The client library, imported here and nowhere else: ib_async where it is installed, else ib_insync.

Both install the package `eventkit`, each its own, so one environment holds one of them. That package asks for an event
loop as it is imported: import this module where one is running, as `line` does, and it works in any thread.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from mtum_eod.core.market import VIX

try:
    vendor: Any = import_module("ib_async")
except ImportError:
    vendor = import_module("ib_insync")

IB = vendor.IB
ExecutionFilter = vendor.ExecutionFilter
Index = vendor.Index
Order = vendor.Order
RequestError = vendor.wrapper.RequestError
Stock = vendor.Stock

# What the library has to say goes to our log, where there is one, and never to a terminal by itself.
logging.getLogger(vendor.__name__).addHandler(logging.NullHandler())


def contract_of(symbol: str, primary_exchange: str = "") -> Any:
    """The contract of a US stock or fund, routed by SMART, or of the VIX."""
    if symbol == VIX:
        return Index(VIX, "CBOE", "USD")
    return Stock(symbol, "SMART", "USD", primaryExchange=primary_exchange)
