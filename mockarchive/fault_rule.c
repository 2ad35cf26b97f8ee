/* A rule's JSON, both ways, by tables: a key is named once, and an unknown one is an error that names it. */
#include "mockarchive/fault_rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/glob.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NS_PER_S INT64_C(1000000000)
#define DATE_SECONDS_MAX 9e9	/* the year 2255: nanoseconds of it fit into 63 bits */
#define ERRNO_MAX 133		/* Source: asm-generic/errno.h, EHWPOISON */

static const char *const point_names[FAULT_POINTS] = {
	[FAULT_OPEN] = "open", [FAULT_READ] = "read", [FAULT_WRITE] = "write", [FAULT_CREATE] = "create", [FAULT_CLOSE] = "close",
	[FAULT_FSYNC] = "fsync", [FAULT_GETATTR] = "getattr", [FAULT_SETATTR] = "setattr", [FAULT_TRUNCATE] = "truncate",
	[FAULT_UNLINK] = "unlink", [FAULT_RENAME] = "rename", [FAULT_LINK] = "link", [FAULT_MKDIR] = "mkdir", [FAULT_RMDIR] = "rmdir",
	[FAULT_READDIR] = "readdir", [FAULT_LOOKUP] = "lookup", [FAULT_ACCESS] = "access", [FAULT_LSEEK] = "lseek", [FAULT_XATTR] = "xattr",
	[FAULT_STATFS] = "statfs",
	[FAULT_ARCHIVE_QUEUE] = "archive.queue", [FAULT_ARCHIVE_MOUNT] = "archive.mount", [FAULT_ARCHIVE_COPY] = "archive.copy",
	[FAULT_ARCHIVE_VERIFY] = "archive.verify", [FAULT_ARCHIVE_RELEASE] = "archive.release", [FAULT_ARCHIVE_FLAG] = "archive.flag",
	[FAULT_RECALL_QUEUE] = "recall.queue", [FAULT_RECALL_MOUNT] = "recall.mount", [FAULT_RECALL_COPY] = "recall.copy",
	[FAULT_RECALL_FLAG] = "recall.flag", [FAULT_EVICT] = "evict",
	[FAULT_REST_WELLKNOWN] = "rest.wellknown", [FAULT_REST_STAGE] = "rest.stage", [FAULT_REST_STATUS] = "rest.status",
	[FAULT_REST_CANCEL] = "rest.cancel", [FAULT_REST_DELETE] = "rest.delete", [FAULT_REST_RELEASE] = "rest.release",
	[FAULT_REST_ARCHIVEINFO] = "rest.archiveinfo", [FAULT_DAV_GET] = "dav.get", [FAULT_DAV_HEAD] = "dav.head",
	[FAULT_DAV_PROPFIND] = "dav.propfind", [FAULT_DAV_PUT] = "dav.put",
};
_Static_assert(FAULT_POINTS <= 64, "fault_rule.points has a bit each");

static const char *const copy_names[] = { NULL, "final", "replica", NULL };
static const char *const flag_names[] = { NULL, "never-set", "never-cleared", "early", "wrong-copy", NULL };
static const char *const replica_names[] = { NULL, "skip", "differ", "short", NULL };
static const char *const rest_names[] = { NULL, "bad-json", "empty", "wrong-id", "canceled", "missing-path", "expired", "drop", NULL };
static const char *const corrupt_names[] = { NULL, "flip", "zero", "truncate", "extend", NULL };
static const char *const hang_names[] = { NULL, "killable", "unkillable", NULL };

const char *fault_point_name(enum fault_point point)
{
	return point_names[point];
}

uint64_t fault_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);	/* splitmix64: any seed will do, also 0 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int complain(char *why, const char *key, const char *what)
{
	snprintf(why, FAULT_WHY_BYTES, "'%.60s' %s", key, what);
	return -EINVAL;
}

/* What a key of an object is, read and written by one table. */
enum field_kind { FIELD_COUNT, FIELD_SIGNED, FIELD_SECONDS, FIELD_DATE, FIELD_TEXT, FIELD_NAME, FIELD_OWN };

struct field {
	const char *key;
	enum field_kind kind;
	size_t offset;			/* in struct fault_rule; SECONDS and DATE are nanoseconds there */
	int64_t min, max;
	const char *const *names;	/* NAME: 1... */
	unsigned does;			/* the bit that this key of "do" gives */
};

#define AT(member) offsetof(struct fault_rule, member)
#define ACTION(member) (AT(action) + offsetof(struct fault_verdict, member))

#define OWN(name, ...) { .key = (name), .kind = FIELD_OWN, __VA_ARGS__ }
#define COUNT(name, at, from, to, ...) { .key = (name), .kind = FIELD_COUNT, .offset = (at), .min = (from), .max = (to), __VA_ARGS__ }
#define SIGNED(name, at, limit, ...) { .key = (name), .kind = FIELD_SIGNED, .offset = (at), .min = -(limit), .max = (limit), __VA_ARGS__ }
#define SECONDS(name, at, ...) { .key = (name), .kind = FIELD_SECONDS, .offset = (at), __VA_ARGS__ }
#define DATE(name, at) { .key = (name), .kind = FIELD_DATE, .offset = (at) }
#define NAME(name, at, list, ...) { .key = (name), .kind = FIELD_NAME, .offset = (at), .names = (list), __VA_ARGS__ }

static const struct field match_fields[] = {
	OWN("path"), OWN("regex"), OWN("op"), OWN("phase"), OWN("comm"), OWN("uid"), OWN("pid"),
	NAME("copy", AT(copy), copy_names),
	COUNT("min_size", AT(min_size_bytes), 0, INT64_MAX),
	COUNT("max_size", AT(max_size_bytes), 0, INT64_MAX),
};
static const struct field when_fields[] = {
	OWN("probability"), OWN("seed"),
	COUNT("first", AT(first), 1, INT64_MAX),
	COUNT("after", AT(after), 0, INT64_MAX),
	COUNT("every", AT(every), 1, INT64_MAX),
	DATE("from", AT(from_ns)), DATE("until", AT(until_ns)),
	COUNT("offset", AT(offset_bytes), 0, INT64_MAX / 2),
	COUNT("length", AT(len_bytes), 1, INT64_MAX / 2),
};
static const struct field do_fields[] = {
	OWN("errno", .does = FAULT_DO_ERRNO),
	SECONDS("delay", ACTION(delay_ns), .does = FAULT_DO_DELAY),
	SECONDS("jitter", AT(jitter_ns), .does = FAULT_DO_DELAY),
	COUNT("rate", ACTION(rate_bytes_s), 1, FAULT_RATE_MAX, .does = FAULT_DO_RATE),
	NAME("hang", ACTION(hang), hang_names, .does = FAULT_DO_HANG),
	OWN("corrupt", .does = FAULT_DO_CORRUPT),
	OWN("crash", .does = FAULT_DO_CRASH), OWN("lose", .does = FAULT_DO_LOSE),
	OWN("evict", .does = FAULT_DO_EVICT), OWN("hole", .does = FAULT_DO_HOLE),
	NAME("flag", ACTION(flag), flag_names, .does = FAULT_DO_FLAG),
	NAME("replica", ACTION(replica), replica_names, .does = FAULT_DO_REPLICA),
	COUNT("enospc_at", ACTION(enospc_at_bytes), 0, INT64_MAX, .does = FAULT_DO_ENOSPC),
	COUNT("total", ACTION(statfs_total_bytes), 0, INT64_MAX, .does = FAULT_DO_STATFS),
	COUNT("free", ACTION(statfs_free_bytes), 0, INT64_MAX, .does = FAULT_DO_STATFS),
	SIGNED("size_delta", ACTION(size_delta_bytes), INT64_C(1) << 50, .does = FAULT_DO_SIZE),
	SIGNED("mtime_delta", ACTION(mtime_delta_s), INT64_C(9000000000), .does = FAULT_DO_MTIME),
	COUNT("blocks", ACTION(blocks), 0, INT64_C(1) << 50, .does = FAULT_DO_BLOCKS),
	OWN("http_status", .does = FAULT_DO_HTTP_STATUS),
	NAME("rest", ACTION(rest), rest_names, .does = FAULT_DO_REST),
};

static int64_t *number_at(struct fault_rule *rule, const struct field *field)
{
	return (int64_t *)((char *)rule + field->offset);
}

/* Enumerations are read and written as what the compiler makes of them. */
_Static_assert(sizeof(enum fault_copy) == sizeof(int) && sizeof(enum fault_rest) == sizeof(int), "a name's index is an int");

static int read_name(const json_t *value, const struct field *field, int *ret_index, char *why)
{
	char list[160] = "";

	for (int i = 1; field->names[i]; i++) {
		if (json_is_string(value) && strcmp(json_string_value(value), field->names[i]) == 0) {
			*ret_index = i;
			return 0;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i > 1 ? ", " : "must be one of: ", field->names[i]);
	}
	return complain(why, field->key, list);
}

static int read_seconds(const json_t *value, const char *key, int64_t *ret_ns, char *why)
{
	double s = json_is_number(value) ? json_number_value(value) : -1;

	if (!(s >= 0 && s <= FAULT_SECONDS_MAX))
		return complain(why, key, "must be seconds, 0 or more");
	*ret_ns = (int64_t)(s * NS_PER_S + 0.5);
	return 0;
}

/* Seconds since 1970 of the archive's clock, or "+SECONDS" from now. */
static int read_date(const json_t *value, const char *key, int64_t now_ns, int64_t *ret_ns, char *why)
{
	const char *text = json_string_value(value);
	double s = json_is_number(value) ? json_number_value(value) : -1;
	char *end;

	if (text && *text == '+') {
		s = strtod(text + 1, &end);
		if (end != text + 1 && !*end && s >= 0 && s <= FAULT_SECONDS_MAX) {
			*ret_ns = now_ns + (int64_t)(s * NS_PER_S + 0.5);
			return 0;
		}
		s = -1;
	}
	if (!(s >= 0 && s <= DATE_SECONDS_MAX))
		return complain(why, key, "must be seconds since 1970 on the archive's clock, or \"+SECONDS\" from now");
	*ret_ns = (int64_t)(s * NS_PER_S + 0.5);
	return 0;
}

static int read_bits(const json_t *value, const char *key, uint64_t *bits, char *why)
{
	const char *text = json_string_value(value);
	bool any = false;

	if (!text)
		return complain(why, key, "must be a name, a pattern of names, or a list of them");
	if (glob_check(text) < 0)
		return complain(why, key, "is a broken pattern");
	for (int i = 0; i < FAULT_POINTS; i++) {
		if (glob_matches(text, point_names[i], strlen(point_names[i]))) {
			*bits |= UINT64_C(1) << i;
			any = true;
		}
	}
	return any ? 0 : complain(why, text, "names no operation, phase or endpoint");
}

static int read_points(const json_t *value, const char *key, uint64_t *bits, char *why)
{
	if (!json_is_array(value))
		return read_bits(value, key, bits, why);
	for (size_t i = 0; i < json_array_size(value); i++) {
		int r = read_bits(json_array_get(value, i), key, bits, why);

		if (r < 0)
			return r;
	}
	return *bits ? 0 : complain(why, key, "is an empty list");
}

static int read_text(const json_t *value, const char *key, char **ret_text, char *why)
{
	const char *text = json_string_value(value);

	if (!text || !*text || strlen(text) > FAULT_TEXT_MAX || json_string_length(value) != strlen(text))
		return complain(why, key, "must be a text of 1 to 1024 bytes");
	*ret_text = strdup(text);
	return *ret_text ? 0 : complain(why, key, "does not fit into memory");
}

static int read_path(struct fault_rule *rule, const json_t *value, char *why)
{
	const char *reason;
	int r = read_text(value, "path", &rule->path, why);

	if (r < 0)
		return r;
	if (!strchr(rule->path, '/')) {		/* no path: the last name, wherever it is */
		rule->name_glob = rule->path;
		return glob_check(rule->path) < 0 ? complain(why, "path", "is a broken pattern") : 0;
	}
	if (path_glob_open(rule->path, &rule->glob, &reason) < 0) {
		snprintf(why, FAULT_WHY_BYTES, "'path': %s", reason);
		return -EINVAL;
	}
	return 0;
}

static int read_regex(struct fault_rule *rule, const json_t *value, char *why)
{
	int r = read_text(value, "regex", &rule->regex_text, why), code;
	PCRE2_UCHAR reason[120];
	PCRE2_SIZE at;

	if (r < 0)
		return r;
	rule->regex = pcre2_compile((PCRE2_SPTR)rule->regex_text, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
	if (rule->regex)
		return 0;
	pcre2_get_error_message(code, reason, sizeof(reason));
	return complain(why, "regex", (const char *)reason);
}

static int read_id_number(const json_t *value, const char *key, int64_t max, int64_t *ret_number, char *why)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > max)
		return complain(why, key, "must be a whole number, 0 or more");
	*ret_number = json_integer_value(value);
	return 0;
}

static int read_errno(struct fault_rule *rule, const json_t *value, char *why)
{
	const char *text = json_string_value(value);

	for (int e = 1; text && e <= ERRNO_MAX; e++) {
		const char *name = strerrorname_np(e);

		if (name && strcmp(name, text) == 0) {
			rule->action.error = -e;
			return 0;
		}
	}
	return complain(why, text ? text : "errno", "is no name of an errno, such as \"EIO\"");
}

int fault_corrupt_parse(const json_t *value, struct fault_corrupt *corrupt, char *why)
{
	static const struct field how = { "corrupt.how", .names = corrupt_names };
	const char *key;
	json_t *item;
	int r = 0, index = 0;

	*corrupt = (struct fault_corrupt){ .offset_bytes = -1, .len_bytes = 1, .size_bytes = -1 };
	if (json_is_string(value))
		r = read_name(value, &how, &index, why);
	else if (!json_is_object(value))
		return complain(why, "corrupt", "must be a name or an object");
	json_object_foreach((json_t *)value, key, item) {
		if (strcmp(key, "how") == 0)
			r = read_name(item, &how, &index, why);
		else if (strcmp(key, "offset") == 0)
			r = read_id_number(item, "corrupt.offset", INT64_MAX / 2, &corrupt->offset_bytes, why);
		else if (strcmp(key, "length") == 0)
			r = read_id_number(item, "corrupt.length", INT64_MAX / 2, &corrupt->len_bytes, why);
		else
			r = complain(why, key, "is unknown in 'corrupt'");
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (!index)
		return complain(why, "corrupt.how", "is missing");
	corrupt->how = index;
	if (corrupt->how == FAULT_CORRUPT_FLIP && corrupt->len_bytes > FAULT_CORRUPT_BYTES_MAX)
		return complain(why, "corrupt.length", "is more bytes than can be flipped at once (1024)");
	return 0;
}

static int read_own(struct fault_rule *rule, const char *key, const json_t *value, char *why)
{
	int64_t number = 0;
	int r;

	if (strcmp(key, "path") == 0)
		return read_path(rule, value, why);
	if (strcmp(key, "regex") == 0)
		return read_regex(rule, value, why);
	if (strcmp(key, "op") == 0 || strcmp(key, "phase") == 0)
		return read_points(value, key, &rule->points, why);
	if (strcmp(key, "errno") == 0)
		return read_errno(rule, value, why);
	if (strcmp(key, "corrupt") == 0)
		return fault_corrupt_parse(value, &rule->action.corrupt, why);
	if (strcmp(key, "comm") == 0) {
		const char *comm = json_string_value(value);

		if (!comm || !*comm || strlen(comm) >= sizeof(rule->comm))
			return complain(why, key, "must be a program's name of at most 15 bytes, as in /proc/PID/comm");
		strcpy(rule->comm, comm);
		return 0;
	}
	if (strcmp(key, "probability") == 0) {
		rule->probability = json_is_number(value) ? json_number_value(value) : -1;
		return rule->probability >= 0 && rule->probability <= 1 ? 0 : complain(why, key, "must be between 0 and 1");
	}
	if (strcmp(key, "uid") == 0 || strcmp(key, "pid") == 0 || strcmp(key, "seed") == 0) {
		r = read_id_number(value, key, *key == 's' ? INT64_MAX : *key == 'u' ? UINT32_MAX : INT32_MAX, &number, why);
		if (*key == 's') {
			rule->seed = number;
		} else if (*key == 'u') {
			rule->has_uid = true;
			rule->uid = number;
		} else {
			rule->has_pid = true;
			rule->pid = number;
		}
		return r;
	}
	if (strcmp(key, "http_status") == 0) {
		r = read_id_number(value, key, 599, &number, why);
		rule->action.http_status = number;
		return r < 0 ? r : number >= 400 ? 0 : complain(why, key, "must be a status of an error, 400 to 599");
	}
	/* crash, lose, evict, hole */
	return json_is_true(value) ? 0 : complain(why, key, "must be true");
}

static int read_field(struct fault_rule *rule, const struct field *field, const json_t *value, int64_t now_ns, char *why)
{
	switch (field->kind) {
	case FIELD_COUNT:
	case FIELD_SIGNED:
		if (!json_is_integer(value) || json_integer_value(value) < field->min || json_integer_value(value) > field->max) {
			snprintf(why, FAULT_WHY_BYTES, "'%s' must be a whole number from %lld to %lld", field->key, (long long)field->min,
				 (long long)field->max);
			return -EINVAL;
		}
		*number_at(rule, field) = json_integer_value(value);
		return 0;
	case FIELD_SECONDS:
		return read_seconds(value, field->key, number_at(rule, field), why);
	case FIELD_DATE:
		return read_date(value, field->key, now_ns, number_at(rule, field), why);
	case FIELD_NAME:
		return read_name(value, field, (int *)((char *)rule + field->offset), why);
	default:
		return read_own(rule, field->key, value, why);
	}
}

static int read_object(struct fault_rule *rule, const char *what, const json_t *object, const struct field *fields, size_t nfields,
		       int64_t now_ns, char *why)
{
	const char *key;
	json_t *value;

	if (!object)
		return 0;
	if (!json_is_object(object))
		return complain(why, what, "must be an object");
	json_object_foreach((json_t *)object, key, value) {
		size_t i = 0;
		int r;

		while (i < nfields && strcmp(fields[i].key, key) != 0)
			i++;
		if (i == nfields) {
			snprintf(why, FAULT_WHY_BYTES, "'%.60s' is unknown in '%s'", key, what);
			return -EINVAL;
		}
		r = read_field(rule, &fields[i], value, now_ns, why);
		if (r < 0)
			return r;
		rule->does |= fields[i].does;
	}
	return 0;
}

static int read_id(struct fault_rule *rule, const json_t *value, char *why)
{
	const char *id = json_string_value(value);
	size_t len = id ? strlen(id) : 0;

	if (!len || len >= sizeof(rule->id) || json_string_length(value) != len ||
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		return complain(why, "id", "must be 1 to 63 of A-Z a-z 0-9 . _ -");
	strcpy(rule->id, id);
	return 0;
}

static int check_whole(struct fault_rule *rule, const json_t *json, char *why)
{
	if (!json_is_object(json_object_get(json, "do")) || !rule->does)
		return complain(why, "do", "is missing or empty: what shall happen?");
	if (rule->path && rule->regex_text)
		return complain(why, "path", "and 'regex' cannot both be given");
	if (json_object_get(json_object_get(json, "when"), "offset") && !rule->len_bytes)
		rule->len_bytes = INT64_MAX / 2;	/* up to the end */
	if (rule->min_size_bytes >= 0 && rule->max_size_bytes >= 0 && rule->min_size_bytes > rule->max_size_bytes)
		return complain(why, "min_size", "is more than 'max_size'");
	if (rule->first && rule->after)		/* "skip 2, then 3 times" */
		rule->first = rule->first > INT64_MAX - rule->after ? INT64_MAX : rule->first + rule->after;
	return 0;
}

int fault_rule_init(struct fault_rule *rule, const json_t *json, int64_t now_ns, char *why)
{
	const char *key;
	json_t *value;
	int r = 0;

	*rule = (struct fault_rule){ .enabled = true, .min_size_bytes = -1, .max_size_bytes = -1, .probability = 1,
				     .from_ns = INT64_MIN, .until_ns = INT64_MAX, .expires_ns = INT64_MAX,
				     .action = { .statfs_total_bytes = -1, .statfs_free_bytes = -1 } };
	if (!json_is_object(json)) {
		snprintf(why, FAULT_WHY_BYTES, "a rule is a JSON object with \"match\", \"when\" and \"do\"");
		return -EINVAL;
	}
	json_object_foreach((json_t *)json, key, value) {
		if (strcmp(key, "id") == 0) {
			r = read_id(rule, value, why);
		} else if (strcmp(key, "note") == 0) {
			r = read_text(value, key, &rule->note, why);
		} else if (strcmp(key, "enabled") == 0) {
			rule->enabled = json_is_true(value);
			r = json_is_boolean(value) ? 0 : complain(why, key, "must be true or false");
		} else if (strcmp(key, "ttl") == 0) {
			r = read_seconds(value, key, &rule->expires_ns, why);
			rule->expires_ns = r < 0 ? INT64_MAX : now_ns + rule->expires_ns;
		} else if (strcmp(key, "match") == 0) {
			r = read_object(rule, key, value, match_fields, ARRAY_SIZE(match_fields), now_ns, why);
		} else if (strcmp(key, "when") == 0) {
			r = read_object(rule, key, value, when_fields, ARRAY_SIZE(when_fields), now_ns, why);
		} else if (strcmp(key, "do") == 0) {
			r = read_object(rule, key, value, do_fields, ARRAY_SIZE(do_fields), now_ns, why);
		} else if (strcmp(key, "expires") == 0) {
			r = read_date(value, key, now_ns, &rule->expires_ns, why);
		} else if (strcmp(key, "matched") != 0 && strcmp(key, "hits") != 0 && strcmp(key, "last_hit") != 0) {
			/* counters are ours: a rule that was listed can be sent back as it is */
			r = complain(why, key, "is unknown in a rule");
		}
		if (r < 0)
			goto fail;
	}
	if (!rule->points)
		rule->points = UINT64_MAX;
	r = check_whole(rule, json, why);
	if (r < 0)
		goto fail;
	rule->random = rule->seed;
	return 0;
fail:
	fault_rule_fini(rule);
	return r;
}

void fault_rule_fini(struct fault_rule *rule)
{
	path_glob_close(rule->glob);
	pcre2_code_free(rule->regex);
	free(rule->regex_text);
	free(rule->path);
	free(rule->note);
	*rule = (struct fault_rule){ 0 };
}

static json_t *seconds_json(int64_t ns)
{
	return ns % NS_PER_S ? json_real((double)ns / NS_PER_S) : json_integer(ns / NS_PER_S);
}

static json_t *corrupt_json(const struct fault_corrupt *corrupt)
{
	json_t *json = json_pack("{s:s, s:I}", "how", corrupt_names[corrupt->how], "length", (json_int_t)corrupt->len_bytes);

	if (corrupt->offset_bytes >= 0)
		json_object_set_new(json, "offset", json_integer(corrupt->offset_bytes));
	return json;
}

static json_t *points_json(uint64_t points, bool operations)
{
	json_t *list = json_array();

	for (int i = 0; i < FAULT_POINTS; i++)
		if (points >> i & 1 && (strncmp(point_names[i], "archive.", 8) == 0 || strncmp(point_names[i], "recall.", 7) == 0 ||
					i == FAULT_EVICT) != operations)
			json_array_append_new(list, json_string(point_names[i]));
	return list;
}

/* Keys of `fields` whose value is not what a rule has that does not give them. */
static void fields_json(json_t *object, struct fault_rule *rule, const struct field *fields, size_t nfields)
{
	for (size_t i = 0; i < nfields; i++) {
		const struct field *field = &fields[i];
		int64_t number = field->kind == FIELD_OWN || field->kind == FIELD_NAME ? 0 : *number_at(rule, field);
		int index = field->kind == FIELD_NAME ? *(int *)((char *)rule + field->offset) : 0;

		if (field->does && !(rule->does & field->does))
			continue;
		switch (field->kind) {
		case FIELD_COUNT:
		case FIELD_SIGNED:
			if (field->does ? number >= 0 || field->kind == FIELD_SIGNED : number > 0 || (number == 0 && field->min == 0 &&
			    (field->offset == AT(min_size_bytes) || field->offset == AT(max_size_bytes))))
				json_object_set_new(object, field->key, json_integer(number));
			break;
		case FIELD_SECONDS:
			json_object_set_new(object, field->key, seconds_json(number));
			break;
		case FIELD_DATE:
			if (number != INT64_MIN && number != INT64_MAX)
				json_object_set_new(object, field->key, seconds_json(number));
			break;
		case FIELD_NAME:
			if (index)
				json_object_set_new(object, field->key, json_string(field->names[index]));
			break;
		default:
			if (field->does == FAULT_DO_ERRNO)
				json_object_set_new(object, field->key, json_string(strerrorname_np(-rule->action.error)));
			else if (field->does == FAULT_DO_CORRUPT)
				json_object_set_new(object, field->key, corrupt_json(&rule->action.corrupt));
			else if (field->does == FAULT_DO_HTTP_STATUS)
				json_object_set_new(object, field->key, json_integer(rule->action.http_status));
			else if (field->does)
				json_object_set_new(object, field->key, json_true());
		}
	}
}

static json_t *match_json(struct fault_rule *rule)
{
	json_t *match = json_object(), *list;

	if (rule->path)
		json_object_set_new(match, "path", json_string(rule->path));
	if (rule->regex_text)
		json_object_set_new(match, "regex", json_string(rule->regex_text));
	if (rule->points != UINT64_MAX) {
		for (int operations = 1; operations >= 0; operations--) {
			list = points_json(rule->points, operations);
			if (json_array_size(list))
				json_object_set(match, operations ? "op" : "phase", list);
			json_decref(list);
		}
	}
	if (rule->has_uid)
		json_object_set_new(match, "uid", json_integer(rule->uid));
	if (rule->has_pid)
		json_object_set_new(match, "pid", json_integer(rule->pid));
	if (*rule->comm)
		json_object_set_new(match, "comm", json_string(rule->comm));
	fields_json(match, rule, match_fields, ARRAY_SIZE(match_fields));
	return match;
}

static json_t *when_json(struct fault_rule *rule)
{
	json_t *when = json_object();

	if (rule->probability < 1)
		json_object_set_new(when, "probability", json_real(rule->probability));
	if (rule->seed)
		json_object_set_new(when, "seed", json_integer(rule->seed));
	fields_json(when, rule, when_fields, ARRAY_SIZE(when_fields));
	if (rule->len_bytes == INT64_MAX / 2)
		json_object_del(when, "length");
	if (rule->len_bytes)
		json_object_set_new(when, "offset", json_integer(rule->offset_bytes));
	if (rule->first && rule->after)		/* as it was given */
		json_object_set_new(when, "first", json_integer(rule->first - rule->after));
	return when;
}

json_t *fault_rule_json(const struct fault_rule *constant)
{
	/* The tables say where a field is, not whether it is read or written. */
	struct fault_rule *rule = (struct fault_rule *)constant;
	json_t *json = json_pack("{s:s, s:b, s:o, s:o, s:I, s:I}", "id", rule->id, "enabled", rule->enabled, "match", match_json(rule),
				 "when", when_json(rule), "matched", (json_int_t)rule->matched, "hits", (json_int_t)rule->hits);
	json_t *does = json_object();

	fields_json(does, rule, do_fields, ARRAY_SIZE(do_fields));
	json_object_set_new(json, "do", does);
	if (rule->note)
		json_object_set_new(json, "note", json_string(rule->note));
	if (rule->expires_ns != INT64_MAX)
		json_object_set_new(json, "expires", seconds_json(rule->expires_ns));
	if (rule->last_hit_ns)
		json_object_set_new(json, "last_hit", seconds_json(rule->last_hit_ns));
	return json;
}
