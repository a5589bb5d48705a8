"""While a call waits for a server: other threads run, Ctrl-C ends it, progress is reported."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import nbd_extents
import pytest
from support import images
from support.server import honest, serve


def slow(conn, answers=20, pause=0.05):
    """Answers a part of the disk at a time, and not at once."""
    conn.handshake()
    piece = conn.size // answers
    for _, cookie, offset, _ in conn.requests():
        time.sleep(pause)
        conn.answer(cookie, 0, [(piece, offset // piece % 2 * 3)])


def test_other_threads_run_during_a_survey(folder):
    count, stop = 0, threading.Event()

    def work():
        nonlocal count
        while not stop.is_set():
            count += 1

    with serve(folder / "s", slow, size=20 << 20) as uri:
        thread = threading.Thread(target=work)
        thread.start()
        before = count
        map = nbd_extents.survey(uri)
        during = count - before
        stop.set()
        thread.join()
    assert len(map) == 20
    assert during > 10_000, "the interpreter was held while the survey waited"


def test_surveys_run_beside_each_other(folder):
    with serve(folder / "s", slow, size=20 << 20) as uri:
        start = time.monotonic()
        nbd_extents.survey(uri)
        alone = time.monotonic() - start
        threads = [threading.Thread(target=nbd_extents.survey, args=(uri,)) for _ in range(8)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - start < 4 * alone


def test_asyncio(folder):
    async def both(uri):
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.02)
                ticks += 1

        clock = asyncio.create_task(tick())
        map = await asyncio.to_thread(nbd_extents.survey, uri)
        clock.cancel()
        return len(map), ticks

    with serve(folder / "s", slow, size=20 << 20) as uri:
        extents, ticks = asyncio.run(both(uri))
    assert extents == 20
    assert ticks >= 10, "the event loop stood still"


def test_progress(folder):
    seen = []
    # the survey tells of what it knows each time that all requests in flight have been answered
    with serve(folder / "s", lambda conn: slow(conn, 120, 0.02), size=120 << 20) as uri:
        nbd_extents.survey(uri, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == (120 << 20, 120 << 20)


def test_progress_is_told_of_a_survey_that_is_over_at_once(folder):
    seen = []
    with serve(folder / "s", honest) as uri:
        nbd_extents.survey(uri, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (1 << 20, 1 << 20)


def test_an_exception_of_the_callback_ends_the_survey(folder):
    def refuse(done, total):
        raise LookupError("enough")

    with serve(folder / "s", lambda conn: slow(conn, pause=0.5), size=20 << 20) as uri:
        start = time.monotonic()
        with pytest.raises(LookupError, match="enough"):
            nbd_extents.survey(uri, progress=refuse)
        assert time.monotonic() - start < 3


WAITING = """
    import time
    import nbd_extents
    print("ready", flush=True)
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("phase", ["handshake", "survey"])
def test_ctrl_c_ends_a_survey_at_once(folder, phase):
    silence = threading.Event()

    def silent(conn):
        if phase == "survey":
            conn.handshake()
        silence.wait(20)

    with serve(folder / "s", silent) as uri:
        ctrl_c(f"nbd_extents.survey({uri!r})")
    silence.set()


def ctrl_c(call):
    """Runs a call in a process of its own, which is interrupted after half a second.

    Beside it sleeps a process that is interrupted at the same moment. It tells how long a busy
    machine takes to wake anyone, which is not the call's to answer for.
    """
    processes = [interruptible(call), interruptible("time.sleep(60)")]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        sent = time.monotonic()
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
        took, machine = [ended(process) - sent for process in processes]
        assert took < 0.5 + 4 * machine, f"Ctrl-C waits, and a sleep ended after {machine} s"
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def interruptible(call):
    code = textwrap.dedent(WAITING).format(call=call)
    # tests that a shell started in the background ignore SIGINT, and so would the process
    command = ["env", "--default-signal=INT", sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process):
    """When the interrupted call ended, by the clock that all processes share."""
    word, moment = process.stdout.readline().split()
    assert word == "interrupted"
    assert process.wait(timeout=10) == 0
    return float(moment)
