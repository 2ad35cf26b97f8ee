"""The phases: what is done to a contender, in which order, by tests/bench/fsbench.c."""

import contextlib
import json
import mmap
import os
import subprocess
from pathlib import Path

from contenders import BUILD, Failed

FSBENCH = BUILD / "tests" / "fsbench"
PHASE_S = 60  # until a phase counts as hung


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
    for v in ("1p", "4"):
        steps += [s for s in steps_of(n, 1, [v]) if s.name.split("/")[0] in names]
        steps.insert([s.name for s in steps].index(f"read-warm/{v}"),
                     Step(f"refuse/{v}", "refuse", f"s{v}", ["-n", str(n), "-t", str(VARIANTS[v]), "-p", "5"],
                          [f"create/{v}"], pinned=v == "1p",
                          about="open for writing of each locked file, refused, five times over"))
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
