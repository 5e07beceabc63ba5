"""The messages by name: which field stands where, at which version of the protocol.

A layout is a line of words. A number is sent as it stands; `name` is a value that must be given; `name=x` has a
default; `*name` is a list spliced in. `name@159` exists from version 159 on, `name<164` below 164.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tws_server.wire import text

UNSET = "1.7976931348623157E308"
"""How the terminal writes a number that is not set."""

_CONTRACT = "conId symbol secType lastTradeDate= strike=0 right={right} multiplier="
_STOCK = _CONTRACT.format(right="") + " exchange= currency localSymbol tradingClass"
_ORDERED = _CONTRACT.format(right="?") + " exchange currency localSymbol tradingClass"  # seen in real traffic

_EXTRAS = (
    f"minTradeQty=@170 minCompeteSize=@170 competeAgainstBestOffset={UNSET}@170 midOffsetAtWhole=@170"
    " midOffsetAtHalf=@170"
)

REPLIES = {
    "serverVersion": "version connectionTime",
    "tickPrice": "1 6 reqId tickType price size=0 attrMask=0",
    "tickSize": "2 6 reqId tickType size",
    "orderStatus": "3 orderId status filled remaining avgFillPrice permId parentId=0 lastFillPrice=0 clientId whyHeld="
    " mktCapPrice=0",
    "error": "4 2 reqId code text advancedOrderRejectJson=@166",
    "openOrder": f"5 orderId {_ORDERED} action totalQuantity orderType lmtPrice=0 auxPrice=0 tif ocaGroup= account"
    " openClose= origin=0 orderRef clientId permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime="
    " sharesAllocation faGroup= faMethod= faPercentage= faProfile=<177 modelCode= goodTillDate= rule80A= percentOffset="
    " settlingFirm= shortSaleSlot=0 designatedLocation= exemptCode=-1 auctionStrategy=0 startingPrice= stockRefPrice="
    " delta= stockRangeLower= stockRangeUpper= displaySize=0 blockOrder=0 sweepToFill=0 allOrNone=0 minQty= ocaType=3"
    f" eTradeOnly=0 firmQuoteOnly=0 nbboPriceCap={UNSET} parentId=0 triggerMethod=0 volatility= volatilityType=0"
    " deltaNeutralOrderType=None deltaNeutralAuxPrice=0"
    " 0 dnSettlingFirm= dnClearingAccount= dnClearingIntent= dnOpenClose=? 0 0 dnLocation="
    " continuousUpdate=0 referencePriceType=0 trailStopPrice= trailingPercent= basisPoints= basisPointsType="
    " comboLegsDescrip= 0 0 0 scaleInitLevelSize= scaleSubsLevelSize= scalePriceIncrement= hedgeType="
    " optOutSmartRouting=0 clearingAccount= clearingIntent=IB notHeld=0 0 algoStrategy= solicited=0 whatIf=0 status"
    f" initMarginBefore={UNSET} maintMarginBefore={UNSET} equityBefore={UNSET} initMarginChange={UNSET}"
    f" maintMarginChange={UNSET} equityChange={UNSET} initMarginAfter={UNSET} maintMarginAfter={UNSET}"
    f" equityAfter={UNSET} commission= minCommission= maxCommission= commissionCurrency= warningText="
    " randomizeSize=0 randomizePrice=0 0 adjustedOrderType=None triggerPrice= adjustedTrailStopPrice= lmtPriceOffset="
    " adjustedStopPrice= adjustedStopLimitPrice= adjustedTrailingAmount= adjustableTrailingUnit=0 softDollarName="
    " softDollarValue= softDollarDisplay= cashQty=0 dontUseAutoPriceForHedge=0 isOmsContainer=0"
    f" discretionaryUpToLimitPrice=0 usePriceMgmtAlgo=0 duration=@159 postToAts=@160 autoCancelParent=0@162 {_EXTRAS}",
    "updateAccountValue": "6 2 tag value currency account",
    "updatePortfolio": f"7 8 {_CONTRACT.format(right='0')} primaryExchange currency localSymbol tradingClass position"
    " marketPrice marketValue avgCost unrealizedPNL realizedPNL account",
    "updateAccountTime": "8 1 time",
    "nextValidId": "9 1 orderId",
    "contractDetails": "10 version=8<164 reqId symbol secType lastTradeDate= strike=0 right= exchange currency"
    " localSymbol marketName tradingClass conId minTick mdSizeMultiplier=100<164 multiplier= orderTypes validExchanges"
    " priceMagnifier=1 underConId=0 longName primaryExchange contractMonth= industry= category= subcategory="
    " timeZoneId tradingHours liquidHours evRule= evMultiplier=0 nSecIds *secIds aggGroup=1 underSymbol="
    " underSecType= marketRuleIds=26 realExpirationDate= stockType suggestedSizeIncrement163=100@163<164"
    " minSize=1@164 sizeIncrement=1@164 suggestedSizeIncrement=100@164",
    "execDetails": f"11 reqId orderId {_CONTRACT.format(right='')} exchange currency localSymbol tradingClass execId"
    " time account venue side shares price permId clientId liquidation=0 cumQty avgPrice orderRef evRule="
    " evMultiplier= modelCode= lastLiquidity=2",
    "managedAccounts": "15 1 accounts",
    "historicalData": "17 reqId start end nBars *bars",
    "tickGeneric": "45 6 reqId tickType value",
    "tickString": "46 6 reqId tickType value",
    "currentTime": "49 1 time",
    "contractDetailsEnd": "52 1 reqId",
    "openOrderEnd": "53 1",
    "accountDownloadEnd": "54 1 account",
    "execDetailsEnd": "55 1 reqId",
    "tickSnapshotEnd": "57 1 reqId",
    "marketDataType": "58 1 reqId type",
    "commissionReport": f"59 1 execId commission currency realizedPNL={UNSET} yield={UNSET} yieldRedemptionDate=",
    "position": f"61 3 account {_STOCK} position avgCost",
    "positionEnd": "62 1",
    "accountSummary": "63 1 reqId account tag value currency",
    "accountSummaryEnd": "64 1 reqId",
    "accountUpdateMulti": "73 1 reqId account modelCode= tag value currency",
    "accountUpdateMultiEnd": "74 1 reqId",
    "tickReqParams": "81 reqId minTick bboExchange snapshotPermissions",
    "completedOrder": f"101 {_ORDERED} action totalQuantity orderType lmtPrice=0 auxPrice=0 tif ocaGroup= account"
    " openClose= origin=0 orderRef permId outsideRth=0 hidden=0 discretionaryAmt=0 goodAfterTime= faGroup= faMethod="
    " faPercentage= faProfile=<177 modelCode= goodTillDate= rule80A= percentOffset= settlingFirm= shortSaleSlot=0"
    " designatedLocation= exemptCode=-1 startingPrice= stockRefPrice= delta= stockRangeLower= stockRangeUpper="
    " displaySize=0 sweepToFill=0 allOrNone=0 minQty= ocaType=3 triggerMethod=0 volatility= volatilityType=0"
    " deltaNeutralOrderType=None deltaNeutralAuxPrice=0 0 0 0 dnLocation= continuousUpdate=0 referencePriceType=0"
    " trailStopPrice= trailingPercent= comboLegsDescrip= 0 0 0 scaleInitLevelSize= scaleSubsLevelSize="
    " scalePriceIncrement= hedgeType= clearingAccount= clearingIntent=IB notHeld=0 0 algoStrategy= solicited=0 status"
    " randomizeSize=0 randomizePrice=0 0 adjustedTrailStopPrice= lmtPriceOffset= cashQty=0 dontUseAutoPriceForHedge=0"
    " isOmsContainer=0 autoCancelDate= filledQuantity refFuturesConId=2147483647 autoCancelParent=0"
    " shareholder=Not~an~insider~or~substantial~shareholder imbalanceOnly=0 routeMarketableToBbo=0"
    f" parentPermId=9223372036854775807 completedTime completedStatus {_EXTRAS}",
    "completedOrdersEnd": "102",
    "historicalSchedule": "106 reqId start end zone nSessions *sessions",
}
"""Every message the server sends. `~` stands for a blank inside a default."""

_ASKED = (
    "conId symbol secType lastTradeDate strike right multiplier exchange primaryExchange currency localSymbol"
    " tradingClass"
)

REQUESTS = {
    1: f"reqMktData - reqId {_ASKED} deltaNeutral genericTicks snapshot regulatory options",
    2: "cancelMktData - reqId",
    3: f"placeOrder orderId {_ASKED} secIdType secId action totalQuantity orderType lmtPrice auxPrice tif ocaGroup"
    " account openClose origin orderRef transmit parentId blockOrder sweepToFill displaySize triggerMethod outsideRth"
    " hidden - discretionaryAmt goodAfterTime goodTillDate" + 46 * " -" + " whatIf",
    4: "cancelOrder - orderId manualCancelTime",
    5: "reqOpenOrders -",
    6: "reqAccountUpdates - subscribe account",
    7: "reqExecutions - reqId clientId account time symbol secType exchange side",
    8: "reqIds - number",
    9: f"reqContractDetails - reqId {_ASKED} includeExpired secIdType secId issuerId",
    14: "setServerLogLevel - level",
    15: "reqAutoOpenOrders - bind",
    16: "reqAllOpenOrders -",
    17: "reqManagedAccts -",
    20: f"reqHistoricalData reqId {_ASKED} includeExpired endDateTime barSize duration useRTH whatToShow formatDate"
    " keepUpToDate chartOptions",
    25: "cancelHistoricalData - reqId",
    49: "reqCurrentTime -",
    58: "reqGlobalCancel -",
    59: "reqMarketDataType - type",
    61: "reqPositions -",
    62: "reqAccountSummary - reqId group tags",
    63: "cancelAccountSummary - reqId",
    64: "cancelPositions -",
    71: "startApi - clientId optCapab",
    76: "reqAccountUpdatesMulti - reqId account modelCode ledgerAndNLV",
    77: "cancelAccountUpdatesMulti - reqId",
    99: "reqCompletedOrders apiOnly",
}
"""Every request the server understands, by its number. `-` is a field nobody reads."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One message to a client, by name, with the values its layout asks for."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One message from a client, by name; values are the texts it sent."""

    client_id: int
    name: str
    values: Mapping[str, str]

    @property
    def id(self) -> int:
        """The id an error about this request carries; -1 where it has none."""
        return int(self.values.get("reqId") or self.values.get("orderId") or -1)


@dataclass(frozen=True, slots=True)
class _Field:
    key: str | None  # None for a number that stands
    default: str | None
    since: int
    below: int
    is_list: bool


_WORD = re.compile(r"(\*?)([A-Za-z]\w*|\d+)(=([^@<]*))?(@(\d+))?(<(\d+))?")


@cache
def _layout(name: str) -> list[_Field]:
    fields = []
    for word in REPLIES[name].split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{name}: {word!r} is no field of a layout")
        star, key, has_default, default, _, since, _, below = match.groups()
        stands = key.isdigit()
        value = key if stands else (default or "").replace("~", " ") if has_default else None
        fields.append(_Field(None if stands else key, value, int(since or 0), int(below or 999), bool(star)))
    return fields


def encode(reply: Reply, version: int) -> list[str]:
    """The fields of a reply at a version. Raises KeyError for a value that is missing or that nobody asked for."""
    layout = _layout(reply.name)
    unknown = set(reply.values) - {field.key for field in layout}
    if unknown:
        raise KeyError(f"{reply.name} has no {', '.join(sorted(unknown))}")
    fields: list[str] = []
    for field in layout:
        if not field.since <= version < field.below:
            continue
        if field.is_list:
            fields += map(text, reply.values[str(field.key)])
        elif field.key in reply.values or field.default is None:
            fields.append(text(reply.values[str(field.key)]))
        else:
            fields.append(field.default)
    return fields


def decode(client_id: int, fields: Sequence[str]) -> Request:
    """The request in these fields; one that is not known is named by its number and has no values."""
    name, *keys = REQUESTS.get(int(fields[0]), f"request{fields[0]}").split()
    values = {key: value for key, value in zip(keys, fields[1:], strict=False) if key != "-"}
    return Request(client_id, name, values)
