#!/usr/bin/env python3
"""Times the Python module against what it stands beside, in one run, and prints ratios.

    cargo build --release -p nbd-extents-cli
    (cd python && cargo build --release --target-dir ../target/python -F pyo3/extension-module --bench merge)
    ci/python -k readme                              # the wheel, in target/python/fresh
    target/python/fresh/bin/python python/benches/ratios.py

Medians of rounds for what asks a server, the fastest round for what only computes; all take turns, so
that a busy machine slows them alike. All answers are compared before anything is timed. Needs NumPy
and qemu-utils.
"""

import glob
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import nbd_extents
import numpy

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
sys.path.insert(0, str(HERE.parent / "tests"))

from support import images  # noqa: E402
from support.client import Client  # noqa: E402

ENTRIES = 1_000_000
CLUSTERS = 300_000
BITMAP = "qemu:dirty-bitmap:b0"
ROUNDS = 5


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fastest(call):
    """As many rounds as Rust's own program takes at a time."""
    return min(seconds(call) for _ in range(9))


def in_turns(calls, rounds):
    """The seconds of each call, by its name: a list of `rounds` rounds."""
    return [{name: timed() for name, timed in calls.items()} for _ in range(rounds)]


def ratio(name, ours, theirs, limit):
    print(f"{name:<58} {ours:8.4f} s / {theirs:8.4f} s = {ours / theirs:6.2f}   ({limit})")


def entries(seed, total=None):
    """A million entries of 1 to 8 blocks. With `total`, the last is as long as it takes to reach it."""
    chance = random.Random(seed)
    lengths = [4096 * chance.randrange(1, 9) for _ in range(ENTRIES)]
    if total is not None:
        difference = total - sum(lengths)
        while difference != 0:
            place = chance.randrange(ENTRIES)
            longer = max(4096, min(lengths[place] + difference, 1 << 20))
            difference -= longer - lengths[place]
            lengths[place] = longer
    return lengths


def merges(folder):
    dirty = entries(1)
    zero = entries(2, sum(dirty))
    tables = [
        numpy.array([(length, nth % 2 * flags) for nth, length in enumerate(lengths)], dtype="u4")
        for lengths, flags in ((dirty, 1), (zero, 3))
    ]
    files = []
    for nth, table in enumerate(tables):
        files.append(str(folder / f"list{nth}"))
        table.tofile(files[-1])
    bench = max(glob.glob(str(TARGET / "python/release/deps/merge-*[0-9a-f]")), key=os.path.getmtime)

    def rust():
        """The fastest of Rust's own rounds, and the runs of its map."""
        command = [bench, *files]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return float(out[0]), int(out[1])

    assert rust()[1] == len(nbd_extents.merge(*tables))
    wide = [table.astype("u8") for table in tables]
    narrow_pairs, wide_pairs = ([(t[:, 0].copy(), t[:, 1].copy()) for t in both] for both in (tables, wide))
    tuples = [[tuple(pair) for pair in table.tolist()] for table in tables]
    flat = [table.reshape(-1).tolist() for table in tables]

    def walk():
        for entries in tuples:
            for length, flags in entries:
                pass

    def merge(*lists):
        return lambda: fastest(lambda: nbd_extents.merge(*lists))

    def columns(*lists):
        return lambda: fastest(lambda: nbd_extents.merge(*lists).columns())

    rounds = in_turns(
        {
            "rust": lambda: rust()[0],
            "tables of u4": columns(*tables),
            "pairs of u4": columns(*narrow_pairs),
            "tables of u8": columns(*wide),
            "pairs of u8": columns(*wide_pairs),
            "walk": lambda: fastest(walk),
            "tuples": merge(*tuples),
            "flat lists": merge(*flat),
        },
        ROUNDS,
    )
    best = {name: min(round[name] for round in rounds) for name in rounds[0]}
    for name in ("tables of u4", "pairs of u4", "tables of u8", "pairs of u8"):
        ratio(f"{name} to Map.columns() / Rust's merge", best[name], best["rust"], "at most 3")
    ratio("merge of lists of tuples / walking them", best["tuples"], best["walk"], "at most 4")
    ratio("merge of flat lists / walking the tuples", best["flat lists"], best["walk"], "")


class Piece:
    """A length and flags: an object for each descriptor and each merged piece, as imageio has them."""

    def __init__(self, length, flags):
        self.length = length
        self.flags = flags


def merged(allocation, bitmap):
    """Joint pieces of two lists of pieces, until the shorter ends: imageio's rule."""
    left, right = iter(allocation), iter(bitmap)
    a = b = None
    while True:
        a, b = a or next(left, None), b or next(right, None)
        if a is None or b is None:
            return
        length = min(a.length, b.length)
        yield Piece(length, a.flags | b.flags)
        a = Piece(a.length - length, a.flags) if a.length > length else None
        b = Piece(b.length - length, b.flags) if b.length > length else None


DIRTY = 1 << 16  # a bit of its own, since HOLE and DIRTY are the same on the wire


def pieces(pairs, shift):
    return [Piece(length, flags << shift) for length, flags in pairs]


def pure_python(path):
    """The survey as a Python program with a client in Python does it: ask, merge up to the shorter
    context, ask again from there, join equal neighbours."""
    client = Client(path, ["base:allocation", BITMAP])
    extents = joined(client)
    rows, start = [], 0
    for piece in extents:
        row = {"start": start, "length": piece.length, "dirty": bool(piece.flags & DIRTY)}
        rows.append({**row, "zero": bool(piece.flags & 2), "hole": bool(piece.flags & 1)})
        start += piece.length
    client.close()
    return rows


def joined(client):
    current, offset = None, 0
    while offset < client.size:
        reply = client.block_status(offset, min(client.size - offset, 1 << 31))
        for piece in merged(pieces(reply["base:allocation"], 0), pieces(reply[BITMAP], 16)):
            piece.length = min(piece.length, client.size - offset)
            offset += piece.length
            if current is None:
                current = piece
            elif current.flags == piece.flags:
                current.length += piece.length
            else:
                yield current
                current = piece
            if offset == client.size:
                break
    yield current


def surveys(folder):
    image, path = folder / "disk.qcow2", folder / "s"
    images.create(image, 1200 << 20, cluster="4k")
    writes = "".join(f"write -q {nth * 4096} 4k\n" for nth in range(0, CLUSTERS, 2))
    subprocess.run(
        ["qemu-io", "--cache=unsafe", image], input=writes, text=True, check=True,
        stdout=subprocess.DEVNULL,
    )
    images.add_bitmap(image, "b0")
    images.qemu_io(image, "write 1M 4k", "write 1100M 4k")
    program = os.environ.get("NBD_EXTENTS", TARGET / "release/nbd-extents")
    with images.qemu_nbd(image, path, "-B", "b0"):
        uri = images.uri(path)
        command = [program, "map", uri, "--bitmap", "b0", "--json"]
        script = f"import nbd_extents; print(nbd_extents.survey({uri!r}, ['b0']).to_json())"
        calls = {
            "program": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL),
            "survey": lambda: nbd_extents.survey(uri, ["b0"]),
            "json": lambda: nbd_extents.survey(uri, ["b0"]).to_json(),
            "process": lambda: subprocess.run(
                [sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL
            ),
            "pure": lambda: pure_python(path),
        }
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        map = nbd_extents.survey(uri, ["b0"])
        assert json.loads(printed) == json.loads(map.to_json())
        names = ("start", "length", "dirty", "zero", "hole")
        expected = [{name: getattr(extent, name) for name in names} for extent in map]
        assert calls["pure"]() == expected and len(map) > 299_000
        timed = {name: lambda call=call: seconds(call) for name, call in calls.items()}
        rounds = in_turns(timed, 7)
    median = {name: statistics.median(round[name] for round in rounds) for name in calls}
    print(f"a survey of {len(map)} extents")
    ratio("survey() / nbd-extents map --json", median["survey"], median["program"], "at most 1.2")
    ratio("survey().to_json() / nbd-extents map --json", median["json"], median["program"], "")
    ratio("python -c that prints it / nbd-extents map --json", median["process"], median["program"], "")
    ratio("pure Python of imageio's shape / survey()", median["pure"], median["survey"], "at least 10")


def main():
    with tempfile.TemporaryDirectory(prefix="nx") as folder:
        merges(pathlib.Path(folder))
        surveys(pathlib.Path(folder))


if __name__ == "__main__":
    main()
