"""A locked file and its refusals: after each of them the lower file is looked at: content, mode, owner, times (ctime too), links
and xattrs are what they were."""
import contextlib

import pytest

from harness import look


@contextlib.contextmanager
def untouched(*paths):
    """What is done inside changes nothing of these lower files."""
    before = [look(p) for p in paths]
    yield
    assert [look(p) for p in paths] == before


@pytest.fixture
def locked(wormfs):
    """A locked file `a` in a share: (share, path in the mount, path below)."""
    return wormfs, wormfs.lock('a', b'report\n', 0o666), wormfs.below('a')
