/* One table of switches, one of profiles. */
#include "mockarchive/settings.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS 1000000000LL
#define DAYS_MAX 36500

/* ---- values ---- */

static const struct { const char *name; int number; } errnos[] = {
	{ "EPERM", EPERM }, { "ENOENT", ENOENT }, { "EINTR", EINTR }, { "EIO", EIO }, { "ENXIO", ENXIO }, { "EAGAIN", EAGAIN },
	{ "ENOMEM", ENOMEM }, { "EACCES", EACCES }, { "EBUSY", EBUSY }, { "EEXIST", EEXIST }, { "ENODEV", ENODEV }, { "EINVAL", EINVAL },
	{ "ENFILE", ENFILE }, { "EMFILE", EMFILE }, { "EFBIG", EFBIG }, { "ENOSPC", ENOSPC }, { "EROFS", EROFS }, { "ENOTEMPTY", ENOTEMPTY },
	{ "EDQUOT", EDQUOT }, { "ESTALE", ESTALE }, { "ENODATA", ENODATA }, { "ETIMEDOUT", ETIMEDOUT }, { "EOPNOTSUPP", EOPNOTSUPP },
	{ "EREMOTEIO", EREMOTEIO }, { "ENOLINK", ENOLINK }, { "ENOMEDIUM", ENOMEDIUM }, { "EMEDIUMTYPE", EMEDIUMTYPE },
	{ "EHOSTDOWN", EHOSTDOWN }, { "ENOTCONN", ENOTCONN }, { "EBADMSG", EBADMSG }, { "ETIME", ETIME }, { "ENONET", ENONET },
};

const char *settings_errno_name(int number)
{
	static __thread char text[16];

	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (errnos[i].number == number)
			return errnos[i].name;
	snprintf(text, sizeof(text), "%d", number);
	return text;
}

int settings_parse_errno(const char *text, int *ret_errno)
{
	char *end;
	long n;

	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (strcmp(errnos[i].name, text) == 0) {
			*ret_errno = errnos[i].number;
			return 0;
		}
	n = strtol(text, &end, 10);
	if (end == text || *end || n <= 0 || n > 133)	/* EHWPOISON, the last of asm-generic/errno.h */
		return -EINVAL;
	*ret_errno = n;
	return 0;
}

int settings_parse_duration(const char *text, int64_t *ret_ns)
{
	static const struct { const char *unit; double ns; } units[] = {
		{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 }, { "m", 60e9 }, { "min", 60e9 }, { "h", 3600e9 },
		{ "d", 86400e9 },
	};
	char *end;
	double n;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return -EINVAL;
	n = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		n *= units[i].ns;
		if (!(n <= DAYS_MAX * 86400e9))
			return -EINVAL;
		*ret_ns = llround(n);
		return 0;
	}
	return -EINVAL;
}

static void format_duration(int64_t ns, char *out, size_t len_bytes)
{
	snprintf(out, len_bytes, "%.9g%s", ns % 1000000000 && ns < 1000000000 ? ns / 1e6 : ns / 1e9, ns % 1000000000 && ns < 1000000000 ? "ms" : "s");
}

static int parse_bytes(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTPE";
	const char *unit;
	char *end;
	double n;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return -EINVAL;
	n = strtod(text, &end);
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		n *= pow(1024, unit - units + 1);
		end++;
		if (strcmp(end, "iB") == 0)
			end += 2;
	}
	if (*end == 'B')
		end++;
	if (*end || !(n < 9e18))
		return -EINVAL;
	*ret = n;
	return 0;
}

/* ---- the table ---- */

enum kind { KIND_CHOICE, KIND_BOOL, KIND_ERRNO, KIND_ERRNO_OR_NONE, KIND_TIME, KIND_BYTES, KIND_AUTO_BYTES, KIND_COUNT, KIND_RATE, KIND_XATTRS };

static const struct setting {
	const char *key, *takes;
	enum kind kind;
	size_t at;
	int64_t max;		/* KIND_COUNT */
	const char *help;
} table[] = {
#define AT(field) offsetof(struct settings, field)
	{ "trigger", "open|read|explicit", KIND_CHOICE, AT(trigger), 0, "what starts the recall of an offline file: open (and read), the first read beyond its preview, a request only" },
	{ "read.answer", "errno|block|block-errno", KIND_CHOICE, AT(answer), 0, "what that open or read gets until the recall is done" },
	{ "read.errno", "ERRNO", KIND_ERRNO, AT(read_errno), 0, "with errno, and at the end of block-errno" },
	{ "read.block", "TIME", KIND_TIME, AT(block_ns), 0, "how long block-errno waits" },
	{ "nonblock.errno", "ERRNO|none", KIND_ERRNO_OR_NONE, AT(nonblock_errno), 0, "for open with O_NONBLOCK; none: as without it" },
	{ "lost.errno", "ERRNO", KIND_ERRNO, AT(lost_errno), 0, "reading a file that no copy is left of" },
	{ "damaged.errno", "ERRNO", KIND_ERRNO, AT(damaged_errno), 0, "reading a file whose copy cannot be read" },
	{ "unavailable.errno", "ERRNO", KIND_ERRNO, AT(unavailable_errno), 0, "reading a file whose tape is not in the library" },
	{ "flag", "none|final|replica|both", KIND_CHOICE, AT(flag), 0, "where the sticky bit says that a file is on tape only" },
	{ "st_size", "logical|zero|stub", KIND_CHOICE, AT(st_size), 0, "st_size of an offline file" },
	{ "st_blocks", "0|1|stub|full", KIND_CHOICE, AT(st_blocks), 0, "st_blocks of an offline file; 0 is a trap: tar -S believes it" },
	{ "seek", "data|hole|none", KIND_CHOICE, AT(seek), 0, "SEEK_DATA and SEEK_HOLE on an offline file; hole is a trap: cp and tar -S believe it; none: not implemented" },
	{ "access", "normal|denied|recall", KIND_CHOICE, AT(access), 0, "access(2) for reading while a file is offline; denied: EACCES; recall: EACCES, and it starts the recall" },
	{ "xattrs", "none|NAME+NAME...", KIND_XATTRS, AT(xattrs), 0, "which families are served: eos, dmf, lustre, wormfs, dos" },
	{ "dotfiles", "off|on", KIND_BOOL, AT(dotfiles), 0, "dCache's .(get)(F)(locality), .(get)(F)(checksum), .(fset)(F)(pin)(N)" },
	{ "archive.when", "close|explicit", KIND_CHOICE, AT(archive_when), 0, "what sends a file to tape: the last close of a writer, a request only" },
	{ "archive.idle", "TIME", KIND_TIME, AT(archive_idle_ns), 0, "so long after that close" },
	{ "archive.delay", "TIME", KIND_TIME, AT(archive_delay_ns), 0, "what each archive job takes beside mount, seek and transfer" },
	{ "recall.delay", "TIME", KIND_TIME, AT(recall_delay_ns), 0, "likewise for a recall" },
	{ "recall.from", "tape|any", KIND_BOOL, AT(recall_any), 2, "any: from the replica when tape has no good copy" },
	{ "recall.keep", "TIME", KIND_TIME, AT(keep_ns), 0, "how long a recalled file stays on disk unless pinned; 0: for good" },
	{ "replica", "off|on", KIND_BOOL, AT(replica), 0, "the second copy, in the replica directory" },
	{ "replica.delay", "TIME", KIND_TIME, AT(replica_delay_ns), 0, "the replica comes so long after tape" },
	{ "verify", "off|on", KIND_BOOL, AT(verify), 0, "read the tape copy back and compare checksums before it counts" },
	{ "release.when", "archived|pressure|explicit", KIND_CHOICE, AT(release_when), 0, "when the disk blocks of a file on tape go: at once, when the cache is full, on request only" },
	{ "release.delay", "TIME", KIND_TIME, AT(release_delay_ns), 0, "so long after it was archived" },
	{ "preview", "BYTES", KIND_BYTES, AT(preview_bytes), 0, "what stays on disk of an offline file (state partial)" },
	{ "drives", "N", KIND_COUNT, AT(drives), 64, "0: as many as there are jobs" },
	{ "tape.mount", "TIME", KIND_TIME, AT(mount_ns), 0, "a tape into a drive" },
	{ "tape.seek", "TIME", KIND_TIME, AT(seek_ns), 0, "to the file" },
	{ "tape.rewind", "TIME", KIND_TIME, AT(rewind_ns), 0, "before another tape comes into the drive" },
	{ "tape.rate", "MB/s", KIND_RATE, AT(rate_bytes_s), 0, "transfer, millions of bytes a second of archive time; 0: no limit" },
	{ "tape.files", "N", KIND_COUNT, AT(tape_files), 1000000, "files on a tape before the next one is begun" },
	{ "queue.limit", "N", KIND_COUNT, AT(queue_limit), 1000000, "jobs that may wait; 0: no limit. Beyond, recalls get EAGAIN and archive jobs fail" },
	{ "cache.size", "BYTES", KIND_BYTES, AT(cache_bytes), 0, "disk cache: above it what is on tape is released, oldest first; statvfs shows it. 0: no limit" },
	{ "cache.full", "errno|wait|over", KIND_CHOICE, AT(cache_full), 0, "a writer or a recall that does not fit, when nothing can be released: ENOSPC, it waits, or goes over the size for a while" },
	{ "statvfs.total", "BYTES", KIND_BYTES, AT(total_bytes), 0, "size that statvfs shows; 0: the cache's or the store's" },
	{ "statvfs.free", "auto|BYTES", KIND_AUTO_BYTES, AT(free_bytes), 0, "free space that statvfs shows" },
#undef AT
};

static void *field(const struct settings *s, const struct setting *t)
{
	return (char *)s + t->at;
}

/* The nth word of "a|b|c", or its number. */
static int choice_find(const char *takes, const char *word)
{
	size_t len = strlen(word);

	for (int i = 0; *takes; i++) {
		size_t n = strcspn(takes, "|");

		if (n == len && strncmp(takes, word, n) == 0)
			return i;
		takes += n + (takes[n] == '|');
	}
	return -1;
}

static void choice_name(const char *takes, int number, char *out, size_t len_bytes)
{
	for (; number > 0; number--)
		takes += strcspn(takes, "|") + 1;
	snprintf(out, len_bytes, "%.*s", (int)strcspn(takes, "|"), takes);
}

static const struct { const char *name; unsigned bit; } families[] = {
	{ "eos", XATTRS_EOS }, { "dmf", XATTRS_DMF }, { "lustre", XATTRS_LUSTRE }, { "wormfs", XATTRS_WORMFS }, { "dos", XATTRS_DOS },
};

static int parse_families(const char *text, unsigned *ret)
{
	unsigned bits = 0;

	if (strcmp(text, "none") == 0) {
		*ret = 0;
		return 0;
	}
	while (*text) {
		size_t n = strcspn(text, "+"), i;

		for (i = 0; i < sizeof(families) / sizeof(families[0]); i++)
			if (strlen(families[i].name) == n && strncmp(families[i].name, text, n) == 0)
				break;
		if (i == sizeof(families) / sizeof(families[0]))
			return -EINVAL;
		bits |= families[i].bit;
		text += n + (text[n] == '+');
	}
	*ret = bits;
	return bits ? 0 : -EINVAL;
}

static int set_value(struct settings *s, const struct setting *t, const char *value)
{
	uint64_t bytes;
	char *end;
	double rate;
	int r, n;

	switch (t->kind) {
	case KIND_CHOICE:
	case KIND_BOOL:
		n = choice_find(t->takes, value);
		if (n < 0)
			return -EINVAL;
		if (t->kind == KIND_BOOL)
			*(bool *)field(s, t) = n;
		else
			*(int *)field(s, t) = n;
		return 0;
	case KIND_ERRNO_OR_NONE:
		if (strcmp(value, "none") == 0) {
			*(int *)field(s, t) = 0;
			return 0;
		}
		/* fall through */
	case KIND_ERRNO:
		return settings_parse_errno(value, field(s, t));
	case KIND_TIME:
		return settings_parse_duration(value, field(s, t));
	case KIND_AUTO_BYTES:
		s->has_free = strcmp(value, "auto") != 0;
		return s->has_free ? parse_bytes(value, field(s, t)) : 0;
	case KIND_BYTES:
		return parse_bytes(value, field(s, t));
	case KIND_COUNT:
		r = parse_bytes(value, &bytes);
		if (r < 0 || bytes > (uint64_t)t->max)
			return -EINVAL;
		*(int64_t *)field(s, t) = bytes;
		return 0;
	case KIND_RATE:
		rate = strtod(value, &end);
		if (end == value || *end || !(rate >= 0 && rate < 1e9))
			return -EINVAL;
		*(uint64_t *)field(s, t) = rate * 1e6;
		return 0;
	case KIND_XATTRS:
		return parse_families(value, field(s, t));
	}
	return -EINVAL;
}

static void get_value(const struct settings *s, const struct setting *t, char *out, size_t len_bytes)
{
	const void *at = field(s, t);
	size_t used = 0;

	switch (t->kind) {
	case KIND_CHOICE:
		choice_name(t->takes, *(const int *)at, out, len_bytes);
		break;
	case KIND_BOOL:
		choice_name(t->takes, *(const bool *)at, out, len_bytes);
		break;
	case KIND_ERRNO_OR_NONE:
	case KIND_ERRNO:
		snprintf(out, len_bytes, "%s", *(const int *)at ? settings_errno_name(*(const int *)at) : "none");
		break;
	case KIND_TIME:
		format_duration(*(const int64_t *)at, out, len_bytes);
		break;
	case KIND_AUTO_BYTES:
		if (!s->has_free) {
			snprintf(out, len_bytes, "auto");
			break;
		}
		/* fall through */
	case KIND_BYTES:
	case KIND_COUNT:
		snprintf(out, len_bytes, "%llu", (unsigned long long)*(const uint64_t *)at);
		break;
	case KIND_RATE:
		snprintf(out, len_bytes, "%.9g", *(const uint64_t *)at / 1e6);
		break;
	case KIND_XATTRS:
		snprintf(out, len_bytes, "none");
		for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
			if (*(const unsigned *)at & families[i].bit)
				used += snprintf(out + used, len_bytes - used, "%s%s", used ? "+" : "", families[i].name);
		break;
	}
}

static const struct setting *find(const char *key)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].key, key) == 0)
			return &table[i];
	return NULL;
}

int settings_set(struct settings *s, const char *key, const char *value, char error[SETTING_ERROR_BYTES])
{
	const struct setting *t = find(key);
	int r = t ? set_value(s, t, value) : -ENOENT;

	if (r == -ENOENT)
		snprintf(error, SETTING_ERROR_BYTES, "there is no switch '%.60s'", key);
	else if (r < 0)
		snprintf(error, SETTING_ERROR_BYTES, "%s: cannot use '%.60s'; it is %s=%s", t->key, value, t->key, t->takes);
	return r;
}

int settings_get(const struct settings *s, const char *key, char *ret_value, size_t len_bytes)
{
	const struct setting *t = find(key);

	if (!t)
		return -ENOENT;
	get_value(s, t, ret_value, len_bytes);
	return 0;
}

int settings_each(const struct settings *s, int (*fn)(void *arg, const char *key, const char *value, const char *takes, const char *help),
		  void *arg)
{
	char value[SETTING_VALUE_BYTES];
	int r = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]) && r >= 0; i++) {
		get_value(s, &table[i], value, sizeof(value));
		r = fn(arg, table[i].key, value, table[i].takes, table[i].help);
	}
	return r;
}

/* ---- profiles ---- */

static const struct profile {
	const char *name, *help;
	const char *set[20];	/* key, value, ... */
} profiles[] = {
	{ "eth-lts", "flag on both copies, EIO until recalled, access(2) says no as well: what openBIS and SciCat meet", {
		"trigger", "open", "read.answer", "errno", "read.errno", "EIO", "flag", "both", "st_blocks", "1", "access", "recall",
		"xattrs", "wormfs" } },
	{ "baker", "as M. Baker's mock: flag on the replica only, EIO, blocks stay", {
		"trigger", "open", "read.answer", "errno", "read.errno", "EIO", "flag", "replica", "st_blocks", "full", "access", "normal",
		"xattrs", "none" } },
	{ "lustre", "Lustre HSM: reads wait, lost files are EPERM", {
		"trigger", "read", "read.answer", "block", "read.errno", "EIO", "flag", "none", "st_blocks", "1", "access", "normal",
		"xattrs", "lustre+wormfs", "lost.errno", "EPERM" } },
	{ "lustre-nonblocking", "Lustre HSM with non-blocking restore: ENODATA", {
		"trigger", "read", "read.answer", "errno", "read.errno", "ENODATA", "flag", "none", "st_blocks", "1", "access", "normal",
		"xattrs", "lustre+wormfs", "lost.errno", "EPERM" } },
	{ "dmf", "DMF: reads wait, state in an attribute", {
		"trigger", "read", "read.answer", "block", "read.errno", "EIO", "flag", "none", "st_blocks", "stub", "access", "normal",
		"xattrs", "dmf+wormfs" } },
	{ "samba", "GPFS or TSM behind Samba with recalls off: EACCES, offline attribute", {
		"trigger", "explicit", "read.answer", "errno", "read.errno", "EACCES", "flag", "none", "st_blocks", "stub", "access", "normal",
		"xattrs", "dos+wormfs" } },
	{ "cta", "EOS and CTA: must be staged first", {
		"trigger", "explicit", "read.answer", "errno", "read.errno", "EIO", "flag", "none", "st_blocks", "1", "access", "normal",
		"xattrs", "eos+wormfs" } },
};

int settings_profile(struct settings *s, const char *name)
{
	char error[SETTING_ERROR_BYTES];

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		if (strcmp(profiles[i].name, name) != 0)
			continue;
		/* What only some profiles set goes back to what it is without them. */
		s->lost_errno = EIO;
		s->st_size = SIZE_LOGICAL;
		s->seek = SEEK_SAYS_DATA;
		for (const char *const *p = profiles[i].set; *p; p += 2)
			(void)settings_set(s, p[0], p[1], error);	/* from our own table; a test sets each */
		snprintf(s->profile, sizeof(s->profile), "%s", name);
		return 0;
	}
	return -ENOENT;
}

int settings_each_profile(int (*fn)(void *arg, const char *name, const char *help), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]) && r >= 0; i++)
		r = fn(arg, profiles[i].name, profiles[i].help);
	return r;
}

void settings_init(struct settings *s)
{
	*s = (struct settings){ .damaged_errno = EIO, .unavailable_errno = EIO, .block_ns = 30 * NS, .archive_delay_ns = 5 * NS,
				.recall_delay_ns = 5 * NS, .replica = true, .drives = 4, .tape_files = 100 };
	(void)settings_profile(s, "eth-lts");
}
