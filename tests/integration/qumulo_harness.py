"""What the tests of mockqumulo share: a stand-in over a tree of the test's own, and curl as the foreign client."""
import subprocess

import pytest

UNTIL, LATER = '2030-01-02T03:04:05Z', '2031-01-02T03:04:05Z'
HOUR = 3600


def curl(mock, *args, token=True):
    """Status and body."""
    command = ['curl', '--silent', '--show-error', '--cacert', mock.ca_file, '--max-time', '20', '--write-out', '\n%{http_code}']
    if token:
        command += ['--oauth2-bearer', mock.token]
    out = subprocess.run(command + list(args), capture_output=True, text=True, timeout=30)
    assert out.returncode == 0, out.stderr
    body, status = out.stdout.rsplit('\n', 1)
    return int(status), body


@pytest.fixture
def tree(tmp_path):
    d = tmp_path / 'tree'
    d.mkdir()
    return d


@pytest.fixture
def mock(mockqumulo, tree):
    """A stand-in over `tree`, which holds a file /f."""
    (tree / 'f').write_text('data')
    return mockqumulo(tree=str(tree))
