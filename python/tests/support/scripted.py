"""The scripted server of the Rust tests, started by the name of a script.

`testkit/examples/scripted.rs` has the scripts. NBD_SCRIPTED is the path of the program, which
`ci/python` builds.
"""

import contextlib
import os
import subprocess

PROGRAM = os.environ.get("NBD_SCRIPTED")


def scripts():
    """The scripts, as (name, exit code of a survey, exit code of a backup)."""
    if PROGRAM is None:
        return []
    listed = subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in listed.splitlines()]
    return [(name, int(survey), int(backup)) for name, survey, backup in rows]


@contextlib.contextmanager
def scripted(name):
    """Runs a script on a unix socket; its URI."""
    process = subprocess.Popen([PROGRAM, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
