/* The keys of a rule: one table of settings, one of conditions. A value is checked when its line is read,
 * so that every error has a line. */
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/byte_size.h"
#include "lockstore/case_name.h"
#include "lockstore/policy_private.h"
#include "lockstore/record.h"
#include "lockstore/staging.h"

#define NSS_BUFFER_BYTES 65536

/* ---- triggers ---- */

static const char *const trigger_names[] = {
	[COMMIT_CLOSE] = "close", [COMMIT_IDLE] = "idle", [COMMIT_CHMOD] = "chmod", [COMMIT_EXPLICIT] = "explicit", [COMMIT_NEVER] = "never",
};

int commit_trigger_parse(const char *text, enum commit_trigger *ret_commit, uint32_t *ret_idle_s)
{
	unsigned long n;
	char *end;

	for (unsigned i = 0; i < sizeof(trigger_names) / sizeof(trigger_names[0]); i++) {
		if (i == COMMIT_IDLE || strcmp(text, trigger_names[i]) != 0)
			continue;
		*ret_commit = i;
		return 0;
	}
	if (strncmp(text, "idle:", 5) != 0 || !isdigit((unsigned char)text[5]))
		return -EINVAL;
	errno = 0;
	n = strtoul(text + 5, &end, 10);
	if (errno || *end || n < 1 || n > COMMIT_IDLE_MAX_S)
		return -EINVAL;
	*ret_commit = COMMIT_IDLE;
	*ret_idle_s = n;
	return 0;
}

void commit_trigger_format(enum commit_trigger commit, uint32_t idle_s, char buf[COMMIT_TEXT_BYTES])
{
	if (commit == COMMIT_IDLE)
		snprintf(buf, COMMIT_TEXT_BYTES, "idle:%u", idle_s);
	else
		snprintf(buf, COMMIT_TEXT_BYTES, "%s", trigger_names[commit]);
}

int settle_parse(const char *text, uint32_t *ret_settle_s)
{
	unsigned long n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || n > RECORD_SETTLE_MAX_S || record_settle_flags(n) < 0)
		return -EINVAL;
	*ret_settle_s = n;
	return 0;
}

/* ---- settings ---- */

struct key {
	struct policy *policy;
	struct rule *rule;
	struct policy_settings *set;
	const char *name, *value;
	unsigned line;
	char *why;
	size_t len_bytes;
};

#define WRONG(key, ...) (snprintf((key)->why, (key)->len_bytes, __VA_ARGS__), -EINVAL)

static int set_commit(struct key *k)
{
	if (commit_trigger_parse(k->value, &k->set->commit, &k->set->idle_s) < 0)
		return WRONG(k, "commit is close, idle:N (N seconds, 1-%d), chmod, explicit or never, not '%.60s'", COMMIT_IDLE_MAX_S, k->value);
	return 0;
}

static int set_retention(struct key *k)
{
	if (retention_parse(k->value, &k->set->retention) < 0)
		return WRONG(k, "retention is a period (7y 6mo 30d 12h), a date (2030-01-01), infinite or unspecified, not '%.60s'", k->value);
	return 0;
}

static int set_bound(struct key *k, struct retention *ret)
{
	struct retention r;

	if (retention_parse(k->value, &r) < 0 || r.kind != RETENTION_PERIOD)
		return WRONG(k, "%s is a period (7y 6mo 30d 12h), not '%.60s'", k->name, k->value);
	*ret = r;
	return 0;
}

static int set_min(struct key *k)
{
	return set_bound(k, &k->set->min);
}

static int set_max(struct key *k)
{
	k->set->has_max = true;
	return set_bound(k, &k->set->max);
}

static int set_mode(struct key *k)
{
	if (worm_mode_parse(k->value, &k->set->mode) < 0)
		return WRONG(k, "mode is governance or compliance, not '%.60s'", k->value);
	return 0;
}

static int parse_bool(struct key *k, bool *ret)
{
	static const char *const words[] = { "no", "yes", "off", "on", "false", "true" };

	for (unsigned i = 0; i < 6; i++) {
		if (strcmp(k->value, words[i]) != 0)
			continue;
		*ret = i & 1;
		return 0;
	}
	return WRONG(k, "%s is yes or no, not '%.60s'", k->name, k->value);
}

static int set_append(struct key *k)
{
	return parse_bool(k, &k->set->append);
}

static int set_digest(struct key *k)
{
	return parse_bool(k, &k->set->digest);
}

static int set_settle(struct key *k)
{
	if (settle_parse(k->value, &k->set->settle_s) < 0)
		return WRONG(k, "settle is a number of seconds, 0-59 or whole minutes up to %d, not '%.60s'", RECORD_SETTLE_MAX_S, k->value);
	return 0;
}

/* "none" and "inherit" cannot be globs of use here, "" is what `staging =` says: no staging names. */
static int set_staging(struct key *k)
{
	struct policy *policy = k->policy;
	struct staging *staging, **all;
	bool more = k->set->given & 1u << POLICY_STAGING && *k->set->staging_globs;
	const char *old = k->set->staging_globs;
	size_t size = strlen(k->value) + (more ? strlen(old) + 1 : 0) + 1;
	char *globs = policy_alloc(policy, size);
	int r;

	if (!globs)
		return -ENOMEM;
	snprintf(globs, size, "%s%s%s", more ? old : "", more ? ":" : "", k->value);
	r = staging_open(globs, &staging);
	if (r == -EINVAL)
		return WRONG(k, "staging is GLOB:GLOB... of names, without '/' and without an empty one, not '%.60s'", k->value);
	if (r < 0)
		return r;
	all = realloc(policy->stagings, (policy->nstagings + 1) * sizeof(*all));
	if (!all) {
		staging_close(staging);
		return -ENOMEM;
	}
	policy->stagings = all;
	policy->stagings[policy->nstagings++] = staging;
	k->set->staging = staging;
	k->set->staging_globs = globs;
	return 0;
}

static bool has_line(const char *lines, const char *line)
{
	size_t len = strlen(line);

	for (; lines && *lines; lines = strchrnul(lines, '\n') + (*strchrnul(lines, '\n') ? 1 : 0))
		if (strcspn(lines, "\n") == len && memcmp(lines, line, len) == 0)
			return true;
	return false;
}

static int set_hold(struct key *k)
{
	bool more = k->set->given & 1u << POLICY_HOLD && k->set->holds;
	size_t size;
	char *holds;

	if (!*k->value) {
		if (more)
			return WRONG(k, "'hold =' means no hold, but this rule names one above");
		k->set->holds = NULL;
		k->set->nholds = 0;
		return 0;
	}
	if (!case_name_is_valid(k->value))
		return WRONG(k, "'%.60s' is no name for a hold: 1-%d bytes of UTF-8, no '/', no control character", k->value, CASE_NAME_MAX_BYTES);
	if (more && has_line(k->set->holds, k->value))
		return WRONG(k, "hold '%.60s' is named twice", k->value);
	if (more && k->set->nholds == POLICY_HOLDS_MAX)
		return WRONG(k, "more than %d holds in one rule", POLICY_HOLDS_MAX);
	size = strlen(k->value) + (more ? strlen(k->set->holds) + 1 : 0) + 1;
	holds = policy_alloc(k->policy, size);
	if (!holds)
		return -ENOMEM;
	snprintf(holds, size, "%s%s%s", more ? k->set->holds : "", more ? "\n" : "", k->value);
	k->set->nholds = more ? k->set->nholds + 1 : 1;
	k->set->holds = holds;
	return 0;
}

static int set_push(struct key *k)
{
	if (strcmp(k->value, "no") == 0)
		k->set->push = NULL;
	else if (strcmp(k->value, POLICY_PUSH_YES) == 0)
		k->set->push = POLICY_PUSH_YES;
	else
		return WRONG(k, "it is yes or no: where to is said by the mount option push");
	return 0;
}

static const struct setting {
	const char *name;
	int (*set)(struct key *key);
	bool list, may_be_empty;
} settings[POLICY_SETTINGS] = {
	[POLICY_COMMIT] = { "commit", set_commit, false, false },
	[POLICY_RETENTION] = { "retention", set_retention, false, false },
	[POLICY_MIN] = { "min", set_min, false, false },
	[POLICY_MAX] = { "max", set_max, false, false },
	[POLICY_MODE] = { "mode", set_mode, false, false },
	[POLICY_APPEND] = { "append", set_append, false, false },
	[POLICY_STAGING] = { "staging", set_staging, true, true },
	[POLICY_HOLD] = { "hold", set_hold, true, true },
	[POLICY_DIGEST] = { "digest", set_digest, false, false },
	[POLICY_SETTLE] = { "settle", set_settle, false, false },
	[POLICY_PUSH] = { "push", set_push, false, true },
};

const char *policy_setting_name(enum policy_setting setting)
{
	return settings[setting].name;
}

void policy_setting_format(const struct policy_settings *set, enum policy_setting setting, char *buf, size_t len_bytes)
{
	char commit[COMMIT_TEXT_BYTES];

	switch (setting) {
	case POLICY_COMMIT:
		commit_trigger_format(set->commit, set->idle_s, commit);
		snprintf(buf, len_bytes, "%s", commit);
		return;
	case POLICY_RETENTION: retention_format(&set->retention, buf, len_bytes); return;
	case POLICY_MIN: retention_format(&set->min, buf, len_bytes); return;
	case POLICY_MAX: retention_format(&set->max, buf, len_bytes); return;
	case POLICY_MODE: snprintf(buf, len_bytes, "%s", worm_mode_name(set->mode)); return;
	case POLICY_APPEND: snprintf(buf, len_bytes, "%s", set->append ? "yes" : "no"); return;
	case POLICY_STAGING: snprintf(buf, len_bytes, "%s", set->staging_globs ? set->staging_globs : ""); return;
	case POLICY_HOLD: snprintf(buf, len_bytes, "%s", set->holds ? set->holds : ""); return;
	case POLICY_DIGEST: snprintf(buf, len_bytes, "%s", set->digest ? "yes" : "no"); return;
	case POLICY_SETTLE: snprintf(buf, len_bytes, "%u", set->settle_s); return;
	case POLICY_PUSH: snprintf(buf, len_bytes, "%s", set->push ? set->push : "no"); return;
	case POLICY_SETTINGS: break;
	}
	*buf = '\0';
}

int policy_rule_check(const struct policy *policy, const struct rule *rule, char *why, size_t len_bytes)
{
	const struct policy_settings *set = &rule->public.set;
	const unsigned all = 1u << POLICY_RETENTION | 1u << POLICY_MIN | 1u << POLICY_MAX;
	struct key k = { .why = why, .len_bytes = len_bytes };

	if (set->given & 1u << POLICY_MODE && set->mode == WORM_COMPLIANCE && (set->given & all) != all)
		return WRONG(&k, "mode = compliance cannot be undone and inherits nothing: add min, retention and max");
	if (set->mode == WORM_COMPLIANCE && set->commit != COMMIT_NEVER && set->retention.kind == RETENTION_IS_UNSPECIFIED)
		return WRONG(&k, "mode = compliance needs a retention that says when it ends: a period, a date or infinite");
	if (retention_until(&set->min, 0) > retention_until(&set->max, 0))
		return WRONG(&k, "min is longer than max: no retention would fit");
	return 0;
}

/* ---- conditions ---- */

/* Kinds of files by their suffix: nobody looks into them. */
static const struct { const char *name; const char *suffixes[28]; } types[] = {
	{ "document", { "pdf", "doc", "docx", "docm", "dot", "dotx", "odt", "ott", "rtf", "txt", "md", "tex", "pages", "xls", "xlsx", "xlsm",
			"ods", "csv", "tsv", "ppt", "pptx", "odp", "key", "epub", "xps" } },
	{ "image", { "jpg", "jpeg", "png", "gif", "tif", "tiff", "bmp", "webp", "heic", "svg", "psd", "raw", "dng", "cr2", "nef", "arw", "dcm" } },
	{ "audio", { "wav", "mp3", "flac", "ogg", "m4a", "aac", "aiff", "opus", "wma" } },
	{ "video", { "mp4", "mov", "avi", "mkv", "mxf", "mpg", "mpeg", "wmv", "webm", "m4v" } },
	{ "archive", { "zip", "tar", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "iso", "cab" } },
	{ "mail", { "eml", "msg", "mbox", "pst", "ost" } },
	{ "database", { "db", "sqlite", "mdb", "accdb", "dump", "sql", "bak", "dbf" } },
	{ "log", { "log", "out", "journal", "evtx" } },
};

static struct alternative *add_alternative(struct key *k, struct condition *c)
{
	struct alternative *a = policy_alloc(k->policy, sizeof(*a)), **p;

	if (!a)
		return NULL;
	for (p = &c->alternatives; *p; p = &(*p)->next)
		;
	*p = a;
	return a;
}

static int add_path(struct key *k, struct condition *c)
{
	struct alternative *a = add_alternative(k, c);
	const char *why = NULL;
	int r;

	if (!a)
		return -ENOMEM;
	r = path_glob_open(k->value, &a->path, &why);
	return r == -EINVAL ? WRONG(k, "path '%.80s': %s", k->value, why) : r;
}

static int add_name(struct key *k, struct condition *c)
{
	struct alternative *a = add_alternative(k, c);

	if (!a)
		return -ENOMEM;
	if (strchr(k->value, '/'))
		return WRONG(k, "a name has no '/': use path for '%.80s'", k->value);
	if (glob_check(k->value) < 0)
		return WRONG(k, "name '%.80s': a '[' has no ']', or a backslash ends it", k->value);
	a->text = policy_strdup(k->policy, k->value);
	return a->text ? 0 : -ENOMEM;
}

static int add_suffix(struct key *k, struct condition *c, const char *word)
{
	struct alternative *a = add_alternative(k, c);
	char *text;

	word += *word == '.';
	if (!a)
		return -ENOMEM;
	if (!*word || strpbrk(word, "/*?[\\"))
		return WRONG(k, "'%.60s' is no suffix: write pdf or tar.gz; for patterns use name", word);
	a->text = text = policy_strdup(k->policy, word);
	if (!text)
		return -ENOMEM;
	for (; *text; text++)
		*text = tolower((unsigned char)*text);
	return 0;
}

static int add_type(struct key *k, struct condition *c, const char *word)
{
	struct alternative *a = add_alternative(k, c);

	if (!a)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, word) != 0)
			continue;
		a->suffixes = types[i].suffixes;
		return 0;
	}
	return WRONG(k, "type is document, image, audio, video, archive, mail, database or log, not '%.60s'; use suffix for others", word);
}

static int add_size(struct key *k, struct condition *c, const char *word)
{
	struct alternative *a = add_alternative(k, c);
	const char *end = "?", *number = word + strspn(word, "<>=");
	size_t len = number - word;
	int r;

	if (!a)
		return -ENOMEM;
	r = byte_size_parse(number, &a->lo, &end);
	a->hi = a->lo;
	if (r == 0 && len == 0 && *end == '-') {
		r = byte_size_parse(end + 1, &a->hi, &end);
	} else if (r == 0 && len > 0) {
		bool equal = word[len - 1] == '=';

		if (len != 1u + equal || word[0] == '=')
			r = -EINVAL;
		else if (!equal && a->lo == (word[0] == '>' ? UINT64_MAX : 0))
			r = -EINVAL;
		else if (word[0] == '>')
			*a = (struct alternative){ .lo = a->lo + !equal, .hi = UINT64_MAX };
		else
			*a = (struct alternative){ .lo = 0, .hi = a->hi - !equal };
	}
	if (r < 0 || *end || a->lo > a->hi)
		return WRONG(k, "size is N, N-N, <N, <=N, >N or >=N, N in bytes or with K M G T (1024), not '%.60s'", word);
	return 0;
}

static int add_id(struct key *k, struct condition *c, const char *word, bool group)
{
	struct alternative *a = add_alternative(k, c);
	struct passwd pw, *pw_found = NULL;
	struct group gr, *gr_found = NULL;
	unsigned long n;
	char *end, *buf;

	if (!a)
		return -ENOMEM;
	errno = 0;
	n = isdigit((unsigned char)*word) ? strtoul(word, &end, 10) : 0;
	if (isdigit((unsigned char)*word) && !errno && !*end && n < UINT32_MAX) {
		a->lo = n;
		return 0;
	}
	buf = malloc(NSS_BUFFER_BYTES);
	if (!buf)
		return -ENOMEM;
	if (group && getgrnam_r(word, &gr, buf, NSS_BUFFER_BYTES, &gr_found) == 0 && gr_found)
		a->lo = gr.gr_gid;
	else if (!group && getpwnam_r(word, &pw, buf, NSS_BUFFER_BYTES, &pw_found) == 0 && pw_found)
		a->lo = pw.pw_uid;
	free(buf);
	if (!pw_found && !gr_found)
		return WRONG(k, "there is no %s '%.60s' on this machine: write its number", group ? "group" : "user", word);
	return 0;
}

static int add_owner(struct key *k, struct condition *c, const char *word)
{
	return add_id(k, c, word, false);
}

static int add_group(struct key *k, struct condition *c, const char *word)
{
	return add_id(k, c, word, true);
}

static int add_xattr(struct key *k, struct condition *c)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security.", "system." };
	struct alternative *a = add_alternative(k, c);
	char *name, *value;
	bool known = false;

	if (!a)
		return -ENOMEM;
	name = policy_strdup(k->policy, k->value);
	if (!name)
		return -ENOMEM;
	value = strchr(name, '=');
	if (value) {
		for (char *p = value; p > name && (p[-1] == ' ' || p[-1] == '\t'); p--)
			p[-1] = '\0';
		*value++ = '\0';
		value += strspn(value, " \t");
	}
	for (size_t i = 0; i < 4; i++)
		known |= strncmp(name, prefixes[i], strlen(prefixes[i])) == 0 && name[strlen(prefixes[i])];
	if (!known || strlen(name) > 255)
		return WRONG(k, "xattr is NAME or NAME=GLOB, with a NAME such as user.class, not '%.60s'", k->value);
	if (value && glob_check(value) < 0)
		return WRONG(k, "xattr '%.80s': a '[' has no ']', or a backslash ends it", k->value);
	a->text = name;
	a->value = value;
	return 0;
}

static const struct condition_key {
	const char *name;
	int (*add)(struct key *key, struct condition *c);			/* the whole value, or */
	int (*add_word)(struct key *key, struct condition *c, const char *word);	/* each word of it */
} condition_keys[] = {
	[CONDITION_PATH] = { "path", add_path, NULL },
	[CONDITION_NAME] = { "name", add_name, NULL },
	[CONDITION_SUFFIX] = { "suffix", NULL, add_suffix },
	[CONDITION_TYPE] = { "type", NULL, add_type },
	[CONDITION_SIZE] = { "size", NULL, add_size },
	[CONDITION_OWNER] = { "owner", NULL, add_owner },
	[CONDITION_GROUP] = { "group", NULL, add_group },
	[CONDITION_XATTR] = { "xattr", add_xattr, NULL },
};
#define CONDITION_KEYS (sizeof(condition_keys) / sizeof(condition_keys[0]))

static int add_words(struct key *k, struct condition *c, int (*add_word)(struct key *, struct condition *, const char *))
{
	char *words = strdup(k->value), *save = NULL, *word;
	int r = words ? 0 : -ENOMEM;

	for (word = words ? strtok_r(words, ", \t", &save) : NULL; word && r == 0; word = strtok_r(NULL, ", \t", &save))
		r = add_word(k, c, word);
	free(words);
	return r;
}

static struct condition *find_condition(struct key *k, enum condition_kind kind, enum condition_group group)
{
	struct condition **p, *c;

	for (p = &k->rule->conditions; *p; p = &(*p)->next)
		if ((*p)->kind == kind && (*p)->group == group)
			return *p;
	c = policy_alloc(k->policy, sizeof(*c));
	if (c) {
		c->kind = kind;
		c->group = group;
		c->line = k->line;
		*p = c;
	}
	return c;
}

/* As the file has it, all values of a key on one line. */
static int note_text(struct key *k, struct condition *c)
{
	static const char *const prefixes[] = { "", "any.", "none." };
	size_t size = (c->text ? strlen(c->text) : 40) + strlen(k->value) + 8;
	char *text = policy_alloc(k->policy, size);

	if (!text)
		return -ENOMEM;
	if (c->text)
		snprintf(text, size, "%s, %s", c->text, k->value);
	else
		snprintf(text, size, "%s%s = %s", prefixes[c->group], condition_keys[c->kind].name, k->value);
	c->text = text;
	return 0;
}

static int add_condition(struct key *k, enum condition_kind kind, enum condition_group group)
{
	const struct condition_key *key = &condition_keys[kind];
	struct condition *c;
	int r;

	if (!k->value[strspn(k->value, ", \t")])
		return WRONG(k, "%s has no value", k->name);
	c = find_condition(k, kind, group);
	if (!c)
		return -ENOMEM;
	r = key->add ? key->add(k, c) : add_words(k, c, key->add_word);
	return r < 0 ? r : note_text(k, c);
}

int policy_key(struct policy *policy, struct rule *rule, unsigned line, const char *name, const char *value, char *why, size_t len_bytes)
{
	struct key k = { policy, rule, &rule->public.set, name, value, line, why, len_bytes };
	enum condition_group group = GROUP_ALL;
	const char *rest = name;
	int r;

	for (unsigned i = 0; i < POLICY_SETTINGS; i++) {
		if (strcmp(settings[i].name, name) != 0)
			continue;
		if (!settings[i].list && k.set->given & 1u << i)
			return WRONG(&k, "%s is given twice in this rule", name);
		if (!settings[i].may_be_empty && !*value)
			return WRONG(&k, "%s has no value", name);
		r = settings[i].set(&k);
		k.set->given |= 1u << i;
		return r;
	}
	if (strncmp(name, "all.", 4) == 0)
		rest = name + 4;
	else if (strncmp(name, "any.", 4) == 0)
		rest = name + 4, group = GROUP_ANY;
	else if (strncmp(name, "none.", 5) == 0)
		rest = name + 5, group = GROUP_NONE;
	for (unsigned i = 0; i < CONDITION_KEYS; i++)
		if (strcmp(condition_keys[i].name, rest) == 0)
			return add_condition(&k, i, group);
	return WRONG(&k, "there is no key '%.60s'; conditions are path name suffix type size owner group xattr (also any.KEY, none.KEY), "
		     "settings are commit retention min max mode append staging hold digest push", name);
}
