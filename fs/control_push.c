/* Verbs about locks on their way to a cluster. */
#include "fs/control_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/push.h"
#include "lockstore/committer.h"
#include "lockstore/control.h"
#include "lockstore/ledger_push.h"

#define LIST_MAX 100		/* rows an answer: a path may take 12 KiB of the line */
#define LIST_BYTES 49152	/* and no more of them than this */

struct listing {
	json_t *rows;
	size_t bytes;
	int64_t last_id;
	bool full;
};

static int add_row(void *arg, const struct ledger_push_row *row)
{
	struct listing *listing = arg;
	json_t *json;
	char *path;
	int r;

	r = control_path_encode(row->path, &path);
	if (r < 0)
		return r;
	listing->bytes += strlen(path) + 512;
	if (json_array_size(listing->rows) && listing->bytes > LIST_BYTES) {
		listing->full = true;
		free(path);
		return -ECANCELED;
	}
	json = push_row_json(row);
	if (json)
		json_object_set_new(json, "path", json_string(path));
	free(path);
	if (!json || json_array_append_new(listing->rows, json) < 0)
		return -ENOMEM;
	listing->last_id = row->id;
	return 0;
}

static int state_of(const char *name)
{
	static const char *const names[] = { "pending", "locked", "failed", "all" };
	static const int states[] = { LEDGER_PUSH_PENDING, LEDGER_PUSH_LOCKED, LEDGER_PUSH_FAILED, -1 };

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(names[i], name ? name : "all") == 0)
			return states[i];
	return -EINVAL;
}

static json_t *verb_push_list(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct listing listing = { .rows = json_array() };
	int state = state_of(request->state), r;

	if (state == -EINVAL) {
		json_decref(listing.rows);
		return control_error(state, "\"state\" is pending, locked, failed or all");
	}
	r = listing.rows ? ledger_push_list(client->fs->ledger, state, (int64_t)request->from, LIST_MAX, add_row, &listing) : -ENOMEM;
	if (r < 0 && r != -ECANCELED) {
		json_decref(listing.rows);
		return control_error(r, ledger_error(client->fs->ledger));
	}
	return json_pack("{s:b, s:o, s:o}", "ok", 1, "next",
			 listing.full || json_array_size(listing.rows) == LIST_MAX ? json_integer(listing.last_id) : json_null(), "rows", listing.rows);
}

static json_t *verb_push_retry(struct client *client, const struct control_request *request, struct inode *ino)
{
	struct wormfs *fs = client->fs;
	struct file_key key;
	uint64_t n = 0;
	int r;

	if (!fs->push)
		return control_error(-EOPNOTSUPP, "nothing is pushed on this mount (-o push)");
	if (!request->path) {
		r = ledger_push_retry(fs->ledger, &n);
	} else {
		r = inode_walk(fs, request->path, &ino);
		if (r < 0)
			return control_error(r, NULL);
		r = inode_key(fs, ino, &key);
		inode_put(fs, ino);
		if (r == 0)
			r = committer_flush(fs->committer, 5000);
		if (r == 0)
			r = ledger_push_again(fs->ledger, &key, request->again);
		if (r == -ENOENT)
			return control_error(r, "it is not locked");
		n = 1;
	}
	if (r < 0)
		return control_error(r, ledger_error(fs->ledger));
	push_kick(fs);
	return json_pack("{s:b, s:I}", "ok", 1, "files", (json_int_t)n);
}

const struct control_deed control_push_deeds[] = {
	{ CONTROL_PUSH_LIST, verb_push_list },
	{ CONTROL_PUSH_RETRY, verb_push_retry },
	{ 0 },
};
