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
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from contenders import AUDITED, BUILD, CONTENDERS, EVENTED, PUSHED, ROOT, WORMFS, Failed, Mounted, read_text, say
from phases import (FSBENCH, VARIANTS, WRITERS, audit_steps, choose, drop_caches, fsbench, steps_of, sync_base,
                    touch_memory)
from report import COMPARED, print_compared, print_goals, print_tables, summary
from trips import print_trips, trips

ENABLE_URING = Path("/sys/module/fuse/parameters/enable_uring")


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


def own_filesystem(image, point):
    """ext4 with a journal, in a file. Not the directory itself: ext4 without a journal, as many virtual machines have it,
    passes over each inode that was deleted in the last minutes, one by one, at each create (recently_deleted()), so
    that a create costs what was deleted before it. False: this machine has no loop devices."""
    with image.open("wb") as f:
        f.truncate(12 << 30)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", image], check=True)
        device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True,
                                capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as e:
        print(f"disk: {e}: its own filesystem is measured", file=sys.stderr)
        return False
    try:
        subprocess.run(["mount", "-o", "noinit_itable", device, point], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device])  # once it is unmounted
    return True


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
            elif own_filesystem(work / "disk.img", dirs[base]):
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
    p.add_argument("--disk", default="/var/tmp", metavar="DIR", help="where the image of a disk is made (/var/tmp)")
    p.add_argument("--reps", type=int, metavar="N", help="repetitions (5; --quick: 2)")
    p.add_argument("--goals", action="store_true", help="also the project's targets, met or not; exit status 1 if events are slower than theirs, or dropped")
    p.add_argument("--audit", action="store_true",
                   help="instead compare audit=on with audit=off: create, rename, unlink, refused open, read")
    p.add_argument("--events", action="store_true",
                   help="instead compare a mount with a journal of events, and one that also tells each to a file of JSON lines, with one "
                   "that has none: all phases")
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


EVENTS_PER_S = 200_000


def print_events(rows):
    """False: a goal is missed."""
    met = True
    for name, row in rows.items():
        good = row["events_per_s"] >= EVENTS_PER_S and row["dropped"] == 0
        met = met and good
        print(f"events: {row['events']} {name.replace('_', ' ')} through one sink of JSON lines: {row['events_per_s']:.0f} a second, "
              f"{row['dropped']} dropped (goal: {EVENTS_PER_S:,} a second, none dropped): {'met' if good else 'NOT MET'}")
    return met


def main():
    args = arguments()
    compared = next((name for name in COMPARED if getattr(args, name)), None)
    if args.list:
        for c in CONTENDERS:
            print(f"{c.name:22}{c.about}: {shlex.join(c.argv) if c.argv else ''}")
        for s in steps_of(1000, 64, list(VARIANTS)):
            print(f"{s.name:22}{s.about}")
        return 0
    if args.show:
        result = json.loads((args.out.with_name(compared + ".json") if compared else args.out).read_text())
        if compared:
            print_compared(result, compared)
            return 0
        print_tables(result)
        if args.goals:
            print_goals(result)
        print_policy(result.get("policy", []))
        return 0 if print_events(result.get("events", {})) or not args.goals else 1
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
    steps, asked = choose(audit_steps(n) if args.audit or args.push else steps_of(n, mib, ["1p", "4"] if compared else variants),
                          args.only or (["create"] if args.push else None))
    contenders = {"audit": AUDITED, "events": EVENTED, "push": PUSHED}[compared] if compared else present(args)
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
        about["disk"] = command("findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", "-T", dirs.get("disk", args.disk))
        if args.trips:
            result = {"trips": trips(bench, work, 500)}
        else:
            result = {"results": summary(bench.run(steps, reps), asked)}
        result["events"] = {} if args.push or args.audit else event_bench(work)
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
        print_compared(result, compared)
    else:
        print_tables(result)
        if args.goals:
            print_goals(result)
    for f in bench.failures:
        print(f"FAILED  {f['base']} {f['contender']}: {f['why']}")
    print_policy(result["policy"])
    events_met = print_events(result["events"])
    print(f"\nwritten to {out}")
    if args.goals and not (args.push or args.audit) and not result["events"]:
        say("eventbench failed: the rate of events is not known")
        events_met = False
    return 1 if bench.failures or (args.goals and not events_met) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt as e:
        say(f"interrupted {e}".strip())
        sys.exit(130)
