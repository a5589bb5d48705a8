"""Entries of every shape are read alike, and their faults are named in Python's terms."""

import array

import nbd_extents
import pytest

DIRTY = [(4096, 0), (8192, 1)]
ZERO = [(8192, 0), (4096, 3)]


def flat(pairs):
    return [number for pair in pairs for number in pair]


def expected():
    return nbd_extents.merge(DIRTY, ZERO)


SHAPES = {
    "flat list": flat,
    "list of tuples": list,
    "list of lists": lambda pairs: [list(pair) for pair in pairs],
    "flat tuple": lambda pairs: tuple(flat(pairs)),
    "generator of tuples": lambda pairs: (pair for pair in pairs),
    "generator of numbers": lambda pairs: iter(flat(pairs)),
    "array I": lambda pairs: array.array("I", flat(pairs)),
    "array i": lambda pairs: array.array("i", flat(pairs)),
    "array Q": lambda pairs: array.array("Q", flat(pairs)),
    "array q": lambda pairs: array.array("q", flat(pairs)),
    "memoryview": lambda pairs: memoryview(array.array("I", flat(pairs))),
    **{
        f"columns {lengths}{flags}": lambda pairs, lengths=lengths, flags=flags: (
            array.array(lengths, [length for length, _ in pairs]),
            array.array(flags, [flag for _, flag in pairs]),
        )
        for lengths in "IiQq"
        for flags in "IQ"
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(shape):
    merged = nbd_extents.merge(SHAPES[shape](DIRTY), SHAPES[shape](ZERO))
    assert merged == expected()
    assert nbd_extents.merge(SHAPES[shape](DIRTY), ZERO) == expected()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_survey_takes_every_shape(shape):
    survey = nbd_extents.Survey(12288, ["base:allocation", "qemu:dirty-bitmap:b"])
    request = survey.next_request()
    survey.extents(request, "base:allocation", 0, SHAPES[shape](ZERO))
    survey.extents(request, "qemu:dirty-bitmap:b", 0, SHAPES[shape](DIRTY))
    survey.reply_done(request)
    assert survey.read() == list(expected())


@pytest.mark.parametrize("kind", ["u4", "i4", "u8", "i8", "=u4", "<u8"])
def test_numpy_arrays(kind):
    numpy = pytest.importorskip("numpy")
    tables = [numpy.array(pairs, dtype=kind) for pairs in (DIRTY, ZERO)]
    assert nbd_extents.merge(*tables) == expected()
    assert nbd_extents.merge(*(table.reshape(-1) for table in tables)) == expected()
    columns = [(table[:, 0], table[:, 1]) for table in tables]
    assert nbd_extents.merge(*columns) == expected(), "strided columns"
    assert nbd_extents.merge(*(numpy.asfortranarray(table) for table in tables)) == expected()
    assert nbd_extents.merge([tuple(pair) for pair in tables[0]], ZERO) == expected(), "NumPy's numbers"


def raising():
    yield 4096
    raise LookupError("the generator's own")


BAD = [
    ([4096], ValueError, "a list of 1 numbers"),
    ([4096, 0, 1], ValueError, "a list of 3 numbers"),
    ([(4096,)], ValueError, "not 1 items"),
    ([(4096, 0, 0)], ValueError, "not 3 items"),
    ([-1, 0], OverflowError, None),
    ([(4096, -1)], OverflowError, None),
    ([2**64, 0], OverflowError, None),
    ([(4096, 2**64)], OverflowError, None),
    ([(2**64, 0)], OverflowError, None),
    ([0, 0], ValueError, "length 0"),
    ([(2**63, 0)], OverflowError, "ends above"),
    ([(2**62, 0), (2**62, 0)], OverflowError, "ends above"),
    ([(2**64 - 1, 0), (2**64 - 1, 0)], OverflowError, "ends above"),
    (None, TypeError, None),
    (4096, TypeError, None),
    ("4096, 0", TypeError, "not a string"),
    ([1.5, 0], TypeError, None),
    ([4096.0, 0], TypeError, None),
    (["4096", "0"], TypeError, None),
    ([(4096, None)], TypeError, None),
    ([(4096, 0), 4096], TypeError, "all entries are alike"),
    ([4096, (4096, 0)], TypeError, None),
    ([[4096, 0], None], TypeError, "all entries are alike"),
    (raising(), LookupError, "the generator's own"),
    (b"\0\0\0\0\0\0\0\0", ValueError, "format 'B'"),
    (array.array("H", [4096, 0]), ValueError, "format 'H'"),
    (array.array("d", [4096, 0]), ValueError, "format 'd'"),
    (array.array("I", [4096, 0, 1]), ValueError, "a list of 3 numbers"),
    (array.array("Q", [4096]), ValueError, "a list of 1 numbers"),
    (array.array("i", [-1, 0]), OverflowError, "negative"),
    (array.array("q", [4096, -1]), OverflowError, "negative"),
    (array.array("Q", [2**64 - 1, 0]), OverflowError, "ends above"),
    ((array.array("Q", [4096]), array.array("Q", [])), ValueError, "1 lengths and 0 flags"),
    ((array.array("Q", [4096]), array.array("b", [0])), ValueError, "format 'b'"),
    (memoryview(bytes(96)).cast("I", [2, 3, 4]), ValueError, r"shape \[2, 3, 4\]"),
    (memoryview(bytes(24)).cast("I", [2, 3]), ValueError, r"shape \[2, 3\]"),
]


@pytest.mark.parametrize("entries, error, text", BAD, ids=lambda value: repr(value)[:40])
def test_bad_entries(entries, error, text):
    good = [(12288, 0)]
    if not hasattr(entries, "send"):  # a generator can be read only once
        with pytest.raises(error, match=text):
            nbd_extents.merge(good, entries)
    with pytest.raises(error, match=text):
        nbd_extents.merge(entries, good)


def test_bytes_of_the_other_order_are_refused():
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ValueError, match="native byte order"):
        nbd_extents.merge(numpy.array(DIRTY, dtype=">u4"), ZERO)
    with pytest.raises(ValueError, match="format"):
        nbd_extents.merge(numpy.array(DIRTY, dtype="f8"), ZERO)


def test_lists_that_describe_different_bytes():
    with pytest.raises(ValueError, match="only some of the merged streams"):
        nbd_extents.merge([4096, 0], [8192, 0])
    with pytest.raises(ValueError):
        nbd_extents.merge([], [8192, 0])
    assert len(nbd_extents.merge([], [])) == 0


def test_start():
    merged = nbd_extents.merge(DIRTY, ZERO, start=1 << 40)
    assert (merged.start, merged.end, merged.size) == (1 << 40, (1 << 40) + 12288, 12288)
    assert next(iter(merged)).start == 1 << 40
    for start, error in [
        (-1, OverflowError), (2**64, OverflowError), (2**63, OverflowError), ("0", TypeError),
    ]:
        with pytest.raises(error):
            nbd_extents.merge(DIRTY, ZERO, start=start)


def test_a_wrong_argument_leaves_the_request_outstanding():
    survey = nbd_extents.Survey(8192, ["base:allocation"])
    request = survey.next_request()
    for entries, error in [
        ([8192], ValueError), ([-1, 0], OverflowError), ([2**64, 0], OverflowError),
        (None, TypeError),
    ]:
        with pytest.raises(error):
            survey.extents(request, "base:allocation", 0, entries)
    with pytest.raises(ValueError, match="byte"):
        survey.extents(request, "base:allocation", 4096, [8192, 0])
    with pytest.raises(LookupError):
        survey.extents(request, "base:allocation", 0, raising())
    survey.extents(request, "base:allocation", 0, [8192, 2])
    survey.reply_done(request)
    assert [extent.zero for extent in survey.read()] == [True]
    survey.complete()
