"""Real money is traded only after the owner has said so once, with the account and the amount in their own typing."""

from __future__ import annotations

from mtum_eod.core.checks import Check
from mtum_eod.core.trading import Act, Mode, OwnerAct
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.desk import Desk, TradingDesk


def is_needed(desk: Desk) -> bool:
    """Whether this book would trade real money and its owner has not agreed to this account and amount yet."""
    if desk.book.mode is not Mode.LIVE:
        return False
    return all(act.act is not Act.GO_LIVE or act.words != _terms(desk) for act in desk.store.acts())


def require(desk: Desk) -> None:
    """Raise SettingsError where the owner's word on real money is still to come."""
    for check in look(desk):
        if not check.passed:
            raise SettingsError(check.words, hint=check.cure)


def look(desk: Desk) -> tuple[Check, ...]:
    """Whether the owner has agreed, as a link of the chain; none where no real money is traded."""
    if desk.book.mode is not Mode.LIVE:
        return ()
    if not is_needed(desk):
        return (Check(name="real money", passed=True, words=f"agreed to trade {_terms(desk)}"),)
    cure = "type `mtum-eod run` at a terminal once: it asks for the account and the amount"
    words = f"mode = live, and nobody has agreed yet to trade {_terms(desk)}"
    return (Check(name="real money", passed=False, words=words, cure=cure, exit_code=SettingsError.exit_code),)


def give(desk: TradingDesk, *, account: str, amount_usd: float, by: str) -> None:
    """Write down that the owner agreed. Raises SettingsError where what they typed is not what the settings say."""
    if account != desk.book.account or amount_usd != desk.capital:
        raise SettingsError(
            f"you typed {account} and {amount_usd:.2f} USD, the settings say {_terms(desk)}; nothing is traded",
            hint="look at ib.live_account and capital with `mtum-eod config show`",
        )
    at = desk.wall_clock.now()
    desk.store.add_act(OwnerAct(act=Act.GO_LIVE, session=None, at=at, by=by, words=_terms(desk)))


def _terms(desk: Desk) -> str:
    return f"account {desk.book.account} with {desk.capital:.2f} USD"
