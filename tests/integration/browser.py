"""A headless Chromium, steered through a pipe (--remote-debugging-pipe): pages as a person's browser shows them. Nothing of it
goes to the network: there is no proxy, no DNS but for localhost, and no background traffic."""
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
ARGUMENTS = [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-default-apps', '--disable-extensions', '--disable-dev-shm-usage',
    '--mute-audio', '--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost',
    '--remote-debugging-pipe', 'about:blank']


class Browser:
    def __init__(self, width=1200, height=1000):
        self.directory = tempfile.mkdtemp(prefix='browser.')
        to_child, self.out = os.pipe()
        self.inp, from_child = os.pipe()
        self.next, self.buffer, self.events = 0, b'', []

        def pipes():		# the descriptors 3 and 4 are the protocol's
            os.dup2(to_child, 100)
            os.dup2(from_child, 101)
            os.dup2(100, 3)
            os.dup2(101, 4)

        self.log = open(os.path.join(self.directory, 'log'), 'wb')
        self.process = subprocess.Popen(
            [CHROMIUM, '--user-data-dir=' + os.path.join(self.directory, 'profile'), '--window-size=%d,%d' % (width, height)] + ARGUMENTS,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=pipes, close_fds=False, start_new_session=True,
            env=dict(os.environ, HOME=self.directory))
        os.close(to_child)
        os.close(from_child)
        targets = self.send('Target.getTargets')['targetInfos']
        page = next(t for t in targets if t['type'] == 'page')
        self.session = self.send('Target.attachToTarget', targetId=page['targetId'], flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(domain + '.enable')

    def receive(self, deadline):
        while b'\0' not in self.buffer:
            if not select.select([self.inp], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError('the browser does not answer')
            data = os.read(self.inp, 1 << 16)
            if not data:
                raise EOFError('the browser ended: ' + open(self.log.name, errors='replace').read()[-2000:])
            self.buffer += data
        message, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(message)

    def send(self, method, **params):
        self.next += 1
        message = {'id': self.next, 'method': method, 'params': params}
        if getattr(self, 'session', None):
            message['sessionId'] = self.session
        os.write(self.out, json.dumps(message).encode() + b'\0')
        deadline = time.monotonic() + 60
        while True:
            answer = self.receive(deadline)
            if answer.get('id') == self.next:
                assert 'error' not in answer, answer
                return answer['result']
            self.events.append(answer)

    def open(self, url):
        self.send('Page.navigate', url=url)

    def evaluate(self, expression):
        """The value of a JavaScript expression, which may be a promise."""
        result = self.send('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def wait(self, expression, seconds=20):
        """Waits in the page until the expression is true; what the page shows, if it never is."""
        found = self.evaluate('''new Promise(done => { const end = Date.now() + %d; (function look() { let value;
            try { value = %s; } catch (e) { value = null; }
            if (value || Date.now() > end) done(!!value); else setTimeout(look, 20); })(); })''' % (seconds * 1000, expression))
        assert found, 'not so: %s\n%s' % (expression, self.evaluate('document.body.innerText'))
        return found

    def complaints(self):
        """What the page logged as an error, threw, or was refused."""
        self.evaluate('1')
        found = []
        for event in self.events:
            method, params = event.get('method'), event.get('params', {})
            if method == 'Runtime.exceptionThrown':
                found.append(params['exceptionDetails'].get('exception', {}).get('description') or params['exceptionDetails']['text'])
            elif method == 'Log.entryAdded' and params['entry']['level'] == 'error':
                found.append('%s %s' % (params['entry']['text'], params['entry'].get('url', '')))
            elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'assert'):
                found.append(str(params['args']))
        return found

    def requests(self):
        return [e['params']['request']['url'] for e in self.events if e.get('method') == 'Network.requestWillBeSent']

    def screenshot(self, path, dark=False):
        import base64
        self.send('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        with open(path, 'wb') as out:
            out.write(base64.b64decode(self.send('Page.captureScreenshot', captureBeyondViewport=True)['data']))

    def close(self):
        self.session = None
        try:
            self.send('Browser.close')
        except (OSError, EOFError, TimeoutError, AssertionError):
            pass
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        os.close(self.inp)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
