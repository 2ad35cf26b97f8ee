/* What was asked, in order, with secrets blacked out: the last JOURNAL entries. Not locked: the owner does that. */
#ifndef WORMFS_MOCK_JOURNAL_H
#define WORMFS_MOCK_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "mockarchive/http_server.h"

#define JOURNAL_ENTRIES 200000		/* by default; older ones are lost, and counted */
#define JOURNAL_BODY_MAX_BYTES 4096	/* of a body; what is longer is cut */

struct journal;

int journal_open(size_t entries, struct journal **ret_journal);
void journal_close(struct journal *j);
void journal_reset(struct journal *j);

/* Before the request is answered. `fault` and `error_class` may be NULL. */
void journal_add(struct journal *j, const struct http_request *req, int64_t now_ns, unsigned status, const char *error_class,
	const char *fault);

/* {"first": number of the first entry still there, "next": of the next one, "requests": [...]}: entries from `from` on, those
 * with this method and in whose path this text is (NULL: all), at most `limit`. */
json_t *journal_json(const struct journal *j, uint64_t from, const char *method, const char *path, uint64_t limit);
/* {"total": ..., "METHOD endpoint status": ...} since the last reset; the endpoint has {ref} for the file. */
json_t *journal_counts(const struct journal *j);

#endif
