"""mockqumulo: change notification, as server-sent events."""
import json
import os
import time

from qumulo import ref
from qumulo_harness import mock, tree		# noqa: F401


class Events:
    def __init__(self, mock, path='/', query=''):
        self.connection = mock.connect(timeout=20)
        self.connection.request('GET', '/v1/files/%s/notify%s' % (ref(path), query), headers={'Authorization': 'Bearer ' + mock.token})
        self.answer = self.connection.getresponse()
        self.status, self.type = self.answer.status, self.answer.headers['Content-Type']
        if self.status == 200:
            assert self.line() == ': watching'

    def line(self):
        """The next line that is not empty; None: the end."""
        while True:
            line = self.answer.readline()
            if not line:
                return None
            if line.strip():
                return line.decode().strip()

    def next(self):
        """The next event: a list."""
        while True:
            line = self.line()
            if line is None or not line.startswith(':'):
                assert line is None or line.startswith('data: '), line
                return line and json.loads(line[6:])

    def until(self, kind, path):
        """All (type, path) up to this one."""
        seen = []
        while (kind, path) not in seen:
            event = self.next()
            assert event is not None, seen
            seen += [(e['type'], e['path']) for e in event]
        return seen

    def close(self):
        self.connection.close()


def test_a_watcher_is_told_what_appears_whoever_makes_it(mock, tree):
    events = Events(mock, query='?filter=child_file_added&recursive=True')
    assert events.type == 'text/event-source'			# exactly: the SDK looks for it
    (tree / 'new').write_text('x')
    event = events.next()
    assert [(e['type'], e['path'], e['stream_name']) for e in event] == [('child_file_added', 'new', None)]
    assert event[0]['spine'] == [str(os.stat(tree).st_ino), str(os.stat(tree / 'new').st_ino)]
    mock.make('/', 'api')
    assert events.next()[0]['path'] == 'api'
    os.makedirs(tree / 'a' / 'b')
    (tree / 'a' / 'b' / 'deep').write_text('x')
    event = events.next()[0]
    assert event['path'] == 'a/b/deep' and len(event['spine']) == 4
    os.rename(tree / 'a', tree / 'z')
    (tree / 'z' / 'b' / 'moved').write_text('x')
    assert events.next()[0]['path'] == 'z/b/moved'
    events.close()


def test_a_watcher_that_is_not_recursive_sees_one_directory(mock, tree):
    os.makedirs(tree / 'd' / 'e')
    events = Events(mock, '/d', '?filter=child_file_added%2Cchild_file_removed,child_file_moved_to,child_data_written')
    (tree / 'outside').write_text('x')
    (tree / 'd' / 'e' / 'below').write_text('x')
    (tree / 'd' / 'here').write_text('x')
    assert events.until('child_data_written', 'here') == [('child_file_added', 'here'), ('child_data_written', 'here')]
    os.rename(tree / 'outside', tree / 'd' / 'came')
    assert events.until('child_file_moved_to', 'came') == [('child_file_moved_to', 'came')]
    os.unlink(tree / 'd' / 'here')
    assert events.until('child_file_removed', 'here') == [('child_file_removed', 'here')]
    events.close()


def test_without_a_filter_every_type_is_told_and_the_end_of_the_directory_too(mock, tree):
    (tree / 'd').mkdir()
    events = Events(mock, '/d')
    (tree / 'd' / 'x').write_text('x')
    os.chmod(tree / 'd' / 'x', 0o600)
    os.mkdir(tree / 'd' / 'sub')
    os.rename(tree / 'd' / 'sub', tree / 'd' / 'sub2')
    os.rmdir(tree / 'd' / 'sub2')
    os.unlink(tree / 'd' / 'x')
    seen = events.until('child_file_removed', 'x')
    for kind, path in [('child_file_added', 'x'), ('child_size_changed', 'x'), ('child_acl_changed', 'x'), ('child_dir_added', 'sub'),
                       ('child_dir_moved_from', 'sub'), ('child_dir_moved_to', 'sub2'), ('child_dir_removed', 'sub2')]:
        assert (kind, path) in seen, kind
    os.rmdir(tree / 'd')
    assert events.until('self_removed', '')
    assert events.next() is None


def test_a_silent_notification_gives_signs_of_life(mockqumulo, tree):
    mock = mockqumulo('--set', 'keepalive-ms=50', tree=str(tree))
    events = Events(mock)
    assert [events.line() for _ in range(3)] == [': keepalive'] * 3
    events.close()


def test_a_watcher_that_falls_behind_gets_an_error_and_the_end(mockqumulo, tree):
    mock = mockqumulo('--set', 'watch-buffer=20000', tree=str(tree))
    deep = tree.joinpath(*['%0250d' % i for i in range(12)])		# a long path: few events are more than the buffer
    deep.mkdir(parents=True)
    slow, fast = Events(mock, query='?recursive=true'), Events(mock)
    deadline, i = time.monotonic() + 60, 0
    while [w['below'] for w in mock.control('GET', 'watchers')] == ['', '']:
        for i in range(i, i + 100):
            (deep / str(i)).write_text('x')
        assert time.monotonic() < deadline
    line = slow.line()
    while line and not line.startswith('event: error'):
        line = slow.line()
    assert line == 'event: error' and 'fs_watcher_missed_events_error' in slow.line()
    assert slow.line() is None
    (tree / 'here').write_text('x')
    assert fast.next()[0]['path'] == 'here'		# the other goes on
    fast.close()


def test_a_watcher_that_goes_away_is_forgotten(mockqumulo, tree):
    mock = mockqumulo('--set', 'keepalive-ms=3600000', tree=str(tree))		# it is not a failed write that tells
    events = Events(mock, query='?recursive=true')
    assert mock.control('GET', 'watchers') == [{'below': '', 'recursive': True}]
    events.close()
    deadline = time.monotonic() + 20
    while mock.control('GET', 'watchers'):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_notification_is_refused_where_it_must_be(mock):
    assert mock.get('/v1/files/%2Ff/notify').status == 400
    assert mock.get('/v1/files/%2F/notify?filter=child_file_exploded').status == 400
    assert mock.get('/v1/files/%2Fnone/notify').status == 404
    settings = '/v1/file-system/settings/notify'
    assert mock.get(settings).json == {'recursive_mode': 'ENABLED'}
    assert mock.request('PUT', settings, {'recursive_mode': 'DISABLED_ERROR'}).status == 200
    assert mock.get('/v1/files/%2F/notify?recursive=true').status == 400
    Events(mock).close()
    mock.switch(notify='enabled', data_admin='no')
    assert mock.get('/v1/files/%2F/notify?recursive=true').status == 403
    events = Events(mock)
    mock.control('DELETE', 'watchers?behind=true')
    assert events.line() == 'event: error'
