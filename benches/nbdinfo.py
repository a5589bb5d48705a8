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
import statistics
import subprocess
import sys
import tempfile
import time

import program

ROUNDS = 5
CLUSTERS = 300_000
PROGRAM = program.path()


def quiet(*command, stdin=None):
    subprocess.run(command, input=stdin, check=True, stdout=subprocess.DEVNULL, text=True)


def make_image(path):
    quiet("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1200M")
    writes = "".join("write -q %d 4k\n" % (n * 4096) for n in range(0, CLUSTERS, 2))
    quiet("qemu-io", "--cache=unsafe", "-f", "qcow2", path, stdin=writes)
    quiet("qemu-img", "bitmap", "--add", path, "b0")
    quiet("qemu-io", "-f", "qcow2", "-c", "write 1M 4k", "-c", "write 1100M 4k", path)


def timed(commands):
    """Wall seconds of running them one after the other, and the highest peak memory in MiB."""
    peak, start = 0, time.monotonic()
    for command in commands:
        with open(os.devnull, "w") as null:
            child = subprocess.Popen(command, stdout=null)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit("%s: exit %d" % (" ".join(command), child.returncode))
        peak = max(peak, usage.ru_maxrss / 1024)
    return time.monotonic() - start, peak


def main():
    with tempfile.TemporaryDirectory() as folder:
        image, socket = os.path.join(folder, "disk.qcow2"), os.path.join(folder, "nbd.sock")
        make_image(image)
        server = subprocess.Popen(
            ["qemu-nbd", "-r", "-t", "-e", "8", "-B", "b0", "-f", "qcow2", "-k", socket, image]
        )
        try:
            while not os.path.exists(socket):
                time.sleep(0.05)
            uri = "nbd+unix:///?socket=" + socket
            ours = [[PROGRAM, "map", uri, "--bitmap", "b0", "--json"]]
            theirs = [
                ["nbdinfo", "--json", "--map=" + name, uri]
                for name in ("base:allocation", "qemu:dirty-bitmap:b0")
            ]
            timed(ours), timed(theirs)  # the server's caches
            rounds = [(timed(ours), timed(theirs)) for _ in range(ROUNDS)]
        finally:
            server.terminate()
            server.wait()
    a = statistics.median(round[0][0] for round in rounds)
    b = statistics.median(round[1][0] for round in rounds)
    print("nbd-extents map    %.3f s  peak %4.0f MiB" % (a, max(round[0][1] for round in rounds)))
    print("nbdinfo --map, x2  %.3f s  peak %4.0f MiB" % (b, max(round[1][1] for round in rounds)))
    print("ratio              %.2f" % (a / b))


if __name__ == "__main__":
    main()
