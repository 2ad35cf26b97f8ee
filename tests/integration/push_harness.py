"""A share whose locks a cluster is to have, too. The cluster is mockqumulo, whose journal says what it was asked."""
import json
import os

import pytest

from harness import DEADLINE_S, wait_for
from qumulo import ref

LOCK = '/file-lock'


def options(mock, share, *more, retry=1, credentials=None):
    parts = ['push=qumulo:' + (mock.url if not mock.ca_file else mock.url.replace('https://', '')), 'push_root=/share',
             'push_credentials=' + (credentials or mock.token_file), 'push_retry=%d' % retry]
    if mock.ca_file:
        parts.append('push_ca=' + mock.ca_file)
    return ','.join(parts + list(more))


@pytest.fixture
def cluster(mount, mockqumulo):
    """cluster(*mount options, mock=[options], http=True) -> share, mock; the share is /share on the cluster."""
    def make(*more, mock=(), http=True, retry=1, start=True, **kwargs):
        share = mount('', start=False, **kwargs)
        os.chmod(share.dir, 0o755)
        token = os.path.join(share.dir, 'token')		# the same after a restart of the stand-in
        m = mockqumulo('--token-file', token, *mock, tree=share.dir, http=http)
        share.options = ','.join(filter(None, [share.options, options(m, share, *more, retry=retry)]))
        if start:
            share.start()
        return share, m
    return make


def queue(share):
    return share.info()['push']


def pushed(share, deadline=DEADLINE_S):
    """Waits until nothing is on its way."""
    share.must('sync')
    try:
        return wait_for('the queue to be empty', lambda: queue(share)['waiting'] == 0 and queue(share)['in_flight'] == 0, deadline)
    except pytest.fail.Exception as e:
        raise AssertionError('%s: %r, %r\n%s' % (e, queue(share), list(push_list(share, '--state', 'pending').items())[:3],
                                                 share.log_text())) from None


def asked(mock):
    """Requests about files of the share, in order; not those that ask how the cluster is."""
    return [r for r in mock.journal() if r['path'].startswith('/v1/files/' + ref('/share/'))]


def bodies(mock, name=None, status=None):
    """What PATCH requests said, in order."""
    return [json.loads(r['body']) for r in mock.journal('PATCH') if r['path'].endswith(LOCK)
            and (name is None or r['path'] == '/v1/files/%s/file-lock' % ref('/share/' + name))
            and (status is None or r['status'] == status)]


def lock_of(mock, name):
    return mock.locks().get('/share/' + name)


def push_list(share, *args, check=True):
    p = share.ctl('push', 'list', '--json', *args, '--state-dir', share.state, share.mnt, check=False)
    return {row['path']: row for row in map(json.loads, p.out.splitlines())}
