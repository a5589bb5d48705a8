"""Whole backups, restored by a reader of the tests' own and compared with the disk."""

import json
import os
import threading

import nbd_extents
import pytest
from nbd_extents import LostConnectionError, NotThereError, OtherError
from support import images
from support.server import serve
from test_survey_live import SIZE, dirty_image
from test_waiting import ctrl_c

HEADER = 40


def frames(data):
    """The frames of a stream, as (kind, start, length, payload), up to the last."""
    at = 0
    while True:
        header = data[at : at + HEADER]
        assert header[-2:] == b"\r\n"
        kind, start, length = header[:4].decode(), int(header[5:21], 16), int(header[22:38], 16)
        at += HEADER
        payload = b""
        if kind in ("meta", "data"):
            payload = data[at : at + length]
            assert data[at + length : at + length + 2] == b"\r\n"
            at += length + 2
        yield kind, start, length, payload
        if kind == "stop":
            return


def restore(disk, stream):
    """Puts the frames of a stream onto a disk; the meta frame."""
    meta = None
    for kind, start, length, payload in frames(stream):
        if kind == "meta":
            meta = json.loads(payload)
            disk.extend(bytes(meta["virtual-size"] - len(disk)))
        elif kind == "data":
            disk[start : start + length] = payload
        elif kind == "zero":
            disk[start : start + length] = bytes(length)
    return meta


def content(image, folder):
    images.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, folder / "raw")
    return (folder / "raw").read_bytes()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bitmap_first", [False, True])
def test_a_chain_of_backups_restores_the_disk(folder, seed, bitmap_first):
    image = dirty_image(folder, seed, bitmaps=())
    full, changed = folder / "full", folder / "changed"
    with images.qemu_nbd(image, folder / "a"):
        nbd_extents.backup(images.uri(folder / "a"), full, checkpoint="sunday")
    disk = bytearray()
    assert restore(disk, full.read_bytes())["incremental"] is False
    assert disk == content(image, folder)

    images.add_bitmap(image, "b0", "-g", "4096")
    images.qemu_io(
        image,
        "write -P 5 1M 300k", "write -z 3M 64k", "discard 5M 1M", f"write -P 9 {SIZE - 4096} 4k",
    )
    with images.qemu_nbd(image, folder / "b", "-B", "b0"):
        uri = images.uri(folder / "b")
        totals = nbd_extents.backup(
            uri, str(changed), ["b0"], checkpoint="monday", after=full, bitmap_first=bitmap_first
        )
        assert totals == nbd_extents.survey(uri, ["b0"]).totals()
    meta = restore(disk, changed.read_bytes())
    assert meta["incremental"] is True and "sunday" in json.dumps(meta) and "monday" in json.dumps(meta)
    assert disk == content(image, folder)
    assert totals["copy"] + totals["zero"] < SIZE / 2
    names = [path.name for path in folder.iterdir()]
    assert [name for name in names if "partial" in name or "tmp" in name] == []


def test_what_does_not_fit(folder):
    image, full = dirty_image(folder, 1), folder / "full"
    with images.qemu_nbd(image, folder / "s", "-B", "b0"):
        uri = images.uri(folder / "s")
        with pytest.raises(NotThereError):
            nbd_extents.backup(uri, folder / "new", ["b0"], previous_size=SIZE // 2)
        nbd_extents.backup(uri, folder / "new", ["b0"], previous_size=SIZE // 2, parent="p", grown=True)
        nbd_extents.backup(uri, full)
        with pytest.raises(NotThereError, match="no checkpoint"):
            nbd_extents.backup(uri, folder / "next", ["b0"], after=full)
        with pytest.raises(NotThereError):
            nbd_extents.backup(uri, folder / "next", ["b0"], after=folder / "nothing")
        # as the program: a missing file to read has the exit code 3, a missing folder to write to 1
        with pytest.raises(OtherError, match="no/folder: No such file"):
            nbd_extents.backup(uri, folder / "no" / "folder", checkpoint="c")
        with pytest.raises(OtherError, match="regular file"):
            nbd_extents.backup(uri, folder)
        for wrong in (
            {"after": full}, {"previous_size": 1}, {"grown": True}, {"bitmap_first": True},
            {"timeout": -1},
        ):
            with pytest.raises(ValueError):
                nbd_extents.backup(uri, folder / "next", **wrong)
        with pytest.raises(ValueError):
            nbd_extents.backup(uri, folder / "next", ["b0"], after=full, parent="p")
        for names in ({"file": f"{folder}/new\0"}, {"file": folder / "next", "after": f"{full}\0"}):
            with pytest.raises(ValueError, match="zero byte"):
                nbd_extents.backup(uri, bitmaps=["b0"], **names)
    assert not (folder / "next").exists()


def test_zeroes_are_found_over_several_connections(folder):
    image = folder / "disk.qcow2"
    images.create(image, 8 << 20)
    images.qemu_io(image, "write -P 7 1M 2M", "write -P 0 2M 64k")
    with images.qemu_nbd(image, folder / "s"):
        uri = images.uri(folder / "s")
        totals = nbd_extents.backup(uri, folder / "told", connections=4)
        assert nbd_extents.backup(uri, folder / "found", detect_zeroes=True, connections=4) == totals
        for wrong in (0, -1, 256):
            with pytest.raises((ValueError, OverflowError)):
                nbd_extents.backup(uri, folder / "new", connections=wrong)
    told, found = ([frame for frame in frames((folder / name).read_bytes())] for name in ("told", "found"))
    data = [sum(length for kind, _, length, _ in stream if kind == "data") for stream in (told, found)]
    assert data == [2 << 20, (2 << 20) - (64 << 10)]
    disk = bytearray()
    restore(disk, (folder / "found").read_bytes())
    assert disk == content(image, folder)
    assert nbd_extents.verify([folder / "found"])[0]["data"] == data[1]


def test_a_pipe_is_written_as_it_is(folder):
    image, pipe = dirty_image(folder, 4), folder / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with images.qemu_nbd(image, folder / "s"):
        nbd_extents.backup(images.uri(folder / "s"), pipe)
    reader.join()
    disk = bytearray()
    restore(disk, read[0])
    assert disk == content(image, folder)
    assert pipe.is_fifo()


def test_a_writable_export_is_backed_up_by_name_only(folder):
    image = dirty_image(folder, 1)
    with images.qemu_nbd(image, folder / "s", read_only=False):
        with pytest.raises(OtherError, match="writable"):
            nbd_extents.backup(images.uri(folder / "s"), folder / "full")
        nbd_extents.backup(images.uri(folder / "s"), folder / "full", allow_writable=True)


def reads_fail(conn):
    """Says that all is data, and leaves at the first read."""
    conn.handshake()
    for command, cookie, _, length in conn.requests():
        if command == 0:
            return
        conn.answer(cookie, 0, [(length, 0)])


PREVIOUS = b"meta 0000000000000000 0000000000000002\r\n{}\r\nthe previous one"


def test_a_file_that_is_no_backup_is_replaced_only_by_force(folder):
    image = dirty_image(folder, 0, bitmaps=())
    target = folder / "disk.vmdk"
    target.write_bytes(b"QFI")
    with images.qemu_nbd(image, folder / "s"):
        with pytest.raises(ValueError, match="disk.vmdk.* no backup"):
            nbd_extents.backup(images.uri(folder / "s"), target)
        assert target.read_bytes() == b"QFI"
        nbd_extents.backup(images.uri(folder / "s"), target, force=True)
    assert target.read_bytes().startswith(b"meta ")


def test_a_backup_that_fails_leaves_the_old_file(folder):
    target = folder / "full"
    target.write_bytes(PREVIOUS)
    with serve(folder / "s", reads_fail) as uri:
        with pytest.raises(LostConnectionError):
            nbd_extents.backup(uri, target)
    assert target.read_bytes() == PREVIOUS
    assert sorted(path.name for path in folder.iterdir()) == ["full", "s"]


def test_ctrl_c_ends_a_backup_and_leaves_no_file(folder):
    import time

    def stalls(conn):
        conn.handshake()
        for command, cookie, _, length in conn.requests():
            if command == 0:
                time.sleep(20)
            conn.answer(cookie, 0, [(length, 0)])

    with serve(folder / "s", stalls) as uri:
        ctrl_c(f"nbd_extents.backup({uri!r}, {str(folder / 'full')!r})")
    assert sorted(path.name for path in folder.iterdir()) == ["s"]


def test_progress(folder):
    seen = []
    with images.qemu_nbd(dirty_image(folder, 2), folder / "s"):
        totals = nbd_extents.backup(
            images.uri(folder / "s"), folder / "full", progress=lambda *now: seen.append(now)
        )
    assert seen[-1] == (totals["copy"], totals["copy"])
