"""Settings: where each value comes from, and what is refused in which words."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from mtum_eod import settings as module
from mtum_eod.core.events import Event
from mtum_eod.core.parameters import (
    LateExit,
    Parameters,
    RiskParameters,
    ScheduleParameters,
    StrategyParameters,
    VolumeChoice,
    parameters_from,
)
from mtum_eod.core.parameters import document as document_of
from mtum_eod.core.trading import Mode, OrderType
from mtum_eod.errors import SettingsError
from mtum_eod.settings import (
    KEYS,
    SUCCESSORS,
    Settings,
    allowed,
    describe,
    load,
    to_document,
)

SHIPPED = Path(__file__).resolve().parents[1] / "settings.toml"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder and a configuration folder without settings."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a settings file of the given text and mode."""

    def written(text: str | bytes, mode: int = 0o644, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return written


def refusal(path: Path | None, environ: dict[str, str] | None = None, **overrides: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {}, overrides)
    return caught.value


# -- the shipped file -------------------------------------------------------------------------------------------------


def flat(document: dict[str, object]) -> dict[str, object]:
    keys: dict[str, object] = {}
    for name, value in document.items():
        keys |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return keys


def test_the_shipped_file_has_every_key():
    """A person finds all there is to set in one file, in the order of the documentation."""
    assert list(KEYS) == list(flat(tomllib.loads(SHIPPED.read_text())))


def test_the_shipped_file_equals_the_defaults():
    """Deleting the file changes nothing."""
    assert flat(Settings().model_dump(mode="json")) == flat(tomllib.loads(SHIPPED.read_text()))


def test_the_shipped_file_explains_every_key_as_the_program_does():
    """The comment above each key is its description and what is allowed, as the refusals word it."""
    explained, section, comment = {}, "", []
    for line in SHIPPED.read_text().splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("# "))
        elif line.startswith("["):
            section = line.strip("[]") + "."
        elif " = " in line:
            explained[section + line.partition(" = ")[0]] = " ".join(comment)
        if not line.startswith("#"):
            comment = []

    assert {key: f"{field.description} Allowed: {allowed(key)}" for key, field in KEYS.items()} == explained


def test_the_shipped_file_loads():
    """What the project shows as an example is itself accepted."""
    assert Settings() == load(SHIPPED, {}).settings


def test_the_defaults_are_those_of_the_specification():
    """The numbers of the table in section 5, typed by hand."""
    expected = {
        "mode": "simulated",
        "symbol": "MTUM",
        "capital": 5000,
        "strategy.ma_period": 50,
        "strategy.rsi_period": 14,
        "strategy.atr_period": 14,
        "strategy.volume_lookback": 20,
        "strategy.atr_multiplier": 4.0,
        "strategy.vix_entry_threshold": 25,
        "strategy.vix_exit_threshold": 30,
        "strategy.rsi_entry_threshold": 50,
        "strategy.rsi_exit_threshold": 30,
        "strategy.history_bars": 400,
        "strategy.volume_basis": "auto",
        "strategy.stop_loss_enabled": False,
        "strategy.stop_loss_pct": 10,
        "risk.max_position_pct": 100,
        "risk.max_position_size": 5000,
        "risk.transaction_cost": 0.001,
        "risk.price_buffer_pct": 1.0,
        "risk.max_daily_loss": 500,
        "risk.daily_loss_exit": False,
        "risk.max_price_move_pct": 15,
        "risk.require_confirmation": False,
        "risk.late_exit": "market",
        "data.source": "sample",
        "data.vix_source": "same",
        "ib.host": "127.0.0.1",
        "ib.gateway": True,
        "ib.live_port": 4001,
        "ib.paper_port": 4002,
        "ib.tws_live_port": 7496,
        "ib.tws_paper_port": 7497,
        "ib.client_id": 1,
        "ib.live_account": "",
        "ib.primary_exchange": "BATS",
        "ib.request_timeout": 30,
        "ib.max_retries": 3,
        "ib.reconnect_timeout": 30,
        "ib.order_type": "MOC",
        "schedule.timezone": "America/New_York",
        "costs.monthly_costs": 0,
    }
    defaults = flat(Settings().model_dump(mode="json"))

    assert expected == {key: defaults[key] for key in expected}


# -- where values come from -------------------------------------------------------------------------------------------


def test_without_a_file_the_defaults_stand(empty_folder: Path):
    """A fresh clone needs no settings at all."""
    loaded = load(None, {"PATH": "/bin"})

    assert (Settings(), None, empty_folder, {"default"}) == (
        loaded.settings,
        loaded.path,
        loaded.folder,
        set(loaded.origins.values()),
    )


def test_the_command_line_wins_over_the_environment_over_the_file(write: Write):
    """Each value is told with where it came from."""
    path = write('mode = "paper"\ncapital = 6000\n[data]\nsource = "yahoo"\n[risk]\nmax_daily_loss = 100\n')
    environ = {"MTUM_EOD_CAPITAL": "7000", "MTUM_EOD_MODE": "live"}
    loaded = load(path, environ, {"mode": "paper"})
    chosen = {"mode", "capital", "data.source", "risk.max_daily_loss", "symbol"}

    assert {
        "mode": ('"paper"', "command line"),
        "symbol": ('"MTUM"', "default"),
        "capital": ("7000.0", "environment MTUM_EOD_CAPITAL"),
        "risk.max_daily_loss": ("100.0", str(path)),
        "data.source": ('"yahoo"', str(path)),
    } == {key: (value, origin) for key, value, origin in describe(loaded) if key in chosen}


def test_every_key_can_be_set_by_environment():
    """Each default, written as a variable, is read back as itself."""
    environ = {
        f"MTUM_EOD_{key.upper().replace('.', '__')}": value if isinstance(value, str) else json.dumps(value)
        for key, value in flat(Settings().model_dump(mode="json")).items()
    }
    loaded = load(None, environ)

    assert (Settings(), len(KEYS)) == (
        loaded.settings,
        sum(origin.startswith("environment MTUM_EOD_") for origin in loaded.origins.values()),
    )


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("MTUM_EOD_STRATEGY__MA_PERIOD", "60", "strategy.ma_period", 60),
        ("mtum_eod_strategy__ma_period", " 60 ", "strategy.ma_period", 60),
        ("MTUM_EOD_CAPITAL", "1e4", "capital", 10000.0),
        ("MTUM_EOD_IB__GATEWAY", "False", "ib.gateway", False),
        ("MTUM_EOD_IB__GATEWAY", "0", "ib.gateway", False),
        ("MTUM_EOD_RISK__DAILY_LOSS_EXIT", "yes", "risk.daily_loss_exit", True),
        ("MTUM_EOD_IB__LIVE_ACCOUNT", "1234567", "ib.live_account", "1234567"),
        ("MTUM_EOD_NOTIFICATIONS__EVENTS", "halt, mismatch", "notifications.events", ["halt", "mismatch"]),
        ("MTUM_EOD_NOTIFICATIONS__EVENTS", '["halt"]', "notifications.events", ["halt"]),
        ("MTUM_EOD_NOTIFICATIONS__EVENTS", "", "notifications.events", []),
    ],
)
def test_a_variable_is_read_as_its_key_needs(variable: str, text: str, key: str, value: object):
    """Text from the environment becomes a number, a truth or a list where the key takes one."""
    assert value == flat(load(None, {variable: text}).settings.model_dump(mode="json"))[key]


def test_a_comma_inside_a_notification_url_stays_in_it():
    """Mail to two people is one URL; the comma before the next URL parts them."""
    text = "mailto://me:pass@example.org?to=a@example.org,b@example.org, tgram://token/chat"

    assert ("mailto://me:pass@example.org?to=a@example.org,b@example.org", "tgram://token/chat") == (
        load(None, {"MTUM_EOD_NOTIFICATIONS__URLS": text}).settings.notifications.urls
    )


def test_the_variable_of_the_tests_is_no_setting():
    """MTUM_EOD_TEST_DATA names the folder of real data and may stand beside any settings."""
    assert Settings() == load(None, {"MTUM_EOD_TEST_DATA": "/data"}).settings


def test_the_current_folder_is_searched_before_the_users_configuration(empty_folder: Path, tmp_path: Path):
    """./settings.toml serves this folder, the other one all the rest."""
    users = tmp_path / "config" / "mtum-eod"
    users.mkdir(parents=True)
    (users / "settings.toml").write_text("capital = 1\n")
    before = load(None, {})
    (empty_folder / "settings.toml").write_text("capital = 2\n")
    after = load(None, {})

    assert [(1.0, users / "settings.toml"), (2.0, Path("settings.toml"))] == [
        (loaded.settings.capital, loaded.path) for loaded in (before, after)
    ]


def test_searching_creates_no_folder(tmp_path: Path):
    """A dry run leaves the user's configuration as it was."""
    load(None, {})

    assert ["work"] == [entry.name for entry in tmp_path.iterdir()]


def test_a_dangling_link_is_not_taken_for_no_settings(empty_folder: Path):
    """Whoever linked settings.toml meant it; trading on defaults instead would be silent."""
    (empty_folder / "settings.toml").symlink_to("gone.toml")

    assert "settings.toml: there is no such settings file" == refusal(None).message


def test_a_byte_order_mark_is_no_fault(write: Write):
    """Editors on Windows write one."""
    assert 6000.0 == load(write(b"\xef\xbb\xbfcapital = 6000\r\n"), {}).settings.capital


# -- what is refused --------------------------------------------------------------------------------------------------

BAD_FILES = {
    # case: (the file's text, fragments of the message)
    "misspelt key": ("[strategy]\nma_perod = 50", ["strategy.ma_perod: there is no such key", "strategy.ma_period?"]),
    "misspelt key at the top": ('symbl = "MTUM"', ["symbl: there is no such key", "did you mean symbol?"]),
    "misspelt section": ("[stratgy]\nma_period = 50", ["there is no section [stratgy]", "did you mean [strategy]?"]),
    "strange section": ("[wibble]\nx = 1", ["there is no section [wibble]", "sections: strategy, risk, data, ib"]),
    "strange key": ("[costs]\nwibble = 1", ["costs.wibble", "in [costs] there are: monthly_costs"]),
    "key without its section": ("ma_period = 50", ["ma_period: there is no", "did you mean strategy.ma_period?"]),
    "key in another section": ("[risk]\nma_period = 50", ["risk.ma_period", "did you mean strategy.ma_period?"]),
    "key of two sections": ('dir = "x"', ["did you mean backup.dir or log.dir?"]),
    "capital letters": ("[strategy]\nMA_PERIOD = 50", ["strategy.MA_PERIOD", "did you mean strategy.ma_period?"]),
    "section as a value": ("strategy = 5", ["strategy is given a value", "written [strategy]"]),
    "sections as a list": ("[[strategy]]\nma_period = 5", ["strategy is given a value", "written [strategy]"]),
    "value as a section": (
        "[strategy.ma_period]\nx = 1",
        ["strategy.ma_period", "allowed: a whole number, at least 2"],
    ),
    "text for a whole number": ('[strategy]\nma_period = "50"', ['ma_period = "50"', "a whole number, at least 2"]),
    "text for a number": ('capital = "5000"', ['capital = "5000"; allowed: a number, above 0']),
    "truth for a whole number": ("[strategy]\nma_period = true", ["ma_period = true; allowed: a whole number"]),
    "truth for a number": ("capital = true", ["capital = true; allowed: a number"]),
    "number for a truth": ("[ib]\ngateway = 1", ["ib.gateway = 1; allowed: true or false"]),
    "number for a text": ("symbol = 5", ["symbol = 5; allowed: 1 to 12 capital letters"]),
    "fraction for a whole number": ("[strategy]\nma_period = 50.5", ["ma_period = 50.5; allowed: a whole number"]),
    "negative capital": ("capital = -5000", ["capital = -5000; allowed: a number, above 0"]),
    "no capital": ("capital = 0", ["capital = 0; allowed: a number, above 0"]),
    "not a number": ("capital = nan", ["capital = NaN; allowed: a number, above 0"]),
    "infinite": ("capital = inf", ["capital = Infinity; allowed: a number, above 0"]),
    "date for a number": ("capital = 2024-11-05", ['capital = "2024-11-05"; allowed: a number']),
    "unknown mode": ('mode = "papr"', ['mode = "papr"; allowed: one of simulated, paper, live; did you mean paper?']),
    "mode in capitals": ('mode = "LIVE"', ["did you mean live?"]),
    "unknown source": ('[data]\nsource = "yahooo"', ["one of sample, csv, yahoo, ib; did you mean yahoo?"]),
    "symbol in small letters": ('symbol = "mtum"', ['symbol = "mtum"; allowed: 1 to 12 capital letters']),
    "long symbol": ('symbol = "ABCDEFGHIJKLM"', ["symbol"]),
    "symbol with a newline": ('symbol = "MTUM\\n"', ['symbol = "MTUM\\n"']),
    "margin": ("[risk]\nmax_position_pct = 150", ["max_position_pct = 150", "at most 100", "No margin"]),
    "cost in percent": ("[risk]\ntransaction_cost = 0.1", ["transaction_cost = 0.1", "at most 0.05"]),
    "port": ("[ib]\nlive_port = 70000", ["ib.live_port = 70000; allowed: a whole number, at least 1, at most 65535"]),
    "short history": ("[strategy]\nhistory_bars = 299", ["history_bars = 299; allowed: a whole number, at least 300"]),
    "unknown zone": ('[schedule]\ntimezone = "Europe/Berln"', ["a time zone such as", "did you mean Europe/Berlin?"]),
    "unknown event": ('[notifications]\nevents = ["halted"]', ['events = "halted"', "did you mean halt?"]),
    "text for a list": ('[notifications]\nevents = "halt"', ['events = "halt"; allowed: a list out of order_sent']),
    "another database": ('[database]\nurl = "mysql://me:secret@host/x"', ['"mysql://…"', "SQLite only"]),
    "database in memory": ('[database]\nurl = "sqlite://"', ["database.url", "SQLite only"]),
    "empty folder name": ('[log]\ndir = ""', ['log.dir = ""; allowed: the path of a folder']),
    "late settlement": ("[schedule]\nsettle = -1", ["schedule.settle = -1", "at least 0"]),
    "preflight outside a half day": ("[schedule]\npreflight = 240", ["schedule.preflight = 240", "at most 200"]),
}


@pytest.mark.parametrize(("text", "fragments"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_in_words(write: Write, text: str, fragments: list[str]):
    """File, key, what was read, what is allowed, the nearest name; and the exit code of settings."""
    path = write(text)
    error = refusal(path)

    assert ([str(path), *fragments], 2) == (
        [fragment for fragment in [str(path), *fragments] if fragment in error.message],
        error.exit_code,
    )


CONTRADICTIONS = {
    "entry VIX above exit VIX": (
        "[strategy]\nvix_entry_threshold = 35",
        [
            "strategy.vix_entry_threshold = 35.0 (FILE)",
            "strategy.vix_exit_threshold = 30.0 (default)",
            "at most the exit",
        ],
    ),
    "exit RSI above entry RSI": (
        "[strategy]\nrsi_exit_threshold = 60",
        ["strategy.rsi_exit_threshold = 60.0 (FILE)", "strategy.rsi_entry_threshold = 50.0", "at most the entry"],
    ),
    "history too short for Wilder": (
        "[strategy]\natr_period = 20",  # 25 x 20 = 500 > 400
        ["strategy.history_bars = 400 (default)", "strategy.atr_period = 20 (FILE)", "at least 500"],
    ),
    "mean longer than history": (
        "[strategy]\nma_period = 400",
        ["strategy.ma_period = 400", "shorter than the history"],
    ),
    "volume mean longer than history": ("[strategy]\nvolume_lookback = 400", ["strategy.volume_lookback = 400"]),
    "paper on made-up data": ('mode = "paper"', ['data.source = "sample" (default)', 'mode = "paper" (FILE)', "ib"]),
    "live on a file": (
        'mode = "live"\n[data]\nsource = "csv"\ncsv_dir = "x"\n[ib]\nlive_account = "U1"',
        ['data.source = "csv"', "only mode simulated"],
    ),
    "csv without a folder": ('[data]\nsource = "csv"', ['data.source = "csv" (FILE)', 'data.csv_dir = "" (default)']),
    "VIX from csv without a folder": (
        '[data]\nvix_source = "csv"',
        ['data.vix_source = "csv"', "csv needs its folder"],
    ),
    "live without an account": (
        'mode = "live"\n[data]\nsource = "ib"',
        ['mode = "live"', 'ib.live_account = ""', "real money needs the account's name"],
    ),
    "live with a paper account": (
        'mode = "live"\n[data]\nsource = "ib"\n[ib]\nlive_account = "DU1"',
        ['mode = "live"', 'ib.live_account = "DU1"', "that is a paper account"],
    ),
    "decide before preflight": ("[schedule]\npreflight = 20", ["schedule.preflight = 20", "schedule.decide = 20"]),
    "decide after the hard stop": ("[schedule]\ndecide = 15", ["schedule.decide = 15", "schedule.hard_stop = 15"]),
    "confirm after decide": ("[schedule]\nconfirm = 19", ["schedule.confirm = 19", "at least decide"]),
    "preflight after confirm": (
        "[schedule]\npreflight = 60\n[risk]\nrequire_confirmation = true",
        ["schedule.preflight = 60 (FILE)", "schedule.confirm = 60 (default)"],
    ),
    "a market order to be confirmed": (
        '[risk]\nrequire_confirmation = true\n[ib]\norder_type = "MKT"',
        [
            'ib.order_type = "MKT" (FILE)',
            "risk.require_confirmation = true (FILE)",
            "three minutes before the close leaves no time to confirm",
            "choose order_type MOC, or require_confirmation false",
        ],
    ),
}


@pytest.mark.parametrize(("text", "fragments"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_settings_that_contradict_each_other_are_refused_together(write: Write, text: str, fragments: list[str]):
    """Both keys are named with their values and where each came from."""
    path = write(text)
    message = refusal(path).message
    expected = [fragment.replace("FILE", str(path)) for fragment in fragments]

    assert expected == [fragment for fragment in expected if fragment in message]


@pytest.mark.parametrize(
    "text",
    [
        "[strategy]\nvix_entry_threshold = 30",
        "[strategy]\nrsi_exit_threshold = 50",
        "[strategy]\nrsi_period = 16",  # 25 x 16 = 400, exactly the history
        "[strategy]\nma_period = 399",
        "[strategy]\nhistory_bars = 350",  # 25 x 14
        '[data]\nsource = "ib"',  # real bars, no broker
        '[data]\nsource = "csv"\ncsv_dir = "x"',
        'mode = "paper"\n[data]\nsource = "yahoo"',
        'mode = "live"\n[data]\nsource = "ib"\n[ib]\nlive_account = "U1234567"',
        "[schedule]\npreflight = 21",
        "[schedule]\ndecide = 16",
        "[schedule]\nconfirm = 20",
        "[schedule]\nhard_stop = 3",
        "[schedule]\npreflight = 60",
        "[schedule]\nsettle = 0",
        "[risk]\nmax_position_pct = 100",
        'symbol = "BRK.B"',
        '[schedule]\ntimezone = "Europe/Berlin"',
    ],
)
def test_values_at_their_bounds_are_accepted(write: Write, text: str):
    """The last value that is still good, on each side of a rule."""
    path = write(text)

    assert path == load(path, {}).path


def test_everything_wrong_is_told_at_once(write: Write):
    """Five faults, one message: nobody corrects a file five times over."""
    path = write('capitl = 1\nmode = "papr"\n[strategy]\nvix_entry_threshold = 31\nma_period = -1\n')
    message = refusal(path, {"MTUM_EOD_SYMBOL": "mtum"}).message

    assert [
        "5 problems in the settings:",
        f"- {path}: capitl: ",
        f"- {path}: mode = ",
        "- environment MTUM_EOD_SYMBOL: symbol = ",
        f"- {path}: strategy.ma_period = ",
        "- strategy.vix_entry_threshold = 31.0 ",
    ] == [
        line[: len(start)]
        for line, start in zip(
            message.splitlines(),
            [
                "5 problems in the settings:",
                f"- {path}: capitl: ",
                f"- {path}: mode = ",
                "- environment MTUM_EOD_SYMBOL: symbol = ",
                f"- {path}: strategy.ma_period = ",
                "- strategy.vix_entry_threshold = 31.0 ",
            ],
            strict=True,
        )
    ]


def test_a_refused_value_starts_no_second_complaint(write: Write):
    """A mistyped threshold is told once, not also as a contradiction with the other."""
    path = write('[strategy]\nvix_exit_threshold = "20"\n')

    assert 1 == len(refusal(path).message.splitlines())


BAD_VARIABLES = {
    "misspelt": ("MTUM_EOD_DATA__SORCE", "csv", ["data.sorce: there is no such key", "MTUM_EOD_DATA__SOURCE?"]),
    "one underscore": ("MTUM_EOD_DATA_SOURCE", "csv", ["did you mean MTUM_EOD_DATA__SOURCE?"]),
    "strange": ("MTUM_EOD_WIBBLE", "1", ["wibble: there is no such key", "sections: strategy"]),
    "text for a number": ("MTUM_EOD_STRATEGY__MA_PERIOD", "fifty", ['strategy.ma_period = "fifty"', "whole number"]),
    "empty number": ("MTUM_EOD_CAPITAL", "", ['capital = ""', "a number, above 0"]),
    "not a number": ("MTUM_EOD_CAPITAL", "nan", ["capital = NaN", "a number, above 0"]),
    "truth for a number": ("MTUM_EOD_CAPITAL", "true", ['capital = "true"', "a number, above 0"]),
    "number for a truth": ("MTUM_EOD_IB__GATEWAY", "2", ['ib.gateway = "2"', "true or false"]),
    "unknown event": ("MTUM_EOD_NOTIFICATIONS__EVENTS", "halt,mismtch", ["did you mean mismatch?"]),
    "section": ("MTUM_EOD_STRATEGY", "1", ["strategy: there is no such key"]),
}


@pytest.mark.parametrize(("variable", "text", "fragments"), BAD_VARIABLES.values(), ids=BAD_VARIABLES.keys())
def test_a_bad_variable_is_refused_in_words(variable: str, text: str, fragments: list[str]):
    """The variable is named as a file would be, and the nearest one as a variable."""
    expected = [f"environment {variable}: ", *fragments]
    message = refusal(None, {variable: text}).message

    assert expected == [fragment for fragment in expected if fragment in message]


def test_one_setting_given_by_two_variables_is_refused():
    """Which of the two spellings counts would be a matter of luck."""
    error = refusal(None, {"MTUM_EOD_CAPITAL": "1", "mtum_eod_capital": "2"})

    assert "environment: MTUM_EOD_CAPITAL and mtum_eod_capital are the same setting; keep one" == error.message


@pytest.mark.parametrize("key", ["check_interval", "save_signals", "email_to", "vix_threshold", "ma_window", "dry_run"])
@pytest.mark.parametrize("form", ["{key} = 1", "[ib]\n{key} = 1", "[strategy]\n{key} = 1"])
def test_a_key_of_the_original_plan_names_its_successor(write: Write, key: str, form: str):
    """Wherever the old key stands, the owner of the old file learns what replaces it."""
    path = write(form.format(key=key))
    successor = {
        "check_interval": "schedule.decide (one decision a session, no loop)",
        "save_signals": "nothing: every signal is in the database, see `mtum-eod export signals`",
        "email_to": "notifications.urls (an Apprise address such as mailto://...)",
        "vix_threshold": "strategy.vix_entry_threshold and strategy.vix_exit_threshold",
        "ma_window": "strategy.ma_period",
        "dry_run": "`mtum-eod run --dry-run`",
    }[key]

    assert refusal(path).message.endswith(f"{key}: a key of the original plan; now: {successor}")


def test_every_successor_that_is_a_key_exists():
    """A cure that names a key which is gone would be worse than none."""
    named = [
        word for words in SUCCESSORS.values() for word in words.split() if "." in word.strip(".") and "/" not in word
    ]

    assert [] == [word for word in named if word not in KEYS]


UNREADABLE = {
    "half-written": (b'[data]\nsource = "cs', ["not valid TOML", "line 2, the end of the file"]),
    "twice the same key": (b"capital = 1\ncapital = 2\n", ["not valid TOML", "line 2, column"]),
    "text without quotes": (b"mode = live\n", ["not valid TOML", "line 1, column 8"]),
    "not UTF-8": (b"# caf\xe9\n", ["not UTF-8 at byte 5"]),
    "a number of 5,000 digits": (b"capital = " + b"1" * 5000, ["not valid TOML"]),
    "brackets without end": (b"capital = " + b"[" * 100_000, ["not valid TOML"]),
}


@pytest.mark.parametrize(("text", "fragments"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_cannot_be_read_as_toml_says_where(write: Write, text: bytes, fragments: list[str]):
    """Half a file is no settings: the defaults are not taken in its place."""
    path = write(text)
    message = refusal(path).message

    assert [str(path), *fragments] == [fragment for fragment in [str(path), *fragments] if fragment in message]


def test_an_absent_named_file_is_refused(tmp_path: Path):
    """Whoever names a file does not want the defaults."""
    error = refusal(tmp_path / "gone.toml")

    assert f"{tmp_path / 'gone.toml'}: there is no such settings file" == error.message


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    """The hint names the file inside it."""
    error = refusal(tmp_path)

    assert (
        f"{tmp_path}: a folder, where a settings file is expected",
        f"Try --config {tmp_path / 'settings.toml'}.",
    ) == (
        error.message,
        error.hint,
    )


def test_the_systems_own_word_on_an_unreadable_path_is_passed_on(write: Write):
    """Here a file stands where a folder should."""
    path = write("capital = 1\n") / "settings.toml"

    assert f"{path}: the settings file cannot be read: Not a directory" == refusal(path).message


def test_an_unreadable_file_is_refused(write: Write):
    """The system's own word is passed on."""
    path = write("capital = 1\n", mode=0o000)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file; .ci/run tries it without that power")

    assert f"{path}: the settings file cannot be read: Permission denied" == refusal(path).message


# -- secrets ----------------------------------------------------------------------------------------------------------

PRIVATE_FILE = (
    '[notifications]\nurls = ["mailto://me:hunter2@example.org"]\nheartbeat_url = "https://hc.example/hunter2"\n'
)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_secrets_in_a_file_others_can_read_are_refused(write: Write, mode: int):
    """The hint is the command that mends it; the secret itself is not in the message."""
    path = write(PRIVATE_FILE, mode)
    error = refusal(path)

    assert (
        f"{path}: holds notifications.urls and notifications.heartbeat_url, which are secrets, and others can read it "
        f"(mode {mode:04o}, 0600 expected)",
        f"chmod 600 {path}, or set the secrets in the environment.",
    ) == (error.message, error.hint)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_secrets_in_a_file_of_the_owner_alone_are_accepted(write: Write, mode: int):
    """A file of mode 0600 is one of the two places for them."""
    loaded = load(write(PRIVATE_FILE, mode), {})

    assert ("mailto://me:hunter2@example.org",) == loaded.settings.notifications.urls


def test_secrets_are_never_shown(write: Write):
    """Every way of showing settings stops at the scheme."""
    loaded = load(write(PRIVATE_FILE, 0o600), {})
    shown = f"{describe(loaded)} {to_document(loaded.settings)} {loaded} {document_of(loaded.settings.parameters())}"

    assert ("hunter2" not in shown, ["mailto://…"], "https://…") == (
        True,
        to_document(loaded.settings)["notifications"]["urls"],
        to_document(loaded.settings)["notifications"]["heartbeat_url"],
    )


@pytest.mark.parametrize(
    "text",
    [
        '[notifications]\nurls = "mailto://me:hunter2@example.org"',
        '[notifications]\nurls = ["hunter2"]',
        '[notifications]\nurls = [["mailto://hunter2"]]',
        '[notifications]\nurls = {mail = "mailto://hunter2"}',
        '[notifications]\nheartbeat_url = "ftp://hunter2"',
        '[notifications]\nurl = "mailto://me:hunter2@example.org"',
        '[notification]\nurls = ["mailto://me:hunter2@example.org"]',
        'notifications = "mailto://me:hunter2@example.org"',
        'smtp_password = "hunter2"',
        '[email]\nsmtp_password = "hunter2"',
        '[database]\nurl = "postgresql://me:hunter2@host/db"',
        '[log]\nlevel = "tgram://hunter2/99"',
        '[log]\nlevel = "send to tgram://99/\\"hunter2"',
        '[log]\nlevel = ["tgram://hunter2/99"]',
        '[log]\nlevel = {to = "tgram://hunter2/99"}',
        '[notifications]\nevents = ["fill", "mailto://me:hunter2@example.org"]',
        'mode = "mailto://example.org?pass=hunter2"',
        '[notifications]\nurls = ["mailto://me:hunter2@example.org',
    ],
)
def test_a_refusal_does_not_repeat_a_secret(write: Write, text: str):
    """A message may be mailed, logged or pasted into a forum."""
    error = refusal(write(text, 0o600))

    assert "hunter2" not in f"{error.message} {error.hint} {error.__cause__}"


ANY_TEXT = {"notifications.urls", "data.csv_dir", "backup.dir", "log.dir"}
"""Keys that take an address: where it belongs, and folders, which may be called anything."""


@pytest.mark.parametrize("key", sorted(KEYS.keys() - ANY_TEXT))
def test_an_address_under_a_wrong_key_is_shown_by_its_scheme_alone(key: str):
    """Pasted into another variable than the one it was meant for."""
    error = refusal(None, {f"MTUM_EOD_{key.upper().replace('.', '__')}": "tgram://hunter2/99"})

    assert (False, True) == ("hunter2" in error.message, '"tgram://…"' in error.message)


# -- what settings are for --------------------------------------------------------------------------------------------


def test_the_defaults_are_the_cores_own():
    """Settings and core each state their defaults; they may not drift apart."""
    assert Parameters() == Settings().parameters()


def changed(tmp_path: Path) -> Settings:
    """Settings in which every value a decision depends on differs from its default, but for the order type."""
    text = """
        [strategy]
        ma_period = 60
        rsi_period = 10
        atr_period = 12
        volume_lookback = 30
        atr_multiplier = 3.5
        vix_entry_threshold = 22.5
        vix_exit_threshold = 28
        rsi_entry_threshold = 55
        rsi_exit_threshold = 35
        history_bars = 500
        volume_basis = "session"
        stop_loss_enabled = true
        stop_loss_pct = 7.5
        [risk]
        max_position_pct = 50
        max_position_size = 4000
        transaction_cost = 0.002
        price_buffer_pct = 2
        max_daily_loss = 250
        daily_loss_exit = true
        max_price_move_pct = 12
        require_confirmation = true
        late_exit = "skip"
        [schedule]
        preflight = 150
        decide = 25
        confirm = 90
        hard_stop = 16
        settle = 30
    """
    path = tmp_path / "changed.toml"
    path.write_text(text)
    return load(path, {}).settings


CHANGED = Parameters(
    strategy=StrategyParameters(
        ma_period=60,
        rsi_period=10,
        atr_period=12,
        volume_lookback=30,
        atr_multiplier=3.5,
        vix_entry_threshold=22.5,
        vix_exit_threshold=28.0,
        rsi_entry_threshold=55.0,
        rsi_exit_threshold=35.0,
        history_bars=500,
        volume_basis=VolumeChoice.SESSION,
        stop_loss_enabled=True,
        stop_loss_pct=7.5,
    ),
    risk=RiskParameters(
        max_position_pct=50.0,
        max_position_size=4000.0,
        transaction_cost=0.002,
        price_buffer_pct=2.0,
        max_daily_loss=250.0,
        daily_loss_exit=True,
        max_price_move_pct=12.0,
        require_confirmation=True,
        late_exit=LateExit.SKIP,
    ),
    schedule=ScheduleParameters(
        preflight_before=timedelta(minutes=150),
        decide_before=timedelta(minutes=25),
        confirm_before=timedelta(minutes=90),
        hard_stop_before=timedelta(minutes=16),
        settle_after=timedelta(minutes=30),
    ),
)


def test_each_setting_reaches_the_parameter_of_its_name(tmp_path: Path):
    """No setting is read and then forgotten."""
    assert CHANGED == changed(tmp_path).parameters()


def test_the_order_type_reaches_its_parameter_too():
    """It cannot stand beside `require_confirmation`."""
    settings = load(None, {"MTUM_EOD_IB__ORDER_TYPE": "MKT"}).settings

    assert Parameters(order_type=OrderType.MKT) == settings.parameters()


def test_recorded_settings_rebuild_the_parameters_of_their_day(tmp_path: Path):
    """Through JSON, as the database keeps them."""
    document = json.loads(json.dumps(document_of(changed(tmp_path).parameters())))

    assert CHANGED == parameters_from(document)


def test_recorded_settings_hold_only_what_a_decision_depends_on():
    """No secret and no address can get into the database with them."""
    document = document_of(Settings().parameters())

    assert {"strategy", "risk", "schedule", "order_type"} == set(document)


def test_a_key_younger_than_a_record_takes_its_default():
    """A day recorded before stop losses existed replays without one."""
    document = document_of(Settings().parameters())
    del document["strategy"]["stop_loss_enabled"]

    assert Parameters() == parameters_from(document)


def test_the_document_is_json():
    """It is printed by `config show --json` as it is."""
    document = to_document(Settings())

    assert document == json.loads(json.dumps(document))


def test_settings_do_not_change():
    """What was checked stays what was checked."""
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.strategy.ma_period = 3

    assert (50, list(Event)) == (settings.strategy.ma_period, list(settings.notifications.events))


# -- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "/base/mtum-eod-paper.db"),
        ("book.db", "/base/book.db"),
        ("data/book.db", "/base/data/book.db"),
        ("/var/lib/book.db", "/var/lib/book.db"),
        ("sqlite:///book.db", "/base/book.db"),
        ("sqlite:////var/lib/book.db", "/var/lib/book.db"),
        ("~/book.db", "/home/me/book.db"),
    ],
)
def test_a_database_is_found_from_the_settings_folder(url: str, expected: str, monkeypatch: pytest.MonkeyPatch):
    """The current folder of cron is nobody's business: relative paths start at the settings file."""
    monkeypatch.setenv("HOME", "/home/me")
    settings = load(None, {"MTUM_EOD_DATABASE__URL": url, "MTUM_EOD_DATA__SOURCE": "ib"}, {"mode": Mode.PAPER}).settings

    assert Path(expected) == settings.database_path(Path("/base"))


def test_all_folders_start_from_the_settings_folder(write: Write, tmp_path: Path):
    """The same rule for data, copies and logs."""
    loaded = load(write('[data]\ncsv_dir = "bars"\n[log]\ndir = "/var/log/mtum"\n'), {})
    settings, folder = loaded.settings, loaded.folder

    assert [tmp_path / "bars", tmp_path / "backups", Path("/var/log/mtum"), tmp_path / "mtum-eod-simulated.db"] == [
        settings.csv_dir(folder),
        settings.backup_dir(folder),
        settings.log_dir(folder),
        settings.database_path(folder),
    ]


# -- cost -------------------------------------------------------------------------------------------------------------


def test_importing_settings_loads_nothing_heavy():
    """Neither the e-mail checker nor the settings framework nor any adapter's library."""
    heavy = ["email_validator", "pydantic_settings", "platformdirs", "sqlalchemy", "alembic", "rich", "talib"]
    code = f"import sys, {module.__name__}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == found.stdout.strip()
