#include "lockstore/events/cloudevent.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int cloudevent_source(const char *host, const char *share, char ret_source[CLOUDEVENT_SOURCE_MAX])
{
	const char *parts[] = { host, share };
	size_t len = sprintf(ret_source, "wormfs://");

	for (int i = 0; i < 2; i++) {
		for (const unsigned char *c = (const unsigned char *)parts[i]; *c; c++) {
			if (len + 4 > CLOUDEVENT_SOURCE_MAX)
				return -ENAMETOOLONG;
			if (isascii(*c) && (isalnum(*c) || strchr("-._~", *c) || (i == 1 && *c == '/')))
				ret_source[len++] = *c;
			else
				len += sprintf(ret_source + len, "%%%02X", *c);
		}
	}
	ret_source[len] = '\0';
	return 0;
}

/* A string attribute has no control characters and no noncharacters (CloudEvents 1.0.2, 3.1 Type System). `text` is UTF-8. */
static bool is_attribute(const unsigned char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] < 0x20 || text[i] == 0x7f || (text[i] == 0xc2 && i + 1 < len && text[i + 1] < 0xa0))
			return false;
		if (text[i] == 0xef && i + 2 < len && text[i + 1] == 0xb7 && text[i + 2] >= 0x90 && text[i + 2] <= 0xaf)
			return false;	/* U+FDD0 to U+FDEF */
		if (text[i] == 0xef && i + 2 < len && text[i + 1] == 0xbf && text[i + 2] >= 0xbe)
			return false;	/* U+FFFE, U+FFFF */
		if (text[i] >= 0xf0 && i + 3 < len && (text[i + 1] & 0x0f) == 0x0f && text[i + 2] == 0xbf && text[i + 3] >= 0xbe)
			return false;	/* likewise of the other planes */
	}
	return true;
}

size_t cloudevent_format(struct event_json *state, const struct event *ev, const struct event_counts *counts, const char *source, char *buf)
{
	time_t second = ev->time_ns / 1000000000;
	char date[32], *out = buf;
	struct tm tm;
	bool valid;
	size_t len;

	gmtime_r(&second, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	out += sprintf(out, "{\"specversion\":\"1.0\",\"id\":\"%" PRIu64 "\",\"source\":\"%s\",\"type\":\"wormfs.%s\",\"time\":\"%s.%09uZ\","
		       "\"sequence\":\"%020" PRIu64 "\"", ev->seq, source, event_type_name(ev->type), date,
		       (unsigned)(ev->time_ns % 1000000000), ev->seq);
	if (ev->has & EVENT_HAS_PATH && is_attribute((const unsigned char *)ev->path.bytes, ev->path.len)) {
		char *start = out;

		out += sprintf(out, ",\"subject\":\"/");
		out += event_json_escape(ev->path.bytes, ev->path.len, out, &valid);
		*out++ = '"';
		if (!valid)
			out = start;	/* data has its bytes */
	}
	out += sprintf(out, ",\"datacontenttype\":\"application/json\",\"data\":");
	len = event_json_format(state, ev, counts, out);
	out += len - 1;		/* over its newline */
	*out++ = '}';
	return out - buf;
}
