/* A record of the ring as a bad disk would give it: any bytes decode to an error, or to an event that survives a round
 * trip, and becomes one line of JSON. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/events/beegfs.h"
#include "lockstore/events/event_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char line[EVENT_JSON_MAX], again[EVENT_BYTES_MAX], packet[BEEGFS_PACKET_MAX];
	struct event_counts counts = { 0 };
	struct event_json json = { 0 };
	struct event ev;
	size_t n;

	if (event_decode(data, len, &ev) < 0)
		return 0;
	if (event_size(&ev) != len || len > sizeof(again))
		abort();
	event_encode(&ev, again);
	if (memcmp(again, data, len) != 0)
		abort();
	n = event_json_format(&json, &ev, &counts, line);
	if (n > sizeof(line) || memchr(line, '\n', n) != line + n - 1)
		abort();
	if (beegfs7_size(&ev) > sizeof(packet))
		abort();
	(void)beegfs7_encode(&ev, 0, 0, packet, sizeof(packet), &n);
	return 0;
}
