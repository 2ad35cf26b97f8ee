"""locked.py DIR SECONDS [WORD]... and locked.py DIR --verify < acks: writer.py, after whose --verify every acknowledged file
that is whole must be locked, too. run.sh puts it in writer.py's place where files are locked at close.
locked.py FILE --write DATA ACK: writes FILE; ACK is made once its close has returned 0.
locked.py FILE --check DATA ACK: FILE is locked and whole where ACK is there. Exit 1: it is not."""
import errno, os, runpy, sys

WRITER = os.path.join(os.environ.get('WRITER_DIR') or os.path.dirname(os.path.realpath(__file__)), 'writer.py')


def unlocked(path):
    """Why the file is not locked; None where it is."""
    try:
        os.close(os.open(path, os.O_WRONLY))
        return 'opens for writing'
    except OSError as e:
        if e.errno != errno.EPERM:
            return 'opens for writing with ' + errno.errorcode[e.errno]
    state = os.getxattr(path, 'user.worm.state').decode()
    return None if state in ('retained', 'expired') else 'is ' + state


def verify(root):
    """writer.py says what is lost; of the rest each must be locked. Both read the same acknowledgements."""
    acks = sys.stdin.read()
    done = 0
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:      # writer.py reads its standard input and exits
        os.dup2(read_end, 0)
        os.close(write_end)
        os.execv(sys.executable, [sys.executable, WRITER, root, '--verify'])
    os.close(read_end)
    with os.fdopen(write_end, 'w') as f:
        f.write(acks)
    lost = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    bad = 0
    for line in acks.splitlines():
        words = line.split()
        if len(words) != 3 or words[0] != 'ACK':
            continue
        path = os.path.join(root, words[1])
        if not os.path.exists(path):    # writer.py has said so
            continue
        done += 1
        why = unlocked(path)
        if why:
            bad += 1
            print('NOT LOCKED', words[1], why)
    print('verified', done, 'locked,', bad, 'not')
    return 1 if lost or bad or not done else 0


def write(path, data, ack):
    if os.path.exists(ack):
        os.unlink(ack)
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    if os.write(fd, data.encode()) != len(data):
        return 1
    os.close(fd)        # raises where it fails
    os.close(os.open(ack, os.O_CREAT | os.O_WRONLY, 0o644))
    return 0


def check(path, data, ack):
    if not os.path.exists(ack):
        return 0
    with open(path, encoding='ascii') as f:
        if f.read() != data:
            print(path, 'is not whole')
            return 1
    why = unlocked(path)
    if why:
        print(path, why)
    return 1 if why else 0


if sys.argv[2] == '--verify':
    sys.exit(verify(sys.argv[1]))
if sys.argv[2] in ('--write', '--check'):
    sys.exit((write if sys.argv[2] == '--write' else check)(sys.argv[1], *sys.argv[3:5]))
runpy.run_path(WRITER, run_name='__main__')
