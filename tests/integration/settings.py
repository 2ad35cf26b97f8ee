"""What the environment says about a run of the tests (harness.py lists it), and the users and words that all tests know."""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORMFS = os.path.abspath(os.environ.get('WORMFS', os.path.join(ROOT, 'build/wormfs')))
WORMCTL = os.path.abspath(os.environ.get('WORMCTL', os.path.join(os.path.dirname(WORMFS), 'wormctl')))
BIN = os.path.abspath(os.environ.get('WORMFS_TEST_BIN', os.path.join(os.path.dirname(WORMFS), 'tests')))
OPTIONS = os.environ.get('WORMFS_TEST_OPTIONS', '')
ROUNDS = int(os.environ.get('WORMFS_TEST_ROUNDS', 100000))
KILLS = int(os.environ.get('WORMFS_TEST_KILLS', 40))
FILES = int(os.environ.get('WORMFS_TEST_FILES', 100000))
DEADLINE_S = float(os.environ.get('WORMFS_TEST_DEADLINE', 15))
TIMEOUT_S = float(os.environ.get('WORMFS_TEST_TIMEOUT', 240))
APART = os.environ.get('WORMFS_TEST_APART') == '1'
SOAK = os.environ.get('WORMFS_TEST_SOAK') == '1'

ALICE, BOB = 1000, 1001		# nobody of the machine's need exist under these numbers
TEAM = 2000			# a supplementary group of ALICE's

LOCKED = ('retained', 'expired')
DAY = 86400
