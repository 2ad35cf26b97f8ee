"""Events in the system's log: datagrams as syslog(3) and sd_journal_send(3) write them, to a socket of the test's own."""
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from harness import Refused, errno_of, need_program, run, wait_for, write_file

ALLOWED = 'nobody is there|connection is gone'


class Log:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(15)
        self.path = path

    def take(self, done):
        got = []
        while not got or not done(got[-1]):
            got.append(self.socket.recv(1 << 20))
        return got

    def close(self):
        self.socket.close()
        os.unlink(self.path)


def parse(data):
    found = re.fullmatch(rb'<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) wormfs\[(\d+)\]: (\{.*\})', data)
    assert found, data
    return int(found[1]), json.loads(found[4].decode('utf-8'))


def test_syslog_gets_each_event_with_facility_and_severity(mount, tmp_path):
    log = Log(str(tmp_path / 'log'))
    share = mount('retention=1y', start=False)
    share.start('retention=1y,events=syslog:local3@%s' % log.path)
    write_file(share.at('f\n"ü'))
    assert errno_of(os.unlink, share.at('f\n"ü')) == 'EPERM'
    got = [parse(d) for d in log.take(lambda d: b'"Refused"' in d)]
    assert [e['Seq'] for _, e in got] == list(range(1, len(got) + 1))
    assert {p for p, e in got if 'Error' not in e['Event']} == {19 << 3 | 6}
    assert got[-1][0] == 19 << 3 | 4 and got[-1][1]['Event']['Path'] == '/f\n"ü' and got[-1][1]['Event']['Error'] == 'EPERM'
    log.close()


def make_directories(share):
    with contextlib.suppress(OSError):		# until the daemon is killed
        for n in itertools.count():
            os.mkdir(share.at(str(n)))


def test_what_is_missing_and_what_was_forged_is_an_error(mount, tmp_path):
    log = Log(str(tmp_path / 'log'))
    share = mount('retention=1y', start=False)
    share.start('retention=1y,events=syslog:local3@%s' % log.path)
    share.lock('f')
    share.must('sync')
    maker = threading.Thread(target=make_directories, args=(share,))
    maker.start()
    log.take(lambda d: b'"/50"' in d)
    share.kill9()		# some are in memory: they wait 50 ms for company
    maker.join()
    write_file(share.below('f'), b'forged', flags=os.O_APPEND)
    share.start()
    share.explain('f')
    got = [parse(d) for d in log.take(lambda d: b'"Tamper"' in d)]
    assert [(p, e['Event']['Type']) for p, e in got if p & 7 < 4] == [(19 << 3 | 3, 'Gap'), (19 << 3 | 3, 'Tamper')]
    log.close()


def test_a_log_that_does_not_read_holds_up_nobody_and_one_that_comes_back_gets_the_rest(mount, tmp_path):
    path = str(tmp_path / 'log')
    log = Log(path)
    share = mount('commit=never', start=False)
    share.allowed.append(ALLOWED)
    share.start('commit=never,events=syslog:authpriv@%s' % path)
    for n in range(1500):		# its queue has 10 or 512
        os.mkdir(share.at(str(n)))
    got = [parse(d)[1] for d in log.take(lambda d: b'"/1499"' in d)]
    log.close()
    assert [e['Seq'] for e in got] == list(range(1, len(got) + 1))
    for n in range(50):
        os.mkdir(share.at('away%d' % n))
    wait_for('the sink to know', lambda: share.info()['events']['sinks'][0]['error'])
    log = Log(path)
    more = [parse(d)[1] for d in log.take(lambda d: b'"/away49"' in d)]
    assert more[0]['Seq'] == got[-1]['Seq'] + 1 and [e['Seq'] for e in more] == list(range(more[0]['Seq'], more[0]['Seq'] + len(more)))
    log.close()


def fields(data):
    out = {}
    while data:
        line, data = data.split(b'\n', 1)
        if b'=' in line:
            name, value = line.split(b'=', 1)
        else:
            name = line
            length, = struct.unpack_from('<Q', data)
            value, data = data[8:8 + length], data[8 + length + 1:]
        out[name.decode()] = value
    return out


def test_the_journal_gets_fields_and_exact_paths(mount, tmp_path):
    log = Log(str(tmp_path / 'journal'))
    share = mount('commit=never', start=False)
    share.start('commit=never,events=journald:%s' % log.path)
    name = b'a\nMESSAGE=b\xff'
    os.mkdir(os.path.join(os.fsencode(share.at()), name))
    entry = fields(log.take(lambda d: b'WORMFS_TYPE=MKdir\n' in d)[-1])
    line = json.loads(entry['MESSAGE'])
    assert entry['WORMFS_PATH'] == b'/' + name and entry['WORMFS_TYPE'] == b'MKdir' and entry['PRIORITY'] == b'6'
    assert entry['WORMFS_SEQ'] == b'%d' % line['Seq'] and entry['SYSLOG_IDENTIFIER'] == b'wormfs' and line['Event']['Type'] == 'MKdir'
    log.close()


JOURNALD = '/lib/systemd/systemd-journald'


@contextlib.contextmanager
def journald(root):
    """systemd's own journal, with a /run of its own, which is `root` outside."""
    need_program('journalctl')
    if not os.access(JOURNALD, os.X_OK):
        pytest.skip('needs ' + JOURNALD)
    os.makedirs(os.path.join(root, 'systemd'))
    os.makedirs(os.path.join(root, 'log', 'journal'))
    script = 'mount --bind "$1" /run && exec %s' % JOURNALD
    with open(os.path.join(root, 'stderr'), 'wb') as err:
        proc = subprocess.Popen(['unshare', '-m', 'sh', '-c', script, 'sh', root], stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    try:
        there = os.path.join(root, 'systemd/journal/socket')
        wait_for('journald', lambda: os.path.exists(there) or proc.poll() is not None)
        if proc.poll() is not None:
            pytest.skip('systemd-journald does not run here: ' + open(os.path.join(root, 'stderr'), errors='replace').read().strip())
        yield there
    finally:
        proc.terminate()
        proc.wait(30)


def journal_of(root, *matches):
    p = run('journalctl', '--directory=' + os.path.join(root, 'log/journal'), '-o', 'json', '--all', '--no-pager', *matches, check=False)
    return [json.loads(line) for line in p.out.splitlines() if line.startswith('{')]


def test_systemds_own_journal_has_each_event_and_finds_it_by_field(mount):
    share = mount('retention=1y', start=False)
    root = tempfile.mkdtemp(prefix='wj')	# short: the path of a socket
    try:
        with journald(root) as socket_path:
            share.start('retention=1y,events=journald:%s' % socket_path)
            name = b'a\nMESSAGE=b\xff'
            write_file(share.at('locked'))
            assert errno_of(os.unlink, share.at('locked')) == 'EPERM'
            os.mkdir(os.path.join(os.fsencode(share.at()), name))
            found = wait_for('the journal to have it', lambda: journal_of(root, 'SYSLOG_IDENTIFIER=wormfs', 'WORMFS_TYPE=MKdir'))
            assert len(found) == 1 and found[0]['_TRANSPORT'] == 'journal' and found[0]['_PID'] == str(share.proc.pid)
            assert bytes(found[0]['WORMFS_PATH']) == b'/' + name		# not UTF-8: an array of bytes
            assert json.loads(found[0]['MESSAGE'])['Seq'] == int(found[0]['WORMFS_SEQ'])
            refused = journal_of(root, 'SYSLOG_IDENTIFIER=wormfs', 'PRIORITY=4')
            assert [(e['WORMFS_TYPE'], e['WORMFS_PATH'], json.loads(e['MESSAGE'])['Event']['Error']) for e in refused] == [('Unlink', '/locked', 'EPERM')]
            assert sorted(int(e['WORMFS_SEQ']) for e in journal_of(root, 'SYSLOG_IDENTIFIER=wormfs')) == list(range(1, int(found[0]['WORMFS_SEQ']) + 1))
            share.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize('where', ['syslog:kernel', 'syslog:local0@relative', 'syslog:', 'syslog:local0@/' + 'x' * 108, 'journald:', 'journald:x'])
def test_a_wrong_place_is_refused(mount, where):
    with pytest.raises(Refused, match='cannot use'):
        mount('events=' + where)
