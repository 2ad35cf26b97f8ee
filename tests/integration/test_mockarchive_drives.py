"""Drives that move data at once while time flows by itself; one after the other while somebody moves the clock."""
import os
import threading

import pytest

TIMES = {'archive__delay': '0', 'recall__delay': '0', 'tape__mount': '0', 'tape__seek': '0', 'tape__rewind': '0'}


def stuck_recall(a):
    """The recall of 'big' moves data, and does not get on: its copy on tape is a FIFO that nobody writes to. How to let it go on."""
    inode = '%x.' % os.stat(a.at('big')).st_ino
    tapes = os.path.join(a.store, 'tape')
    name, = (os.path.join(tapes, n) for n in os.listdir(tapes) if n.startswith(inode))
    os.rename(name, name + '.kept')
    os.mkfifo(name)
    a.ask('recall', 'big')

    def go_on():
        fd = os.open(name, os.O_WRONLY)		# returns when the mover has it open
        os.unlink(name)
        os.rename(name + '.kept', name)
        os.close(fd)
    return go_on


def flowing(archive, drives):
    a = archive(profile='cta', drives=drives, replica='on', **TIMES)
    for name in ('big', 'small', 'third'):
        a.archived(name, name.encode())
    a.api('PATCH', '/v1/clock', mode='real')
    return a


def go_on_after_kill(a):
    tapes = os.path.join(a.store, 'tape')
    kept, = (os.path.join(tapes, n) for n in os.listdir(tapes) if n.endswith('.kept'))
    os.rename(kept, kept[:-len('.kept')])


@pytest.mark.parametrize('how', ['goes on', 'kill'])
def test_a_copy_that_does_not_get_on_leaves_the_other_drive_working(archive, how):
    a = flowing(archive, 2)
    go_on = stuck_recall(a)
    a.ask('recall', 'small')
    a.wait('small', 'dual')
    assert a.is_now('big') == 'recalling'
    with open(a.at('new'), 'wb') as f:		# archived, with its replica, by the same drive
        f.write(b'new')
    a.wait('new', 'released')
    with open(os.path.join(a.replica, 'new'), 'rb') as f:
        assert f.read() == b'new'
    if how == 'kill':
        a.kill9()
        go_on_after_kill(a)
        open(os.path.join(a.replica, '.mockarchive-copy.ff'), 'wb').close()	# a copy that was cut short
        a.clock = 'real'
        a.start()
    else:
        go_on()
    a.wait('big', 'failed-recall,released,dual')
    a.ask('recall', 'big')
    a.wait('big', 'dual')
    with open(a.at('big'), 'rb') as f:
        assert f.read() == b'big'
    assert [n for n in os.listdir(a.replica) if n.startswith('.')] == []


def test_one_drive_does_one_after_the_other(archive):
    a = flowing(archive, 1)
    go_on = stuck_recall(a)
    a.ask('recall', 'small')
    go_on_later = threading.Timer(0.5, go_on)
    go_on_later.start()
    a.wait('small', 'dual')
    assert not go_on_later.is_alive() or a.is_now('big') != 'recalling'
    go_on_later.join()


def test_who_moves_the_clock_is_answered_when_all_drives_are_done(archive):
    a = flowing(archive, 2)
    go_on = stuck_recall(a)
    a.ask('recall', 'small')
    a.wait('small', 'dual')
    a.ask('recall', 'third')
    a.wait('third', 'dual')
    answered = threading.Event()

    def advance():
        a.advance(1)
        answered.set()
    mover = threading.Thread(target=advance)
    mover.start()
    try:
        assert not answered.wait(0.3) and a.is_now('big') == 'recalling'
    finally:
        go_on()
        mover.join()
    assert a.is_now('big') != 'recalling'
