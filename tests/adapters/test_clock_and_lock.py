"""The clocks, and the lock against real processes: held, ended, killed."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mtum_eod.adapters.clock import SessionClock, SystemClock
from mtum_eod.adapters.lock import DatabaseLock, NoLock
from mtum_eod.errors import AlreadyRunning, StoreError

INSTANT = datetime(2024, 11, 5, 20, 40, tzinfo=UTC)


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_the_system_clock_tells_the_present_in_utc():
    """Between two looks at the machine's own clock."""
    before = datetime.now(UTC)
    now = SystemClock().now()

    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_the_system_clock_waits():
    """Ten milliseconds at least pass."""
    clock = SystemClock()
    before = clock.now()
    clock.sleep(timedelta(milliseconds=10))

    assert clock.now() - before >= timedelta(milliseconds=10)


def test_a_session_clock_stands_until_it_is_set_or_sleeps():
    """Twenty minutes' sleep take no time."""
    clock = SessionClock(INSTANT)
    seen = [clock.now(), clock.now()]
    clock.sleep(timedelta(minutes=20))
    seen.append(clock.now())
    clock.set(INSTANT + timedelta(days=1))
    seen.append(clock.now())

    assert [INSTANT, INSTANT, INSTANT + timedelta(minutes=20), INSTANT + timedelta(days=1)] == seen


def test_a_session_clock_turns_any_zone_into_utc():
    """Twenty to four in New York's winter."""
    clock = SessionClock(datetime(2024, 11, 5, 15, 40, tzinfo=timezone(timedelta(hours=-5))))

    assert (INSTANT, UTC) == (clock.now(), clock.now().tzinfo)


def test_a_session_clock_refuses_an_instant_without_a_zone():
    """When built and when set."""
    naive = datetime(2024, 11, 5, 20, 40)  # noqa: DTZ001  # the point of the test
    clock = SessionClock(INSTANT)

    with pytest.raises(ValueError, match="an instant without a zone"):
        SessionClock(naive)
    with pytest.raises(ValueError, match="an instant without a zone"):
        clock.set(naive)


# -- the lock ---------------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.lock import DatabaseLock
with DatabaseLock(Path(sys.argv[1]), SessionClock(datetime(2024, 11, 5, 20, 40, tzinfo=UTC))).hold():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "mtum-eod-simulated.db"


@pytest.fixture
def lock(database):
    return DatabaseLock(database, SessionClock(INSTANT))


@pytest.fixture
def other_process(database):
    """Another process that holds the lock until it reads a line, ends or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_it(lock, database, other_process):
    """With the pid, and since when."""
    with pytest.raises(AlreadyRunning) as caught, lock.hold():
        pass

    assert (
        f"another run holds the lock of {database}: pid {other_process.pid} since 2024-11-05 20:40:00 UTC"
        == caught.value.message
    )


@pytest.mark.usefixtures("other_process")
def test_being_refused_does_not_rub_out_the_holders_name(lock):
    """The second refusal reads like the first."""
    messages = []
    for _ in range(2):
        with pytest.raises(AlreadyRunning) as caught, lock.hold():
            pass
        messages.append(caught.value.message)

    assert messages[0] == messages[1]


def test_a_holder_that_ends_frees_it(lock, other_process):
    """The file stays, the lock does not."""
    other_process.communicate("\n", timeout=10)

    with lock.hold():
        pass


def test_a_killed_holder_leaves_no_lock(lock, database, other_process):
    """SIGKILL leaves its name in the file; the next run takes the lock and writes its own."""
    other_process.send_signal(signal.SIGKILL)
    other_process.wait(timeout=10)

    with lock.hold():
        text = database.with_name(database.name + ".lock").read_text()
    assert f"pid {os.getpid()} since 2024-11-05 20:40:00 UTC\n" == text


def test_two_runs_inside_one_process_exclude_each_other(lock, database):
    """Through the same object, another object and another thread."""
    refused = []

    def try_it(one):
        try:
            with one.hold():
                pass
        except AlreadyRunning:
            refused.append(one)

    other = DatabaseLock(database, SessionClock(INSTANT))
    with lock.hold():
        try_it(lock)
        try_it(other)
        thread = threading.Thread(target=try_it, args=(lock,))
        thread.start()
        thread.join()
    try_it(lock)

    assert [lock, other, lock] == refused


def test_an_error_inside_frees_it(lock):
    """A run that fails lets the next one in."""
    with pytest.raises(ZeroDivisionError), lock.hold():
        _ = 1 / 0

    with lock.hold():
        pass


def test_the_file_is_for_its_owner_only(lock, database):
    """Whatever the umask."""
    before = os.umask(0)
    try:
        with lock.hold():
            mode = stat.S_IMODE(database.with_name(database.name + ".lock").stat().st_mode)
    finally:
        os.umask(before)

    assert mode == 0o600


def test_the_database_s_folder_is_made_where_it_is_absent(tmp_path):
    """The lock comes before the database."""
    with DatabaseLock(tmp_path / "new" / "book.db", SessionClock(INSTANT)).hold():
        names = [path.name for path in (tmp_path / "new").iterdir()]

    assert ["book.db.lock"] == names


def test_a_folder_that_is_a_file_is_a_store_error(tmp_path):
    """Named with the file, the reason and what it takes."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError) as caught, DatabaseLock(tmp_path / "file" / "book.db", SessionClock(INSTANT)).hold():
        pass

    assert re.fullmatch(
        r"the lock .*/file/book\.db\.lock cannot be taken: (File exists|Not a directory)", str(caught.value)
    )


@pytest.mark.usefixtures("other_process")
def test_a_holder_that_has_not_written_its_name_yet_is_told_as_such(lock, database):
    """Another run took the lock a moment ago."""
    path = database.with_name(database.name + ".lock")
    path.write_text("")

    with pytest.raises(AlreadyRunning, match="it has not said who it is"), lock.hold():
        pass


def test_no_lock_writes_nothing(tmp_path):
    """A dry run leaves not even a lock, and holds as often as it likes."""
    lock = NoLock()
    with lock.hold(), lock.hold():
        pass

    assert list(tmp_path.iterdir()) == []
