/* Legal holds by name. A file's row counts its holds, and the two change in one transaction. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_HOLDS 128

/* Counts again, so that the number in the row is right whatever it was. A hold that is there is not released any more. */
static int update_count(struct ledger *ledger, sqlite3_int64 id)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_prepare(ledger, &ledger->writer, STMT_HOLD_COUNT,
			   "UPDATE file SET holds = (SELECT count(*) FROM hold WHERE hold.file = ?1), push_release = 0 WHERE id = ?1",
			   &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	return ledger_run(ledger, &ledger->writer, stmt, "cannot count the holds of a file");
}

/* The last name went, and the cluster was told of a hold: it may be told of the release (LEDGER_PUSH_WAITS). */
static int note_release(struct ledger *ledger, sqlite3_int64 id)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_prepare(ledger, &ledger->writer, STMT_HOLD_RELEASED,
			   "UPDATE file SET push_release = 1, push_due_ms = 0 WHERE id = ?1 AND pushed_hold <> 0 AND holds = 0", &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	return ledger_run(ledger, &ledger->writer, stmt, "cannot note the release of a hold");
}

int ledger_hold_insert(struct ledger *ledger, const struct file_key *key, const char *case_name, uid_t by, int64_t at_s)
{
	sqlite3_int64 id;
	sqlite3_stmt *stmt;
	int r;

	if (!case_name_is_valid(case_name))
		return ledger_say(ledger, -EINVAL, "the name of a hold is 1 to 128 bytes of UTF-8 without '/'");
	r = ledger_row_id(ledger, key, &id);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_HOLD_ADD,
			   "INSERT INTO hold VALUES(?1, ?2, CASE WHEN ?3 >= 0 THEN ?3 ELSE coalesce((SELECT by_uid FROM hold_order"
			   " WHERE name = ?2 AND future ORDER BY id LIMIT 1), 0) END, ?4) ON CONFLICT DO NOTHING", &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_text(stmt, 2, case_name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, by == LEDGER_BY_ORDER ? -1 : (int64_t)by);
	sqlite3_bind_int64(stmt, 4, at_s);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot place a hold");
	if (r < 0)
		return r;
	return sqlite3_changes(ledger->writer.db) == 0 ? -EEXIST : update_count(ledger, id);
}

int ledger_hold_add(struct ledger *ledger, const struct file_key *key, const char *case_name,
		    uid_t by, int64_t at_s)
{
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	return ledger_change_end(ledger, ledger_hold_insert(ledger, key, case_name, by, at_s));
}

int ledger_hold_release(struct ledger *ledger, const struct file_key *key, const char *case_name)
{
	sqlite3_int64 id;
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_row_id(ledger, key, &id);
	if (r < 0)
		goto out;
	r = ledger_prepare(ledger, &ledger->writer, STMT_HOLD_RELEASE,
			   "DELETE FROM hold WHERE file = ?1 AND name = ?2", &stmt);
	if (r < 0)
		goto out;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_text(stmt, 2, case_name, -1, SQLITE_STATIC);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot release a hold");
	if (r < 0)
		goto out;
	r = sqlite3_changes(ledger->writer.db) == 0 ? -ENOENT : update_count(ledger, id);
	if (r == 0)
		r = note_release(ledger, id);
out:
	return ledger_change_end(ledger, r);
}

int ledger_set_rec_holds(struct ledger *ledger, const struct file_key *key, uint16_t holds)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_REC_HOLDS, "UPDATE file SET rec_holds = ?2 WHERE key = ?1", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		sqlite3_bind_int(stmt, 2, holds);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot note the holds of a record");
	}
	return ledger_change_end(ledger, r);
}

struct hold {
	char name[LEDGER_CASE_MAX_BYTES + 1];
	uid_t by;
	int64_t at_s;
};

/* Names greater than `after`. */
static int read_page(struct ledger *ledger, const struct file_key *key, const char *after,
		     struct hold holds[PAGE_HOLDS], size_t *ret_n)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	size_t n = 0;
	int rc = SQLITE_DONE, r;

	r = ledger_prepare(ledger, conn, STMT_HOLDS,
			   "SELECT hold.name, by_uid, at_s FROM file JOIN hold ON hold.file = file.id"
			   " WHERE file.key = ?1 AND hold.name > ?2 ORDER BY hold.name", &stmt);
	if (r < 0)
		goto out;
	ledger_bind_key(stmt, 1, key);
	sqlite3_bind_text(stmt, 2, after, -1, SQLITE_STATIC);
	while (n < PAGE_HOLDS && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(stmt, 0);

		if (!name || strlen(name) > LEDGER_CASE_MAX_BYTES) {
			r = ledger_say(ledger, -EIO, "a hold in the ledger has a name that is none");
			break;
		}
		strcpy(holds[n].name, name);
		holds[n].by = (uid_t)sqlite3_column_int64(stmt, 1);
		holds[n].at_s = sqlite3_column_int64(stmt, 2);
		n++;
	}
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the holds of a file");
	sqlite3_reset(stmt);
out:
	ledger_unlock(conn);
	if (r == 0)
		*ret_n = n;
	return r;
}

int ledger_holds(struct ledger *ledger, const struct file_key *key, ledger_hold_fn fn, void *arg)
{
	struct hold *holds = malloc(PAGE_HOLDS * sizeof(*holds));
	char after[LEDGER_CASE_MAX_BYTES + 1] = "";
	size_t n = 0;
	int r = 0;

	if (!holds)
		return -ENOMEM;
	do {
		r = read_page(ledger, key, after, holds, &n);
		for (size_t i = 0; r == 0 && i < n; i++)
			r = fn(arg, holds[i].name, holds[i].by, holds[i].at_s);
		if (r == 0 && n)
			strcpy(after, holds[n - 1].name);
	} while (r == 0 && n == PAGE_HOLDS);
	free(holds);
	return r;
}
