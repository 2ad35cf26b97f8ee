/* Rules are the same by name; what counts is what is in force by them, in their order. */
#include "lockstore/wormctl/policy_diff.h"

#include <stdlib.h>
#include <string.h>

#include "lockstore/policy_json.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/wormctl.h"

struct diff {
	json_t *added, *removed, *changed;
	bool order_changed;
};

/* What differs between two rules of one name, or NULL. */
static json_t *compare_rules(json_t *old, json_t *new)
{
	json_t *settings = json_object(), *before = json_object_get(old, "settings"), *after = json_object_get(new, "settings"), *value;
	bool conditions = !json_equal(json_object_get(old, "conditions"), json_object_get(new, "conditions"));
	const char *name;

	json_object_foreach(before, name, value)
		if (!json_equal(value, json_object_get(after, name)))
			json_object_set_new(settings, name, json_pack("{s:O, s:O}", "old", value, "new", json_object_get(after, name)));
	if (!conditions && json_object_size(settings) == 0) {
		json_decref(settings);
		return NULL;
	}
	return json_pack("{s:s, s:b, s:O, s:O, s:o}", "rule", json_get_text(new, "name"), "conditions_changed", conditions, "old_conditions",
			 json_object_get(old, "conditions"), "new_conditions", json_object_get(new, "conditions"), "settings", settings);
}

static void compare_policies(const struct policy *old, const struct policy *new, struct diff *d)
{
	size_t next = 0;

	for (size_t i = 0; i < policy_count(old); i++)
		if (!policy_find(new, policy_at(old, i)->name))
			json_array_append_new(d->removed, json_string(policy_at(old, i)->name));
	for (size_t i = 0; i < policy_count(new); i++) {
		const struct policy_rule *rule = policy_at(new, i), *was = policy_find(old, rule->name);
		json_t *a, *b, *change;
		size_t at = 0;

		if (!was) {
			json_array_append_new(d->added, json_string(rule->name));
			continue;
		}
		while (policy_at(old, at) != was)
			at++;
		d->order_changed |= at < next;
		next = at > next ? at : next;
		a = policy_rule_json(old, at);
		b = policy_rule_json(new, i);
		change = compare_rules(a, b);
		if (change)
			json_array_append_new(d->changed, change);
		json_decref(a);
		json_decref(b);
	}
}

static void print_value(const json_t *value)
{
	char *text = json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);

	print_name(stdout, text && *text ? text : "none");
	free(text);
}

static void print_diff(const struct diff *d)
{
	json_t *item, *value, *condition;
	const char *name;
	size_t i, j;

	json_array_foreach(d->removed, i, item)
		printf("- rule %s\n", json_string_value(item));
	json_array_foreach(d->added, i, item)
		printf("+ rule %s\n", json_string_value(item));
	json_array_foreach(d->changed, i, item) {
		printf("~ rule %s\n", json_get_text(item, "rule"));
		json_object_foreach(json_object_get(item, "settings"), name, value) {
			printf("    %s: ", name);
			print_value(json_object_get(value, "old"));
			fputs(" -> ", stdout);
			print_value(json_object_get(value, "new"));
			putchar('\n');
		}
		if (!json_get_bool(item, "conditions_changed"))
			continue;
		json_array_foreach(json_object_get(item, "old_conditions"), j, condition) {
			fputs("    - if ", stdout);
			print_value(condition);
			putchar('\n');
		}
		json_array_foreach(json_object_get(item, "new_conditions"), j, condition) {
			fputs("    + if ", stdout);
			print_value(condition);
			putchar('\n');
		}
	}
	if (d->order_changed)
		puts("~ the order of the rules: the first one that takes a file wins");
}

int policy_diff_print(const struct policy *old, const struct policy *new, bool json)
{
	struct diff d = { json_array(), json_array(), json_array(), false };
	bool differ;

	compare_policies(old, new, &d);
	differ = json_array_size(d.added) || json_array_size(d.removed) || json_array_size(d.changed) || d.order_changed;
	if (json)
		(void)print_json(json_pack("{s:O, s:O, s:O, s:b}", "added", d.added, "removed", d.removed, "changed", d.changed,
					   "order_changed", d.order_changed));
	else
		print_diff(&d);
	json_decref(d.added);
	json_decref(d.removed);
	json_decref(d.changed);
	return finish_output(differ ? EXIT_NO : EXIT_YES);
}
