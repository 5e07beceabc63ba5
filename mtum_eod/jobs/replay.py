"""Deciding a session again: from what was recorded, or from final bars. Writes nothing, sends nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from math import nan
from typing import Any

from mtum_eod.core import snapshot
from mtum_eod.core.decision import decide
from mtum_eod.core.evidence import Decision, Evidence, Funds, Indicators, PendingExit, Window
from mtum_eod.core.market import VIX, Finding, FindingKind
from mtum_eod.core.parameters import Parameters, parameters_from
from mtum_eod.core.trading import Book, Halt, Position
from mtum_eod.jobs import market
from mtum_eod.jobs.market import Reading, Sources
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.ports import BookReader, Calendar, RecordedSignal

ASSUMED_FLAT = "final bars, position assumed flat (no history)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """A position that a replay is asked to suppose."""

    shares: int
    price_usd: float
    entry_atr: float

    def position(self, entry_session: date) -> Position:
        """The position as rules see it."""
        return Position(
            shares=self.shares,
            entry_price=self.price_usd,
            entry_session=entry_session,
            entry_atr=self.entry_atr,
            # Where the owner only supposes, the cost of getting there is no loss of the day.
            entry_commission_usd=0.0,
        )


def replay(
    sources: Sources,
    book: Book,
    p: Parameters,
    session: date,
    as_of: datetime,
    *,
    assumed: Assumed | None = None,
    with_current_settings: bool = False,
) -> list[Outcome]:
    """Decide a session of the past again; two outcomes where a recorded one is asked for under `p` as well.

    A recorded session uses its recorded inputs, settings and position; any other final bars and an empty position,
    or the `assumed` one.
    """
    recorded = None if assumed else sources.store.signal(session)
    if recorded is None:
        held = assumed.position(sources.calendar.nearest(session)[0]) if assumed else None
        return [replay_fresh(sources, session, as_of, p, book, held)]
    outcomes = [replay_recorded(recorded, sources.store, sources.calendar, book)]
    if with_current_settings:
        current = replay_recorded(recorded, sources.store, sources.calendar, book, under=p)
        outcomes.append(replace(current, notes=("inputs and position as recorded that day, settings of today",)))
    return outcomes


def as_lived(outcome: Outcome, store: BookReader) -> Outcome:
    """A recorded session's replay with the order that it had in its day, as that stands now; any other as it is."""
    session = outcome.evidence.session
    if store.signal(session) is None:
        return outcome
    return replace(outcome, document=snapshot.with_order(outcome.document, store.order(session)) | {"dry_run": False})


def inputs_of(evidence: Evidence, reading: Reading) -> dict[str, Any]:
    """Everything a replay needs besides bars and settings, ready for JSON."""
    circumstances: dict[str, Any] = snapshot.plain(evidence)
    del circumstances["indicators"], circumstances["findings"]
    volumes = reading.volumes
    return circumstances | {
        "volumes": {day.isoformat(): volume for day, volume in volumes.items()} if volumes is not None else None,
        "findings": snapshot.plain(evidence.findings),
        "sources": {bars.symbol: bars.source for bars in reading.bars},
    }


def evidence_of(inputs: dict[str, Any], indicators: Indicators) -> Evidence:
    """The evidence that `inputs_of` wrote down, with indicators measured again."""
    position, halt, pending = inputs["position"], inputs["halt"], inputs["pending_exit"]
    return Evidence(
        session=date.fromisoformat(inputs["session"]),
        as_of=datetime.fromisoformat(inputs["as_of"]),
        indicators=indicators,
        position=position and Position(**_floats(position) | {"entry_session": _day(position["entry_session"])}),
        funds=Funds(**_floats(inputs["funds"])),
        findings=tuple(
            Finding(**f | {"kind": FindingKind(f["kind"]), "session": f["session"] and _day(f["session"])})
            for f in inputs["findings"]
        ),
        window=Window(inputs["window"]),
        halt=halt and Halt(**halt | {"halted_at": datetime.fromisoformat(halt["halted_at"])}),
        daily_loss_latched=inputs["daily_loss_latched"],
        pending_exit=pending and PendingExit(**pending | {"since": _day(pending["since"])}),
        order_unknown=inputs["order_unknown"],
        mismatch=inputs["mismatch"],
        broker_shares=inputs["broker_shares"],
        has_order=inputs["has_order"],
        approved_shares=inputs.get("approved_shares"),  # absent from records older than the question
    )


def replay_recorded(
    recorded: RecordedSignal,
    store: BookReader,
    calendar: Calendar,
    book: Book,
    *,
    under: Parameters | None = None,
    on_final_bars: bool = False,
) -> Outcome:
    """Decide a recorded session again, on the inputs and the position of that day.

    under: other parameters than that day's. on_final_bars: on the bars as they stand now, not as they were seen.
    """
    p = under or parameters_from(recorded.settings)
    inputs, volumes = recorded.inputs, recorded.inputs["volumes"]
    window = calendar.window(recorded.session, p.strategy.history_bars)
    as_of = datetime.fromisoformat(inputs["as_of"])
    revision = None if on_final_bars else recorded.bars_revision
    prices, vix = (
        market.from_store(symbol, store.bars(symbol, window[0], window[-1], revision), as_of)
        for symbol in (book.symbol, VIX)
    )
    same_time = None if on_final_bars or volumes is None else {_day(day): volume for day, volume in volumes.items()}
    indicators = market.measure(prices, vix, window, p.strategy, same_time).indicators
    if not on_final_bars and recorded.document["close"] is None:
        indicators = replace(indicators, close=nan)  # a bar was there, but its price too old to use
    return outcome_of(
        evidence_of(inputs, indicators),
        p,
        book,
        source=recorded.document["source"],
        notes=("inputs, settings and position as recorded that day",),
    )


def replay_fresh(
    sources: Sources, session: date, as_of: datetime, p: Parameters, book: Book, position: Position | None
) -> Outcome:
    """Decide a session that was never recorded: final bars, and a position assumed flat or given by the caller."""
    reading = market.read(sources, session, as_of, p.strategy)
    equity = book.capital_usd
    evidence = Evidence(
        session=session,
        as_of=min(as_of, sources.calendar.close(session)),
        indicators=reading.indicators,
        position=position,
        funds=Funds(sizing_equity=equity, cash=equity, settled_cash=equity, last_final_equity=nan),
        findings=reading.findings,
        broker_shares=position.shares if position else 0,
    )
    note = "final bars, position as given" if position else ASSUMED_FLAT
    return outcome_of(evidence, p, book, source=sources.prices.name, notes=(note,))


def outcome_of(evidence: Evidence, p: Parameters, book: Book, *, source: str, notes: tuple[str, ...] = ()) -> Outcome:
    """The decision on `evidence`, as a dry run shows it."""
    return as_dry_run(evidence, decide(evidence, p), p, book, source=source, notes=notes)


def as_dry_run(
    evidence: Evidence, decision: Decision, p: Parameters, book: Book, *, source: str, notes: tuple[str, ...] = ()
) -> Outcome:
    """A decision that nothing was written or sent for."""
    document = snapshot.document(
        evidence, decision, p, mode=book.mode, source=source, is_synthetic=book.is_synthetic, is_dry_run=True
    )
    return Outcome(
        symbol=book.symbol, document=document, evidence=evidence, decision=decision, parameters=p, notes=notes
    )


def _floats(values: dict[str, Any]) -> dict[str, Any]:
    """Null is NaN again."""
    return {key: nan if value is None else value for key, value in values.items()}


def _day(text: str) -> date:
    return date.fromisoformat(text)
