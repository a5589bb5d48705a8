#!/usr/bin/env python3
"""Times the Python module against what it stands beside, in one run, and prints ratios.

    cargo build --release -p nbd-extents-cli
    cargo build --release --manifest-path python/Cargo.toml --target-dir target/python --bench merge
    ci/python -k readme                              # the wheel, in target/python/fresh
    target/python/fresh/bin/python python/benches/ratios.py

Medians of interleaved rounds for what asks a server, the fastest of some rounds for what only computes.
All answers are compared before anything is timed. Needs NumPy and qemu-utils.
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


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fastest(call, rounds=9):
    return min(seconds(call) for _ in range(rounds))


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
    out = subprocess.run([bench, *files], check=True, capture_output=True, text=True).stdout.split()
    rust, runs = float(out[0]), int(out[1])
    assert runs == len(nbd_extents.merge(*tables))
    columns = lambda *lists: nbd_extents.merge(*lists).columns()  # noqa: E731
    ratio("two NumPy columns (u4, flat) to Map.columns() / Rust", fastest(lambda: columns(*tables)), rust, "at most 3")
    wide = [table.astype("u8") for table in tables]
    ratio("the same of u8, two columns / Rust", fastest(lambda: columns(*wide)), rust, "")
    pairs = [(table[:, 0].copy(), table[:, 1].copy()) for table in tables]
    ratio("the same of (lengths, flags) pairs / Rust", fastest(lambda: columns(*pairs)), rust, "")

    tuples = [[tuple(pair) for pair in table.tolist()] for table in tables]

    def walk():
        for entries in tuples:
            for length, flags in entries:
                pass

    ratio("merge of lists of tuples / walking them", fastest(lambda: nbd_extents.merge(*tuples)), fastest(walk), "at most 4")
    flat = [table.reshape(-1).tolist() for table in tables]
    ratio("merge of flat lists / walking the tuples", fastest(lambda: nbd_extents.merge(*flat)), fastest(walk), "")


def merged(allocation, bitmap):
    """Joint pieces of two lists of (length, flags), until the shorter ends: imageio's rule."""
    left, right = iter(allocation), iter(bitmap)
    a = b = None
    while True:
        a, b = a or next(left, None), b or next(right, None)
        if a is None or b is None:
            return
        length = min(a[0], b[0])
        yield length, b[1] & 1, a[1]
        a = (a[0] - length, a[1]) if a[0] > length else None
        b = (b[0] - length, b[1]) if b[0] > length else None


def pure_python(path):
    """The survey as a Python program with a client in Python does it: ask, merge up to the shorter
    context, ask again from there, join equal neighbours."""
    client = Client(path, ["base:allocation", BITMAP])
    rows, offset = [], 0
    while offset < client.size:
        reply = client.block_status(offset, min(client.size - offset, 1 << 31))
        for length, dirty, flags in merged(reply["base:allocation"], reply[BITMAP]):
            length = min(length, client.size - offset)
            if rows and rows[-1][2:] == [dirty, flags]:
                rows[-1][1] += length
            else:
                rows.append([offset, length, dirty, flags])
            offset += length
            if offset == client.size:
                break
    client.close()
    return rows


def surveys(folder):
    image, path = folder / "disk.qcow2", folder / "s"
    images.create(image, 1200 << 20, cluster="4k")
    writes = "".join(f"write -q {nth * 4096} 4k\n" for nth in range(0, CLUSTERS, 2))
    subprocess.run(["qemu-io", "--cache=unsafe", image], input=writes, text=True, check=True, stdout=subprocess.DEVNULL)
    images.add_bitmap(image, "b0")
    images.qemu_io(image, "write 1M 4k", "write 1100M 4k")
    program = TARGET / "release/nbd-extents"
    with images.qemu_nbd(image, path, "-B", "b0"):
        uri = images.uri(path)
        command = [program, "map", uri, "--bitmap", "b0", "--json"]
        script = f"import nbd_extents; print(nbd_extents.survey({uri!r}, ['b0']).to_json())"
        calls = {
            "program": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL),
            "survey": lambda: nbd_extents.survey(uri, ["b0"]),
            "json": lambda: nbd_extents.survey(uri, ["b0"]).to_json(),
            "process": lambda: subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL),
            "pure": lambda: pure_python(path),
        }
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        map = nbd_extents.survey(uri, ["b0"])
        assert json.loads(printed) == json.loads(map.to_json())
        expected = [[e.start, e.length, int(e.dirty), 2 * e.zero + e.hole] for e in map]
        assert calls["pure"]() == expected and len(map) > 299_000
        rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(7)]
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
