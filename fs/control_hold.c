/* Verbs about legal holds: one file, and orders (fs/hold.h). */
#include "fs/control_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/hold.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "lockstore/control.h"

static json_t *verb_hold(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char *name = request->case_name;
	int r;

	r = lock_hold(client->fs, ino, name, client->peer.uid);
	if (r == 0)
		log_info("uid %u placed hold '%s' on a file", client->peer.uid, name);
	if (r == -EEXIST)
		return control_error(r, "it is under this hold already");
	if (r == -EINVAL)
		return control_error(r, "it is not locked");
	return r < 0 ? control_error(r, NULL) : control_ok();
}

static json_t *verb_release(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char *name = request->case_name;
	int r;

	r = lock_release(client->fs, ino, name);
	if (r == 0)
		log_info("uid %u released hold '%s' of a file", client->peer.uid, name);
	if (r == -ENOENT)
		return control_error(r, "it is not under this hold");
	if (r == -EINVAL)
		return control_error(r, "it is not locked");
	return r < 0 ? control_error(r, control_audit_refusal(client->fs)) : control_ok();
}

/* ---- orders ---- */

static int find_unfinished(void *arg, const struct hold_order *order)
{
	*(bool *)arg |= order->state == ORDER_PLACING || order->state == ORDER_RELEASING;
	return 0;
}

static json_t *verb_order_new(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct wormfs *fs = client->fs;
	struct hold_order order = {
		.name = request->case_name,
		.reason = request->reason ? request->reason : "",
		.future = request->future,
		.by = client->peer.uid,
		.at_s = clock_source_now_s(fs->clock),
	};
	bool unfinished = false;
	int64_t id;
	int r;

	if (order.future && !fs->has_rules && fs->opt.commit == COMMIT_NEVER)
		return control_error(-EOPNOTSUPP, "nothing is locked on this mount (commit=never)");
	r = ledger_orders(fs->ledger, order.name, find_unfinished, &unfinished);
	if (r == 0)
		r = ledger_order_new(fs->ledger, &order, &id);
	if (r < 0)
		return control_error(r, ledger_error(fs->ledger));
	return json_pack("{s:b, s:I, s:b}", "ok", 1, "order", (json_int_t)id, "unfinished", unfinished);
}

struct found {
	struct hold_order order;
	char *name;		/* a copy of the order's */
};

static int copy_order(void *arg, const struct hold_order *order)
{
	struct found *found = arg;

	found->order = *order;
	found->order.name = found->name = strdup(order->name);
	found->order.reason = "";
	return found->name ? 0 : -ENOMEM;
}

/* The order that a request names, if it is the client's own and not decided yet. */
static int find_order(struct client *client, const struct control_request *request, struct found *found)
{
	int r;

	found->name = NULL;
	r = request->order > 0 ? ledger_order_find(client->fs->ledger, request->order, copy_order, found) : -ENOENT;
	if (r == 0 && (found->order.state != ORDER_LISTED || (found->order.by != client->peer.uid && !client->privileged)))
		r = -ENOENT;
	return r;
}

static json_t *failed_json(const char *path, int r, const char *what)
{
	char *encoded = NULL;
	json_t *json;

	if (control_path_encode(path, &encoded) < 0)
		return NULL;
	json = control_error(r, what);
	json_object_set_new(json, "path", json_string(encoded));
	json_object_del(json, "ok");
	free(encoded);
	return json;
}

static int note_path(json_t *list, const char *path)
{
	char *encoded;
	int r = control_path_encode(path, &encoded);

	if (r == 0 && json_array_append_new(list, json_string(encoded)) < 0)
		r = -ENOMEM;
	if (r == 0)
		free(encoded);
	return r;
}

/* Looks at each path, before the ledger is locked. Bad ones go into `failed`, and are not among `good`. */
static int check_paths(struct client *client, const struct found *found, const struct control_request *request, const char **good,
		       size_t *ret_ngood, json_t *failed, json_t *have)
{
	const char *what;
	int r;

	*ret_ngood = 0;
	for (size_t i = 0; i < request->npaths; i++) {
		r = hold_check_path(client->fs, &found->order, request->release, request->paths[i], request->tree, &what);
		if (r < 0)
			json_array_append_new(failed, failed_json(request->paths[i], r, what));
		else
			good[(*ret_ngood)++] = request->paths[i];
		if (r == 1 && note_path(have, request->paths[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_paths(struct ledger *ledger, const struct found *found, const char **paths, size_t npaths, bool tree)
{
	int r = ledger_begin(ledger);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < npaths; i++)
		r = ledger_order_add(ledger, found->order.id, paths[i], tree);
	if (r == 0)
		r = ledger_commit(ledger);
	else
		ledger_rollback(ledger);
	return r;
}

static json_t *verb_order_add(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char **good = calloc(request->npaths + 1, sizeof(*good));
	json_t *failed = json_array(), *have = json_array(), *answer;
	struct ledger *ledger = client->fs->ledger;
	struct found found = { 0 };
	size_t ngood;
	int r = good && failed && have ? 0 : -ENOMEM;

	if (r == 0)
		r = find_order(client, request, &found);
	if (r == 0)
		r = check_paths(client, &found, request, good, &ngood, failed, have);
	if (r == 0)
		r = add_paths(ledger, &found, good, ngood, request->tree);
	if (r == 0)
		answer = json_pack("{s:b, s:O, s:O}", "ok", 1, "failed", failed, "have", have);
	else
		answer = control_error(r, r == -ENOENT ? "there is no such order, or it is decided" : ledger_error(ledger));
	free(good);
	free(found.name);
	json_decref(failed);
	json_decref(have);
	return answer;
}

static void send_failed(void *arg, const char *path, int r, const char *what)
{
	/* Somebody who is gone is no reason to decide otherwise. */
	(void)control_send(arg, json_pack("{s:{s:o}}", "progress", "failed", failed_json(path, r, what)));
}

static void send_progress(void *arg, const char *phase, uint64_t files)
{
	(void)control_send(arg, json_pack("{s:{s:s, s:I}}", "progress", "phase", phase, "files", (json_int_t)files));
}

static json_t *verb_order_run(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct hold_result result = { 0 };
	struct found found;
	int r;

	r = find_order(client, request, &found);
	if (r == 0)
		log_info("uid %u orders hold '%s' to be %s", client->peer.uid, found.order.name, request->release ? "released" : "placed");
	if (r == 0)
		r = hold_run(client->fs, found.order.id, request->release, send_failed, send_progress, client, &result);
	free(found.name);
	switch (r) {
	case 0:
		return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "ok", 1, "ended", result.ended, "changed", (json_int_t)result.changed, "unchanged",
				 (json_int_t)result.unchanged, "waiting", (json_int_t)result.waiting, "failed",
				 (json_int_t)result.failed, "bytes", (json_int_t)result.bytes);
	case -EINVAL:
		return control_error(r, "some files cannot be held: nothing was placed");
	case -ENOENT:
		return control_error(r, "there is no such order, or it is decided");
	case -ECANCELED:
		return control_error(r, "the daemon ends: what was decided is enforced, and is finished when the share is mounted again");
	}
	return control_error(r, control_audit_refusal(client->fs) ? control_audit_refusal(client->fs) : ledger_error(client->fs->ledger));
}

static json_t *verb_order_drop(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct found found;
	int r;

	r = find_order(client, request, &found);
	if (r == 0)
		r = ledger_order_drop(client->fs->ledger, found.order.id);
	free(found.name);
	return r < 0 ? control_error(r, r == -ENOENT ? "there is no such order, or it is decided" : NULL) : control_ok();
}

const struct control_deed control_hold_deeds[] = {
	{ CONTROL_HOLD, verb_hold },
	{ CONTROL_RELEASE, verb_release },
	{ CONTROL_ORDER_NEW, verb_order_new },
	{ CONTROL_ORDER_ADD, verb_order_add },
	{ CONTROL_ORDER_RUN, verb_order_run },
	{ CONTROL_ORDER_DROP, verb_order_drop },
	{ 0 },
};
