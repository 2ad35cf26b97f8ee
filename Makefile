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
PACKAGES_STORE := sqlite3 libcrypto jansson
PACKAGES_FS := fuse3 $(PACKAGES_STORE)
pkg = $(shell PKG_CONFIG_PATH='$(PKG_CONFIG_PATH)' pkg-config $(1) $(2))

OUR_CFLAGS = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 -DWORMFS_VERSION='"$(VERSION)"' -I. \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wno-unused-parameter \
	-fno-strict-aliasing -fstack-protector-strong -D_FORTIFY_SOURCE=2 -pthread -MMD -MP
OUR_LDFLAGS = -pthread -Wl,-z,relro,-z,now

STORE_SRC := $(sort $(wildcard lockstore/*.c))
CTL_SRC := $(sort $(wildcard lockstore/wormctl/*.c))
FS_SRC := $(sort $(wildcard fs/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
TOOL_SRC := $(sort $(wildcard tests/integration/tools/*.c tests/bench/*.c))
ALL_SRC := $(STORE_SRC) $(CTL_SRC) $(FS_SRC) $(UNIT_SRC) $(TOOL_SRC)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
TOOL_BIN := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(TOOL_SRC)))
# What a unit test may link of the daemon: the modules that know nothing of libfuse.
FS_PURE_SRC := $(filter fs/guard.c fs/staging.c,$(FS_SRC))

## all: build wormfs and wormctl (installs what is missing first)
all: setup-build
	@$(MAKE) --no-print-directory programs

programs: $(BUILD)/wormfs $(BUILD)/wormctl

setup-build:
	@$(SETUP) build

$(BUILD)/libwormstore.a: $(call obj,$(STORE_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/wormfs: $(call obj,$(FS_SRC)) $(BUILD)/libwormstore.a
	$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_FS)) $(LDFLAGS)

$(BUILD)/wormctl: $(call obj,$(CTL_SRC) fs/guard.c) $(BUILD)/libwormstore.a
	$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ $(call pkg,--libs,$(PACKAGES_STORE)) $(LDFLAGS)

$(BUILD)/obj/fs/%.o: fs/%.c
	@mkdir -p $(@D)
	$(CC) $(OUR_CFLAGS) $(call pkg,--cflags,$(PACKAGES_FS)) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(OUR_CFLAGS) $(call pkg,--cflags,$(PACKAGES_STORE)) $(CFLAGS) -c -o $@ $<

$(UNIT_BIN): $(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(FS_PURE_SRC)) $(BUILD)/libwormstore.a
	@mkdir -p $(@D)
	$(CC) $(OUR_LDFLAGS) $(CFLAGS) -o $@ $^ -lcmocka $(call pkg,--libs,$(PACKAGES_STORE)) $(LDFLAGS)

$(TOOL_BIN): $(BUILD)/tests/%: 
	@mkdir -p $(@D)
	$(CC) $(OUR_CFLAGS) $(OUR_LDFLAGS) $(CFLAGS) -MF $@.d -o $@ $(filter %/$(@F).c,$(TOOL_SRC)) $(LDFLAGS)
$(foreach src,$(TOOL_SRC),$(eval $(BUILD)/tests/$(basename $(notdir $(src))): $(src)))

tests-bin: $(UNIT_BIN) $(TOOL_BIN)

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(ALL_SRC)) $(addsuffix .d,$(TOOL_BIN))

## unit: unit tests only
unit: setup-test
	@$(MAKE) --no-print-directory $(UNIT_BIN)
	@set -e; for t in $(UNIT_BIN); do $$t; done

## bench: wormfs beside its peers, needs root; ARGS='--quick --goals' (tests/bench/bench.py --help)
bench: setup-bench
	@$(MAKE) --no-print-directory programs $(BUILD)/tests/fsbench
	@BUILD='$(BUILD)' $(PYTHON) tests/bench/bench.py $(ARGS)

setup-bench:
	@$(SETUP) bench

setup-test:
	@$(SETUP) test

## clean: remove what was built (not the private libfuse)
clean:
	rm -rf $(BUILD)/obj $(BUILD)/tests $(BUILD)/wormfs $(BUILD)/wormctl $(BUILD)/*.a

## help: this list
help:
	@sed -n 's/^## //p' Makefile

.PHONY: all programs setup-build setup-test setup-bench tests-bin unit bench clean help
