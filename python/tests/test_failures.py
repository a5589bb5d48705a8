"""Every class of error, and servers that are killed, silent or hostile."""

import errno
import itertools
import socket
import struct
import threading
import time

import nbd_extents
import pytest
from nbd_extents import BrokenRulesError, LostConnectionError, NbdExtentsError, NotThereError, OtherError
from support import images, wire
from support.server import honest, serve


def test_the_classes():
    codes = {NotThereError: 3, LostConnectionError: 4, BrokenRulesError: 5, OtherError: 1}
    for kind, code in codes.items():
        assert issubclass(kind, NbdExtentsError) and kind.exit_code == code
    assert NbdExtentsError.exit_code == 1
    assert not issubclass(NbdExtentsError, (OSError, ValueError))


@pytest.mark.parametrize("uri", ["", "disk", "http://host/", "nbd+unix:///", "nbd://"])
def test_no_uri(uri):
    with pytest.raises(ValueError):
        nbd_extents.survey(uri)


def test_wrong_arguments():
    survey = nbd_extents.survey
    uri = "nbd+unix:///?socket=/nowhere"
    for call, error in [
        (lambda: survey(), TypeError),
        (lambda: survey(5), TypeError),
        (lambda: survey(uri, "b0"), TypeError),
        (lambda: survey(uri, [5]), TypeError),
        (lambda: survey(uri, 5), TypeError),
        (lambda: survey(uri, ["b0", "b0"]), ValueError),
        (lambda: survey(uri, [""]), ValueError),
        (lambda: survey(uri, ["b"] * 33), ValueError),
        (lambda: survey(uri, bitmap_first=True), ValueError),
        (lambda: survey(uri, offset=-1), OverflowError),
        (lambda: survey(uri, offset=2**64), OverflowError),
        (lambda: survey(uri, length=-1), OverflowError),
        (lambda: survey(uri, length=1.5), TypeError),
        (lambda: survey(uri, timeout=-1), ValueError),
        (lambda: survey(uri, timeout=0), ValueError),
        (lambda: survey(uri, timeout=float("nan")), ValueError),
        (lambda: survey(uri, request_timeout="1"), TypeError),
        (lambda: survey(uri, (name for name in [])), LostConnectionError),
        (lambda: nbd_extents.Survey(-1, ["base:allocation"]), OverflowError),
        (lambda: nbd_extents.Survey(2**64, ["base:allocation"]), OverflowError),
        (lambda: nbd_extents.Survey(2**63, ["base:allocation"]), OverflowError),
        (lambda: nbd_extents.Survey(1, []), ValueError),
        (lambda: nbd_extents.Survey(1, ["x:y"]), ValueError),
        (lambda: nbd_extents.Survey(1, "base:allocation"), TypeError),
        (lambda: nbd_extents.Survey(1, ["base:allocation"]).reply_done(None), TypeError),
        (lambda: nbd_extents.Extent(0, 0), ValueError),
        (lambda: nbd_extents.Extent(-1, 1), OverflowError),
        (lambda: nbd_extents.Extent(2**63, 1), OverflowError),
    ]:
        with pytest.raises(error):
            call()


def test_nobody_listens(folder):
    with pytest.raises(LostConnectionError, match="cannot connect"):
        nbd_extents.survey(images.uri(folder / "nothing"))


def test_no_such_export_and_no_such_bitmap(folder):
    image, path = folder / "d.qcow2", folder / "s"
    images.create(image, 1 << 20)
    with images.qemu_nbd(image, path, "-x", "disk"):
        with pytest.raises(NotThereError, match="other"):
            nbd_extents.survey(images.uri(path, "other"))
        with pytest.raises(NotThereError, match="b9"):
            nbd_extents.survey(images.uri(path, "disk"), ["b9"])
        with pytest.raises(NotThereError, match="depth"):
            nbd_extents.survey(images.uri(path, "disk"), depth=True)
        assert nbd_extents.survey(images.uri(path, "disk")).size == 1 << 20


def test_a_survey_that_is_not_complete():
    survey = nbd_extents.Survey(8192, ["base:allocation"])
    with pytest.raises(OtherError):
        survey.complete()


def test_a_server_that_is_killed(folder):
    started, path = threading.Event(), folder / "s"
    image = folder / "d.qcow2"
    images.create(image, 1 << 20)

    def killed(conn):
        conn.handshake()
        next(conn.requests())
        started.set()
        conn.sock.shutdown(socket.SHUT_RDWR)

    with serve(path, killed) as uri:
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(uri)
    assert started.is_set()


def test_qemu_is_killed_while_it_is_asked(folder):
    image, path = folder / "d.raw", folder / "s"
    with open(image, "wb") as file:
        file.truncate(1 << 40)
    with images.qemu_nbd(image, path, image_format="raw") as process:
        process.send_signal(19)  # SIGSTOP: it is silent first, and then killed
        threading.Timer(0.3, process.kill).start()
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(images.uri(path))


@pytest.mark.parametrize("limit", ["timeout", "request_timeout"])
def test_a_silent_server(folder, limit):
    silence = threading.Event()

    def silent(conn):
        conn.handshake()
        silence.wait(20)

    with serve(folder / "s", silent) as uri:
        start = time.monotonic()
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(uri, **{limit: 0.4})
        assert 0.3 < time.monotonic() - start < 5
    silence.set()


def test_a_server_that_is_silent_from_the_start(folder):
    silence = threading.Event()
    with serve(folder / "s", lambda conn: silence.wait(20)) as uri:
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(uri, timeout=0.4)
    silence.set()


def drip(conn):
    """A byte at a time is no progress."""
    conn.handshake()
    _, cookie, _, _ = next(conn.requests())
    reply = struct.pack(">IHHQIIII", wire.REPLY, 1, wire.CHUNK_BLOCK_STATUS, cookie, 12, 0, 1 << 20, 0)
    for byte in itertools.chain(reply[:-1]):
        conn.send(bytes([byte]))
        time.sleep(0.2)


def test_a_server_that_drips(folder):
    with serve(folder / "s", drip) as uri:
        with pytest.raises(LostConnectionError):
            nbd_extents.survey(uri, timeout=0.7)


def hostile(name):
    def script(conn):
        if not conn.handshake():
            return
        for _, cookie, _, length in conn.requests():
            {
                "garbage": lambda: conn.send(b"\xff" * 64),
                "wrong cookie": lambda: conn.answer(cookie + 1000, 0, [(length, 0)]),
                "wrong context": lambda: conn.answer(cookie, 9, [(length, 0)]),
                "empty list": lambda: conn.answer(cookie, 0, []),
                "length of 0": lambda: conn.answer(cookie, 0, [(0, 0)]),
                "cut list": lambda: conn.chunk(cookie, wire.CHUNK_BLOCK_STATUS, bytes(9)),
                "nothing": lambda: conn.chunk(cookie, 0, b""),
                "huge chunk": lambda: conn.send(
                    struct.pack(">IHHQI", wire.REPLY, 1, wire.CHUNK_BLOCK_STATUS, cookie, 0xFFFFFFF0)
                ),
                "error": lambda: conn.fail(cookie, errno.EIO),
            }[name]()

    return script


@pytest.mark.parametrize(
    "name",
    [
        "garbage", "wrong cookie", "wrong context", "empty list", "length of 0", "cut list",
        "nothing", "huge chunk", "error",
    ],
)
def test_a_hostile_server(folder, name):
    with serve(folder / "s", hostile(name)) as uri:
        with pytest.raises((BrokenRulesError, LostConnectionError)) as raised:
            nbd_extents.survey(uri, timeout=10)
        assert raised.type is BrokenRulesError, raised.value


def test_a_server_that_is_no_nbd_server(folder):
    with serve(folder / "s", lambda conn: conn.send(b"SSH-2.0-OpenSSH_9.2\r\n" * 8)) as uri:
        with pytest.raises(BrokenRulesError):
            nbd_extents.survey(uri)


def test_an_honest_script_is_not_refused(folder):
    with serve(folder / "s", honest) as uri:
        assert [(e.start, e.length, e.zero) for e in nbd_extents.survey(uri)] == [(0, 1 << 20, False)]
