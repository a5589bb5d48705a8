"""The code of DROP-IN.md runs as it stands there, on data of the other programs' shape."""

import json
import pathlib
import re
import subprocess
from urllib.parse import quote

import nbd_extents
import pytest
from support import images
from support.libnbd import Handle, ImageioClient
from test_survey_live import dirty_image

PAGE = pathlib.Path(__file__).parents[1] / "DROP-IN.md"
BITMAP = "qemu:dirty-bitmap:b0"
MIB = 1 << 20


def code(heading):
    """The lines of code below a heading of the page, and the names that they define."""
    part = PAGE.read_text().split(f"\n## {heading}\n")[1]
    lines = re.search(r"```python\n(.*?)```", part, re.DOTALL).group(1)
    names = {"nbd_extents": nbd_extents, "json": json, "quote": quote}
    exec(compile(lines, f"{PAGE}: {heading}", "exec"), names)
    return lines, names


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory):
    """A disk of 1.5 GiB in 300,000 extents, dirty in 4 KiB at its start and 4 KiB at 1,200 MiB."""
    image = tmp_path_factory.mktemp("image") / "fragmented.qcow2"
    images.create(image, 1536 * MIB, cluster="4k")
    data = "".join(f"write -q {nth * 8192} 4096\n" for nth in range(150_000))
    subprocess.run(
        ["qemu-io", "--cache=unsafe", image], input=data, text=True, check=True,
        stdout=subprocess.DEVNULL,
    )
    images.add_bitmap(image, "b0", "-g", "4096")
    images.qemu_io(image, "write -P 1 0 4096", f"write -P 1 {1200 * MIB} 4096")
    return image


DIRTY_BLOCKS = [(0, 4096), (1200 * MIB, 4096)]


def resumes_at_the_bitmaps_end(handle):
    """The loop of the lost block, in our words: each context is summed up by itself, and the next
    request starts where the bitmap's part ended."""
    lists = {"base:allocation": [], BITMAP: []}
    offset = 0
    while offset < handle.get_size():
        reached = {}

        def reply(context, start, entries, error):
            lists[context] += zip(entries[::2], entries[1::2])
            reached[context] = start + sum(entries[::2])

        handle.block_status(handle.get_size() - offset, offset, reply)
        offset = reached[BITMAP]
    data, position = [], 0
    for length, flags in lists["base:allocation"]:
        if not flags & 2:
            data.append((position, position + length))
        position += length
    found, position = [], 0
    for length, flags in lists[BITMAP]:
        found += [
            (max(position, start), min(position + length, end) - max(position, start))
            for start, end in data
            if flags & 1 and start < position + length and position < end
        ]
        position += length
    return found


def test_the_dirty_block_at_1200_mib_is_found(fragmented, folder):
    lines, names = code("virtnbdbackup")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 15
    with images.qemu_nbd(fragmented, folder / "s", "-B", "b0"):
        contexts = ["base:allocation", BITMAP]
        assert resumes_at_the_bitmaps_end(Handle(folder / "s", contexts)) == DIRTY_BLOCKS[:1], "the loss"
        handler = names["ExtentHandler"](Handle(folder / "s", contexts), BITMAP)
        extents = list(handler.queryBlockStatus())
        own = nbd_extents.survey(images.uri(folder / "s"), ["b0"])
    found = [(extent.start, extent.length) for extent in extents if extent.dirty and not extent.zero]
    assert found == DIRTY_BLOCKS
    assert extents == list(own)
    assert len(extents) > 290_000


@pytest.mark.parametrize("tuples", [False, True])
def test_the_handler_equals_a_survey(folder, tuples):
    _, names = code("virtnbdbackup")
    with images.qemu_nbd(dirty_image(folder, 4), folder / "s", "-B", "b0"):
        handle = Handle(folder / "s", ["base:allocation", BITMAP], tuples=tuples)
        extents = list(names["ExtentHandler"](handle, BITMAP).queryBlockStatus())
        assert extents == list(nbd_extents.survey(images.uri(folder / "s"), ["b0"]))
    assert any(extent.dirty and extent.zero for extent in extents), "dirty zeroes are handed out"


def test_cloudstack(folder):
    _, names = code("CloudStack's image server")
    path = folder / "s"
    with images.qemu_nbd(dirty_image(folder, 5), path, "-B", "b0", "-x", "disk one"):
        rows = names["get_extents_dirty_and_zero"](str(path), "disk one", BITMAP)
        allocated = names["get_allocation_extents"](str(path), "disk one")
        with pytest.raises(nbd_extents.NotThereError):
            names["get_extents_dirty_and_zero"](str(path), "disk one", "qemu:dirty-bitmap:b9")
        map = nbd_extents.survey(images.uri(path, "disk%20one"), ["b0"])
    assert {tuple(row) for row in rows} == {("start", "length", "dirty", "zero")}
    assert {tuple(row) for row in allocated} == {("start", "length", "zero")}
    for offset in range(0, map.size, 4096):
        extent = map.at(offset)
        row = next(row for row in rows if row["start"] <= offset < row["start"] + row["length"])
        assert (row["dirty"], row["zero"]) == (extent.dirty, extent.zero)
        row = next(row for row in allocated if row["start"] <= offset < row["start"] + row["length"])
        assert row["zero"] == extent.zero


@pytest.mark.parametrize("dirty", [False, True])
def test_imageio(folder, dirty):
    _, names = code("ovirt-imageio")
    with images.qemu_nbd(dirty_image(folder, 6), folder / "s", "-B", "b0"):
        client = ImageioClient(folder / "s", BITMAP if dirty else None)
        extents = list(names["extents"](client, dirty))
        assert extents == list(nbd_extents.survey(images.uri(folder / "s"), ["b0"] if dirty else []))
