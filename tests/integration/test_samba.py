"""A mount that Samba serves (T41): a real smbd with docs/rules/samba-share.rules, smbclient as the program on the other side."""
import contextlib
import os
import re
import signal
import socket
import subprocess

import pytest

from harness import need_program, read_file, wait_for, write_file

RULES = os.path.join(os.path.dirname(__file__), '../../docs/rules/samba-share.rules')
IDLE_S = 4


class Smb:
    def __init__(self, conf, port, scratch):
        self.conf, self.port, self.scratch = conf, port, str(scratch)

    def __call__(self, *commands):
        """What the server answers, '' when all is well."""
        p = subprocess.run(['smbclient', '-s', self.conf, '-p', str(self.port), '-U', 'root%pw', '//127.0.0.1/t', '-c', ';'.join(commands)],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
        return ' '.join(sorted(set(re.findall(r'NT_STATUS_\w+', p.stdout.decode()))))

    def put(self, data, name):
        path = os.path.join(self.scratch, 'up')
        write_file(path, data)
        return self('put %s "%s"' % (path, name))

    def get(self, name):
        path = os.path.join(self.scratch, 'down')
        assert self('get "%s" %s' % (name, path)) == ''
        return read_file(path)


@pytest.fixture
def samba(mount, tmp_path):
    for program in ('smbd', 'smbclient', 'smbpasswd'):
        need_program(program)
    with open(RULES, encoding='utf-8') as f:
        text = f.read()
    assert 'commit = idle:60' in text
    rules = tmp_path / 'samba-share.rules'		# the template, in less time
    rules.write_text(text.replace('commit = idle:60', 'commit = idle:%d' % IDLE_S))
    share = mount('rules=%s' % rules)
    os.mkdir(share.at('archive'))
    os.chmod(share.mnt, 0o777)
    dirs = {d: tmp_path / d.replace(' ', '-') for d in ('private dir', 'lock directory', 'state directory', 'cache directory', 'pid directory',
                                                         'ncalrpc dir')}
    for d in dirs.values():
        d.mkdir()
    conf = tmp_path / 'smb.conf'
    with contextlib.closing(socket.socket()) as s:		# it takes 0 for its standard one
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    conf.write_text('''[global]
server role = standalone server
interfaces = 127.0.0.1
bind interfaces only = yes
smb ports = %d
disable netbios = yes
load printers = no
printing = bsd
printcap name = /dev/null
disable spoolss = yes
log file = %s
%s
[t]
path = %s
read only = no
force user = root
store dos attributes = yes
ea support = yes
''' % (port, tmp_path / 'smbd.log', '\n'.join('%s = %s' % d for d in dirs.items()), share.mnt))
    subprocess.run(['smbpasswd', '-c', conf, '-s', '-a', 'root'], input=b'pw\npw\n', stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   check=True)
    # It makes a session of its own, and signals that when it ends.
    smbd = subprocess.Popen(['smbd', '-s', conf, '-F'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        smb = Smb(str(conf), port, tmp_path)
        wait_for('smbd', lambda: smbd.poll() is not None or smb('ls') == '')
        assert smbd.poll() is None, (tmp_path / 'smbd.log').read_text()
        yield share, smb
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(smbd.pid, signal.SIGTERM)
        try:
            smbd.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(smbd.pid, signal.SIGKILL)
            smbd.wait()


def test_T41_a_copy_over_Samba_is_locked_when_it_is_left_alone(samba):
    share, smb = samba
    data = os.urandom(300000)
    assert smb.put(data, 'archive/scan.bin') == ''
    assert smb.put(data, 'archive/scan.docx') == ''
    share.wait_state('archive/scan.docx', 'retained')
    for command in ('del archive/scan.docx', 'rename archive/scan.docx archive/other.docx'):
        assert smb(command) != '', command
    assert smb.put(b'forged', 'archive/scan.docx') != ''
    assert smb.get('archive/scan.docx') == data == read_file(share.below('archive/scan.docx'))


def office_save(smb, name, data, n):
    """As office programs save: new data under a name of its own, the old file out of the way, the new one in its place, the
    old one away. The first step that the server refuses, and what it says; else ''."""
    new, old = 'archive/~WRD%04d.tmp' % n, 'archive/~WRL%04d.tmp' % n
    for step, do in (('write', lambda: smb.put(data, new)), ('move', lambda: smb('rename %s %s' % (name, old))),
                     ('replace', lambda: smb('rename %s %s' % (new, name))), ('delete', lambda: smb('del %s' % old))):
        said = do()
        if said:
            return '%s: %s' % (step, said)
    return ''


def test_T41_office_programs_save_again_until_the_file_is_left_alone_and_then_not(samba):
    share, smb = samba
    name = 'archive/letter.docx'
    assert smb.put(b'owner', 'archive/~$letter.docx') == ''
    assert smb.put(b'first', name) == ''
    assert office_save(smb, name, b'second', 1) == ''
    assert smb.get(name) == b'second' and sorted(os.listdir(share.at('archive'))) == ['letter.docx', '~$letter.docx']
    assert smb('del archive/~$letter.docx') == ''
    share.wait_state(name, 'retained')
    assert re.fullmatch(r'move: NT_STATUS_\w+', office_save(smb, name, b'third', 2))
    assert smb.get(name) == b'second' == read_file(share.below(name))
    # Its temporary file was none of the archive's: it goes like any other.
    assert smb('del archive/~WRD0002.tmp') == ''
    # Nor by a rename over it.
    assert smb.put(b'forged', 'archive/~WRD0003.tmp') == ''
    assert smb('rename archive/~WRD0003.tmp %s -f' % name) != ''
    assert smb.get(name) == b'second'
