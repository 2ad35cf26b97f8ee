"""What the environment says about a run of the tests (harness.py lists it), and the users and words that all tests know."""
import atexit
import os
import shutil
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORMFS = os.path.abspath(os.environ.get('WORMFS', os.path.join(ROOT, 'build/wormfs')))


def reached_by_all(path):
    while path != '/':
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True


def copied():
    """Programs in a directory that is somebody's own, /root maybe, cannot be run by the other users of the tests: copies can."""
    bin = tempfile.mkdtemp(prefix='wormfs-test-bin-', dir=os.environ.get('WORMFS_TEST_TMP', '/var/tmp'))
    atexit.register(shutil.rmtree, bin, ignore_errors=True)
    os.chmod(bin, 0o755)
    for name in ('wormfs', 'wormctl', 'mockarchive', 'mockqumulo'):
        path = os.environ.get(name.upper(), os.path.join(os.path.dirname(WORMFS), name))
        if os.path.exists(path):
            os.environ[name.upper()] = shutil.copy(path, bin)
    os.environ.setdefault('WORMFS_TEST_BIN', os.path.join(os.path.dirname(WORMFS), 'tests'))
    return os.environ.get('WORMFS', WORMFS)


if os.geteuid() == 0 and os.path.exists(WORMFS) and not reached_by_all(WORMFS):
    WORMFS = copied()
WORMCTL = os.path.abspath(os.environ.get('WORMCTL', os.path.join(os.path.dirname(WORMFS), 'wormctl')))
BIN = os.path.abspath(os.environ.get('WORMFS_TEST_BIN', os.path.join(os.path.dirname(WORMFS), 'tests')))
OPTIONS = os.environ.get('WORMFS_TEST_OPTIONS', '')
ROUNDS = int(os.environ.get('WORMFS_TEST_ROUNDS', 100000))
KILLS = int(os.environ.get('WORMFS_TEST_KILLS', 60))
FILES = int(os.environ.get('WORMFS_TEST_FILES', 100000))
DEADLINE_S = float(os.environ.get('WORMFS_TEST_DEADLINE', 15))
TIMEOUT_S = float(os.environ.get('WORMFS_TEST_TIMEOUT', 240))
APART = os.environ.get('WORMFS_TEST_APART') == '1'
SOAK = os.environ.get('WORMFS_TEST_SOAK') == '1'

ALICE, BOB = 1000, 1001		# nobody of the machine's need exist under these numbers
TEAM = 2000			# a supplementary group of ALICE's

LOCKED = ('retained', 'expired')
DAY = 86400
