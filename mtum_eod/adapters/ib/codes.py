"""IB's message codes: what they mean here, and what an owner can do about them.

Source: IBKR's list of message codes; unknown ones are normal, so their own words are always shown too.
"""

from __future__ import annotations

CLIENT_ID_IN_USE = 326
ID_USED = 103
HELD = 399
NOT_PLACED_UNTIL = "will not be placed"

NO_ANSWER = frozenset({320, 321, 10141})
"""Errors in place of an answer that may come without the id of the request, or that ib_async takes for a warning."""

LINK_LOST = frozenset({1100, 2110})
LINK_BACK = frozenset({1101, 1102})
FARM_BROKEN = {2103: 2104, 2105: 2106, 2157: 2158}
"""A farm is broken; and the code that says it is back."""

ADVICE = frozenset({HELD, 404, 10167, 10349, *LINK_LOST, *LINK_BACK, *range(2100, 2200)})
"""Said beside an order that lives on."""

NO_REFUSAL = frozenset({ID_USED, 105, 161, 202, 502, 504, 1300, 10147, 10148})
"""Said of an order they leave open whether there is one; all others refuse it, where no list has it."""

MEANINGS = {
    103: "this order id has been used",
    113: "close orders must be for the day",
    162: "no history",
    200: "no such contract",
    201: "rejected",
    202: "cancelled",
    320: "the request could not be read",
    321: "the request was refused",
    326: "client id in use",
    354: "no subscription to these market data",
    366: "no such history request",
    420: "no permission for these market data",
    460: "no permission to trade",
    1100: "the Gateway has lost IB's servers",
    1101: "the Gateway is back at IB's servers, subscriptions lost",
    1102: "the Gateway is back at IB's servers",
    2103: "a market data farm is down",
    2105: "a history farm is down",
    2110: "the Gateway has lost IB's servers and reconnects by itself",
    2157: "a contract data farm is down",
    10141: "the paper account's disclaimer is not accepted",
    10089: "no live subscription for the API, delayed data are there",
    10147: "no such order to cancel",
    10148: "the order can no longer be cancelled",
    10167: "no live subscription, delayed data are shown",
    10168: "no subscription, and delayed data are not switched on",
    10197: "another login uses these market data",
    10349: "an order preset set the time in force to DAY",
}

CURES = {
    162: "look at the market data subscriptions of this account, and try again in a minute",
    200: "compare symbol and ib.primary_exchange with the contract at IB",
    321: "untick Read-Only API in the Gateway (Configure > Settings > API)",
    354: "subscribe to the market data in IB's Client Portal, or set data.source to yahoo",
    420: "subscribe to the market data in IB's Client Portal, or set data.source to yahoo",
    460: "ask for the trading permission in IB's Client Portal",
    10141: "log in to the paper account in TWS or Client Portal once, and accept its disclaimer",
    10089: "subscribe to the market data in IB's Client Portal, or set data.source to yahoo",
    10168: "subscribe to the market data in IB's Client Portal, or set data.source to yahoo",
    10197: "log the same user out of TWS, mobile app and web",
}


def in_words(code: int, text: str) -> str:
    """The broker's words in one line, with the code and its meaning: "no history (162: ... query returned no data)"."""
    said = f"{code}: {' '.join(text.split())}"
    return f"{MEANINGS[code]} ({said})" if code in MEANINGS else said


def cure(code: int) -> str:
    """What an owner can do about it."""
    return CURES.get(code, "look at the Gateway's own message, and at IB's list of message codes")


def is_notice(code: int) -> bool:
    """Whether it says that all is well."""
    return code in FARM_BROKEN.values() or code in (2107, 2108, 2119)
