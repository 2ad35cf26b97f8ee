/* Replies of a cluster: any bytes, to any question. The first byte chooses the question, two more the status; then a header
 * line, and behind an empty line the body. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/upstream/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct upstream_lock want = { .has_until = true, .until_s = 1 };
	struct upstream_reply reply, head = { .status = 0 };
	const uint8_t *body;
	char *text;
	int64_t s;

	if (size < 3)
		return 0;
	body = memchr(data + 3, '\n', size - 3);
	body = body ? body + 1 : data + size;
	upstream_reply_header(&head, (const char *)data + 3, (size_t)(body - data) - 3);
	assert(head.retry_after_s <= UPSTREAM_RETRY_AFTER_MAX_S);
	assert(strlen(head.etag) < sizeof(head.etag));
	if (upstream_reply_parse((enum upstream_question)(data[0] % (UPSTREAM_RESOLVE + 1)), data[1] % 6 * 100 + data[2] % 100,
				 (const char *)body, size - (size_t)(body - data), &reply) == 0) {
		if (reply.outcome == UPSTREAM_DONE)
			assert(reply.status / 100 == 2);
		if (reply.has_lock && upstream_lock_covers(&reply.lock, &want))
			assert(reply.lock.until_s >= want.until_s);
		for (const char *c = reply.text; *c; c++)
			assert(*c >= ' ' && *c < 127);
		(void)upstream_reply_has_privilege(&reply, "PRIVILEGE");
	}
	upstream_reply_fini(&reply);
	text = strndup((const char *)body, size - (size_t)(body - data));
	if (text && upstream_time_parse(text, &s) == 0)
		assert(s >= INT64_C(-62167219200) && s <= INT64_C(253402300799));
	free(text);
	return 0;
}
