"""Evidence: `wormctl export` (T49) is checked with what others have, by the very lines of docs/evidence.md; `wormctl report` is
one page that needs nothing from outside."""
import html.parser
import json
import os
import re
import shutil
import stat

import pytest

from harness import ROOT, errno_of, need_program, read_file, run, wait_for, write_file

EVIDENCE = os.path.join(ROOT, 'docs', 'evidence.md')
ODD = ['a b', 'new\nline', 'back\\slash', 'return\r', b'\xff\xfe', 'd/\u00e4', ' lead', '*star', '%41']


def block(mark):
    with open(EVIDENCE, encoding='utf-8') as f:
        text = f.read()
    return re.search(r'<!-- %s: .*?\n```\w+\n(.*?)\n```' % mark, text, re.S).group(1)


def with_tools(out, share):
    env = {**os.environ, 'SHARE': share}
    return run('sh', '-ec', block('tools'), cwd=out, env=env, check=False)


def with_script(out, share, tmp_path):
    script = tmp_path / 'check.py'
    script.write_text(block('script') + '\n')
    return run(shutil.which('python3'), script, out, share, check=False)


def make(share, digests=True):
    os.mkdir(share.at('d'))
    for n, name in enumerate(ODD):
        write_file(os.path.join(os.fsencode(share.mnt), os.fsencode(name)), b'%d' % n * 1000)
    share.lock('last')
    share.settle()
    if digests:
        wait_for('all digests', lambda: share.must('sync') and share.info()['digest']['pending'] == 0)


def export(share, out, *args, check=0, path=None):
    p = share.ctl('export', '--out', out, '--state-dir', share.state, *args, path or share.mnt, check=False)
    assert p.returncode == check, p.out + p.err
    return p


def manifest(out):
    with open(os.path.join(out, 'manifest.jsonl'), encoding='utf-8') as f:
        lines = [json.loads(line) for line in f]
    assert list(lines[0]) == ['manifest'] and list(lines[-1]) == ['end']
    return lines[0]['manifest'], {line['path']: line for line in lines[1:-1]}, lines[-1]['end']


@pytest.mark.parametrize('when', ['mounted', 'stopped'])
def test_T49_an_export_is_checked_with_standard_tools_and_by_the_script_of_the_docs_also_with_the_mount_stopped(mount, tmp_path, when):
    need_program('openssl')
    share = mount('retention=30d,hold=case-1')
    make(share)
    if when == 'stopped':
        share.stop()
    out = str(tmp_path / 'out')
    p = export(share, out)
    assert p.err == '' and p.out.startswith('%d files, ' % (len(ODD) + 1))
    where = share.mnt if when == 'mounted' else share.lower
    for check in (with_tools(out, where), with_script(out, where, tmp_path)):
        assert check.returncode == 0, check.out + check.err
    head, files, end = manifest(out)
    with open(os.path.join(share.state, 'audit.log')) as f:
        assert head['audit_head'] in [{'seq': line['seq'], 'hash': line['hash']} for line in map(json.loads, f)]
    assert len(files) == end['files'] == len(ODD) + 1 and end['without_digest'] == 0
    last = files['last']
    assert (last['size'], last['state'], last['mode'], last['holds'], last['sha256_taken']) == (7, 'retained', 'governance', ['case-1'], 'at lock')
    assert last['until'].endswith('Z') and last['committed'].endswith('Z') and last['serial'] > 0
    assert stat.S_IMODE(os.stat(os.path.join(share.state, 'export.key')).st_mode) == 0o600


@pytest.mark.parametrize('what', ['the data', 'a list', 'the manifest', 'the signature', 'the key'])
def test_whatever_was_changed_after_the_export_is_found(mount, tmp_path, what):
    share = mount()
    make(share)
    share.stop()
    out = str(tmp_path / 'out')
    export(share, out)
    if what == 'the data':
        st = os.stat(share.below('last'))
        with open(share.below('last'), 'r+b') as f:
            f.write(b'X')
        os.utime(share.below('last'), ns=(st.st_atime_ns, st.st_mtime_ns))
    elif what == 'the key':
        run('openssl', 'genpkey', '-algorithm', 'ed25519', '-out', str(tmp_path / 'k'))
        run('openssl', 'pkey', '-in', str(tmp_path / 'k'), '-pubout', '-out', out + '/export.pub')
    else:
        name = {'a list': 'SHA256SUMS', 'the manifest': 'manifest.jsonl', 'the signature': 'export.sha256.sig'}[what]
        data = bytearray(read_file(out + '/' + name))
        data[10] ^= 1
        write_file(out + '/' + name, bytes(data), flags=os.O_TRUNC)
    assert with_tools(out, share.lower).returncode != 0
    assert with_script(out, share.lower, tmp_path).returncode != 0


def test_what_has_no_digest_yet_is_read_for_the_export_and_says_so(mount, tmp_path):
    share = mount('digest=off')
    make(share, digests=False)
    out = str(tmp_path / 'out')
    export(share, out)
    assert {f['sha256_taken'] for f in manifest(out)[1].values()} == {'at export'}
    assert with_tools(out, share.mnt).returncode == 0
    share.stop()
    os.unlink(share.below('a b'))
    write_file(share.below('last'), b'forged', flags=os.O_APPEND)
    p = export(share, str(tmp_path / 'second'), check=1)
    assert "'a b'" in p.err and "'last'" in p.err and p.err.count('\n') == 2
    files = manifest(str(tmp_path / 'second'))[1]
    assert files['a b']['sha256'] is None and files['last']['sha256'] is None


def test_an_export_of_a_directory_has_the_paths_of_the_share(mount, tmp_path):
    share = mount()
    make(share)
    out = str(tmp_path / 'out')
    export(share, out, path=share.at('d'))
    assert list(manifest(out)[1]) == ['d/\u00e4']
    assert with_tools(out, share.mnt).returncode == 0


def test_exports_of_one_share_are_signed_with_one_key_and_overwrite_nothing(mount, tmp_path):
    share = mount()
    make(share)
    first, second = str(tmp_path / '1'), str(tmp_path / '2')
    key = json.loads(export(share, first, '--json').out)['key']
    assert json.loads(export(share, second, '--json').out)['key'] == key
    assert read_file(first + '/export.pub') == read_file(second + '/export.pub')
    before = {name: read_file(first + '/' + name) for name in os.listdir(first)}
    p = export(share, first, check=2)
    assert 'already' in p.err
    assert {name: read_file(first + '/' + name) for name in os.listdir(first)} == before


def test_an_export_that_fails_leaves_nothing(mount, tmp_path):
    share = mount()
    make(share)
    small = mount.bases.make('tmpfs', 'small-export%d' % os.getpid(), options=['size=8k'])
    for n in range(60):
        write_file(share.at('n%d' % n), b'x')
    share.settle()
    p = export(share, small + '/out', check=2)
    assert 'No space left on device' in p.err and os.listdir(small) == []
    os.chmod(share.state + '/export.key', 0o644)
    p = export(share, str(tmp_path / 'out'), check=2)
    assert 'chmod 600' in p.err and not os.path.exists(str(tmp_path / 'out'))


# ---- report -------------------------------------------------------------------------------------

class Page(html.parser.HTMLParser):
    """Text and attributes; fails on tags that are not closed in order."""
    VOID = {'meta', 'br', 'link', 'img'}

    def __init__(self, source):
        super().__init__()
        self.open, self.attributes, self.tags, self.text = [], [], set(), ''
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(share, *args):
    return share.ctl('report', '--state-dir', share.state, *args, share.mnt)


def fill(share):
    for n in range(6):
        share.lock('f%d' % n, b'x' * 1000 * (n + 1))
        os.setxattr(share.at('f%d' % n), 'user.worm.until', b'20%d-0%d-15' % (80 + n % 2, n + 1))
    share.lock('forever')
    share.must('extend', 'forever', until='infinite')
    share.must('hold', 'f0', case='<img onerror=x>')
    share.must('hold', 'f1', case='case & "co"')
    errno_of(os.truncate, share.at('f0'), 0)
    share.must('sync')


def test_the_report_is_one_page_that_needs_neither_network_nor_script(mount, tmp_path):
    share = mount()
    fill(share)
    share.ctl('verify', '--state-dir', share.state, share.mnt)
    path = str(tmp_path / 'r.html')
    assert report(share, '--html', path).out == ''
    source = read_file(path).decode()
    page = Page(source)
    assert not {'script', 'link', 'img', 'iframe', 'object', 'base'} & page.tags
    assert not [a for a in page.attributes if a[0] in ('src', 'href', 'srcset', 'action') or a[0].startswith('on')]
    assert '://' not in source and 'url(' not in source and '@import' not in source
    assert {'svg', 'rect', 'table'} <= page.tags
    for words in ('<img onerror=x>', 'case & "co"', 'truncate', '2080-01', '0 findings', 'for ever: 1 files', share.mnt):
        assert words in page.text, words


def test_the_report_says_the_same_as_json_text_and_page(mount):
    share = mount()
    fill(share)
    data = json.loads(report(share, '--json').out)
    assert (data['files'], data['bytes']) == (7, 21007)
    assert data['by_state'] == [{'name': 'held', 'files': 2, 'bytes': 3000}, {'name': 'retained', 'files': 5, 'bytes': 18007}]
    assert {g['name']: g['files'] for g in data['by_expiry']} == {'2080-01': 1, '2080-03': 1, '2080-05': 1, '2081-02': 1, '2081-04': 1,
                                                                  '2081-06': 1, 'infinite': 1}
    assert {g['name']: g['files'] for g in data['by_hold']} == {'<img onerror=x>': 1, 'case & "co"': 1}
    assert data['by_rule'] == [{'name': 'mount options', 'files': 7, 'bytes': 21007}]
    assert data['mount']['refused']['truncate'] == 1 and data['verify'] is None
    text = report(share).out
    assert '7 locked files' in text and 'never verified' in text and '2081-06' in text and 'truncate' in text
    assert Page(report(share, '--html', '-').out).text.count('2081-06') >= 1
    share.stop()
    data = json.loads(report(share, '--json').out)
    assert data['files'] == 7 and data['mount'] is None
    assert 'not mounted' in report(share).out


def test_a_report_of_nothing_and_of_centuries(mount):
    share = mount('max=8000y')
    Page(report(share, '--html', '-').out)
    share.lock('a')
    share.lock('b')
    share.must('extend', 'a', until='1y')
    share.must('extend', 'b', until='7000y')
    page = Page(report(share, '--html', '-').out)
    assert 'What expires when' in page.text


def test_a_report_shows_what_the_last_verification_found(mount):
    share = mount()
    fill(share)
    wait_for('all digests', lambda: share.info()['digest']['pending'] == 0)
    share.stop()
    os.unlink(share.below('f3'))
    assert share.ctl('verify', '--state-dir', share.state, share.mnt, check=False).returncode == 1
    data = json.loads(report(share, '--json').out)
    assert data['verify']['findings'] == 1 and data['verify']['kinds'] == {'missing': 1}
    assert '1 findings, 0 without a digest' in report(share).out
    assert '0 had no digest' in Page(report(share, '--html', '-').out).text
