/* Endpoints of files: which request is which, attributes, and the lock. */
#include "mockarchive/mockqumulo/mock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/mockqumulo/attributes.h"
#include "mockarchive/mockqumulo/file_changes.h"
#include "mockarchive/mockqumulo/file_listing.h"

static int find(struct exchange *x, struct found *ret_found)
{
	struct mock *m = x->mock;
	int r = files_find(m->files, &x->route, ret_found);

	if (r == -ENOENT && switch_value(&m->switches, SW_INVENT) == SWITCH_YES && !x->route.by_id &&
	    files_invent(m->files, x->route.path) == 0)
		r = files_find(m->files, &x->route, ret_found);
	if (r < 0)
		exchange_refuse_errno(x, r);
	return r;
}

static void get_attributes(struct exchange *x, struct found *found)
{
	const struct switches *s = &x->mock->switches;
	bool with_lock = exchange_flag(x, "retrieve-file-lock");

	if (with_lock && switch_value(s, SW_ACL) == ACL_NONE && switch_value(s, SW_NO_ACL)) {
		struct refusal refusal = refusal_of(s, SW_NO_ACL, "no READ_ACL on the file");

		exchange_refuse_by(x, &refusal);
		return;
	}
	found->file->reads++;
	attributes_etag(x, found);
	x->json = attributes_json(x, found, with_lock);
}

/* The caller may lock this file; else the request was refused. */
static bool may_lock(struct exchange *x, const struct found *found)
{
	const struct switches *s = &x->mock->switches;
	enum switch_id id = SW_COUNT;
	struct refusal refusal;

	if (!S_ISREG(found->st.stx_mode))
		id = SW_WRONG_TYPE;
	else if (!x->may_lock)
		id = SW_NO_PRIVILEGE;
	else if (switch_value(s, SW_ACL) != ACL_WRITE)
		id = SW_NO_ACL;
	if (id == SW_COUNT)
		return true;
	refusal = refusal_of(s, id, id == SW_WRONG_TYPE ? "only a regular file can be locked" :
		id == SW_NO_PRIVILEGE ? "the user lacks " PRIVILEGE_LOCK : "no WRITE_ACL on the file");
	if (!refusal.status && id != SW_WRONG_TYPE)
		return true;
	/* What is no file has no lock, whatever the switch says. */
	exchange_refuse(x, refusal.status ? refusal.status : 400, refusal.error_class, refusal.why);
	return false;
}

static void patch_lock(struct exchange *x, struct found *found)
{
	struct mock *m = x->mock;
	struct qlock lock = found->file->lock;
	struct qlock_change change;
	struct refusal refusal;
	int r;

	if (qlock_change_parse(x->body, x->body_len, &m->switches, &change, &refusal) < 0) {
		exchange_refuse_by(x, &refusal);
		return;
	}
	if (!may_lock(x, found) || !attributes_match(x, found))
		return;
	if (qlock_apply(&lock, &change, mock_now(m), &m->switches, &refusal) < 0) {
		exchange_refuse_by(x, &refusal);
		return;
	}
	found->file->lock = lock;
	r = files_lock_changed(m->files, found->file);
	if (r < 0) {
		exchange_refuse_errno(x, r);
		return;
	}
	attributes_etag(x, found);
	x->json = attributes_json(x, found, true);
}

static void patch_attributes(struct exchange *x, struct found *found)
{
	if (!attributes_match(x, found) || file_change_attributes(x, found) < 0)
		return;
	attributes_etag(x, found);
	x->json = attributes_json(x, found, false);
}

static const struct {
	enum endpoint endpoint;
	const char *method;
	void (*fn)(struct exchange *x, struct found *found);
	bool json;			/* what the reply is when all went well */
} of_file[] = {
	{ EP_ATTRIBUTES, "GET", get_attributes, true },
	{ EP_ATTRIBUTES, "PATCH", patch_attributes, true },
	{ EP_FILE_LOCK, "PATCH", patch_lock, true },
	{ EP_FILE, "DELETE", file_delete, false },
	{ EP_ENTRIES, "GET", file_list, true },
	{ EP_ENTRIES, "POST", file_make_entry, true },
	{ EP_ENTRY, "DELETE", file_delete_entry, false },
	{ EP_DATA, "GET", file_read, false },
	{ EP_DATA, "PUT", file_write, true },
	{ EP_NOTIFY, "GET", notify_request, false },
};

void files_request(struct exchange *x)
{
	const size_t n = sizeof(of_file) / sizeof(of_file[0]);
	struct found found;
	size_t i = 0;

	if (x->route.endpoint == EP_RESOLVE || x->route.endpoint == EP_TRY_RESOLVE) {
		if (strcmp(x->method, "POST") != 0)
			exchange_refuse(x, 405, "http_method_not_allowed_error", "no such method here");
		else
			file_resolve(x, x->route.endpoint == EP_TRY_RESOLVE);
		return;
	}
	if (x->route.endpoint == EP_NOTIFY_SETTINGS) {
		notify_settings(x);
		return;
	}
	while (i < n && (x->route.endpoint != of_file[i].endpoint || strcmp(x->method, of_file[i].method) != 0))
		i++;
	if (i == n) {
		exchange_refuse(x, 405, "http_method_not_allowed_error", "no such method here");
		return;
	}
	if (find(x, &found) < 0)
		return;
	of_file[i].fn(x, &found);
	found_fini(&found);
	/* A name that is not UTF-8, of a file found by its id, is no JSON. */
	if (of_file[i].json && x->status == 200 && !x->json)
		exchange_refuse(x, 500, "internal_error", "the file's name is not UTF-8, or there is no memory");
}
