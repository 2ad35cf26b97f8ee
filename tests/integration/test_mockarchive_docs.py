"""docs/mockarchive.md says what mockarchive does: its first five minutes and all its recipes are run."""
import os
import re
import shlex
import subprocess

from archive_harness import MOCKARCHIVE, OPENAPI, archive, shared		# noqa: F401
from harness import ROOT

with open(os.path.join(ROOT, 'docs/mockarchive.md'), encoding='utf-8') as f:
    PAGE = f.read()


def test_the_first_five_minutes(tmp_path):
    lines = re.search(r'<!-- five-minutes: .*?```sh\n(.*?)```', PAGE, re.S).group(1).splitlines()
    os.symlink(MOCKARCHIVE, tmp_path / 'mockarchive')
    env = dict(os.environ, PATH='%s:%s' % (tmp_path, os.environ['PATH']), MOCKARCHIVE_RUN_DIR=str(tmp_path / 'run'), LC_ALL='C', TMPDIR=str(tmp_path))
    env.pop('MOCKARCHIVE_URL', None)
    try:
        for line in lines:
            command, _, says = line.partition('# ')
            done = subprocess.run(['sh', '-c', command], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            if command.startswith(('cat', 'ls')) or 'ctl files' in command:
                wanted = re.split(r'[;:]', says)[0]
                assert wanted in done.stdout, (line, done.stdout)
            assert (done.returncode == 0) == ('error' not in says), (line, done.stdout)
    finally:
        subprocess.run(['fusermount3', '-uzq', str(tmp_path / 'final')], stderr=subprocess.DEVNULL)


def test_every_recipe(archive):
    table = PAGE.split('<!-- recipes: ')[1].split('\n\n')[0]
    recipes = re.findall(r'^\| [^|]* \| `([^`]+)` \|$', table, re.M)[1:]		# not the head
    assert len(recipes) > 45
    for recipe in recipes:
        if recipe.startswith(('lose', 'damage', 'unavailable')):
            archive.post('/v1/reset')
            archive.archived('a')
        done = subprocess.run([MOCKARCHIVE, 'ctl', '--url', 'unix:' + archive.socket] + shlex.split(recipe.replace('*', '\\*')),
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (recipe, done.stderr)
        archive.request('DELETE', '/v1/faults')


def test_every_key_of_a_rule_is_on_the_page():
    rule = OPENAPI['components']['schemas']['FaultRequest']['properties']
    for section in ('match', 'when', 'do'):
        for key in rule[section]['properties']:
            assert re.search(r'[`(]%s[`)=]' % key, PAGE), key
    for value in rule['do']['properties']['rest']['enum'] + rule['do']['properties']['flag']['enum'] + rule['do']['properties']['replica']['enum']:
        assert '`%s`' % value in PAGE, value


def test_every_call_is_on_the_page():
    for path in OPENAPI['paths']:
        first = '/'.join(path.split('/')[:3]).replace('/{path}', '')
        assert first in PAGE, path
