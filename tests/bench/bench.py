#!/usr/bin/python3
"""bench.py: wormfs beside its peers, in one run, interleaved.

Every repetition mounts each contender afresh on a directory of its own, then takes phase after
phase; within a phase the contenders follow each other at once, and the order moves on by one with
each repetition. So drift of the machine meets all alike. What is printed are medians over the
repetitions; a ratio is the median of the ratios within the repetitions.

The small-file phases come in variants: /1p is one thread with the server on the same CPU, which
is what an operation costs and varies little; /1 is one thread and /4 are four, placed by the
kernel: there the cost of waking another, idle CPU counts as well, in a virtual machine the most.

All mounts live in a mount namespace of our own: they are gone when we are, however we ended.
"""

import argparse
import contextlib
import datetime
import errno
import json
import mmap
import os
import re
import shlex
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
FSBENCH = BUILD / "tests" / "fsbench"
WORMFS = BUILD / "wormfs"
PASSTHROUGH_HP = ROOT / "build" / "libfuse" / "bin" / "passthrough_hp"
ENABLE_URING = Path("/sys/module/fuse/parameters/enable_uring")

MOUNT_S = 20  # until a mount must be there, and a daemon gone
PHASE_S = 60  # until a phase counts as hung
SETTLE_S = 20  # for what a server still does after a phase that wrote
AHEAD = 0.95  # "no peer ahead": equal within this, since two runs of one program differ by as much


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- the contenders --------------------------------------------------------------------------

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


# --- the phases ------------------------------------------------------------------------------

class Step:
    def __init__(self, name, worker, where, args, needs=(), drop=False, about="", unit="ops",
                 pinned=False):
        self.name = name
        self.worker = worker
        self.where = where
        self.args = args
        self.needs = needs
        self.drop = drop  # names and inodes leave the kernel's caches first
        self.about = about
        self.unit = unit
        self.pinned = pinned  # worker and server on one CPU
        self.passes = int(args[args.index("-p") + 1]) if "-p" in args else 1


WRITERS = ("create", "seqwrite", "randwrite", "tree", "refuse")  # the server goes on after its answers
VARIANTS = {"1p": 1, "1": 1, "4": 4}  # threads


def steps_of(n, mib, variants):
    """All phases, in the order in which they are taken. `n`: small files; `mib`: of the data."""
    steps = []

    def small(name, v, worker, place, extra, needs=(), **more):
        steps.append(Step(f"{name}/{v}", worker, f"{place}{v}",
                          ["-n", str(n), "-t", str(VARIANTS[v]), *extra],
                          [f"{x}/{v}" for x in needs], pinned=v == "1p", **more))

    part = ["-x", ".part"]  # a staging name: wormfs does not lock it
    for t in variants:
        small("create", t, "create", "s", [], about="create, write 4 KiB, close (wormfs: and lock)")
        small("stat-new", t, "stat", "s", [], ["create"], about="stat, once, right after the create")
        small("stat-warm", t, "stat", "s", ["-w", "-p", "5"], ["create"],
              about="stat of locked files, again")
        small("stat-cold", t, "stat", "s", [], ["create"], drop=True,
              about="the same, names and inodes dropped from the kernel's caches")
        small("read-warm", t, "read", "s", ["-w", "-p", "2"], ["create"],
              about="open, read 4 KiB, close of locked files")
        small("read-cold", t, "read", "s", [], ["create"], drop=True, about="the same, dropped")
        small("list-warm", t, "list", "s", ["-w", "-p", "2"], ["create"],
              about="readdir and stat of every entry; an operation is an entry")
        small("list-cold", t, "list", "s", [], ["create"], drop=True, about="the same, dropped")
        small("create-part", t, "create", "p", part, about="create, write 4 KiB, close; not locked")
        small("rename", t, "rename", "p", part, ["create-part"], about="rename in place, not locked")
        small("unlink", t, "unlink", "p", part, ["create-part", "rename"], about="not locked")

    def data(name, worker, block, calls, extra=(), needs=(), **more):
        steps.append(Step(name, worker, "data", ["-b", str(block), "-n", str(calls), *extra], needs,
                          unit="mb", **more))

    mi = 1 << 20
    data("seqwrite-1m", "seqwrite", mi, mib, about="1 MiB calls, a new file")
    data("seqwrite-4k", "seqwrite", 4096, mib * 128, part, about="4 KiB calls, a new file")
    data("seqread-1m", "seqread", mi, mib, (), ["seqwrite-1m"], drop=True,
         about="first read of a file whose pages are in the lower filesystem's cache")
    data("seqread-4k", "seqread", 4096, mib * 256, (), ["seqwrite-1m"], drop=True, about="the same")
    data("randread-4k", "randread", 4096, mib * 64, (), ["seqwrite-1m"], drop=True, about="the same")
    data("randwrite-4k", "randwrite", 4096, mib * 64, part, ["seqwrite-4k"],
         about="over a file that is there")
    first = f"tree/{variants[0]}"
    for v in variants:
        def tree(name, extra=(), v=v, **more):
            steps.append(Step(f"{name}/{v}", name.split("-")[0], "tree",
                              ["-t", str(VARIANTS[v]), *extra], [first] if name != "tree" else [],
                              pinned=v == "1p", **more))

        if v == variants[0]:
            tree("tree", about="make 144 directories, 2560 files of 0.5 to 16 KiB")
        tree("walk-cold", drop=True, about="find, stat all, read the headers; an operation is an entry")
        tree("walk-warm", ["-w"], about="the same, again")
    return steps


def audit_steps(n):
    """What the audit log has lines of (create: and lock; refuse), and what it has none of."""
    names = ["create", "read-warm", "create-part", "rename", "unlink"]
    steps = []
    for v in ("1", "4"):
        steps += [s for s in steps_of(n, 1, [v]) if s.name.split("/")[0] in names]
        steps.insert([s.name for s in steps].index(f"read-warm/{v}"),
                     Step(f"refuse/{v}", "refuse", f"s{v}", ["-n", str(n), "-t", v], [f"create/{v}"],
                          about="open for writing of a locked file, refused"))
    return steps


def choose(steps, only):
    """The steps to run (with what they need), and the names of those to report."""
    by_name = {s.name: s for s in steps}
    if not only:
        return steps, set(by_name)
    asked = set()
    for o in only:
        hit = {n for n in by_name if n == o or n.split("/")[0] == o}
        if not hit:
            raise SystemExit(f"bench: no phase '{o}'; there are: {' '.join(by_name)}")
        asked |= hit
    wanted, todo = set(), list(asked)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += by_name[name].needs
    return [s for s in steps if s.name in wanted], asked


@contextlib.contextmanager
def threads_on(pid, cpus):
    """Threads of the process `pid` (None: nobody) on these CPUs, and back where they were."""
    before = {}
    with contextlib.suppress(OSError):  # a thread, or the process, has ended
        for tid in map(int, os.listdir(f"/proc/{pid}/task")) if pid else ():
            with contextlib.suppress(OSError):
                before[tid] = os.sched_getaffinity(tid)
                os.sched_setaffinity(tid, cpus)
    try:
        yield
    finally:
        for tid, cpus_before in before.items():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(tid, cpus_before)


def fsbench(mounted, step, args=None):
    where = mounted.mnt / step.where
    argv = [FSBENCH, step.worker, where, *(step.args if args is None else args)]
    pin = contextlib.nullcontext()
    if step.pinned:
        cpu = max(os.sched_getaffinity(0))
        argv = ["taskset", "-c", str(cpu), *argv]
        pin = threads_on(mounted.proc.pid if mounted.proc else None, {cpu})
    try:
        where.mkdir(exist_ok=True)
        with pin, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True) as worker:
            try:
                out, err = worker.communicate(timeout=PHASE_S)
            except BaseException:
                worker.kill()
                mounted.abort()
                raise
    except subprocess.TimeoutExpired:
        raise Failed(f"{step.name}: hung for {PHASE_S} s, server killed") from None
    except OSError as e:
        raise Failed(f"{step.name}: {e}") from e
    if worker.returncode != 0:
        raise Failed(f"{step.name}: {err.strip()}; its log: {mounted.last_words()}")
    return json.loads(out)


def touch_memory(mib):
    """Writes to fresh pages and frees them. In a virtual machine whose host takes back free memory
    the first touch of a page is slow; the page cache of a file to be written comes from these."""
    with mmap.mmap(-1, mib << 20) as m:
        m.write(bytes(mib << 20))


def drop_caches():
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


def sync_base(path):
    # A dirty inode cannot leave the cache, and writeback would run under the next phase.
    subprocess.run(["sync", "-f", path], check=True)


# --- a run -----------------------------------------------------------------------------------

class Bench:
    def __init__(self, work_dirs, contenders, logs, data_mib):
        self.work_dirs = work_dirs  # base name -> empty directory on that filesystem
        self.contenders = contenders
        self.logs = logs
        self.data_mib = data_mib
        self.failures = []
        self.features = {}

    @contextlib.contextmanager
    def mounted(self, base, order):
        where = self.work_dirs[base]
        all_mounted = []
        try:
            for c in order:
                m = Mounted(c, where, self.logs / f"{base}-{c.name}.log")
                all_mounted.append(m)
                try:
                    m.start()
                    self.features[c.name] = {"io_uring": m.uses_uring,
                                             "log": read_text(m.log).splitlines()[:20]}
                except Failed as e:
                    self.fail(m, base, str(e))
            yield all_mounted
        finally:
            for m in all_mounted:
                m.stop()
            for m in all_mounted:
                shutil.rmtree(m.where, ignore_errors=True)
                if m.where.exists():
                    subprocess.run(["chattr", "-R", "-i", "-a", m.where], capture_output=True)
                    shutil.rmtree(m.where, ignore_errors=True)

    def fail(self, m, base, why):
        m.fail(why)
        self.failures.append({"base": base, "contender": m.contender.name, "why": why})

    def repetition(self, base, rep, steps, runs):
        order = self.contenders[rep % len(self.contenders):] + \
                self.contenders[:rep % len(self.contenders)]
        with self.mounted(base, order) as all_mounted:
            for step in steps:
                if step.drop:
                    sync_base(self.work_dirs[base])
                for m in all_mounted:
                    if m.dead:
                        continue
                    try:
                        if step.drop:
                            drop_caches()
                        if step.worker in WRITERS:
                            touch_memory(2 * self.data_mib if step.worker == "seqwrite" else 32)
                        before = m.cpu_s()
                        got = fsbench(m, step)
                        passes = step.passes + ("-w" in step.args)
                        got["server_cpu_us"] = max(0.0, m.cpu_s() - before) * 1e6 / (
                            got["ops"] / step.passes * passes)
                        got["after_cpu_s"] = m.settle() if step.worker in WRITERS else 0.0
                        if m.contender.locks and step.name.startswith("create/"):
                            m.check_locked(m.mnt / step.where / "t0" / "f0")
                    except Failed as e:
                        self.fail(m, base, str(e))
                        continue
                    runs.setdefault(step.name, {}).setdefault(m.contender.name, {})[rep] = got

    def run(self, steps, reps):
        results = {}
        for base in self.work_dirs:
            runs = results[base] = {}
            for rep in range(reps):
                t = time.monotonic()
                self.repetition(base, rep, steps, runs)
                say(f"{base}: repetition {rep + 1} of {reps}: {time.monotonic() - t:.0f} s")
        return results


def summary(results, asked):
    """Medians, and the runs that they are made of."""
    keys = ("ops_s", "mb_s", "p50_us", "p99_us", "cpu_us", "server_cpu_us", "after_cpu_s")
    return {base: {phase: {name: {
        **{k: round(statistics.median(r[k] for r in reps.values()), 3) for k in keys},
        "runs": {str(rep): {k: r[k] for k in keys} for rep, r in reps.items()}}
        for name, reps in by_name.items()}
        for phase, by_name in phases.items() if phase in asked}
        for base, phases in results.items()}


def ratio(cells, name, reference):
    """How much faster `name` is: the median over the repetitions that both took."""
    a, b = cells.get(name), cells.get(reference)
    if not a or not b:
        return None
    pairs = [a["runs"][rep]["ops_s"] / b["runs"][rep]["ops_s"] for rep in a["runs"] if rep in b["runs"]]
    return statistics.median(pairs) if pairs else None


def cpu_ratio(cells, name, reference):
    """The same by the CPU that caller and server used: other load on the machine hardly moves it."""
    def used(n, rep):
        run = cells[n]["runs"][rep]
        return run["cpu_us"] + run["server_cpu_us"]

    if name not in cells or reference not in cells:
        return None
    both = [rep for rep in cells[name]["runs"] if rep in cells[reference]["runs"]]
    pairs = [used(reference, rep) / used(name, rep) for rep in both if used(name, rep)]
    return statistics.median(pairs) if pairs else None


# --- what is printed -------------------------------------------------------------------------

def table(title, head, rows):
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for r in [head, *rows]:
        print("  ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                        for i, (c, w) in enumerate(zip(r, widths))).rstrip())


def short(v):
    if v is None:
        return "-"
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if v >= 10 * limit or (v >= limit and unit == "M"):
            return f"{v / limit:.3g}{unit}" if v / limit < 1000 else f"{v / limit:.0f}{unit}"
    return f"{v:.0f}" if v >= 100 else f"{v:.3g}"


def as_ratio(v):
    return "-" if v is None else f"{v:.2f}" if v < 100 else f"{v:.0f}"


def print_tables(result):
    names = [n for n in result["contenders"]]
    units = result["phases"]
    for base, phases in result["results"].items():
        head = ["", *names]

        def rows(cell):
            return [[p, *(cell(p, cells, n) for n in names)] for p, cells in phases.items()]

        table(f"{base}: operations per second (data phases: MB/s)", head, rows(
            lambda p, cells, n: short(cells.get(n, {}).get(
                "mb_s" if units[p]["unit"] == "mb" else "ops_s"))))
        table(f"{base}: p50/p99, us", head, rows(
            lambda p, cells, n: f"{short(cells[n]['p50_us'])}/{short(cells[n]['p99_us'])}"
            if n in cells else "-"))
        table(f"{base}: CPU us per operation, caller + server", head, rows(
            lambda p, cells, n: f"{cells[n]['cpu_us']:.3g}+{cells[n]['server_cpu_us']:.3g}"
            if n in cells else "-"))
        rest = [(p, n, cells[n]["after_cpu_s"]) for p, cells in phases.items() for n in cells]
        for p, n, s in rest:
            if s >= 0.01:
                print(f"{base}: {n} used {s:.2f} s of CPU after the end of {p}")
        for reference in ("lower", "passthrough_hp"):
            if reference in names and len(names) > 1:
                table(f"{base}: speed, {reference} = 1", head, rows(
                    lambda p, cells, n, ref=reference: as_ratio(ratio(cells, n, ref))))


DATA = ["seqread-1m", "seqread-4k", "seqwrite-1m", "seqwrite-4k", "randread-4k", "randwrite-4k"]
GOALS = [  # phases, contender, reference, at least
    (DATA, "wormfs", "lower", 0.9, "data, with kernel passthrough"),
    ([f"create/{v}" for v in VARIANTS], "wormfs-dev", "passthrough_hp", 1.0, "create and lock, /dev/fuse"),
    ([f"create/{v}" for v in VARIANTS], "wormfs", "passthrough_hp", 2.0, "create and lock, io_uring"),
    ([f"{p}-{t}/{v}" for p in ("stat", "read") for t in ("cold", "warm") for v in VARIANTS],
     "wormfs", "passthrough_hp", 3.0, "stat, open+read of locked files"),
]


def print_goals(result):
    for base, phases in result["results"].items():
        rows = []
        for names, contender, reference, least, about in GOALS:
            for p in names:
                if p not in phases:
                    continue
                r = ratio(phases[p], contender, reference)
                rows.append([about, p, contender, reference, f"{least:.1f}", as_ratio(r),
                             as_ratio(cpu_ratio(phases[p], contender, reference)),
                             "-" if r is None else "met" if r >= least else "NOT MET"])
        for p, cells in phases.items():
            told = ratio(cells, "wormfs-events", "wormfs") if "wormfs-events" in cells and "wormfs" in cells else None
            if told is not None:
                rows.append(["with events", p, "wormfs-events", "wormfs", f"{AHEAD:.2f}", as_ratio(told),
                             as_ratio(cpu_ratio(cells, "wormfs-events", "wormfs")), "met" if told >= AHEAD else "NOT MET"])
            against = {n: ratio(cells, "wormfs", n) for n in PEERS if n in cells}
            against = {n: r for n, r in against.items() if r is not None}
            if against:
                best = min(against, key=against.get)
                rows.append(["no peer ahead", p, "wormfs", best, f"{AHEAD:.2f}", as_ratio(against[best]),
                             as_ratio(cpu_ratio(cells, "wormfs", best)),
                             "met" if against[best] >= AHEAD else "NOT MET"])
        table(f"{base}: goals (no peer ahead: {AHEAD} is equal, within the noise)",
              ["goal", "phase", "who", "against", "at least", "measured", "by CPU", ""], rows)
        met = sum(r[-1] == "met" for r in rows)
        print(f"{base}: {met} met, {sum(r[-1] == 'NOT MET' for r in rows)} not met, "
              f"{sum(r[-1] == '-' for r in rows)} not measured")


def print_compared(result, what, without_it):
    """With it no operation is to be slower by more than 5 %."""
    for base, phases in result["results"].items():
        rows = []
        for p, cells in phases.items():
            r = ratio(cells, "wormfs", without_it)
            same = ratio(cells, without_it + "-again", without_it)
            on, off = (cells.get(n, {}) for n in ("wormfs", without_it))
            rows.append([p, short(off.get("ops_s")), short(on.get("ops_s")), as_ratio(r), as_ratio(same),
                         as_ratio(cpu_ratio(cells, "wormfs", without_it)),
                         f"{on.get('after_cpu_s', 0):.2f}/{off.get('after_cpu_s', 0):.2f}",
                         "-" if r is None or same is None else "met" if r >= AHEAD else
                         "in the noise" if 1 - r <= abs(1 - same) else "NOT MET"])
        table(f"{base}: operations per second without and with {what} (goal: at least {AHEAD})",
              ["phase", "off", "on", "ratio", "off/off", "by CPU", "CPU s after, on/off", ""], rows)


def print_audit(result):
    print_compared(result, "the audit log", "wormfs-noaudit")


def print_push(result):
    print_compared(result, "a push to a cluster", "wormfs-nopush")


@contextlib.contextmanager
def cluster(work):
    """A stand-in whose tree is this machine's; yields mount options, in which {base} is still to be put."""
    proc = subprocess.Popen([BUILD / "mockqumulo", "--tree", "/", "--listen", "127.0.0.1:0", "--token-file", work / "token",
                             "--cert-out", work / "cert", "--journal", "1000"], stdout=subprocess.PIPE, text=True)
    try:
        said = dict(line.rstrip("\n").split(" ", 1) for line in iter(proc.stdout.readline, "\n") if " " in line)
        if "url" not in said:
            raise SystemExit("bench: mockqumulo did not start")
        yield (f"push=qumulo:{said['url'].split('//')[1]},push_root={{base}},push_credentials={said['token-file']},"
               f"push_ca={said['ca-file']}")
        context = ssl.create_default_context(cafile=said["ca-file"])
        with urllib.request.urlopen(said["url"] + "/mock/counts", context=context, timeout=30) as reply:
            told = json.load(reply).get("PATCH /v1/files/{ref}/file-lock 200", 0)
        if not told:
            raise SystemExit("bench: no lock came to the cluster: nothing was measured")
        say(f"{told} locks came to the cluster")
    finally:
        proc.terminate()
        proc.wait()


# --- round trips -----------------------------------------------------------------------------

class Trace:
    """Counts FUSE requests with the kernel's tracepoint, in a trace buffer of our own."""

    def __init__(self, where):
        self.fs = where
        self.fs.mkdir()
        subprocess.run(["mount", "-t", "tracefs", "tracefs", self.fs], check=True)
        self.dir = self.fs / "instances" / f"wormfs-bench-{os.getpid()}"
        self.event = self.dir / "events/fuse/fuse_request_send"

    def __enter__(self):
        self.dir.mkdir()
        if not self.event.is_dir():
            self.__exit__()
            raise SystemExit("bench: this kernel has no tracepoint fuse:fuse_request_send (Linux 6.11)")
        (self.dir / "buffer_size_kb").write_text("16384")
        (self.event / "enable").write_text("1")
        return self

    def __exit__(self, *_):
        if self.event.is_dir():
            (self.event / "enable").write_text("0")
        self.dir.rmdir()

    def clear(self):
        (self.dir / "trace").write_text("")

    def count(self, connection):
        """Requests by name, since clear()."""
        line = re.compile(r"connection (\d+) req \d+ opcode \d+ \(FUSE_(\w+)\)")
        counts = {}
        for conn, name in line.findall((self.dir / "trace").read_text()):
            if int(conn) == connection:
                counts[name] = counts.get(name, 0) + 1
        return counts


ASYNC = ("RELEASE", "RELEASEDIR")  # nobody waits for these


def trips(bench, work, ops):
    """Requests per operation. FORGETs are not among them: they have no reply, and no tracepoint."""
    steps = [s for s in steps_of(ops, 16, ["1"]) if s.name.endswith("/1")]
    out = {}
    with Trace(work / "tracing") as trace:
        for base in bench.work_dirs:
            with bench.mounted(base, [c for c in bench.contenders if c.argv]) as all_mounted:
                for step in steps:
                    if step.drop:
                        sync_base(bench.work_dirs[base])
                    for m in [m for m in all_mounted if not m.dead]:
                        args = [a for a in step.args if a != "-w"]
                        if "-p" in args:
                            del args[args.index("-p"):args.index("-p") + 2]
                        try:
                            if "-w" in step.args:
                                fsbench(m, step, args)
                            if step.drop:
                                drop_caches()
                            time.sleep(0.1)  # RELEASEs of the step before
                            trace.clear()
                            n = fsbench(m, step, args)["ops"]
                            time.sleep(0.1)
                        except Failed as e:
                            bench.fail(m, base, str(e))
                            continue
                        counts = trace.count(os.minor(os.stat(m.mnt).st_dev))
                        out.setdefault(base, {}).setdefault(step.name, {})[m.contender.name] = {
                            k: round(v / n, 3) for k, v in counts.items() if v / n >= 0.005}
    return out


def print_trips(all_trips):
    for base, phases in all_trips.items():
        rows = []
        for phase, cells in phases.items():
            for name, counts in cells.items():
                waited = sum(v for k, v in counts.items() if k not in ASYNC)
                each = [f"{k} {v:.3g}" for k, v in sorted(counts.items(), key=lambda kv: -kv[1])]
                rows.append([phase[:-2], name, f"{waited:.2f}", ", ".join(each) or "none"])
        widths = [max(len(r[i]) for r in rows) for i in range(3)] if rows else []
        print(f"\n{base}: FUSE requests per operation that the caller waits for, then all of them")
        for r in rows:
            print(f"{r[0]:{widths[0]}}  {r[1]:{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}")


# --- the machine -----------------------------------------------------------------------------

def command(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def machine():
    cpu = re.search(r"model name\s*: (.*)", read_text("/proc/cpuinfo"))
    mem = re.search(r"MemTotal:\s*(\d+)", read_text("/proc/meminfo"))
    cap = re.search(r"CapEff:\s*(\w+)", read_text("/proc/self/status"))
    packages = command("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "bindfs", "mergerfs",
                       "fuse-overlayfs", "libfuse3-3", "libfuse2")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": " ".join(os.uname()[i] for i in (0, 2, 3, 4)),
        "cpu": f"{os.cpu_count()} x {cpu.group(1) if cpu else 'unknown'}",
        "memory_mib": int(mem.group(1)) // 1024 if mem else None,
        "distribution": command("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"),
        "libfuse_of_wormfs_and_passthrough_hp": read_text(ROOT / "build/libfuse/stamp").strip(),
        "packages": packages.splitlines(),
        "wormfs_commit": command("git", "describe", "--always", "--dirty"),
        # Without it libfuse cannot size its splice pipe, and makes a new one for every request of
        # a server that wants SPLICE_READ and a max_write of 1 MiB: passthrough_hp is one.
        "cap_sys_resource": bool(cap and int(cap.group(1), 16) >> 24 & 1),
        "load_before": os.getloadavg()[0],
    }


@contextlib.contextmanager
def uring_enabled():
    """For passthrough_hp; wormfs turns it on by itself."""
    before = read_text(ENABLE_URING).strip()
    if before == "N":
        ENABLE_URING.write_text("Y\n")
    try:
        yield before != ""
    finally:
        if before == "N":
            ENABLE_URING.write_text("N\n")


@contextlib.contextmanager
def work_space(bases, disk):
    work = Path(tempfile.mkdtemp(prefix="wormfs-bench-", dir=disk))
    mounted = []
    try:
        dirs = {}
        for base in bases:
            dirs[base] = work / base
            dirs[base].mkdir()
            if base == "tmpfs":
                subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "wormfs-bench", dirs[base]],
                               check=True)
                mounted.append(dirs[base])
        yield work, dirs
    finally:
        for d in mounted:
            subprocess.run(["umount", "-l", d])
        subprocess.run(["umount", work / "tracing"], capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    p = argparse.ArgumentParser(description="wormfs beside its peers: interleaved, medians.")
    p.add_argument("--quick", action="store_true", help="fewer files and repetitions: under 2 minutes")
    p.add_argument("--only", action="append", metavar="PHASE",
                   help="create, create/4, seqread-1m, ...; may be repeated; what it needs runs as well")
    p.add_argument("--contender", action="append", metavar="NAME", help="may be repeated; default: all")
    p.add_argument("--base", action="append", choices=["tmpfs", "disk"], help="default: both")
    p.add_argument("--disk", default="/var/tmp", metavar="DIR", help="where the disk is (/var/tmp)")
    p.add_argument("--reps", type=int, metavar="N", help="repetitions (5; --quick: 2)")
    p.add_argument("--goals", action="store_true", help="also the project's targets, met or not")
    p.add_argument("--audit", action="store_true",
                   help="instead compare audit=on with audit=off: create, rename, unlink, refused open, read")
    p.add_argument("--push", action="store_true",
                   help="instead compare a mount that tells a cluster (mockqumulo, TLS) of each lock with one that does not: create and lock")
    p.add_argument("--trips", action="store_true",
                   help="instead count the FUSE requests of each operation of the small-file phases")
    p.add_argument("--show", action="store_true", help="print the last result again, measure nothing")
    p.add_argument("--out", type=Path, default=BUILD / "bench" / "result.json", metavar="FILE",
                   help="JSON (build/bench/result.json; --trips: trips.json beside it)")
    p.add_argument("--list", action="store_true", help="list contenders and phases")
    args = p.parse_args()
    known = [c.name for c in CONTENDERS]
    for name in args.contender or []:
        if name not in known:
            p.error(f"no contender '{name}'; there are: {' '.join(known)}")
    if args.reps is not None and args.reps < 1:
        p.error("--reps: at least 1")
    return args


def present(args):
    """The contenders asked for that this machine has."""
    there = []
    for c in CONTENDERS:
        if args.contender and c.name not in args.contender:
            continue
        why = c.missing()
        if why:
            say(f"without {c.name}: {why}")
        else:
            there.append(c)
    if not there:
        raise SystemExit("bench: no contender is left")
    return there


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupted(signum, _frame):
    for s in ENDING:  # once: the cleaning up is not to be interrupted
        signal.signal(s, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(signum).name)


def policy_bench():
    """How long a file looks for its rule among 10,000: no mount, no disk."""
    lines = subprocess.run([BUILD / "tests" / "policybench"], stdout=subprocess.PIPE, text=True, check=False).stdout
    return [json.loads(line) for line in lines.splitlines()]


def print_policy(rows):
    for row in rows:
        print(f"policy: {row['rules']} rules ({row['set']}): median {row['median_ns'] / 1000:.1f} us, "
              f"99 % within {row['p99_ns'] / 1000:.1f} us, read in {row['load_ms']:.0f} ms (goal: median below 10 us)")


def event_bench(work):
    """Events a second from two threads through queue, ring and a file of JSON lines."""
    run = subprocess.run([BUILD / "tests" / "eventbench", work], stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(run.stdout) if run.returncode == 0 else {}


def print_events(rows):
    for name, row in rows.items():
        print(f"events: {row['events']} {name.replace('_', ' ')} through one sink of JSON lines: {row['events_per_s']:.0f} a second, "
              f"{row['dropped']} dropped (goal: 200,000 a second, none dropped)")


def main():
    args = arguments()
    compared = "audit" if args.audit else "push" if args.push else None
    if args.list:
        for c in CONTENDERS:
            print(f"{c.name:22}{c.about}: {shlex.join(c.argv) if c.argv else ''}")
        for s in steps_of(1000, 64, list(VARIANTS)):
            print(f"{s.name:22}{s.about}")
        return 0
    if args.show:
        result = json.loads((args.out.with_name(compared + ".json") if compared else args.out).read_text())
        if compared:
            {"audit": print_audit, "push": print_push}[compared](result)
            return 0
        print_tables(result)
        if args.goals:
            print_goals(result)
        print_policy(result.get("policy", []))
        print_events(result.get("events", {}))
        return 0
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root: it mounts, and drops the kernel's caches")
    if "WORMFS_BENCH_NAMESPACE" not in os.environ:
        os.environ["WORMFS_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable,
                              os.path.abspath(__file__), *sys.argv[1:]])
    if not FSBENCH.exists():
        raise SystemExit(f"bench: {FSBENCH} is not there: make bench builds it")
    for s in ENDING:
        if signal.getsignal(s) != signal.SIG_IGN:
            signal.signal(s, interrupted)

    n, mib, reps, variants = (400, 32, 2, ["1p", "4"]) if args.quick else (2000, 128, 5, list(VARIANTS))
    reps = args.reps or reps
    if compared:
        n, reps = (2000, args.reps or 3) if args.quick else (10000, args.reps or 9)  # short phases differ by more than 5 % from themselves
    steps, asked = choose(audit_steps(n) if compared else steps_of(n, mib, variants), args.only or (["create"] if args.push else None))
    contenders = AUDITED if args.audit else PUSHED if args.push else present(args)
    bases = args.base or ["tmpfs", "disk"]
    out = args.out
    if args.trips:
        out = out.with_name("trips.json")
    if compared and out.name == "result.json":
        out = out.with_name(compared + ".json")
    logs = out.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    about = machine()
    with contextlib.ExitStack() as stack:
        work, dirs = stack.enter_context(work_space(bases, args.disk))
        uring = stack.enter_context(uring_enabled())
        if args.push:
            options = stack.enter_context(cluster(work))
            for c in contenders:
                c.argv = [a.replace("{push}", options) for a in c.argv]
        if WORMFS.exists():  # one binary for the whole run, whatever is built meanwhile
            shutil.copy2(WORMFS, work / "wormfs")
            for c in contenders:
                c.argv = c.argv and [str(work / "wormfs") if a == str(WORMFS) else a for a in c.argv]
        bench = Bench(dirs, [c for c in contenders if uring or not c.name.endswith("-uring")],
                      logs, mib)
        about["disk"] = command("findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", "-T", args.disk)
        if args.trips:
            result = {"trips": trips(bench, work, 500)}
        else:
            result = {"results": summary(bench.run(steps, reps), asked)}
        result["events"] = {} if args.push else event_bench(work)
    about["load_after"] = os.getloadavg()[0]
    result.update({
        "machine": about,
        "contenders": {c.name: {"about": c.about, "command": shlex.join(c.argv or []).replace(f"{work}/", ""),
                                **bench.features.get(c.name, {})} for c in bench.contenders},
        "phases": {s.name: {"about": s.about, "unit": s.unit, "dropped": s.drop,
                            "worker": shlex.join([s.worker, *s.args])} for s in steps},
        "repetitions": reps, "small_files": n, "data_mib": mib, "failures": bench.failures,
    })
    result["policy"] = [] if compared else policy_bench()
    out.write_text(json.dumps(result, indent=1) + "\n")

    print(f"{about['date']}  {about['kernel']}  {about['cpu']}\n"
          f"{about['libfuse_of_wormfs_and_passthrough_hp']}; {', '.join(about['packages'])}\n"
          f"disk: {about['disk']}; load {about['load_before']:.1f} before, {about['load_after']:.1f} after")
    if not about["cap_sys_resource"]:
        print("no CAP_SYS_RESOURCE: passthrough_hp pays for a new splice pipe with every request")
    for name, c in result["contenders"].items():
        print(f"{name:22}{c['about']}: {c['command']}")
    if args.trips:
        print_trips(result["trips"])
    elif compared:
        {"audit": print_audit, "push": print_push}[compared](result)
    else:
        print_tables(result)
        if args.goals:
            print_goals(result)
    for f in bench.failures:
        print(f"FAILED  {f['base']} {f['contender']}: {f['why']}")
    print_policy(result["policy"])
    print_events(result["events"])
    print(f"\nwritten to {out}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt as e:
        say(f"interrupted {e}".strip())
        sys.exit(130)
