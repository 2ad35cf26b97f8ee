"""The WLCG tape REST API, version 1, with its real client (gfal2, by its command line tools and its Python module), and with what
the compliance script of CTA does by curl. The tools' exit status says little: their output is read."""
import json
import os
import shutil
import subprocess
import threading
import zlib

import pytest

from archive_harness import archive, check_answer, shared		# noqa: F401
from harness import wait_for

DATA = b'ten bytes.' * 1000
ADLER = '%08x' % zlib.adler32(DATA)
needs_gfal = pytest.mark.skipif(not shutil.which('gfal-copy'), reason='needs gfal2-util-scripts, which scripts/setup.sh test installs')


def gfal(archive, tool, *args, want=0):
    done = subprocess.run(['gfal-' + tool] + [a.replace('URL', archive.url) for a in args], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, GFAL_PYTHONBIN='/usr/bin/python3', LC_ALL='C'))
    assert done.returncode == want or want is None, done
    return (done.stdout + done.stderr).replace(archive.url, 'URL').strip()


def curl(archive, method, path, body=None, *args):
    """(status, headers, text) as CTA's script has it: curl with its own content type, that of a form."""
    argv = ['curl', '-s', '-D', '-', '-X', method, archive.url + path] + list(args)
    if body is not None:
        argv += ['-d', body if isinstance(body, str) else json.dumps(body)]
    head, text = subprocess.run(argv, capture_output=True, timeout=60).stdout.split(b'\r\n\r\n', 1)
    if head.startswith(b'HTTP/1.1 100'):
        head, text = text.split(b'\r\n\r\n', 1)
    lines = head.decode().split('\r\n')
    headers = {k.lower(): v for k, v in (line.split(': ', 1) for line in lines[1:])}
    status = int(lines[0].split()[1])
    check_answer(method, path, status, headers.get('content-type', '').split(';')[0] or 'text/plain', text)
    return status, headers, text.decode()


def post(archive, path, body):
    status, _, text = curl(archive, 'POST', path, body)
    assert status in (200, 201), text
    return json.loads(text) if text else None


def stage(archive, *paths):
    return post(archive, '/api/v1/stage/', {'files': [{'path': p} for p in paths]})['requestId']


def poll(archive, request):
    status, _, text = curl(archive, 'GET', '/api/v1/stage/' + request)
    assert status == 200, text
    return json.loads(text)


def states(archive, request):
    return {f['path']: f['state'] for f in poll(archive, request)['files']}


# ---- gfal2 ---------------------------------------------------------------------------------------

@needs_gfal
def test_gfal_brings_a_file_online_copies_it_and_evicts_it(archive, tmp_path):
    archive.archived('dir/data', DATA)
    assert gfal(archive, 'xattr', 'URL/dir/data', 'user.status') == 'NEARLINE'
    assert gfal(archive, 'xattr', 'URL/dir/data', 'taperestapi.sitename') == 'mockarchive'
    assert '503' in gfal(archive, 'copy', '-f', 'URL/dir/data', 'file://%s/copy' % tmp_path, want=None)
    archive.act('cancel', '/dir/data')		# that reading started a recall
    assert 'QUEUED' in gfal(archive, 'bringonline', '--pin-lifetime', '3600', 'URL/dir/data')
    assert archive.state('/dir/data') == 'recalling'
    archive.settle()
    assert 'READY' in gfal(archive, 'archivepoll', 'URL/dir/data')
    assert gfal(archive, 'xattr', 'URL/dir/data', 'user.status') == 'ONLINE_AND_NEARLINE'
    gfal(archive, 'copy', '-f', '-K', 'adler32', 'URL/dir/data', 'file://%s/copy' % tmp_path)
    assert (tmp_path / 'copy').read_bytes() == DATA
    assert ADLER in gfal(archive, 'sum', 'URL/dir/data', 'adler32')
    gfal(archive, 'evict', 'URL/dir/data')
    assert archive.state('/dir/data') == 'released'
    assert gfal(archive, 'xattr', 'URL/dir/data', 'user.status') == 'NEARLINE'


@needs_gfal
def test_gfal_waits_for_a_recall_that_takes_its_time(archive):
    archive.archived('data', DATA)
    tool = threading.Thread(target=lambda: said.append(gfal(archive, 'bringonline', '--polling-timeout', '30', 'URL/data')))
    said = []
    tool.start()
    archive.wait('/data', 'recalling')
    archive.settle()
    tool.join()
    assert said[0].splitlines()[-1].endswith('READY'), said


@needs_gfal
def test_gfal_hears_what_failed(archive):
    archive.archived('data', DATA)
    archive.write('empty')
    with archive.fault(phase='recall.copy', path='data', errno='EIO'):
        tool = threading.Thread(target=lambda: said.append(gfal(archive, 'bringonline', '--polling-timeout', '30', 'URL/data', want=None)))
        said = []
        tool.start()
        archive.wait('/data', 'failed-recall')
        tool.join()
        assert 'FAILED' in said[0]
    assert 'FAILED' in gfal(archive, 'bringonline', '--polling-timeout', '10', 'URL/nosuch', want=None)
    assert 'FAILED' in gfal(archive, 'bringonline', '--polling-timeout', '10', 'URL/empty', want=None)
    archive.act('mend', '/data')
    archive.act('lose', '/data', copy='both')
    assert gfal(archive, 'xattr', 'URL/data', 'user.status', want=None) != 'NEARLINE'


@needs_gfal
def test_gfal_sees_a_corrupt_recall_by_its_checksum(archive, tmp_path):
    archive.archived('data', DATA)
    with archive.fault(phase='recall.copy', path='data', corrupt='flip') as fault:
        archive.act('recall', '/data')
        archive.settle()
        said = gfal(archive, 'copy', '-f', '-K', 'adler32', 'URL/data', 'file://%s/copy' % tmp_path, want=None)
        assert 'hecksum' in said and 'DONE' not in said
        assert fault.hits == 1
    archive.act('release', '/data', force=True)
    archive.act('recall', '/data')
    archive.settle()
    gfal(archive, 'copy', '-f', '-K', 'adler32', 'URL/data', 'file://%s/copy' % tmp_path)


@needs_gfal
def test_gfal_stores_lists_and_looks(archive, tmp_path):
    (tmp_path / 'in').write_bytes(DATA)
    os.mkdir(archive.path('dir'))
    gfal(archive, 'copy', '-f', '-K', 'adler32', 'file://%s/in' % tmp_path, 'URL/dir/a%20b')
    assert open(archive.path('dir/a b'), 'rb').read() == DATA
    archive.settle()
    assert archive.state('/dir/a b') == 'released'		# as if a program had written it
    assert gfal(archive, 'ls', 'URL/dir').splitlines() == ['a%20b']		# as it is in the URL
    assert gfal(archive, 'ls', '-l', 'URL/').split()[0].startswith('d')
    assert 'Size: %d' % len(DATA) in gfal(archive, 'stat', 'URL/dir/a%20b')


@needs_gfal
def test_the_python_module_stages_many_files_with_one_request(archive):
    for i in range(5):
        archive.write('f%d' % i, b'x%d' % i)
    archive.settle()
    script = '''
import gfal2, json, sys, time
ctx = gfal2.creat_context()
urls = [sys.argv[1] + '/f%d' % i for i in range(5)]
errors, token = ctx.bring_online(urls, 3600, 60, True)
print(json.dumps([str(token)] + [e.message if e else None for e in errors] if isinstance(errors, list) else [str(token)]), flush=True)
sys.stdin.readline()
errors = ctx.bring_online_poll(urls, token)
print(json.dumps([e.code if e else 0 for e in (errors if isinstance(errors, list) else [])]), flush=True)
'''
    client = subprocess.Popen(['/usr/bin/python3', '-c', script, archive.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        token = json.loads(client.stdout.readline())[0]
        assert set(states(archive, token).values()) == {'STARTED'} or 'SUBMITTED' in states(archive, token).values()
        archive.settle()
        assert set(states(archive, token).values()) == {'COMPLETED'}
        said, _ = client.communicate('\n', timeout=30)
        assert not [code for code in json.loads(said) if code]
    finally:
        client.kill()
        client.wait()
    assert all(archive.state('/f%d' % i) == 'dual' for i in range(5))


# ---- CTA's compliance script, by curl ---------------------------------------------------------------

def test_the_compliance_steps_of_cta(archive):
    """Slashes at the end, a form's content type, d0::t1 and d1::t1 as they come, cancel and delete with the drives down."""
    path = archive.write('cta/test', DATA)
    well_known = json.loads(curl(archive, 'GET', '/.well-known/wlcg-tape-rest-api')[2])
    assert well_known['sitename'] == 'mockarchive' and well_known['endpoints'][0] == {'uri': archive.url + '/api/v1', 'version': 'v1', 'metadata': {}}
    assert post(archive, '/api/v1/archiveinfo/', {'paths': ['/cta/test']}) == [{'path': '/cta/test', 'locality': 'DISK'}]
    archive.settle()
    assert post(archive, '/api/v1/archiveinfo/', {'paths': ['//cta/test']}) == [{'path': '/cta/test', 'locality': 'TAPE'}]
    status, headers, text = curl(archive, 'POST', '/api/v1/stage/', {'files': [{'path': '/cta/test', 'diskLifetime': 'PT1H', 'targetedMetadata': {
        'elsewhere': {'activity': 'x'}}}]})
    request = json.loads(text)['requestId']
    assert status == 201 and headers['location'] == '%s/api/v1/stage/%s' % (archive.url, request)
    assert states(archive, request) in ({'/cta/test': 'STARTED'}, {'/cta/test': 'SUBMITTED'})
    archive.settle()
    done = poll(archive, request)
    seen = archive.file(path)
    assert seen['pinned'] and seen['pin_until'] == pytest.approx(seen['recalled'] + 3600)
    assert done['files'][0]['state'] == 'COMPLETED' and done['completedAt'] >= done['createdAt']
    assert post(archive, '/api/v1/archiveinfo/', {'paths': ['/cta/test']}) == [{'path': '/cta/test', 'locality': 'DISK_AND_TAPE'}]
    assert post(archive, '/api/v1/release/' + request, {'paths': ['/cta/test']}) is None
    assert archive.state(path) == 'released'
    assert curl(archive, 'DELETE', '/api/v1/stage/' + request)[0] == 200
    assert curl(archive, 'GET', '/api/v1/stage/' + request)[0] == 404
    # Drives down: nothing can be done, so all can be taken back.
    for drive in archive.get('/v1/drives')['drives']:
        archive.request('PATCH', '/v1/drives/%d' % drive['number'], {'up': False})
    request = stage(archive, '/cta/test')
    assert states(archive, request) == {'/cta/test': 'SUBMITTED'}
    assert curl(archive, 'POST', '/api/v1/stage/%s/cancel/' % request, {'paths': ['/cta/test']})[0] == 200
    assert states(archive, request) == {'/cta/test': 'CANCELLED'} and archive.state(path) == 'released'
    request = stage(archive, '/cta/test')
    assert archive.state(path) == 'recalling'
    assert curl(archive, 'DELETE', '/api/v1/stage/' + request)[0] == 200
    assert archive.state(path) == 'released'


# ---- the letter of the specification ---------------------------------------------------------------

def test_errors_are_problems_and_change_nothing(archive):
    archive.archived('a', DATA)
    archive.archived('b', DATA)
    request = stage(archive, '/a')
    status, headers, text = curl(archive, 'POST', '/api/v1/stage/%s/cancel' % request, {'paths': ['/a', '/b']})
    assert (status, headers['content-type'], json.loads(text)['title']) == (400, 'application/problem+json', 'File missing from stage request')
    assert states(archive, request)['/a'] in ('STARTED', 'SUBMITTED')
    for body in ('{', '[]', '{}', '{"files": []}', '{"files": [{}]}', '{"files": [{"path": 5}]}', '{"files": [{"path": "/a", "diskLifetime": "1h"}]}',
                 '{"files": [{"path": "/../a"}]}'):
        status, headers, text = curl(archive, 'POST', '/api/v1/stage', body)
        assert (status, json.loads(text)['title']) == (400, 'JSON Validation error'), body
    for method, path in (('GET', '/api/v1/stage/nosuch'), ('DELETE', '/api/v1/stage/nosuch'), ('POST', '/api/v1/stage/nosuch/cancel')):
        status, _, text = curl(archive, method, path, {'paths': []} if method == 'POST' else None)
        assert (status, json.loads(text)['title']) == (404, 'Not found')
    assert curl(archive, 'POST', '/api/v1/release/gfal2-placeholder-id', {'paths': ['/a']})[0] == 200
    assert curl(archive, 'POST', '/api/v1/release/%s' % request, {'paths': ['/b']})[0] == 400
    assert curl(archive, 'POST', '/api/v1/archiveinfo', {'files': []})[0] == 400


def test_a_request_tells_each_file_s_fate(archive):
    archive.archived('tape', DATA)
    archive.archived('lost', DATA)
    archive.act('lose', '/lost', copy='both')
    archive.write('disk', DATA)
    archive.write('empty')
    os.mkdir(archive.path('dir'))
    request = stage(archive, '/tape', '/disk', '/lost', '/empty', '/dir', '/nosuch')
    files = {f['path']: f for f in poll(archive, request)['files']}
    assert files['/disk']['state'] == 'COMPLETED'		# not refused for being there
    assert {p for p, f in files.items() if f['state'] == 'FAILED'} == {'/lost', '/empty', '/dir', '/nosuch'}
    assert all(files[p]['error'] for p in ('/lost', '/empty', '/dir', '/nosuch'))
    assert 'completedAt' not in poll(archive, request)
    archive.settle()
    assert states(archive, request)['/tape'] == 'COMPLETED' and 'completedAt' in poll(archive, request)
    info = {i['path']: i.get('locality', 'error') for i in post(archive, '/api/v1/archiveinfo', {'paths': ['/' + n for n in (
        'tape', 'disk', 'lost', 'empty', 'dir', 'nosuch')]})}
    assert info == {'/tape': 'DISK_AND_TAPE', '/disk': 'TAPE', '/lost': 'LOST', '/empty': 'NONE', '/dir': 'error', '/nosuch': 'error'}
    archive.act('unavailable', '/disk')
    assert post(archive, '/api/v1/archiveinfo', {'paths': ['/disk']})[0]['locality'] == 'UNAVAILABLE'


def test_a_reset_forgets_requests(archive):
    archive.archived('a', DATA)
    request = stage(archive, '/a')
    archive.post('/v1/reset', {'what': ['faults']})
    assert poll(archive, request)['id'] == request
    archive.post('/v1/reset', {'what': ['files']})
    assert curl(archive, 'GET', '/api/v1/stage/' + request)[0] == 404


def test_two_requests_for_one_file_and_one_is_cancelled(archive):
    archive.archived('a', DATA)
    one, two = stage(archive, '/a'), stage(archive, '/a')
    assert curl(archive, 'DELETE', '/api/v1/stage/' + one)[0] == 200
    assert archive.state('/a') == 'recalling'
    archive.settle()
    assert states(archive, two) == {'/a': 'COMPLETED'}


def test_a_full_queue_refuses_no_stage_request(archive):
    for i in range(8):
        archive.write('f%d' % i, DATA)
    archive.settle()
    archive.request('PATCH', '/v1/settings', {'drives': 1, 'queue.limit': 2})
    request = stage(archive, *['/f%d' % i for i in range(8)])

    def all_done():
        archive.settle()
        return set(states(archive, request).values()) == {'COMPLETED'}
    wait_for('all to come', all_done)


def test_many_thousand_paths_are_never_too_many(archive):
    archive.archived('a', DATA)
    paths = ['/a'] + ['/none/%d' % i for i in range(20000)]
    status, _, text = archive.raw('POST', '/api/v1/archiveinfo', {'paths': paths})
    assert status == 200 and len(json.loads(text)) == 20001
    status, _, text = archive.raw('POST', '/api/v1/stage', {'files': [{'path': p} for p in paths]})
    assert status == 201
    assert archive.status_of('DELETE', '/api/v1/stage/' + json.loads(text)['requestId']) == 200


# ---- the data path ----------------------------------------------------------------------------------

def test_the_data_path_has_ranges_sums_and_dates(archive):
    path = archive.archived('a', DATA)
    status, headers, _ = curl(archive, 'GET', '/a')
    assert status == 503 and headers['retry-after'] == '1' and archive.state(path) == 'recalling'
    archive.settle()
    status, headers, text = curl(archive, 'GET', '/a', None, '-H', 'Want-Digest: adler32')
    assert (status, text.encode(), headers['digest']) == (200, DATA, 'adler32=' + ADLER) and headers['etag'] and headers['last-modified']
    for given, want in (('0-9', DATA[:10]), ('9990-', DATA[9990:]), ('-5', DATA[-5:]), ('9999-20000', DATA[9999:])):
        status, headers, text = curl(archive, 'GET', '/a', None, '-H', 'Range: bytes=' + given)
        assert (status, text.encode()) == (206, want), given
        assert headers['content-range'].endswith('/10000')
    assert curl(archive, 'GET', '/a', None, '-H', 'Range: bytes=10000-')[0] == 416
    status, headers, _ = archive.raw('HEAD', '/a')
    assert (status, headers['Content-Length']) == (200, '10000')
    assert curl(archive, 'GET', '/nosuch')[0] == 404
    assert curl(archive, 'DELETE', '/a')[0] == 405 and os.path.exists(path)


def test_a_big_file_is_sent_piece_by_piece(archive):
    path = archive.path('big')
    with open(path, 'wb') as out:
        for i in range(48):
            out.write(bytes([i]) * (1 << 20))
    done = subprocess.run(['curl', '-s', archive.url + '/big'], capture_output=True, timeout=60)
    assert len(done.stdout) == 48 << 20 and done.stdout[5 << 20] == 5 and zlib.crc32(done.stdout) == zlib.crc32(open(path, 'rb').read())


# ---- faults of the endpoints -------------------------------------------------------------------------

def test_every_rest_fault_fires_and_is_cleared(archive):
    archive.archived('a', DATA)
    request = stage(archive, '/a')

    def ask(method='GET', path='/api/v1/stage/' + request, body=None):
        return archive.raw(method, path, body)

    with archive.fault(op='rest.status', http_status=500) as fault:
        assert ask()[0] == 500 and fault.hits == 1
    with archive.fault(op='rest.*', http_status=503, first=2) as fault:
        assert [ask()[0] for _ in range(3)] == [503, 503, 200]
        assert fault.hits == 2
    for kind, check in (
            ('wrong-id', lambda text: json.loads(text)['id'] != request),
            ('missing-path', lambda text: json.loads(text)['files'] == [])):
        with archive.fault(op='rest.status', rest=kind) as fault:
            assert check(ask()[2]) and fault.hits == 1, kind
    with archive.fault(op='rest.status', rest='expired') as fault:
        assert ask()[0] == 404 and fault.hits == 1
    # What breaks the description is asked past its check.
    for kind in ('bad-json', 'empty', 'drop'):
        with archive.fault(op='rest.status', rest=kind) as fault:
            done = subprocess.run(['curl', '-s', archive.url + '/api/v1/stage/' + request], capture_output=True, timeout=20)
            assert (done.returncode != 0) if kind == 'drop' else (done.returncode == 0), kind
            with pytest.raises(ValueError):
                json.loads(done.stdout)
            assert fault.hits == 1
    assert curl(archive, 'POST', '/api/v1/stage/%s/cancel' % request, {'paths': ['/a']})[0] == 200
    with archive.fault(op='rest.status', rest='canceled') as fault:
        done = subprocess.run(['curl', '-s', archive.url + '/api/v1/stage/' + request], capture_output=True, timeout=20)
        assert json.loads(done.stdout)['files'][0]['state'] == 'CANCELED'
    assert states(archive, request) == {'/a': 'CANCELLED'}


def test_an_endpoint_hangs_until_it_is_cleared(archive):
    with archive.fault(op='rest.archiveinfo', hang='killable') as fault:
        client = subprocess.Popen(['curl', '-s', '-d', '{"paths": ["/x"]}', archive.url + '/api/v1/archiveinfo'], stdout=subprocess.PIPE)
        fault.wait()
        assert client.poll() is None and archive.get('/healthz')['status'] == 'ok'
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(0.3)
    assert json.loads(client.communicate(timeout=20)[0])[0]['path'] == '/x'


@needs_gfal
def test_gfal_knows_one_spelling_of_cancelled_only(archive):
    """gfal2 2.21 reads the American one; that of the specification is news to it."""
    archive.archived('a', DATA)
    said = {}
    for kind in ('cancelled', 'canceled'):
        tool = threading.Thread(target=lambda k=kind: said.update({k: gfal(archive, 'bringonline', '--polling-timeout', '20', 'URL/a', want=None)}))
        rule = archive.post('/v1/faults', {'match': {'op': 'rest.status'}, 'do': {'rest': 'canceled'}}) if kind == 'canceled' else None
        tool.start()
        archive.wait('/a', 'recalling')
        archive.act('cancel', '/a')
        tool.join()
        if rule:
            archive.request('DELETE', '/v1/faults/' + rule['id'])
    assert 'nrecognized' in said['cancelled'] and 'nrecognized' not in said['canceled'], said


@pytest.mark.parametrize('do, check', [
    ({'http_status': 503}, lambda done, out: b'503' in done.stdout + done.stderr),
    ({'corrupt': {'how': 'flip', 'offset': 5}}, lambda done, out: out != DATA and len(out) == len(DATA)),
    ({'rest': 'drop'}, lambda done, out: done.returncode != 0)])
def test_the_data_path_misbehaves(archive, do, check, tmp_path):
    archive.write('a', DATA)
    target = tmp_path / 'out'
    with archive.fault(op='dav.get', path='a', **do) as fault:
        done = subprocess.run(['curl', '-s', '-w', '%{http_code}', '-o', str(target), archive.url + '/a'], capture_output=True, timeout=20)
        assert check(done, target.read_bytes() if target.exists() else b'')
        assert fault.hits == 1
    assert subprocess.run(['curl', '-sf', archive.url + '/a'], capture_output=True, timeout=20).stdout == DATA


def test_the_data_path_is_slow(archive):
    archive.write('a', b'x' * 4000)
    with archive.fault(op='dav.get', path='a', rate=10000) as fault:
        done = subprocess.run(['curl', '-sf', '-w', '%{time_total}', '-o', '/dev/null', archive.url + '/a'], capture_output=True, text=True, timeout=20)
        assert float(done.stdout) > 0.25 and fault.hits == 1
