"""wormctl audit viewer: who did what, with the event types and detail types of OneFS, as isi_audit_viewer prints it."""
import json
import os
import re
import time
import urllib.parse

import pytest

from harness import ALICE, WORMCTL, as_user, errno_of, open_errno, run, write_file

pytestmark = pytest.mark.skipif(not os.path.exists(WORMCTL), reason='needs wormctl: %s is not built' % WORMCTL)


def viewer(share, *args, code=None):
    p = run(WORMCTL, 'audit', 'viewer', '--state-dir', share.state, *args, check=False)
    assert p.returncode in ((0, 1) if code is None else (code,)), p.err
    return p


def objects(share, *args):
    return [json.loads(line) for line in viewer(share, '--json', *args).out.splitlines()]


def types(share, *args):
    return [(o['payload']['eventType'], o['payload']['detailType']) for o in objects(share, *args)]


def did(share, *args):
    """{(detail type, result)} of what happened to files."""
    return {(o['payload']['detailType'], o['payload']['result']) for o in objects(share, '--type', 'protocol', *args)}


@pytest.fixture
def busy(mount):
    """One file locked, and everything tried on it."""
    share = mount('retention=1d,events=on', lower_mode=0o777)
    os.mkdir(share.at('d'))
    os.chmod(share.at('d'), 0o777)
    share.lock('d/a', mode=0o666)
    path = share.at('d/a')
    tries = [
        lambda: os.open(path, os.O_WRONLY), lambda: os.truncate(path, 0), lambda: os.unlink(path), lambda: os.rename(path, path + '2'),
        lambda: os.rename(share.at('d'), share.at('e')), lambda: os.link(path, path + '3'), lambda: os.chmod(path, 0o777),
        lambda: os.chown(path, 1, 1), lambda: os.utime(path, (1, 1)), lambda: os.setxattr(path, 'user.x', b'1'),
    ]
    assert [errno_of(t) for t in tries] == ['EPERM'] * len(tries)
    share.must('sync')
    return share


WANT = {
    ('create_file', 'OK'), ('commit_file', 'OK'), ('open_file_write', 'EPERM'), ('truncate_file', 'EPERM'), ('delete_file', 'EPERM'),
    ('rename_file', 'EPERM'), ('rename_directory', 'EPERM'), ('link_file', 'EPERM'), ('set_security_file', 'EPERM'), ('set_times_file', 'EPERM'),
    ('set_xattr_file', 'EPERM'),
}


def test_every_kind_of_refusal_has_its_type_and_detail_type(busy):
    assert did(busy) == WANT
    assert ('delete', 'delete_file') in types(busy) and ('rename', 'rename_directory') in types(busy)
    assert ('create', 'open_file_write') in types(busy) and ('config', 'mount') in types(busy)


def test_the_ring_of_events_gives_the_same_types_and_what_no_lock_has_to_do_with(busy):
    found = did(busy, '--events')
    assert found >= WANT
    assert {('create_directory', 'OK'), ('close_file_last_writer', 'OK')} <= found
    write_file(busy.at('d/.part.part'))
    os.rename(busy.at('d/.part.part'), busy.at('d/.q.part'))
    os.unlink(busy.at('d/.q.part'))
    busy.must('sync')
    moved = [o['payload'] for o in objects(busy, '--events', '--type', 'rename', '--success')]
    assert [(p['fileName'], p['newFileName'], p['isDirectory']) for p in moved] == [('/d/.part.part', '/d/.q.part', False)]
    assert [p['payload']['fileName'] for p in objects(busy, '--events', '--type', 'delete_file', '--success')] == ['/d/.q.part']


def test_a_line_is_a_number_a_date_and_an_object_with_who_asked(busy):
    assert as_user(ALICE, lambda: os.unlink(busy.at('d/a')), gid=2000) == 'EPERM'
    busy.must('sync')
    p = viewer(busy, '--uid', str(ALICE), code=0)
    number, date, text = re.fullmatch(r'\[(\d+): (\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\] (\{.*\})\n', p.out).groups()
    o = json.loads(text)
    assert (o['seq'], o['type'], len(o['id'])) == (int(number), 'protocol', 64)
    assert time.strftime('%a %b %e %H:%M:%S %Y', time.gmtime(o['timestamp'] // 10**6)) == date
    assert abs(o['timestamp'] / 1e6 - time.time()) < 60
    assert o['payload'] == {
        'protocol': 'FUSE', 'eventType': 'delete', 'detailType': 'delete_file', 'isDirectory': False, 'fileName': '/d/a', 'userID': ALICE,
        'groupID': 2000, 'processID': o['payload']['processID'], 'command': o['payload']['command'], 'success': False, 'result': 'EPERM',
        'detail': 'unlink: retained', 'serial': 1, 'count': 1}
    assert o['payload']['processID'] > 1 and o['payload']['command']


def test_success_and_failure_are_chosen_separately_when_written_and_when_read(mount):
    share = mount('retention=1d,audit_success=commit,audit_failure=deny_unlink')
    share.lock('a')
    assert [open_errno(share.at('a'), os.O_WRONLY), errno_of(os.unlink, share.at('a'))] == ['EPERM', 'EPERM']
    share.must('sync')
    assert did(share) == {('commit_file', 'OK'), ('delete_file', 'EPERM')}
    assert did(share, '--success') == {('commit_file', 'OK')} and did(share, '--failure') == {('delete_file', 'EPERM')}
    assert did(share, '--success', '--failure') == did(share)


def test_types_are_kinds_names_and_patterns(busy):
    assert {t for t, _ in types(busy, '--type', 'config')} == {'config'}
    assert 'config' not in {t for t, _ in types(busy, '--type', 'protocol')}
    assert set(types(busy, '--type', 'rename')) == {('rename', 'rename_file'), ('rename', 'rename_directory')}
    assert set(types(busy, '--type', 'set_*_file:delete')) == {('set_security', 'set_security_file'), ('set_attributes', 'set_times_file'),
                                                               ('set_attributes', 'set_xattr_file'), ('delete', 'delete_file')}
    assert viewer(busy, '--type', 'nothing', code=1).out == ''
    everything = objects(busy)
    assert [o['seq'] for o in everything] == list(range(1, len(everything) + 1))


def test_start_and_end_bound_the_time(busy):
    def at(offset_s, form='%Y-%m-%d %H:%M:%S'):
        return time.strftime(form, time.gmtime(time.time() + offset_s))
    everything = len(objects(busy))
    assert len(objects(busy, '--start', at(-600), '--end', at(600))) == everything
    assert len(objects(busy, '--start', at(-600, '%Y-%m-%dT%H:%M:%SZ'))) == everything
    assert objects(busy, '--start', at(600)) == objects(busy, '--end', at(-600)) == objects(busy, '--events', '--start', at(600)) == []
    second = objects(busy)[0]['timestamp'] // 10**6
    exact = time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(second))
    assert objects(busy, '--end', exact) == [] and objects(busy, '--start', exact)[0]['seq'] == 1
    for wrong in ('yesterday', '', '2030-13-01', '2030-01-01 12', '12:00', 'infinite', '1d'):
        p = viewer(busy, '--start', wrong, code=2)
        assert 'write a date, UTC' in p.err


def test_it_works_with_nothing_mounted_and_names_any_bytes(mount):
    share = mount('retention=1d,events=on')
    os.mkdir(share.at('d'))
    name = b'q"u\n\xff<!--'
    write_file(os.path.join(os.fsencode(share.at('d')), name))
    share.lock('other')
    share.stop()
    for source in ([], ['--events']):
        found = [o['payload'] for o in objects(share, '--type', 'commit_file', *source, '--path', 'd')]
        assert [p['fileName'] for p in found] == ['/d/q"u\n\ufffd<!--']
        assert urllib.parse.unquote_to_bytes(found[0]['fileNameEncoded']) == b'd/' + name
        assert len(viewer(share, *source, '--type', 'commit_file').out.splitlines()) == 2


def test_what_cannot_be_read_is_said(mount):
    share = mount('audit=off')
    assert 'there is no audit log' in viewer(share, code=2).err
    assert 'events=on' in viewer(share, '--events', code=2).err
    p = viewer(share, '--type', 'x' * 600, code=2)
    assert 'write protocol, config' in p.err
