"""The connection to IB: made when needed, refused in words, bounded in time, and gone without a trace."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import gateway
import pytest
from receivers import serving

from mtum_eod.core.trading import Mode
from mtum_eod.errors import BrokerUnavailable, MtumEodError, SettingsError
from mtum_eod.ports import Known, Unknown
from tws_server import Server


@pytest.fixture(params=[157, 176])
def tws(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(version=request.param) as server:
        yield server


def positions(line: gateway.Line, tws: Server) -> object:
    return gateway.broker(line, tws).shares_held("MTUM")


def test_nothing_is_connected_before_something_is_asked(tws: Server) -> None:
    """A command that asks the broker nothing needs no Gateway."""
    with gateway.line(tws) as line:
        gateway.broker(line, tws)
        gateway.data(line, tws)

    assert [] == tws.received


def test_one_connection_serves_all_questions_of_a_job(tws: Server) -> None:
    with gateway.line(tws) as line:
        held = [positions(line, tws) for _ in range(3)]

    assert ([Known(0.0)] * 3, 1) == (held, len(tws.asked("startApi")))


def test_a_connection_lost_as_soon_as_it_is_made_is_made_again(tws: Server) -> None:
    """Between the Gateway's last word of welcome and our first one."""
    tws.faults.drop(after="nextValidId")
    with gateway.line(tws) as line:
        held = positions(line, tws)

    assert (Known(0.0), 2) == (held, len(tws.asked("startApi")))


def refuse(tws: Server) -> None:
    tws.refuse()


def be_silent(tws: Server) -> None:
    tws.faults.hang("serverVersion")


def tell_no_account(tws: Server) -> None:
    tws.faults.hang("managedAccounts")


def tell_no_id(tws: Server) -> None:
    tws.faults.hang("nextValidId")


def hang_up(tws: Server) -> None:
    tws.faults.drop(before="managedAccounts", times=None)


@pytest.mark.parametrize(
    ("trouble", "words", "hint"),
    [
        (refuse, "nothing takes connections at 127.0.0.1", "start IB Gateway"),
        (be_silent, "did not start its API: no answer within", "log in"),
        (tell_no_account, "did not start its API: no answer within", "log in"),
        (tell_no_id, "did not start its API: no answer within", "log in"),
        (hang_up, "did not start its API: the connection was lost", "log in"),
    ],
)
def test_a_gateway_that_is_not_there_is_told_with_its_cure(tws: Server, trouble, words: str, hint: str) -> None:
    """Reads say unknown; what cannot go on without a connection ends with exit code 4."""
    trouble(tws)
    with gateway.line(tws, reconnect_timeout=0.3) as line:
        with pytest.raises(BrokerUnavailable) as failure:
            _ = line.account
        answer = positions(line, tws)

    assert (4, True, True) == (failure.value.exit_code, words in failure.value.message, hint in failure.value.hint)
    assert words in answer.why


def test_a_client_id_in_use_is_named(tws: Server) -> None:
    """Another run is connected; the terminal says 326 and hangs up."""
    with gateway.line(tws) as first, gateway.line(tws) as second:
        _ = first.account
        with pytest.raises(BrokerUnavailable, match="has a connection with client id 1 already"):
            _ = second.account


def test_a_look_takes_the_next_client_id_that_is_free(tws: Server) -> None:
    """Three look at once; the fourth finds every number taken."""
    with (
        gateway.line(tws, spare_ids=2) as first,
        gateway.line(tws, spare_ids=2) as second,
        gateway.line(tws, spare_ids=2) as third,
        gateway.line(tws, spare_ids=2, reconnect_timeout=0.3) as fourth,
    ):
        ids = [(line.account, line.client_id)[1] for line in (first, second, third)]
        with pytest.raises(BrokerUnavailable, match="has a connection with client id 3 already"):
            _ = fourth.account

    assert [1, 2, 3] == ids


class SaysInUse(StreamRequestHandler):
    """A Gateway that names every client id as taken and leaves the socket open; the API's frames are spelled out."""

    def handle(self) -> None:
        self.rfile.read(4)  # "API", and a zero
        self.hear()
        self.say("157", "20241105 15:00:00 EST")
        self.hear()
        self.say("4", "2", "-1", "326", "Unable to connect as the client id is already in use.")
        self.rfile.read(1)

    def hear(self) -> None:
        self.rfile.read(int.from_bytes(self.rfile.read(4)))

    def say(self, *fields: str) -> None:
        content = "".join(f"{field}\0" for field in fields).encode()
        self.wfile.write(len(content).to_bytes(4) + content)


def test_taken_client_ids_are_no_wait_each(tws: Server) -> None:
    """Three numbers are taken; each waited for as long as one would be long past the deadline."""
    with (
        serving(ThreadingTCPServer(("127.0.0.1", 0), SaysInUse)) as taken,
        gateway.line(tws, port=taken.port, spare_ids=2, reconnect_timeout=3) as line,
    ):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="has a connection with client id 3 already"):
            _ = line.account

    assert time.monotonic() - began < 2


def test_a_host_that_does_not_exist_is_named(tws: Server) -> None:
    with (
        gateway.line(tws, host="256.256.256.256") as line,
        pytest.raises(BrokerUnavailable, match=r"there is no host 256\.256"),
    ):
        _ = line.account


@pytest.mark.parametrize(
    ("mode", "wanted", "managed", "refused"),
    [
        (Mode.PAPER, "", ["DU1"], None),
        (Mode.PAPER, "DU2", ["DU1", "DU2"], None),
        (Mode.LIVE, "U1", ["U1", "U2"], None),
        (Mode.SIMULATED, "", ["U1"], None),
        (Mode.PAPER, "", ["U1"], "mode is paper, but U1 is no paper account: it is real money"),
        (Mode.PAPER, "", ["DU1", "DU2"], "manages 2 accounts (DU1, DU2), one expected"),
        (Mode.PAPER, "DU3", ["DU1"], "logged in to DU1, this book trades DU3"),
        (Mode.LIVE, "U1", ["U2"], "logged in to U2, this book trades U1"),
        (Mode.LIVE, "DU1", ["DU1"], "mode is live, but DU1 is a paper account"),
    ],
)
def test_only_the_right_kind_of_account_is_taken(
    tws: Server, mode: Mode, wanted: str, managed: list[str], refused: str | None
) -> None:
    """Paper money in paper, the one named account in live; the wrong login ends with exit code 2."""
    tws.managed_accounts[:] = managed
    with gateway.line(tws, mode=mode, account=wanted) as line:
        try:
            got = line.account
        except SettingsError as error:
            got = error.message

    assert (wanted or managed[0]) == got if refused is None else refused in got


def test_a_lost_connection_is_made_again_and_counted(tws: Server) -> None:
    """The socket breaks in the middle of an answer; a read is asked again."""
    tws.hold("MTUM", 19, 204.10)
    tws.faults.drop(before="positionEnd")
    with gateway.line(tws) as line:
        held = positions(line, tws)

    assert (Known(19.0), 1) == (held, line.retries)


def test_an_unanswered_read_is_unknown_after_its_repeats(tws: Server) -> None:
    """Time-out and one repeat, as max_retries says."""
    tws.faults.hang("reqPositions")
    with gateway.line(tws) as line:
        held = positions(line, tws)

    assert isinstance(held, Unknown)
    assert "did not answer about positions: no answer within 1 s" in held.why
    assert 2 == len(tws.asked("reqPositions"))


def test_an_answer_cut_short_is_unknown_not_shorter(tws: Server) -> None:
    """The rows came, the end mark did not."""
    tws.hold("MTUM", 19, 204.10)
    tws.faults.hang("positionEnd")
    with gateway.line(tws) as line:
        assert isinstance(positions(line, tws), Unknown)


def test_a_late_end_mark_ends_no_later_question(tws: Server) -> None:
    """The rows of the first answer came before its time-out, its end mark after: the second must not be empty."""
    tws.hold("MTUM", 19, 204.10)
    tws.faults.late("positionEnd", 0.7, times=1)
    tws.faults.late("reqPositions", 0.4, skip=1)
    with gateway.line(tws) as line:
        held = positions(line, tws)

    assert Known(19.0) == held


def test_no_wait_goes_beyond_the_steps_deadline(tws: Server) -> None:
    """30 s may a request take, but the step ends in 0.3 s."""
    tws.faults.hang("reqPositions")
    with gateway.line(tws, request_timeout=30.0, max_retries=0) as line:
        line.finish_by(tws.clock.now() + timedelta(seconds=0.3))
        began = time.monotonic()
        held = positions(line, tws)
        took = time.monotonic() - began

    assert isinstance(held, Unknown)
    assert took < 2.0


def test_nothing_is_repeated_that_could_not_wait_its_turn_before_the_deadline(tws: Server) -> None:
    """Between two tries up to 5 s go by; the step ends in 3."""
    tws.faults.hang("reqPositions")
    with gateway.line(tws, request_timeout=0.2, max_retries=9) as line:
        line.finish_by(tws.clock.now() + timedelta(seconds=3))
        held = positions(line, tws)

    assert isinstance(held, Unknown)
    assert 1 == len(tws.asked("reqPositions"))


def test_the_brokers_own_waiting_time_ends_with_the_step(tws: Server) -> None:
    """Bars asked for too often are asked for again after 16 s; the step ends in 2."""
    ends = tws.clock.now() + timedelta(seconds=2)
    with gateway.line(tws) as line:
        line.finish_by(ends)
        line.pause(timedelta(seconds=16))

    assert tws.clock.now() - ends < timedelta(seconds=1)


def test_past_the_deadline_nothing_is_asked(tws: Server) -> None:
    with gateway.line(tws) as line:
        line.finish_by(tws.clock.now())
        held = positions(line, tws)

    assert isinstance(held, Unknown)
    assert "no time left" in held.why
    assert [] == tws.received


def test_jobs_in_worker_threads_leave_no_thread_and_no_socket(tws: Server) -> None:
    """Fifty jobs in a pool such as APScheduler's, each with its own connection."""

    def job(number: int) -> object:
        with gateway.line(tws, client_id=number + 1, request_timeout=20.0, reconnect_timeout=20.0) as line:
            return positions(line, tws)

    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0

    job(0)
    before = threading.active_count(), handles()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(job, range(50)))
    for _ in range(100):  # the server's ends of the sockets
        if handles() <= before[1]:
            break
        time.sleep(0.05)

    assert [Known(0.0)] * 50 == answers
    assert before == (threading.active_count(), handles())


def test_a_job_in_a_thread_of_a_fresh_process_may_be_the_first_to_need_the_library(tws: Server) -> None:
    """The library's package of events wants an event loop as it is imported, which a worker thread has not."""
    code = f"""
import sys, threading, warnings
sys.path.insert(0, "tests")
warnings.simplefilter("error")
import gateway
from mtum_eod.adapters.ib.accounts import chooser
from mtum_eod.adapters.ib.line import Line
from mtum_eod.adapters.clock import SystemClock
from mtum_eod.core.trading import Mode

def job():
    line = Line(host="127.0.0.1", port={tws.port}, client_ids=[7], choose_account=chooser(Mode.PAPER, ""),
                clock=SystemClock(), request_timeout=5, reconnect_timeout=5, max_retries=0)
    print(line.account)
    line.close()

for _ in range(2):
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)

    assert ("DU1234567\n" * 2, "") == (done.stdout, done.stderr)


def test_the_errors_of_a_line_are_ours(tws: Server) -> None:
    """Doors catch one class; nothing of the library's comes through."""
    tws.refuse()
    with gateway.line(tws) as line, pytest.raises(MtumEodError):
        line.connected()


def test_a_loop_that_cannot_be_made_ends_in_words(tws: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files: the run holds the lock, so it may not wait for ever; the next question tries anew."""

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with gateway.line(tws) as line:
        with monkeypatch.context() as full:
            full.setattr("asyncio.events.new_event_loop", none_left)
            refused = positions(line, tws)
        again = positions(line, tws)

    assert (Unknown, True, Known(0.0)) == (type(refused), "Too many open files" in refused.why, again)
