"""What the integration tests are written with: real mounts of the real daemon, other users, raw system
calls, and looks at the lower tree. No test lives here. All is imported from here; this is where each has its place:
  settings.py   the environment below; calls.py   system calls and errnos; programs.py   programs and other users;
  files.py      files looked at; share.py   a share and its daemon; bases.py   the filesystems below it

Environment (defaults in brackets):
  WORMFS, WORMCTL         the programs [build/wormfs, build/wormctl]
  WORMFS_TEST_BIN         directory of the C helpers [tests/ beside WORMFS]
  WORMFS_TEST_OPTIONS     appended to the options of every mount: how the suite is run in each transport,
                          e.g. `io_uring=no,passthrough=no,splice=no`
  WORMFS_TEST_ROUNDS      rounds of the races [100000]
  WORMFS_TEST_KILLS       rounds of SIGKILL under eight writers [60; CI also runs 200]
  WORMFS_TEST_FILES       files of the scale tests [100000]
  WORMFS_TEST_DEADLINE    seconds that a condition may take [15]
  WORMFS_TEST_TIMEOUT     seconds that a test may take before its daemons are killed [240]
  WORMFS_TEST_APART       1: every mount on a directory of its own instead of over its share
  WORMFS_TEST_MODEL_S     seconds of random sequences against the model [25; 900 with SOAK]
  WORMFS_TEST_SEED        repeats a run of them
  WORMFS_TEST_SOAK        1: also what takes minutes
  WORMFS_TEST_TMP         where the loop images are made [/var/tmp]
"""
# flake8: noqa: F401
from bases import Bases
from calls import (AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, FALLOC, FICLONE, FIDEDUPERANGE, FS_APPEND_FL,
                   FS_IMMUTABLE_FL, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NODUMP_FL, MNT_DETACH,
                   MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, UTIME_NOW, UTIME_OMIT,
                   Timespec, errno_name, errno_of, fallocate, get_flags, libc, link_descriptor, linkat, mount_call, open_errno, opened,
                   renameat2, set_flags, set_fsxattr_flags, umount_call, utimensat)
from files import OURS, digest, look, read_file, write_file, xattrs
from programs import Died, as_user, in_child, injected, is_traced, need_program, run, sanitizer, sanitizer_known, scaled, tool, wait_for
from settings import (ALICE, APART, BIN, BOB, DAY, DEADLINE_S, FILES, KILLS, LOCKED, OPTIONS, ROOT, ROUNDS, SOAK, TEAM, TIMEOUT_S,
                      WORMCTL, WORMFS)
from share import (FUSECTL, PR_SET_PDEATHSIG, Control, Refused, Share, Watchdog, abort_connection, daemon_environment, encode_path,
                   fuse_mounted, killed_at, mounts)
