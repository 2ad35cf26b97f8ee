"""The documents say what the programs do: the errno table, the session, the options, the names of the tests, and the
messages of the recipes are compared with the programs, a mount, and the source."""
import glob
import os
import re
import shutil
import tempfile

import pytest

from harness import ROOT, WORMCTL, WORMFS, errno_of, need_program, open_errno, read_file, run, wait_for

DOCS = ['README.md', 'CHANGELOG.md'] + sorted(
    os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, 'docs', '*.md')))
MANUAL = os.path.join(ROOT, 'docs', 'wormfs.8')
PLACE = '/some/dir'     # the share, as the README calls it
ADDRESS = '127.0.0.1:8000'


def text_of(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def between(name, start, end):
    """The lines of a document between two marks; each mark is there exactly once."""
    text = text_of(name)
    assert (start, text.count(start)) == (start, 1) and end in text
    return text.split(start, 1)[1].split(end, 1)[0].split('\n', 1)[1]


def block(name, mark):
    """The fenced block after a mark."""
    return re.search(r'```\w*\n(.*?)\n```', between(name, mark, '\n#'), re.S).group(1).split('\n')


# ---- tables and names ---------------------------------------------------------------------------

def test_the_errno_table_of_the_README_is_what_wormctl_prints():
    assert between('README.md', '<!-- errno-table: ', '<!-- errno-table end -->') == run(WORMCTL, 'errno-table').out


def known_tests():
    known = set()
    for path in glob.glob(os.path.join(ROOT, 'tests', '*', 'test_*')):
        with open(path, encoding='utf-8') as f:
            known.update(re.findall(r'^(?:def|static void) (test_\w+)\(', f.read(), re.M))
        known.add(os.path.basename(path))
    return known


def test_every_case_from_T1_to_T51_has_a_test_that_names_it():
    """In its title, or as the first word of what is said of it."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, 'tests', '*', 'test_*')):
        with open(path, encoding='utf-8') as f:
            text = f.read()
        found.update(re.findall(r'^(?:def|static void) test_T(\d+)_', text, re.M))
        found.update(re.findall(r'^def test_\w+\(.*\):\n    """T(\d+)[.:]', text, re.M))
        found.update(re.findall(r'^/\* T(\d+)[.:].*\*/\nstatic void test_', text, re.M))
    assert set(range(1, 52)) - {int(n) for n in found} == set()


@pytest.mark.parametrize('name', DOCS)
def test_every_test_that_is_named_exists(name):
    named = set(re.findall(r'\btest_\w+(?:\.(?:py|c)\b)?', text_of(name)))
    assert named - known_tests() == set()
    assert named or name != 'README.md'


def test_every_guarantee_has_a_test():
    for section in ('\n## Guarantees\n', '\n## Not guaranteed\n'):
        body = text_of('README.md').split(section)[1].split('\n## ')[0]
        rows = [line.split(' | ') for line in body.split('\n') if re.match(r'\| \d', line)]
        assert [int(row[0].strip('| ')) for row in rows] == list(range(1, len(rows) + 1)) and rows
        for row in rows:
            assert 'test_' in row[2], row[1]


@pytest.mark.parametrize('name', DOCS)
def test_links_between_the_documents_lead_somewhere(name):
    for target in re.findall(r'\]\(([^)]+)\)', text_of(name)):
        if '://' in target:
            continue
        path, _, anchor = target.partition('#')
        path = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
        assert (target, os.path.exists(os.path.join(ROOT, path))) == (target, True)
        if anchor:
            heads = re.findall(r'^#+ (.*)$', text_of(path), re.M)
            assert anchor in [re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in heads]


@pytest.mark.parametrize('name', DOCS)
def test_every_make_target_and_source_file_that_is_named_exists(name):
    text = text_of(name)
    targets = re.findall(r'^([a-z][a-z-]*):', text_of('Makefile'), re.M)
    for target in re.findall(r'^make ([a-z][a-z-]*)', text, re.M) + re.findall(r'`make ([a-z][a-z-]*)', text):
        assert target in targets
    for word in re.findall(r'`([\w-]+\.[ch])`', text):
        found = [f for d in ('fs', 'lockstore', 'mockarchive', 'mockqumulo') for f in glob.glob(os.path.join(ROOT, d, '**', word), recursive=True)]
        assert (word, bool(found)) == (word, True)


def test_the_architecture_names_every_module():
    text = text_of('docs/architecture.md')
    named = re.findall(r'`([\w*]+)\.[ch]`', text)
    for directory in ('fs', 'lockstore'):
        for path in glob.glob(os.path.join(ROOT, directory, '*.c')):
            module = os.path.basename(path)[:-2]
            assert any(re.fullmatch(n.replace('*', r'\w*'), module) for n in named), '%s is not in architecture.md' % path


# ---- options ------------------------------------------------------------------------------------

def help_options():
    return set(re.findall(r'^  (\w+)(?:=\S.*)?$', run(WORMFS, '--help').out.split('Options of -o')[1], re.M))


def manual_options():
    """Names in the list heads (.It) of the sections on -o, in mdoc: "Cm ro , rw", "Cm min Ns = Ns Ar PERIOD , Cm max ..."."""
    body = re.search(r'^\.Sh OPTIONS$(.*?)^\.Sh ', text_of('docs/wormfs.8'), re.S | re.M).group(1)
    names = set()
    for head in re.findall(r'^\.It (.*)$', body, re.M):
        for part in head.split(' , '):
            name = re.match(r'(?:(?:Cm|Fl|Li) )?(\w+)', part)
            names.add(name.group(1))
    return names


def test_every_option_of_the_help_is_in_the_manual_and_the_reverse():
    if not os.path.exists(MANUAL):
        pytest.fail('docs/wormfs.8 is missing')
    assert help_options() - manual_options() == set()
    for name in manual_options() - help_options():      # such as "rw", which the help leaves out
        p = run(WORMFS, '-o', name, check=False)
        assert p.returncode == 2 and 'unknown option' not in p.err, '%s: %s' % (name, p.err)


@pytest.mark.parametrize('name', DOCS)
def test_every_mount_option_in_an_example_is_one(name):
    text = text_of(name)
    lists = re.findall(r"-o '?([a-z_]+=[^\s`']+)", text) + re.findall(r'`([a-z_]+=[\w:<>.-]+)`', text)
    known = help_options()
    for option in (o for each in lists for o in re.split(r'(?<!\\),', each)):
        assert option.split('=')[0] in known, option


# ---- messages -----------------------------------------------------------------------------------

def source_strings():
    """String literals of the programs, those that follow each other (also with a macro in between) joined, unescaped."""
    out = []
    literal = r'"(?:[^"\\\n]|\\.)*"'
    for path in glob.glob(os.path.join(ROOT, 'fs', '*.c')) + glob.glob(os.path.join(ROOT, 'lockstore', '**', '*.c'), recursive=True):
        with open(path, encoding='utf-8') as f:
            text = re.sub(r'/\*.*?\*/', ' ', f.read(), flags=re.S)
        for run_of in re.findall(r'%s(?:\s*(?:[A-Z_]+\s*)?%s)*' % (literal, literal), text):
            out.append(''.join(each[1:-1] for each in re.findall(literal, run_of)).replace('\\"', '"'))
    return out


def test_the_messages_of_the_recipes_are_those_of_the_programs():
    rows = between('docs/recipes.md', '<!-- messages: ', '<!-- messages end -->')
    messages = re.findall(r'^\| `([^`]+)` \|', rows, re.M)
    assert len(messages) > 30
    strings = source_strings()
    for message in messages:
        pattern = re.compile('.*'.join(map(re.escape, message.split('\u2026'))))
        assert any(pattern.search(s) for s in strings), 'no message of the programs is %r' % message


# ---- on a mount ---------------------------------------------------------------------------------

def masked(line):
    """Dates and counts of days are another day's, white space is a table's."""
    line = re.sub(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', 'DATE', line)
    return re.sub(r'\s+', ' ', re.sub(r'in \d+ days', 'in N days', line)).strip()


def test_the_session_of_the_README_works_on_a_mount(mount):
    for program in ('getfattr', 'setfattr'):
        need_program(program)
    share = mount(base='tmpfs')

    def on_share(command):
        command = command.replace(PLACE, share.mnt).replace('build/wormctl', WORMCTL)
        return run('bash', '-c', command, check=False, env={**os.environ, 'LC_ALL': 'C'})
    for line in block('README.md', '<!-- session: '):
        command, said = re.fullmatch(r'(.*?\S)\s+# (.*)', line).groups()
        p = on_share(command)
        if said.startswith('Operation not permitted'):
            assert (command, p.returncode != 0, 'Operation not permitted' in p.err) == (command, True, True), p.err
        else:
            assert (command, p.returncode) == (command, 0), p.err
        if said.startswith('prints '):
            assert said[len('prints '):] in p.out, command
        if command.startswith('echo report'):
            share.wait_state('a.txt', 'retained')
            share.must('sync')
            wait_for('its digest', lambda: share.shows('a.txt', 'sha256'))
    assert read_file(share.below('a.txt')) == b'report\n'
    assert os.listdir(share.below()) == ['a.txt']
    command, *expected = block('README.md', '<!-- status: ')
    got = on_share(command[2:]).out.replace(share.mnt, PLACE).rstrip('\n').split('\n')
    assert [masked(line) for line in got] == [masked(line) for line in expected]
    # "Kill the daemon with kill -9, run it again: the file is still locked."
    share.kill9()
    share.start()
    assert open_errno(share.at('a.txt'), os.O_WRONLY) == 'EPERM'


def test_a_lost_ledger_keeps_files_held_and_loses_the_names(mount):
    share = mount('retention=1d', base='tmpfs', clocked=True)
    share.lock('a')
    share.must('hold', 'a', case='case-12')
    share.must('sync')
    share.stop()
    for path in glob.glob(os.path.join(share.state, 'ledger.db*')):
        os.unlink(path)
    share.expect_log('ledger')
    share.start()
    share.now(2 * 86400)
    wait_for('the ledger to be rebuilt', lambda: share.info()['ledger']['state'] == 'ok')
    assert share.shows('a') == 'retained'
    assert errno_of(os.unlink, share.at('a')) == 'EPERM'
    assert 'case-12' not in share.explain('a')['holds'] and share.explain('a')['holds'] != []


def test_a_backup_with_xattrs_restores_locked_files(mount):
    """docs/recipes.md: rsync -aHAX as root from the bare directory, the key kept, reindex."""
    rsync = need_program('rsync')
    share = mount(base='tmpfs')
    os.mkdir(share.at('d'))
    share.lock('d/a')
    os.setxattr(share.at('d/a'), 'user.worm.until', b'2090-01-01')
    share.must('sync')
    backup = os.path.join(share.dir, 'backup')
    run(rsync, '-aHAX', '--numeric-ids', share.lower + '/', backup + '/')
    share.stop()
    for name in os.listdir(share.lower):
        shutil.rmtree(share.below(name))
    run(rsync, '-aHAX', '--numeric-ids', backup + '/', share.lower + '/')
    share.start()
    share.must('reindex')
    assert share.shows('d/a') == 'retained' and share.shows('d/a', 'until') == '2090-01-01T00:00:00Z'
    assert open_errno(share.at('d/a'), os.O_WRONLY) == 'EPERM'
    assert errno_of(os.rename, share.at('d'), share.at('e')) == 'EPERM'
    assert read_file(share.at('d/a')) == b'report\n'


def test_the_session_of_the_guide_works_with_the_stand_in(bases, mockqumulo):
    need_program('curl')
    place = tempfile.mkdtemp(prefix='guide', dir=bases.get('tmpfs'))
    address, share = ADDRESS, os.path.join(place, 'cluster/share')
    for line in block('docs/qumulo.md', '<!-- stand-in: '):
        command, _, said = (part.strip() for part in line.partition('  # '))
        command = command.replace(PLACE, place).replace(ADDRESS, address)
        if command.endswith('&'):		# mockqumulo itself: on any free port
            words = command[:-1].split()
            options = [w for w in words[1:] if w not in ('--listen', address, '--tree', os.path.join(place, 'cluster'))]
            address = mockqumulo(*options, tree=os.path.join(place, 'cluster')).url.split('//')[1]
            continue
        words = command.split(' ', 1)
        program = {'wormctl': WORMCTL, 'wormfs': WORMFS}.get(words[0], words[0])
        if words[0] == 'wormfs':
            words[1] = words[1].replace('-o ', '-o state=%s,' % os.path.join(place, 'state'))
            os.mkdir(os.path.join(place, 'state'), 0o700)
        if 'push list' in command:
            wait_for('the lock on the cluster', lambda: os.getxattr(os.path.join(share, 'a.txt'), 'user.worm.push') == b'locked')
        p = run('bash', '-c', ' '.join([program, *words[1:]]), check=False)
        assert (command, p.returncode) == (command, 0), p.out + p.err
        if said:
            assert said.startswith('prints ') and said[len('prints '):] in p.out, (command, p.out)


# ---- events -------------------------------------------------------------------------------------

def test_every_type_and_field_of_an_event_is_in_its_page_and_the_reverse():
    page = text_of('docs/events.md')
    types = set(re.findall(r'= \{ "(\w+)", -?\d+, -?\d+ \}', text_of('lockstore/events/event.c')))
    rows = page.split('\n## Types\n')[1].split('\n## ')[0]
    told = {name for row in re.findall(r'^\| ([A-Z].*?) \|', rows, re.M) for name in row.split(', ')}
    assert types - {'OpenBlocked'} == told and len(types) > 30     # OpenBlocked: as BeeGFS 8 is told of a refused open
    source = text_of('lockstore/events/event_json.c')
    fields = set(re.findall(r'KEY\(out, "(\w+)"\)', source)) | set(re.findall(r'\\"(\w+)\\":', source))
    fields |= {'%sBase64' % f for f in ('Path', 'TargetPath', 'Detail')}
    documented = set(re.findall(r'`(\w+)`', ''.join(re.findall(r'^\| (`.*?) \|', page.split('\n## Types\n')[0], re.M))))
    assert fields - {'Event'} == documented


def test_every_value_of_a_state_and_of_a_quota_notice_is_in_the_page_of_events_and_the_reverse():
    page, source = text_of('docs/events.md'), text_of('lockstore/events/event.c')
    for row, function in (('`StateBefore`, `State`', 'event_state_name'), ('values of `Quota`', 'event_quota_kind_name'),
                          ('values of `Warning`', 'event_quota_warning_name')):
        body = source.split('*%s(' % function)[1].split('\n}')[0]
        names = set(re.findall(r'"([\w-]+)"', body))
        told = set(re.findall(r'`([\w-]+)`', re.search(r'^\| %s \| (.*) \|$' % re.escape(row), page, re.M).group(1)))
        assert len(names) > 5 and names == told - {'files', 'bytes'}
