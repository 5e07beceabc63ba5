"""Which account may be traded, of those that a login at the Gateway manages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mtum_eod.core.trading import Mode
from mtum_eod.errors import SettingsError

ChooseAccount = Callable[[Sequence[str]], str]

PAPER = "D"
"""What the names of paper accounts begin with: DU1234567, DF1234567."""


def chooser(mode: Mode, wanted: str) -> ChooseAccount:
    """What chooses the account: the wanted one, or the only one where none is named; never one of the other kind.

    wanted: the account of the book, or `ib.live_account`; empty while neither is known, which is paper's first run.
    In mode simulated nothing is traded there, so any login will do for its market data.
    """

    def choose(managed: Sequence[str]) -> str:
        if mode is Mode.SIMULATED:
            return managed[0]
        named = ", ".join(managed)
        account = wanted or managed[0]
        if account not in managed:
            raise SettingsError(
                f"the Gateway is logged in to {named}, this book trades {account}",
                hint=f"log in to {account}, or name another database (MTUM_EOD_DATABASE__URL)",
            )
        if not wanted and len(managed) > 1:
            raise SettingsError(
                f"the Gateway's login manages {len(managed)} accounts ({named}), one expected",
                hint="log in as a user of the one account to trade",
            )
        is_paper = account.startswith(PAPER)
        if is_paper is not (mode is Mode.PAPER):
            kind = "a paper account" if is_paper else "no paper account: it is real money"
            port = "ib.paper_port" if mode is Mode.PAPER else "ib.live_port"
            raise SettingsError(
                f"mode is {mode}, but {account} is {kind}",
                hint=f"log in at the Gateway to the other kind of account, and compare {port} with its port",
            )
        return account

    return choose
