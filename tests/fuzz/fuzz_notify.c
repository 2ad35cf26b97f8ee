/* The event stream of a server that may say anything: the same events whatever the pieces, names that are clean, no crash. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/upstream/notify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct sum {
	uint64_t hash;
	unsigned events;
};

static int on_event(void *arg, const struct notify_event *event)
{
	struct sum *sum = arg;
	size_t n = strlen(event->path);

	if (n && (event->path[0] == '/' || event->path[n - 1] == '/'))
		abort();
	sum->hash = sum->hash * 31 + event->kind;
	for (size_t i = 0; i < n; i++)
		sum->hash = sum->hash * 31 + (unsigned char)event->path[i];
	sum->events++;
	return 0;
}

static int feed(const char *bytes, size_t len, size_t piece, struct sum *sum)
{
	struct notify *notify;
	int r = 0;

	memset(sum, 0, sizeof(*sum));
	if (notify_open(on_event, sum, &notify) < 0)
		abort();
	for (size_t at = 0; at < len && r == 0; at += piece)
		r = notify_feed(notify, bytes + at, len - at < piece ? len - at : piece);
	if (r < 0 && !*notify_error(notify))
		abort();
	notify_close(notify);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sum whole, bytes;
	int r = feed((const char *)data, len, len + 1, &whole);

	if (feed((const char *)data, len, 1, &bytes) != r || bytes.hash != whole.hash || bytes.events != whole.events)
		abort();
	return 0;
}
