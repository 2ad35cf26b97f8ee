"""docs/mockarchive.md says what mockarchive does: its first five minutes, its example for a CI and all its recipes are run; so do the manual and /openapi.json."""
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


# Waits for the tape by itself, as ScopeMArchiver does, and compares digests. Exit status 1: they differ; 2: the tape did not come.
ARCHIVER = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do [ "$1" = --final ] && final=$2; shift 2; done
if [ "$1" = store ]; then
	head -c 100000 /dev/urandom >"$2.src" && sha256sum <"$2.src" >"$2.sum" && cp "$2.src" "$final/$2.tar"
	exit
fi
tries=0
until cp "$final/$2.tar" "$2.got" 2>/dev/null; do
	tries=$((tries + 1))
	[ "$tries" -lt 600 ] || exit 2
	sleep 0.05
done
sha256sum <"$2.got" | cmp -s - "$2.sum"
status=$?
echo "fetched: $status"
exit "$status"
"""


def test_the_example_for_a_CI(tmp_path):
    step = re.search(r'<!-- ci: .*?- run: \|\n( +\. /usr/local/.*?)```', PAGE, re.S).group(1).replace('/usr/local/share/', os.path.join(ROOT, 'scripts/'))
    archiver = tmp_path / 'our-archiver'
    archiver.write_text(ARCHIVER)
    archiver.chmod(0o755)
    done = subprocess.run(['bash', '-e', '-c', step], cwd=tmp_path, env=dict(os.environ, MOCKARCHIVE=MOCKARCHIVE, TMPDIR=str(tmp_path)),
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert re.findall('fetched: .', done.stdout) == ['fetched: 1', 'fetched: 0'], done


def test_every_route_is_in_the_description_and_the_other_way_round():
    with open(os.path.join(ROOT, 'mockarchive/api.c'), encoding='utf-8') as f:
        routes = set(re.findall(r'^\t\{ "([A-Z]+)", "([^"]+)", ', f.read(), re.M))
    assert len(routes) > 35
    page = {('GET', '/'), ('GET', '/app.js'), ('GET', '/style.css')}
    files = {(method, '/*') for method in ('GET', 'PUT', 'PROPFIND', 'OPTIONS')}		# of the data path
    described = {(method.upper(), re.sub(r'\{path\}', '*', re.sub(r'\{(?!path\})\w+\}', '{', path)))
                 for path, item in OPENAPI['paths'].items() for method in item if method != 'parameters'}
    orders = {(m, p) for m, p in described if m == 'POST' and p.startswith('/v1/files/')}		# one route, each described by itself
    assert page <= routes and files <= routes and orders
    assert described - orders | {('POST', '/v1/files/{')} == routes - page - files


def test_every_option_and_command_is_in_the_manual_and_the_other_way_round():
    with open(os.path.join(ROOT, 'docs/mockarchive.1'), encoding='utf-8') as f:
        manual = f.read()
    text = subprocess.run([MOCKARCHIVE, '--help'], capture_output=True, text=True, check=True).stdout
    ctl = subprocess.run([MOCKARCHIVE, 'ctl', '--help'], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r'^  (?:-\w, )?--([a-z-]+)', text, re.M))
    assert len(options) > 10
    description, commands_of = re.search(r'^\.Sh DESCRIPTION(.*?)^\.Sh CTL(.*?)^\.Sh ENVIRONMENT', manual, re.M | re.S).groups()
    assert set(re.findall(r'Fl -([a-z-]+)', '\n'.join(re.findall(r'^\.It Fl .*', description, re.M)))) == options
    switches = set(re.findall(r'^  ([a-z_.]+)=\S+$', text.split('\nSwitches')[1], re.M))
    assert set(re.findall(r'^\.It Cm (\S+) Ns = ', manual, re.M)) == switches
    commands = set(re.findall(r'^  ([a-z]+)', ctl, re.M))
    assert len(commands) > 25
    items = re.findall(r'^\.It Cm (.*)', commands_of, re.M)
    assert commands - set(re.findall(r'[a-z]+', ' '.join(items))) == set()
    assert {re.match('[a-z]+', part.replace('Cm ', '')).group() for item in items for part in item.split(' ; ')} - commands == set()
