"""The cases of Lustre's HSM suite (lustre/tests/sanity-hsm.sh, by its numbers) that apply to an archive with one mount, as our own: which test
of ours shows each, and below those that no other file has. What is about several clients, layouts and stripes, metadata servers, copytools or
their registration, or the coordinator's limits does not apply; nor what we have no such thing for: imports and rebinding (11, 12a, 12b, 12n,
13 to 15, 25a, 27a, 30a, 31a, 110a, 111a, 222a, 223a), flags and masks that a user sets (1A, 10c, 24c, 114, 227, 410), an order that takes the
copy on tape from a file that stays (26A, 27b, 28, 29, 202, 224, 225), FIEMAP, which FUSE has not (408).
Not shown: tens of thousands of jobs at once (50); all jobs taken back at once (103); what the journal says of a job whose file is removed
meanwhile (220a, 222c) and of the removal (226); two readers with a restart in their recall (407); changes of the archive's settings that
outlive a restart (301)."""
import glob
import os
import re
import shutil
import subprocess

import pytest

from harness import ALICE, ROOT, as_user, errno_of, open_errno, opened, read_file, wait_for
from tape import ApiError, noise, reader

CASES = {
    '1a': 'test_a_mapping_of_an_offline_file_waits_and_has_the_data',
    '2': 'test_mode_and_owner_leave_the_copy_good_and_a_truncation_does_not',
    '3': 'test_what_changes_data_makes_the_copy_stale_and_what_does_not_change_any_does_not',
    '4': 'test_cancelled_jobs_are_taken_back_and_the_journal_has_them',	# nothing to cancel
    '10a': 'test_a_file_goes_through_its_states_and_its_blocks_go_and_come_back',
    '10b': 'test_an_archive_order_where_the_copy_is_good_makes_no_job',
    '12d': 'test_a_restore_of_what_is_on_disk_makes_no_request',
    '12e': 'test_a_changed_file_is_what_it_was_changed_to_whoever_asks_for_a_restore',	# refused there; here it changes nothing
    '12f': 'test_archive_release_restore_and_a_restart_change_no_time',	# asked for
    '12g': 'test_a_profile_that_lets_readers_wait',			# by a read
    '12m': 'test_a_profile_that_lets_readers_wait',
    '12o': 'test_a_recall_fails_and_can_be_asked_for_again',
    '12q': 'test_the_size_is_right_all_through_a_recall',
    '12r': 'test_seek_says_data_or_hole_or_nothing',			# restores there; here the answer needs no data
    '16': 'test_drives_mount_seek_rewind_and_rate_take_their_time',
    '20': 'test_a_release_is_not_permitted_where_no_good_copy_is',
    '21': 'test_a_release_keeps_the_size_and_may_be_asked_for_twice',
    '23': 'test_a_time_in_the_past_outlives_release_and_restore',
    '24a': 'test_archive_release_restore_and_a_restart_change_no_time',
    '24b': 'test_root_archives_and_restores_what_is_a_user_s',
    '24e': 'test_tar_cp_and_dd_never_make_zeros_of_an_offline_file',
    '24f': 'test_tar_cp_and_dd_never_make_zeros_of_an_offline_file',	# and unpacked again
    '24g': 'test_written_by_another_than_its_owner_its_copy_is_stale',
    '25b': 'test_a_lost_file_keeps_its_size_and_cannot_be_read',
    '26a': 'test_the_copy_goes_with_the_last_name_and_the_last_close',
    '26c': 'test_the_copy_goes_with_the_last_name_and_the_last_close',
    '30b': 'test_an_offline_program_runs_once_it_is_recalled',
    '30c': 'test_a_program_that_runs_from_tape_cannot_be_written',
    '31b': 'test_the_size_is_right_all_through_a_recall',		# of no whole blocks
    '31c': 'test_the_size_is_right_all_through_a_recall',		# of whole blocks
    '33': 'test_a_reader_that_waits_for_ever_dies_of_SIGKILL_at_once',
    '34': 'test_removed_while_somebody_waits_for_it',
    '35': 'test_replaced_by_a_rename_while_somebody_waits_for_it',
    '36': 'test_renamed_in_each_phase',
    '37': 'test_truncated_to_nothing_needs_no_recall',			# written anew while offline, archived again
    '40': 'test_many_at_once_never_read_anything_but_what_they_wrote',
    '54': 'test_written_again_it_is_archived_again',			# written during its archiving
    '55': 'test_truncated_to_nothing_needs_no_recall',			# truncated during it
    '56': 'test_mode_and_owner_may_change_while_it_is_archived',
    '58': 'test_a_truncation_of_an_offline_file_recalls_it',		# to nothing it restores there; here it needs no recall
    '59': 'test_a_file_that_is_one_hole_goes_and_comes_back',
    '61': 'test_removed_in_each_phase',					# before its archiving is done
    '71': 'test_events_are_pushed_and_taken_up_again_where_they_were_left',	# of archiving
    '72': 'test_the_way_of_a_file_is_seen_from_outside',		# of a restore
    '90': 'test_a_list_of_files_is_archived_released_and_recalled',
    '105': 'test_killed_or_restarted_in_each_phase_nothing_is_lost',
    '110b': 'test_a_profile_that_answers_with_an_errno',		# restore without blocking
    '111b': 'test_a_recall_without_a_copy_fails',
    '112': 'test_the_way_of_a_file_is_seen_from_outside',
    '113': 'test_appended_to_while_offline_its_size_is_right_before_and_after',
    '200': 'test_cancelled_jobs_are_taken_back_and_the_journal_has_them',
    '201': 'test_cancelled_jobs_are_taken_back_and_the_journal_has_them',
    '220A': 'test_the_way_of_a_file_is_seen_from_outside',		# what the journal has of archiving
    '221': 'test_cancelled_jobs_are_taken_back_and_the_journal_has_them',
    '222b': 'test_the_way_of_a_file_is_seen_from_outside',		# and of a restore by a read
    '222d': 'test_a_recall_without_a_copy_fails',
    '223b': 'test_cancelled_jobs_are_taken_back_and_the_journal_has_them',
    '228': 'test_tar_cp_and_dd_never_make_zeros_of_an_offline_file',
    '253': 'test_a_release_keeps_the_size_and_may_be_asked_for_twice',
    '260a': 'test_recalls_go_before_archive_jobs',
    '261': 'test_released_recalled_and_released_again_it_has_its_size_and_one_block',
    '262': 'test_released_recalled_and_released_again_it_has_its_size_and_one_block',
    '409b': 'test_a_released_file_has_its_attributes_after_a_restart',
}
TIMES = ('st_mtime_ns', 'st_ctime_ns', 'st_size')


def test_each_case_has_its_test():
    ours = ''
    for path in glob.glob(os.path.join(ROOT, 'tests/integration/test_mockarchive*.py')):
        with open(path, encoding='utf-8') as f:
            ours += f.read()
    assert [name for name in CASES.values() if not re.search(r'^def %s\(' % re.escape(name), ours, re.M)] == []


def test_a_restore_of_what_is_on_disk_makes_no_request(archive):
    a = archive(release__when='explicit', archive__when='explicit')
    a.put('f')
    for order in ('recall', 'archive', 'recall'):
        a.ask(order, 'f')
        a.settle()
    assert 'recalling' not in a.states('f') and a.file('f')['recalls'] == 0 and a.is_now('f') == 'dual'


def test_a_changed_file_is_what_it_was_changed_to_whoever_asks_for_a_restore(archive):
    a = archive(release__when='explicit', archive__when='explicit')
    a.put('f', b'old')
    a.ask('archive', 'f')
    a.settle()
    with open(a.at('f'), 'ab') as f:
        f.write(b' and new')
    a.ask('recall', 'f')
    a.settle()
    assert read_file(a.at('f')) == b'old and new' and a.file('f')['copies']['tape'] == 'stale'


@pytest.mark.parametrize('why', ['never archived', 'changed since', 'lost'])
def test_a_release_is_not_permitted_where_no_good_copy_is(archive, why):
    a = archive(release__when='explicit', archive__when='explicit')
    a.put('f')
    if why != 'never archived':
        a.ask('archive', 'f')
        a.settle()
    if why == 'changed since':
        a.put('f', b'two\n')
    elif why == 'lost':
        a.ask('lose', 'f', copy='tape')
    with pytest.raises(ApiError) as e:
        a.ask('release', 'f')
    assert e.value.errno == 'ENODATA' and read_file(a.at('f')) == (b'two\n' if why == 'changed since' else b'one\n')


def test_a_release_keeps_the_size_and_may_be_asked_for_twice(archive):
    a = archive(profile='lustre', release__when='explicit')
    path = a.archived('f', b'x' * 100000, state='dual')
    before = os.stat(path)
    assert before.st_blocks >= 195
    for _ in range(2):
        a.ask('release', 'f')
        after = os.stat(path)
        assert after.st_size == before.st_size and after.st_blocks == 1 and a.blocks('f') < 32		# its attributes
    assert os.getxattr(path, 'user.lustre.hsm_state').startswith(b'(0x0000000d)')


def test_a_time_in_the_past_outlives_release_and_restore(archive):
    a = archive(profile='lustre', release__when='explicit')
    path = a.archived('f', b'x' * 5000, state='dual')
    os.utime(path, (978261179, 978261179))
    a.ask('release', 'f')
    assert os.stat(path).st_mtime == os.stat(path).st_atime == 978261179
    a.ask('recall', 'f')
    a.settle()
    assert os.stat(path).st_mtime == 978261179 and a.file('f')['copies']['tape'] == 'good'


def test_archive_release_restore_and_a_restart_change_no_time(archive):
    a = archive(profile='lustre', release__when='explicit', archive__when='explicit')
    path = a.put('f', b'x' * 5000)
    a.advance(0)
    before = os.stat(path)

    def unchanged():
        return [getattr(os.stat(path), t) for t in TIMES] == [getattr(before, t) for t in TIMES]
    for order in ('archive', 'release', 'recall'):
        a.ask(order, 'f')
        a.settle()
        assert unchanged(), order
    a.restart()
    assert unchanged()


def test_root_archives_and_restores_what_is_a_user_s(archive):
    a = archive(profile='lustre', release__when='explicit', archive__when='explicit')
    path = a.put('d/f', b'hers')
    os.chown(path, ALICE, ALICE)
    os.chmod(path, 0o600)
    os.chmod(a.at('d'), 0o555)
    for order in ('archive', 'release', 'recall', 'release'):
        a.ask(order, 'd/f')
        a.settle()
    a.api('PATCH', '/v1/clock', mode='scaled:1000')
    assert as_user(ALICE, read_file, path) == b'hers'
    assert as_user(ALICE + 1, errno_of, read_file, path) == 'EACCES'


def orders(archive, **settings):
    """An archive that does what it is asked for and nothing else."""
    return archive(release__when='explicit', archive__when='explicit', **settings)


def stored(archive, name, data, **settings):
    """An archive of that kind with a file that is on disk and on tape."""
    a = orders(archive, **settings)
    a.put(name, data)
    a.ask('archive', name)
    a.settle()
    assert a.is_now(name) == 'dual'
    return a


def tape_copy(a, name):
    return a.file(name)['copies']['tape']


def test_mode_and_owner_leave_the_copy_good_and_a_truncation_does_not(archive):
    a = stored(archive, 'f', b'data')
    os.chmod(a.at('f'), 0o600)
    os.chown(a.at('f'), ALICE, ALICE)
    assert a.is_now('f') == 'dual' and tape_copy(a, 'f') == 'good'
    os.truncate(a.at('f'), 1)
    wait_for('a stale copy', lambda: tape_copy(a, 'f') == 'stale')


MAPPED = 'import mmap,os,sys;fd=os.open(sys.argv[1],os.O_RDWR);m=mmap.mmap(fd,0);m[0]=33;m.flush();m.close();os.close(fd)'
CHANGES = {
    'read': (['cat', 'f'], 'good'),
    'opened': (['python3', '-c', 'import os;os.close(os.open("f",os.O_WRONLY))'], 'good'),
    'appended': (['sh', '-c', 'echo more >>f'], 'stale'),
    'overwritten': (['dd', 'if=/dev/zero', 'of=f', 'bs=1', 'count=3', 'conv=notrunc', 'status=none'], 'stale'),
    'replaced': (['sh', '-c', 'echo new >f'], 'stale'),
    'mapped': (['python3', '-c', MAPPED, 'f'], 'stale'),
}


@pytest.mark.parametrize('how', CHANGES)
def test_what_changes_data_makes_the_copy_stale_and_what_does_not_change_any_does_not(archive, how):
    a = stored(archive, 'f', b'data' * 100)
    argv, copy = CHANGES[how]
    subprocess.run(argv, cwd=a.mnt, check=True, stdout=subprocess.DEVNULL)
    wait_for('its last close', lambda: a.is_now('f') != 'writing')
    assert (tape_copy(a, 'f'), a.is_now('f')) == (copy, 'dual' if copy == 'good' else 'resident')


def test_an_archive_order_where_the_copy_is_good_makes_no_job(archive):
    a = stored(archive, 'f', b'data')
    a.ask('archive', 'f')
    a.settle()
    assert a.states('f').count('archiving') == 1 and a.is_now('f') == 'dual'


@pytest.mark.parametrize('size', [3 * 4096, 3 * 4096 + 1])
def test_the_size_is_right_all_through_a_recall(archive, size):
    a = stored(archive, 'f', noise(size), profile='lustre', recall__delay='10s')
    a.ask('release', 'f')
    a.ask('recall', 'f')
    sizes = []
    while a.is_now('f') == 'recalling' and len(sizes) < 100:
        sizes.append(os.stat(a.at('f')).st_size)
        a.advance(1)
    assert set(sizes) == {size} and len(sizes) == 10 and os.stat(a.at('f')).st_size == size
    os.truncate(a.at('f'), 0)
    assert os.stat(a.at('f')).st_size == 0


def test_written_by_another_than_its_owner_its_copy_is_stale(archive):
    a = stored(archive, 'f', b'data')
    os.chmod(a.at('f'), 0o666)

    def append():
        with open(a.at('f'), 'ab') as f:
            f.write(b' of hers')
    as_user(ALICE, append)
    wait_for('a stale copy', lambda: tape_copy(a, 'f') == 'stale')


def test_the_copy_goes_with_the_last_name_and_the_last_close(archive):
    a = stored(archive, 'f', b'data')

    def on_tape():
        return len(os.listdir(os.path.join(a.store, 'tape')))
    a.ask('release', 'f')
    os.link(a.at('f'), a.at('g'))
    os.unlink(a.at('f'))
    a.settle()
    assert on_tape() == 1 and a.is_now('g') == 'released'
    a.set(trigger='read')
    with opened(a.at('g'), os.O_RDONLY):
        os.unlink(a.at('g'))
        a.settle()
        assert on_tape() == 1
    wait_for('an empty tape', lambda: on_tape() == 0)


def test_a_program_that_runs_from_tape_cannot_be_written(archive):
    a = orders(archive, profile='lustre')
    shutil.copy('/bin/cat', a.at('cat'))
    os.chmod(a.at('cat'), 0o755)
    for order in ('archive', 'release'):
        a.ask(order, 'cat')
        a.settle()
    p = subprocess.Popen(['sh', '-c', 'exec "$0"', a.at('cat')], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        a.wait_callers('cat')
        a.settle()
        p.stdin.write(b'it runs\n')
        p.stdin.flush()
        assert p.stdout.readline() == b'it runs\n'
        assert open_errno(a.at('cat'), os.O_WRONLY | os.O_TRUNC) == 'ETXTBSY'
    finally:
        p.communicate(timeout=20)
    assert p.returncode == 0 and read_file(a.at('cat')) == read_file('/bin/cat') and tape_copy(a, 'cat') == 'good'


def test_replaced_by_a_rename_while_somebody_waits_for_it(archive):
    a = stored(archive, 'f', b'old', profile='lustre')
    a.ask('release', 'f')
    a.put('g', b'new')
    p = reader(a.at('f'))
    a.wait_callers('f')
    os.rename(a.at('g'), a.at('f'))
    a.settle()
    assert p.communicate(timeout=20)[0] == b'old' and p.returncode == 0
    assert read_file(a.at('f')) == b'new' and tape_copy(a, 'f') == 'none'


def test_mode_and_owner_may_change_while_it_is_archived(archive):
    a = orders(archive, profile='lustre')
    a.put('f', b'data')
    a.ask('archive', 'f')
    os.chmod(a.at('f'), 0o640)
    os.chown(a.at('f'), ALICE, ALICE)
    assert a.is_now('f') == 'archiving'
    a.settle()
    st = os.stat(a.at('f'))
    assert (a.is_now('f'), tape_copy(a, 'f'), st.st_mode & 0o777, st.st_uid) == ('dual', 'good', 0o640, ALICE)
    assert a.states('f').count('archiving') == 1


@pytest.mark.parametrize('size', [200000, 50000])
def test_a_truncation_of_an_offline_file_recalls_it(archive, size):
    data = noise(100000)
    a = stored(archive, 'f', data, profile='lustre')
    a.ask('release', 'f')
    p = subprocess.Popen(['truncate', '-s', str(size), a.at('f')])
    a.wait_callers('f')
    a.settle()
    assert p.wait(20) == 0 and a.file('f')['recalls'] == 1
    wait_for('a stale copy', lambda: tape_copy(a, 'f') == 'stale')
    assert read_file(a.at('f')) == data[:size].ljust(size, b'\0')


def test_a_file_that_is_one_hole_goes_and_comes_back(archive):
    a = orders(archive)
    a.put('f', b'')
    os.truncate(a.at('f'), 42)
    for order in ('archive', 'release', 'recall'):
        a.ask(order, 'f')
        a.settle()
        assert os.stat(a.at('f')).st_size == 42
    assert read_file(a.at('f')) == bytes(42)


def test_a_list_of_files_is_archived_released_and_recalled(archive):
    a = orders(archive)
    names = ['f%d' % i for i in range(51)]
    for name in names:
        a.put(name, name.encode())
    for order, state in (('archive', 'dual'), ('release', 'released'), ('recall', 'dual')):
        a.api('POST', '/v1/files/' + order, paths=names)
        a.settle()
        assert {a.is_now(name) for name in names} == {state}
    assert all(read_file(a.at(name)) == name.encode() for name in names)


def test_a_recall_without_a_copy_fails(archive):
    a = stored(archive, 'f', b'data', profile='lustre')
    a.ask('release', 'f')
    for name in os.listdir(os.path.join(a.store, 'tape')):
        os.unlink(os.path.join(a.store, 'tape', name))
    p = reader(a.at('f'))
    a.wait_callers('f')
    a.settle()
    out, _ = p.communicate(timeout=20)
    assert (p.returncode, out) == (1, b'') and os.stat(a.at('f')).st_size == 4
    assert a.states('f')[-2:] == ['recalling', 'lost']


def test_appended_to_while_offline_its_size_is_right_before_and_after(archive):
    a = stored(archive, 'f', b'x' * 5000, profile='lustre')
    a.ask('release', 'f')
    p = subprocess.Popen(['sh', '-c', 'printf more >>"$0"', a.at('f')])
    a.wait_callers('f')
    assert os.stat(a.at('f')).st_size == 5000
    a.settle()
    assert p.wait(20) == 0 and os.stat(a.at('f')).st_size == 5004 and read_file(a.at('f')) == b'x' * 5000 + b'more'


def test_cancelled_jobs_are_taken_back_and_the_journal_has_them(archive):
    a = orders(archive)
    a.put('f', b'data')

    def nothing_to_cancel():
        seen = a.states('f')
        with pytest.raises(ApiError) as e:
            a.ask('cancel', 'f')
        assert e.value.errno == 'EALREADY' and a.states('f') == seen
    nothing_to_cancel()
    for order in ('archive', 'cancel', 'archive'):
        a.ask(order, 'f')
    a.settle()
    for order in ('release', 'recall', 'cancel', 'recall'):
        a.ask(order, 'f')
    a.settle()
    nothing_to_cancel()
    assert a.states('f')[2:] == ['archiving', 'resident', 'archiving', 'dual', 'released', 'recalling', 'released', 'recalling', 'dual']


def test_released_recalled_and_released_again_it_has_its_size_and_one_block(archive):
    a = stored(archive, 'f', bytes(8192), profile='lustre')
    for order in ('release', 'recall', 'release', 'release', 'recall', 'release'):
        a.ask(order, 'f')
        a.settle()
        st = os.stat(a.at('f'))
        assert st.st_size == 8192 and (order == 'recall' or st.st_blocks == 1), order


def test_a_released_file_has_its_attributes_after_a_restart(archive):
    a = stored(archive, 'f', b'x' * 5000, profile='lustre')
    a.ask('release', 'f')
    before = os.stat(a.at('f'))
    a.restart()
    after = os.stat(a.at('f'))
    assert [getattr(after, t) for t in TIMES] == [getattr(before, t) for t in TIMES] and a.is_now('f') == 'released'
