# wormfs: one Makefile, read from top to bottom. `make help` lists the targets.
#
# CFLAGS, LDFLAGS and BUILD are the builder's and come last:
#   make BUILD=build-asan CFLAGS='-O1 -g -fsanitize=address,undefined' check

VERSION := 0.1.0
BUILD ?= build
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g
PYTHON ?= /usr/bin/python3
SETUP ?= scripts/setup.sh

# scripts/setup.sh builds a newer libfuse into build/libfuse where the distribution's is older than
# 3.18; LIBFUSE=system links the distribution's all the same.
LIBFUSE ?= private
ifeq ($(LIBFUSE),private)
PKG_CONFIG_PATH := $(CURDIR)/build/libfuse/lib/pkgconfig:$(PKG_CONFIG_PATH)
endif

.DEFAULT_GOAL := all
PACKAGES_STORE := sqlite3 libcrypto jansson inih libcurl
PACKAGES_FS := fuse3 $(PACKAGES_STORE)
PACKAGES_HTTP := libmicrohttpd gnutls libcrypto jansson
PACKAGES_FAULT := jansson libpcre2-8
PACKAGES_ARCHIVE := fuse3 zlib
# V=1 shows the commands.
say = $(if $(V),,@printf '  %s  %s\n' $(1) $@;)
# As many at once as there are processors, unless the caller has said something else.
jobs = $(if $(filter -j%,$(MAKEFLAGS))$(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))
pkg = $(shell PKG_CONFIG_PATH='$(PKG_CONFIG_PATH)' pkg-config $(1) $(2))

OUR_CFLAGS = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -DWORMFS_VERSION='"$(VERSION)"' -I. \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wno-unused-parameter \
	-fno-strict-aliasing -fstack-protector-strong -D_FORTIFY_SOURCE=2 -pthread -MMD -MP
OUR_LDFLAGS = -pthread -Wl,-z,relro,-z,now

STORE_SRC := $(sort $(wildcard lockstore/*.c lockstore/events/*.c lockstore/upstream/*.c))
CTL_SRC := $(sort $(wildcard lockstore/wormctl/*.c))
FS_SRC := $(sort $(wildcard fs/*.c))
# What the mocks and wormctl serve share: mockarchive/http_*.c. Nothing of it is in wormfs.
HTTP_SRC := $(sort $(wildcard mockarchive/http_*.c))
QUMULO_SRC := $(sort $(wildcard mockarchive/mockqumulo/*.c))
# What unit tests and fuzzers link of it: the pure modules.
QUMULO_PURE_SRC := $(addprefix mockarchive/mockqumulo/,qtime.c route.c switches.c lock_rules.c faults.c)
FAULT_SRC := $(sort $(wildcard mockarchive/fault*.c))
ARCHIVE_SRC := $(filter-out $(HTTP_SRC) $(FAULT_SRC),$(sort $(wildcard mockarchive/*.c)))
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
TOOL_SRC := $(sort $(wildcard tests/integration/tools/*.c) tests/bench/fsbench.c)
ALL_SRC := $(STORE_SRC) $(CTL_SRC) $(FS_SRC) $(HTTP_SRC) $(FAULT_SRC) $(ARCHIVE_SRC) $(QUMULO_SRC) $(UNIT_SRC) $(TOOL_SRC) tests/bench/policybench.c tests/bench/eventbench.c

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
TOOL_BIN := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(TOOL_SRC)))
# What a unit test may link of the daemon: the modules that know nothing of libfuse.
FS_PURE_SRC := $(filter fs/guard.c fs/control_request.c fs/quota_command.c fs/quota_netlink.c,$(FS_SRC))

## all: build wormfs, wormctl and mockarchive (installs what is missing first)
all: setup-build
	@$(MAKE) --no-print-directory $(jobs) programs

programs: $(BUILD)/wormfs $(BUILD)/wormctl $(BUILD)/mockqumulo $(BUILD)/mockarchive

setup-build:
	@$(SETUP) build

$(BUILD)/libwormstore.a: $(call obj,$(STORE_SRC))
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(BUILD)/libwormhttp.a: $(call obj,$(HTTP_SRC))
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(BUILD)/wormfs: $(call obj,$(FS_SRC)) $(BUILD)/libwormstore.a
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_FS)) $(LDFLAGS)

$(BUILD)/wormctl: $(call obj,$(CTL_SRC) fs/guard.c) $(BUILD)/libwormhttp.a $(BUILD)/libwormstore.a
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_STORE) $(PACKAGES_HTTP)) $(LDFLAGS)

$(BUILD)/mockqumulo: $(call obj,$(QUMULO_SRC)) $(BUILD)/libwormhttp.a
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_HTTP)) $(LDFLAGS)

# The daemon of wormfs with an archive in between (fs/tier.h), not a copy of it.
$(BUILD)/mockarchive: $(call obj,$(ARCHIVE_SRC) $(FAULT_SRC) $(filter-out fs/main.c,$(FS_SRC))) $(BUILD)/libwormhttp.a $(BUILD)/libwormstore.a
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_FS) $(PACKAGES_ARCHIVE) $(PACKAGES_HTTP) $(PACKAGES_FAULT)) -lm $(LDFLAGS)

$(BUILD)/obj/fs/%.o: fs/%.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(OUR_CFLAGS) $(call pkg,--cflags,$(PACKAGES_FS)) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/mockarchive/%.o: mockarchive/%.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(OUR_CFLAGS) $(call pkg,--cflags,$(PACKAGES_HTTP) $(PACKAGES_ARCHIVE)) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/mockarchive/web.o: $(wildcard mockarchive/web/*)
$(BUILD)/obj/lockstore/wormctl/serve_page.o: $(wildcard lockstore/wormctl/web/*)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(OUR_CFLAGS) $(call pkg,--cflags,$(PACKAGES_STORE)) $(CFLAGS) -c -o $@ $<

# Of the mocks each has what it tests: both call their rules faults.
$(BUILD)/tests/test_mockqumulo: $(call obj,$(QUMULO_PURE_SRC))
$(BUILD)/tests/test_fault: $(call obj,$(FAULT_SRC))
# The kernel's warnings are made up there: nobody can send in its name.
$(BUILD)/tests/test_quota_listener: $(call obj,fs/quota_listener.c fs/log.c)
$(BUILD)/tests/test_quota_listener: OUR_LDFLAGS += -Wl,--wrap=quota_netlink_open,--wrap=quota_netlink_join,--wrap=quota_netlink_receive
$(BUILD)/obj/tests/unit/test_quota_listener.o: OUR_CFLAGS += $(call pkg,--cflags,$(PACKAGES_FS))

$(UNIT_BIN): $(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(FS_PURE_SRC)) $(BUILD)/libwormstore.a $(BUILD)/libwormhttp.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(call pkg,--libs,$(PACKAGES_STORE)) \
		-Wl,--as-needed $(call pkg,--libs,$(PACKAGES_HTTP) $(PACKAGES_FAULT)) $(LDFLAGS)

# Not with the builder's CFLAGS: a sanitizer looks at wormfs, not at what tests it.
$(TOOL_BIN): $(BUILD)/tests/%:
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(OUR_CFLAGS) $(OUR_LDFLAGS) -O2 -g -MF $@.d -o $@ $(filter %/$(@F).c,$(TOOL_SRC))
$(foreach src,$(TOOL_SRC),$(eval $(BUILD)/tests/$(basename $(notdir $(src))): $(src)))

$(BUILD)/tests/policybench $(BUILD)/tests/eventbench: $(BUILD)/tests/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libwormstore.a
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_STORE)) $(LDFLAGS)

tests-bin: $(UNIT_BIN) $(TOOL_BIN) $(BUILD)/tests/policybench $(BUILD)/tests/eventbench

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ALL_SRC)) $(addsuffix .d,$(TOOL_BIN))

## unit: unit tests only
unit: setup-test
	@$(MAKE) --no-print-directory $(jobs) $(UNIT_BIN)
	@set -e; for t in $(UNIT_BIN); do $$t; done

## bench: wormfs beside its peers, needs root; ARGS='--quick --goals', ARGS=--audit, ARGS=--events (tests/bench/bench.py --help)
bench: setup-bench
	@$(MAKE) --no-print-directory $(jobs) programs $(BUILD)/tests/fsbench $(BUILD)/tests/policybench $(BUILD)/tests/eventbench
	@BUILD='$(BUILD)' $(PYTHON) tests/bench/bench.py $(ARGS)

## bench-push: locks a second to a cluster, beside the serial way; ARGS='--goals --pending 1000000' (tests/bench/pushbench.py --help)
bench-push: setup-bench
	@$(MAKE) --no-print-directory $(jobs) programs $(BUILD)/tests/mkfiles
	@BUILD='$(BUILD)' $(PYTHON) tests/bench/pushbench.py $(ARGS)

setup-bench:
	@$(SETUP) bench

setup-test:
	@$(SETUP) test

# The integration suite with these mount options; the first is what a user gets.
PYTEST = scripts/pytest.sh
TRANSPORTS := io_uring=no io_uring=no,splice=no passthrough=no io_uring=no,passthrough=no io_uring=no,passthrough=no,splice=no
# What the other combinations run of it: everything that a transport can change.
TRANSPORT_TESTS := test_lock.py test_lock_names.py test_lock_side_doors.py test_mapping.py test_race.py test_staging.py test_tmpfile.py \
	test_posix_owners.py test_posix_names.py test_posix_attributes.py test_posix_data.py test_posix_directories.py test_posix_mount.py \
	test_posix_sync.py test_posix_locks.py test_append.py test_model.py test_trips.py test_crash.py test_commit.py test_start.py \
	test_control.py test_tamper.py test_names.py test_inodes.py test_attacks_kernel.py test_attacks_descriptors.py test_no_leases.py test_transports.py
SAN_ENV = ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$(CURDIR)/tests/tsan.supp
# A tenth of these is run (scaled()): a sanitizer makes each round slow.
SAN_ROUNDS = WORMFS_TEST_ROUNDS=20000 WORMFS_TEST_KILLS=80 WORMFS_TEST_FILES=50000 WORMFS_TEST_DEADLINE=60
SUITES := tests/suites/run.sh

## run: install, build, and mount wormfs over SHARE=/some/dir in the foreground; OPTIONS=mount options
run: setup-build
	@test -n '$(SHARE)' || { echo 'make run: which directory? make run SHARE=/some/dir' >&2; exit 2; }
	@$(MAKE) --no-print-directory $(jobs) programs
	@scripts/run.sh '$(BUILD)' '$(SHARE)' '$(OPTIONS)'

## check: install, build, and run the unit tests and the integration tests (root: on real mounts)
check: setup-test
	@$(MAKE) --no-print-directory $(jobs) programs tests-bin
	@set -e; for t in $(UNIT_BIN); do $$t; done
	WORMFS=$(BUILD)/wormfs $(PYTEST) tests/integration

## check-transports: the tests that a transport can change, in every combination, mounted elsewhere, and with the distribution's libfuse
check-transports: setup-test
	@$(MAKE) --no-print-directory $(jobs) programs tests-bin
	@echo "== 200 kills"
	@WORMFS_TEST_KILLS=200 WORMFS=$(BUILD)/wormfs $(PYTEST) tests/integration/test_crash.py -k T32_every_file
	@set -e; for t in $(TRANSPORTS); do echo "== $$t"; \
		WORMFS_TEST_KILLS=100 WORMFS=$(BUILD)/wormfs WORMFS_TEST_OPTIONS=$$t $(PYTEST) $(addprefix tests/integration/,$(TRANSPORT_TESTS)); done
	@echo "== mounted on a directory of its own"
	@WORMFS_TEST_KILLS=20 WORMFS=$(BUILD)/wormfs WORMFS_TEST_APART=1 $(PYTEST) $(addprefix tests/integration/,$(TRANSPORT_TESTS))
	@echo "== the distribution's libfuse (left out: O_TMPFILE, which libfuse before 3.17 does not have)"
	@$(MAKE) --no-print-directory $(jobs) BUILD=$(BUILD)-distribution LIBFUSE=system programs tests-bin
	@WORMFS_TEST_KILLS=100 WORMFS=$(BUILD)-distribution/wormfs WORMCTL=$(BUILD)-distribution/wormctl $(PYTEST) \
		-k 'not T24 and not nameless' $(addprefix tests/integration/,$(filter-out test_tmpfile.py,$(TRANSPORT_TESTS)))

## check-asan, check-tsan: unit and integration tests under the address and undefined, or thread sanitizer
ASAN := BUILD=build-asan CFLAGS='-O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer'
TSAN := BUILD=build-tsan CFLAGS='-O1 -g -fsanitize=thread -fno-omit-frame-pointer'
check-asan: setup-test
	@$(MAKE) --no-print-directory $(jobs) $(ASAN) programs tests-bin
	@$(MAKE) --no-print-directory $(ASAN) sanitized
check-tsan: setup-test
	@$(MAKE) --no-print-directory $(jobs) $(TSAN) programs tests-bin
	@$(MAKE) --no-print-directory $(TSAN) sanitized

sanitized: programs tests-bin
	@set -e; for t in $(UNIT_BIN); do $(SAN_ENV) $$t; done
	$(SAN_ENV) $(SAN_ROUNDS) WORMFS=$(BUILD)/wormfs $(PYTEST) tests/integration

## suites: outside programs and crashes on a mount (kill, power loss, snapshots, Samba, NFS, user-mode Linux)
suites:
	@$(SETUP) suites
	@$(MAKE) --no-print-directory $(jobs) programs
	$(SUITES) never kill9 powerloss-ext4 powerloss-xfs snapshots crashpoint errinject users smb nfs stress uml-dm uml-nfsd uml-quota
	$(SUITES) lock kill9 powerloss-ext4 powerloss-xfs snapshots crashpoint errinject smb

## suites-short: those of them that CI runs
suites-short:
	@$(SETUP) suites
	@$(MAKE) --no-print-directory $(jobs) programs
	ROUNDS=3 POINTS=1 $(SUITES) never kill9 powerloss-ext4 snapshots crashpoint errinject users nfs uml-nfsd
	ROUNDS=3 POINTS=1 $(SUITES) lock kill9 powerloss-ext4 powerloss-xfs snapshots crashpoint errinject

## soak: the long versions: 1,000,000 files, and the whole suite in every transport
soak: setup-test
	@$(MAKE) --no-print-directory $(jobs) programs tests-bin
	@set -e; for t in '' $(TRANSPORTS); do echo "== $$t"; JOBS=0 WORMFS_TEST_SOAK=1 WORMFS_TEST_FILES=1000000 \
		WORMFS_TEST_OPTIONS=$$t WORMFS_TEST_TIMEOUT=3600 WORMFS=$(BUILD)/wormfs $(PYTEST) tests/integration; done

FUZZERS := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZED := fs/control_request.c fs/quota_netlink.c $(addprefix lockstore/,byte_size.c ini_text.c limit.c limit_file.c limit_json.c record.c whole_write.c retention.c control.c case_name.c staging.c glob.c verify.c) $(sort $(wildcard lockstore/policy*.c)) \
	$(addprefix lockstore/upstream/,reply.c endpoint.c notify.c) $(addprefix lockstore/events/,event.c beegfs.c event_json.c) mockarchive/http_url.c
# What only the fuzzer of mockarchive's control port needs: all that answers, before an archive without a mount.
FUZZED_ARCHIVE := $(FAULT_SRC) $(wildcard mockarchive/api*.c) $(addprefix mockarchive/,rest.c stage.c stage_store.c dav.c base64.c web.c) fs/log.c tests/fuzz/fake_archive.c
FUZZ_SECONDS ?= 600
# 0: another one each time. CI has one, so that what it does today it does tomorrow; what is new is found by the long runs.
FUZZ_SEED ?= 0
## fuzz: libFuzzer on records, dates, control paths and requests, rules, replies and events of a cluster, requests to the mocks, fault rules, events, quota warnings, limits, FUZZ_SECONDS=600 each, FUZZ_SEED=N
fuzz: setup-test
	@mkdir -p $(BUILD)/fuzz
	@set -e; for f in $(FUZZERS); do n=$$(basename $$f .c); mkdir -p tests/fuzz/corpus/$$n; \
		case $$n in fuzz_mockarchive_http) more='$(FUZZED_ARCHIVE)' ;; fuzz_mockqumulo*) more='$(QUMULO_PURE_SRC)' ;; *) more='$(FAULT_SRC)' ;; esac; \
		clang -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE '-DWORMFS_VERSION="$(VERSION)"' -I. -o $(BUILD)/fuzz/$$n $$f \
			$$more $(FUZZED) $(call pkg,--cflags --libs,libcrypto jansson inih libpcre2-8 zlib); \
		echo "== $$n"; $(BUILD)/fuzz/$$n -seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 tests/fuzz/corpus/$$n; done

BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/wormfs
COMPLETION_DIR ?= $(PREFIX)/share/bash-completion/completions
RULES_DIR ?= $(DOCDIR)/rules
ARCHIVE_DIR ?= $(PREFIX)/share/mockarchive
UNIT_DIR ?= $(PREFIX)/lib/systemd/system
# Where mount(8) looks for it, whatever PREFIX is.
MOUNT_HELPER_DIR ?= /sbin
UNITS := $(notdir $(wildcard scripts/systemd/*))
DOCS := $(wildcard README.md CHANGELOG.md LICENSE docs/*.md)

## install: programs, man pages, completion, systemd unit, mount helper; DESTDIR, PREFIX=/usr/local
install: programs
	install -D -m 755 -t '$(DESTDIR)$(BINDIR)' $(BUILD)/wormfs $(BUILD)/wormctl $(BUILD)/mockarchive $(BUILD)/mockqumulo
	install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man1' docs/wormctl.1 docs/mockarchive.1 docs/mockqumulo.1
	install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man8' docs/wormfs.8
	install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man5' docs/wormfs.rules.5
	install -D -m 644 -t '$(DESTDIR)$(RULES_DIR)' $(sort $(wildcard docs/rules/*.rules))
	install -D -m 644 -t '$(DESTDIR)$(DOCDIR)' $(DOCS)
	install -D -m 644 scripts/completion/wormctl.bash '$(DESTDIR)$(COMPLETION_DIR)/wormctl'
	install -D -m 644 -t '$(DESTDIR)$(ARCHIVE_DIR)' scripts/mockarchive/mockarchive.sh scripts/mockarchive/pytest_mockarchive.py
	install -D -m 644 scripts/completion/mockarchive.bash '$(DESTDIR)$(COMPLETION_DIR)/mockarchive'
	install -D -m 644 scripts/completion/wormfs.bash '$(DESTDIR)$(COMPLETION_DIR)/wormfs'
	install -D -m 644 scripts/completion/mockqumulo.bash '$(DESTDIR)$(COMPLETION_DIR)/mockqumulo'
	install -d '$(DESTDIR)$(UNIT_DIR)' '$(DESTDIR)$(MOUNT_HELPER_DIR)'
	for unit in $(UNITS); do \
		sed 's,@BINDIR@,$(BINDIR),' scripts/systemd/$$unit >'$(DESTDIR)$(UNIT_DIR)/'$$unit && \
		chmod 644 '$(DESTDIR)$(UNIT_DIR)/'$$unit || exit 1; done
	sed 's,@BINDIR@,$(BINDIR),' scripts/mount.wormfs >'$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.wormfs'
	chmod 755 '$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.wormfs'
	ln -sf mount.wormfs '$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.fuse.wormfs'

## uninstall: take away what install put there; shares, locks and state directories stay
uninstall:
	rm -f '$(DESTDIR)$(BINDIR)/wormfs' '$(DESTDIR)$(BINDIR)/wormctl' '$(DESTDIR)$(BINDIR)/mockarchive' '$(DESTDIR)$(BINDIR)/mockqumulo'
	rm -f '$(DESTDIR)$(MANDIR)/man1/wormctl.1' '$(DESTDIR)$(MANDIR)/man1/mockarchive.1' '$(DESTDIR)$(MANDIR)/man1/mockqumulo.1' '$(DESTDIR)$(MANDIR)/man8/wormfs.8' '$(DESTDIR)$(MANDIR)/man5/wormfs.rules.5'
	rm -rf '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(ARCHIVE_DIR)'
	rm -f '$(DESTDIR)$(COMPLETION_DIR)/wormctl' '$(DESTDIR)$(COMPLETION_DIR)/wormfs' '$(DESTDIR)$(COMPLETION_DIR)/mockarchive' '$(DESTDIR)$(COMPLETION_DIR)/mockqumulo'
	rm -f $(patsubst %,'$(DESTDIR)$(UNIT_DIR)/%',$(UNITS))
	rm -f '$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.wormfs'
	rm -f '$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.fuse.wormfs'

## clean: remove what was built (not the private libfuse)
clean:
	rm -rf $(BUILD)/obj $(BUILD)/tests $(BUILD)/wormfs $(BUILD)/wormctl $(BUILD)/mockarchive $(BUILD)/mockqumulo $(BUILD)/*.a

## help: this list
help:
	@sed -n 's/^## //p' Makefile

## ci: what .ci/run runs: check, every transport, both sanitizers, short suites, short fuzzing
ci: export RETRY = 1
ci: check
	$(MAKE) --no-print-directory check-transports
	$(MAKE) --no-print-directory check-asan
	$(MAKE) --no-print-directory check-tsan
	$(MAKE) --no-print-directory suites-short
	$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=10 FUZZ_SEED=1

.PHONY: run check check-transports check-asan check-tsan sanitized suites suites-short soak fuzz ci all programs setup-build setup-test setup-bench tests-bin unit bench bench-push install uninstall clean help
