"""bash completion offers what the programs take, all of it, and nothing else: compared with their --help both ways."""
import os
import re
import shlex

import pytest

import qumulo
from harness import BIN, ROOT, WORMCTL, WORMFS, run
from tape import MOCKARCHIVE
from test_docs import help_options, manual_options

PROGRAMS = {'wormctl': WORMCTL, 'wormfs': WORMFS, 'mockqumulo': qumulo.MOCKQUMULO, 'mockarchive': MOCKARCHIVE}
# compopt speaks to readline, which is not there; the programs that a completion asks are those of the build.
ASK = '''compopt() { :; }
%(functions)s
source %(script)s
COMP_WORDS=(%(words)s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_%(program)s
printf '%%s\\n' "${COMPREPLY[@]}"
'''


def offered(*words):
    """What Tab offers at the end of the last word."""
    script = ASK % {
        'functions': '\n'.join('%s() { %s "$@"; }' % (name, shlex.quote(path)) for name, path in PROGRAMS.items()),
        'script': shlex.quote(os.path.join(ROOT, 'scripts/completion', words[0] + '.bash')),
        'words': ' '.join(map(shlex.quote, words)), 'program': words[0]}
    p = run('bash', '--norc', '-c', script, cwd=BIN)		# no file there begins like an option
    assert p.err == ''
    return set(p.out.split())


def options_in(text):
    """{long option: takes a value} of the rows and usage lines of a help."""
    found = {}
    for line in text.splitlines():
        if line.startswith(('Usage:', '       wormctl', '       mock')):
            found.update((name, False) for name in re.findall(r'(--[a-z][a-z0-9-]*)', line) if name not in found)
        elif re.match(r' +(-\w, )?--', line):
            for name, value in re.findall(r'(?:^ +|, )(--[a-z][a-z0-9-]*)((?:[ =][A-Z]\S*)?)', line):
                found[name] = found.get(name, False) or bool(value)
    return found


def commands():
    return re.findall(r'^  ([a-z][a-z-]+) +\S', run(WORMCTL, '--help').out.split('\nOptions')[0], re.M)


def subcommands(command):
    """Of the usage lines of its help: "wormctl push status|list [OPTION]..."."""
    words = re.findall(r'^(?:Usage:|      ) wormctl %s ([a-z|]+)' % command, run(WORMCTL, command, '--help').out, re.M)
    return {word for each in words for word in each.split('|')}


def helps(command):
    text = run(WORMCTL, command, '--help').out
    if command == 'push':		# one page for each
        text += ''.join(run(WORMCTL, command, sub, '--help').out for sub in subcommands(command))
    return text


def test_every_command_of_wormctl_is_offered_and_no_other():
    assert offered('wormctl', '') == set(commands()) and len(commands()) > 20
    assert offered('wormctl', '-') == set(options_in(run(WORMCTL, '--help').out)) | {'--version'}


@pytest.mark.parametrize('command', commands() if os.path.exists(WORMCTL) else [])
def test_every_option_and_subcommand_of_a_command_is_offered_and_no_other(command):
    if command == 'errno-table':
        assert offered('wormctl', command, '') == {'--help'}
        return
    anywhere = set(options_in(run(WORMCTL, '--help').out))		# all commands take these, not all pages repeat them
    assert offered('wormctl', command, '-') - anywhere == set(options_in(helps(command))) - anywhere
    assert set(options_in(helps(command))) - offered('wormctl', command, '-') == set()
    if subcommands(command) and command not in ('hold',):
        assert offered('wormctl', command, '') == subcommands(command)
        for option, takes in options_in(helps(command)).items():
            if takes:
                assert (option, offered('wormctl', command, option, 'x', '')) == (option, subcommands(command))


def test_every_mount_option_of_wormfs_is_offered_and_no_other():
    names = {word.rstrip('=') for word in offered('wormfs', '-o', '')}
    assert help_options() - names == set()
    assert names - manual_options() == set()
    with_value = set(re.findall(r'^  (\w+)=', run(WORMFS, '--help').out, re.M))
    assert {word[:-1] for word in offered('wormfs', '-o', '') if word.endswith('=')} == with_value & names


@pytest.mark.parametrize('program', ['mockqumulo', 'mockarchive'])
def test_every_option_of_a_mock_is_offered_and_no_other(program):
    long_ones = {word for word in offered(program, '-') if word.startswith('--')}
    assert long_ones - {'--version'} == set(options_in(run(PROGRAMS[program], '--help').out)) - {'--version'}
