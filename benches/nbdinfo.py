#!/usr/bin/env python3
"""Times `nbd-extents map --json` against nbdinfo on a fragmented disk, side by side.

The disk: 1200 MiB, 4 KiB clusters, every second one written, a bitmap, then two writes: 300,000
extents in base:allocation, so that one context exceeds the 131,072 extents that qemu gives in one
reply, and two dirty ranges. One run of `map` gives the map of zero and dirty; with nbdinfo the same
takes two runs of `nbdinfo --map`, one per context, and a merge by hand.

Needs qemu-utils and nbdinfo (Debian: libnbd-bin), and `cargo build --release`. Prints medians of 5
interleaved rounds, their ratio, and the peak memory of both.
"""

import os
import subprocess
import tempfile

import program
from servers import compare, qemu_nbd

CLUSTERS = 300_000


def quiet(*command, stdin=None):
    subprocess.run(command, input=stdin, check=True, stdout=subprocess.DEVNULL, text=True)


def make_image(path):
    quiet("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1200M")
    writes = "".join("write -q %d 4k\n" % (n * 4096) for n in range(0, CLUSTERS, 2))
    quiet("qemu-io", "--cache=unsafe", "-f", "qcow2", path, stdin=writes)
    quiet("qemu-img", "bitmap", "--add", path, "b0")
    quiet("qemu-io", "-f", "qcow2", "-c", "write 1M 4k", "-c", "write 1100M 4k", path)


def main():
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "disk.qcow2")
        make_image(image)
        with qemu_nbd(os.path.join(folder, "socket"), "-B", "b0", "-f", "qcow2", image) as uri:
            contexts = ("base:allocation", "qemu:dirty-bitmap:b0")
            compare(
                ("nbd-extents map", [[program.path(), "map", uri, "--bitmap", "b0", "--json"]]),
                ("nbdinfo --map, twice", [["nbdinfo", "--json", "--map=" + name, uri] for name in contexts]),
            )


if __name__ == "__main__":
    main()
