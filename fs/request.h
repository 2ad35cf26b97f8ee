/* Requests that come as extended attributes or over the control socket end here, so that both doors
 * do, and show, the same. */
#ifndef WORMFS_REQUEST_H
#define WORMFS_REQUEST_H

#include <jansson.h>

#include "fs/control_request.h"
#include "fs/inode.h"
#include "fs/wormfs.h"

/* lockstore/control.h says what is in them. The caller owns *ret_json / *ret_value. */
int request_explain(struct wormfs *fs, struct inode *ino, json_t **ret_json);
int request_mount(struct wormfs *fs, json_t **ret_json);
/* Value of user.worm.NAME. -ENODATA: this file has no such attribute. */
int request_attribute(struct wormfs *fs, struct inode *ino, const char *name, char **ret_value);

/* user.worm.until and the verb "extend": a date, or a period from now. */
int request_extend(struct wormfs *fs, struct inode *ino, const struct retention *until, int64_t *ret_until_s);

/* The verbs "policy", "policy-test" and "policy-reload" of the control socket, in fs/request_policy.c: the answer, or NULL: out of memory. */
json_t *request_policy(struct wormfs *fs, uint64_t from);
json_t *request_policy_test(struct wormfs *fs, const struct control_request *request);
json_t *request_policy_reload(struct wormfs *fs, uid_t by);

#endif
