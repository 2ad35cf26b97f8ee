/* Rule files as anybody may write them: what is read can be matched, explained and printed, the index says what trying
 * every rule says, and nothing that cannot be read leaves anything behind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/policy_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static ssize_t attribute(void *arg, const char *name, void *buf, size_t size_bytes)
{
	memcpy(buf, "secret", 6);
	return 6;
}

static void try_file(const struct policy *policy, const struct policy_file *file)
{
	const struct policy_rule *rule;
	char why[600];
	size_t i = 0;

	if (policy_match(policy, file, &rule) < 0)
		abort();
	for (; i < policy_count(policy); i++)
		if (policy_why_not(policy, i, file, why, sizeof(why)) == 0 && !*why)
			break;
	if (policy_at(policy, i) != rule)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const paths[] = { "a", "a/b", "a/b/c.pdf", "x.tar.gz", "a1/\n", "finance/2026/r.pdf", "\xff/\xfe.log" };
	struct ini_error error;
	struct policy *policy;
	char *path = calloc(1, len + 1);
	json_t *json;

	if (policy_parse("fuzz", (const char *)data, len, NULL, &policy, &error) < 0) {
		if (!error.text[0])
			abort();
		free(path);
		return 0;
	}
	/* Pieces of the file itself are the paths most likely to match. */
	memcpy(path, data, len);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct policy_file file = { .path = paths[i], .has_size = true, .size_bytes = len, .uid = i, .gid = i, .xattr = attribute };

		try_file(policy, &file);
	}
	for (char *word = strtok(path, " \n="); word; word = strtok(NULL, " \n=")) {
		struct policy_file file = { .path = *word == '/' ? word + 1 : word, .size_bytes = len };

		try_file(policy, &file);
	}
	for (size_t i = 0; i <= policy_count(policy) && i < 20; i++) {
		json = policy_rule_json(policy, i);
		if (!json)
			abort();
		json_decref(json);
	}
	policy_put(policy);
	free(path);
	return 0;
}
