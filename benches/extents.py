#!/usr/bin/env python3
"""The processor time of one extent: a disk of 50,000 dirty extents of 16 KiB, copied and backed up.

Every second block of 16 KiB of a qcow2 image is dirty. `nbd-extents copy` sends them to a target that
forgets them, over one connection and four; `nbd-extents backup` writes them to a file and into a pipe.
Beside them: nbdcopy with requests of 16 KiB, which finds the same extents, since the rest of the disk
are holes; and floor.c, a program that does nothing but read and write these extents. A file and a pipe
cost other than a socket, whoever writes to them, so each end has a floor of its own.

Needs qemu-utils, nbdkit, nbdcopy (Debian: libnbd-bin), gcc, 2 GiB in the folder for temporary files
(TMPDIR), and `cargo build --release`. Prints the least processor time an extent and the shortest time
of 7 alternating rounds (or as many as the first argument says), and ratios to the floor.

On a machine that does other work as well: `chrt -r 5`, which the servers inherit. Figures of a
machine that is busy otherwise are higher, and differ from run to run.
"""

import os
import subprocess
import sys
import tempfile

import program
from servers import nbdkit, piped, qemu_nbd, timed

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = program.path()
COUNT, LENGTH = 50000, 16384
STEP = 2 * LENGTH
SIZE = COUNT * STEP


def make_disk(image):
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["qemu-img", "create", "-f", "qcow2", image, str(SIZE)], **quiet)
    subprocess.run(["qemu-img", "bitmap", "--add", "-g", str(LENGTH), image, "b0"], **quiet)
    writes = "".join("write -q -P 7 %d %d\n" % (nth * STEP, LENGTH) for nth in range(COUNT))
    subprocess.run(["qemu-io", "--cache=unsafe", image], input=writes.encode(), **quiet)


def run_rounds(runs, rounds):
    """The least processor seconds and wall seconds of each; they take turns."""
    best = {}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, processor = run()
            least = best.get(name, (wall, processor))
            best[name] = min(least[0], wall), min(least[1], processor)
    return best


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        subprocess.run(["gcc", "-O2", "-o", path("floor"), os.path.join(HERE, "floor.c")], check=True)
        make_disk(path("disk.qcow2"))
        source, target = path("source"), path("target")
        with qemu_nbd(source, "-f", "qcow2", "-B", "b0", path("disk.qcow2")) as disk:
            with nbdkit(target, "null", str(SIZE)) as null:
                copy = lambda count: [
                    PROGRAM, "copy", "--quiet", "--bitmap", "b0", "--connections", count,
                    disk, null,
                ]
                last = ["--parent", "last", "--previous-size", str(SIZE)]
                backup = [PROGRAM, "backup", "--quiet", "--bitmap", "b0", *last, disk]
                floor = lambda to: [path("floor"), source, to, str(COUNT), str(STEP)]
                runs = {
                    "floor, to a socket": lambda: timed(floor(target)),
                    "copy, 1 connection": lambda: timed(copy("1")),
                    "copy, 4 connections": lambda: timed(copy("4")),
                    "nbdcopy": lambda: timed(["nbdcopy", "--request-size=%d" % LENGTH, disk, null]),
                    "floor, to a file": lambda: timed(floor("file:" + path("floor.out"))),
                    "backup, to a file": lambda: timed([*backup, path("backup.out")]),
                    "floor, to a pipe": lambda: piped(floor("file:/dev/stdout")),
                    "backup, to a pipe": lambda: piped([*backup, "-"]),
                }
                best = run_rounds(runs, rounds)
    for name, (wall, processor) in best.items():
        end = next((end for end in ("file", "pipe") if end in name), "socket")
        floor_wall, floor_processor = best["floor, to a " + end]
        line = "%-20s %6.2f us an extent  %4.2f of the floor  %6.3f s  %4.2f of the floor"
        print(line % (name, processor * 1e6 / COUNT, processor / floor_processor, wall, wall / floor_wall))


if __name__ == "__main__":
    main()
