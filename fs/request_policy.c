/* Requests about the rules. They look at what rule.c has in force, never at the file of rules, but for a reload. */
#include "fs/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/descriptor.h"
#include "fs/log.h"
#include "fs/rule.h"
#include "lockstore/control.h"
#include "lockstore/policy_json.h"

#define PAGE_BYTES 40000	/* of rules: with one more, of at most 24 conditions, an answer fits CONTROL_LINE_MAX */

static json_t *refuse(int r, const char *text)
{
	const char *name = strerrorname_np(-r);

	return json_pack("{s:b, s:s, s:s}", "ok", 0, "errno", name ? name : "EIO", "error", text ? text : strerror(-r));
}

/* The rules in force; without -o rules one of none, so that the mount options are shown and tested the same way. */
static int policy_of_mount(struct wormfs *fs, struct policy **ret_policy)
{
	struct ini_error error;

	*ret_policy = rule_policy(fs);
	return *ret_policy ? 0 : policy_parse("mount options", "", 0, &fs->mount_rule.set, ret_policy, &error);
}

json_t *request_policy(struct wormfs *fs, uint64_t from)
{
	size_t i = from, bytes = 0, count;
	json_t *rules = json_array(), *answer;
	struct policy *policy;
	int r;

	r = policy_of_mount(fs, &policy);
	if (r < 0) {
		json_decref(rules);
		return refuse(r, NULL);
	}
	count = policy_count(policy);
	for (; i <= count && bytes < PAGE_BYTES; i++) {
		json_t *rule = policy_rule_json(policy, i);

		bytes += json_dumpb(rule, NULL, 0, JSON_COMPACT);	/* only its length */
		json_array_append_new(rules, rule);
	}
	answer = json_pack("{s:b, s:o, s:I, s:o, s:o}", "ok", 1, "file", fs->rules_path ? json_string(fs->rules_path) : json_null(), "count",
			   (json_int_t)count, "rules", rules, "next", i <= count ? json_integer(i) : json_null());
	policy_put(policy);
	return answer;
}

/* What the file is, if it is there; what the request says instead. */
static int fill_file(struct wormfs *fs, const struct control_request *request, struct inode *ino, struct policy_file *file)
{
	int64_t btime_ns;
	struct stat st;
	int fd, r = 0;

	if (ino) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : inode_stat(fd, "", &st, &btime_ns);
		descriptor_put(fs, ino, fd);
		if (r < 0)
			return r;
		file->uid = st.st_uid;
		file->gid = st.st_gid;
		file->size_bytes = st.st_size;
		file->has_size = true;
	}
	if (request->has_uid)
		file->uid = request->uid;
	if (request->has_gid)
		file->gid = request->gid;
	if (request->has_size) {
		file->size_bytes = request->size_bytes;
		file->has_size = true;
	}
	return 0;
}

json_t *request_policy_test(struct wormfs *fs, const struct control_request *request)
{
	struct rule_attribute_of source = { .fs = fs };
	struct policy_file file = { 0 };
	struct policy *policy = NULL;
	json_t *test = NULL;
	int r;

	r = inode_walk(fs, request->path, &source.ino);
	if (r == 0 && !S_ISREG(source.ino->type)) {
		inode_put(fs, source.ino);
		return refuse(-EINVAL, "it is no regular file: rules are for files; name one, which need not exist");
	}
	if (r == -ENOENT || r == -ENOTDIR)
		r = 0;
	if (r == 0)
		r = fill_file(fs, request, source.ino, &file);
	if (r == 0)
		r = policy_of_mount(fs, &policy);
	if (r == 0) {
		file.path = request->path;
		file.xattr = source.ino ? rule_attribute : NULL;
		file.xattr_arg = &source;
		r = policy_test_json(policy, &file, clock_source_now_s(fs->clock), &test);
	}
	policy_put(policy);
	if (r < 0) {
		inode_put(fs, source.ino);
		return refuse(r, NULL);
	}
	json_object_set_new(test, "exists", json_boolean(source.ino != NULL));
	inode_put(fs, source.ino);
	return json_pack("{s:b, s:o}", "ok", 1, "test", test);
}

json_t *request_policy_reload(struct wormfs *fs, uid_t by)
{
	struct ini_error error = { 0 };
	size_t count;
	int r;

	r = rule_reload(fs, &error, &count);
	if (r < 0)
		return refuse(r, error.text);
	log_info("uid %u reloaded the rules", by);
	return json_pack("{s:b, s:s, s:I, s:I}", "ok", 1, "file", fs->rules_path, "count", (json_int_t)count, "open", (json_int_t)atomic_load(&fs->n_writers));
}
