"""mockarchive feeds the stream of events of its daemon: what happens to a file on tape stands among what programs do to it."""
import json
import os

from archive_harness import read_errno, start		# noqa: F401
from harness import read_file, wait_for


def lines_of(path):
    return [json.loads(line) for line in read_file(path).splitlines()] if os.path.exists(path) else []


def test_the_archive_tells_states_flags_and_faults_in_the_order_of_its_journal(start, tmp_path):		# noqa: F811
    out = str(tmp_path / 'lines')
    archive = start('-o', 'events=json:' + out)
    path = archive.archived('a', b'x' * 5000)
    archive.act('recall', path)
    archive.settle()
    assert archive.state(path) == 'dual'
    with archive.fault(path='a', op='read', errno='ENODATA', first=1) as fault:
        assert read_errno(path) == 'ENODATA'
    journal = archive.journal()
    wait_for('all of it', lambda: len([e for e in lines_of(out) if e['Event']['Type'].startswith('Archive')]) >= len(journal))
    events = lines_of(out)
    assert [e['Seq'] for e in events] == list(range(1, len(events) + 1))
    told = [e['Event'] for e in events if e['Event']['Type'].startswith('Archive')]
    assert [(e['Type'][len('Archive'):].lower(), e['Path'].lstrip('/')) for e in told] == [
        (e['kind'], (e.get('path') or '').lstrip('/')) for e in journal]
    states = [(e['ArchiveStateBefore'], e['ArchiveState']) for e in told if e['Type'] == 'ArchiveState']
    assert ('dual', 'released') in states and states[-1] == ('recalling', 'dual')
    assert all(a == b for (_, a), (b, _) in zip(states, states[1:]))
    hit, = [e for e in told if e['Type'] == 'ArchiveFault']
    assert (hit['Fault'], hit['Path'], hit['Error']) == (fault.id, '/a', 'ENODATA')
    kinds = [e['Event']['Type'] for e in events]
    last = max(n for n, e in enumerate(events) if e['Event']['Type'] == 'ArchiveState')
    assert kinds.index('Create') < kinds.index('LastWriterClosed') < last


def test_without_events_nothing_is_kept(start):		# noqa: F811
    archive = start()
    archive.archived('a')
    assert not any(name == 'events.ring' for _, _, names in os.walk(os.path.dirname(archive.replica)) for name in names)
