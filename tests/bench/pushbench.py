#!/usr/bin/python3
"""pushbench.py: how many locks a second reach a cluster.

The cluster is mockqumulo, with TLS and --latency MS before each reply, which it counts from the request on and many at a time. In
one run, one after the other:

  wormfs  N files, locked while the cluster was away, from the moment it is back until the last is confirmed
  serial  the way of the vendor's script, by code of our own: for each file a new connection, a login, the file's
          attributes, the lock. Its pause of 15 s a file is left out

and, with --pending N: the memory of a daemon with N locks that wait, after a remount, beside that of one with none.
Needs root. Exit status: 0, 1 a goal was missed (--goals), 2 it could not be measured."""
import argparse
import datetime
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
GOAL_PER_S, GOAL_TIMES = 2000, 50
MOUNT_S = 20
END_S = 120


def say(text):
    print("pushbench: " + text, file=sys.stderr, flush=True)


def wait_for(what, condition, seconds, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit("pushbench: waited %d s in vain for %s" % (seconds, what))
        time.sleep(pause)


class Mock:
    def __init__(self, base, tree, latency, port=0):
        self.argv = [BUILD / "mockqumulo", "--tree", tree, "--latency", str(latency), "--token-file", base / "token",
                     "--password-file", base / "password", "--cert-out", base / "cert", "--journal", "1000"]
        self.start(port)

    def start(self, port):
        self.proc = subprocess.Popen(self.argv + ["--listen", "127.0.0.1:%d" % port], stdout=subprocess.PIPE, text=True)
        said = dict(line.rstrip("\n").split(" ", 1) for line in iter(self.proc.stdout.readline, "\n") if " " in line)
        self.url, self.token = said["url"], said["token-file"]
        self.port = urllib.parse.urlsplit(self.url).port
        self.user, self.password = said["user"], open(said["password-file"]).read().strip()
        self.context = ssl.create_default_context(cafile=said["ca-file"])
        self.ca = said["ca-file"]

    def end(self):
        self.proc.terminate()
        self.proc.wait(END_S)


class Share:
    def __init__(self, base):
        self.lower, self.mnt, self.state, self.log = base / "share", base / "mnt", base / "state", base / "log"
        for d in (self.lower, self.mnt, self.state):
            d.mkdir()
        self.state.chmod(0o700)
        self.proc = None

    def mount(self, options):
        self.proc = subprocess.Popen([BUILD / "wormfs", "-f", self.lower, self.mnt, "-o", "state=%s,%s" % (self.state, options)],
                                     stderr=open(self.log, "a"))
        wait_for("the mount; see " + str(self.log), lambda: self.proc.poll() is not None or os.path.ismount(self.mnt), MOUNT_S)
        if self.proc.poll() is not None:
            sys.exit("pushbench: wormfs ended: " + open(self.log).read())

    def push(self):
        return json.loads(os.getxattr(self.mnt, "user.worm.mount"))["push"]

    def rss_kib(self):
        for line in open("/proc/%d/status" % self.proc.pid):
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def unmount(self):
        if self.proc is None:
            return
        subprocess.run(["umount", self.mnt], check=False)
        self.proc.wait(END_S)
        self.proc = None


def push_options(mock, args):
    return ",".join(["retention=1y", "push=qumulo:127.0.0.1:%d" % mock.port, "push_root=/share", "push_credentials=" + mock.token,
                     "push_ca=" + mock.ca, "push_retry=1"] + args.options.split(",") * bool(args.options))


def make_files(share, n, first=0):
    """In directories of 1,000, through the mount."""
    subprocess.run([BUILD / "tests" / "mkfiles", share.mnt, str(n), "16", "1000"], check=True)
    wait_for("the last closes", lambda: json.loads(os.getxattr(share.mnt, "user.worm.mount"))["closing"] == 0, END_S, 0.1)


def measure_wormfs(base, args):
    share = Share(base)
    mock = Mock(base, base, args.latency)
    mock.end()
    try:
        share.mount(push_options(mock, args))
        begun = time.monotonic()
        make_files(share, args.files)
        closed = time.monotonic() - begun
        wait_for("the ledger", lambda: share.push()["waiting"] >= args.files, END_S, 0.1)
        mock.start(mock.port)
        wait_for("the first lock", lambda: share.push()["told"] > 0, END_S, 0.001)
        begun, before = time.monotonic(), share.push()["told"]
        wait_for("the last lock", lambda: share.push()["told"] >= args.files, END_S, 0.02)
        took = time.monotonic() - begun
        after = share.push()
        said = json.loads(http_get(mock, "/mock/counts"))
        return {"files": args.files, "locks_per_s": (after["told"] - before) / took, "seconds": took, "requests": after["requests"],
                "closes_per_s_while_away": args.files / closed, "counts": said, "rss_kib": share.rss_kib()}
    finally:
        share.unmount()
        mock.end()


def http_get(mock, path, token=None):
    c = http.client.HTTPSConnection("127.0.0.1", mock.port, context=mock.context, timeout=30)
    c.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
    body = c.getresponse().read()
    c.close()
    return body


def lock_serially(mock, path, end):
    c = http.client.HTTPSConnection("127.0.0.1", mock.port, context=mock.context, timeout=30)

    def ask(method, target, body=None, token=None):
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = "Bearer " + token
        c.request(method, target, body=json.dumps(body) if body is not None else None, headers=headers)
        reply = c.getresponse()
        text = reply.read()
        if reply.status != 200:
            sys.exit("pushbench: %s %s: %d %r" % (method, target, reply.status, text[:200]))
        return json.loads(text)

    ref = urllib.parse.quote(path, safe="")
    token = ask("POST", "/v1/session/login", {"username": mock.user, "password": mock.password})["bearer_token"]
    ask("GET", "/v1/files/%s/info/attributes" % ref, token=token)
    ask("PATCH", "/v1/files/%s/file-lock" % ref, {"retention_period": end}, token=token)
    c.close()


def measure_serial(base, args):
    tree = base / "share"
    tree.mkdir()
    for i in range(args.serial_files):
        (tree / ("f%d" % i)).write_bytes(b"x" * 16)
    mock = Mock(base, base, args.latency)
    end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        begun = time.monotonic()
        for i in range(args.serial_files):
            lock_serially(mock, "/share/f%d" % i, end)
        took = time.monotonic() - begun
        return {"files": args.serial_files, "locks_per_s": args.serial_files / took, "seconds": took}
    finally:
        mock.end()


def measure_memory(base, args):
    share = Share(base)
    mock = Mock(base, base, 0)
    mock.end()
    try:
        share.mount(push_options(mock, args))
        wait_for("it to be idle", lambda: share.push()["waiting"] == 0, END_S)
        time.sleep(1)
        empty = share.rss_kib()
        say("making %d files" % args.pending)
        make_files(share, args.pending)
        wait_for("the ledger", lambda: share.push()["waiting"] >= args.pending, END_S, 0.5)
        made = share.rss_kib()
        share.unmount()
        share.mount(push_options(mock, args))
        wait_for("away", lambda: share.push()["state"] == "away", END_S)
        time.sleep(5)
        return {"pending": share.push()["waiting"], "rss_kib_none_waits": empty, "rss_kib_waiting": share.rss_kib(),
                "rss_kib_of_the_daemon_that_made_them": made, "ledger_bytes": os.path.getsize(share.state / "ledger.db")}
    finally:
        share.unmount()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--files", type=int, default=20000, help="for wormfs [20000]")
    p.add_argument("--serial-files", type=int, default=200, help="for the serial way [200]")
    p.add_argument("--latency", type=int, default=5, help="ms a reply [5]")
    p.add_argument("--pending", type=int, default=0, help="also the memory with so many that wait [0: not measured]")
    p.add_argument("--options", default="", help="more mount options, such as push_connections=8")
    p.add_argument("--goals", action="store_true", help="exit status 1 when %d a second or %d times is missed" % (GOAL_PER_S, GOAL_TIMES))
    p.add_argument("--dir", default="/var/tmp", help="where the shares are [/var/tmp]")
    args = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("pushbench: needs root: it mounts")
    result = {"latency_ms": args.latency, "cpus": os.cpu_count()}
    phases = [("wormfs", measure_wormfs), ("serial", measure_serial)] + ([("memory", measure_memory)] if args.pending else [])
    for name, phase in phases:
        base = Path(tempfile.mkdtemp(prefix="pushbench.", dir=args.dir))
        base.chmod(0o755)
        try:
            say(name)
            result[name] = phase(base, args)
        finally:
            if not os.path.ismount(base / "mnt"):
                shutil.rmtree(base, ignore_errors=True)
    result["times"] = result["wormfs"]["locks_per_s"] / result["serial"]["locks_per_s"]
    print(json.dumps(result, indent=1))
    met = result["wormfs"]["locks_per_s"] >= GOAL_PER_S and result["times"] >= GOAL_TIMES
    say("%.0f locks a second, %.0f times the serial way's %.1f: goals (%d, %d) %s" % (
        result["wormfs"]["locks_per_s"], result["times"], result["serial"]["locks_per_s"], GOAL_PER_S, GOAL_TIMES, "met" if met else "missed"))
    return 1 if args.goals and not met else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    sys.exit(main())
