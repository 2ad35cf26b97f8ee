/* One table, few rows: statements are prepared when they are needed. */
#include "lockstore/ledger_approvals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/ledger_private.h"

static int prepare(struct ledger *ledger, struct ledger_conn *conn, const char *sql, sqlite3_stmt **ret_stmt)
{
	int rc = conn->db ? sqlite3_prepare_v2(conn->db, sql, -1, ret_stmt, NULL) : SQLITE_READONLY;

	return rc == SQLITE_OK ? 0 : ledger_fail(ledger, conn, rc, "cannot ask the ledger for requests");
}

int ledger_approval_new(struct ledger *ledger, const struct approval *a, int64_t *ret_id)
{
	sqlite3_stmt *stmt = NULL;
	int64_t id = 0;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = prepare(ledger, &ledger->writer, "INSERT INTO approval(verb, key, path, until_s, reason, by_uid, at_s, expires_s)"
		    " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE (SELECT count(*) FROM approval) < ?9", &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, a->verb, -1, SQLITE_STATIC);
		ledger_bind_key(stmt, 2, &a->key);
		sqlite3_bind_blob64(stmt, 3, a->path, strlen(a->path), SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 4, a->until_s);
		sqlite3_bind_text(stmt, 5, a->reason, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 6, a->by);
		sqlite3_bind_int64(stmt, 7, a->at_s);
		sqlite3_bind_int64(stmt, 8, a->expires_s);
		sqlite3_bind_int(stmt, 9, APPROVALS_MAX);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot keep a request");
		if (r == 0 && sqlite3_changes(ledger->writer.db) == 0)
			r = ledger_say(ledger, -ENOSPC, "too many requests wait for a second person");
		id = sqlite3_last_insert_rowid(ledger->writer.db);
	}
	sqlite3_finalize(stmt);
	r = ledger_change_end(ledger, r);
	if (r == 0)
		*ret_id = id;
	return r;
}

struct copy {
	struct approval approval;
	char *text[3];		/* verb, path, reason */
};

static int copy_row(struct copy *copy, sqlite3_stmt *stmt)
{
	int key_len = sqlite3_column_bytes(stmt, 2), path_len = sqlite3_column_bytes(stmt, 3);
	const char *verb = (const char *)sqlite3_column_text(stmt, 1), *reason = (const char *)sqlite3_column_text(stmt, 5);
	const void *path = sqlite3_column_blob(stmt, 3);

	memset(copy, 0, sizeof(*copy));
	if (key_len <= 0 || key_len > FILE_KEY_MAX_BYTES)
		return -EIO;
	copy->text[0] = strdup(verb ? verb : "");
	copy->text[1] = strndup(path ? path : "", (size_t)path_len);
	copy->text[2] = strdup(reason ? reason : "");
	copy->approval = (struct approval){
		.id = sqlite3_column_int64(stmt, 0), .verb = copy->text[0], .path = copy->text[1], .reason = copy->text[2],
		.until_s = sqlite3_column_int64(stmt, 4), .by = (uid_t)sqlite3_column_int64(stmt, 6),
		.at_s = sqlite3_column_int64(stmt, 7), .expires_s = sqlite3_column_int64(stmt, 8),
	};
	copy->approval.key.len = (uint8_t)key_len;
	memcpy(copy->approval.key.bytes, sqlite3_column_blob(stmt, 2), (size_t)key_len);
	return copy->text[0] && copy->text[1] && copy->text[2] ? 0 : -ENOMEM;
}

int ledger_approvals(struct ledger *ledger, int64_t id, ledger_approval_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	struct copy *copies = calloc(APPROVALS_MAX, sizeof(*copies));
	sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	int rc = SQLITE_DONE, r = copies ? 0 : -ENOMEM;

	if (r == 0)
		r = prepare(ledger, conn, "SELECT id, verb, key, path, until_s, reason, by_uid, at_s, expires_s FROM approval"
			    " WHERE ?1 = 0 OR id = ?1 ORDER BY id LIMIT ?2", &stmt);
	if (r == 0) {
		sqlite3_bind_int64(stmt, 1, id);
		sqlite3_bind_int(stmt, 2, APPROVALS_MAX);
	}
	while (r == 0 && n < APPROVALS_MAX && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		r = copy_row(&copies[n++], stmt);
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the requests");
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	if (r == 0 && id && n == 0)
		r = -ENOENT;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = fn(arg, &copies[i].approval);
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 3; k++)
			free(copies[i].text[k]);
	free(copies);
	return r;
}

static int delete_where(struct ledger *ledger, const char *sql, int64_t value, int *ret_n)
{
	sqlite3_stmt *stmt = NULL;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = prepare(ledger, &ledger->writer, sql, &stmt);
	if (r == 0) {
		sqlite3_bind_int64(stmt, 1, value);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot take a request");
		*ret_n = sqlite3_changes(ledger->writer.db);
	}
	sqlite3_finalize(stmt);
	return ledger_change_end(ledger, r);
}

int ledger_approval_take(struct ledger *ledger, int64_t id)
{
	int n = 0, r = delete_where(ledger, "DELETE FROM approval WHERE id = ?1", id, &n);

	return r == 0 && n == 0 ? -ENOENT : r;
}

int ledger_approvals_expire(struct ledger *ledger, int64_t now_s)
{
	int n;

	return delete_where(ledger, "DELETE FROM approval WHERE expires_s <= ?1", now_s, &n);
}
