/* Owns nothing but what it has open, all of it for reading. The rule is the daemon's: a file is locked
 * when either its record or the ledger says so, and a record that does not verify counts as a lock. */
#include "lockstore/wormctl/offline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/record.h"
#include "lockstore/sha256.h"

struct offline {
	const struct wormctl *ctl;
	const struct share *share;	/* whose these are */
	struct ledger *ledger;		/* NULL: see ledger_failure */
	struct failure ledger_failure;
	struct record_key *key;		/* NULL: see key_error */
	int key_error;
};

/* What is known about one file. */
struct known {
	struct offline *offline;
	bool has_record, has_row, verified;
	struct lock_record rec;		/* with both: the stricter of the two */
	char rule[256];
	char sha256[SHA256_TEXT_BYTES];	/* "": not known */
	bool no_digest;			/* and never will be */
	json_t *holds;
};

int offline_open(const struct wormctl *ctl, struct offline **ret_offline)
{
	struct offline *offline = calloc(1, sizeof(*offline));

	if (!offline)
		return -ENOMEM;
	offline->ctl = ctl;
	*ret_offline = offline;
	return 0;
}

static void forget_share(struct offline *offline)
{
	ledger_close(offline->ledger);
	record_key_close(offline->key);
	offline->ledger = NULL;
	offline->key = NULL;
	offline->share = NULL;
}

void offline_close(struct offline *offline)
{
	if (!offline)
		return;
	forget_share(offline);
	free(offline);
}

static int use_share(struct offline *offline, struct share *share)
{
	char *key_path;

	if (offline->share == share)
		return 0;
	forget_share(offline);
	key_path = share_key_path(share, offline->ctl);
	if (!key_path)
		return -ENOMEM;
	if (share_ledger(share, LEDGER_READONLY, &offline->ledger, &offline->ledger_failure) < 0)
		offline->ledger = NULL;
	offline->key_error = record_key_open(key_path, false, &offline->key);
	if (offline->key_error < 0)
		offline->key = NULL;
	free(key_path);
	offline->share = share;
	return 0;
}

const char *record_state_name(const struct lock_record *rec, int64_t now_s)
{
	if (rec->flags & RECORD_APPEND)
		return "appendable";
	if (!record_is_retained(rec, now_s))
		return "expired";
	return rec->holds == 0 && now_s < record_settles_until(rec) ? "settling" : "retained";
}

static int on_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	json_array_append_new(arg, json_text(case_name));
	return 0;
}

static int on_row(void *arg, const struct ledger_row *row)
{
	struct known *known = arg;

	if (!known->has_record || !known->verified) {
		known->rec = row->rec;
	} else {
		if (retention_is_later(known->rec.until_s, row->rec.until_s))
			known->rec.until_s = row->rec.until_s;
		if (row->rec.mode > known->rec.mode)
			known->rec.mode = row->rec.mode;
	}
	if (row->holds > known->rec.holds)
		known->rec.holds = row->holds;
	snprintf(known->rule, sizeof(known->rule), "%s", row->rule ? row->rule : "");
	if (row->sha256)
		sha256_format(row->sha256, known->sha256);
	known->no_digest = row->no_digest;
	known->has_row = true;
	return 0;
}

/* The record on the file. 0 also when there is none; known->has_record says it. */
static int read_record(struct known *known, const struct target *target)
{
	uint8_t bytes[RECORD_BYTES + 1];	/* one more, to see that it is too long */
	ssize_t n = lower_getxattr(target->fd, lower_xattr_record(known->offline->share->ns), bytes, sizeof(bytes));

	if (n == -ENODATA || n == -EOPNOTSUPP)
		return 0;
	if (n < 0 && n != -ERANGE)
		return n;
	known->has_record = true;
	known->verified = known->offline->key && n >= 0 &&
			  record_decode(known->offline->key, bytes, n, &known->rec) == 0;
	return 0;
}

static int read_row(struct known *known, const struct target *target)
{
	struct ledger *ledger = known->offline->ledger;
	struct file_key key;
	int r;

	if (!ledger)
		return known->offline->ledger_failure.error;
	r = lower_file_key(target->fd, "", &key);
	if (r < 0)
		return r;
	r = ledger_find(ledger, &key, on_row, known);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : ledger_holds(ledger, &key, on_hold, known->holds);
}

static const char *suspect_of(const struct known *known, const struct target *target)
{
	const struct lock_record *rec = &known->rec;
	int64_t mtime_ns = target->st.st_mtim.tv_sec * INT64_C(1000000000) + target->st.st_mtim.tv_nsec;

	if (!known->has_record)
		return "the ledger knows it as locked, but the record on the file is gone";
	if (!known->verified)
		return NULL;	/* "why" says it */
	if (!(rec->flags & RECORD_APPEND) && rec->size_bytes != (uint64_t)target->st.st_size)
		return "its size is not what it was when it was locked";
	if (!(rec->flags & RECORD_APPEND) && rec->mtime_ns != mtime_ns)
		return "its modification time is not what it was when it was locked";
	if (rec->holds > json_array_size(known->holds))
		return "it has more holds than the ledger has names for";
	return NULL;
}

static json_t *describe_locked(const struct known *known, const struct target *target)
{
	char until[RETENTION_TEXT_BYTES], committed[RETENTION_TEXT_BYTES], settles[RETENTION_TEXT_BYTES];
	const struct lock_record *rec = &known->rec;
	json_t *file;
	const char *suspect = suspect_of(known, target);

	if (!known->has_row && !known->verified) {
		const char *why = !known->offline->key ? "it carries a lock record, which cannot be verified without the "
				  "key: name it with --state-dir DIR or --key FILE" :
				  "its lock record does not verify: it was changed, or written with another key";

		return json_pack("{s:s,s:s,s:n,s:n,s:[],s:n,s:n,s:I,s:n,s:n}", "state", "unreadable", "why", why, "until",
				 "mode", "holds", "committed", "serial", "size", (json_int_t)target->st.st_size, "rule",
				 "suspect");
	}
	retention_format_until(rec->until_s, until);
	retention_format_until(rec->committed_s, committed);
	file = json_pack("{s:s,s:s,s:s,s:s,s:O,s:s,s:I,s:I}",
			 "state", record_state_name(rec, share_now_s(known->offline->share)),
			 "why", known->has_record ? "it was locked; nothing is mounted now that enforces it" :
			 "the ledger says so; nothing is mounted now that enforces it",
			 "until", until, "mode", worm_mode_name(rec->mode), "holds", known->holds,
			 "committed", committed, "serial", (json_int_t)rec->serial,
			 "size", (json_int_t)target->st.st_size);
	if (!file)
		return NULL;
	json_object_set_new(file, "rule", !known->has_row ? json_null() :
			    json_text(*known->rule ? known->rule : "mount options"));
	json_object_set_new(file, "sha256", *known->sha256 ? json_string(known->sha256) : json_null());
	json_object_set_new(file, "digest", json_string(*known->sha256 ? "taken" : known->no_digest ? "off by its rule" : "pending"));
	retention_format_until(record_settles_until(rec), settles);
	json_object_set_new(file, "settles", strcmp(json_get_text(file, "state"), "settling") == 0 ? json_string(settles) : json_null());
	json_object_set_new(file, "suspect", suspect ? json_text(suspect) : json_null());
	return file;
}

static json_t *describe_open(const struct target *target, const char *state, const char *why)
{
	return json_pack("{s:s,s:s,s:n,s:n,s:[],s:n,s:n,s:I,s:n,s:n}", "state", state, "why", why, "until", "mode", "holds",
			 "committed", "serial", "size", (json_int_t)target->st.st_size, "rule", "suspect");
}

static json_t *describe_directory(const struct offline *offline, const struct target *target)
{
	char pin[64];
	ssize_t n = lower_getxattr(target->fd, lower_xattr_pin(offline->share->ns), pin, sizeof(pin));

	if (n == -ENODATA)
		return describe_open(target, "open", "there is no locked file below it");
	return describe_open(target, "pinned", "there are locked files below it, so it cannot be renamed");
}

int offline_explain(struct offline *offline, const struct target *target, json_t **ret_file, struct failure *f)
{
	struct known known = { .offline = offline, .holds = json_array() };
	int record_error, row_error, r;
	json_t *file = NULL;

	r = known.holds ? use_share(offline, target->place->share) : -ENOMEM;
	if (r < 0)
		goto out;
	if (S_ISDIR(target->st.st_mode)) {
		file = describe_directory(offline, target);
	} else if (!S_ISREG(target->st.st_mode)) {
		file = describe_open(target, "open", "only regular files are locked");
	} else {
		record_error = read_record(&known, target);
		row_error = read_row(&known, target);
		if (record_error < 0 && !known.has_row) {
			r = fail(f, record_error, "cannot read the lock record of %s: %s", quoted(target->shown),
				 strerror(-record_error));
			goto out;
		}
		if (known.has_record || known.has_row)
			file = describe_locked(&known, target);
		else
			file = describe_open(target, "open", row_error < 0 ? "it carries no lock record (the ledger "
					     "cannot be read)" : "it carries no lock record, and the ledger does not know it");
	}
	r = file ? 0 : -ENOMEM;
out:
	json_decref(known.holds);
	if (r == -ENOMEM)
		return fail(f, r, "out of memory");
	if (r < 0)
		return r;
	if (!json_object_get(file, "sha256"))
		json_object_set_new(file, "sha256", json_null());
	if (!json_object_get(file, "digest"))
		json_object_set_new(file, "digest", json_null());
	if (!json_object_get(file, "settles"))
		json_object_set_new(file, "settles", json_null());
	json_object_set_new(file, "enforced", json_false());
	json_object_set_new(file, "refused", json_array());
	*ret_file = file;
	return 0;
}

json_t *offline_health(struct share *share)
{
	static const struct ledger_filter all;
	json_t *problems = json_array(), *ledger_state = json_object();
	struct ledger *ledger = NULL;
	uint64_t locked, pending;
	struct failure f;
	const char *state = "ok";
	int r;

	r = share_ledger(share, LEDGER_READONLY, &ledger, &f);
	if (r == 0) {
		r = ledger_check(ledger);
		if (r < 0)
			fail(&f, r, "the ledger in %s is damaged: %s", quoted(share->state_dir), ledger_error(ledger));
	}
	if (r < 0) {
		state = r == -ENOENT ? "missing" : "damaged";
		json_array_append_new(problems, json_text(f.text));
	} else if (ledger_count(ledger, &all, &locked) == 0 && ledger_pending_count(ledger, &pending) == 0) {
		json_object_set_new(ledger_state, "locked", json_integer(locked));
		json_object_set_new(ledger_state, "pending", json_integer(pending));
	}
	json_object_set_new(ledger_state, "state", json_string(state));
	ledger_close(ledger);
	return json_pack("{s:o,s:b,s:o,s:o}", "state_dir", json_text(share->state_dir), "mounted", 0, "ledger", ledger_state,
			 "problems", problems);
}
