"""The cases of Lustre's HSM suite (lustre/tests/sanity-hsm.sh, by its numbers) that apply to an archive with one mount, as our own: which test
of ours shows each, and below those that no other file has. What is about several clients, layouts, copytools or their registration does not
apply."""
import glob
import os
import re

import pytest

from harness import ALICE, ROOT, as_user, errno_of, read_file
from tape import ApiError

CASES = {
    '1a': 'test_an_offline_program_runs_once_it_is_recalled',		# what is mapped or executed comes back
    '12c': 'test_a_big_file_is_stored_with_little_memory',		# large files
    '12d': 'test_a_restore_of_what_is_on_disk_makes_no_request',
    '12e': 'test_a_changed_file_is_what_it_was_changed_to_whoever_asks_for_a_restore',
    '12f': 'test_a_file_goes_through_its_states_and_its_blocks_go_and_come_back',
    '12g': 'test_a_profile_that_lets_readers_wait',			# a read restores
    '12r': 'test_seek_says_data_or_hole_or_nothing',			# lseek
    '16': 'test_drives_mount_seek_rewind_and_rate_take_their_time',
    '20': 'test_a_release_is_not_permitted_where_no_good_copy_is',
    '21': 'test_a_release_keeps_the_size_and_may_be_asked_for_twice',
    '23': 'test_a_time_in_the_past_outlives_release_and_restore',
    '24a': 'test_archive_release_restore_and_a_restart_change_no_time',
    '24b': 'test_root_archives_and_restores_what_is_a_user_s',
    '25a': 'test_a_lost_file_keeps_its_size_and_cannot_be_read',
    '30c': 'test_an_offline_program_runs_once_it_is_recalled',
    '33': 'test_a_reader_that_waits_for_ever_dies_of_SIGKILL_at_once',
    '34': 'test_deleted_in_the_middle_of_its_recall',
    '35': 'test_a_rename_over_it_counts_as_deleting_it',
    '36': 'test_renamed_in_each_phase',
    '54': 'test_written_again_it_is_archived_again',			# written during its archiving
    '55': 'test_truncated_to_nothing_needs_no_recall',			# truncated during it
    '58': 'test_truncated_to_a_part_is_recalled_first',
    '70': 'test_events_are_pushed_and_taken_up_again_where_they_were_left',
    '110b': 'test_a_profile_that_answers_with_an_errno',		# restore without blocking
    '111b': 'test_a_recall_fails_and_can_be_asked_for_again',
    '113': 'test_archive_release_restore_and_a_restart_change_no_time',	# stat after a restore
    '220a': 'test_archiving_fails_after_it_was_accepted',
    '228': 'test_tar_cp_and_dd_never_make_zeros_of_an_offline_file',
    '253': 'test_a_time_that_is_set_while_the_file_goes_and_comes_stays',
    '262': 'test_evict_takes_one_pin_at_a_time',			# asked for once more while it is there
    '408': 'test_the_profile_s_answer_and_then_the_data_or_again_the_answer',
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
    assert os.stat(path).st_mtime == 978261179
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
