"""mockqumulo: the stand-in for a cluster keeps to the documents, and misbehaves as it is told. curl is the foreign client, with the
requests as the documents write them; Python's http.client does the rest."""
import http.client
import json
import os
import re
import subprocess
import time

import pytest

import qumulo
from qumulo import ref

UNTIL, LATER = '2030-01-02T03:04:05Z', '2031-01-02T03:04:05Z'
HOUR = 3600


def curl(mock, *args, token=True):
    """Status and body."""
    command = ['curl', '--silent', '--show-error', '--cacert', mock.ca_file, '--max-time', '20', '--write-out', '\n%{http_code}']
    if token:
        command += ['--oauth2-bearer', mock.token]
    out = subprocess.run(command + list(args), capture_output=True, text=True, timeout=30)
    assert out.returncode == 0, out.stderr
    body, status = out.stdout.rsplit('\n', 1)
    return int(status), body


@pytest.fixture
def tree(tmp_path):
    d = tmp_path / 'tree'
    d.mkdir()
    return d


@pytest.fixture
def mock(mockqumulo, tree):
    """A stand-in over `tree`, which holds a file /f."""
    (tree / 'f').write_text('data')
    return mockqumulo(tree=str(tree))


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


# ---- the lock, and what it guards ----

def test_a_lock_keeps_what_it_was_not_told_to_change(mock):
    assert mock.lock('/f', retention_period=UNTIL).json['lock'] == {'legal_hold': False, 'retention_period': UNTIL}
    assert mock.lock('/f', legal_hold=True).json['lock'] == {'legal_hold': True, 'retention_period': UNTIL}
    assert mock.lock('/f', legal_hold=False).json['lock'] == {'legal_hold': False, 'retention_period': UNTIL}
    assert mock.lock('/f', retention_period=LATER, legal_hold=True).json['lock'] == {'legal_hold': True, 'retention_period': LATER}
    reply = mock.lock('/f', retention_period=UNTIL)
    assert 400 <= reply.status < 500
    assert mock.locks() == {'/f': {'legal_hold': True, 'retention_period': LATER}}
    assert mock.lock('/none', legal_hold=True).error_class == 'fs_no_such_entry_error'
    assert mock.lock('/', legal_hold=True).error_class == 'fs_invalid_file_type_error'


def test_a_locked_file_is_not_changed_over_the_interface_until_its_end(mock, tree):
    mock.clock(now='2029-01-01T00:00:00Z')
    mock.lock('/f', retention_period='2029-01-02T00:00:00Z')

    def changes():
        return [mock.request('PUT', '/v1/files/%2Ff/data', b'new').status,
                mock.request('PUT', '/v1/files/%2Ff/data?offset=2', b'new').status,
                mock.request('PATCH', '/v1/files/%2Ff/info/attributes', {'mode': '0600'}).status,
                mock.request('PATCH', '/v1/files/%2Ff/info/attributes', {'size': '0'}).status]
    assert changes() == [403] * 4
    assert mock.request('DELETE', '/v1/files/%2Ff').error_class == 'fs_read_only_error'
    assert mock.request('DELETE', '/v1/files/%2F/entries/f').error_class == 'fs_read_only_error'
    (tree / 'g').write_text('x')
    assert mock.make('/', 'f', 'RENAME', old_path='/g', clobber=True).error_class == 'fs_read_only_error'
    assert (tree / 'f').read_text() == 'data'
    mock.clock(advance_s=24 * HOUR)
    assert changes() == [200] * 4
    mock.lock('/f', legal_hold=True)
    assert changes() == [403] * 4
    mock.lock('/f', legal_hold=False)
    assert mock.request('DELETE', '/v1/files/%2Ff').status == 200
    assert not (tree / 'f').exists()


def test_only_the_last_name_of_a_locked_file_is_guarded(mock, tree):
    mock.lock('/f', legal_hold=True)
    assert mock.make('/', 'g', 'CREATE_LINK', old_path='/f').status == 200
    assert mock.attributes('/f').json['num_links'] == 2
    assert mock.request('DELETE', '/v1/files/%2Ff').status == 200
    assert mock.attributes('/g').json['lock']['legal_hold'] is True
    assert mock.request('DELETE', '/v1/files/%2Fg').status == 403
    mock.switch(link_locked='403:fs_read_only_error', rename_locked='403:fs_read_only_error')
    assert mock.make('/', 'h', 'CREATE_LINK', old_path='/g').status == 403
    assert mock.make('/', 'h', 'RENAME', old_path='/g').status == 403
    mock.switch(rename_locked='ok')
    assert mock.make('/', 'h', 'RENAME', old_path='/g').status == 200
    assert mock.attributes('/h').json['lock']['legal_hold'] is True


def test_a_new_file_in_the_place_of_a_deleted_one_has_no_lock(mock, tree):
    mock.lock('/f', retention_period=UNTIL)
    for _ in range(50):			# until an inode number comes back, where the filesystem does that
        os.unlink(tree / 'f')
        (tree / 'f').write_text('new')
        assert mock.attributes('/f').json['lock'] == {'legal_hold': False, 'retention_period': None}
        mock.lock('/f', retention_period=UNTIL)


def test_an_etag_is_one_version_of_a_file(mock, tree):
    etag = mock.attributes('/f').headers['ETag']
    assert mock.lock('/f', legal_hold=True, headers={'If-Match': etag}).status == 200
    reply = mock.lock('/f', legal_hold=True, headers={'If-Match': etag})
    assert (reply.status, reply.error_class) == (412, 'rest_precondition_failed_error')
    mock.switch(etag='data')
    etag = mock.attributes('/f').headers['ETag']
    for _ in range(2):			# a lock does not change the data
        assert mock.lock('/f', legal_hold=True, headers={'If-Match': etag.strip('"')}).status == 200
    os.utime(tree / 'f')
    assert mock.lock('/f', legal_hold=True, headers={'If-Match': etag}).status == 412
    mock.switch(etag='read')
    assert mock.attributes('/f').headers['ETag'] != mock.attributes('/f').headers['ETag']
    mock.switch(etag='none')
    assert 'ETag' not in mock.attributes('/f').headers


def test_every_unconfirmed_answer_has_its_switch(mock):
    mock.lock('/f', retention_period=UNTIL)
    mock.switch(shorten='409:fs_already_read_only_error', same_end='409', date='no', lock_unasked='null')
    reply = mock.lock('/f', retention_period='2029-01-01T00:00:00Z')
    assert (reply.status, reply.error_class) == (409, 'fs_already_read_only_error')
    assert mock.lock('/f', retention_period=UNTIL).status == 409
    reply = mock.attributes('/f', lock=False)
    assert 'Date' not in reply.headers and reply.json['lock'] is None
    mock.switch(read_only='409:fs_already_read_only_error')
    assert mock.request('DELETE', '/v1/files/%2Ff').status == 409
    mock.clock(now='2030-06-01T00:00:00Z')
    assert mock.attributes('/f').json['lock']['retention_period'] == UNTIL
    mock.switch(expired='null')
    assert mock.attributes('/f').json['lock']['retention_period'] is None
    assert mock.lock('/f', retention_period='2030-05-01T00:00:00Z').status == 400
    mock.switch(past_end='ok', expired='shown')
    assert mock.lock('/f', retention_period='2030-05-01T00:00:00Z').json['lock']['retention_period'] == '2030-05-01T00:00:00Z'
    reply = mock.request('PUT', '/mock/switches', {'shorten': 'maybe'}, token=None)
    assert reply.status == 400 and 'STATUS' in reply.json['description']
    for name, value in mock.control('GET', 'switches').items():
        mock.control('PUT', 'switches', {name: value})


def test_a_clock_that_stands_is_exact(mock):
    mock.clock(now=UNTIL, frozen=True)
    assert mock.attributes('/f').headers['Date'] == 'Wed, 02 Jan 2030 03:04:05 GMT'
    assert mock.lock('/f', retention_period=UNTIL).status == 400		# not a second in the future
    assert mock.lock('/f', retention_period='2030-01-02T03:04:06Z').status == 200
    assert mock.request('DELETE', '/v1/files/%2Ff').status == 403
    mock.clock(advance_s=1)
    assert mock.request('DELETE', '/v1/files/%2Ff').status == 200
    mock.clock(wall=True, frozen=False)
    assert abs(mock.clock()['now_s'] - time.time()) < 60


def test_locks_outlive_the_process_where_a_state_is_kept(mockqumulo, tree, tmp_path):
    (tree / 'f').write_text('x')
    token = str(tmp_path / 'token')
    options = '--state', str(tmp_path / 'state'), '--token-file', token
    first = mockqumulo(*options, tree=str(tree))
    first.lock('/f', retention_period=UNTIL, legal_hold=True)
    first.lock('/f', legal_hold=False)
    first.kill()
    second = mockqumulo(*options, tree=str(tree))
    assert second.token == first.token
    assert second.locks() == {'/f': {'legal_hold': False, 'retention_period': UNTIL}}
    assert second.request('DELETE', '/v1/files/%2Ff').status == 403


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


# ---- change notification ----

class Events:
    def __init__(self, mock, path='/', query=''):
        self.connection = mock.connect(timeout=20)
        self.connection.request('GET', '/v1/files/%s/notify%s' % (ref(path), query), headers={'Authorization': 'Bearer ' + mock.token})
        self.answer = self.connection.getresponse()
        self.status, self.type = self.answer.status, self.answer.headers['Content-Type']
        if self.status == 200:
            assert self.line() == ': watching'

    def line(self):
        """The next line that is not empty; None: the end."""
        while True:
            line = self.answer.readline()
            if not line:
                return None
            if line.strip():
                return line.decode().strip()

    def next(self):
        """The next event: a list."""
        while True:
            line = self.line()
            if line is None or not line.startswith(':'):
                assert line is None or line.startswith('data: '), line
                return line and json.loads(line[6:])

    def until(self, kind, path):
        """All (type, path) up to this one."""
        seen = []
        while (kind, path) not in seen:
            event = self.next()
            assert event is not None, seen
            seen += [(e['type'], e['path']) for e in event]
        return seen

    def close(self):
        self.connection.close()


def test_a_watcher_is_told_what_appears_whoever_makes_it(mock, tree):
    events = Events(mock, query='?filter=child_file_added&recursive=True')
    assert events.type == 'text/event-source'			# exactly: the SDK looks for it
    (tree / 'new').write_text('x')
    event = events.next()
    assert [(e['type'], e['path'], e['stream_name']) for e in event] == [('child_file_added', 'new', None)]
    assert event[0]['spine'] == [str(os.stat(tree).st_ino), str(os.stat(tree / 'new').st_ino)]
    mock.make('/', 'api')
    assert events.next()[0]['path'] == 'api'
    os.makedirs(tree / 'a' / 'b')
    (tree / 'a' / 'b' / 'deep').write_text('x')
    event = events.next()[0]
    assert event['path'] == 'a/b/deep' and len(event['spine']) == 4
    os.rename(tree / 'a', tree / 'z')
    (tree / 'z' / 'b' / 'moved').write_text('x')
    assert events.next()[0]['path'] == 'z/b/moved'
    events.close()


def test_a_watcher_that_is_not_recursive_sees_one_directory(mock, tree):
    os.makedirs(tree / 'd' / 'e')
    events = Events(mock, '/d', '?filter=child_file_added%2Cchild_file_removed,child_file_moved_to,child_data_written')
    (tree / 'outside').write_text('x')
    (tree / 'd' / 'e' / 'below').write_text('x')
    (tree / 'd' / 'here').write_text('x')
    assert events.until('child_data_written', 'here') == [('child_file_added', 'here'), ('child_data_written', 'here')]
    os.rename(tree / 'outside', tree / 'd' / 'came')
    assert events.until('child_file_moved_to', 'came') == [('child_file_moved_to', 'came')]
    os.unlink(tree / 'd' / 'here')
    assert events.until('child_file_removed', 'here') == [('child_file_removed', 'here')]
    events.close()


def test_without_a_filter_every_type_is_told_and_the_end_of_the_directory_too(mock, tree):
    (tree / 'd').mkdir()
    events = Events(mock, '/d')
    (tree / 'd' / 'x').write_text('x')
    os.chmod(tree / 'd' / 'x', 0o600)
    os.mkdir(tree / 'd' / 'sub')
    os.rename(tree / 'd' / 'sub', tree / 'd' / 'sub2')
    os.rmdir(tree / 'd' / 'sub2')
    os.unlink(tree / 'd' / 'x')
    seen = events.until('child_file_removed', 'x')
    for kind, path in [('child_file_added', 'x'), ('child_size_changed', 'x'), ('child_acl_changed', 'x'), ('child_dir_added', 'sub'),
                       ('child_dir_moved_from', 'sub'), ('child_dir_moved_to', 'sub2'), ('child_dir_removed', 'sub2')]:
        assert (kind, path) in seen, kind
    os.rmdir(tree / 'd')
    assert events.until('self_removed', '')
    assert events.next() is None


def test_a_silent_notification_gives_signs_of_life(mockqumulo, tree):
    mock = mockqumulo('--set', 'keepalive-ms=50', tree=str(tree))
    events = Events(mock)
    assert [events.line() for _ in range(3)] == [': keepalive'] * 3
    events.close()


def test_a_watcher_that_falls_behind_gets_an_error_and_the_end(mockqumulo, tree):
    mock = mockqumulo('--set', 'watch-buffer=20000', tree=str(tree))
    deep = tree.joinpath(*['%0250d' % i for i in range(12)])		# a long path: few events are more than the buffer
    deep.mkdir(parents=True)
    slow, fast = Events(mock, query='?recursive=true'), Events(mock)
    deadline, i = time.monotonic() + 60, 0
    while [w['below'] for w in mock.control('GET', 'watchers')] == ['', '']:
        for i in range(i, i + 100):
            (deep / str(i)).write_text('x')
        assert time.monotonic() < deadline
    line = slow.line()
    while line and not line.startswith('event: error'):
        line = slow.line()
    assert line == 'event: error' and 'fs_watcher_missed_events_error' in slow.line()
    assert slow.line() is None
    (tree / 'here').write_text('x')
    assert fast.next()[0]['path'] == 'here'		# the other goes on
    fast.close()


def test_a_watcher_that_goes_away_is_forgotten(mockqumulo, tree):
    mock = mockqumulo('--set', 'keepalive-ms=3600000', tree=str(tree))		# it is not a failed write that tells
    events = Events(mock, query='?recursive=true')
    assert mock.control('GET', 'watchers') == [{'below': '', 'recursive': True}]
    events.close()
    deadline = time.monotonic() + 20
    while mock.control('GET', 'watchers'):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_notification_is_refused_where_it_must_be(mock):
    assert mock.get('/v1/files/%2Ff/notify').status == 400
    assert mock.get('/v1/files/%2F/notify?filter=child_file_exploded').status == 400
    assert mock.get('/v1/files/%2Fnone/notify').status == 404
    settings = '/v1/file-system/settings/notify'
    assert mock.get(settings).json == {'recursive_mode': 'ENABLED'}
    assert mock.request('PUT', settings, {'recursive_mode': 'DISABLED_ERROR'}).status == 200
    assert mock.get('/v1/files/%2F/notify?recursive=true').status == 400
    Events(mock).close()
    mock.switch(notify='enabled', data_admin='no')
    assert mock.get('/v1/files/%2F/notify?recursive=true').status == 403
    events = Events(mock)
    mock.control('DELETE', 'watchers?behind=true')
    assert events.line() == 'event: error'


# ---- faults ----

LOCK = dict(method='PATCH', path='/v1/files/*/file-lock')


@pytest.mark.parametrize('kind, status', [('401', 401), ('403', 403), ('404', 404), ('412', 412), ('429', 429), ('500', 500), ('503', 503)])
def test_a_fault_answers_once_and_nothing_was_done(mock, kind, status):
    mock.fault(kind, times=1, **LOCK)
    assert mock.attributes('/f').status == 200			# another request
    assert mock.lock('/f', legal_hold=True).status == status
    assert mock.locks() == {}
    assert mock.lock('/f', legal_hold=True).status == 200
    assert [f['fired'] for f in mock.faults()] == [1]
    assert [e.get('fault') for e in mock.journal('PATCH')] == [kind, None]


def test_a_fault_says_when_to_come_again(mock):
    mock.clock(now='2030-01-02T03:04:00Z', frozen=True)
    mock.fault('429', times=1, retry_after=7)
    mock.fault('503', times=1, retry_after=5, retry_after_date=True)
    assert mock.attributes('/f').headers['Retry-After'] == '7'
    assert mock.attributes('/f').headers['Retry-After'] == 'Wed, 02 Jan 2030 03:04:05 GMT'


def test_a_reply_that_is_no_json_or_lacks_the_lock_or_is_huge(mock):
    mock.fault('not-json', times=1, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and reply.body.startswith(b'<html>') and mock.locks() == {}
    mock.fault('no-lock', times=1, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and 'lock' not in reply.json and '/f' in mock.locks()
    mock.fault('huge', times=1, bytes=3 << 20, **LOCK)
    reply = mock.lock('/f', legal_hold=True)
    assert reply.status == 200 and len(reply.body) > 3 << 20 and reply.json['lock']['legal_hold'] is True


def test_a_connection_closes_before_or_after_the_lock(mock):
    mock.fault('close-before', times=1, **LOCK)
    with pytest.raises((http.client.HTTPException, OSError)):
        mock.lock('/f', legal_hold=True)
    assert mock.locks() == {}
    mock.fault('close-after', times=1, **LOCK)
    with pytest.raises((http.client.HTTPException, OSError)):
        mock.lock('/f', legal_hold=True)
    assert mock.locks()['/f']['legal_hold'] is True
    assert [e['status'] for e in mock.journal('PATCH')] == [0, 0]


def test_a_reply_is_cut_slow_late_or_chunked(mock):
    mock.fault('cut', times=1, bytes=30)
    with pytest.raises(http.client.IncompleteRead) as cut:
        mock.attributes('/f')
    assert len(cut.value.partial) == 30
    mock.fault('chunked', times=1, bytes=50)
    reply = mock.attributes('/f')
    assert reply.headers['Transfer-Encoding'] == 'chunked' and 'Content-Length' not in reply.headers and reply.json['path'] == '/f'
    mock.fault('slow', times=1, bytes=200, ms=30)
    start = time.monotonic()
    assert mock.attributes('/f').json['path'] == '/f'
    assert time.monotonic() - start > 0.1
    mock.fault('delay', times=1, ms=200)
    start = time.monotonic()
    assert mock.attributes('/f').json['path'] == '/f'
    assert time.monotonic() - start > 0.19


def test_a_fault_may_carry_out_what_it_refuses(mock):
    mock.fault('500', applies=True, times=1, **LOCK)
    assert mock.lock('/f', legal_hold=True).status == 500
    assert mock.locks()['/f']['legal_hold'] is True


def test_faults_are_chosen_by_number_and_by_chance_and_go_away(mock):
    ids = [mock.fault('503', nth=2), mock.fault('500', nth=3)]
    # The fault that fires first takes the request: the second never sees that one.
    assert [mock.attributes('/f').status for _ in range(5)] == [200, 503, 200, 500, 200]
    mock.control('DELETE', 'faults/%d' % ids[0])
    assert [f['id'] for f in mock.faults()] == [ids[1]]
    mock.clear_faults()
    mock.fault('503', probability=0.5, seed=3)
    first = [mock.attributes('/f').status for _ in range(40)]
    mock.clear_faults()
    mock.fault('503', probability=0.5, seed=3)
    assert [mock.attributes('/f').status for _ in range(40)] == first
    assert 5 < first.count(503) < 35
    mock.clear_faults()
    assert mock.attributes('/f').status == 200
    assert mock.request('POST', '/mock/faults', {'kind': 'x'}, token=None).status == 400


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
