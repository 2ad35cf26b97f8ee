/* The verb about locks on their way to a cluster; what is on its way wormctl reads from the ledger. */
#include "fs/control_private.h"

#include <errno.h>

#include "fs/push.h"
#include "lockstore/committer.h"
#include "lockstore/ledger_push.h"

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
	{ CONTROL_PUSH_RETRY, verb_push_retry },
	{ 0 },
};
