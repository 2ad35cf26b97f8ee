"""nghttpx, the proxy of nghttp2, in front of a stand-in: HTTP/2 over TLS for who asks, HTTP/1.1 behind. Its log has the connections."""
import collections
import os
import signal
import socket
import subprocess
import threading
import time

from harness import need_program, run

START_S = 20
END_S = 20
TRIES = 5

Line = collections.namedtuple('Line', 'connection protocol method path status')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class H2Proxy:
    """url, ca_file, port; started. requests_max: after so many of a connection it says GOAWAY."""
    def __init__(self, dir, backend_port, requests_max=None, streams_max=100):
        program = need_program('nghttpx')
        self.dir, self.ca_file, key = str(dir), os.path.join(str(dir), 'proxy.pem'), os.path.join(str(dir), 'proxy.key')
        self.log, self.errors = os.path.join(self.dir, 'proxy.log'), os.path.join(self.dir, 'proxy.errors')
        run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key,
            '-out', self.ca_file, '-days', '2', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1')
        self.argv = [program, '--conf=/dev/null', '--single-process', '--single-thread', '--no-ocsp', '--log-level=WARN',
                     '-b', '127.0.0.1,%d' % backend_port, '--frontend-http2-max-concurrent-streams=%d' % streams_max,
                     '--errorlog-file=' + self.errors, '--accesslog-file=' + self.log,
                     '--accesslog-format=$remote_port $alpn $method $path $status', '--backend-keep-alive-timeout=60s']
        self.files = [key, self.ca_file]
        self.requests_max, self.proc, self.port = requests_max, None, None
        self.start()

    def start(self):
        # It cannot choose a port, and a free one may be taken before it is there.
        for _ in range(TRIES):
            port = self.port or free_port()
            more = ['--frontend-max-requests=%d' % self.requests_max] if self.requests_max else []
            self.proc = subprocess.Popen(self.argv + more + ['-f', '127.0.0.1,%d' % port] + self.files, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self.answers(port):
                self.port, self.url = port, 'https://127.0.0.1:%d' % port
                return
            self.kill()
        raise AssertionError('nghttpx does not start: ' + open(self.errors).read())

    def answers(self, port):
        end = time.monotonic() + START_S
        while self.proc.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(('127.0.0.1', port), 1).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def kill(self):
        """All its connections are cut."""
        if self.proc:
            self.proc.kill()
            self.proc.wait(END_S)
            self.proc = None

    def end(self):
        if self.proc:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(END_S)
                self.proc = None
            finally:
                self.kill()

    def requests(self):
        """What was answered about files, in the order of the answers."""
        return [line for line in (Line(*text.split()) for text in open(self.log)) if '/v1/files/%2Fshare%2F' in line.path]


class Relay:
    """Passes bytes between a port of its own and another, until cut() ends every connection at once; new ones are taken."""
    def __init__(self, to):
        self.to, self.pairs, self.lock = to, [], threading.Lock()
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(('127.0.0.1', self.to))
            with self.lock:
                self.pairs.append((near, far))
            for a, b in ((near, far), (far, near)):
                thread = threading.Thread(target=self.copy, args=(a, b), daemon=True)
                self.threads.append(thread)
                thread.start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """How many there were."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for near, far in pairs:
            for s in (near, far):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        return len(pairs)

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        for thread in self.threads:
            thread.join(END_S)
