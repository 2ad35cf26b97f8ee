"""Round trips: the FUSE requests of each operation, counted with the kernel's tracepoint."""

import os
import re
import subprocess
import time

from contenders import Failed
from phases import drop_caches, fsbench, steps_of, sync_base


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
