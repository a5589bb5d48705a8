"""Maps: look-up, parts, diff, actions, totals, plans, formats, saving, chains."""

import copy
import json
import pickle
import random
import threading

import nbd_extents
import pytest
from nbd_extents import BrokenRulesError, Extent, Map, NotThereError, Step, chain, merge

BLOCK = 4096


def random_map(seed, blocks=200):
    """A map, and the flags (dirty, zero) of each of its blocks."""
    chance = random.Random(seed)
    dirty = [chance.random() < 0.3 for _ in range(blocks)]
    zero = [chance.random() < 0.4 for _ in range(blocks)]
    entries = [[(BLOCK, value * factor) for value in column] for column, factor in ((dirty, 1), (zero, 3))]
    return merge(*entries), list(zip(dirty, zero))


@pytest.mark.parametrize("seed", range(20))
def test_a_merge_equals_the_model(seed):
    map, model = random_map(seed)
    blocks = []
    for extent in map:
        assert extent.start == len(blocks) * BLOCK
        blocks += [(extent.dirty, extent.zero)] * (extent.length // BLOCK)
    assert blocks == model
    extents = list(map)
    assert len(extents) == len(map)
    assert all((a.dirty, a.zero) != (b.dirty, b.zero) for a, b in zip(extents, extents[1:]))
    for offset in range(0, map.size, 1777):
        extent = map.at(offset)
        assert extent.start <= offset < extent.end and extent in extents


def test_a_map_of_many_extents_is_read_to_its_end():
    count = 5000
    map = merge([(512, nth & 1) for nth in range(count)], [512 * count, 0])
    assert [extent.start for extent in map] == [512 * nth for nth in range(count)]
    iterators = [iter(map), iter(map)]
    assert [next(iterator).start for iterator in iterators] == [0, 0], "each has its own place"


def test_extents():
    extent = Extent(4096, 512, True, False)
    assert (extent.start, extent.length, extent.end) == (4096, 512, 4608)
    seen = (extent.dirty, extent.zero, extent.hole, extent.depth, extent.bitmaps)
    assert seen == (True, False, None, None, 1)
    assert extent == Extent(4096, 512, dirty=True, zero=False, hole=None)
    assert extent != Extent(4096, 512) and extent != (4096, 512, True, False, None)
    assert len({extent, Extent(4096, 512, True, False), Extent(0, 1)}) == 2
    assert tuple(extent) == (4096, 512, True, False, None)
    assert eval(repr(extent)) == extent
    with pytest.raises(AttributeError):
        extent.start = 0
    with pytest.raises(TypeError):
        extent < extent


def test_outside_of_the_map():
    map = merge([4096, 0], [4096, 0], start=8192)
    for offset in (0, 8191, 12288, 2**64 - 1):
        with pytest.raises(IndexError, match="8192..12288"):
            map.at(offset)
    for start, end in [(0, 12288), (8192, 12289), (9000, 8500)]:
        with pytest.raises(ValueError, match="are not in the map"):
            map.slice(start, end)
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            map.at(wrong)
    assert len(map.slice(9000, 9000)) == 0


@pytest.mark.parametrize("seed", range(10))
def test_diff(seed):
    (before, old), (after, new) = random_map(seed), random_map(seed + 100)
    differing = [None] * len(old)
    for left, right in before.diff(after):
        assert (left.start, left.length) == (right.start, right.length)
        for block in range(left.start // BLOCK, left.end // BLOCK):
            differing[block] = ((left.dirty, left.zero), (right.dirty, right.zero))
    assert differing == [(a, b) if a != b else None for a, b in zip(old, new)]
    assert before.diff(before) == []
    longer = merge([before.size + BLOCK, 0], [before.size + BLOCK, 0])
    assert before.slice(0, BLOCK).diff(longer)[-1][0] is None


ACTIONS = {(True, True): "zero", (True, False): "copy", (False, True): "skip", (False, False): "skip"}


@pytest.mark.parametrize("seed", range(10))
def test_actions_totals_and_plans(seed):
    map, model = random_map(seed)
    expected = [ACTIONS[block] for block in model]
    blocks = []
    for action, start, length in map.actions():
        assert start == len(blocks) * BLOCK
        blocks += [action] * (length // BLOCK)
    assert blocks == expected
    totals = {word: expected.count(word) * BLOCK for word in ("copy", "zero", "skip")}
    assert map.totals() == {**totals, "size": map.size}

    planned = ["skip"] * len(model)
    for step in map.plan(block_size=BLOCK, max_copy=2 * BLOCK):
        assert step.action in ("copy", "zero")
        assert step.length <= (2 * BLOCK if step.action == "copy" else 1 << 30)
        for block in range(step.start // BLOCK, step.end // BLOCK):
            assert planned[block] == "skip", "steps do not overlap"
            planned[block] = step.action
    assert planned == expected

    full = Map.from_format(map.to_format("imageio-zero", lossy=True), "imageio-zero")
    assert {step.action for step in full.actions()} == {"copy", "zero"}


def test_the_size_of_the_previous_backup():
    map = merge([4096, 1, 4096, 0], [8192, 0])
    assert map.totals(previous_size=8192)["copy"] == 4096
    with pytest.raises(NotThereError, match="4096"):
        map.totals(previous_size=4096)
    with pytest.raises(NotThereError):
        map.totals(previous_size=16384, grown=True)
    assert map.totals(previous_size=4096, grown=True)["copy"] == 8192
    with pytest.raises(ValueError):
        Map.from_format('[{"start": 0, "length": 1, "zero": true}]', "imageio-zero").actions(previous_size=1)
    for wrong in ({"block_size": 3}, {"block_size": 0}, {"max_copy": 0}):
        with pytest.raises(ValueError):
            map.plan(**wrong)
    assert map.plan(block_size=8192) == [map.plan(block_size=8192)[0]]
    assert repr(map.plan()[0]) == "Step(action='copy', start=0, length=4096)"
    assert Step is type(map.plan()[0])


def test_formats():
    map = merge([4096, 1, 4096, 0], [4096, 0, 4096, 3])
    rows = json.loads(map.to_json())
    assert rows == [
        {"start": 0, "length": 4096, "dirty": True, "zero": False},
        {"start": 4096, "length": 4096, "dirty": False, "zero": True},
    ]
    assert map.to_json() == map.to_json("imageio") == map.to_json("imageio-dirty")
    assert json.loads(map.to_json("imageio-zero"))[1] == {
        "start": 4096, "length": 4096, "zero": True, "hole": False,
    }
    with pytest.raises(NotThereError, match="hole"):
        map.to_format("imageio-dirty")
    with pytest.raises(ValueError, match="there are imageio-zero"):
        map.to_json("imagio")
    with pytest.raises(TypeError):
        Map.from_format(5, "imageio-zero")


def written(map, name):
    """The map in a format, or None where the format demands a fact that the map does not know."""
    try:
        return map.to_format(name, lossy=True)
    except NotThereError as error:
        assert "not known" in str(error)
        return None


@pytest.mark.parametrize("name", nbd_extents.formats())
def test_every_format_there_and_back(name):
    merged = merge([4096, 1, 8192, 0], [4096, 0, 8192, 3])
    layers = Map.from_format("0 4096 1 local\n4096 8192 0 absent\n", "nbdinfo-depth")
    assert [extent.depth for extent in layers] == [1, 0]
    maps = [merged, layers, Map.from_format(QEMU_IMG, "qemu-img")]
    texts = [text for text in (written(map, name) for map in maps) if text is not None]
    if name == "qcow2reader":  # says which bytes are compressed, and no map knows that
        assert texts == [] and Map.from_format(QCOW2READER, name).size == 512
        return
    assert texts, "one of them knows enough for any format"
    for given in (texts[0], texts[0].encode()):
        back = Map.from_format(given, name, size=merged.size)
        assert (back.size, back.disk_size) == (merged.size, merged.size)
        # csi-allocated tells that some layer has the bytes, and not which
        assert written(back, name) in (texts[0], None if name == "csi-allocated" else texts[0])


QCOW2READER = '{"start": 0, "length": 512, "allocated": true, "zero": false, "compressed": false}'
QEMU_IMG = """[{ "start": 0, "length": 4096, "depth": 0, "present": true, "zero": false, "data": true},
{ "start": 4096, "length": 8192, "depth": 0, "present": false, "zero": true, "data": false}]"""


def test_text_that_is_no_map():
    for text in (
        "", "[", "{}", "[]", '[{"start": 0}]',
        '[{"start": 0, "length": 18446744073709551616, "zero": true}]',
    ):
        with pytest.raises(BrokenRulesError):
            Map.from_format(text, "imageio-zero")
    with pytest.raises(BrokenRulesError):
        Map.from_format('[{"start": 0, "length": 512, "zero": true}]', "imageio-zero", size=1024)
    assert Map.from_format("[]", "imageio-zero", size=0).size == 0
    with pytest.raises(ValueError):
        Map.from_format("0 512", "extentlist")


def test_maps_are_saved_and_loaded():
    map, _ = random_map(1)
    data = map.to_bytes()
    for same in (Map.from_bytes(data), pickle.loads(pickle.dumps(map)), copy.deepcopy(map)):
        assert same == map and same.bitmaps == map.bitmaps and same.disk_size == map.disk_size
    assert map != random_map(2)[0]
    assert len(data) < 16 * len(map)


def test_a_saved_map_that_is_damaged_is_refused():
    data = merge([4096, 1, 4096, 0], [8192, 0]).to_bytes()
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(BrokenRulesError):
                Map.from_bytes(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(BrokenRulesError):
            Map.from_bytes(data[:length])
    with pytest.raises(TypeError):
        Map.from_bytes("text")


def full(blocks):
    """A map of a full backup, of a string of D (data) and Z (zeroes)."""
    rows = [{"start": nth * BLOCK, "length": BLOCK, "zero": block == "Z"} for nth, block in enumerate(blocks)]
    return Map.from_format(json.dumps(rows), "imageio-zero")


def incremental(blocks):
    """The same with `.` for clean blocks."""
    return merge(
        [(BLOCK, block != ".") for block in blocks],
        [(BLOCK, 3 * (block == "Z")) for block in blocks],
    )


def test_chains():
    layers = [
        ("sunday", None, full("DDZZD")),
        ("monday", "sunday", incremental("D.D..")),
        ("tuesday", "monday", incremental("Z....D")),
    ]
    sources = []
    for source in chain(layers):
        assert source.start == len(sources) * BLOCK
        sources += [(source.action, source.layer)] * (source.length // BLOCK)
    assert sources == [("zero", 2), ("copy", 0), ("copy", 1), ("zero", 0), ("copy", 0), ("copy", 2)]
    with pytest.raises(NotThereError, match="monday"):
        chain([layers[0], layers[2]])
    with pytest.raises(NotThereError):
        chain([])
    with pytest.raises(NotThereError):
        chain(layers[1:])
    for wrong in ([5], [("sunday", None)], [("sunday", None, "map")], 5):
        with pytest.raises((TypeError, ValueError)):
            chain(wrong)
    with pytest.raises(ValueError, match="bitmap"):
        chain([layers[0], ("monday", "sunday", full("DDDDD"))])


def test_a_map_serves_many_threads():
    map, model = random_map(3)
    seen = []

    def read():
        seen.append([(extent.start, extent.dirty) for extent in map])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(rows == seen[0] for rows in seen) and len(seen) == 8
