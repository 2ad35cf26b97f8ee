#!/bin/bash
# setup.sh MODE [--retry] [--packages]: gets what wormfs needs, on Debian and its relatives.
# Says one line per thing it does, and nothing when nothing is missing.
#
#   build       what the build needs, and a libfuse with FUSE over io_uring under build/libfuse
#   test        build, and what the tests use
#   suites      test, and what the long suites use (a kernel of their own, NFS, PostgreSQL)
#   bench       build, and the filesystems that wormfs is measured against
#   --retry     gets libfuse anew, whatever came of the last attempt
#   --packages  only the packages: for an administrator, on behalf of a user who is not root
#
# Exit status: 0 all is there, 1 the packages cannot be installed, 2 wrong usage, or packages
# are missing and we are not root. A libfuse that cannot be had is no error: wormfs also
# builds with the distribution's, and the reason is in build/libfuse/build.log.

set -u
export LC_ALL=C
# We run inside make too; what the builder set for wormfs is not meant for libfuse.
unset CFLAGS CXXFLAGS CPPFLAGS LDFLAGS DESTDIR MAKEFLAGS PKG_CONFIG_PATH APT_CONFIG

build=(gcc g++ make pkg-config fuse3 libfuse3-dev libsqlite3-dev libssl-dev
	libcurl4-openssl-dev zlib1g-dev libjansson-dev libinih-dev attr libmicrohttpd-dev libgnutls28-dev libpcre2-dev
	meson ninja-build dpkg-dev liburing-dev libnuma-dev)	# this line and g++: to build libfuse
test=(libcmocka-dev python3-pytest python3-pytest-xdist clang shellcheck strace openssl
	e2fsprogs xfsprogs btrfs-progs mandoc util-linux iproute2 attr acl libcap2-bin
	rsync git vim curl sqlite3 tar zip unzip bindfs fio stress-ng dbench fsmark
	samba smbclient samba-testsuite nfs-ganesha nfs-ganesha-vfs libnfs-utils
	gfal2-plugin-http gfal2-plugin-file gfal2-util-scripts python3-gfal2 python3-gfal2-util
	chromium jq python3-jsonschema nghttp2-proxy prometheus python3-prometheus-client
	quota dbus-daemon dbus-bin systemd)
suites=(user-mode-linux kmod dmsetup nfs-kernel-server nfs-common rpcbind
	postgresql bonnie++ libnl-3-dev libnl-genl-3-dev)
bench=(fio bindfs mergerfs fuse-overlayfs)
command -v npm >/dev/null || test+=(nodejs npm)	# Debian's; another one's npm comes with its nodejs

# 3.18 has FUSE over io_uring, and 3.18.3 its crash fixes. Source: libfuse's ChangeLog.rst.
libfuse_min=3.18.3

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
dir=$root/build/libfuse		# whatever BUILD is: all build directories share it
stamp=$dir/stamp		# what the last attempt came to; it is there only when that one ended
log=$dir/build.log

say() { echo "setup.sh: $*" >&2; }

missing_of()
{
	comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
			sed -n 's/^installed //p' | sort -u)
}

enabled_units()
{
	systemctl --root=/ list-unit-files --state=enabled --no-legend 2>/dev/null |
		awk '{ print $1 }' | grep -E '\.(service|socket)$' | sort
}

# No daemon that comes along is started, now or at the next boot: the tests run their own.
# A subshell, for its exit trap.
install_packages()
(
	policy=/usr/sbin/policy-rc.d mark='made by wormfs setup.sh'
	say "installing $*"
	out=$(mktemp) || exit
	trap 'rm -f "$out"' EXIT
	# A policy of the administrator's own stays in force; one left by a killed run is ours.
	if ! [ -e "$policy" ] || grep -q "$mark" "$policy"; then
		trap 'rm -f "$out" "$policy"' EXIT
		printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" || exit
	fi
	before=$(enabled_units)
	# A source of packages that does not answer need not be the one that has ours.
	apt-get -q update >"$out" 2>&1
	if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --no-remove \
			-o DPkg::Lock::Timeout=120 install "$@" </dev/null >>"$out" 2>&1; then
		say 'the packages cannot be installed:'
		grep -E '^(E|W|Err)' "$out" >&2 || tail "$out" >&2
		exit 1
	fi
	mapfile -t new < <(comm -13 <(echo "$before") <(enabled_units))
	if [ ${#new[@]} -gt 0 ]; then
		say "not to be started at boot: ${new[*]}"
		systemctl --root=/ disable "${new[@]}" >/dev/null 2>&1
	fi
)

# The mirrors of whole distributions (no "-updates" or "-security") that this machine uses.
mirrors()
{
	apt-get update --print-uris |
		sed -nE "s,^'(.*)/dists/[a-z]+/InRelease'.*,\1,p" | sort -u
}

# The keyring that this machine's own sources name for the mirror; nothing: apt's default.
keyring_of()
{
	local list parts f

	eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
	# An entry is one paragraph in *.sources, and becomes one in *.list.
	for f in "$list" "$parts"/*.list "$parts"/*.sources; do
		[ -r "$f" ] && sed '/^#/d; s/^deb/\n&/' "$f" && echo
	done | awk -v RS= -v uri="$1" 'index($0, uri) &&
		match($0, /[Ss]igned-[Bb]y[:=][ \t]*\/[^], \t\n]+/) {
			entry = substr($0, RSTART, RLENGTH)
			print substr(entry, index(entry, "/"))
			exit
		}'
}

# Unpacks a new enough libfuse into $dir/src, from Debian's source package. apt works here
# with sources and state of its own, and insists on the archive's signature: it covers the
# checksums of the package. The package's own signature is its uploader's, whose key a user
# does not have: dpkg-source says so in the log.
fetch()
{
	local apt=$dir/apt mirror suite keyring version

	for mirror in $(mirrors); do for suite in testing unstable; do
		rm -rf "$apt"
		mkdir -p "$apt/lists/partial" "$apt/archives/partial" || return
		cat >"$apt/apt.conf" <<-END
			Dir::State "$apt";
			Dir::Cache "$apt";
			Dir::Etc::sourcelist "$apt/sources.list";
			Dir::Etc::sourceparts "/dev/null";
			Acquire::AllowInsecureRepositories "false";
			Acquire::AllowWeakRepositories "false";
			Acquire::Retries "1";
			Acquire::http::Timeout "20";
			Acquire::https::Timeout "20";
			APT::Get::AllowUnauthenticated "false";
			APT::Update::Error-Mode "any";
			#clear APT::Update::Pre-Invoke;
			#clear APT::Update::Post-Invoke;
			#clear APT::Update::Post-Invoke-Success;
		END
		keyring=$(keyring_of "$mirror")
		echo "deb-src ${keyring:+[signed-by=$keyring] }$mirror $suite main" >"$apt/sources.list"
		cat "$apt/sources.list"
		apt-get -q -c "$apt/apt.conf" update || continue
		version=$(apt-cache -c "$apt/apt.conf" showsrc --only-source fuse3 |
			sed -n 's/^Version: //p' | sort -V | tail -n 1)
		echo "$suite has fuse3 ${version:-not at all}"
		dpkg --compare-versions "$version" ge "$libfuse_min" || continue
		(cd "$apt/archives" &&
			apt-get -q -c "$apt/apt.conf" --download-only source "fuse3=$version" &&
			dpkg-source --no-copy -x fuse3_*.dsc "$dir/src") && return
	done; done
	echo "no mirror of this machine has fuse3 >= $libfuse_min"
	return 1
}

# Static, so that wormfs needs no run path. --bindir is where libfuse looks for fusermount3:
# that stays the distribution's, which is setuid root.
compile()
{
	meson setup "$dir/obj" "$dir/src" --prefix="$dir" --libdir=lib --bindir=/usr/bin \
		--buildtype=release --default-library=static --wrap-mode=nodownload \
		-Dutils=false -Dtests=false -Dexamples=true -Denable-io-uring=true &&
	grep '^#define HAVE_URING' "$dir/obj/fuse_config.h" &&
	ninja -C "$dir/obj" lib/libfuse3.a example/passthrough_hp &&
	install -D "$dir/obj/example/passthrough_hp" "$dir/bin/passthrough_hp" &&
	meson install -C "$dir/obj" --no-rebuild
}

# Debian's own package has no FUSE over io_uring, whatever its version: its build
# dependencies lack liburing. Source: debian/control of fuse3 3.18.3-1.
distribution_suffices()
{
	pkg-config --atleast-version="$libfuse_min" fuse3 &&
		objdump -p "$(pkg-config --variable=libdir fuse3)/libfuse3.so" |
			grep -q 'NEEDED.*liburing'
}

get_libfuse()
{
	local lost='no FUSE over io_uring'

	mkdir -p "$dir" && exec 9>"$dir/.lock" && flock 9 || return
	[ -z "$retry" ] && [ -s "$stamp" ] && return	# another run was faster
	rm -rf "${dir:?}"/*
	if distribution_suffices; then
		echo "the distribution's libfuse suffices" >"$stamp"
		return
	fi
	say "getting a libfuse >= $libfuse_min into $dir"
	if { fetch && compile; } </dev/null >"$log" 2>&1; then
		sed -n 's/^Version: /built: libfuse /p' "$dir/lib/pkgconfig/fuse3.pc" >"$stamp"
	else
		rm -rf "${dir:?}"/{src,lib,include,bin}
		pkg-config --atleast-version=3.17 fuse3 || lost+=', no kernel passthrough, no O_TMPFILE'
		lost+=": slower; the distribution's libfuse $(pkg-config --modversion fuse3) is used"
		echo "not built: $lost" >"$stamp"
		say "libfuse >= $libfuse_min cannot be had, see $log: $lost"
	fi
	rm -rf "$dir/obj" "$dir/apt"
}

# The SDK that parses our events in tests/integration/test_events_cloudevents.py: what package-lock.json names, its checksums checked.
sdk_from=$root/tests/integration/tools/cloudevents sdk_to=$root/build/cloudevents

has_cloudevents()
{
	cmp -s "$sdk_from/package-lock.json" "$sdk_to/done"
}

get_cloudevents()
{
	local to=$sdk_to

	mkdir -p "$to" && exec 8>"$to/.lock" && flock 8 && cp "$sdk_from"/package*.json "$to" || return
	has_cloudevents && return	# another run was faster
	rm -f "$to/lost"
	if timeout 120 npm ci --prefix "$to" --cache "$to/cache" --fetch-retries 1 --ignore-scripts --no-audit --no-fund </dev/null >"$to/log" 2>&1; then
		rm -rf "$to/cache"
		cp "$sdk_from/package-lock.json" "$to/done"
	else
		: >"$to/lost"
		say "the SDK of CloudEvents cannot be had, see $to/log: the test that needs it is skipped"
	fi
}

mode=${1:-} wants_libfuse='' wants_cloudevents='' retry='' only_packages=''
case $mode in
build)  wanted=("${build[@]}") ;;
test)   wanted=("${build[@]}" "${test[@]}") ;;
suites) wanted=("${build[@]}" "${test[@]}" "${suites[@]}") ;;
bench)  wanted=("${build[@]}" "${bench[@]}") ;;
*)      say 'usage: setup.sh build|test|suites|bench [--retry] [--packages]'; exit 2 ;;
esac
for arg in "${@:2}"; do
	case $arg in
	--retry)    retry=1 ;;
	--packages) only_packages=1 ;;
	*)          say "unknown option '$arg'"; exit 2 ;;
	esac
done

if ! command -v apt-get >/dev/null; then
	say "needs apt; elsewhere install what these Debian packages hold: ${wanted[*]}"
	exit 2
fi
mapfile -t missing < <(missing_of "${wanted[@]}")
if [ ${#missing[@]} -gt 0 ]; then
	if [ $EUID -ne 0 ]; then
		say "missing: ${missing[*]};" \
			"an administrator runs: sudo '$root/scripts/setup.sh' $mode --packages"
		exit 2
	fi
	install_packages "${missing[@]}" || exit 1
fi

[ -n "$retry" ] || ! [ -s "$stamp" ] && wants_libfuse=1
case $mode in
test|suites) { [ -n "$retry" ] || ! [ -e "$sdk_to/lost" ]; } && ! has_cloudevents && wants_cloudevents=1 ;;
esac
if [ -z "$only_packages" ] && [ -n "$wants_libfuse$wants_cloudevents" ]; then
	# Under sudo, in a user's checkout: what is built there is the user's.
	owner=$(stat -c %u "$root")
	if [ $EUID -eq 0 ] && [ "$owner" -ne 0 ]; then
		exec setpriv --reuid "$owner" --regid "$(stat -c %g "$root")" --clear-groups \
			"$root/scripts/setup.sh" "$@"
	fi
	[ -z "$wants_libfuse" ] || get_libfuse
	[ -z "$wants_cloudevents" ] || get_cloudevents
fi
