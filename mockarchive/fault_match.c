/* What a rule matches. */
#include "mockarchive/fault_rule.h"

#include <stdio.h>
#include <string.h>

#include "lockstore/glob.h"

static bool comm_is(pid_t pid, const char *want)
{
	char path[40], comm[FAULT_COMM_BYTES + 1] = "";
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	in = fopen(path, "re");
	if (!in)
		return false;		/* gone: nobody whom a rule could mean */
	if (!fgets(comm, sizeof(comm), in))
		*comm = '\0';
	fclose(in);
	comm[strcspn(comm, "\n")] = '\0';
	return strcmp(comm, want) == 0;
}

/* A pattern that would take more steps than the limit matches nothing. */
static bool regex_matches(const pcre2_code *regex, const char *path)
{
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	pcre2_match_context *context = pcre2_match_context_create(NULL);
	char whole[FAULT_PATH_BYTES];
	int r = -1;

	snprintf(whole, sizeof(whole), "/%s", path);
	if (data && context) {
		pcre2_set_match_limit(context, FAULT_REGEX_STEPS_MAX);
		r = pcre2_match(regex, (PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, 0, 0, data, context);
	}
	pcre2_match_context_free(context);
	pcre2_match_data_free(data);
	return r >= 0;
}

static bool path_matches(const struct fault_rule *rule, const char *path)
{
	struct glob_part parts[GLOB_PARTS_MAX];
	const char *slash;
	size_t n = 0;

	if (!path)
		return false;
	if (rule->name_glob) {
		slash = strrchr(path, '/');
		path = slash ? slash + 1 : path;
		return glob_matches(rule->name_glob, path, strlen(path));
	}
	if (rule->regex)
		return regex_matches(rule->regex, path + strspn(path, "/"));
	while (*(path += strspn(path, "/")) && n < GLOB_PARTS_MAX) {
		parts[n] = (struct glob_part){ path, strcspn(path, "/") };
		path += parts[n++].len;
	}
	return path_glob_matches(rule->glob, parts, n);
}

bool fault_rule_matches(const struct fault_rule *rule, const struct fault_query *query)
{
	if (!rule->enabled || !(rule->points >> query->point & 1) || !(rule->does & query->can))
		return false;
	if (query->now_ns < rule->from_ns || query->now_ns >= rule->until_ns || query->now_ns >= rule->expires_ns)
		return false;
	if (rule->copy && query->copy && rule->copy != query->copy)
		return false;
	if (rule->len_bytes && query->len_bytes && (query->offset_bytes >= rule->offset_bytes + rule->len_bytes ||
						     query->offset_bytes + query->len_bytes <= rule->offset_bytes))
		return false;
	if ((rule->min_size_bytes >= 0 && query->size_bytes < rule->min_size_bytes) ||
	    (rule->max_size_bytes >= 0 && (query->size_bytes < 0 || query->size_bytes > rule->max_size_bytes)))
		return false;
	if ((rule->has_uid && (!query->has_caller || query->uid != rule->uid)) ||
	    (rule->has_pid && (!query->has_caller || query->pid != rule->pid)))
		return false;
	if ((rule->path || rule->regex_text) && !path_matches(rule, query->path))
		return false;
	return !*rule->comm || (query->has_caller && comm_is(query->pid, rule->comm));
}
