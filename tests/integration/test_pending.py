"""Files on their way to the lock: what happens between a write and the lock may not lose it."""
import os

from harness import DAY, errno_of, write_file


def test_idle_locks_a_file_under_the_name_it_was_given_meanwhile(mount):
    share = mount('commit=idle:60', clocked=True)
    write_file(share.at('a'), b'report')
    share.settle()
    os.rename(share.at('a'), share.at('b'))
    share.now(3600)
    share.wait_state('b', 'retained')
    share.remount()
    assert share.shows('b') == 'retained'


def test_idle_locks_a_file_whose_directory_was_renamed_meanwhile_and_pins_the_new_one(mount):
    share = mount('commit=idle:60', clocked=True)
    os.mkdir(share.at('d'))
    write_file(share.at('d/a'), b'report')
    share.settle()
    os.rename(share.at('d'), share.at('e'))
    share.now(3600)
    share.wait_state('e/a', 'retained')
    assert errno_of(os.rename, share.at('e'), share.at('f')) == 'EPERM'


def test_a_staging_file_renamed_to_another_staging_name_is_swept(mount):
    share = mount(clocked=True)
    write_file(share.at('x.part'), b'report')
    share.settle()
    os.rename(share.at('x.part'), share.at('y.part'))
    share.now(DAY + 60)
    share.wait_state('y.part', 'retained')


def test_a_link_to_the_real_name_and_an_unlink_of_the_staging_name_lock_as_a_rename_does(mount):
    share = mount()
    write_file(share.at('x.part'), b'report')
    share.settle()
    os.link(share.at('x.part'), share.at('final'))
    os.unlink(share.at('x.part'))
    assert share.shows('final') == 'retained'
    assert errno_of(os.unlink, share.at('final')) == 'EPERM'
    share.must('sync')
    share.remount()
    assert share.shows('final') == 'retained'


def test_holds_whose_names_a_lost_ledger_took_are_not_released_with_another(mount):
    share = mount('retention=60s', clocked=True)
    write_file(share.at('a'), b'report')
    share.settle()
    for case in ('case-1', 'case-2'):
        share.must('hold', 'a', case=case)
    share.stop()
    for name in os.listdir(share.state):
        if name.startswith('ledger.db'):
            os.unlink(os.path.join(share.state, name))
    share.start()
    share.must('reindex')
    share.now(3600)
    share.must('hold', 'a', case='case-3')
    share.must('release', 'a', case='case-3')
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'


def test_an_extension_that_the_ledger_did_not_see_before_SIGKILL_is_there_after_the_next_start(mount):
    share = mount(clocked=True)
    write_file(share.at('a'), b'report')
    share.settle()
    share.must('extend', 'a', until='2050-01-01')
    share.kill9()
    share.start()
    share.must('sync')
    assert '2050-01-01T00:00:00Z' in share.ctl('list', '--json', share.at('a')).out
