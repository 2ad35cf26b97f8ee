/* The command line: the options of a mount as their table has them, --help, and what does not go together. */
#include "fs/options.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/option_table.h"
#include "lockstore/audit.h"
#include "lockstore/staging.h"
#include "lockstore/upstream/pusher.h"

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *format, ...)
{
	va_list ap;

	fputs("wormfs: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void print_help(void)
{
	fputs("Usage: wormfs [-f] [-d] SHARE [MOUNTPOINT] [-o OPTION,...]\n"
	      "\n"
	      "Mounts a share so that every file written to it is locked (write once, read many) when it is\n"
	      "closed. MOUNTPOINT defaults to SHARE itself: the mount covers it.\n"
	      "\n"
	      "  -f, --foreground  stay in the foreground, log to stderr\n"
	      "  -d, --debug       and log every refusal with its reason\n"
	      "  -h, --help        this text\n"
	      "  -V, --version     version of wormfs and of libfuse\n"
	      "\n"
	      "Options of -o, with [default]:\n", stdout);
	for (size_t i = 0; i < option_nrows; i++) {
		const char *line = option_rows[i].help, *end;

		if (!line)
			continue;
		printf("  %s%s%s\n", option_rows[i].name, option_rows[i].value ? "=" : "", option_rows[i].value ? option_rows[i].value : "");
		for (; *line; line = *end ? end + 1 : end) {
			end = strchrnul(line, '\n');
			printf("      %.*s\n", (int)(end - line), line);
		}
	}
	fputs("\nA comma inside a value is written \\, (backslash comma).\n"
	      "\n"
	      "Examples:\n"
	      "  wormfs /srv/share\n"
	      "  wormfs -f /srv/share -o retention=7y,hold=case-12\n"
	      "  wormfs /srv/share -o mode=compliance,min=1y,retention=7y,max=10y\n"
	      "\n"
	      "Exit status: 0 mounted (or unmounted, with -f), 2 could not. See wormfs(8), wormctl(1).\n", stdout);
}

static const struct option_row *find_row(const char *name, size_t len)
{
	for (size_t i = 0; i < option_nrows; i++)
		if (strncmp(option_rows[i].name, name, len) == 0 && option_rows[i].name[len] == '\0')
			return &option_rows[i];
	return NULL;
}

/* One "name" or "name=value"; `text` is ours to change. */
static int apply_option(struct options *o, const char *text)
{
	const char *equals = strchrnul(text, '=');
	const struct option_row *row = find_row(text, equals - text);
	int r;

	if (!row) {
		complain("unknown option '%.*s'; 'wormfs --help' lists them", (int)(equals - text), text);
		return -EINVAL;
	}
	if (!row->value != !*equals) {
		if (row->value)
			complain("option '%s' needs a value: %s=%s", row->name, row->name, row->value);
		else
			complain("option '%s' takes no value", row->name);
		return -EINVAL;
	}
	r = row->set(o, *equals ? equals + 1 : NULL, row->arg);
	if (r == -ENOMEM)
		complain("out of memory");
	else if (r < 0)
		complain("option '%s': cannot use '%s'; it is %s=%s", row->name, equals + 1, row->name, row->value);
	return r;
}

static int apply_list(struct options *o, const char *list)
{
	char *copy = strdup(list), *in, *out, *start;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (in = out = start = copy;; in++) {
		if (*in == '\\' && in[1] == ',') {
			*out++ = *++in;
		} else if (*in == ',' || !*in) {
			bool end = !*in;

			*out = '\0';
			if (*start)
				r = apply_option(o, start);
			if (end || r < 0)
				break;
			out = start = in + 1;
		} else {
			*out++ = *in;
		}
	}
	free(copy);
	return r;
}

static int check(struct options *o)
{
	if (!o->share) {
		complain("which directory? usage: wormfs [-f] SHARE [MOUNTPOINT] [-o OPTION,...]");
		return -EINVAL;
	}
	if (o->mode == WORM_COMPLIANCE && !(o->has_retention && o->has_min && o->has_max)) {
		complain("mode=compliance cannot be undone and has no defaults: add min=PERIOD, retention=PERIOD and max=PERIOD");
		return -EINVAL;
	}
	if (o->mode == WORM_COMPLIANCE && o->retention.kind == RETENTION_IS_UNSPECIFIED) {
		complain("mode=compliance needs a retention that says when it ends: a period, a date or infinite");
		return -EINVAL;
	}
	if (o->mode == WORM_COMPLIANCE && o->privdel == PRIVDEL_ON) {
		complain("privdel=on: in mode=compliance nobody deletes or shortens early; leave privdel out");
		return -EINVAL;
	}
	if (o->mode == WORM_COMPLIANCE && o->clock && strcmp(o->clock, "own") != 0) {
		complain("clock=%s can be moved: it cannot be used with mode=compliance", o->clock);
		return -EINVAL;
	}
	if (!o->push && (o->push_root || o->push_credentials || o->push_ca || o->push_insecure || o->push_wait_s || o->push_undated)) {
		complain("options that begin with push_ need push=qumulo:HOST");
		return -EINVAL;
	}
	if (o->push && !o->push_root) {
		complain("push=%s: what is the share called there? add push_root=/PATH", o->push);
		return -EINVAL;
	}
	for (unsigned i = 0; i < o->events_nsinks; i++) {
		if (strcmp(o->events_sinks[i], "json:-") != 0 || o->foreground)
			continue;
		complain("events=json:- writes to stdout, which a daemon in the background has none of: add -f, or name a file");
		return -EINVAL;
	}
	for (unsigned i = 0; i < o->quota_nproviders; i++) {
		if (strcmp(o->quota_providers[i], "stdout") != 0 || o->foreground)
			continue;
		complain("quota_notify=stdout: a daemon in the background has none: add -f, or choose another way");
		return -EINVAL;
	}
	if (retention_until(&o->min, 0) > retention_until(&o->max, 0)) {
		complain("min is longer than max: no retention would fit");
		return -EINVAL;
	}
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret)
{
	bool no_more = false;
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	ret->commit = COMMIT_CLOSE;
	ret->retention.kind = RETENTION_IS_UNSPECIFIED;
	ret->min.kind = RETENTION_PERIOD;
	ret->max.kind = RETENTION_PERIOD;
	ret->max.months = 100 * 12;
	ret->staging = strdup(STAGING_DEFAULT);
	ret->staging_idle_s = 86400;
	ret->shared = -1;
	ret->digest = true;
	ret->passthrough = ret->io_uring = ret->splice = true;
	ret->audit = true;
	ret->audit_success = ret->audit_failure = AUDIT_ALL;
	ret->audit_rotate_mib = 64;
	for (unsigned type = 1; type < EVENT_TYPES; type++)
		ret->events_types[type] = type != EVENT_OPEN_READ;
	ret->events_ring_mib = 64;
	ret->threads = 10;	/* libfuse's own default */
	ret->uring_depth = 8;	/* likewise */
	ret->descriptors = 512;
	ret->push_retry_s = PUSHER_RETRY_S;
	ret->push_connections = QUMULO_CONNECTIONS;
	ret->push_in_flight = QUMULO_IN_FLIGHT;
	ret->xattr_ns = -1;
	ret->dev = ret->suid = ret->exec = -1;
	ret->allow_other = geteuid() == 0;
	if (!ret->staging)
		return -ENOMEM;

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (no_more || arg[0] != '-' || !arg[1]) {
			if (!ret->share) {
				r = option_set_string(ret, arg, offsetof(struct options, share));
			} else if (!ret->mountpoint) {
				r = option_set_string(ret, arg, offsetof(struct options, mountpoint));
			} else {
				complain("one argument too many: '%s'; usage: wormfs [-f] SHARE [MOUNTPOINT] [-o OPTION,...]", arg);
				r = -EINVAL;
			}
		} else if (strcmp(arg, "--") == 0) {
			no_more = true;
		} else if (strcmp(arg, "-f") == 0 || strcmp(arg, "--foreground") == 0) {
			ret->foreground = true;
		} else if (strcmp(arg, "-d") == 0 || strcmp(arg, "--debug") == 0) {
			ret->debug = true;
		} else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
			print_help();
			return 1;
		} else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0) {
			printf("wormfs %s (libfuse %s)\n", WORMFS_VERSION, fuse_pkgversion());
			return 1;
		} else if (strncmp(arg, "-o", 2) == 0 && (arg[2] || i + 1 < argc)) {
			r = apply_list(ret, arg[2] ? arg + 2 : argv[++i]);
		} else {
			complain("unknown argument '%s'; 'wormfs --help' lists them", arg);
			r = -EINVAL;
		}
		if (r < 0)
			return r;
	}
	return check(ret);
}

void options_fini(struct options *o)
{
	free(o->share);
	free(o->mountpoint);
	free(o->hold);
	free(o->hold_role);
	free(o->approve);
	free(o->staging);
	free(o->state);
	free(o->key);
	free(o->clock);
	free(o->audit_anchor);
	for (unsigned i = 0; i < o->quota_nproviders; i++)
		free(o->quota_providers[i]);
	for (unsigned i = 0; i < o->events_nsinks; i++)
		free(o->events_sinks[i]);
	free(o->rules);
	free(o->quota);
	free(o->push);
	free(o->push_root);
	free(o->push_credentials);
	free(o->push_ca);
	free(o->events_credentials);
	free(o->events_ca);
	free(o->push_undated);
	free(o->kernel_options);
}
