/* OpenSSL's, with the length right and blanks refused. */
#include "mockarchive/base64.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

char *base64_encode(const void *bytes, size_t len_bytes)
{
	char *text = len_bytes < INT_MAX / 2 ? malloc((len_bytes + 2) / 3 * 4 + 1) : NULL;

	if (text)
		EVP_EncodeBlock((unsigned char *)text, bytes, (int)len_bytes);
	return text;
}

ssize_t base64_decode(const char *text, void *buf, size_t size_bytes)
{
	size_t len = strlen(text), padding = 0;
	unsigned char *whole;
	int n;

	if (len % 4 || len > INT_MAX / 2 || len / 4 * 3 > size_bytes + 2 ||
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != len)
		return -EINVAL;
	while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
		padding++;
	if (strcspn(text, "=") != len - padding || len / 4 * 3 - padding > size_bytes)
		return -EINVAL;
	whole = malloc(len / 4 * 3 + 1);
	if (!whole)
		return -ENOMEM;
	n = len ? EVP_DecodeBlock(whole, (const unsigned char *)text, (int)len) : 0;
	if (n >= 0)
		memcpy(buf, whole, (size_t)n - padding);
	free(whole);
	return n < 0 ? -EINVAL : (ssize_t)((size_t)n - padding);
}
