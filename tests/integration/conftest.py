"""Fixtures: `mount` makes shares with a real daemon each, `wormfs` is one with the default options, `plain`
is one a module with commit=never. share.py says what a share offers, harness.py which environment is read."""
import os
import signal

import pytest

import harness
import qumulo
import tape
from harness import Bases, Share, Watchdog, libc, mount_call, MS_PRIVATE, MS_REC

CLONE_NEWNS = 0x20000


def pytest_configure(config):
    config.addinivalue_line('markers', 'soak: takes minutes; runs with WORMFS_TEST_SOAK=1')
    config.addinivalue_line('markers', 'timeout(seconds): what this test may take')
    if os.environ.get('CI') == 'true' and 's' not in config.option.reportchars:
        config.option.reportchars += 's'
    # A shell's background job ignores SIGINT, what nohup(1) started SIGHUP, and so would every program that is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Mounts of our own namespace go away with the last process of ours, also when pytest is killed.
    if os.geteuid() == 0 and os.environ.get('WORMFS_TEST_NAMESPACE') != 'no':
        if libc.unshare(CLONE_NEWNS) == 0:
            mount_call(None, '/', None, MS_REC | MS_PRIVATE)


def pytest_report_header(config):
    return 'wormfs: %s, options: %s, sanitizer: %s' % (
        harness.WORMFS, harness.OPTIONS or '-',
        (harness.sanitizer() or '-') if os.path.exists(harness.WORMFS) else 'not built')


def pytest_collection_modifyitems(config, items):
    for item in items:
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason='needs root: loop mounts, other users, kernel passthrough'))
        elif item.get_closest_marker('soak') and not harness.SOAK:
            item.add_marker(pytest.mark.skip(reason='soak: takes minutes, runs with WORMFS_TEST_SOAK=1'))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker('timeout')
    seconds = marker.args[0] if marker else harness.TIMEOUT_S
    if harness.sanitizer_known():
        seconds *= 4
    with Watchdog(item.nodeid, seconds):
        yield


@pytest.fixture(scope='session')
def bases():
    if not os.path.exists(harness.WORMFS):
        pytest.fail('%s is not built' % harness.WORMFS)
    b = Bases()
    yield b
    b.end()


class Mounter:
    def __init__(self, bases):
        self.bases, self.shares = bases, []

    def __call__(self, options='', base='ext4', start=True, clocked=False, **kwargs):
        """A share on a base filesystem (a name of Bases, or a directory), mounted unless start=False.
        clocked: its clock is moved with .now(seconds)."""
        where = base if base.startswith('/') else self.bases.get(base)
        # Not on the base filesystem, which some tests cut off.
        self.bases.shares += 1
        share = Share(where, log=os.path.join(self.bases.root, 'log%d' % self.bases.shares), **kwargs)
        self.shares.append(share)
        if clocked:
            share.now(0)
            options = ','.join(filter(None, [options, 'clock=file:' + share.clock_file]))
        share.options = options
        if start:
            share.start()
        return share

    def end(self):
        trouble = []
        for share in reversed(self.shares):
            try:
                share.end()
            except BaseException as e:		# the others are ended all the same
                trouble.append(e)
        if trouble:
            raise trouble[0]


@pytest.fixture
def mount(bases):
    m = Mounter(bases)
    yield m
    m.end()


@pytest.fixture
def wormfs(mount):
    return mount()


@pytest.fixture(scope='module')
def plain_share(bases):
    m = Mounter(bases)
    yield m('commit=never', lower_mode=0o777)
    m.end()


class Pair:
    """Two fresh directories: `.native` on the lower filesystem, `.mnt` in the mount (below: `.lower`)."""
    def __init__(self, share, name, mode):
        self.share = share
        self.mnt, self.lower = share.at(name), share.below(name)
        self.native = share.below(name + '.native')
        for d in (self.mnt, self.native):
            os.mkdir(d)
            os.chmod(d, mode)

    def same(self, fn, *args):
        """Runs fn(directory, *args) in both and checks that it says the same; returns what it said."""
        native = fn(self.native, *args)
        ours = fn(self.mnt, *args)
        assert ours == native
        return ours


@pytest.fixture
def pair(plain_share, request):
    pair.count += 1
    p = Pair(plain_share, 'p%d' % pair.count, 0o777)
    yield p
    assert plain_share.alive(), 'the daemon died:\n' + plain_share.log_text()
    plain_share.check_log()
pair.count = 0


@pytest.fixture
def mockqumulo(tmp_path):
    """Starts stand-ins of a cluster: mockqumulo(*options, tree=DIR, http=False) -> qumulo.MockQumulo."""
    started = []

    def start(*options, **kwargs):
        kwargs.setdefault('log', str(tmp_path / ('mockqumulo.log%d' % len(started))))
        started.append(qumulo.MockQumulo(*options, **kwargs))
        return started[-1]
    yield start
    for mock in started:
        mock.end()
    for n in range(len(started)):
        log = tmp_path / ('mockqumulo.log%d' % n)
        said = log.read_text() if log.exists() else ''
        assert not said, 'mockqumulo complained:\n' + said


@pytest.fixture
def archive(bases):
    """Makes archives: archive('--profile', 'lustre', drives=1), started. tape.py says what each can do."""
    made = []

    def make(*args, base='ext4', start=True, **settings):
        a = tape.Archive(bases.get(base), *args, **settings)
        made.append(a)
        return a.start() if start else a
    yield make
    trouble = []
    for a in reversed(made):
        try:
            a.end()
        except BaseException as e:		# the others are ended all the same
            trouble.append(e)
    if trouble:
        raise trouble[0]
