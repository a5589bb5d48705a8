#!/usr/bin/env python3
"""Times `nbd-extents copy` beside nbdcopy and `qemu-img convert`, and an incremental beside a full.

All of them copy the same export of the same server to a target that forgets what it is sent, so
that the copy itself is timed: a disk of 4 GiB full of data, one with 64 KiB of data in each 512 KiB,
and one of which 1% is dirty. Full copies go over one connection and four; qemu-img has one.

Needs qemu-utils, nbdkit and nbdcopy (Debian: libnbd-bin), and `cargo build --release`. Prints the
shortest of 5 alternating rounds (or as many as the first argument says), the processor time of
that run, and ratios. Ends with 1 where a copy takes longer than the others' or an incremental longer
than a tenth of a full.
"""

import os
import subprocess
import sys
import tempfile

import program
from servers import nbdkit, qemu_nbd, timed

SIZE = 4 << 30
CONNECTIONS = [1, 4]
PROGRAM = program.path()


def compare(title, commands, rounds):
    """The shortest run of each command; they take turns."""
    best = {}
    for _ in range(rounds):
        for name, command in commands.items():
            best[name] = min(best.get(name, (float("inf"), 0)), timed(command))
    for name, (wall, processor) in best.items():
        print("%-12s %-28s %7.3f s  processor %7.3f s" % (title, name, wall, processor))
    return {name: wall for name, (wall, _) in best.items()}


def copies(source, target):
    commands = {}
    for count in CONNECTIONS:
        option = "--connections=%d" % count
        commands["nbd-extents, %d" % count] = [PROGRAM, "copy", option, source, target]
        commands["nbdcopy, %d" % count] = ["nbdcopy", option, "--flush", source, target]
    commands["qemu-img, 1"] = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, target]
    return commands


def sparse_file(path):
    block = os.urandom(64 << 10)
    with open(path, "wb") as disk:
        disk.truncate(SIZE)
        for offset in range(0, SIZE, 512 << 10):
            disk.seek(offset)
            disk.write(block)


def dirty_image(path, backing):
    """An overlay of 4 GiB over a disk of data, of which 1% has changed since its bitmap began."""
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["qemu-img", "create", "-f", "qcow2", "-b", backing, "-F", "raw", path], **quiet)
    subprocess.run(["qemu-img", "bitmap", "--add", path, "b0"], **quiet)
    length = SIZE // 100 // 64 >> 16 << 16
    writes = "".join("write -q -P 7 %d %d\n" % (nth * (SIZE // 64), length) for nth in range(64))
    subprocess.run(["qemu-io", path], input=writes.encode(), **quiet)


def full_copies(folder, rounds):
    ratios = []
    sparse = os.path.join(folder, "sparse")
    sparse_file(sparse)
    disks = {
        "data": lambda socket: nbdkit(socket, "-r", "pattern", str(SIZE)),
        "sparse": lambda socket: qemu_nbd(socket, "-f", "raw", sparse),
    }
    for title, serve in disks.items():
        sockets = [os.path.join(folder, title + side) for side in ("-source", "-target")]
        with serve(sockets[0]) as source, nbdkit(sockets[1], "null", str(SIZE)) as target:
            best = compare(title, copies(source, target), rounds)
        for count in CONNECTIONS:
            ours = best["nbd-extents, %d" % count]
            ratios.append(("%s to nbdcopy, %d" % (title, count), ours / best["nbdcopy, %d" % count], 1))
        ratios.append(("%s to qemu-img" % title, best["nbd-extents, 1"] / best["qemu-img, 1"], 1))
    return ratios


def incremental(folder, rounds):
    sockets = [os.path.join(folder, name) for name in ("backing", "dirty", "target")]
    image = os.path.join(folder, "dirty.qcow2")
    with nbdkit(sockets[0], "-r", "pattern", str(SIZE)) as backing:
        dirty_image(image, backing)
        with qemu_nbd(sockets[1], "-f", "qcow2", "-B", "b0", image) as source:
            with nbdkit(sockets[2], "null", str(SIZE)) as target:
                full = [PROGRAM, "copy", source, target]
                commands = {"full": full, "incremental of 1%": [*full, "--bitmap", "b0"]}
                best = compare("dirty", commands, rounds)
    return [("incremental to full", best["incremental of 1%"] / best["full"], 0.1)]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        ratios = full_copies(folder, rounds) + incremental(folder, rounds)
    for name, ratio, most in ratios:
        print("ratio %-24s %5.2f  (at most %s)" % (name, ratio, most))
    sys.exit(any(ratio > most for _, ratio, most in ratios))


if __name__ == "__main__":
    main()
