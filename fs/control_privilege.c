/* Verbs of privilege: delete, shorten, expire; and the second person who approves (fs/privilege.h). */
#include "fs/control_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/log.h"
#include "fs/privilege.h"
#include "fs/trail.h"
#include "lockstore/control.h"
#include "lockstore/ledger_approvals.h"
#include "lockstore/retention.h"

#define WHO_BYTES 96

static json_t *refusal(struct client *client, int r, const char *what)
{
	return control_error(r, what ? what : control_audit_refusal(client->fs));
}

/* "reason" of a request; NULL: missing, empty or too long. */
static const char *reason_of(json_t *request)
{
	const char *reason = json_string_value(json_object_get(request, "reason"));

	return reason && *reason && strlen(reason) <= APPROVAL_REASON_MAX_BYTES ? reason : NULL;
}

/* A date, or a period from now. */
static int until_of(struct wormfs *fs, json_t *request, int64_t *ret_until_s)
{
	const char *text = json_string_value(json_object_get(request, "until"));
	struct retention retention;

	if (!text || retention_parse(text, &retention) < 0)
		return -EINVAL;
	*ret_until_s = retention_until(&retention, clock_source_now_s(fs->clock));
	return 0;
}

static json_t *time_json(int64_t t_s)
{
	char text[RETENTION_TEXT_BYTES];

	retention_format_until(t_s, text);
	return json_string(text);
}

/* Keeps what was asked until somebody approves. until_s NULL: delete. */
static json_t *wait_for_approval(struct client *client, struct inode *ino, const char *path, const char *verb, const int64_t *until_s,
				 const char *reason)
{
	struct wormfs *fs = client->fs;
	struct approval approval = { .verb = verb, .path = path, .until_s = until_s ? *until_s : 0, .reason = reason,
				     .by = client->peer.uid, .at_s = clock_source_now_s(fs->clock) };
	const char *what;
	int64_t id;
	int r;

	r = privilege_check(fs, ino, until_s, &what);
	if (r < 0)
		return refusal(client, r, what);
	approval.expires_s = approval.at_s + PRIVILEGE_APPROVAL_S;
	r = inode_key(fs, ino, &approval.key);
	if (r == 0)
		r = ledger_approvals_expire(fs->ledger, approval.at_s);
	if (r == 0)
		r = trail_before(fs, until_s ? AUDIT_SHORTEN : AUDIT_DELETE_PRIVILEGED, "uid %u asks, waits for approval: %s; reason: %s",
				 client->peer.uid, path, reason);
	if (r == 0)
		r = ledger_approval_new(fs->ledger, &approval, &id);
	if (r < 0)
		return refusal(client, r, r == -ENOSPC ? ledger_error(fs->ledger) : NULL);
	log_info("uid %u asks to %s a file, request %lld waits for approval", client->peer.uid, verb, (long long)id);
	return json_pack("{s:b, s:I, s:o}", "ok", 1, "pending", (json_int_t)id, "expires", time_json(approval.expires_s));
}

/* Every verb here has one: it was decoded once already. */
static char *path_of(json_t *request)
{
	char *path = NULL;

	(void)control_path_decode(json_string_value(json_object_get(request, "path")), &path);
	return path;
}

static json_t *verb_delete(struct client *client, json_t *request, struct inode *ino)
{
	const char *reason = reason_of(request), *what = NULL;
	char who[WHO_BYTES], *path = path_of(request);
	json_t *answer;
	int r;

	if (!reason || !path) {
		free(path);
		return control_error(-EINVAL, "\"reason\" is missing, or longer than 1024 bytes");
	}
	if (!role_is_empty(client->fs->approve)) {
		answer = wait_for_approval(client, ino, path, "delete", NULL, reason);
	} else {
		snprintf(who, sizeof(who), "uid %u", client->peer.uid);
		r = privilege_delete(client->fs, ino, path, reason, who, &what);
		if (r == 0)
			log_info("uid %u deleted a locked file: %s", client->peer.uid, reason);
		answer = r < 0 ? refusal(client, r, what) : control_ok();
	}
	free(path);
	return answer;
}

static json_t *shortened(struct client *client, int r, int64_t until_s, const char *what)
{
	return r < 0 ? refusal(client, r, what) : json_pack("{s:b, s:o}", "ok", 1, "until", time_json(until_s));
}

static json_t *verb_shorten(struct client *client, json_t *request, struct inode *ino)
{
	const char *reason = reason_of(request), *what = NULL;
	char who[WHO_BYTES], *path = path_of(request);
	json_t *answer;
	int64_t until_s;
	int r;

	if (!reason || !path)
		answer = control_error(-EINVAL, "\"reason\" is missing, or longer than 1024 bytes");
	else if (until_of(client->fs, request, &until_s) < 0)
		answer = control_error(-EINVAL, "\"until\" is no date and no period");
	else if (!role_is_empty(client->fs->approve))
		answer = wait_for_approval(client, ino, path, "shorten", &until_s, reason);
	else {
		snprintf(who, sizeof(who), "uid %u", client->peer.uid);
		r = privilege_shorten(client->fs, ino, until_s, reason, who, &what);
		if (r == 0)
			log_info("uid %u shortened the retention of a file: %s", client->peer.uid, reason);
		answer = shortened(client, r, until_s, what);
	}
	free(path);
	return answer;
}

static json_t *verb_expire(struct client *client, json_t *request, struct inode *ino)
{
	char who[WHO_BYTES], *path = path_of(request);
	const char *what = NULL;
	int r;

	snprintf(who, sizeof(who), "uid %u", client->peer.uid);
	r = path ? privilege_expire(client->fs, ino, path, who, &what) : -ENOMEM;
	free(path);
	return r < 0 ? refusal(client, r, what) : control_ok();
}

/* ---- the second person ---- */

struct approval_list {
	struct wormfs *fs;
	json_t *list;
	int64_t now_s;
};

static int add_approval(void *arg, const struct approval *a)
{
	struct approval_list *list = arg;
	char *encoded = NULL;
	json_t *row;

	if (a->expires_s <= list->now_s)
		return 0;
	if (control_path_encode(a->path, &encoded) < 0)
		return -ENOMEM;
	row = json_pack("{s:I, s:s, s:s, s:o, s:s, s:I, s:o, s:o}", "id", (json_int_t)a->id, "verb", a->verb, "path", encoded, "until",
			strcmp(a->verb, "shorten") == 0 ? time_json(a->until_s) : json_null(), "reason", a->reason, "by",
			(json_int_t)a->by, "at", time_json(a->at_s), "expires", time_json(a->expires_s));
	free(encoded);
	return json_array_append_new(list->list, row) < 0 ? -ENOMEM : 0;
}

static json_t *verb_requests(struct client *client, json_t *request, struct inode *ino)
{
	struct approval_list list = { .fs = client->fs, .list = json_array(), .now_s = clock_source_now_s(client->fs->clock) };
	int r;

	r = ledger_approvals(client->fs->ledger, 0, add_approval, &list);
	if (r < 0) {
		json_decref(list.list);
		return control_error(r, ledger_error(client->fs->ledger));
	}
	return json_pack("{s:b, s:o}", "ok", 1, "requests", list.list);
}

struct approving {
	struct client *client;
	json_t *answer;
};

static json_t *do_approved(struct client *client, const struct approval *a)
{
	struct wormfs *fs = client->fs;
	struct inode *ino = NULL;
	const char *what = NULL;
	struct file_key key;
	char who[WHO_BYTES];
	int r;

	r = inode_walk(fs, a->path, &ino);
	if (r == 0 && (inode_key(fs, ino, &key) < 0 || !file_key_equal(&key, &a->key))) {
		inode_put(fs, ino);
		return control_error(-ESTALE, "another file has its name by now");
	}
	if (r < 0)
		return control_error(r, "the file is gone");
	/* Taken first: nobody else does it again, whatever comes of it. */
	r = ledger_approval_take(fs->ledger, a->id);
	snprintf(who, sizeof(who), "uid %u, approved by uid %u (request %lld)", a->by, client->peer.uid, (long long)a->id);
	if (r == 0)
		r = strcmp(a->verb, "shorten") == 0 ? privilege_shorten(fs, ino, a->until_s, a->reason, who, &what) :
						      privilege_delete(fs, ino, a->path, a->reason, who, &what);
	inode_put(fs, ino);
	if (r == 0)
		log_info("uid %u approved request %lld of uid %u to %s a file: %s", client->peer.uid, (long long)a->id, a->by, a->verb, a->reason);
	return r < 0 ? refusal(client, r, what) : control_ok();
}

static int approve_one(void *arg, const struct approval *a)
{
	struct approving *approving = arg;
	struct client *client = approving->client;

	if (a->expires_s <= clock_source_now_s(client->fs->clock))
		approving->answer = control_error(-ETIME, "its time is over: it has to be asked for again");
	else if (a->by == client->peer.uid)
		approving->answer = control_error(-EPERM, "it is your own request: somebody else has to approve it");
	else
		approving->answer = do_approved(client, a);
	return 0;
}

static json_t *verb_approve(struct client *client, json_t *request, struct inode *ino)
{
	json_int_t id = json_integer_value(json_object_get(request, "id"));
	struct approving approving = { .client = client };
	int r;

	if (!role_has(client->fs->approve, &client->peer))	/* root is no exception: it is who asks */
		return control_error(-EPERM, "only whom the mount's approve option names may approve");
	r = id > 0 ? ledger_approvals(client->fs->ledger, id, approve_one, &approving) : -ENOENT;
	if (r < 0)
		return control_error(r, r == -ENOENT ? "there is no such request" : ledger_error(client->fs->ledger));
	return approving.answer;
}

const struct verb control_privilege_verbs[] = {
	{ "delete", true, verb_delete, WHO_PRIVILEGED },
	{ "shorten", true, verb_shorten, WHO_PRIVILEGED },
	{ "expire", true, verb_expire, WHO_PRIVILEGED },
	{ "requests", false, verb_requests, WHO_APPROVES },
	{ "approve", false, verb_approve, WHO_APPROVES },
	{ 0 },
};
