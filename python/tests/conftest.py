"""Shared by all tests: a folder with a short name, since the path of a socket has at most 107 bytes."""

import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="nx") as path:
        yield pathlib.Path(path)
