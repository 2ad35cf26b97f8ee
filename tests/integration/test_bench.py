"""The exit status of tests/bench/bench.py: what a script that asks for the goals is told."""
import json
import os
import subprocess
import sys

import pytest

from harness import ROOT


def show(tmp_path, events, *options):
    out = tmp_path / 'result.json'
    out.write_text(json.dumps({'results': {}, 'contenders': {}, 'phases': {}, 'policy': [], 'events': events}))
    return subprocess.run([sys.executable, os.path.join(ROOT, 'tests/bench/bench.py'), '--show', '--out', str(out), *options],
                          capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('rate, dropped, status, word', [
    (200000, 0, 0, 'met'), (199999.9, 0, 1, 'NOT MET'), (900000, 1, 1, 'NOT MET'),
])
def test_a_rate_of_events_below_the_goal_or_a_drop_is_exit_status_1_if_goals_are_asked_for(tmp_path, rate, dropped, status, word):
    slow = {'short_paths': {'events': 10, 'events_per_s': rate, 'dropped': dropped},
            'long_paths': {'events': 10, 'events_per_s': 1e6, 'dropped': 0}}
    p = show(tmp_path, slow, '--goals')
    assert (p.returncode, p.stderr) == (status, '')
    assert [line.rsplit(': ', 1)[1] for line in p.stdout.splitlines()] == [word, 'met']
    assert show(tmp_path, slow).returncode == 0
