/* Dates and periods as anybody may type them: what is read can be written and read again as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/retention.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char text[256], again[64];
	struct retention r, r2;

	if (len >= sizeof(text))
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	if (retention_parse(text, &r) < 0)
		return 0;
	retention_format(&r, again, sizeof(again));
	if (retention_parse(again, &r2) < 0 || retention_until(&r, 0) != retention_until(&r2, 0) ||
	    retention_until(&r, 951782400) != retention_until(&r2, 951782400))	/* 2000-02-29 */
		abort();
	return 0;
}
