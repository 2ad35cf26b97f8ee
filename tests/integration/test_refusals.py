"""Every refusal says which rule or hold caused it: in the log (debug), and in `wormctl status`."""
import fcntl
import os
import re

import pytest

from harness import DAY, errno_of, open_errno, opened, set_flags, write_file

RULES = '[scans]\npath = /scans\nretention = 30d\nmax = 10y\n\n[logs]\npath = /logs\nappend = yes\n'


@pytest.fixture
def share(mount, tmp_path):
    rules = tmp_path / 'share.rules'
    rules.write_text(RULES)
    share = mount('rules=%s' % rules, clocked=True, start=False)
    argv = share.argv
    share.argv = lambda: argv()[:1] + ['-d'] + argv()[1:]
    share.start()
    for d in ('scans', 'logs', 'plain'):
        os.mkdir(share.at(d))
    return share


def refusals(share):
    return re.findall(r"debug: refused (\S+) of '([^']*)' to uid 0 with (E[A-Z]+): ([^\n]*)", share.log_text())


def last(share):
    return refusals(share)[-1]


def cause(share, path):
    out = share.ctl('status', path, check=False).out
    assert re.search(r'^  cause ', out, re.M), out
    return re.search(r'^  cause +(.*)$', out, re.M).group(1)


def replace(path):
    source = write_file(os.path.dirname(path) + '/new.part', b'x')
    try:
        os.rename(source, path)
    finally:
        os.unlink(source)


LOCKED_OPERATIONS = {
    'open-write': lambda p: os.open(p, os.O_WRONLY), 'open-append': lambda p: os.open(p, os.O_WRONLY | os.O_APPEND),
    'truncate': lambda p: os.truncate(p, 1), 'unlink': os.unlink, 'rename': lambda p: os.rename(p, p + '2'), 'replace': replace,
    'link': lambda p: os.link(p, p + '2'), 'chmod': lambda p: os.chmod(p, 0o777), 'chmod-writable': lambda p: os.chmod(p, 0o666),
    'chown': lambda p: os.chown(p, 5, 5), 'utimens': lambda p: os.utime(p, (1, 1)), 'setxattr': lambda p: os.setxattr(p, 'user.x', b'x'),
    'setflags': lambda p: set_flags(p, 0x40), 'append-only': lambda p: os.setxattr(p, 'user.worm.append', b'1'),
}


def test_what_a_lock_refuses_names_its_rule_and_its_holds(share):
    path = share.lock('scans/a')
    other = share.lock('plain/b')
    for op, call in LOCKED_OPERATIONS.items():
        assert errno_of(call, path) == 'EPERM'
        assert last(share) == (op, 'scans/a', 'EPERM', "retained (locked by rule 'scans')")
    share.must('hold', 'scans/a', case='smith')
    share.must('hold', 'scans/a', case='jones')
    assert errno_of(os.unlink, path) == 'EPERM'
    assert last(share)[3] == "retained (locked by rule 'scans', under the hold 'jones', 'smith')"
    assert cause(share, path) == "locked by rule 'scans', under the hold 'jones', 'smith'"
    assert errno_of(os.unlink, other) == 'EPERM'
    assert last(share)[3] == 'retained (locked by the mount options)' and cause(share, other) == 'locked by the mount options'


def test_after_its_date_the_hold_alone_is_named_and_without_it_the_rule(share):
    path = share.lock('scans/a')
    share.must('hold', 'scans/a', case='smith')
    share.now(60 * DAY)
    assert errno_of(os.unlink, path) == 'EPERM' and "under the hold 'smith'" in last(share)[3]
    share.must('release', 'scans/a', case='smith')
    assert open_errno(path, os.O_WRONLY) == 'EPERM' and last(share)[3] == "expired (locked by rule 'scans')"


def test_a_directory_names_a_file_that_keeps_it(share):
    share.lock('scans/a')
    share.must('sync')
    assert errno_of(os.rename, share.at('scans'), share.at('x')) == 'EPERM'
    assert last(share) == ('rename-dir', 'scans', 'EPERM', "pinned ('scans/a' below it is locked by rule 'scans')")
    assert cause(share, share.at('scans')) == "'scans/a' below it is locked by rule 'scans'"


def test_a_file_that_a_hold_waits_for_names_the_hold(share):
    share.ctl('hold', '-r', '--future', 'smith', share.at('plain'))
    path = write_file(share.at('plain/a.part'), b'x')
    share.wait_state(path, 'held')
    assert errno_of(os.unlink, path) == 'EPERM'
    assert last(share) == ('unlink', 'plain/a.part', 'EPERM', "held (its lock comes under the hold 'smith' (an order))")
    assert cause(share, path) == "its lock comes under the hold 'smith' (an order)"
    assert errno_of(os.rename, path, share.at('a')) == 'EPERM' and last(share)[0] == 'rename'
    assert errno_of(os.rename, share.at('plain'), share.at('x')) == 'EPERM' and last(share)[:3] == ('rename-dir', 'plain', 'EPERM')


def test_writes_to_an_append_only_file_name_its_rule(share):
    path = write_file(share.at('logs/l'), b'one\n')
    share.wait_state(path, 'appendable')
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        assert errno_of(os.pwrite, fd, b'X', 0) == 'EPERM'
    assert last(share) == ('write', 'logs/l', 'EPERM', "appendable (locked by rule 'logs')")
    assert errno_of(os.unlink, path) == 'EPERM' and last(share)[0] == 'unlink'


def test_what_was_closed_and_is_still_open_elsewhere_names_its_rule(share):
    fd = os.open(share.at('scans/a'), os.O_CREAT | os.O_WRONLY)
    try:
        os.write(fd, b'x')
        os.close(os.dup(fd))
        assert open_errno(share.at('scans/a'), os.O_WRONLY) == 'EPERM'
        assert last(share)[3] == "closing (locked by rule 'scans')"
        assert cause(share, share.at('scans/a')) == "locked by rule 'scans'"
    finally:
        os.close(fd)


REQUESTS = {
    'a date before its own': (lambda p: os.setxattr(p, 'user.worm.until', b'1d'), 'extend', 'EPERM', 'its retention ends later already'),
    'a date beyond max': (lambda p: os.setxattr(p, 'user.worm.until', b'90y'), 'extend', 'EINVAL', 'out of min and max of its rule or the mount'),
    'a date that is none': (lambda p: os.setxattr(p, 'user.worm.until', b'x'), 'extend', 'EINVAL', 'no regular file, or not a value'),
    'an attribute that is none': (lambda p: os.setxattr(p, 'user.worm.x', b'x'), 'setxattr', 'EPERM', 'no such request'),
    'a record of his own': (lambda p: os.setxattr(p, 'trusted.wormfs', b'x'), 'setxattr', 'EPERM', 'trusted.wormfs'),
}


@pytest.mark.parametrize('what', REQUESTS)
def test_a_request_that_is_refused_says_why_and_by_which_rule(share, what):
    call, op, errno, why = REQUESTS[what]
    path = share.lock('scans/a')
    assert errno_of(call, path) == errno
    got = last(share)
    assert got[:3] == (op, 'scans/a', errno) and got[3].startswith(why) and got[3].endswith("(locked by rule 'scans')")


def test_every_refusal_is_counted(share):
    path = share.lock('scans/a')
    for call in LOCKED_OPERATIONS.values():
        errno_of(call, path)
    for call, *_ in REQUESTS.values():
        errno_of(call, path)
    assert sum(share.info()['refused'].values()) == len(refusals(share)) == len(LOCKED_OPERATIONS) + len(REQUESTS)
