#!/bin/bash
# run.sh BUILD SHARE OPTIONS: mounts wormfs over SHARE in the foreground, says how to try it and how to stop.
set -eu
build=$1 share=$2 options=$3
[ -d "$share" ] || { echo "make run: '$share' is not a directory; make it first: mkdir -p '$share'" >&2; exit 2; }
cat <<TEXT

wormfs is mounted over $share in this terminal: every file written there is locked when it is closed.
In a second shell:

    echo report > '$share/a.txt'                      # closed: locked
    echo x >> '$share/a.txt'                          # Operation not permitted, also for root
    $build/wormctl list '$share'
    $build/wormctl status '$share/a.txt'
    $build/wormctl extend 30d '$share/a.txt'
    getfattr -n user.worm.state '$share/a.txt'

Stop it with Ctrl-C here, or with: umount '$share'
Locked files stay locked on the next mount; what you write into $share without the mount is not protected.

TEXT
exec "$build/wormfs" -f "$share" ${options:+-o "$options"}
