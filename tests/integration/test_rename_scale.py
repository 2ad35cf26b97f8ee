"""T48: the question "is a locked file below?" stays one look-up, however many files there are."""
import os
import time

import pytest

from harness import FILES, errno_of, run, scaled, tool


@pytest.mark.timeout(900)
def test_T48_a_directory_above_a_hundred_thousand_locked_files_is_refused_as_fast_as_above_one(mount):
    share = mount()
    n = scaled(FILES)
    os.makedirs(share.at('many', 'deep'))
    os.makedirs(share.at('one', 'deep'))
    share.lock('one/deep/f0')
    run(tool('mkfiles'), share.at('many', 'deep'), n, 1, timeout=800)
    share.must('sync')

    def rename_s(name):
        times = []
        for _ in range(21):
            start = time.monotonic()
            assert errno_of(os.rename, share.at(name), share.at('moved')) == 'EPERM'
            times.append(time.monotonic() - start)
        return sorted(times)[10]
    one, many = rename_s('one'), rename_s('many')
    assert many < one * 20 + 0.01, 'with one file %.6f s, with %d %.6f s' % (one, n, many)
    # Also straight after a start, with nothing in memory.
    share.remount()
    start = time.monotonic()
    assert errno_of(os.rename, share.at('many'), share.at('moved')) == 'EPERM'
    assert time.monotonic() - start < 1
    # And next to it, where nothing is locked, a rename stays what it is.
    os.mkdir(share.at('free'))
    start = time.monotonic()
    os.rename(share.at('free'), share.at('free2'))
    assert time.monotonic() - start < 1
    rows = share.info()['locked'], share.must('reindex')['stats']['locked']
    assert rows[1] == n + 1


@pytest.mark.timeout(600)
def test_T48_a_directory_with_many_files_that_are_not_locked_is_renamed_at_once(mount):
    share = mount(start=False)
    os.makedirs(share.below('many', 'deep'))
    run(tool('mkfiles'), share.below('many', 'deep'), scaled(FILES), 0)
    share.start()
    start = time.monotonic()
    os.rename(share.at('many'), share.at('moved'))
    assert time.monotonic() - start < 1
