"""Backups verified and restored onto real exports, and files that are no chain."""

import time

import nbd_extents
import pytest
from nbd_extents import BrokenRulesError, LostConnectionError, NotThereError, OtherError
from support import images, wire
from support.server import serve
from test_backup import content
from test_survey_live import SIZE, dirty_image
from test_waiting import ctrl_c


@pytest.fixture
def chain(folder):
    """A full backup and two incrementals, with the content of the disk at each."""
    image = dirty_image(folder, 11, bitmaps=())
    changes = ["write -P 5 1M 300k", "write -z 3M 64k", "discard 5M 1M"]
    files, disks = [], []
    for nth, name in enumerate(["sunday", "monday", "tuesday"]):
        bitmaps = [f"b{nth}"] if nth else []
        file = folder / name
        options = [word for bitmap in bitmaps for word in ("-B", bitmap)]
        with images.qemu_nbd(image, folder / f"s{nth}", *options):
            after = {"after": files[-1]} if files else {}
            nbd_extents.backup(images.uri(folder / f"s{nth}"), file, bitmaps, checkpoint=name, **after)
        files.append(file)
        disks.append(content(image, folder))
        images.add_bitmap(image, f"b{nth + 1}", "-g", "4096")
        images.qemu_io(image, changes[nth], f"write -P {nth + 1} {SIZE - 8192} 4k")
    return files, disks


def target(folder, size=SIZE, **options):
    """A raw disk full of old bytes, exported writable."""
    (folder / "target").write_bytes(b"\xee" * size)
    return images.qemu_nbd(
        folder / "target", folder / "t", image_format="raw", **{"read_only": False, **options}
    )


def test_a_chain_is_restored_to_each_of_its_points(folder, chain):
    files, disks = chain
    for count in (1, 2, 3):
        seen = []
        with target(folder, SIZE + 4096):
            described = nbd_extents.restore(
                images.uri(folder / "t"), files[:count], progress=lambda *now: seen.append(now)
            )
        restored = (folder / "target").read_bytes()
        assert restored[:SIZE] == disks[count - 1]
        assert restored[SIZE:] == b"\xee" * 4096, "beyond the disk the target stays as it is"
        assert described == nbd_extents.verify(files[:count])
        data = sum(stream["data"] for stream in described)
        assert seen[-1] == (data, data)


def test_what_verify_tells(chain):
    files, _ = chain
    full, monday, tuesday = nbd_extents.verify(iter(files))
    assert [stream["parent"] for stream in (full, monday, tuesday)] == [None, "sunday", "monday"]
    assert [stream["incremental"] for stream in (full, monday, tuesday)] == [False, True, True]
    assert {stream["size"] for stream in (full, monday, tuesday)} == {SIZE}
    assert full["data"] + full["zero"] == SIZE
    assert [stream["unchecked"] for stream in (full, monday, tuesday)] == [[], [], []]
    assert nbd_extents.verify([files[1]])[0]["unchecked"] == ["its parent, which is not among the files"]


def test_an_incremental_onto_its_base_alone(folder, chain):
    files, disks = chain
    with target(folder):
        uri = images.uri(folder / "t")
        nbd_extents.restore(uri, files[:1])
        with pytest.raises(NotThereError, match="base=CHECKPOINT"):
            nbd_extents.restore(uri, files[1:])
        with pytest.raises(NotThereError, match="monday"):
            nbd_extents.restore(uri, files[1:], base="tuesday")
        assert (folder / "target").read_bytes() == disks[0], "nothing was written"
        nbd_extents.restore(uri, files[1:], base="sunday")
    assert (folder / "target").read_bytes() == disks[2]


def test_a_target_that_is_zero_is_not_zeroed_again(folder, chain):
    files, disks = chain
    with target(folder):
        nbd_extents.restore(images.uri(folder / "t"), files[:1], target_is_zero=True)
    restored = (folder / "target").read_bytes()
    assert restored != disks[0] and restored.replace(b"\xee", b"\0") == disks[0].replace(b"\xee", b"\0")


def test_no_chain(folder, chain):
    files, _ = chain
    full, monday, tuesday = files
    whole = monday.read_bytes()
    with target(folder):
        uri = images.uri(folder / "t")

        def refused(error, files, **options):
            with pytest.raises(error):
                nbd_extents.restore(uri, files, **options)
            if not options:
                with pytest.raises(error):
                    nbd_extents.verify(files)

        refused(NotThereError, [])
        refused(NotThereError, [full, tuesday])
        refused(NotThereError, [full, tuesday, monday])
        refused(NotThereError, [full, full])
        refused(NotThereError, [full, folder / "nothing"])
        refused(ValueError, [full], base="sunday", target_is_zero=True)
        refused(ValueError, [monday], target_is_zero=True)
        for damaged in (
            whole[:-1], whole[: len(whole) // 2], whole + b"x", b"", bytes(100),
            whole.replace(b"\5", b"\6", 1),
        ):
            monday.write_bytes(damaged)
            refused(BrokenRulesError, [full, monday])
    assert (folder / "target").read_bytes() == b"\xee" * SIZE, "nothing was written"


def test_targets_that_do_not_fit(folder, chain):
    files, _ = chain
    for options in ({"size": SIZE - 512}, {"read_only": True}):
        with target(folder, **options):
            with pytest.raises(NotThereError):
                nbd_extents.restore(images.uri(folder / "t"), files)
    with pytest.raises(LostConnectionError):
        nbd_extents.restore(images.uri(folder / "nobody"), files)


@pytest.mark.parametrize("files", ["full", b"full", 5, [5], None])
def test_files_are_a_list_of_names(files, folder):
    for call in (nbd_extents.verify, lambda files: nbd_extents.restore("nbd://localhost", files)):
        with pytest.raises(TypeError):
            call(files)
        with pytest.raises(TypeError):
            call(folder / "full")
        with pytest.raises(ValueError, match="zero byte"):
            call([str(folder / "full\0")])


def test_a_full_target_is_no_fault_of_the_server(folder, chain):
    def is_full(conn):
        conn.handshake()
        for _, cookie, _, length in conn.requests():
            wire.receive(conn.sock, length)
            conn.fail(cookie, 28)

    with serve(folder / "full", is_full, size=SIZE, flags=1) as uri:
        with pytest.raises(OtherError, match="ENOSPC.*restore it again"):
            nbd_extents.restore(uri, chain[0][:1], target_is_zero=True)


def test_ctrl_c_ends_a_restore(folder, chain):
    def stalls(conn):
        conn.handshake()
        next(conn.requests())
        time.sleep(20)

    with serve(folder / "stalls", stalls, size=SIZE, flags=1) as uri:
        ctrl_c(f"nbd_extents.restore({uri!r}, [{str(chain[0][0])!r}])")


def test_a_backup_never_takes_its_parents_place(folder, chain):
    files, disks = chain
    image = folder / "disk.qcow2"
    with images.qemu_nbd(image, folder / "again", "-B", "b1"):
        uri = images.uri(folder / "again")
        with pytest.raises(ValueError, match="stands on"):
            nbd_extents.backup(uri, files[0], ["b1"], checkpoint="again", after=files[0])
        link = folder / "link"
        link.symlink_to(files[0])
        with pytest.raises(ValueError, match="stands on"):
            nbd_extents.backup(uri, link, ["b1"], checkpoint="again", after=files[0])
        with pytest.raises(ValueError, match="another name"):
            nbd_extents.backup(uri, folder / "new", ["b1"], checkpoint="sunday", after=files[0])
    assert [stream["checkpoint"] for stream in nbd_extents.verify(files)] == ["sunday", "monday", "tuesday"]
