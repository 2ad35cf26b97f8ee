#include "lockstore/limit_json.h"

#include <stdlib.h>
#include <string.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"

static json_t *bound(uint64_t value)
{
	return value ? json_integer((json_int_t)value) : json_null();
}

static json_t *resource_json(const struct limit_section *section, const struct limit_usage *usage, int what)
{
	const struct limit_bounds *b = &section->bounds[what];

	return json_pack("{s:I, s:I, s:o, s:o, s:o}", "used", (json_int_t)usage->used[what], "since", (json_int_t)usage->since_s[what],
			 "advisory", bound(b->advisory), "soft", bound(b->soft), "hard", bound(b->hard));
}

json_t *limit_json(const struct limit_section *section, const struct limit_usage *usage, int64_t now_s)
{
	char until[RETENTION_TEXT_BYTES], *encoded = NULL;
	const char *state;
	int64_t until_s;
	json_t *json, *name;

	state = limit_state(section, usage, now_s, &until_s);
	if (until_s)
		retention_format_until(until_s, until);
	name = json_string(section->key);
	if (!name && control_path_encode(section->key, &encoded) < 0)
		return NULL;
	json = json_pack("{s:o, s:s, s:s?, s:I, s:I, s:o, s:o}", "section", name ? name : json_string(encoded), "state", state, "until",
			 until_s ? until : NULL, "grace", (json_int_t)section->grace_s, "changes", (json_int_t)usage->changes, "bytes",
			 resource_json(section, usage, LIMIT_BYTES), "files", resource_json(section, usage, LIMIT_FILES));
	if (json && encoded)
		json_object_set_new(json, "section_encoded", json_string(encoded));
	free(encoded);
	return json;
}
