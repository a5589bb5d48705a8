"""Maps of live qemu exports, held against a model that asks one extent of one context at a time."""

import random

import nbd_extents
import pytest
from nbd_extents import OtherError
from support import images
from support.client import flags_by_block

ALLOCATION, DEPTH = "base:allocation", "qemu:allocation-depth"
BLOCK = 512
SIZE = 8 << 20


def dirty_image(folder, seed, *, cluster="4k", bitmaps=("b0",)):
    """An image with random writes, zeroes and discards before and after each bitmap is added."""
    chance = random.Random(seed)
    image = folder / "disk.qcow2"
    images.create(image, SIZE, cluster=cluster)

    def scribble(count):
        commands = []
        for _ in range(count):
            start, length = chance.randrange(SIZE >> 12) << 12, chance.randrange(1, 32) << 12
            length = min(length, SIZE - start)
            command = chance.choice(["write", "write -z", "write -zu", "discard", "write -P 0"])
            commands.append(f"{command} {start} {length}")
        images.qemu_io(image, *commands)

    scribble(40)
    for name in bitmaps:
        images.add_bitmap(image, name, "-g", "4096")
        scribble(25)
    return image


def dense(extents, value):
    """One value a block, of extents that must cover the disk once and in order."""
    blocks = []
    for extent in extents:
        assert extent.start == len(blocks) * BLOCK, "a gap or an overlap"
        blocks += [value(extent)] * (extent.length // BLOCK)
    return blocks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bitmaps", [(), ("b0",), ("b0", "b1")])
def test_a_map_equals_the_model(folder, seed, bitmaps):
    image = dirty_image(folder, seed, bitmaps=bitmaps)
    socket = folder / "s"
    options = [word for name in bitmaps for word in ("-B", name)]
    with images.qemu_nbd(image, socket, *options):
        contexts = [f"qemu:dirty-bitmap:{name}" for name in bitmaps]
        allocation = flags_by_block(socket, ALLOCATION, BLOCK)
        dirty = [flags_by_block(socket, name, BLOCK) for name in contexts]
        map = nbd_extents.survey(images.uri(socket), bitmaps)

    assert (map.size, map.disk_size, map.bitmaps) == (SIZE, SIZE, bitmaps)
    assert dense(map, lambda extent: (extent.zero, extent.hole)) == [
        (bool(flags & 2), bool(flags & 1)) for flags in allocation
    ]
    masks = [sum((flags & 1) << nth for nth, flags in enumerate(block)) for block in zip(*dirty)]
    assert dense(map, lambda extent: extent.bitmaps) == (masks or [0] * (SIZE // BLOCK))
    known = bool if bitmaps else (lambda mask: None)
    assert dense(map, lambda extent: extent.dirty) == [known(mask) for mask in masks or [0] * (SIZE // BLOCK)]
    neighbours = list(map)
    for left, right in zip(neighbours, neighbours[1:]):
        fields = [(e.dirty, e.zero, e.hole, e.bitmaps) for e in (left, right)]
        assert fields[0] != fields[1], "equal neighbours are joined"


@pytest.mark.parametrize("seed", range(3))
def test_bitmap_first_knows_the_same_of_dirty_bytes_and_nothing_of_others(folder, seed):
    image = dirty_image(folder, seed)
    socket = folder / "s"
    with images.qemu_nbd(image, socket, "-B", "b0"):
        together = nbd_extents.survey(images.uri(socket), ["b0"])
        first = nbd_extents.survey(images.uri(socket), ["b0"], bitmap_first=True)
    assert dense(first, lambda e: e.dirty) == dense(together, lambda e: e.dirty)
    expected = dense(together, lambda e: e.zero if e.dirty else None)
    assert dense(first, lambda e: e.zero if e.dirty else None) == expected
    assert [e.zero for e in first if not e.dirty and e.length > 65536] != [], "the image has clean parts"


def test_depth(folder):
    image = dirty_image(folder, 7)
    overlay = folder / "overlay.qcow2"
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
    images.qemu_io(overlay, "write 1M 1M")
    socket = folder / "s"
    with images.qemu_nbd(overlay, socket, "-A"):
        depths = flags_by_block(socket, DEPTH, BLOCK)
        map = nbd_extents.survey(images.uri(socket), depth=True)
        plain = nbd_extents.survey(images.uri(socket))
    assert dense(map, lambda extent: extent.depth) == depths
    assert {0, 1, 2} == set(depths)
    assert {extent.depth for extent in plain} == {None}
    assert list(map.columns("depth")["depth"]) == [extent.depth for extent in map]


@pytest.mark.parametrize(
    "offset, length", [(0, 4096), (4096, 8192), (1 << 20, None), (777, 12345), (SIZE, 0), (0, 0)]
)
def test_a_part_of_the_disk(folder, offset, length):
    image = dirty_image(folder, 3)
    socket = folder / "s"
    with images.qemu_nbd(image, socket, "-B", "b0"):
        whole = nbd_extents.survey(images.uri(socket), ["b0"])
        part = nbd_extents.survey(images.uri(socket), ["b0"], offset=offset, length=length)
    end = SIZE if length is None else offset + length
    assert (part.start, part.end, part.disk_size) == (offset, end, SIZE)
    assert part == whole.slice(offset, end)


@pytest.mark.parametrize(
    "offset, length",
    [(SIZE + 1, None), (0, SIZE + 1), (SIZE, 1), (2**63, 2**63), (2**64 - 1, 2**64 - 1)],
)
def test_a_range_that_leaves_the_disk(folder, offset, length):
    socket = folder / "s"
    with images.qemu_nbd(dirty_image(folder, 3), socket):
        with pytest.raises(ValueError, match="does not lie within the export of 8388608 bytes"):
            nbd_extents.survey(images.uri(socket), offset=offset, length=length)


def test_a_writable_export_is_surveyed_by_name_only(folder):
    image, socket = dirty_image(folder, 3), folder / "s"
    with images.qemu_nbd(image, socket, "-B", "b0"):
        still = nbd_extents.survey(images.uri(socket), ["b0"])
    socket.unlink(missing_ok=True)
    with images.qemu_nbd(image, socket, "-B", "b0", read_only=False):
        for arguments in ([], ["b0"]):
            with pytest.raises(OtherError, match=r"the export is writable.*allow_writable=True"):
                nbd_extents.survey(images.uri(socket), arguments)
        assert nbd_extents.survey(images.uri(socket), ["b0"], allow_writable=True) == still
        first = nbd_extents.survey(images.uri(socket), ["b0"], allow_writable=True, bitmap_first=True)
    assert dense(first, lambda e: e.dirty) == dense(still, lambda e: e.dirty)


def test_columns_are_the_fields_of_the_extents(folder):
    numpy = pytest.importorskip("numpy")
    image = dirty_image(folder, 5, bitmaps=("b0", "b1"))
    socket = folder / "s"
    with images.qemu_nbd(image, socket, "-B", "b0", "-B", "b1", "-A"):
        map = nbd_extents.survey(images.uri(socket), ["b0", "b1"], depth=True)
    columns = map.columns()
    assert list(columns) == ["start", "length", "dirty", "zero", "hole"]
    for name, column in columns.items():
        assert list(column) == [getattr(extent, name) for extent in map]
        array = numpy.frombuffer(column, dtype="u8" if name in ("start", "length") else "?")
        assert numpy.shares_memory(array, numpy.asarray(column)), "no copy"
        assert array.tolist() == column.tolist()
    assert list(map.columns("bitmaps")["bitmaps"]) == [extent.bitmaps for extent in map]
    assert set(map.columns("known")["known"]) == {7}
    with pytest.raises(ValueError, match="no column"):
        map.columns("start", "end")
