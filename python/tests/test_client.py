"""Reads, writes and plans over a live connection, and servers that fail in the middle."""

import os
import random
import threading
import time

import nbd_extents
import pytest
from nbd_extents import BrokenRulesError, Client, LostConnectionError, NbdExtentsError
from support import images
from support.server import serve
from test_waiting import ctrl_c

SIZE = 24 << 20


@pytest.fixture
def disk(folder):
    """A raw image of random bytes with holes, and its content."""
    chance = random.Random(17)
    content = bytearray(SIZE)
    for _ in range(60):
        start = chance.randrange(SIZE // 65536) * 65536
        length = min(chance.randrange(1, 12) * 65536, SIZE - start)
        content[start : start + length] = chance.randbytes(length)
    path = folder / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for start in range(0, SIZE, 65536):
            if any(content[start : start + 65536]):
                file.seek(start)
                file.write(content[start : start + 65536])
    return path, bytes(content)


def test_reads(folder, disk):
    path, content = disk
    with images.qemu_nbd(path, folder / "s", image_format="raw"):
        with Client(images.uri(folder / "s")) as client:
            assert (client.size, client.read_only) == (SIZE, True)
            for start, length in [(0, 512), (0, 0), (SIZE, 0), (4096, 1 << 20), (0, SIZE), (SIZE - 512, 512)]:
                assert client.read(start, length) == content[start : start + length]
            for start, length in [(SIZE, 1), (0, SIZE + 1), (2**63, 2**63), (0, 2**64 - 1)]:
                with pytest.raises(ValueError, match="do not lie within"):
                    client.read(start, length)
            with pytest.raises(OverflowError):
                client.read(-1, 1)
            with pytest.raises(NbdExtentsError, match="read-only"):
                client.write(0, bytes(512))
            assert client.read(512, 512) == content[512:1024], "the connection goes on"
        with pytest.raises(RuntimeError, match="closed"):
            client.read(0, 512)


def test_a_plan_is_read(folder, disk):
    path, content = disk
    with images.qemu_nbd(path, folder / "s", image_format="raw"):
        uri = images.uri(folder / "s")
        map = nbd_extents.survey(uri)
        target = bytearray(SIZE)
        with Client(uri) as client:
            for offset, data in client.blocks(map.plan(block_size=4096)):
                target[offset : offset + len(data)] = data
            assert target == content
            ranges = [(1 << 20, 12 << 20), (0, 512), (5, 0), (SIZE - 4096, 4096)]
            read = [(offset, len(data)) for offset, data in client.blocks(ranges)]
            assert sum(length for _, length in read) == sum(length for _, length in ranges)
            assert read[0][0] == 1 << 20 and read[-1] == (SIZE - 4096, 4096)
            for wrong, error in [
                ([5], TypeError), ([(0, SIZE + 1)], ValueError), ([(2**63, 2**63)], ValueError),
                ([(-1, 1)], OverflowError), (5, TypeError),
            ]:
                with pytest.raises(error):
                    client.blocks(wrong)


def test_an_iterator_that_is_dropped_gives_the_connection_back(folder, disk):
    path, content = disk
    with images.qemu_nbd(path, folder / "s", image_format="raw"):
        with Client(images.uri(folder / "s")) as client:
            blocks = client.blocks([(0, SIZE)])
            next(blocks)
            with pytest.raises(RuntimeError, match="another call"):
                client.read(0, 512)
            del blocks
            assert client.read(0, 512) == content[:512]


def test_writes(folder):
    path = folder / "disk.raw"
    path.write_bytes(bytes([7]) * SIZE)
    expected = bytearray(path.read_bytes())
    with images.qemu_nbd(path, folder / "s", image_format="raw", read_only=False):
        with Client(images.uri(folder / "s")) as client:
            assert not client.read_only
            for offset, data in [
                (0, b"\1" * 512), (4096, bytearray(b"\2" * 512)),
                (1 << 20, memoryview(b"\3" * (3 << 20))),
            ]:
                client.write(offset, data)
                expected[offset : offset + len(data)] = data
            client.zero(8 << 20, 4 << 20)
            expected[8 << 20 : 12 << 20] = bytes(4 << 20)
            client.flush()
            for wrong in ("text", 5, None):
                with pytest.raises(TypeError):
                    client.write(0, wrong)
            with pytest.raises(ValueError):
                client.write(SIZE - 1, b"ab")
    assert path.read_bytes() == expected


def test_a_slow_caller_holds_nothing_up(folder, disk):
    """Nothing is in flight while the caller does not ask: qemu can close the export at once."""
    path, _ = disk
    with images.qemu_nbd(path, folder / "s", image_format="raw") as server:
        with Client(images.uri(folder / "s")) as client:
            blocks = client.blocks([(0, SIZE)])
            next(blocks)
            time.sleep(0.5)
            server.terminate()
            # with an answer that it cannot send, qemu waits until the client goes away
            server.wait(timeout=60)
            with pytest.raises(LostConnectionError):
                for _ in blocks:
                    pass


def silent(conn):
    conn.handshake()
    time.sleep(20)


def test_a_silent_server(folder):
    with serve(folder / "s", silent) as uri:
        with Client(uri, request_timeout=0.4) as client:
            with pytest.raises(LostConnectionError):
                client.read(0, 512)
            with pytest.raises(NbdExtentsError):
                client.read(0, 512)


def test_garbage(folder):
    def garbage(conn):
        conn.handshake()
        next(conn.requests())
        conn.send(os.urandom(256))

    with serve(folder / "s", garbage) as uri:
        with Client(uri) as client:
            with pytest.raises(BrokenRulesError):
                client.read(0, 512)


def test_ctrl_c_ends_a_read(folder):
    with serve(folder / "s", silent) as uri:
        ctrl_c(f"nbd_extents.Client({uri!r}).read(0, 512)")


def test_ctrl_c_ends_blocks(folder):
    with serve(folder / "s", silent) as uri:
        ctrl_c(f"list(nbd_extents.Client({uri!r}).blocks([(0, 512)]))")


def test_closing_ends_a_call_of_another_thread(folder):
    with serve(folder / "s", silent) as uri:
        client = Client(uri)
        failed = threading.Event()

        def read():
            try:
                client.read(0, 512)
            except NbdExtentsError:
                failed.set()

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.2)
        client.close()
        thread.join(timeout=5)
        assert failed.is_set()


def test_arguments():
    for call, error in [
        (lambda: Client("disk"), ValueError),
        (lambda: Client(5), TypeError),
        (lambda: Client("nbd+unix:///?socket=/nowhere"), LostConnectionError),
        (lambda: Client("nbd+unix:///?socket=/nowhere", connect_timeout=0), ValueError),
    ]:
        with pytest.raises(error):
            call()
