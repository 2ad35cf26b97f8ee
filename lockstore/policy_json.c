/* One shape of a rule, whoever prints it. Texts may hold any bytes: what is no UTF-8 becomes '?'. */
#include "lockstore/policy_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lockstore/staging.h"

static json_t *text_json(const char *text)
{
	char copy[POLICY_JSON_TEXT_BYTES];
	json_t *json;

	snprintf(copy, sizeof(copy), "%s", text);
	json = json_string(copy);
	if (json)
		return json;
	for (char *c = copy; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json_string(copy);
}

static json_t *holds_json(const char *holds)
{
	json_t *list = json_array();

	for (const char *at = holds ? holds : "", *end; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, '\n');
		json_array_append_new(list, json_stringn(at, end - at));
	}
	return list;
}

json_t *policy_settings_json(const struct policy_settings *set)
{
	json_t *json = json_object();
	char text[POLICY_JSON_TEXT_BYTES];

	for (int i = 0; i < POLICY_SETTINGS; i++) {
		if (i == POLICY_HOLD) {
			json_object_set_new(json, policy_setting_name(i), holds_json(set->holds));
			continue;
		}
		policy_setting_format(set, i, text, sizeof(text));
		json_object_set_new(json, policy_setting_name(i), text_json(text));
	}
	return json;
}

json_t *policy_rule_json(const struct policy *policy, size_t i)
{
	const struct policy_rule *rule = policy_at(policy, i);
	json_t *conditions = json_array(), *given = json_array();
	const char *text;

	for (size_t c = 0; (text = policy_condition(policy, i, c)); c++)
		json_array_append_new(conditions, text_json(text));
	for (int s = 0; s < POLICY_SETTINGS; s++)
		if (rule->set.given & 1u << s)
			json_array_append_new(given, json_string(policy_setting_name(s)));
	return json_pack("{s:s, s:I, s:o, s:o, s:o}", "name", *rule->name ? rule->name : POLICY_OF_MOUNT, "line", (json_int_t)rule->line,
			 "conditions", conditions, "given", given, "settings", policy_settings_json(&rule->set));
}

static void describe(const struct policy_settings *set, const char *path, const char *until, char *buf, size_t len_bytes)
{
	const char *slash = path ? strrchr(path, '/') : NULL, *name = slash ? slash + 1 : path ? path : "";
	bool dated = strcmp(until, "infinite") != 0 && strcmp(until, "unspecified") != 0;
	char how[160];

	snprintf(how, sizeof(how), "%s, %s%s, %u %s", worm_mode_name(set->mode), dated ? "until " : "", dated ? until :
		 strcmp(until, "infinite") == 0 ? "for ever" : "until somebody sets a date", set->nholds, set->nholds == 1 ? "hold" : "holds");
	if (set->commit == COMMIT_NEVER)
		snprintf(buf, len_bytes, "it is never locked");
	else if ((set->commit == COMMIT_CLOSE || set->commit == COMMIT_IDLE) && staging_matches(set->staging, name))
		snprintf(buf, len_bytes, "its name is a staging name: renamed to another name it is locked by the rule of that name, or under its own "
			 "when idle for staging_idle (%s)", how);
	else if (set->commit == COMMIT_CLOSE)
		snprintf(buf, len_bytes, "locked when its last writer closes it (%s)", how);
	else if (set->commit == COMMIT_IDLE)
		snprintf(buf, len_bytes, "locked %u s after its last change (%s)", set->idle_s, how);
	else if (set->commit == COMMIT_CHMOD)
		snprintf(buf, len_bytes, "locked by chmod -w, chattr +i or a request (%s)", how);
	else
		snprintf(buf, len_bytes, "locked on request only (%s)", how);
}

int policy_test_json(const struct policy *policy, const struct policy_file *file, int64_t now_s, json_t **ret_json)
{
	char text[600], until[RETENTION_TEXT_BYTES];
	const struct policy_rule *rule;
	json_t *earlier;
	size_t i = 0, left_out = 0;
	int r;

	r = policy_match(policy, file, &rule);
	if (r < 0)
		return r;
	earlier = json_array();
	for (; policy_at(policy, i) != rule; i++) {
		if (i >= POLICY_JSON_EARLIER_MAX) {
			left_out++;
			continue;
		}
		r = policy_why_not(policy, i, file, text, sizeof(text));
		if (r < 0) {
			json_decref(earlier);
			return r;
		}
		json_array_append_new(earlier, json_pack("{s:s, s:o}", "rule", policy_at(policy, i)->name, "why", text_json(text)));
	}
	retention_format_until(policy_until(&rule->set, now_s), until);
	describe(&rule->set, file->path, until, text, sizeof(text));
	*ret_json = json_pack("{s:s, s:I, s:o, s:I, s:s, s:o, s:o}", "rule", *rule->name ? rule->name : POLICY_OF_MOUNT, "line",
			      (json_int_t)rule->line, "earlier", earlier, "earlier_left_out", (json_int_t)left_out, "would", text, "until",
			      rule->set.commit == COMMIT_NEVER ? json_null() : json_string(until), "settings", policy_settings_json(&rule->set));
	return *ret_json ? 0 : -ENOMEM;
}
