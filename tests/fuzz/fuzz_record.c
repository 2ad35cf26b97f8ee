/* The lock record as an attacker below the mount would write it: any bytes decode to an error or to a
 * record that encodes to the same bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct record_key *make_key(void)
{
	char path[] = "/tmp/fuzz-key.XXXXXX";
	struct record_key *key = NULL;
	int fd = mkstemp(path);

	if (fd < 0 || unlink(path) < 0 || close(fd) < 0 || record_key_open(path, true, &key) < 0)
		abort();
	unlink(path);
	return key;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct record_key *key;
	uint8_t bytes[RECORD_BYTES];
	struct lock_record rec;

	if (!key)
		key = make_key();
	if (record_decode(key, data, len, &rec) == 0)
		abort();	/* nobody guesses 128 bits */
	/* Whatever a record holds survives a round trip. */
	memset(&rec, 0, sizeof(rec));
	if (len >= 48) {
		rec.flags = (data[1] & RECORD_APPEND) | (record_settle_flags(data[1] >> 1) & RECORD_SETTLE);
		rec.mode = data[2] & 1;
		memcpy(&rec.holds, data + 4, 2);
		memcpy(&rec.rule, data + 6, 2);
		memcpy(&rec.committed_s, data + 8, 8);
		memcpy(&rec.until_s, data + 16, 8);
		memcpy(&rec.serial, data + 24, 8);
		memcpy(&rec.size_bytes, data + 32, 8);
		memcpy(&rec.mtime_ns, data + 40, 8);
	}
	struct lock_record back;

	if (record_encode(key, &rec, bytes) < 0 || record_decode(key, bytes, sizeof(bytes), &back) < 0 ||
	    back.until_s != rec.until_s || back.flags != rec.flags || back.holds != rec.holds || back.serial != rec.serial || back.size_bytes != rec.size_bytes)
		abort();
	return 0;
}
