"""What an event says of what it tells: the rarer types, and every field that docs/events.md promises and no other test reads."""
import fcntl
import os
import struct

import pytest

from event_harness import brief, ctl, replay
from harness import WORMCTL, errno_of, fallocate, open_errno, opened, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)

FALLOC_FL_KEEP_SIZE = 1
ACL = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in (
    (1, 7, 0xffffffff), (2, 7, 1), (4, 5, 0xffffffff), (0x10, 7, 0xffffffff), (0x20, 5, 0xffffffff)))


def since(share, deed):
    """What is told of one deed; what it returns."""
    share.must('sync')
    last = max((e['Seq'] for e in replay(share)), default=0)
    result = deed()
    share.must('sync')
    return [e for e in replay(share) if e['Seq'] > last], result


def fields(event, *names):
    return tuple(event.get(name) for name in names)


# ---- locks --------------------------------------------------------------------------------------

def test_a_shortened_retention_says_both_ends_and_a_privileged_delete_what_it_was(mount):
    share = mount('retention=2050-01-01,privdel=on,events=on')
    path = share.lock('a')
    events, answer = since(share, lambda: share.control('shorten', 'a', until='2040-01-01', reason='ticket 7'))
    assert answer['ok'] and [brief(e) for e in events] == [('RetentionShortened', '/a')]
    assert fields(events[0], 'StateBefore', 'State', 'UntilBefore', 'Until') == (
        'retained', None, '2050-01-01T00:00:00Z', '2040-01-01T00:00:00Z')
    assert 'reason: ticket 7' in events[0]['Detail'] and events[0]['Serial'] == int(share.shows('a', 'serial'))
    events, answer = since(share, lambda: share.control('shorten', 'a', until='2045-01-01', reason='ticket 8'))
    assert [brief(e) for e in events] == [('RetentionShortened', '/a', 'EINVAL')]
    assert fields(events[0], 'UntilBefore', 'Until', 'State') == (None, '2040-01-01T00:00:00Z', None)
    events, answer = since(share, lambda: share.control('delete', 'a', reason='ticket 9'))
    assert answer['ok'] and not os.path.exists(path)
    assert brief(events[0]) == ('DeletedPrivileged', '/a') and 'reason: ticket 9' in events[0]['Detail']
    assert fields(events[0], 'StateBefore', 'State', 'Until') == ('retained', None, '2040-01-01T00:00:00Z')


def test_what_was_there_before_goes_to_its_own_event_and_to_no_other(mount):
    """An event that nobody wants leaves nothing behind for the next one."""
    share = mount('retention=2050-01-01,io_uring=no,events=on,events_types=MKdir')
    share.lock('a')
    for n in range(64):			# some thread serves both
        os.setxattr(share.at('a'), 'user.worm.until', b'%d-01-01' % (2051 + n))
        os.mkdir(share.at(str(n)))
    events = replay(share)
    assert [(e['Type'], e.get('UntilBefore')) for e in events] == [('MKdir', None)] * 64


def test_what_locks_refuse_has_the_type_of_what_was_asked(mount):
    share = mount('retention=1y,events=on')
    share.lock('a')
    write_file(share.at('log'), b'')
    os.setxattr(share.at('log'), 'user.worm.append', b'1')
    with opened(share.at('log'), os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'0123456789')
    share.wait_state('log', 'appendable')

    def with_log(deed, *args):
        with opened(share.at('log'), os.O_WRONLY | os.O_APPEND) as fd:
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)	# not O_APPEND any more: a pwrite is one in the middle
            return errno_of(deed, fd, *args)
    table = [
        (lambda: errno_of(os.setxattr, share.at('a'), 'user.worm.append', b'1'), 'AppendOnly', '/a', 'retained'),
        (lambda: errno_of(os.setxattr, share.at('a'), 'system.posix_acl_access', ACL), 'AclSet', '/a', 'retained'),
        (lambda: errno_of(os.removexattr, share.at('a'), 'user.x'), 'XattrRemoved', '/a', 'retained'),
        (lambda: errno_of(os.setxattr, share.at('a'), 'user.x', b'x'), 'XattrSet', '/a', 'retained'),
        (lambda: with_log(fallocate, 0, 0, 4096), 'Allocate', '/log', 'appendable'),
        (lambda: with_log(os.pwrite, b'X', 0), 'Write', '/log', 'appendable'),
        (lambda: open_errno(share.at('a'), os.O_RDWR), 'OpenWrite', '/a', 'retained'),
    ]
    for deed, kind, path, state in table:
        events, result = since(share, deed)
        told = [e for e in events if 'Error' in e]
        assert (result, [brief(e) for e in told]) == ('EPERM', [(kind, path, 'EPERM')]), kind
        assert fields(told[0], 'Refused', 'StateBefore', 'State') == (True, state, state)
        assert told[0]['Detail'].endswith(': ' + state)


# ---- what is no lock's ----------------------------------------------------------------------------

def test_an_ACL_and_an_allocation_are_told(mount):
    share = mount('commit=never,events=on')
    write_file(share.at('a'))
    events, _ = since(share, lambda: os.setxattr(share.at('a'), 'system.posix_acl_access', ACL))
    assert [brief(e) for e in events] == [('AclSet', '/a')] and events[0]['Detail'] == 'system.posix_acl_access'
    with opened(share.at('a'), os.O_RDWR) as fd:
        events, _ = since(share, lambda: fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192))
    assert [brief(e) for e in events] == [('Allocate', '/a')]


def test_rules_that_change_and_a_verification_are_told_without_a_path(mount, tmp_path):
    rules = tmp_path / 'rules'
    rules.write_text('[all]\nretention = 1y\n')
    share = mount('rules=%s,events=on' % rules)
    share.lock('a')
    rules.write_text('[all]\nretention = 2y\n')
    events, _ = since(share, lambda: share.must('policy-reload'))
    assert [brief(e) for e in events] == [('PolicyChanged', '')] and '1 rules from %s' % rules in events[0]['Detail']
    events, _ = since(share, lambda: share.ctl('verify', '--state-dir', share.state, share.mnt))
    assert [brief(e) for e in events] == [('Verified', '')] and events[0]['Detail']


@pytest.mark.parametrize('options', ['', ',io_uring=no,passthrough=no'])
def test_an_open_that_truncates_says_how_much_was_there(mount, options):
    share = mount('commit=never,events=on' + options)
    write_file(share.at('a'), b'12345')
    flags = os.O_RDWR | os.O_TRUNC
    events, fd = since(share, lambda: os.open(share.at('a'), flags))
    os.close(fd)
    cut, reopened = events
    assert (brief(cut), brief(reopened)) == (('Truncate', '/a'), ('OpenReadWrite', '/a'))
    assert fields(cut, 'SizeBefore', 'Size') == (5, 0) and 'SizeBefore' not in reopened
    assert cut['OpenFlags'] & flags == flags
    # What comes next has nothing of it.
    events, _ = since(share, lambda: (open_errno(share.at('a'), os.O_RDONLY | os.O_TRUNC), os.chmod(share.at('a'), 0o600)))
    assert [(e['Type'], e.get('SizeBefore')) for e in events if e['Type'] in ('Truncate', 'SetAttr')] == [('Truncate', 0), ('SetAttr', None)]


def test_the_fields_of_a_file_are_those_of_the_file(mount):
    share = mount('commit=never,events=on,events_types=all')
    os.chmod(share.mnt, 0o777)
    write_file(share.at('a'), b'12345')
    os.utime(share.at('a'), ns=(1, -1_500_000_000))
    os.chown(share.at('a'), 7, 8)
    events = replay(share)
    here = os.stat(share.at('a'))
    last = [e for e in events if e['Type'] == 'SetAttr' and e['Path'] == '/a'][-1]
    assert fields(last, 'Inode', 'Links', 'Mode', 'Owner', 'Group', 'Size', 'MtimeNs', 'Device') == (
        here.st_ino, 1, here.st_mode, 7, 8, 5, -1_500_000_000, 0)
    assert last['EntryId'] == '%X-%X-1' % (last['Inode'] & 0xffffffff, last['Generation'])
    create = next(e for e in events if e['Type'] == 'Create')
    assert create['EntryId'] == last['EntryId'] and create['OpenFlags'] & os.O_CREAT

    def as_group():
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setgid(54321)
                os.setuid(12345)
                os.close(os.open(share.at('a'), os.O_RDONLY))
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1]
    events, status = since(share, as_group)
    assert status == 0
    assert [fields(e, 'Type', 'Uid', 'Gid') for e in events] == [('OpenRead', 12345, 54321)]
    assert events[0]['OpenFlags'] & os.O_ACCMODE == os.O_RDONLY


def test_bytes_that_are_no_text_have_twins_in_base64(mount):
    share = mount('commit=never,events=on')
    here = os.fsencode(share.at())
    os.mkdir(os.path.join(here, b'd'))
    events, _ = since(share, lambda: os.rename(os.path.join(here, b'd'), os.path.join(here, b'\xffe')))
    assert events[0]['TargetPathBase64'] == 'L/9l' and events[0]['TargetPath'] == '/\ufffde'		# "/\xffe"
    events, _ = since(share, lambda: os.setxattr(os.path.join(here, b'\xffe'), b'user.\xff', b'x'))
    assert events[0]['Type'] == 'XattrSet'
    assert fields(events[0], 'PathBase64', 'DetailBase64', 'Detail') == ('L/9l', 'dXNlci7/', 'user.\ufffd')
    assert ctl(share, 'stats').returncode == 0
