"""The contenders: ways to reach a directory, and one of them mounted for a repetition."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
WORMFS = BUILD / "wormfs"
PASSTHROUGH_HP = ROOT / "build" / "libfuse" / "bin" / "passthrough_hp"

MOUNT_S = 20  # until a mount must be there, and a daemon gone
SETTLE_S = 20  # for what a server still does after a phase that wrote


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Contender:
    """One way to reach a directory. `argv` is the command with {base} (the lower directory),
    {mnt}, {state} and {aux} (empty, beside base); none: the directory itself."""

    def __init__(self, name, about, argv=None, over=False, uring=False, locks=False, aux=False):
        self.name = name
        self.about = about
        self.argv = argv
        self.over = over  # mounted over the base itself
        self.uring = uring  # must be found to use io_uring
        self.locks = locks
        self.aux = aux

    def missing(self):
        if self.argv is None or shutil.which(self.argv[0]):
            return None
        return f"{self.argv[0]} is not there"


def wormfs(name, about, opts, **more):
    argv = [str(WORMFS), "-f", "{base}", "-o", ",".join(["state={state}", *opts])]
    return Contender(name, about, argv, over=True, **more)


CONTENDERS = [
    Contender("lower", "the directory itself"),
    wormfs("wormfs", "default: io_uring, kernel passthrough; locks on close", [],
           locks=True, uring=True),
    wormfs("wormfs-dev", "through /dev/fuse", ["io_uring=no"], locks=True),
    wormfs("wormfs-nopt", "no kernel passthrough", ["passthrough=no"], locks=True, uring=True),
    wormfs("wormfs-splice", "through /dev/fuse, data by splice", ["io_uring=no", "passthrough=no"], locks=True),
    wormfs("wormfs-plain", "locks nothing", ["commit=never"], uring=True),
    wormfs("wormfs-events", "tells every event to a file", ["events=json:{state}/events.jsonl"], locks=True, uring=True),
    # bindfs and passthrough_hp add default_permissions (and, as root, bindfs allow_other) themselves.
    Contender("bindfs", "defaults, and big_writes: else libfuse 2 writes pages one by one",
              ["bindfs", "-f", "-o", "big_writes", "{base}", "{mnt}"]),
    # The manual's set for programs that use mmap, with the faster of the modes that cache pages; an
    # only branch needs no space left for the policies. default_permissions is always on.
    Contender("mergerfs", "the manual's options for one branch",
              ["mergerfs", "-f", "-o", "allow_other,use_ino,cache.files=auto-full,"
               "category.create=ff,minfreespace=0", "{base}", "{mnt}"]),
    Contender("fuse-overlayfs", "an empty layer below; all files in the upper one",
              ["fuse-overlayfs", "-f", "-o", "allow_other,lowerdir={aux}/lower,upperdir={base},"
               "workdir={aux}/work", "{mnt}"], aux=True),
    Contender("passthrough_hp", "default options",
              [str(PASSTHROUGH_HP), "--foreground", "-o", "allow_other", "{base}", "{mnt}"]),
    Contender("passthrough_hp-uring", "-o io_uring",
              [str(PASSTHROUGH_HP), "--foreground", "-o", "allow_other,io_uring", "{base}", "{mnt}"],
              uring=True),
]
AUDITED = [  # --audit: the second differs from the first in nothing else, and the third from the second in nothing at all
    wormfs("wormfs", "default, audited", [], locks=True, uring=True),
    wormfs("wormfs-noaudit", "audit=off", ["audit=off"], locks=True, uring=True),
    wormfs("wormfs-noaudit-again", "the same: what two runs of one thing differ by", ["audit=off"], locks=True, uring=True),
]
EVENTED = [  # --events: likewise
    wormfs("wormfs", "keeps a journal of events", ["events=on"], locks=True, uring=True),
    wormfs("wormfs-json", "and tells every event to a file", ["events=json:{state}/events.jsonl"], locks=True, uring=True),
    wormfs("wormfs-noevents", "default: no events", [], locks=True, uring=True),
    wormfs("wormfs-noevents-again", "the same: what two runs of one thing differ by", [], locks=True, uring=True),
]
# --push: likewise, with a cluster that answers at once on the same machine. Mounted beside the base, which is the cluster's own tree.
def pushing(name, about, *opts):
    return Contender(name, about, [str(WORMFS), "-f", "{base}", "{mnt}", "-o", ",".join(["state={state}", "retention=1d", *opts])],
                     locks=True, uring=True)


PUSHED = [
    pushing("wormfs", "tells a cluster of each lock", "{push}"),
    pushing("wormfs-nopush", "tells nobody"),
    pushing("wormfs-nopush-again", "the same: what two runs of one thing differ by"),
]
PEERS = ["bindfs", "mergerfs", "fuse-overlayfs", "passthrough_hp", "passthrough_hp-uring"]


class Failed(Exception):
    pass


def read_text(path):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


class Mounted:
    """A contender on a base directory, for one repetition."""

    def __init__(self, contender, where, log):
        self.contender = contender
        self.where = where / contender.name
        self.base = self.where / "data"
        self.log = log
        self.proc = None
        self.mnt = self.base
        self.dead = None  # why it takes no further part in this repetition
        self.uses_uring = False

    def start(self):
        c = self.contender
        self.base.mkdir(parents=True)
        if c.argv is None:
            return
        if not c.over:
            self.mnt = self.where / "mnt"
            self.mnt.mkdir()
        aux, state = self.where / "aux", self.where / "state"
        (aux / "lower").mkdir(parents=True)
        (aux / "work").mkdir()
        state.mkdir(mode=0o700)
        names = {"base": self.base, "mnt": self.mnt, "state": state, "aux": aux}
        argv = [a.format(**names) for a in c.argv]
        before = os.stat(self.mnt).st_dev
        with open(self.log, "wb") as log:
            # The daemon goes when we go; its session of its own keeps ^C for us alone.
            self.proc = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *argv], stdout=log,
                                         stderr=log, stdin=subprocess.DEVNULL,
                                         start_new_session=True)
        until = time.monotonic() + MOUNT_S
        while os.stat(self.mnt).st_dev == before:
            if self.proc.poll() is not None:
                raise Failed(f"ended with {self.proc.returncode}: {self.last_words()}")
            if time.monotonic() > until:
                raise Failed(f"not mounted within {MOUNT_S} s: {self.last_words()}")
            time.sleep(0.005)
        self.uses_uring = any("io_uring" in os.readlink(f) for f in
                              Path(f"/proc/{self.proc.pid}/fd").iterdir() if f.is_symlink())
        if c.uring and not self.uses_uring:
            say(f"{c.name} does not use io_uring here: {self.last_words()}")

    def last_words(self):
        lines = [l for l in read_text(self.log).splitlines() if l.strip()]
        return lines[-1] if lines else "(it said nothing)"

    def fail(self, why):
        self.dead = why
        say(f"{self.contender.name}: {why}")

    def check_locked(self, name):
        """A benchmark of a lock that is not there would be worth nothing."""
        try:
            os.close(os.open(name, os.O_WRONLY))
        except OSError as e:
            if e.errno == errno.EPERM:
                return
            raise Failed(f"'{name}' opened for write: {e.strerror}") from e
        raise Failed(f"'{name}' is not locked after its close")

    def cpu_s(self):
        """What the server has used so far, ended threads left out."""
        if self.proc is None:
            return 0.0
        files = Path(f"/proc/{self.proc.pid}/task").glob("*/schedstat")
        return sum(int((read_text(f).split() or ["0"])[0]) for f in files) / 1e9

    def settle(self):
        """Waits until the server rests, so that what it does later than its answers (ledger,
        digests) is not at the next one's cost. Returns the CPU seconds which that took."""
        first = last = self.cpu_s()
        until = time.monotonic() + SETTLE_S
        while self.proc and time.monotonic() < until:
            time.sleep(0.02)
            now = self.cpu_s()
            if now - last < 0.001:
                return max(0.0, now - first)
            last = now
        if self.proc:
            say(f"{self.contender.name}: still busy {SETTLE_S} s after a phase")
        return max(0.0, last - first)

    def abort(self):
        """Ends the server, and whoever waits for it: -f makes the kernel fail their requests."""
        if self.proc:
            self.proc.kill()
            subprocess.run(["umount", "-f", "-l", self.mnt], capture_output=True)

    def stop(self):
        if self.proc is None:
            return
        until = time.monotonic() + MOUNT_S
        while os.path.ismount(self.mnt):  # a fresh mount may be busy with its own last request
            r = subprocess.run(["umount", self.mnt], capture_output=True, text=True)
            if r.returncode == 0 or time.monotonic() > until or self.proc.poll() is not None:
                break
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.proc.wait(timeout=max(1, until - time.monotonic()))
        if self.proc.poll() is None:
            say(f"{self.contender.name}: killed, it did not end {MOUNT_S} s after the unmount")
            self.abort()
            self.proc.wait()
        elif self.proc.returncode != 0 and not self.dead:
            say(f"{self.contender.name}: ended with {self.proc.returncode}: {self.last_words()}")
        # What a dead daemon left: "transport endpoint is not connected".
        subprocess.run(["umount", "-l", self.mnt], capture_output=True)
        self.proc = None
