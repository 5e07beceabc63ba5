"""Statements composed with SQLAlchemy Core, compiled for SQLite once and then run by its driver.

SQLAlchemy takes some 60 microseconds to run a statement it has compiled before, SQLite itself a tenth of that. What
stays of its work is what its types do: to each value on the way in, and to each column on the way out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Delete, Insert, Select, TextClause, Update
from sqlalchemy.dialects import sqlite

DIALECT = sqlite.dialect()

Converter: TypeAlias = Callable[[Any], Any]
Values: TypeAlias = Mapping[str, Any]
Composed: TypeAlias = Select[Any] | Insert | Update | Delete | TextClause


def driver(db: Connection) -> sqlite3.Connection:
    """The driver's own connection behind `db`. Its errors are sqlite3's, not SQLAlchemy's."""
    return cast("sqlite3.Connection", db.connection.driver_connection)


class Statement:
    """A statement that is run again and again, each time with values by name.

    It has one text for each set of names it is run with: an INSERT names the columns it fills, an UPDATE sets some.
    """

    def __init__(self, composed: Composed) -> None:
        self._composed = composed
        self._texts: dict[tuple[str, ...], _Text] = {}  # filled when first run: a process runs few of all there are

    def rows(self, db: Connection, values: Values) -> list[tuple[Any, ...]]:
        """All rows of its answer."""
        text = self._text(values)
        rows = driver(db).execute(text.sql, text.bound(values)).fetchall()
        return [text.read(row) for row in rows] if text.readers else rows

    def run(self, db: Connection, values: Values) -> sqlite3.Cursor:
        """Write. The cursor tells how many rows it concerned, and the number of a new one."""
        text = self._text(values)
        return driver(db).execute(text.sql, text.bound(values))

    def run_each(self, db: Connection, rows: Sequence[Values]) -> None:
        """Write once for each row; all of them have the same names, and there is at least one."""
        text = self._text(rows[0])
        driver(db).executemany(text.sql, [text.bound(row) for row in rows])

    def _text(self, values: Values) -> _Text:
        names = tuple(values)
        if (text := self._texts.get(names)) is None:
            text = self._texts[names] = _Text(self._composed, names)
        return text


class _Text:
    """A statement as SQLite reads it, and what is done to values on their way in and out."""

    def __init__(self, composed: Composed, names: tuple[str, ...]) -> None:
        compiled = composed.compile(dialect=DIALECT, column_keys=names)
        self.sql = compiled.string
        self._places: list[tuple[str, Converter | None]] = []
        self._constants: dict[str, Any] = {}  # those the statement was composed with
        for name in compiled.positiontup or ():
            convert = compiled.binds[name].type.dialect_impl(DIALECT).bind_processor(DIALECT)
            if name in names:
                self._places.append((name, convert))
            else:
                value = compiled.params[name]
                self._constants[name] = convert(value) if convert else value
                self._places.append((name, None))
        columns = composed.selected_columns if isinstance(composed, Select) else ()
        converters = (column.type.dialect_impl(DIALECT).result_processor(DIALECT, None) for column in columns)
        self.readers = [(place, convert) for place, convert in enumerate(converters) if convert]

    def bound(self, values: Values) -> list[Any]:
        """What stands in each place of the text."""
        values = {**values, **self._constants}
        return [values[name] if convert is None else convert(values[name]) for name, convert in self._places]

    def read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row of the answer, its values as the columns' types have them."""
        values = list(row)
        for place, convert in self.readers:
            values[place] = convert(values[place])
        return tuple(values)
