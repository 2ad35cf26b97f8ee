"""wormfs for a user who is not root, with nothing prepared: where its state goes, and that a kill -9 unlocks nothing."""
import os

import pytest

from harness import WORMCTL, WORMFS
from test_mockarchive_user import as_someone	# noqa: F401


@pytest.mark.parametrize('variables, state', [('unset XDG_STATE_HOME', '.local/state'), ('export XDG_STATE_HOME="$HOME/xdg"', 'xdg'),
                                              ('export XDG_STATE_HOME=not/absolute', '.local/state')])
def test_a_user_mounts_a_share_of_his_own_and_after_kill_9_it_is_still_locked(as_someone, tmp_path, variables, state):	# noqa: F811
    for path in (WORMFS, WORMCTL):
        os.symlink(path, tmp_path / os.path.basename(path))
    kill = "kill -9 $(getfattr --only-values -n user.worm.mount final | sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')"
    said = as_someone([
        variables + '; mkdir final; wormfs final', 'echo one >final/f', 'echo two >>final/f', 'rm -f final/f', 'ls ' + state + '/wormfs',
        'stat -c %a ' + state + '/wormfs/*', kill, 'fusermount3 -uz final', 'wormfs final', 'cat final/f', 'echo two >>final/f',
        'rm -f final/f', 'chmod 666 final/f', 'wormctl list final', 'fusermount3 -u final', 'ls ' + state + '/wormfs', 'find . -maxdepth 1 -printf "%P\\n" | sort'])
    texts, codes = zip(*said)
    refused = [2, 3, 10, 11, 12]
    assert [n for n, code in enumerate(codes) if code != 0] == refused, said
    assert all('Operation not permitted' in texts[n] for n in refused)
    assert texts[9] == 'one\n' and 'f' in texts[13].split()[-1]
    assert len(texts[4].split()) == 1 and texts[15] == texts[4] and texts[5] == '700\n'
    assert texts[16].split() == sorted([state.split('/')[0], 'final'])
