"""Rules (-o rules=FILE): which rule locks a file and how (T38), what a changed rule does not change (T36), paths that no rule may
confuse (T51), reload, and `wormctl policy`."""
import glob
import json
import os
import signal
import sqlite3

import pytest

from harness import (ALICE, DAY, ROOT, Refused, WORMCTL, as_user, errno_of, open_errno, opened, read_file, run, wait_for, write_file)

RULES = """\
[scratch]
path = /scratch/
commit = never

[drafts]
path = /finance
name = draft*
commit = explicit

[finance]
path = /finance
retention = 7y
hold = audit
hold = case-2

[big]
size = >=1K
retention = 1y

[sealed]
path = /sealed
mode = compliance
min = 1d
retention = 2d
max = 3d
"""


class Ruled:
    """A share with a file of rules beside it."""
    def __init__(self, mount, text, options='', **kwargs):
        self.share = mount(start=False, **kwargs)
        self.file = os.path.join(self.share.dir, 'share.rules')
        self.write(text)
        self.share.start(','.join(filter(None, [self.share.options, options, 'rules=' + self.file])))

    def write(self, text):
        with open(self.file + '.new', 'w') as f:
            f.write(text)
        os.chmod(self.file + '.new', 0o644)
        os.rename(self.file + '.new', self.file)

    def reload(self, text):
        self.write(text)
        return self.share.must('policy-reload')

    def locks(self, name, data=b'report\n'):
        """The rule that locks what is written there; None: it is not locked."""
        path = self.share.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, data)
        self.share.settle(path)
        return self.share.shows(path, 'rule')


def now_s(share):
    import calendar, time
    return calendar.timegm(time.strptime(share.info()['now'], '%Y-%m-%dT%H:%M:%SZ'))


def until_s(share, path):
    import calendar, time
    return calendar.timegm(time.strptime(share.shows(path, 'until'), '%Y-%m-%dT%H:%M:%SZ'))


@pytest.fixture
def ruled(mount):
    return Ruled(mount, RULES)


# ---- T38: the first rule that matches ----------------------------------------------------------

def test_T38_the_first_rule_that_matches_locks_the_file_and_says_so(ruled):
    share = ruled.share
    assert ruled.locks('finance/a') == 'finance'
    assert share.shows('finance/a', 'holds').split('\n') == ['audit', 'case-2']
    assert abs(until_s(share, 'finance/a') - now_s(share) - 7 * 365.25 * DAY) < 3 * DAY
    assert ruled.locks('sealed/a') == 'sealed' and share.shows('sealed/a', 'mode') == 'compliance'
    assert ruled.locks('elsewhere') == 'mount options' and share.shows('elsewhere', 'mode') == 'governance'
    rows = share.listed()
    assert {p: r['rule'] for p, r in rows.items()} == {'finance/a': 'finance', 'sealed/a': 'sealed', 'elsewhere': 'mount options'}
    assert rows['finance/a']['holds'] == ['audit', 'case-2'] and rows['finance/a']['hold_count'] == 2
    assert share.explain('finance/a')['rule'] == 'finance'
    p = share.ctl('list', '--rule', 'finance', '--state-dir', share.state, share.mnt)
    assert p.out.count('\n') == 1 and 'finance/a' in p.out
    assert 'finance' in share.ctl('status', share.at('finance/a')).out


def test_T38_an_excluded_tree_is_not_locked(ruled):
    share = ruled.share
    assert ruled.locks('scratch/a') is None and share.shows('scratch/a') == 'open'
    write_file(share.at('scratch/a'), b'again', flags=os.O_TRUNC)
    os.rename(share.at('scratch/a'), share.at('scratch/b'))
    os.unlink(share.at('scratch/b'))
    assert share.refused('commit', 'scratch') == 'EINVAL'
    write_file(share.at('scratch/a'))
    os.chmod(share.at('scratch/a'), 0o444)
    share.settle(share.at('scratch/a'))
    assert share.refused('commit', 'scratch/a') == 'EOPNOTSUPP'
    assert share.listed() == {} and share.problems() == []


def test_a_rule_may_lock_at_close_where_the_mount_options_never_do(mount):
    ruled = Ruled(mount, '[kept]\npath = /kept\ncommit = close\n', 'commit=never')
    os.mkdir(ruled.share.at('kept'))
    write_file(ruled.share.at('kept/a'))
    assert open_errno(ruled.share.at('kept/a'), os.O_WRONLY) == 'EPERM'
    assert ruled.locks('kept/b') == 'kept' and ruled.locks('a') is None


def test_each_rule_has_its_own_trigger(mount):
    ruled = Ruled(mount, '[e]\npath = /e\ncommit = explicit\n[c]\npath = /c\ncommit = chmod\n[i]\npath = /i\ncommit = idle:60\n', clocked=True)
    share = ruled.share
    assert [ruled.locks(d + '/a') for d in 'ecix'] == [None, None, None, 'mount options']
    assert share.shows('i/a') == 'pending'
    for d in 'ec':
        os.chmod(share.at(d, 'a'), 0o444)
    assert share.shows('e/a') == 'open' and share.shows('c/a', 'rule') == 'c'
    share.must('commit', 'e/a')
    assert share.shows('e/a', 'rule') == 'e'
    share.now(120)
    assert open_errno(share.at('i/a'), os.O_WRONLY) == 'EPERM'
    share.wait_state('i/a', 'retained')
    assert share.shows('i/a', 'rule') == 'i'


def test_the_size_that_counts_is_that_at_the_commit(ruled):
    share = ruled.share
    assert ruled.locks('small', b'x' * 1023) == 'mount options' and share.shows('small', 'until') == 'unspecified'
    fd = os.open(share.at('grown'), os.O_CREAT | os.O_WRONLY)
    for _ in range(4):
        os.write(fd, b'x' * 256)
    os.close(fd)
    share.settle(share.at('grown'))
    assert share.shows('grown', 'rule') == 'big'


def test_owner_group_and_attribute_of_the_file_choose_the_rule(mount):
    ruled = Ruled(mount, '[alice]\nowner = %d\n[group]\ngroup = 4711\n[marked]\nxattr = user.class=sec*\n' % ALICE, lower_mode=0o777)
    share = ruled.share
    as_user(ALICE, write_file, share.at('a'))
    with opened(share.at('g'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.fchown(fd, 0, 4711)
    with opened(share.at('m'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.setxattr(fd, 'user.class', b'secret')
    with opened(share.at('n'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.setxattr(fd, 'user.class', b'public')
    share.settle(*[share.at(n) for n in 'agmn'])
    assert [share.shows(n, 'rule') for n in 'agmn'] == ['alice', 'group', 'marked', 'mount options']


def test_each_rule_has_its_own_staging_names_and_the_new_name_decides(mount):
    ruled = Ruled(mount, '[in]\npath = /in\nstaging = *.new\n[strict]\npath = /strict\nstaging =\n[never]\npath = /never\ncommit = never\n'
                  '[kept]\npath = /kept\nretention = 1y\n')
    share = ruled.share
    for d in ('in', 'strict', 'never', 'kept'):
        os.mkdir(share.at(d))
    assert ruled.locks('in/a.new') is None and share.shows('in/a.new') == 'staging'
    assert ruled.locks('in/a.part') == 'in'
    assert ruled.locks('strict/a.part') == 'strict'
    assert ruled.locks('kept/a.part') is None
    os.rename(share.at('in/a.new'), share.at('in/a'))
    assert share.shows('in/a', 'rule') == 'in'
    ruled.locks('in/b.new')
    os.rename(share.at('in/b.new'), share.at('kept/b'))
    assert share.shows('kept/b', 'rule') == 'kept'
    ruled.locks('in/c.new')
    os.rename(share.at('in/c.new'), share.at('never/c'))
    assert share.shows('never/c') == 'open'
    os.rename(share.at('kept/a.part'), share.at('kept/a'))
    assert share.shows('kept/a', 'rule') == 'kept'


def test_a_file_renamed_while_it_is_written_is_locked_by_the_rule_of_its_new_place(ruled):
    share = ruled.share
    os.makedirs(share.at('scratch'))
    os.makedirs(share.at('finance'))
    with opened(share.at('scratch/a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        os.rename(share.at('scratch/a'), share.at('finance/a'))
    share.settle(share.at('finance/a'))
    assert share.shows('finance/a', 'rule') == 'finance'


# ---- T51: paths ---------------------------------------------------------------------------------

def test_T51_a_rule_of_a_directory_takes_neither_its_neighbours_nor_odd_names_amiss(mount):
    ruled = Ruled(mount, '[a]\npath = //a//\n[line]\npath = /line?end\n[bytes]\npath = /**/*[\u00e4]x\n')
    share = ruled.share
    assert ruled.locks('a/x') == 'a' and ruled.locks('a1/x') == 'mount options' and ruled.locks('b/a/x') == 'mount options'
    assert ruled.locks('a/new\nline') == 'a'
    assert ruled.locks('line\nend') == 'line' and ruled.locks('line\n') == 'mount options'
    raw = os.fsencode(share.at('raw')) + b'\xa4x'
    write_file(raw)
    share.settle(raw)
    assert share.shows(raw, 'rule') == 'bytes'
    assert share.listed()['line\nend']['rule'] == 'line'


# ---- T36: a changed rule changes no record -------------------------------------------------------

def test_T36_rules_changed_reordered_and_removed_change_no_record(ruled):
    share = ruled.share
    for name in ('finance/a', 'sealed/a'):
        ruled.locks(name)
    ruled.locks('big', b'x' * 2000)
    before = {n: (share.explain(n), os.getxattr(share.below(n), 'trusted.wormfs')) for n in ('finance/a', 'sealed/a', 'big')}
    for text in (RULES.replace('7y', '1d').replace('commit = never', 'commit = close'),
                 '[finance]\npath = /finance\ncommit = never\n', '[other]\nmode = governance\ncommit = never\n', ''):
        ruled.reload(text)
        assert {n: (share.explain(n), os.getxattr(share.below(n), 'trusted.wormfs')) for n in before} == before
        assert open_errno(share.at('finance/a'), os.O_WRONLY) == 'EPERM'
        assert errno_of(os.unlink, share.at('sealed/a')) == 'EPERM'
        share.remount()
    assert {n: share.explain(n)['rule'] for n in before} == {'finance/a': 'finance', 'sealed/a': 'sealed', 'big': 'big'}


def test_a_rule_keeps_its_number_and_a_rebuilt_ledger_finds_its_name(ruled):
    share = ruled.share
    ruled.locks('finance/a')
    number = os.getxattr(share.below('finance/a'), 'trusted.wormfs')[6:8]
    ruled.reload('[first]\npath = /x\n' + RULES)
    ruled.locks('finance/b')
    assert os.getxattr(share.below('finance/b'), 'trusted.wormfs')[6:8] == number != b'\0\0'
    share.stop()
    for path in glob.glob(os.path.join(share.state, 'ledger.db*')):
        os.unlink(path)
    share.start()
    wait_for('the ledger to be rebuilt', lambda: share.info()['ledger']['state'] == 'ok')
    assert share.shows('finance/a', 'rule') == 'finance'
    assert share.listed()['finance/b']['rule'] == 'finance'


def test_min_and_max_of_its_rule_bound_what_a_lock_may_be_extended_to(ruled):
    share = ruled.share
    ruled.locks('sealed/a')
    assert share.refused('extend', 'sealed/a', until='4d') == 'EINVAL'
    assert share.refused('extend', 'sealed/a', until='infinite') == 'EINVAL'
    share.must('extend', 'sealed/a', until='3d')
    ruled.locks('plain')
    share.must('extend', 'plain', until='4d')


# ---- reload -------------------------------------------------------------------------------------

def test_P40_a_file_that_is_open_keeps_the_rules_it_was_opened_under(ruled):
    share = ruled.share
    os.makedirs(share.at('finance'))
    with opened(share.at('finance/a'), os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b'x')
        assert ruled.reload('[none]\ncommit = never\n')['open'] == 1
        write_file(share.at('finance/b'))
        os.write(fd, b'y')
    share.settle(share.at('finance/a'))
    assert share.shows('finance/a', 'rule') == 'finance' and share.shows('finance/b') == 'open'


def test_a_file_of_rules_with_an_error_changes_nothing_and_names_the_line(ruled):
    share = ruled.share
    ruled.write(RULES + '[new]\nretain = 7y\n')
    p = share.ctl('policy', 'reload', '--state-dir', share.state, share.mnt, check=False)
    assert p.returncode == 1
    assert p.err.startswith("wormctl: %s:27: there is no key 'retain'" % ruled.file) and 'the old rules stay in force' in p.err
    assert ruled.locks('finance/a') == 'finance'
    assert "share.rules:27: there is no key 'retain'" in share.log_text()
    os.unlink(ruled.file)
    assert share.refused('policy-reload') == 'ENOENT'
    ruled.write('[all]\nretention = 1d\n')
    os.chmod(ruled.file, 0o666)
    assert share.refused('policy-reload') == 'EPERM'
    assert ruled.locks('finance/b') == 'finance'
    os.chmod(ruled.file, 0o644)
    out = share.ctl('policy', 'reload', '--state-dir', share.state, share.mnt).out
    assert '1 rules from' in out and ruled.locks('finance/c') == 'all'


def test_rules_that_the_ledger_cannot_number_change_nothing(ruled):
    share = ruled.share
    share.must('sync')
    share.expect_log('rules', 'ledger')

    def rename(old, new):
        db = sqlite3.connect(os.path.join(share.state, 'ledger.db'), timeout=30)
        db.execute('ALTER TABLE %s RENAME TO %s' % (old, new))
        db.close()
    ruled.write('[unheard_of]\nretention = 1d\n')
    rename('meta', 'elsewhere')
    p = share.ctl('policy', 'reload', '--state-dir', share.state, share.mnt, check=False)
    rename('elsewhere', 'meta')
    assert p.returncode != 0 and 'cannot be numbered' in p.err
    assert ruled.locks('finance/a') == 'finance'
    share.must('policy-reload')
    assert ruled.locks('finance/b') == 'unheard_of'


def test_SIGHUP_reloads_and_the_mount_stays(ruled):
    share = ruled.share
    ruled.write('[new]\nretention = 1d\n')
    share.proc.send_signal(signal.SIGHUP)
    wait_for('the reload', lambda: share.info()['rules']['count'] == 1)
    assert ruled.locks('finance/a') == 'new'
    ruled.write('[new]\nretention = soon\n')
    share.proc.send_signal(signal.SIGHUP)
    wait_for('the refusal', lambda: 'rules were not reloaded' in share.log_text())
    assert ruled.locks('finance/b') == 'new'


def test_without_rules_a_reload_is_refused_and_SIGHUP_ends_the_mount_as_before(wormfs):
    assert wormfs.refused('policy-reload') == 'EOPNOTSUPP'
    assert wormfs.info()['rules'] is None
    wormfs.terminate(signal.SIGHUP)


def test_many_reloads_under_writers_lose_no_file_and_no_lock(mount):
    ruled = Ruled(mount, '[a]\nretention = 1d\n')
    share = ruled.share
    for i in range(60):
        write_file(share.at('f%d' % i))
        ruled.reload('[a]\nretention = 1d\n' if i % 2 else '[b]\nretention = 2d\n')
    share.settle()
    assert {r['rule'] for r in share.listed().values()} == {'a', 'b'} and len(share.listed()) == 60


def test_a_waiting_file_whose_rule_says_never_by_now_is_not_locked(mount):
    ruled = Ruled(mount, '[i]\ncommit = idle:60\n', clocked=True)
    share = ruled.share
    ruled.locks('a')
    ruled.reload('[n]\ncommit = never\n')
    share.now(120)
    wait_for('the sweep', lambda: 'its rule says otherwise now' in share.log_text())
    wait_for('it is open', lambda: share.shows('a') == 'open')
    write_file(share.at('a'), b'more', flags=os.O_APPEND)


# ---- no mount -----------------------------------------------------------------------------------

@pytest.mark.parametrize('text,says', [
    ('[a]\nretntion = 7y\n', "share.rules:2: there is no key 'retntion'"),
    ('[a]\nmode = compliance\nretention = 7y\n', "share.rules:1: rule 'a': mode = compliance"),
])
def test_a_bad_file_of_rules_is_no_mount(mount, text, says):
    with pytest.raises(Refused) as e:
        Ruled(mount, text)
    assert e.value.code == 2 and says in e.value.text


def test_rules_that_others_may_write_or_that_lie_in_the_share_are_no_mount(mount):
    share = mount(start=False)
    path = os.path.join(share.dir, 'r')
    with pytest.raises(Refused) as e:
        share.start('rules=' + path)
    assert 'No such file' in e.value.text
    write_file(path, b'')
    os.chmod(path, 0o666)
    with pytest.raises(Refused) as e:
        share.start('rules=' + path)
    assert 'others may write it' in e.value.text
    write_file(share.below('r'), b'')
    with pytest.raises(Refused) as e:
        share.start('rules=' + os.path.join(share.share, 'r'))
    assert 'lie in the share' in e.value.text


def test_a_rule_in_compliance_mode_refuses_a_clock_that_can_be_moved(mount):
    with pytest.raises(Refused) as e:
        Ruled(mount, RULES, clocked=True)
    assert "rule 'sealed': mode = compliance cannot be used with clock=" in e.value.text


def test_a_relative_path_of_rules_is_seen_from_where_the_daemon_was_started(mount):
    share = mount(start=False)
    write_file(os.path.join(share.dir, 'r'), b'[a]\nretention = 1d\n')
    os.chmod(os.path.join(share.dir, 'r'), 0o644)
    old = os.getcwd()
    try:
        os.chdir(share.dir)
        share.start('rules=r')
    finally:
        os.chdir(old)
    assert share.info()['rules'] == {'file': os.path.join(share.dir, 'r'), 'count': 1}
    share.must('policy-reload')


def test_a_share_without_attributes_has_rules_too(mount):
    ruled = Ruled(mount, RULES, base='ramfs')
    assert ruled.locks('finance/a') == 'finance'
    assert ruled.share.listed()['finance/a']['holds'] == ['audit', 'case-2']


# ---- wormctl policy ------------------------------------------------------------------------------

def ctl(*args, code=0):
    p = run(WORMCTL, 'policy', *args, check=False)
    assert p.returncode == code, p.out + p.err
    return p


def test_policy_check_names_the_line(tmp_path):
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    good.write_text(RULES)
    bad.write_text(RULES + '\n[x]\nsize = much\n')
    assert ctl('check', good).out == "'%s': good, 5 rules\n" % good
    p = ctl('check', bad, code=1)
    assert p.err.startswith('wormctl: %s:28: size is N' % bad) and p.err.count('\n') == 1
    assert json.loads(ctl('check', '--json', bad, code=1).out)['line'] == 28
    ctl('check', tmp_path / 'none', code=2)
    ctl('check', code=2)


TEMPLATES = sorted(glob.glob(os.path.join(ROOT, 'docs', 'rules', '*.rules')))


@pytest.mark.parametrize('path', TEMPLATES, ids=[os.path.basename(p) for p in TEMPLATES])
def test_every_template_is_good_and_mounts(mount, path):
    ctl('check', path)
    with open(path) as f:
        ruled = Ruled(mount, f.read(), base='tmpfs')
    assert ruled.share.info()['rules']['count'] > 0


def test_there_is_a_template_for_each_use():
    assert [os.path.basename(p) for p in TEMPLATES] == ['ci.rules', 'hipaa-6-years.rules', 'legal-hold-only.rules', 'nfs-export.rules',
                                                        'samba-share.rules', 'sec-17a-4.rules']


def test_policy_test_says_which_rule_why_and_what_would_happen_and_does_nothing(ruled):
    share = ruled.share
    here = ['--state-dir', share.state]
    out = ctl('test', *here, share.at('finance/2026/a.pdf')).out
    assert "rule finance, line 10" in out and 'locked when its last writer closes it' in out and 'audit, case-2' in out
    assert 'not scratch' in out and 'line 2: path = /scratch/' in out and 'not drafts' in out and 'line 7: name = draft*' in out
    assert os.listdir(share.below()) == []
    test = json.loads(ctl('test', '--json', '--size', '1K', '--as', str(ALICE), *here, share.at('x')).out)
    assert (test['rule'], test['exists'], [e['rule'] for e in test['earlier']]) == ('big', False, ['scratch', 'drafts', 'finance'])
    test = json.loads(ctl('test', '--json', *here, share.at('x')).out)
    assert test['rule'] == 'mount options' and 'its size is not known' in test['earlier'][3]['why']
    write_file(share.below('y'), b'x' * 5000)
    assert json.loads(ctl('test', '--json', *here, share.at('y')).out)['rule'] == 'big'
    assert share.shows('y') == 'open'
    assert 'it is never locked' in ctl('test', *here, share.at('scratch/a')).out
    assert 'staging name' in ctl('test', *here, share.at('finance/a.part')).out
    ctl('test', *here, share.mnt, code=2)


def test_policy_test_with_another_file_asks_no_daemon_and_needs_no_mount(tmp_path):
    rules = tmp_path / 'r'
    rules.write_text(RULES + '[mine]\nowner = 1234\n')
    assert json.loads(ctl('test', '--json', '--rules', rules, '/finance/a').out)['rule'] == 'finance'
    assert json.loads(ctl('test', '--json', '--rules', rules, '--as', '1234', '/a').out)['rule'] == 'mine'
    rules.write_text('[a]\nx = 1\n')
    assert 'r:2: there is no key' in ctl('test', '--rules', rules, '/finance/a', code=1).err
    ctl('test', '--rules', rules, '--as', 'nobody-of-this-name', '/a', code=2)
    ctl('test', '--rules', rules, '--size', 'much', '/a', code=2)


def test_policy_test_and_the_daemon_decide_alike(ruled):
    share = ruled.share
    for name in ('finance/a', 'finance/draft1', 'scratch/a', 'sealed/a', 'a'):
        said = json.loads(ctl('test', '--json', '--state-dir', share.state, '--size', '7', share.at(name)).out)
        rule = ruled.locks(name)
        assert (name, said['rule']) == (name, rule) or (rule is None and said['settings']['commit'] in ('never', 'explicit'))


def test_policy_show_counts_what_each_rule_has_locked(ruled):
    share = ruled.share
    ruled.locks('finance/a')
    ruled.locks('finance/b', b'12345')
    ruled.locks('x')
    rows = [json.loads(line) for line in ctl('show', '--used', '--json', '--state-dir', share.state, share.mnt).out.splitlines()]
    assert [r['name'] for r in rows] == ['scratch', 'drafts', 'finance', 'big', 'sealed', 'mount options']
    assert [(r['files'], r['bytes']) for r in rows] == [(0, 0), (0, 0), (2, 12), (0, 0), (0, 0), (1, 7)]
    assert rows[2]['settings']['retention'] == '7y' and rows[2]['given'] == ['retention', 'hold']
    ruled.reload('[other]\nretention = 1d\n')
    out = ctl('show', '--used', '--state-dir', share.state, share.mnt).out
    assert 'finance (no longer a rule): 2 files, 12 bytes' in out and 'other (line 1): 0 files' in out


def test_policy_show_pages_through_ten_thousand_rules(mount):
    ruled = Ruled(mount, ''.join('[r%d]\npath = /p%d/**\nretention = %dd\n' % (i, i, i) for i in range(10000)))
    share = ruled.share
    rows = ctl('show', '--json', '--state-dir', share.state, share.mnt).out.splitlines()
    assert len(rows) == 10001 and json.loads(rows[9999])['name'] == 'r9999'
    assert ruled.locks('p9998/a') == 'r9998'


def test_policy_diff_shows_what_is_in_force_differently(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.write_text(RULES)
    new.write_text('# a comment more\n' + RULES)
    assert ctl('diff', old, new).out == ''
    new.write_text(RULES.replace('7y', '8y').replace('>=1K', '>=2K').replace('[drafts]', '[sketches]'))
    out = ctl('diff', old, new, code=1).out
    assert out.split('\n') == ['- rule drafts', '+ rule sketches', '~ rule finance', '    retention: 7y -> 8y', '~ rule big',
                               '    - if size = >=1K', '    + if size = >=2K', '']
    parts = RULES.split('\n\n')
    new.write_text('\n\n'.join(reversed(parts)))
    assert 'the order of the rules' in ctl('diff', old, new, code=1).out
    assert json.loads(ctl('diff', '--json', old, new, code=1).out)['order_changed'] is True
    new.write_text('[a]\nx\n')
    ctl('diff', old, new, code=2)


def test_the_rule_that_refuses_is_in_the_debug_log(mount):
    ruled = Ruled(mount, RULES)
    share = ruled.share
    ruled.locks('finance/a')
    share.stop()
    argv = share.argv
    share.argv = lambda: argv()[:1] + ['-d'] + argv()[1:]
    share.start()
    assert open_errno(share.at('finance/a'), os.O_WRONLY) == 'EPERM'
    assert "refused open-write of 'finance/a' to uid 0 with EPERM: retained (locked by rule 'finance', under the hold " in share.log_text()


def test_a_reload_and_a_refused_one_are_lines_of_the_audit_log(ruled):
    share = ruled.share
    ruled.reload('[new]\nretention = 1d\n')
    ruled.write('[new]\nretention = soon\n')
    assert share.refused('policy-reload') == 'EINVAL'
    share.must('sync')
    rows = [json.loads(line) for line in share.ctl('audit', 'show', '--json', '--event', 'policy_change', '--state-dir', share.state,
                                                   share.mnt).out.splitlines()]
    assert [r['result'] for r in rows] == ['OK', 'EINVAL'] or [bool(r['result']) for r in rows] == [False, True]
    assert '1 rules from' in rows[0]['detail'] and 'share.rules:2: retention is a period' in rows[1]['detail']


def test_holds_of_a_rule_and_of_an_order_for_what_comes_are_placed_together(ruled):
    share = ruled.share
    os.makedirs(share.at('finance'))
    share.ctl('hold', '--future', '-r', '--reason', 'test', '--state-dir', share.state, 'case-9', share.at('finance'))
    assert ruled.locks('finance/a') == 'finance'
    assert sorted(share.listed()['finance/a']['holds']) == ['audit', 'case-2', 'case-9']
    assert share.listed()['finance/a']['hold_count'] == 3


# ---- append-only files and digests by rule ------------------------------------------------------

def test_a_rule_with_append_makes_files_append_only_from_their_first_close_on(mount):
    ruled = Ruled(mount, '[log]\npath = /log\nappend = yes\n')
    share, path = ruled.share, ruled.share.at('log/a')
    os.mkdir(share.at('log'))
    write_file(path, b'one\n')
    share.wait_state(path, 'appendable')
    assert share.shows(path, 'rule') == 'log'
    assert open_errno(path, os.O_WRONLY) == open_errno(path, os.O_RDONLY | os.O_TRUNC) == 'EPERM'
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b'two\n')
    share.kill9()
    share.start()
    share.wait_state(path, 'appendable')
    assert read_file(path).startswith(b'one\ntwo\n') and errno_of(os.unlink, path) == 'EPERM'
    share.ctl('commit', path)
    assert share.shows(path) == 'retained' and open_errno(path, os.O_WRONLY | os.O_APPEND) == 'EPERM'


def test_a_rule_with_append_leaves_what_comes_by_a_rename_final(mount):
    ruled = Ruled(mount, '[log]\npath = /log\nappend = yes\n')
    share = ruled.share
    os.mkdir(share.at('log'))
    write_file(share.at('log/b.part'), b'whole\n')
    share.settle(writers=0)
    os.rename(share.at('log/b.part'), share.at('log/b'))
    assert share.shows(share.at('log/b')) == 'retained'


def test_a_rule_without_digest_keeps_its_files_from_being_read_and_from_being_missed(mount):
    ruled = Ruled(mount, '[raw]\npath = /raw\ndigest = no\n')
    share = ruled.share
    assert ruled.locks('raw/a') == 'raw' and ruled.locks('b') == 'mount options'
    wait_for('the digest of b', lambda: share.shows(share.at('b'), 'sha256'))
    wait_for('nothing to miss a digest', lambda: share.must('sync') and share.info()['digest']['pending'] == 0)
    assert share.shows(share.at('raw/a'), 'sha256') is None
    assert share.info()['digest']['done'] == 1
    assert share.explain(share.at('raw/a'))['digest'] == 'off by its rule' and share.explain(share.at('b'))['digest'] == 'taken'
    assert '  sha256     not taken: digest is off by its rule\n' in share.ctl('status', share.at('raw/a')).out
    share.stop()
    assert '  sha256     not taken: digest is off by its rule\n' in share.ctl('status', '--state-dir', share.state, share.at('raw/a')).out
