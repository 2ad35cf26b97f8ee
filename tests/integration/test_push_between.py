"""What stands between us and a cluster and is not the cluster: one that redirects, one whose certificate is for somebody else, one that
mixes answers up."""
import contextlib
import http.client
import http.server
import json
import ssl
import threading

import pytest

from harness import WORMCTL, run, wait_for
from push_harness import bodies, cluster, lock_of, options, push_list, pushed, queue		# noqa: F401
from qumulo import ref


@contextlib.contextmanager
def front(change, port=None, context=None):
    """A server before the one at `port`. change(method, target, status, headers, body) -> status, headers, body: what is answered; with
    no port nothing is asked behind it. .asked: (method, target, headers)."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def answer(self):
            self.server.asked.append((self.command, self.path, dict(self.headers)))
            body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
            status, headers, reply = 200, {}, b'{}'
            if port:
                behind = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
                behind.request(self.command, self.path, body or None, {k: v for k, v in self.headers.items() if k != 'Host'})
                got = behind.getresponse()
                status, headers, reply = got.status, {'Content-Type': 'application/json'}, got.read()
                behind.close()
            status, headers, reply = change(self.command, self.path, status, headers, reply)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header('Content-Length', str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)
        do_GET = do_PATCH = do_POST = answer

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.asked, server.daemon_threads = [], True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def start(share, mock, server):
    share.start(options(mock, share, 'retention=1d').replace(mock.url, 'http://127.0.0.1:%d' % server.server_port))


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_our_token_stays_here(cluster, status):
    share, mock = cluster(start=False)
    share.expect_log('is away')
    redirecting = True
    with front(lambda *a: a[2:]) as elsewhere:
        def change(method, target, *answer):
            if not redirecting:
                return answer
            return status, {'Location': 'http://127.0.0.1:%d%s' % (elsewhere.server_port, target)}, b''
        with front(change, mock.port) as there:
            start(share, mock, there)
            share.lock('a')
            wait_for('what stands there to be asked', lambda: [a for a in there.asked if a[0] == 'PATCH'])
            wait_for('away', lambda: queue(share)['state'] == 'away')
            assert 'redirects to another address' in queue(share)['reason']
            p = run(WORMCTL, 'push', 'check', '--cluster', 'http://127.0.0.1:%d' % there.server_port, '--credentials', mock.token_file, check=False)
            assert p.returncode == 2 and 'redirects to another address' in p.out + p.err
            assert elsewhere.asked == [], 'nobody else is asked, with or without our token'
            assert share.shows('a', 'push').startswith('pending')
            redirecting = False
            pushed(share)
            assert share.shows('a', 'push') == 'locked' and lock_of(mock, 'a')
            assert elsewhere.asked == []
            share.stop()


def test_a_certificate_for_another_name_is_not_trusted_whoever_signed_it(cluster, tmp_path):
    share, mock = cluster(start=False)
    share.expect_log('is away')
    key, cert = str(tmp_path / 'key'), str(tmp_path / 'cert')
    run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert,
        '-days', '2', '-subj', '/CN=cluster.example', '-addext', 'subjectAltName=DNS:cluster.example')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with front(lambda *a: a[2:], mock.port, context) as there:
        where = '127.0.0.1:%d' % there.server_port
        opts = options(mock, share, 'retention=1d').replace(mock.url, where) + ',push_ca=' + cert
        share.start(opts)
        share.lock('a')
        wait_for('away', lambda: queue(share)['state'] == 'away')
        assert 'certificate is not trusted' in queue(share)['reason']
        for args in (['push', 'check'], ['watch-upstream', '--retention', '1d', '--once', '/share']):
            p = run(WORMCTL, *args, '--cluster', where, '--ca', cert, '--credentials', mock.token_file, check=False)
            assert p.returncode == 2 and 'certificate' in p.out + p.err, p.err
        assert there.asked == [] and bodies(mock) == []
        share.remount(opts + ',push_insecure')
        pushed(share)
        assert lock_of(mock, 'a')
        share.stop()


def test_a_lock_in_an_answer_about_another_file_is_no_proof(cluster):
    share, mock = cluster(start=False)
    share.expect_log('answers about another file')
    mixing = True

    def change(method, target, status, headers, reply):
        """All hear of the file that is locked already; the request does not even arrive."""
        if mixing and ref('/share/a') in target:
            return 200, headers, json.dumps(mock.attributes('/share/locked').json).encode()
        return status, headers, reply
    with front(change, mock.port) as there:
        start(share, mock, there)
        share.lock('locked')
        pushed(share)
        mock.lock('/share/locked', retention_period='2999-01-01T00:00:00Z', legal_hold=True)
        mock.fault('503', path='*%s/*' % ref('/share/a'))	# what is asked about it is not carried out
        share.lock('a')
        row = wait_for('a failed row', lambda: push_list(share, '--state', 'failed').get('a'))
        assert 'about another file' in row['error'] and lock_of(mock, 'a') is None
        mock.clear_faults()
        mixing = False
        share.ctl('push', 'retry', share.mnt)
        pushed(share)
        assert share.shows('a', 'push') == 'locked' and lock_of(mock, 'a')['retention_period'] == share.shows('a', 'until')
        share.stop()


def test_a_file_of_several_names_is_known_by_any_of_them(cluster):
    """The cluster chooses the name that it answers with."""
    share, mock = cluster('retention=1d', start=False)

    def change(method, target, status, headers, reply):
        if status == 200 and ref('/share/') in target:
            reply = json.dumps({**json.loads(reply), 'path': '/share/another', 'num_links': 2}).encode()
        return status, headers, reply
    with front(change, mock.port) as there:
        start(share, mock, there)
        share.lock('a')
        pushed(share)
        assert share.shows('a', 'push') == 'locked' and len(bodies(mock, 'a')) == 1
        share.stop()
