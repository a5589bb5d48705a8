#!/usr/bin/env python3
"""Times `nbd-extents backup` of a disk full of data beside nbdcopy with one connection.

Both read the same export of the same qemu-nbd: nbd-extents writes a stream to /dev/null, nbdcopy
writes to null:. The disk has 2 GiB of data (or as many MiB as the first argument says) and lies in
the page cache.

Needs qemu-utils and nbdcopy (Debian: libnbd-bin), and `cargo build --release`. Prints medians of 5
interleaved rounds, their ratio, and the peak memory of both.
"""

import os
import sys
import tempfile

import program
from servers import compare, qemu_nbd


def make_disk(path, mib):
    block = os.urandom(1 << 20)
    with open(path, "wb") as disk:
        for _ in range(mib):
            disk.write(block)


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        make_disk(disk, mib)
        with qemu_nbd(os.path.join(folder, "socket"), "-f", "raw", disk) as uri:
            compare(
                ("nbd-extents backup", [[program.path(), "backup", uri, os.devnull]]),
                ("nbdcopy, one connection", [["nbdcopy", "--connections=1", uri, "null:"]]),
            )


if __name__ == "__main__":
    main()
