/* What may be the name of a case: printable UTF-8 that fits a path component and a line. */
#include "lockstore/case_name.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 character at p, 0 for what is none, and its code point.
 * Source: RFC 3629 section 4 (no overlong forms, no surrogates, nothing beyond U+10FFFF). */
static size_t utf8_at(const unsigned char *p, uint32_t *ret_code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	uint32_t code = len == 1 ? p[0] : p[0] & (0x7fu >> len);

	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;	/* also the end of the string */
		code = code << 6 | (p[i] & 0x3f);
	}
	if (len && (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)))
		return 0;
	*ret_code = code;
	return len;
}

bool case_name_is_valid(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;
	size_t len = strlen(name);
	uint32_t code;

	if (!len || len > CASE_NAME_MAX_BYTES)
		return false;
	while (*p) {
		size_t n = utf8_at(p, &code);

		if (!n || code < 0x20 || code == '/' || (code >= 0x7f && code < 0xa0))
			return false;
		p += n;
	}
	return true;
}
