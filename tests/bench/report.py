"""What is made of the runs and printed: medians, ratios within the repetitions, and goals, met or not."""

import statistics

from contenders import PEERS
from phases import VARIANTS

AHEAD = 0.95  # "no peer ahead": equal within this, since two runs of one program differ by as much


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


def print_compared(result, name):
    """With it no operation is to be slower by more than 5 %."""
    for what, with_it, without_it in COMPARED[name]:
        print_pair(result, what, with_it, without_it)


def print_pair(result, what, with_it, without_it):
    for base, phases in result["results"].items():
        rows = []
        for p, cells in phases.items():
            r = ratio(cells, with_it, without_it)
            same = ratio(cells, without_it + "-again", without_it)
            on, off = (cells.get(n, {}) for n in (with_it, without_it))
            rows.append([p, short(off.get("ops_s")), short(on.get("ops_s")), as_ratio(r), as_ratio(same),
                         as_ratio(cpu_ratio(cells, with_it, without_it)),
                         f"{on.get('after_cpu_s', 0):.2f}/{off.get('after_cpu_s', 0):.2f}",
                         "-" if r is None or same is None else "met" if r >= AHEAD else
                         "in the noise" if 1 - r <= abs(1 - same) else "NOT MET"])
        table(f"{base}: operations per second without and with {what} (goal: at least {AHEAD})",
              ["phase", "off", "on", "ratio", "off/off", "by CPU", "CPU s after, on/off", ""], rows)


COMPARED = {  # bench.py --NAME: tables of what it is, the contender with it, and the one without
    "audit": [("the audit log", "wormfs", "wormfs-noaudit")],
    "events": [("a journal of events", "wormfs", "wormfs-noevents"),
               ("a journal, and each event as a line of JSON in a file", "wormfs-json", "wormfs-noevents")],
    "push": [("a push to a cluster", "wormfs", "wormfs-nopush")],
}
