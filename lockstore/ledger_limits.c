/* One table, few rows: statements are prepared when they are needed. */
#include "lockstore/ledger_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/ledger_private.h"

#define COLUMNS "key, id, bytes, files, bytes_since_s, files_since_s, bytes_advisory, bytes_soft, bytes_hard, files_advisory, files_soft," \
	" files_hard, grace_s"

static int put_rows(struct ledger *ledger, const struct ledger_limit *rows, size_t n)
{
	struct ledger_conn *conn = &ledger->writer;
	sqlite3_stmt *stmt = NULL;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(conn->db, "INSERT OR REPLACE INTO quota_usage(" COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)", -1,
				&stmt, NULL);
	if (rc != SQLITE_OK)
		return ledger_fail(ledger, conn, rc, "cannot write what is used of the limits");
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct limit_section *s = &rows[i].section;
		int at = 3;

		sqlite3_bind_blob64(stmt, 1, s->key, strlen(s->key), SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 2, s->id);
		for (int what = 0; what < LIMIT_RESOURCES; what++)
			sqlite3_bind_int64(stmt, at++, (int64_t)rows[i].usage.used[what]);
		for (int what = 0; what < LIMIT_RESOURCES; what++)
			sqlite3_bind_int64(stmt, at++, rows[i].usage.since_s[what]);
		for (int what = 0; what < LIMIT_RESOURCES; what++) {
			sqlite3_bind_int64(stmt, at++, (int64_t)s->bounds[what].advisory);
			sqlite3_bind_int64(stmt, at++, (int64_t)s->bounds[what].soft);
			sqlite3_bind_int64(stmt, at++, (int64_t)s->bounds[what].hard);
		}
		sqlite3_bind_int64(stmt, at, s->grace_s);
		r = ledger_run(ledger, conn, stmt, "cannot write what is used of the limits");
	}
	sqlite3_finalize(stmt);
	return r;
}

int ledger_limits_write(struct ledger *ledger, const struct ledger_limit *rows, size_t n, bool all, bool clean)
{
	int rc, r;

	r = ledger_begin(ledger);
	if (r < 0)
		return r;
	if (all) {
		rc = sqlite3_exec(ledger->writer.db, "DELETE FROM quota_usage", NULL, NULL, NULL);
		if (rc != SQLITE_OK)
			r = ledger_fail(ledger, &ledger->writer, rc, "cannot forget old limits");
	}
	if (r == 0)
		r = put_rows(ledger, rows, n);
	if (r == 0)
		r = ledger_meta_set(ledger, LEDGER_LIMITS_CLEAN, clean ? "1" : "0");
	if (r == 0)
		return ledger_commit(ledger);
	ledger_rollback(ledger);
	return r;
}

static int read_row(sqlite3_stmt *stmt, struct ledger_limit *ret)
{
	const void *key = sqlite3_column_blob(stmt, 0);
	int len = sqlite3_column_bytes(stmt, 0), at = 2;
	int64_t values[12];

	for (int i = 1; i < 13; i++) {
		values[i - 1] = sqlite3_column_int64(stmt, i);
		if (values[i - 1] < 0)
			return -EIO;
	}
	if (len <= 0 || memchr(key, '\0', len) || values[0] > UINT32_MAX)
		return -EIO;
	memset(ret, 0, sizeof(*ret));
	ret->section.id = values[0];
	ret->usage.used[LIMIT_BYTES] = values[1];
	ret->usage.used[LIMIT_FILES] = values[at++];
	for (int what = 0; what < LIMIT_RESOURCES; what++)
		ret->usage.since_s[what] = values[at++];
	for (int what = 0; what < LIMIT_RESOURCES; what++) {
		ret->section.bounds[what].advisory = values[at++];
		ret->section.bounds[what].soft = values[at++];
		ret->section.bounds[what].hard = values[at++];
	}
	ret->section.grace_s = values[at];
	ret->section.key = strndup(key, len);
	return ret->section.key ? 0 : -ENOMEM;
}

void ledger_limits_free(struct ledger_limit *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free((char *)rows[i].section.key);
	free(rows);
}

int ledger_limits_read(struct ledger *ledger, struct ledger_limit **ret_rows, size_t *ret_n)
{
	struct ledger_limit *rows = calloc(LIMIT_SECTIONS_MAX, sizeof(*rows));
	struct ledger_conn *conn;
	sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	int rc, r = 0;

	if (!rows)
		return -ENOMEM;
	conn = ledger_scanning(ledger);
	rc = sqlite3_prepare_v2(conn->db, "SELECT " COLUMNS " FROM quota_usage ORDER BY key", -1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			r = n < LIMIT_SECTIONS_MAX ? read_row(stmt, &rows[n]) : -EIO;
			n += r == 0;
		}
	}
	if (r == -EIO)
		(void)ledger_say(ledger, r, "the limits in the ledger are not ours");
	else if (r == 0 && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot read the limits");
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	if (r < 0) {
		ledger_limits_free(rows, n);
		return r;
	}
	*ret_rows = rows;
	*ret_n = n;
	return 0;
}

int ledger_limits_is_clean(struct ledger *ledger, bool *ret_clean)
{
	char *value = NULL;
	int r = ledger_meta_get(ledger, LEDGER_LIMITS_CLEAN, &value);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_clean = r == 0 && strcmp(value, "1") == 0;
	free(value);
	return 0;
}
