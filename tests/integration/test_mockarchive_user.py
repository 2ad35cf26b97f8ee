"""mockarchive for a user who is not root: the first five minutes of its page, and files that their mode protects."""
import os
import re
import subprocess

import pytest

from harness import need_program
from tape import MOCKARCHIVE
from test_mockarchive_docs import PAGE

USER = 1500
# A /dev/fuse that everybody may open, as distributions have it, and a name for the user (fusermount3 asks for it); seen by this process only.
PREPARE = '''set -e
mount -t tmpfs none {dir}/dev
mknod -m 666 {dir}/dev/fuse c 10 229
mount --bind {dir}/dev/fuse /dev/fuse
cp /etc/passwd {dir}/dev/passwd
echo 'someone:x:{user}:{user}::/:/bin/sh' >>{dir}/dev/passwd
mount --bind {dir}/dev/passwd /etc/passwd
cd {dir}/home
exec setpriv --reuid {user} --regid {user} --clear-groups --pdeathsig KILL sh ../script
'''


@pytest.fixture
def as_someone(tmp_path):
    """Runs shell lines as a user of a private mount namespace; a list of (what was said, exit status), one a line."""
    need_program('fusermount3')
    if os.geteuid() != 0:
        pytest.skip('needs root, to make a user and a /dev/fuse for him')
    for name in ('dev', 'home'):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / 'home', USER, USER)
    for top in (tmp_path, *tmp_path.parents):		# pytest's directories are root's alone, and another run of it makes them so again
        if not os.stat(top).st_mode & 1:
            os.chmod(top, os.stat(top).st_mode | 0o111)
    os.symlink(MOCKARCHIVE, tmp_path / 'mockarchive')

    def go(lines):
        (tmp_path / 'script').write_text('trap "fusermount3 -uzq final" EXIT\n' +
                                         ''.join('{ %s\n} 2>&1; echo "=== $?"\n' % line for line in lines))
        env = dict(os.environ, PATH='%s:%s' % (tmp_path, os.environ['PATH']), HOME=str(tmp_path / 'home'), LC_ALL='C',
                   TMPDIR=str(tmp_path / 'home'), MOCKARCHIVE_RUN_DIR=str(tmp_path / 'home/run'))
        env.pop('MOCKARCHIVE_URL', None)
        done = subprocess.run(['unshare', '--mount', 'sh', '-c', PREPARE.format(dir=tmp_path, user=USER)], env=env, text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if '===' not in done.stdout:
            pytest.skip('no mount namespace with a /dev/fuse of its own here: %s' % done.stderr.strip())
        parts = re.split(r'=== (\d+)\n', done.stdout)
        assert len(parts) == 2 * len(lines) + 1, done.stdout
        return list(zip(parts[::2], map(int, parts[1::2])))
    return go


def test_the_first_five_minutes_without_root(as_someone):
    lines = re.search(r'<!-- five-minutes: .*?```sh\n(.*?)```', PAGE, re.S).group(1).splitlines()
    for line, (said, status) in zip(lines, as_someone(lines)):
        command, _, says = line.partition('# ')
        if command.startswith(('cat', 'ls')) or 'ctl files' in command:
            assert re.split(r'[;:]', says)[0] in said, (line, said)
        assert (status == 0) == ('error' not in says), (line, said)


@pytest.mark.parametrize('mode', ['444', '000'])
def test_a_file_that_its_mode_protects_goes_to_tape_and_comes_back(as_someone, mode):
    said = as_someone(['mkdir final; mockarchive final --clock manual --http 0 --profile lustre-nonblocking', 'echo one >final/f',
                       'chmod %s final/f' % mode, 'mockarchive ctl settle', 'mockarchive ctl file f', 'stat -c "%a %b" final/f',
                       'mockarchive ctl recall f', 'mockarchive ctl settle', 'stat -c %a final/f', 'chmod 400 final/f; cat final/f',
                       'mockarchive ctl exit'])
    assert [status for _, status in said] == [0] * len(said), said
    assert 'released' in said[4][0] and said[5][0] == '%s 1\n' % (mode.lstrip('0') or '0') and said[8][0] == said[5][0].split()[0] + '\n'
    assert said[9][0] == 'one\n'
