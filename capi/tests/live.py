#!/usr/bin/env python3
"""Random qcow2 images, served by qemu-nbd: each program must print the map that a model knows.

    live.py ROUNDS [--captured PROGRAM] COMMAND...

A command is run with the URI and the bitmap's name as further arguments. PROGRAM is `tests/c/captured.c`, run
on the replies of the same server to one request for the whole export, recorded off the wire: Debian's libnbd
has no 64-bit callback, so the 64-bit entry gets a real server's extents this way. The model never reads the
image: it knows what it wrote, cluster by cluster.
"""

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, f"{os.path.dirname(__file__)}/../../cli/demo")
import capture  # noqa: E402

CLUSTER = 65536
BITMAP = "b0"
capture.CONTEXTS = ["base:allocation", f"qemu:dirty-bitmap:{BITMAP}"]


def make(image, rng):
    """Writes a random image, and returns its size and (dirty, zero) of each cluster."""
    clusters = rng.randint(1, 120)
    # the last cluster may be cut short
    size = clusters * CLUSTER - rng.choice([0, 0, 512, CLUSTER - 512])
    state = [[False, True] for _ in range(clusters)]
    quiet = dict(check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, str(size)], **quiet)

    def write(dirty):
        commands = []
        for _ in range(rng.randint(0, 12)):
            first = rng.randrange(clusters)
            last = min(clusters, first + rng.randint(1, 20))
            start, end = first * CLUSTER, min(last * CLUSTER, size)
            kind = rng.choice(["write -P 85", "write -P 85", "write -z", "discard"])
            commands += ["-c", f"{kind} {start} {end - start}"]
            for cluster in range(first, last):
                state[cluster] = [dirty or state[cluster][0], not kind.startswith("write -P")]
        if commands:
            subprocess.run(["qemu-io", "-f", "qcow2", *commands, image], **quiet)

    write(False)
    subprocess.run(["qemu-img", "bitmap", "--add", image, BITMAP], **quiet)
    write(True)
    return size, state


def expected(size, state):
    """The rows that the programs print, neighbours of equal status joined."""
    rows = []
    for cluster, (dirty, zero) in enumerate(state):
        words = f"{'dirty' if dirty else 'clean'} {'zero hole' if zero else 'data'}"
        end = min((cluster + 1) * CLUSTER, size)
        if rows and rows[-1][2] == words:
            rows[-1][1] = end
        else:
            rows.append([cluster * CLUSTER, end, words])
    return "".join(f"{start} {end - start} {words}\n" for start, end, words in rows)


def serve(image, socket):
    server = subprocess.Popen(["qemu-nbd", "-r", "-t", "-k", socket, "-f", "qcow2", "-B", BITMAP, image])
    deadline = time.monotonic() + 30
    while not os.path.exists(socket):
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit("qemu-nbd does not start")
        time.sleep(0.01)
    return server


def check(seed, command, arguments, rows):
    """Ends the program unless the command prints the rows."""
    run = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True)
    if run.returncode != 0 or run.stdout != rows:
        sys.exit(
            f"seed {seed}: {command}: exit {run.returncode}\n{run.stderr}\n"
            f"--- the model\n{rows}--- printed\n{run.stdout}"
        )


def check_captured(seed, program, folder, socket, rows):
    """The same from recorded replies, with extended headers and with structured replies."""
    for form, extended in [("64", True), ("32", False)]:
        recorded = f"{folder}/{form}.hex"
        with open(recorded, "w") as out:
            out.write(capture.record(socket, extended))
        check(seed, program, [recorded, form], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int)
    parser.add_argument("--captured")
    parser.add_argument("commands", nargs="+")
    args = parser.parse_args()
    for seed in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            image, socket = f"{folder}/disk.qcow2", f"{folder}/s"
            rows = expected(*make(image, random.Random(seed)))
            server = serve(image, socket)
            try:
                for command in args.commands:
                    check(seed, command, [f"nbd+unix:///?socket={socket}", BITMAP], rows)
                if args.captured:
                    check_captured(seed, args.captured, folder, socket, rows)
            finally:
                server.terminate()
                server.wait()
    programs = len(args.commands) + (args.captured is not None)
    print(f"{args.rounds} exports, {programs} programs: equal to the model")


main()
