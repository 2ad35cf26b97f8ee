"""mockqumulo: the lock of a file, what it guards, and its clock."""
import os
import time

from qumulo_harness import HOUR, LATER, UNTIL, mock, tree		# noqa: F401


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
