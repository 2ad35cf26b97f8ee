/* Digests in the ledger: which rows lack one, and setting it.
 *
 * A digest is set only while the row still has the size and time of the data that was read: whoever
 * changes these takes the digest away (ledger_put()), so that none ever stands beside other data. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/sha256.h"

/* Reads the row that stmt stands on. The caller frees ret->path. */
static int read_row(sqlite3_stmt *stmt, struct ledger_undigested *ret)
{
	int key_len = sqlite3_column_bytes(stmt, 1), path_len = sqlite3_column_bytes(stmt, 2);
	char *path;

	if (key_len <= 0 || key_len > FILE_KEY_MAX_BYTES)
		return -EIO;
	path = malloc((size_t)path_len + 1);
	if (!path)
		return -ENOMEM;
	if (path_len)
		memcpy(path, sqlite3_column_blob(stmt, 2), (size_t)path_len);
	path[path_len] = '\0';
	*ret = (struct ledger_undigested){
		.id = sqlite3_column_int64(stmt, 0), .path = path, .key.len = (uint8_t)key_len,
		.size_bytes = (uint64_t)sqlite3_column_int64(stmt, 3), .mtime_ns = sqlite3_column_int64(stmt, 4),
	};
	memcpy(ret->key.bytes, sqlite3_column_blob(stmt, 1), (size_t)key_len);
	return 0;
}

int ledger_undigested_each(struct ledger *ledger, int64_t after_id, ledger_undigested_fn fn, void *arg)
{
	struct ledger_undigested *page = malloc(LEDGER_UNDIGESTED_MAX * sizeof(*page));
	struct ledger_conn *conn;
	int rc = SQLITE_DONE, r;
	sqlite3_stmt *stmt;
	size_t n = 0;

	if (!page)
		return -ENOMEM;
	conn = ledger_reading(ledger);
	/* The index is named: nothing else makes the last page as cheap as the first. */
	r = ledger_prepare(ledger, conn, STMT_UNDIGESTED_PAGE,
			   "SELECT id, key, path, size_bytes, mtime_ns FROM file INDEXED BY file_undigested"
			   " WHERE sha256 IS NULL AND id > ?1 ORDER BY id LIMIT ?2", &stmt);
	if (r == 0) {
		sqlite3_bind_int64(stmt, 1, after_id);
		sqlite3_bind_int(stmt, 2, LEDGER_UNDIGESTED_MAX);
		while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			r = read_row(stmt, &page[n]);
			if (r == 0)
				n++;
		}
		if (r == -EIO)
			ledger_say(ledger, r, "a row of the ledger has a key of the wrong length");
		else if (r == 0 && rc != SQLITE_DONE)
			r = ledger_fail(ledger, conn, rc, "cannot list the files without a digest");
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = fn(arg, &page[i]);
	for (size_t i = 0; i < n; i++)
		free((char *)page[i].path);
	free(page);
	return r;
}

int ledger_undigested_count(struct ledger *ledger, uint64_t *ret_count)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_prepare(ledger, conn, STMT_UNDIGESTED_COUNT,
			   "SELECT count(*) FROM file INDEXED BY file_undigested WHERE sha256 IS NULL", &stmt);
	if (r == 0) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW)
			*ret_count = (uint64_t)sqlite3_column_int64(stmt, 0);
		else
			r = ledger_fail(ledger, conn, rc, "cannot count the files without a digest");
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
	return r;
}

int ledger_digest_set(struct ledger *ledger, const struct file_key *key, uint64_t size_bytes, int64_t mtime_ns,
		      const uint8_t sha256[32])
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_DIGEST_SET,
			   "UPDATE file SET sha256 = ?4 WHERE key = ?1 AND size_bytes = ?2 AND mtime_ns = ?3", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		sqlite3_bind_int64(stmt, 2, (int64_t)size_bytes);
		sqlite3_bind_int64(stmt, 3, mtime_ns);
		if (sha256)
			sqlite3_bind_blob(stmt, 4, sha256, SHA256_BYTES, SQLITE_STATIC);
		else
			sqlite3_bind_zeroblob(stmt, 4, 0);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot write a digest");
		sqlite3_clear_bindings(stmt);
	}
	if (r == 0 && sqlite3_changes(ledger->writer.db) == 0)
		r = -ENOENT;
	return ledger_change_end(ledger, r);
}
