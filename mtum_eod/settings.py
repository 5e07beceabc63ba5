"""TOML, environment and command line as checked values, with the origin of each.

Later ones win: built-in defaults, one settings file, `MTUM_EOD_<SECTION>__<KEY>`, the command line. Everything that
is wrong is told at once, before anything else runs.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import Enum, StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from mtum_eod.core.events import Event
from mtum_eod.core.parameters import (
    MIN_HISTORY_BARS,
    SECTION_OF,
    WILDER_MEMORY,
    LateExit,
    Parameters,
    RiskParameters,
    ScheduleParameters,
    StrategyParameters,
    VolumeChoice,
)
from mtum_eod.core.trading import Mode, OrderType
from mtum_eod.errors import SettingsError

FILE_NAME = "settings.toml"
PREFIX = "MTUM_EOD_"
NOT_SETTINGS = {"MTUM_EOD_TEST_DATA", "MTUM_EOD_TEST_IB_ASYNC"}
"""Variables of the same prefix that speak to the tests."""

ENVIRONMENT = "environment"
COMMAND_LINE = "command line"
DEFAULT = "default"

LONGEST_SHOWN = 80
"""Characters of a refused value that are shown."""

ADDRESS = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*://)(?:[^"\\]|\\.)*')
"""An address up to the end of its JSON text: under a wrong key it may be a secret, a token in the host's place."""


# -- the values -------------------------------------------------------------------------------------------------------


class DataSource(StrEnum):
    """Where bars come from."""

    SAMPLE = "sample"
    CSV = "csv"
    YAHOO = "yahoo"
    IB = "ib"


class VixSource(StrEnum):
    """Where the VIX comes from."""

    SAME = "same"
    YAHOO = "yahoo"
    CSV = "csv"


class LogLevel(StrEnum):
    """The least of what is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def _known_zone(name: str) -> str:
    import pytz  # reading its list of zones takes some milliseconds, which the default need not pay

    if name not in pytz.all_timezones_set:
        raise ValueError(name)
    return name


# A text among the metadata is what a person reads as allowed; where there is none, `allowed` words the bounds.
Lax = Field(strict=False)  # a name where an enum belongs, a list where a tuple does
Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9.-]{1,12}$"), "1 to 12 capital letters, digits, dots and dashes"]
Percent = Annotated[float, Field(gt=0, le=100)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Port = Annotated[int, Field(ge=1, le=65535)]
Period = Annotated[int, Field(ge=2)]
MinutesBefore = Annotated[int, Field(gt=2, le=200)]  # 200: within the shortest session, which has 210
FolderPath = Annotated[str, Field(pattern=r"^[^\x00]+$"), "the path of a folder"]


class Section(BaseModel):
    """What all sections share: unknown keys and near misses are refused, values never change."""

    # defer_build: the validators of all sections are built once, in that of Settings
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class StrategySettings(Section):
    """Thresholds and periods of the rules."""

    ma_period: Period = Field(default=50, description="Sessions in the moving average of the close.")
    rsi_period: Period = Field(default=14, description="Sessions of Wilder's relative strength index.")
    atr_period: Period = Field(default=14, description="Sessions of Wilder's average true range.")
    volume_lookback: Period = Field(default=20, description="Sessions in the mean volume, the session itself included.")
    atr_multiplier: float = Field(
        default=4.0, gt=0, description="Profit is taken this many ATRs (of the entry) above the entry price."
    )
    vix_entry_threshold: float = Field(
        default=25.0, gt=0, description="Index points. Buy only with the VIX below this."
    )
    vix_exit_threshold: float = Field(default=30.0, gt=0, description="Index points. Sell with the VIX above this.")
    rsi_entry_threshold: float = Field(default=50.0, ge=0, le=100, description="Buy only with the RSI above this.")
    rsi_exit_threshold: float = Field(default=30.0, ge=0, le=100, description="Sell with the RSI below this.")
    history_bars: int = Field(
        default=400,
        ge=MIN_HISTORY_BARS,
        le=10_000,
        description="Sessions that every decision looks at, itself included; at least 25 times the longer of "
        "rsi_period and atr_period.",
    )
    volume_basis: Annotated[VolumeChoice, Lax] = Field(
        default=VolumeChoice.AUTO,
        description="auto compares like with like: before the close the volume up to the same time of day "
        "(same_time), afterwards whole sessions (session).",
    )
    stop_loss_enabled: bool = Field(default=False, description="Whether a loss of stop_loss_pct sells.")
    stop_loss_pct: float = Field(default=10.0, gt=0, lt=100, description="Percent below the entry price.")


class RiskSettings(Section):
    """How much may be bought, and what blocks an entry."""

    max_position_pct: Annotated[Percent, "a number above 0 and at most 100. No margin"] = Field(
        default=100.0, description="Percent of equity a position may take; 25 means 25 %."
    )
    max_position_size: float = Field(default=5000.0, gt=0, description="USD a position may take.")
    transaction_cost: float = Field(
        default=0.001, ge=0, le=0.05, description="Ratio of the value traded, each side: 0.001 is 0.1 %."
    )
    price_buffer_pct: float = Field(
        default=1.0, ge=0, le=20, description="Percent kept free for a close above the decision price."
    )
    max_daily_loss: float = Field(
        default=500.0, gt=0, description="USD. A loss this large since the last close blocks entries until `resume`."
    )
    daily_loss_exit: bool = Field(default=False, description="Whether that loss also sells.")
    max_price_move_pct: Percent = Field(
        default=15.0, description="Percent. A larger move since the last close blocks entries."
    )
    require_confirmation: bool = Field(
        default=False,
        description="Whether an entry waits for `approve`; the decision is then made earlier. Not with MKT orders.",
    )
    late_exit: Annotated[LateExit, Lax] = Field(
        default=LateExit.MARKET,
        description="What an exit does after the hard stop: go as a market order, or wait for the next session.",
    )


class DataSettings(Section):
    """Where bars and the VIX come from."""

    source: Annotated[DataSource, Lax] = Field(
        default=DataSource.SAMPLE,
        description="sample is made up; csv reads files; yahoo and ib ask there. The first two only in mode simulated.",
    )
    vix_source: Annotated[VixSource, Lax] = Field(
        default=VixSource.SAME, description="Where the VIX comes from, if elsewhere."
    )
    csv_dir: Annotated[str, Field(pattern=r"^[^\x00]*$"), "the path of a folder, or empty"] = Field(
        default="", description="Folder with MTUM.csv (named like the symbol) and VIX.csv; needed for csv."
    )
    sample_seed: int = Field(default=20130418, ge=0, description="Another seed makes up another history.")


class IbSettings(Section):
    """The connection to Interactive Brokers."""

    host: Annotated[str, Field(pattern=r"^[^\s/]+$"), "a host name or address"] = Field(
        default="127.0.0.1", description="Where the Gateway or TWS runs."
    )
    gateway: bool = Field(default=True, description="true: IB Gateway's ports are used; false: those of TWS.")
    live_port: Port = Field(default=4001, description="IB Gateway, live account.")
    paper_port: Port = Field(default=4002, description="IB Gateway, paper account.")
    tws_live_port: Port = Field(default=7496, description="TWS, live account.")
    tws_paper_port: Port = Field(default=7497, description="TWS, paper account.")
    client_id: int = Field(
        default=1,
        ge=1,
        le=2**31 - 1,
        description="Of this program alone among the programs connected; 0 would take over orders typed by hand.",
    )
    live_account: Annotated[str, Field(pattern=r"^[A-Z0-9]*$"), "an account such as U1234567, or empty"] = Field(
        default="", description="The very account that mode live may trade."
    )
    primary_exchange: Annotated[str, Field(pattern=r"^[A-Z]{1,12}$"), "an exchange as IB writes it, such as BATS"] = (
        Field(default="BATS", description="The exchange that lists the symbol.")
    )
    request_timeout: Seconds = Field(
        default=30.0, description="Seconds until a request without an answer counts as failed."
    )
    max_retries: int = Field(
        default=3, ge=0, le=20, description="Repeats of a failed connection or read; an order is never sent again."
    )
    reconnect_timeout: Seconds = Field(default=30.0, description="Seconds until a lost connection counts as gone.")
    order_type: Annotated[OrderType, Lax] = Field(
        default=OrderType.MOC,
        description="MKT, three minutes before the close, where MOC is refused; not with require_confirmation.",
    )


class ScheduleSettings(Section):
    """A session's timetable in minutes from the exchange's own close, early closes included."""

    timezone: Annotated[str, AfterValidator(_known_zone), "a time zone such as Europe/Berlin"] = Field(
        default="America/New_York", description="Your zone: times are shown in it, beside the exchange's."
    )
    preflight: MinutesBefore = Field(
        default=120, description="Minutes before the close: the first check that all is well."
    )
    decide: MinutesBefore = Field(default=20, description="Minutes before the close: the decision and its order.")
    confirm: MinutesBefore = Field(
        default=60, description="Minutes before the close: the decision, where require_confirmation is true."
    )
    hard_stop: MinutesBefore = Field(
        default=15, description="Minutes before the close: no close order is sent or cancelled later. IB asks for 15."
    )
    settle: int = Field(default=20, ge=0, le=450, description="Minutes after the close: executions are collected.")


class NotificationSettings(Section):
    """Whom to tell, and of what. The addresses are secrets: in the environment, or in a file of mode 0600."""

    urls: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$")], ...],
        "a list of Apprise URLs such as mailto://...",
    ] = Field(default=(), strict=False, repr=False, description="Where notices go, as Apprise URLs. Secret.")
    events: Annotated[tuple[Annotated[Event, Lax], ...], f"a list out of {', '.join(Event)}"] = Field(
        default=tuple(Event), strict=False, description="What you are told of."
    )
    heartbeat_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$"), "a web address (https://...), or empty"] = Field(
        default="", repr=False, description="Pinged by every step and once a day; its silence is the alarm. Secret."
    )
    daily_summary: bool = Field(default=True, description="Whether each session ends with a line.")


class DatabaseSettings(Section):
    """The book."""

    url: Annotated[
        str, Field(pattern=r"^(sqlite:///[^?#:\x00]+|[^:\x00]*)$"), "a path, sqlite:///PATH, or empty; SQLite only"
    ] = Field(default="", description="The database file; empty means mtum-eod-<mode>.db beside this file.")


class BackupSettings(Section):
    """Copies of the book."""

    dir: FolderPath = Field(default="backups", description="Where copies of the database go.")
    keep: int = Field(default=30, ge=1, description="Copies; the oldest beyond that are deleted.")


class LogSettings(Section):
    """What is written down of each run."""

    dir: FolderPath = Field(default="logs", description="Where the log files go.")
    level: Annotated[LogLevel, Lax] = Field(default=LogLevel.INFO, description="The least of what is logged.")
    keep_days: int = Field(default=90, ge=1, description="Days; older logs are deleted.")


class CostSettings(Section):
    """What running this costs besides trading."""

    monthly_costs: float = Field(
        default=0.0, ge=0, description="USD a month, data subscriptions for instance; told in the report."
    )


class Settings(Section):
    """All settings; the defaults are those of settings.toml. Paths are as written: the methods resolve them."""

    mode: Annotated[Mode, Lax] = Field(
        default=Mode.SIMULATED, description="simulated: a broker built in; paper: IB's paper account; live: real money."
    )
    symbol: Symbol = Field(default="MTUM", description="What is traded.")
    capital: float = Field(
        default=5000.0, gt=0, description="USD at the start of the book; later on money moves with `mtum-eod cash add`."
    )
    strategy: StrategySettings = StrategySettings()
    risk: RiskSettings = RiskSettings()
    data: DataSettings = DataSettings()
    ib: IbSettings = IbSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    notifications: NotificationSettings = NotificationSettings()
    database: DatabaseSettings = DatabaseSettings()
    backup: BackupSettings = BackupSettings()
    log: LogSettings = LogSettings()
    costs: CostSettings = CostSettings()

    def parameters(self) -> Parameters:
        """What a decision depends on, as core takes it."""
        before = {
            f"{name}_before": timedelta(minutes=getattr(self.schedule, name))
            for name in ("preflight", "decide", "confirm", "hard_stop")
        }
        return Parameters(
            strategy=StrategyParameters(**self.strategy.model_dump()),
            risk=RiskParameters(**self.risk.model_dump()),
            schedule=ScheduleParameters(**before, settle_after=timedelta(minutes=self.schedule.settle)),
            order_type=self.ib.order_type,
        )

    def database_path(self, base: Path) -> Path:
        """The SQLite file, absolute. `base` is what relative paths start from: `Loaded.folder`."""
        return _resolve(base, self.database.url.removeprefix("sqlite:///") or f"mtum-eod-{self.mode}.db")

    def csv_dir(self, base: Path) -> Path:
        """The folder of CSV files, absolute."""
        return _resolve(base, self.data.csv_dir)

    def backup_dir(self, base: Path) -> Path:
        """The folder of database copies, absolute."""
        return _resolve(base, self.backup.dir)

    def log_dir(self, base: Path) -> Path:
        """The folder of logs, absolute."""
        return _resolve(base, self.log.dir)


def _resolve(base: Path, path: str) -> Path:
    return (base / Path(path).expanduser()).absolute()


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}

KEYS: dict[str, FieldInfo] = {name: field for name, field in Settings.model_fields.items() if name not in SECTIONS} | {
    f"{section}.{name}": field for section, model in SECTIONS.items() for name, field in model.model_fields.items()
}
"""Every key there is, dotted."""

SECRETS = {"notifications.urls", "notifications.heartbeat_url"}

SUCCESSORS = {
    "account": "ib.live_account",
    "account_id": "ib.live_account",
    "atr_profit_multiplier": "strategy.atr_multiplier",
    "check_interval": "schedule.decide (one decision a session, no loop)",
    "client_id": "ib.client_id",
    "commission": "risk.transaction_cost",
    "database_path": "database.url",
    "db_path": "database.url",
    "dry_run": "`mtum-eod run --dry-run`",
    "email": "notifications.urls (an Apprise address such as mailto://...)",
    "email_from": "notifications.urls (an Apprise address such as mailto://...)",
    "email_password": "notifications.urls (an Apprise address such as mailto://...)",
    "email_to": "notifications.urls (an Apprise address such as mailto://...)",
    "ib_client_id": "ib.client_id",
    "ib_host": "ib.host",
    "ib_port": "ib.live_port and ib.paper_port",
    "initial_capital": "capital",
    "log_file": "log.dir",
    "log_level": "log.level",
    "ma_window": "strategy.ma_period",
    "max_position": "risk.max_position_size",
    "paper_trading": 'mode = "paper"',
    "port": "ib.live_port and ib.paper_port",
    "position_size": "risk.max_position_size and risk.max_position_pct",
    "profit_target_atr": "strategy.atr_multiplier",
    "rsi_window": "strategy.rsi_period",
    "save_signals": "nothing: every signal is in the database, see `mtum-eod export signals`",
    "sms_to": "notifications.urls (an Apprise address of an SMS gateway)",
    "smtp_password": "notifications.urls (an Apprise address such as mailto://...)",
    "smtp_port": "notifications.urls (an Apprise address such as mailto://...)",
    "smtp_server": "notifications.urls (an Apprise address such as mailto://...)",
    "smtp_user": "notifications.urls (an Apprise address such as mailto://...)",
    "stop_loss": "strategy.stop_loss_enabled and strategy.stop_loss_pct",
    "vix_threshold": "strategy.vix_entry_threshold and strategy.vix_exit_threshold",
    "volume_window": "strategy.volume_lookback",
}
"""Keys of the original plan, wherever they stand, and what does their work now."""


# -- loading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, the file they were read from if there was one, and for every dotted key where its value is from."""

    settings: Settings
    path: Path | None
    origins: dict[str, str]

    @property
    def folder(self) -> Path:
        """What relative paths in the settings start from: the file's folder, else the current one."""
        return self.path.parent.absolute() if self.path else Path.cwd()


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Loaded:
    """The settings in force, from defaults, file, environment and `overrides` (dotted keys, from the command line).

    path: the settings file. None looks for ./settings.toml and then in the user's configuration folder; with
    neither, the defaults stand. Raises SettingsError with everything that is wrong.
    """
    path = path or _found_file()
    values: dict[str, Any] = {}
    origins = dict.fromkeys(KEYS, DEFAULT)
    problems: list[str] = []
    for source in (_from_file(path), _from_environment(environ), _from_command_line(overrides or {})):
        for found in source:
            if isinstance(found, _Problem):
                problems.append(found.words)
            else:
                values[found.key] = found.value
                origins[found.key] = found.origin
    settings, refused = _validate(values, origins)
    problems += refused.values()
    problems += [words for keys, words in _contradictions(settings, origins) if refused.keys().isdisjoint(keys)]
    if problems:
        raise SettingsError(_as_list(problems), hint="Correct this, then try `mtum-eod config check`.")
    return Loaded(settings=settings, path=path, origins=origins)


def addresses(path: Path | None, environ: Mapping[str, str]) -> NotificationSettings:
    """Whom to tell although the settings cannot be used: what can be read of [notifications], else its defaults."""
    found: dict[str, Any] = {}
    for source in (_from_file(path or _found_file()), _from_environment(environ)):
        with suppress(SettingsError):
            items = [item for item in source if isinstance(item, _Found)]
            found |= {
                name: item.value
                for item in items
                for part, _, name in [item.key.partition(".")]
                if part == "notifications"
            }
    try:
        return NotificationSettings.model_validate(found)
    except ValidationError:
        return NotificationSettings()


@dataclass(frozen=True, slots=True)
class _Found:
    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class _Problem:
    words: str


def _as_list(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n- ".join([f"{len(problems)} problems in the settings:", *problems])


def _found_file() -> Path | None:
    here = Path(FILE_NAME)
    if os.path.lexists(here):  # a dangling link too: it was meant to be read
        return here
    from platformdirs import user_config_path

    users = user_config_path("mtum-eod") / FILE_NAME
    return users if os.path.lexists(users) else None


def _from_file(path: Path | None) -> Iterator[_Found | _Problem]:
    if path is None:
        return
    try:
        with path.open("rb") as file:
            text = file.read().decode("utf-8-sig")  # editors on Windows begin with a byte order mark
            permissions = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        document = tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: there is no such settings file", hint="Name another with --config, or leave --config out."
        ) from None
    except IsADirectoryError:
        raise SettingsError(
            f"{path}: a folder, where a settings file is expected", hint=f"Try --config {path / FILE_NAME}."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path}: the settings file cannot be read: {error.strerror}", hint="Check its owner and permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: not UTF-8 at byte {error.start}; a settings file is text in UTF-8",
            hint="Save it as UTF-8 in your editor.",
        ) from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, brackets without end
        words = str(error).replace("at end of document", f"at line {len(text.splitlines())}, the end of the file")
        raise SettingsError(
            f"{path}: not valid TOML: {words}", hint="Texts stand in quotes; the line says where it broke."
        ) from None
    found = list(_from_document(document, str(path)))
    secrets = [item.key for item in found if isinstance(item, _Found) and item.key in SECRETS and item.value]
    if secrets and permissions & 0o077:
        raise SettingsError(
            f"{path}: holds {' and '.join(secrets)}, which are secrets, and others can read it "
            f"(mode {permissions:04o}, 0600 expected)",
            hint=f"chmod 600 {path}, or set the secrets in the environment.",
        )
    yield from found


def _from_document(document: dict[str, Any], origin: str) -> Iterator[_Found | _Problem]:
    for name, value in document.items():
        if name in SECTIONS and isinstance(value, dict):
            for key, inner in value.items():
                yield _found(f"{name}.{key}", inner, origin)
        elif name in SECTIONS:
            yield _Problem(f"{origin}: {name} is given a value; it is a section, written [{name}]")
        elif isinstance(value, dict):
            near = _nearest(name, SECTIONS)
            cure = f"did you mean [{near}]?" if near else f"sections: {', '.join(SECTIONS)}"
            cure = f"now: {SUCCESSORS[name.lower()]}" if name.lower() in SUCCESSORS else cure
            yield _Problem(f"{origin}: there is no section [{name}]; {cure}")
        else:
            yield _found(name, value, origin)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Found | _Problem]:
    seen: dict[str, str] = {}
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() in NOT_SETTINGS:
            continue
        key = variable[len(PREFIX) :].lower().replace("__", ".", 1)
        if key in seen:
            yield _Problem(f"environment: {seen[key]} and {variable} are the same setting; keep one")
        seen[key] = variable
        value = _from_text(environ[variable], KEYS[key].annotation) if key in KEYS else None
        yield _found(key, value, f"{ENVIRONMENT} {variable}")


def _from_command_line(overrides: Mapping[str, Any]) -> Iterator[_Found | _Problem]:
    return (_found(key, value, COMMAND_LINE) for key, value in overrides.items())


def _found(key: str, value: Any, origin: str) -> _Found | _Problem:
    """The value, or why there is no such key. What an unknown key holds may be a secret, so it is not shown."""
    if key in KEYS:
        return _Found(key, value, origin)
    section, _, name = key.lower().rpartition(".")
    last_names = {known: known.rpartition(".")[2] for known in KEYS}
    near = _nearest(key, KEYS) or _nearest(name, last_names.values())
    meant = [known for known in KEYS if name == last_names[known]]  # right, but in another section
    meant = meant or [known for known in KEYS if near in (known, last_names[known])]
    if name in SUCCESSORS:
        cure = f"a key of the original plan; now: {SUCCESSORS[name]}"
    elif meant:
        spelt = map(_variable, meant) if origin.startswith(ENVIRONMENT) else meant
        cure = f"there is no such key; did you mean {' or '.join(spelt)}?"
    elif section in SECTIONS:
        cure = f"there is no such key; in [{section}] there are: {', '.join(SECTIONS[section].model_fields)}"
    else:
        cure = f"there is no such key; sections: {', '.join(SECTIONS)}"
    return _Problem(f"{origin}: {key}: {cure}")


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _from_text(text: str, kind: Any) -> Any:
    """A variable's text as a value of that kind; the text itself where it is none, to be refused with its words."""
    if kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if getattr(kind, "__origin__", None) is tuple:
        try:
            return json.loads(text)
        except ValueError:
            # A URL may hold commas of its own, so URLs are parted only where the next one begins.
            comma = r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)" if "://" in text else r"\s*,\s*"
            return re.split(comma, text.strip()) if text.strip() else []
    return text


def _validate(values: dict[str, Any], origins: dict[str, str]) -> tuple[Settings, dict[str, str]]:
    """Settings of the values that can be used, the defaults in place of the others, and the words on those by key."""
    try:
        return Settings.model_validate(_nested(values)), {}
    except ValidationError as error:
        refused: dict[str, str] = {}
        for fault in error.errors(include_url=False):
            key = ".".join(str(part) for part in fault["loc"][: 2 if fault["loc"][0] in SECTIONS else 1])
            refused.setdefault(key, _refusal(key, fault["input"], origins[key]))
        usable = {key: value for key, value in values.items() if key not in refused}
        return Settings.model_validate(_nested(usable)), refused


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested


def _refusal(key: str, value: Any, origin: str) -> str:
    near = _nearest(str(value), _choices(key)) if isinstance(value, str) else None
    shown = ADDRESS.sub(r"\1…", _shown(_redacted(key, value)))
    shown = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "…"
    return f"{origin}: {key} = {shown}; allowed: {allowed(key)}" + (f"; did you mean {near}?" if near else "")


def allowed(key: str) -> str:
    """What a key takes, in words: "a whole number, at least 2"."""
    field = KEYS[key]
    for words in reversed(field.metadata):
        if isinstance(words, str):
            return words
    if field.annotation is bool:
        return "true or false"
    if choices := _choices(key):
        return f"one of {', '.join(choices)}"
    kind = "a whole number" if field.annotation is int else "a number"
    bounds = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = [
        f"{words} {getattr(m, name)}" for m in field.metadata for name, words in bounds.items() if hasattr(m, name)
    ]
    return ", ".join([kind, *limits])


def _choices(key: str) -> list[str]:
    """The names a key can take, where they can be listed."""
    kind = KEYS[key].annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [choice.value for choice in kind]
    if key == "notifications.events":
        return list(Event)
    if key == "schedule.timezone":
        import pytz

        return list(pytz.all_timezones)
    return []


def _nearest(name: str, names: Any) -> str | None:
    by_lower = {known.lower(): known for known in names}
    matches = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def _contradictions(settings: Settings, origins: dict[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Settings that are each allowed and cannot stand together: their keys, and what is wrong in words."""
    s, risk, ib, schedule = settings.strategy, settings.risk, settings.ib, settings.schedule
    wilder = "strategy.rsi_period" if s.rsi_period >= s.atr_period else "strategy.atr_period"
    needed = WILDER_MEMORY * max(s.rsi_period, s.atr_period)
    shown = {row[0]: row[1] for row in _rows(settings)}

    def told(words: str, *keys: str) -> tuple[tuple[str, ...], str]:
        facts = " and ".join(f"{key} = {shown[key]} ({origins[key]})" for key in keys)
        return keys, f"{facts}: {words}"

    if s.vix_entry_threshold > s.vix_exit_threshold:
        words = "entries would be allowed where an exit is due; the entry threshold may be at most the exit threshold"
        yield told(words, "strategy.vix_entry_threshold", "strategy.vix_exit_threshold")
    if s.rsi_exit_threshold > s.rsi_entry_threshold:
        words = "entries would be allowed where an exit is due; the exit threshold may be at most the entry threshold"
        yield told(words, "strategy.rsi_exit_threshold", "strategy.rsi_entry_threshold")
    if s.history_bars < needed:
        words = f"Wilder's smoothing needs {WILDER_MEMORY} periods, so history_bars of at least {needed}"
        yield told(words, "strategy.history_bars", wilder)
    for name in ("ma_period", "volume_lookback"):
        if getattr(s, name) >= s.history_bars:
            yield told("the mean must be shorter than the history", f"strategy.{name}", "strategy.history_bars")

    if settings.mode is not Mode.SIMULATED and settings.data.source in (DataSource.SAMPLE, DataSource.CSV):
        yield told("sample and csv serve only mode simulated; allowed: yahoo, ib", "data.source", "mode")
    if not settings.data.csv_dir:
        if settings.data.source is DataSource.CSV:
            yield told("csv needs its folder", "data.source", "data.csv_dir")
        if settings.data.vix_source is VixSource.CSV:
            yield told("csv needs its folder", "data.vix_source", "data.csv_dir")
    if settings.mode is Mode.LIVE and not ib.live_account:
        yield told("real money needs the account's name", "mode", "ib.live_account")
    if settings.mode is Mode.LIVE and ib.live_account.startswith("D"):
        yield told("that is a paper account, mode paper is for it", "mode", "ib.live_account")

    for first, second in pairwise(("preflight", "decide", "hard_stop")):
        if getattr(schedule, first) <= getattr(schedule, second):
            words = f"{first} comes before {second}, so its number of minutes must be larger"
            yield told(words, f"schedule.{first}", f"schedule.{second}")
    if schedule.confirm < schedule.decide:
        yield told("confirm must be at least decide", "schedule.confirm", "schedule.decide")
    if risk.require_confirmation and schedule.preflight <= schedule.confirm:
        words = "preflight comes before confirm, so its number of minutes must be larger"
        yield told(words, "schedule.preflight", "schedule.confirm")
    if risk.require_confirmation and ib.order_type is OrderType.MKT:
        words = (
            "a market order three minutes before the close leaves no time to confirm it; choose order_type MOC, or "
            "require_confirmation false"
        )
        yield told(words, "ib.order_type", "risk.require_confirmation")


# -- values to try ----------------------------------------------------------------------------------------------------

MOST_VALUES = 100_000
"""Of one parameter in a sweep; what is more was not meant."""


def varied(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The values of `--vary NAME=FROM:TO:STEP` and `--vary NAME=A,B,C` by name, each checked as a setting is.

    Ranges include their end. Raises SettingsError with everything that is wrong.
    """
    axes: dict[str, tuple[Any, ...]] = {}
    problems: list[str] = []
    for text in texts:
        written, equals, listed = (part.strip() for part in text.partition("="))
        section, _, name = written.rpartition(".")
        if section not in ("", SECTION_OF.get(name)) or name not in SECTION_OF:
            near = _nearest(name, SECTION_OF)
            cure = f"did you mean {near}?" if near else f"there are: {', '.join(SECTION_OF)}"
            problems.append(f"--vary {written}: there is no such number in [strategy] or [risk]; {cure}")
        elif not equals or not listed:
            problems.append(f"--vary {text}: no values; write {name}=FROM:TO:STEP or {name}=A,B,C")
        elif name in axes:
            problems.append(f"--vary {name}: given twice; join the values with commas")
        else:
            key = f"{SECTION_OF[name]}.{name}"
            try:
                values = [_from_text(one, KEYS[key].annotation) for part in listed.split(",") for one in _steps(part)]
            except ValueError as error:
                problems.append(f"--vary {text}: {error}")
                continue
            axes[name] = tuple(dict.fromkeys(values))
            problems += _refused(key, axes[name])
    if problems:
        raise SettingsError(
            _as_list(problems), hint="Try --vary ma_period=20:100:5 --vary vix_entry_threshold=18,20,25"
        )
    return axes


def _steps(text: str) -> Iterator[str]:
    """The numbers of FROM:TO:STEP as text, exact in the decimals they are written in; one number as it stands."""
    parts = text.split(":")
    if len(parts) == 1:
        yield text.strip()
        return
    try:
        first, last, step = map(Decimal, parts)
        finite = all(number.is_finite() for number in (first, last, step))
    except (InvalidOperation, ValueError):
        finite = False
    if not finite:
        raise ValueError(f"{text} is no range; write FROM:TO:STEP, such as 20:100:5")
    if step <= 0:
        raise ValueError(f"the step is {step}; it must be above 0")
    if last < first:
        raise ValueError(f"{first} to {last} is empty; FROM is the smaller one")
    if (last - first) / step >= MOST_VALUES:
        raise ValueError(f"{text} has more than {MOST_VALUES:,} values; widen the step")
    for count in range(int((last - first) / step) + 1):
        yield f"{first + count * step:f}"


def _refused(key: str, values: Sequence[Any]) -> Iterator[str]:
    """The first value that the settings would not take, in words."""
    section, _, name = key.partition(".")
    for value in values:
        try:
            SECTIONS[section].model_validate({name: value})
        except ValidationError:
            yield _refusal(key, value, "--vary")
            return


# -- showing and keeping ----------------------------------------------------------------------------------------------


def to_document(settings: Settings) -> dict[str, Any]:
    """All settings as JSON values by section, secrets cut down to their scheme."""
    document = settings.model_dump(mode="json")
    for key in SECRETS:
        section, _, name = key.partition(".")
        document[section][name] = _redacted(key, document[section][name])
    return document


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Every dotted key, its value as TOML would write it, and where it is from; secrets cut down to their scheme."""
    return [(key, shown, loaded.origins[key]) for key, shown in _rows(loaded.settings)]


def _rows(settings: Settings) -> list[tuple[str, str]]:
    document = to_document(settings)
    return [
        (key, _shown(document[section][name] if section else document[name]))
        for key in KEYS
        for section, _, name in [key.rpartition(".")]
    ]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _redacted(key: str, value: Any) -> Any:
    """The value as it may be shown: of a secret only its scheme."""
    if key not in SECRETS:
        return value
    if isinstance(value, list | tuple):
        return [_redacted(key, item) for item in value]
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value) if isinstance(value, str) else None
    return value and (f"{scheme[0]}…" if scheme else "…")
