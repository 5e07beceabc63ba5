"""What can go wrong, named by what happens next.

MtumEodError              exit code 1      carries .hint, the next thing to do
├── SettingsError         2                settings, usage, a date, another account or book
├── MarketDataError       3                symbol, session, value
├── BrokerUnavailable     4                reading again is safe
├── OrderStateUnknown     5                a person looks first; nothing more is sent
├── AlreadyRunning        6                who holds the lock, since when
└── StoreError            7                database or disk: file, what failed, how to restore
    └── OlderSchema       7                the next run that writes brings it up to date, behind a backup
"""

from __future__ import annotations


class MtumEodError(Exception):
    """An unexpected end, told in words: what was found and needed, and in `hint` what to do."""

    code = "unexpected"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(MtumEodError):
    """Settings, usage or a date that cannot be acted on; nothing was done."""

    code = "settings"
    exit_code = 2


class MarketDataError(MtumEodError):
    """Market data that cannot be decided on: absent, impossible or too short."""

    code = "market_data"
    exit_code = 3


class BrokerUnavailable(MtumEodError):
    """The broker did not answer; reading again is safe, repeating an order is not."""

    code = "broker_unavailable"
    exit_code = 4


class OrderStateUnknown(MtumEodError):
    """Whether an order is alive cannot be told; a person looks first, nothing more is sent."""

    code = "order_state_unknown"
    exit_code = 5


class AlreadyRunning(MtumEodError):
    """Another run holds the lock of this database."""

    code = "already_running"
    exit_code = 6


class StoreError(MtumEodError):
    """The database or its disk refused; the step stops and nothing half-written remains."""

    code = "store"
    exit_code = 7


class OlderSchema(StoreError):
    """The database was written by an older version; the next run that writes brings it up to date, behind a backup."""
