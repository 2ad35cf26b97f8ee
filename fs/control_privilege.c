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

_Static_assert(CONTROL_REASON_MAX_BYTES <= APPROVAL_REASON_MAX_BYTES, "a reason that is taken can wait for approval");

static json_t *refusal(struct client *client, int r, const char *what)
{
	return control_error(r, what ? what : control_audit_refusal(client->fs));
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

static json_t *verb_delete(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char *what = NULL;
	char who[WHO_BYTES];
	int r;

	if (!role_is_empty(client->fs->approve))
		return wait_for_approval(client, ino, request->path, "delete", NULL, request->reason);
	snprintf(who, sizeof(who), "uid %u", client->peer.uid);
	r = privilege_delete(client->fs, ino, request->path, request->reason, who, &what);
	if (r < 0)
		return refusal(client, r, what);
	log_info("uid %u deleted a locked file: %s", client->peer.uid, request->reason);
	return control_ok();
}

static json_t *verb_shorten(struct client *client, const struct control_request *request, struct inode *ino)
{
	int64_t until_s = retention_until(&request->until, clock_source_now_s(client->fs->clock));
	const char *what = NULL;
	char who[WHO_BYTES];
	int r;

	if (!role_is_empty(client->fs->approve))
		return wait_for_approval(client, ino, request->path, "shorten", &until_s, request->reason);
	snprintf(who, sizeof(who), "uid %u", client->peer.uid);
	r = privilege_shorten(client->fs, ino, until_s, request->reason, who, &what);
	if (r < 0)
		return refusal(client, r, what);
	log_info("uid %u shortened the retention of a file: %s", client->peer.uid, request->reason);
	return json_pack("{s:b, s:o}", "ok", 1, "until", time_json(until_s));
}

static json_t *verb_expire(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char *what = NULL;
	char who[WHO_BYTES];
	int r;

	snprintf(who, sizeof(who), "uid %u", client->peer.uid);
	r = privilege_expire(client->fs, ino, request->path, who, &what);
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

static json_t *verb_requests(struct client *client, const struct control_request *request, struct inode *ino)
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

static json_t *verb_approve(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct approving approving = { .client = client };
	int r;

	if (!role_has(client->fs->approve, &client->peer))	/* root is no exception: it is who asks */
		return control_error(-EPERM, "only whom the mount's approve option names may approve");
	r = request->id > 0 ? ledger_approvals(client->fs->ledger, request->id, approve_one, &approving) : -ENOENT;
	if (r < 0)
		return control_error(r, r == -ENOENT ? "there is no such request" : ledger_error(client->fs->ledger));
	return approving.answer;
}

const struct control_deed control_privilege_deeds[] = {
	{ CONTROL_DELETE, verb_delete },
	{ CONTROL_SHORTEN, verb_shorten },
	{ CONTROL_EXPIRE, verb_expire },
	{ CONTROL_REQUESTS, verb_requests },
	{ CONTROL_APPROVE, verb_approve },
	{ 0 },
};
