/* What a peer sends: any bytes decode to an error, or to a packet whose texts lie within them. */
#include <stdint.h>
#include <stdlib.h>

#include "lockstore/events/beegfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_text(const struct event_text *text, const uint8_t *data, size_t len)
{
	if (text->len && (text->bytes < (const char *)data || text->bytes + text->len >= (const char *)data + len))
		abort();	/* the NUL after it is inside, too */
}

static void check_texts(const struct beegfs_texts *texts, const uint8_t *data, size_t len)
{
	check_text(&texts->entry_id, data, len);
	check_text(&texts->parent_id, data, len);
	check_text(&texts->path, data, len);
	check_text(&texts->target, data, len);
	check_text(&texts->target_parent_id, data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct beegfs7_packet seven;
	struct beegfs8_packet eight;

	if (beegfs7_decode(data, len, &seven) == 0) {
		check_texts(&seven.texts, data, len);
		(void)beegfs7_type_name(seven.type);
	}
	if (beegfs8_decode(data, len, &eight) == 0 && eight.kind == BEEGFS8_SEND_MESSAGE) {
		check_texts(&eight.event.texts, data, len);
		(void)beegfs8_type_name(eight.event.type);
	}
	return 0;
}
