"""T7: what begins after close(2) returned 0 does not succeed, however soon, from whichever thread. RELEASE is
asynchronous, so the lock has to be there at FLUSH."""
import json

import pytest

from harness import ROUNDS, run, scaled, tool


def race(share, rounds, how):
    result = json.loads(run(tool('race'), share.mnt, rounds, how, timeout=3600).out)
    assert result['rounds'] == rounds
    return result


@pytest.mark.timeout(1800)
@pytest.mark.parametrize('how', ['after', 'hammer', 'rename'])
def test_T7_no_change_that_begins_after_close_succeeds(wormfs, how):
    rounds = scaled(ROUNDS) // {'after': 1, 'hammer': 2, 'rename': 4}[how]
    result = race(wormfs, rounds, how)
    assert result['violations'] == 0, result['first']
    assert result['attempts'] >= rounds
    assert set(result['errnos']) == {'EPERM'}


@pytest.mark.timeout(1800)
def test_T7_nor_with_the_lock_on_stable_storage_before_close(mount):
    result = race(mount('sync=close', base='tmpfs'), max(100, scaled(ROUNDS) // 20), 'after')
    assert result['violations'] == 0, result['first']
    assert set(result['errnos']) == {'EPERM'}


@pytest.mark.timeout(1800)
def test_T7_nor_where_the_lower_filesystem_has_no_xattrs(mount):
    result = race(mount(base='ramfs'), max(100, scaled(ROUNDS) // 50), 'after')
    assert result['violations'] == 0, result['first']
    assert set(result['errnos']) == {'EPERM'}


@pytest.mark.timeout(1800)
def test_T7_the_race_itself_finds_a_filesystem_that_does_not_lock(mount):
    """The same program where nothing is locked: so that silence above means something."""
    result = race(mount('commit=never'), 500, 'after')
    assert result['violations'] > 0
