"""The program that the scripts beside this file time: `nbd-extents` of `cargo build --release`."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def path():
    """Its path, below CARGO_TARGET_DIR if that is set. Ends the script if it is not built."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(HERE, "..", "target")
    program = os.path.join(target, "release", "nbd-extents")
    if not os.path.exists(program):
        sys.exit("%s is not there: cargo build --release" % program)
    return program
