"""Servers that are killed, silent or hostile: the scripts that the Rust tests have, too."""

import time

import nbd_extents
import pytest
from nbd_extents import BrokenRulesError, LostConnectionError, NotThereError
from support.scripted import scripted, scripts
from test_waiting import ctrl_c

SCRIPTS = scripts()
ERRORS = {3: NotThereError, 4: LostConnectionError, 5: BrokenRulesError}
SIZE = 4 << 20

each_script = pytest.mark.parametrize("name, survey, backup", SCRIPTS, ids=[name for name, _, _ in SCRIPTS])

# A file that begins as a backup does, so that the next one may replace it.
PREVIOUS = b"meta 0000000000000000 0000000000000002\r\n{}\r\nthe previous one"


def limit(name):
    """The seconds that a call may take: short where the limit is what ends it."""
    return 1.0 if name.startswith("silent") else 60.0


def ends(code, call):
    """Calls, and expects the error of an exit code, told in one line of printable text."""
    started = time.monotonic()
    if code == 0:
        return call()
    with pytest.raises(ERRORS[code]) as raised:
        call()
    assert type(raised.value) is ERRORS[code] and raised.value.exit_code == code
    assert str(raised.value).isprintable()
    assert time.monotonic() - started < 30
    return None


@each_script
def test_a_survey(name, survey, backup):
    with scripted(name) as uri:
        map = ends(survey, lambda: nbd_extents.survey(uri, timeout=limit(name)))
    if survey == 0:
        assert [(extent.start, extent.length, extent.zero) for extent in map] == [(0, SIZE, False)]


@each_script
def test_a_backup(folder, name, survey, backup):
    target = folder / "full"
    target.write_bytes(PREVIOUS)
    with scripted(name) as uri:
        totals = ends(backup, lambda: nbd_extents.backup(uri, target, timeout=limit(name)))
    assert list(folder.iterdir()) == [target], "nothing is left beside it"
    if backup == 0:
        assert totals["copy"] == SIZE and target.stat().st_size > SIZE
    else:
        assert target.read_bytes() == PREVIOUS


@pytest.mark.parametrize("name", [name for name, _, _ in SCRIPTS if name.startswith("silent")])
def test_ctrl_c(folder, name):
    with scripted(name) as uri:
        ctrl_c(f"nbd_extents.backup({uri!r}, {str(folder / 'full')!r})")
    assert list(folder.iterdir()) == []


def test_all_kinds_are_there():
    if not SCRIPTS:
        pytest.skip("NBD_SCRIPTED names no program: ci/python builds it")
    kinds = {name.split()[0] for name, _, _ in SCRIPTS}
    assert kinds == {"honest", "killed", "silent", "hostile:"}
    assert {survey for _, survey, _ in SCRIPTS} == {0, 3, 4, 5}
