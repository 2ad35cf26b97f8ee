/* Files that were written but are not locked yet, and when somebody should look at them again. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_PENDING 128

int ledger_pending_put(struct ledger *ledger, const struct ledger_pending *pending)
{
	sqlite3_stmt *stmt;
	int r;

	if (!pending->key.len || pending->key.len > FILE_KEY_MAX_BYTES || !pending->path)
		return ledger_say(ledger, -EINVAL, "a pending file needs a key and a path");
	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_PENDING_PUT,
			   "INSERT OR REPLACE INTO pending VALUES(?1, ?2, ?3, ?4, ?5)", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, &pending->key);
		sqlite3_bind_blob64(stmt, 2, pending->path, strlen(pending->path), SQLITE_STATIC);
		sqlite3_bind_int(stmt, 3, pending->reason);
		sqlite3_bind_int64(stmt, 4, pending->since_s);
		sqlite3_bind_int64(stmt, 5, pending->due_s);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot note a pending file");
	}
	return ledger_change_end(ledger, r);
}

int ledger_pending_remove(struct ledger *ledger, const struct file_key *key)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_PENDING_REMOVE, "DELETE FROM pending WHERE key = ?1", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot remove a pending file");
	}
	return ledger_change_end(ledger, r);
}

/* Those after (due_s, key) of `after`; their paths belong to the caller. */
static int read_page(struct ledger *ledger, int64_t now_s, const struct ledger_pending *after, size_t max,
		     struct ledger_pending page[PAGE_PENDING], size_t *ret_n)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	size_t n = 0;
	int rc = SQLITE_DONE, r;

	r = ledger_prepare(ledger, conn, STMT_PENDING_PAGE,
			   "SELECT key, path, reason, since_s, due_s FROM pending INDEXED BY pending_due"
			   " WHERE (due_s, key) > (?1, ?2) AND due_s <= ?3 ORDER BY due_s, key", &stmt);
	if (r < 0)
		goto out;
	sqlite3_bind_int64(stmt, 1, after->due_s);
	ledger_bind_key(stmt, 2, &after->key);
	sqlite3_bind_int64(stmt, 3, now_s);
	while (r == 0 && n < max && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct ledger_pending *p = &page[n];
		int key_len = sqlite3_column_bytes(stmt, 0), path_len = sqlite3_column_bytes(stmt, 1);
		char *path;

		if (key_len <= 0 || key_len > FILE_KEY_MAX_BYTES) {
			r = ledger_say(ledger, -EIO, "a pending file in the ledger has a key that is none");
			break;
		}
		path = strndup(path_len ? sqlite3_column_blob(stmt, 1) : "", (size_t)path_len);
		if (!path) {
			r = -ENOMEM;
			break;
		}
		*p = (struct ledger_pending){
			.key.len = (uint8_t)key_len,
			.path = path,
			.reason = (enum ledger_pending_reason)sqlite3_column_int(stmt, 2),
			.since_s = sqlite3_column_int64(stmt, 3),
			.due_s = sqlite3_column_int64(stmt, 4),
		};
		memcpy(p->key.bytes, sqlite3_column_blob(stmt, 0), (size_t)key_len);
		n++;
	}
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the pending files");
	sqlite3_reset(stmt);
out:
	ledger_unlock(conn);
	*ret_n = n;	/* also on failure: their paths must be freed */
	return r;
}

int ledger_pending_each(struct ledger *ledger, int64_t now_s, unsigned limit, ledger_pending_fn fn, void *arg)
{
	struct ledger_pending *page = malloc(PAGE_PENDING * sizeof(*page));
	struct ledger_pending after = { .due_s = INT64_MIN };
	size_t n, max;
	int r = 0;

	if (!page)
		return -ENOMEM;
	do {
		max = limit < PAGE_PENDING ? limit : PAGE_PENDING;
		r = read_page(ledger, now_s, &after, max, page, &n);
		for (size_t i = 0; r == 0 && i < n; i++)
			r = fn(arg, &page[i]);
		if (n)
			after = page[n - 1];
		for (size_t i = 0; i < n; i++)
			free((char *)page[i].path);
		limit -= (unsigned)n;
	} while (r == 0 && limit && n == max);
	free(page);
	return r;
}

int ledger_pending_find(struct ledger *ledger, const struct file_key *key, enum ledger_pending_reason *ret_reason,
			int64_t *ret_due_s)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_prepare(ledger, conn, STMT_PENDING_FIND, "SELECT reason, due_s FROM pending WHERE key = ?1", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW) {
			*ret_reason = (enum ledger_pending_reason)sqlite3_column_int(stmt, 0);
			*ret_due_s = sqlite3_column_int64(stmt, 1);
		} else {
			r = rc == SQLITE_DONE ? -ENOENT : ledger_fail(ledger, conn, rc, "cannot find a pending file");
		}
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
	return r;
}

int ledger_pending_count(struct ledger *ledger, uint64_t *ret_count)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_prepare(ledger, conn, STMT_PENDING_COUNT, "SELECT count(*) FROM pending", &stmt);
	if (r == 0) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW)
			*ret_count = (uint64_t)sqlite3_column_int64(stmt, 0);
		else
			r = ledger_fail(ledger, conn, rc, "cannot count the pending files");
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
	return r;
}
