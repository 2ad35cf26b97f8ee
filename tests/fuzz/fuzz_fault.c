/* Bodies of POST and PATCH /v1/faults as anybody may send them: what is taken is shown as a rule that is taken again and
 * shown the same, can be asked everywhere, and spoils no byte but those it was given. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mockarchive/fault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void ask_everywhere(struct faults *f)
{
	static const char *const paths[] = { NULL, "", "a", "/a/b.dat", "\xff\n/x" };
	unsigned char bytes[80];

	for (unsigned point = 0; point < FAULT_POINTS; point++) {
		struct fault_query query = { .point = point, .can = ~0u, .path = paths[point % 5], .copy = point % 3, .size_bytes = point - 1,
					     .offset_bytes = point * 7, .len_bytes = point % 4, .now_ns = point };
		struct fault_verdict verdict;

		faults_ask(f, &query, &verdict);
		if (verdict.did & FAULT_DO_ERRNO && (verdict.error >= 0 || verdict.error < -4095))
			abort();
		if (verdict.delay_ns < 0)
			abort();
		if (!(verdict.did & FAULT_DO_CORRUPT))
			continue;
		memset(bytes, 0x55, sizeof(bytes));
		fault_corrupt_bytes(&verdict.corrupt, point * 3, bytes + 8, sizeof(bytes) - 16);
		if (bytes[7] != 0x55 || bytes[72] != 0x55)
			abort();
		if (fault_corrupt_size(&verdict.corrupt, 100) < 0)
			abort();
	}
}

/* Without what a double rounds. */
static json_t *shown(struct faults *f, const char *id)
{
	json_t *rule = faults_get(f, id, INT64_MIN), *when = json_object_get(rule, "when"), *does = json_object_get(rule, "do");

	json_object_del(when, "from");
	json_object_del(when, "until");
	json_object_del(does, "delay");
	json_object_del(does, "jitter");
	json_object_del(rule, "expires");
	return rule;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char id[FAULT_ID_BYTES], why[FAULT_WHY_BYTES] = "";
	json_t *body = json_loadb((const char *)data, len, JSON_DISABLE_EOF_CHECK, NULL), *once, *twice;
	struct faults *f, *again;

	if (!body)
		return 0;
	if (faults_open(NULL, NULL, NULL, &f) < 0 || faults_open(NULL, NULL, NULL, &again) < 0)
		abort();
	if (faults_add(f, body, 0, id, why) < 0) {
		if (!*why)
			abort();
		goto out;
	}
	once = faults_get(f, id, INT64_MIN);
	if (!once || faults_add(again, once, 0, id, why) < 0)
		abort();
	json_decref(once);
	once = shown(f, id);
	twice = shown(again, id);
	if (!json_equal(once, twice))
		abort();
	json_decref(once);
	json_decref(twice);
	ask_everywhere(f);
	(void)faults_change(f, id, body, 0, why);
	if (faults_remove(again, id) < 0)
		abort();
out:
	faults_close(f);
	faults_close(again);
	json_decref(body);
	return 0;
}
