/* The verbs about limits of our own. */
#include "fs/control_private.h"

#include <errno.h>

#include "fs/log.h"
#include "fs/quota_limit.h"

static json_t *verb_quota(struct client *client, const struct control_request *request, struct inode *ino)
{
	return quota_limit_list(client->fs, request->from);
}

static json_t *verb_quota_recount(struct client *client, const struct control_request *request, struct inode *ino)
{
	if (!client->fs->limits)
		return control_error(-EOPNOTSUPP, "this mount has no limits (-o quota=FILE)");
	atomic_store(&client->fs->limits->recount, true);
	log_info("quota: uid %u wants it counted anew: the next mount does", client->peer.uid);
	return control_ok();
}

const struct control_deed control_quota_deeds[] = {
	{ CONTROL_QUOTA, verb_quota },
	{ CONTROL_QUOTA_RECOUNT, verb_quota_recount },
	{ 0 },
};
