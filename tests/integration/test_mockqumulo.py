"""mockqumulo: the stand-in for a cluster keeps to the documents. curl is the foreign client, with the requests as the documents write
them; Python's http.client does the rest."""
import json
import os
import re
import subprocess
import time

import pytest

import qumulo
from qumulo_harness import HOUR, UNTIL, curl, mock, tree		# noqa: F401


# ---- what the documents say, with curl ----

def test_curl_logs_in_and_locks_a_file_as_the_documents_write_it(mock):
    credentials = json.dumps({'username': mock.user, 'password': mock.password})
    status, body = curl(mock, '-X', 'POST', '-H', 'Content-Type: application/json', '-d', credentials,
                        mock.url + '/v1/session/login', token=False)
    assert status == 200
    bearer = json.loads(body)['bearer_token']
    header = ['-H', 'Authorization: Bearer ' + bearer]
    status, body = curl(mock, *header, mock.url + '/v1/session/who-am-i', token=False)
    assert status == 200 and 'PRIVILEGE_FS_FILE_LOCK_WRITE' in json.loads(body)['privileges']
    status, body = curl(mock, *header, mock.url + '/v1/files/%2Ff/info/attributes?retrieve-file-lock=true', token=False)
    assert status == 200 and json.loads(body)['lock'] == {'legal_hold': False, 'retention_period': None}
    status, body = curl(mock, *header, '-X', 'PATCH', '-H', 'Content-Type: application/json',
                        '-d', json.dumps({'retention_period': UNTIL}), mock.url + '/v1/files/%2Ff/file-lock', token=False)
    assert status == 200 and json.loads(body)['lock'] == {'legal_hold': False, 'retention_period': UNTIL}
    assert mock.counts() == {'POST /v1/session/login 200': 1, 'GET /v1/session/who-am-i 200': 1,
                             'GET /v1/files/{ref}/info/attributes 200': 1, 'PATCH /v1/files/{ref}/file-lock 200': 1}


def test_the_same_is_served_below_api(mock):
    status, body = curl(mock, mock.url + '/api/v1/files/%2Ff/info/attributes')
    assert status == 200 and json.loads(body)['path'] == '/f'


def test_the_version_needs_no_login(mock):
    status, body = curl(mock, '-H', 'Content-Length: 0', mock.url + '/v1/version', token=False)	# as the SDK sends it
    assert status == 200 and json.loads(body)['revision_id'].startswith('Qumulo Core 7.')


def test_its_certificate_is_refused_without_its_ca_file(mock):
    out = subprocess.run(['curl', '-sS', mock.url + '/v1/version'], capture_output=True, text=True, timeout=30)
    assert out.returncode == 60, out.stderr


def test_plain_http_and_a_unix_socket(mockqumulo, tmp_path):
    plain = mockqumulo(http=True)
    assert plain.url.startswith('http://') and plain.ca_file is None
    assert plain.get('/v1/version', token=None).status == 200
    path = str(tmp_path / 'socket')
    mockqumulo('--listen', 'unix:' + path, http=True)
    out = subprocess.run(['curl', '-sS', '--unix-socket', path, 'http://x/v1/version'], capture_output=True, text=True, timeout=30)
    assert json.loads(out.stdout)['revision_id']


def test_an_address_that_others_can_reach_is_refused_unless_told():
    out = subprocess.run([qumulo.MOCKQUMULO, '--listen', '0.0.0.0:0'], capture_output=True, text=True, timeout=30)
    assert out.returncode == 2 and '--allow-remote' in out.stderr and out.stderr.count('\n') == 1


def test_the_help_says_what_it_is_and_what_is_guessed():
    out = subprocess.run([qumulo.MOCKQUMULO, '--help'], capture_output=True, text=True, timeout=30)
    assert out.returncode == 0
    for text in 'stand-in', 'never compared with a cluster', 'guess', 'HTTP/1.1 only', 'shorten=', 'past-end=':
        assert text in out.stdout, text


def test_the_man_page_has_every_option_and_every_switch(mock):
    page = open(os.path.join(os.path.dirname(__file__), '..', '..', 'docs', 'mockqumulo.1')).read()
    out = subprocess.run([qumulo.MOCKQUMULO, '--help'], capture_output=True, text=True, timeout=30).stdout
    for option in re.findall(r'^  --([a-z-]+)', out, re.M):
        assert option == 'help' or '.It Fl -' + option in page or ', Fl -' + option in page, option
    for name, value in mock.control('GET', 'switches').items():
        text = page.partition('.It Cm %s Ns' % name)[2].partition('.It ')[0]
        assert 'Unless set: %s.' % value in text, name


def test_attributes_have_the_documents_keys(mock):
    a = mock.attributes('/f', lock=False)
    assert set(a.json) == {
        'path', 'name', 'num_links', 'type', 'major_minor_numbers', 'symlink_target_type', 'file_number', 'id', 'mode', 'owner',
        'owner_details', 'group', 'group_details', 'blocks', 'datablocks', 'metablocks', 'size', 'access_time', 'modification_time',
        'change_time', 'creation_time', 'child_count', 'extended_attributes', 'directory_entry_hash_policy', 'data_revision',
        'user_metadata_revision'}
    assert (a.json['path'], a.json['size'], a.json['mode'], a.json['type']) == ('/f', '4', '0644', 'FS_FILE_TYPE_FILE')
    assert a.headers['ETag'].startswith('"') and a.headers['Date'].endswith(' GMT')
    assert 'lock' in mock.get('/v1/files/%2Ff/info/attributes?retrieve-file-lock=True').json	# as the SDK writes it


# ---- references ----

def test_a_file_is_named_by_its_path_or_its_id(mock, tree):
    (tree / 'a').mkdir()
    (tree / 'a' / 'b c.txt').write_text('x')
    by_path = mock.get('/v1/files/%2Fa%2Fb%20c.txt/info/attributes')
    assert by_path.status == 200 and by_path.json['path'] == '/a/b c.txt'
    assert by_path.json['id'] == str(os.stat(tree / 'a' / 'b c.txt').st_ino)
    by_id = mock.get('/v1/files/%s/info/attributes' % by_path.json['id'])
    assert by_id.json['path'] == '/a/b c.txt'
    for wrong in 'a%2Fb%20c.txt', 'a/b%20c.txt', '/a/b%20c.txt', '%2Fa%2Fb+c.txt', '%2Fa%2F..%2Ff', '%2Fa%2Fb%20c.txt%2Fx', '%2Fnone%2Fx':
        reply = mock.get('/v1/files/%s/info/attributes' % wrong)
        assert reply.status == 404, (wrong, reply)
    assert mock.get('/v1/files/%2Ff%FF/info/attributes').status == 400
    assert mock.get('/v1/files/%2Ff/file-lock').status == 405
    mock.switch(plus='space')
    assert mock.get('/v1/files/%2Fa%2Fb+c.txt/info/attributes').status == 200


def test_an_id_is_found_after_a_rename_and_gone_after_a_deletion(mock, tree):
    (tree / 'd').mkdir()
    inode = os.stat(tree / 'f').st_ino
    os.rename(tree / 'f', tree / 'd' / 'g')		# the stand-in has never heard of it
    assert mock.get('/v1/files/%d/info/attributes' % inode).json['path'] == '/d/g'
    reply = mock.request('POST', '/v1/files/resolve', [str(inode)])
    assert reply.json == [{'id': str(inode), 'path': '/d/g'}]
    os.unlink(tree / 'd' / 'g')
    reply = mock.get('/v1/files/%d/info/attributes' % inode)
    assert (reply.status, reply.error_class) == (404, 'fs_no_such_inode_error')
    root = str(os.stat(tree).st_ino)
    reply = mock.request('POST', '/v1/files/try-resolve', {'ids': [str(inode), root]})
    assert reply.json == {'available': [{'id': root, 'path': '/'}], 'unavailable': [], 'deleted': [str(inode)]}


def test_ids_of_its_own_begin_with_the_root(mockqumulo, tree):
    (tree / 'f').write_text('x')
    mock = mockqumulo('--ids', 'own', tree=str(tree))
    assert mock.get('/v1/files/2/info/attributes').json['path'] == '/'
    number = mock.attributes('/f').json['id']
    assert number != str(os.stat(tree / 'f').st_ino)
    assert mock.get('/v1/files/%s/info/attributes' % number).json['path'] == '/f'
    assert mock.get('/v1/files/999/info/attributes').status == 404


def test_a_symbolic_link_is_not_followed(mock, tree):
    os.symlink('/etc', tree / 'out')
    assert mock.attributes('/out').json['type'] == 'FS_FILE_TYPE_SYMLINK'
    assert mock.attributes('/out/passwd').status == 404
    assert mock.lock('/out', legal_hold=True).error_class == 'fs_invalid_file_type_error'


def test_a_name_that_is_not_utf_8_is_an_error_and_in_no_listing(mock, tree):
    name = os.path.join(os.fsencode(tree), b'\xff')
    with open(name, 'w') as f:
        f.write('x')
    assert mock.get('/v1/files/%d/info/attributes' % os.stat(name).st_ino).status == 500
    assert [f['name'] for f in mock.entries('/').json['files']] == ['f']


# ---- who may ----

def test_without_a_valid_token_there_is_401(mock):
    for token in (None, 'access-v1:nonsense', '1:ffff', '1:0000' + '00' * 22):
        reply = mock.get('/v1/session/who-am-i', token=token)
        assert (reply.status, reply.error_class) == (401, 'http_unauthorized_error')
    assert mock.request('POST', '/v1/session/login', {'username': mock.user, 'password': 'x'}, token=None).status == 401
    assert mock.request('POST', '/v1/session/login', b'{}', token=None).status == 400
    mock.switch(unauthorized_body='empty')
    assert mock.get('/v1/session/who-am-i', token=None).body == b''


def test_a_login_expires_on_command_and_by_the_clock(mock):
    bearer = mock.login()
    assert mock.get('/v1/session/who-am-i', token=bearer).status == 200
    mock.expire_sessions()
    assert mock.get('/v1/session/who-am-i', token=bearer).status == 401
    assert mock.get('/v1/session/who-am-i').status == 200		# the access token stays
    bearer = mock.login()
    mock.clock(advance_s=10 * HOUR - 60)
    assert mock.get('/v1/session/who-am-i', token=bearer).status == 200
    mock.clock(advance_s=60)
    assert mock.get('/v1/session/who-am-i', token=bearer).status == 401
    mock.expire_sessions(tokens=True)
    assert mock.get('/v1/session/who-am-i').status == 401


def test_a_privilege_is_asked_for_and_counts_from_the_next_login(mock):
    bearer = mock.login()
    mock.switch(privilege='no')
    reply = mock.lock('/f', legal_hold=True)
    assert (reply.status, reply.error_class) == (403, 'http_unauthorized_error')
    lock = '/v1/files/%2Ff/file-lock'
    assert mock.request('PATCH', lock, {'legal_hold': True}, token=bearer).status == 200
    assert mock.request('PATCH', lock, {'legal_hold': True}, token=mock.login()).status == 403
    mock.switch(role_change='now')
    assert mock.request('PATCH', lock, {'legal_hold': True}, token=bearer).status == 403
    mock.switch(privilege='yes', acl='read')
    assert mock.lock('/f', legal_hold=True).error_class == 'fs_access_denied_error'
    assert mock.attributes('/f').json['lock']['legal_hold'] is True
    mock.switch(acl='none')
    assert mock.attributes('/f').status == 403


# ---- listing and making ----

def test_entries_come_in_pages(mock, tree):
    names = sorted(['f'] + ['n%03d' % i for i in range(25)])
    for name in names[1:]:
        (tree / name).write_text('')
    found, pages, target = [], 0, '/v1/files/%2F/entries/?limit=10'
    while target:
        page = mock.get(target).json
        assert page['child_count'] == 26 and page['path'] == '/' and len(page['files']) <= 10
        found += [f['name'] for f in page['files']]
        pages, target = pages + 1, page['paging']['next']
    assert (found, pages) == (names, 3)
    assert [f['path'] for f in mock.entries('/', '?after=n022').json['files']] == ['/n023', '/n024']
    mock.switch(last_page='absent', page_max=5)
    assert len(mock.entries('/').json['files']) == 5
    assert mock.entries('/', '?after=n022').json['paging'] == {}
    assert mock.entries('/', '?limit=x').status == 400
    assert mock.get('/v1/files/%2F/entries').status == 404


def test_files_are_made_renamed_written_and_deleted(mock, tree):
    assert mock.make('/', 'd', 'CREATE_DIRECTORY').json['type'] == 'FS_FILE_TYPE_DIRECTORY'
    made = mock.make('/d', 'new')
    assert made.json['path'] == '/d/new' and made.json['size'] == '0'
    assert mock.make('/d', 'new').error_class == 'fs_entry_exists_error'
    assert mock.request('POST', '/v1/files/%2Fd/entries', {'name': 'x', 'action': 'CREATE_FILE'}).status == 404	# no slash
    assert mock.make('/d', '../x').status == 400
    assert mock.make('/d', 'new', 'EXPLODE').status == 400
    target = '/v1/files/%s/data' % made.json['id']
    assert mock.request('PUT', target, b'0123456789').json['size'] == '10'
    assert mock.request('PUT', target + '?offset=8', b'xyz').json['size'] == '11'
    assert mock.get(target + '?offset=6&length=4').body == b'67xy'
    assert mock.make('/', 'moved', 'RENAME', old_path='/d/new').json['id'] == made.json['id']
    assert mock.make('/', 'moved', 'RENAME', old_path='/f').status == 409
    assert mock.make('/', 'moved', 'RENAME', old_path='/f', clobber=True).status == 200
    assert (tree / 'moved').read_text() == 'data'
    assert mock.request('DELETE', '/v1/files/%2F/entries/d').status == 200
    assert sorted(os.listdir(tree)) == ['moved']


def test_files_that_are_asked_for_can_be_invented(mockqumulo):
    mock = mockqumulo('--set', 'invent=yes')
    assert mock.lock('/a/b/c', legal_hold=True).status == 200
    assert mock.locks() == {'/a/b/c': {'legal_hold': True, 'retention_period': None}}


# ---- the journal ----

def test_the_journal_tells_every_request_and_no_secret(mock):
    bearer = mock.login()
    mock.get('/v1/session/who-am-i', token=bearer)
    mock.get('/v1/files/%2fno%20such/info/attributes?retrieve-file-lock=True', headers={'X-Test': 'yes'})
    other = mock.connect()
    mock.request('PATCH', '/v1/files/%2Ff/file-lock', b'{"legal_hold":true}', connection=other)
    other.close()
    login, who, attributes, lock = mock.journal()
    assert json.loads(login['body']) == {'username': mock.user, 'password': '***'}
    assert who['headers']['Authorization'] == '***'
    assert (attributes['path'], attributes['query']) == ('/v1/files/%2fno%20such/info/attributes', 'retrieve-file-lock=True')
    assert (attributes['status'], attributes['error_class'], attributes['headers']['X-Test']) == (404, 'fs_no_such_entry_error', 'yes')
    assert lock['body'] == '{"legal_hold":true}'
    assert login['connection'] == attributes['connection'] != lock['connection']
    assert [e['number'] for e in mock.journal()] == [0, 1, 2, 3]
    assert [e['method'] for e in mock.journal('PATCH')] == ['PATCH']
    assert [e['number'] for e in mock.journal(path='%2fno', since=1)] == [2]
    text = json.dumps(mock.journal())
    for secret in mock.password, mock.token, bearer:
        assert secret not in text
    mock.reset_journal()
    assert mock.journal() == [] and mock.counts() == {}


def test_the_journal_is_bounded_and_says_what_it_lost(mockqumulo):
    mock = mockqumulo('--journal', '10')
    for i in range(25):
        mock.get('/v1/version')
    reply = mock.control('GET', 'journal')
    assert (reply['first'], reply['next'], len(reply['requests'])) == (15, 25, 10)
    assert mock.counts() == {'GET /v1/version 200': 25}


def test_latency_is_for_each_reply_and_served_in_parallel(mockqumulo, tree):
    mock = mockqumulo('--latency', '300', tree=str(tree))
    connections = [mock.connect() for _ in range(50)]
    start = time.monotonic()
    for c in connections:
        c.request('GET', '/v1/version')
    sent = time.monotonic()
    for c in connections:
        assert c.getresponse().status == 200
        c.close()
    assert sent - start < 10 and 0.29 < time.monotonic() - start < 10	# one by one it were 15 s


def test_a_body_that_is_too_large_is_refused_by_name(mock, tmp_path):
    (tmp_path / 'big').write_bytes(b'x' * ((16 << 20) + 1))
    status, body = curl(mock, '-T', str(tmp_path / 'big'), mock.url + '/v1/files/%2Ff/data')	# it asks first: Expect: 100-continue
    assert status == 413 and json.loads(body)['limit_bytes'] == 16 << 20
    assert mock.attributes('/f').json['size'] == '4'


def test_the_longest_path_there_is_fits_into_a_request(mock):
    path = '/' + '/'.join(['%20' * 100] * 320)
    assert len(path) < 32760 * 3
    assert mock.get('/v1/files/%s/info/attributes' % path.replace('/', '%2F')).status == 404


# ---- the process ----

def test_nothing_is_left_of_it(mockqumulo):
    mock = mockqumulo()
    places = os.path.dirname(mock.token_file), mock.tree
    assert all(os.path.isdir(p) for p in places)
    assert os.stat(mock.token_file).st_mode & 0o777 == 0o600 and os.stat(mock.password_file).st_mode & 0o777 == 0o600
    mock.end()
    assert not any(os.path.exists(p) for p in places)
    mock = mockqumulo()
    places = os.path.dirname(mock.token_file), mock.tree
    mock.kill()
    mockqumulo()		# the next one takes away what a killed one left
    assert not any(os.path.exists(p) for p in places)


@pytest.mark.parametrize('args, says', [
    (['--set', 'x=1'], 'no such switch'), (['--set', 'shorten=perhaps'], 'STATUS'), (['--set', 'x'], 'NAME=VALUE'),
    (['--clock', 'noon'], 'a time like'), (['--ids', 'x'], 'inode or own'), (['--tree', '/none'], 'No such file'), (['x'], '--help'),
    (['--journal', '0'], 'a number'), (['--latency', '-1'], 'milliseconds'), (['--listen', 'localhost'], 'cannot listen')])
def test_a_wrong_command_line_is_said_in_one_line(args, says):
    out = subprocess.run([qumulo.MOCKQUMULO] + args, capture_output=True, text=True, timeout=30)
    assert out.returncode == 2 and says in out.stderr and out.stderr.count('\n') == 1, out.stderr


def test_a_password_that_others_can_read_is_refused(tmp_path):
    secret = tmp_path / 'password'
    secret.write_text('secret\n')
    os.chmod(secret, 0o644)
    out = subprocess.run([qumulo.MOCKQUMULO, '--password-file', str(secret)], capture_output=True, text=True, timeout=30)
    assert out.returncode == 2 and 'chmod 600' in out.stderr and 'secret\n' not in out.stderr
