/* The push columns of the ledger. */
#include "lockstore/ledger_private.h"
#include "lockstore/ledger_push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PUSH_COLUMNS "id, key, path, until_s, rec_rule, push, holds + rec_holds > 0, pushed_until_s, pushed_hold, push_release," \
	" (" LEDGER_PUSH_WAITS "), push_state, push_due_ms, push_tries, push_status, push_class, push_error"

static void free_row(struct ledger_push_row *row)
{
	free((char *)row->path);
	free((char *)row->class);
	free((char *)row->error);
}

/* Any bytes but NUL. A text of length 0 is one. NULL stays NULL. */
static int copy_text(sqlite3_stmt *stmt, int column, const char **ret_text)
{
	const void *bytes = sqlite3_column_blob(stmt, column);

	*ret_text = NULL;
	if (sqlite3_column_type(stmt, column) == SQLITE_NULL)
		return 0;
	*ret_text = strndup(bytes ? bytes : "", (size_t)sqlite3_column_bytes(stmt, column));
	return *ret_text ? 0 : -ENOMEM;
}

/* What the statement stands on. On failure nothing is left to free. */
static int read_row(sqlite3_stmt *stmt, struct ledger_push_row *ret)
{
	int key_len = sqlite3_column_bytes(stmt, 1);

	if (key_len <= 0 || key_len > FILE_KEY_MAX_BYTES)
		return -EIO;
	*ret = (struct ledger_push_row){
		.id = sqlite3_column_int64(stmt, 0), .key.len = (uint8_t)key_len, .until_s = sqlite3_column_int64(stmt, 3),
		.rule = (uint16_t)sqlite3_column_int(stmt, 4), .push = (enum ledger_push)sqlite3_column_int(stmt, 5),
		.held = sqlite3_column_int(stmt, 6), .has_pushed_until = sqlite3_column_type(stmt, 7) != SQLITE_NULL,
		.pushed_until_s = sqlite3_column_int64(stmt, 7), .pushed_hold = (enum ledger_pushed_hold)sqlite3_column_int(stmt, 8),
		.release = sqlite3_column_int(stmt, 9), .waits = sqlite3_column_int(stmt, 10),
		.state = (enum ledger_push_state)sqlite3_column_int(stmt, 11), .due_ms = sqlite3_column_int64(stmt, 12),
		.tries = (unsigned)sqlite3_column_int(stmt, 13), .status = sqlite3_column_int(stmt, 14),
	};
	memcpy(ret->key.bytes, sqlite3_column_blob(stmt, 1), (size_t)key_len);
	if (copy_text(stmt, 2, &ret->path) == 0 && copy_text(stmt, 15, &ret->class) == 0 && copy_text(stmt, 16, &ret->error) == 0)
		return 0;
	free_row(ret);
	return -ENOMEM;
}

/* Reads what is left of stmt, at most max rows, resets it, and lets go of the connection; then fn may take its time. */
static int read_page(struct ledger *ledger, struct ledger_conn *conn, sqlite3_stmt *stmt, bool finalize, unsigned max,
		     struct ledger_push_row *page, unsigned *ret_n)
{
	int rc = SQLITE_DONE, r = 0;
	unsigned n = 0;

	while (r == 0 && n < max && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		r = read_row(stmt, &page[n]);
		if (r == 0)
			n++;
	}
	if (r == -EIO)
		ledger_say(ledger, r, "a row of the ledger has a key of the wrong length");
	else if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list what is to be pushed");
	if (finalize)
		sqlite3_finalize(stmt);
	else
		sqlite3_reset(stmt);
	*ret_n = n;	/* also on failure: to be freed */
	return r;
}

static int call_page(struct ledger_push_row *page, unsigned n, int r, ledger_push_fn fn, void *arg)
{
	for (unsigned i = 0; i < n; i++) {
		if (r == 0)
			r = fn(arg, &page[i]);
		free_row(&page[i]);
	}
	return r;
}

int ledger_push_due(struct ledger *ledger, int64_t now_ms, struct ledger_push_cursor *cursor, ledger_push_fn fn, void *arg,
		    unsigned *ret_n)
{
	struct ledger_push_row *page = malloc(LEDGER_PUSH_PAGE * sizeof(*page));
	struct ledger_conn *conn;
	sqlite3_stmt *stmt;
	unsigned n = 0;
	int r;

	*ret_n = 0;
	if (!page)
		return -ENOMEM;
	conn = ledger_reading(ledger);
	r = ledger_prepare(ledger, conn, STMT_PUSH_DUE,
			   "SELECT " PUSH_COLUMNS " FROM file INDEXED BY file_unpushed WHERE " LEDGER_PUSH_WAITS
			   " AND (push_due_ms, id) > (?1, ?2) AND push_due_ms <= ?3 ORDER BY push_due_ms, id LIMIT ?4", &stmt);
	if (r == 0) {
		sqlite3_bind_int64(stmt, 1, cursor->due_ms);
		sqlite3_bind_int64(stmt, 2, cursor->id);
		sqlite3_bind_int64(stmt, 3, now_ms);
		sqlite3_bind_int(stmt, 4, LEDGER_PUSH_PAGE);
		r = read_page(ledger, conn, stmt, false, LEDGER_PUSH_PAGE, page, &n);
	}
	ledger_unlock(conn);
	if (r == 0 && n)
		*cursor = (struct ledger_push_cursor){ page[n - 1].due_ms, page[n - 1].id };
	*ret_n = n;
	r = call_page(page, n, r, fn, arg);
	free(page);
	return r;
}

/* One number, or -ENOENT: none. */
static int ask_number(struct ledger *ledger, enum ledger_statement which, const char *sql, int64_t *ret_n)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_prepare(ledger, conn, which, sql, &stmt);
	if (r == 0) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW && sqlite3_column_type(stmt, 0) != SQLITE_NULL)
			*ret_n = sqlite3_column_int64(stmt, 0);
		else
			r = rc == SQLITE_ROW || rc == SQLITE_DONE ? -ENOENT : ledger_fail(ledger, conn, rc, "cannot count what is to be pushed");
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
	return r;
}

int ledger_push_next_due(struct ledger *ledger, int64_t *ret_due_ms)
{
	return ask_number(ledger, STMT_PUSH_NEXT_DUE, "SELECT push_due_ms FROM file INDEXED BY file_unpushed WHERE " LEDGER_PUSH_WAITS
			  " ORDER BY push_due_ms, id LIMIT 1", ret_due_ms);
}

int ledger_push_count(struct ledger *ledger, uint64_t *ret_waiting, uint64_t *ret_failed)
{
	int64_t waiting, failed;
	int r;

	r = ask_number(ledger, STMT_PUSH_COUNT, "SELECT count(*) FROM file INDEXED BY file_unpushed WHERE " LEDGER_PUSH_WAITS, &waiting);
	if (r == 0)
		r = ask_number(ledger, STMT_PUSH_COUNT_FAILED,
			       "SELECT count(*) FROM file INDEXED BY file_push_failed WHERE push_state >= 2", &failed);
	if (r < 0)
		return r;
	*ret_waiting = (uint64_t)waiting;
	*ret_failed = (uint64_t)failed;
	return 0;
}

int ledger_push_list(struct ledger *ledger, int state, int64_t after_id, unsigned limit, ledger_push_fn fn, void *arg)
{
	static const char *const conditions[] = {
		[LEDGER_PUSH_PENDING] = "NOT INDEXED WHERE " LEDGER_PUSH_WAITS " AND push_state < 2",
		[LEDGER_PUSH_LOCKED] = "NOT INDEXED WHERE push > 0 AND push_state = 1 AND NOT (" LEDGER_PUSH_WAITS ")",
		[LEDGER_PUSH_FAILED] = "INDEXED BY file_push_failed WHERE push_state >= 2",
	};
	unsigned n = 0, max = limit < LEDGER_PUSH_PAGE ? limit : LEDGER_PUSH_PAGE;
	struct ledger_push_row *page = malloc(max * sizeof(*page));
	struct ledger_conn *conn;
	sqlite3_stmt *stmt;
	char *sql;
	int rc, r = 0;

	/* In order of the rows themselves: all pages together are one walk along the table. The index of what waits has another order, and
	 * each page of it would be a sort of all that waits. */
	sql = sqlite3_mprintf("SELECT " PUSH_COLUMNS " FROM file %s AND id > ?1 ORDER BY id LIMIT ?2",
			      state < 0 || state > LEDGER_PUSH_FAILED ? "NOT INDEXED WHERE push > 0" : conditions[state]);
	if (!page || !sql) {
		free(page);
		sqlite3_free(sql);
		return -ENOMEM;
	}
	conn = ledger_scanning(ledger);
	rc = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
	if (rc != SQLITE_OK) {
		r = ledger_fail(ledger, conn, rc, "cannot list what is to be pushed");
	} else {
		sqlite3_bind_int64(stmt, 1, after_id);
		sqlite3_bind_int64(stmt, 2, max);
		r = read_page(ledger, conn, stmt, true, max, page, &n);
	}
	ledger_unlock(conn);
	sqlite3_free(sql);
	r = call_page(page, n, r, fn, arg);
	free(page);
	return r;
}

int ledger_push_find(struct ledger *ledger, const struct file_key *key, ledger_push_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	struct ledger_push_row row;
	sqlite3_stmt *stmt;
	unsigned n = 0;
	int r;

	r = ledger_prepare(ledger, conn, STMT_PUSH_FIND, "SELECT " PUSH_COLUMNS " FROM file WHERE key = ?1", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		r = read_page(ledger, conn, stmt, false, 1, &row, &n);
	}
	ledger_unlock(conn);
	if (r == 0 && n == 0)
		return -ENOENT;
	return call_page(&row, n, r, fn, arg);
}

const char *ledger_push_state_name(const struct ledger_push_row *row)
{
	if (row->push == LEDGER_PUSH_NO)
		return "off";
	if (row->state >= LEDGER_PUSH_FAILED)
		return "failed";
	return row->waits || row->state != LEDGER_PUSH_LOCKED ? "pending" : "locked";
}

/* ---- changes ---- */

/* By key, never by id: the number of a row that went may be given to another file while its request is out. */

static int change(struct ledger *ledger, enum ledger_statement which, const char *sql, const struct file_key *key, sqlite3_stmt **ret_stmt)
{
	int r = ledger_change(ledger);

	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, which, sql, ret_stmt);
	if (r < 0)
		return ledger_change_end(ledger, r);
	ledger_bind_key(*ret_stmt, 1, key);
	return 0;
}

static int change_end(struct ledger *ledger, sqlite3_stmt *stmt)
{
	int r = ledger_run(ledger, &ledger->writer, stmt, "cannot note what was pushed");

	sqlite3_clear_bindings(stmt);
	return ledger_change_end(ledger, r);
}

/* A statement that wants to know of nothing but the key. */
static int change_row(struct ledger *ledger, enum ledger_statement which, const char *sql, const struct file_key *key)
{
	sqlite3_stmt *stmt;
	int r;

	r = change(ledger, which, sql, key, &stmt);
	return r < 0 ? r : change_end(ledger, stmt);
}

int ledger_push_sending_hold(struct ledger *ledger, const struct file_key *key)
{
	return change_row(ledger, STMT_PUSH_SENDING, "UPDATE file SET pushed_hold = 2 WHERE key = ?1 AND pushed_hold = 0", key);
}

int ledger_push_done(struct ledger *ledger, const struct file_key *key, const struct ledger_push_result *result)
{
	sqlite3_stmt *stmt;
	int r;

	/* A release that was asked for while the hold was on its way is still to be sent, so its mark stays; one that was carried out
	 * takes its mark along, unless there is a hold again. */
	r = change(ledger, STMT_PUSH_DONE,
		   "UPDATE file SET push = 1, pushed_until_s = CASE WHEN NOT ?2 THEN pushed_until_s"
		   "   WHEN push_state = 3 OR pushed_until_s IS NULL THEN ?3 ELSE max(pushed_until_s, ?3) END,"
		   " pushed_hold = CASE WHEN ?4 THEN 1 WHEN ?5 THEN 0 ELSE pushed_hold END,"
		   " push_release = CASE WHEN ?5 OR ?6 THEN 0 ELSE push_release END,"
		   " push_state = CASE WHEN push_state = 3 AND NOT ?2 THEN 3 ELSE 1 END, push_due_ms = 0, push_tries = 0,"
		   " push_status = 0, push_class = NULL,"
		   " push_error = CASE WHEN push_state = 3 AND NOT ?2 THEN push_error END WHERE key = ?1", key, &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int(stmt, 2, result->until);
	sqlite3_bind_int64(stmt, 3, result->until_s);
	sqlite3_bind_int(stmt, 4, result->hold);
	sqlite3_bind_int(stmt, 5, result->release);
	sqlite3_bind_int(stmt, 6, result->keep_hold);
	return change_end(ledger, stmt);
}

int ledger_push_settle(struct ledger *ledger, const struct file_key *key, int64_t until_s, const char *error)
{
	sqlite3_stmt *stmt;
	int r;

	r = change(ledger, STMT_PUSH_SETTLED,
		   "UPDATE file SET push = 1, pushed_until_s = ?2, push_state = 3, push_error = ?3, push_due_ms = 0, push_tries = 0,"
		   " push_status = 0, push_class = NULL WHERE key = ?1", key, &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 2, until_s);
	sqlite3_bind_text(stmt, 3, error, -1, SQLITE_STATIC);
	return change_end(ledger, stmt);
}

int ledger_push_failed(struct ledger *ledger, const struct file_key *key, enum ledger_push_state state, int64_t due_ms, unsigned tries, int status,
		       const char *class, const char *error)
{
	sqlite3_stmt *stmt;
	int r;

	r = change(ledger, STMT_PUSH_FAILED,
		   "UPDATE file SET push_state = CASE WHEN push_state = 3 THEN 3 ELSE ?2 END, push_due_ms = ?3, push_tries = ?4,"
		   " push_status = ?5, push_class = ?6, push_error = ?7 WHERE key = ?1", key, &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int(stmt, 2, state);
	sqlite3_bind_int64(stmt, 3, due_ms);
	sqlite3_bind_int64(stmt, 4, tries);
	sqlite3_bind_int(stmt, 5, status);
	sqlite3_bind_text(stmt, 6, class && *class ? class : NULL, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 7, error, -1, SQLITE_STATIC);
	return change_end(ledger, stmt);
}

int ledger_push_unwanted(struct ledger *ledger, const struct file_key *key)
{
	return change_row(ledger, STMT_PUSH_UNWANTED, "UPDATE file SET push = 0, push_state = 0, push_error = NULL WHERE key = ?1", key);
}

/* Seldom: not worth a statement that is kept. */
static int change_all(struct ledger *ledger, const char *sql, const struct file_key *key, int64_t n, uint64_t *ret_changed)
{
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	rc = sqlite3_prepare_v2(ledger->writer.db, sql, -1, &stmt, NULL);
	if (rc != SQLITE_OK) {
		r = ledger_fail(ledger, &ledger->writer, rc, "cannot change what is to be pushed");
	} else {
		if (key)
			ledger_bind_key(stmt, 1, key);
		sqlite3_bind_int64(stmt, 2, n);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot change what is to be pushed");
		if (r == 0)
			*ret_changed = (uint64_t)sqlite3_changes64(ledger->writer.db);
		sqlite3_finalize(stmt);
	}
	return ledger_change_end(ledger, r);
}

/* Failed tries make the engine look before it sends: once more than none, and no status, says that nobody knows; of a settled row
 * the end that the cluster has. */
#define RETRY "UPDATE file SET push_due_ms = 0, push_error = NULL, push_class = NULL, push_status = 0, push_tries = push_state = 3," \
	" pushed_until_s = CASE WHEN push_state = 3 THEN NULL ELSE pushed_until_s END," \
	" push_state = CASE WHEN push_state >= 2 THEN 0 ELSE push_state END"

int ledger_push_again(struct ledger *ledger, const struct file_key *key, bool all)
{
	uint64_t n = 0;
	int r;

	r = change_all(ledger, all ? "UPDATE file SET push = 1, push_due_ms = 0, push_error = NULL, push_class = NULL, push_status = 0, push_state = 0,"
				     " push_tries = 1, pushed_until_s = NULL,"
				     " pushed_hold = CASE WHEN pushed_hold = 1 THEN 2 ELSE pushed_hold END WHERE key = ?1" :
				     RETRY ", push = 1 WHERE key = ?1", key, 0, &n);
	return r == 0 && n == 0 ? -ENOENT : r;
}

int ledger_push_retry(struct ledger *ledger, uint64_t *ret_n)
{
	return change_all(ledger, RETRY " WHERE push_state >= 2", NULL, 0, ret_n);
}

int ledger_push_not_beyond(struct ledger *ledger, int64_t max_due_ms)
{
	uint64_t n;

	return change_all(ledger, "UPDATE file SET push_due_ms = 0 WHERE id IN (SELECT id FROM file INDEXED BY file_unpushed WHERE "
			  LEDGER_PUSH_WAITS " AND push_due_ms > ?2)", NULL, max_due_ms, &n);
}
