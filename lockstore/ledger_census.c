/* A statement of its own on the scanner, as a report's: it is not kept. */
#include "lockstore/ledger_census.h"

#include "lockstore/ledger_private.h"

int ledger_census(struct ledger *ledger, int64_t after_id, unsigned limit, ledger_census_fn fn, void *arg, unsigned *ret_n)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	sqlite3_stmt *stmt = NULL;
	unsigned n = 0;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(conn->db, "SELECT id, until_s, holds + rec_holds > 0, rule FROM file WHERE id > ?1 ORDER BY id LIMIT ?2",
				-1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, after_id);
		sqlite3_bind_int64(stmt, 2, limit);
		while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			const char *rule = (const char *)sqlite3_column_text(stmt, 3);
			struct ledger_census_row row = { .id = sqlite3_column_int64(stmt, 0), .until_s = sqlite3_column_int64(stmt, 1),
							 .held = sqlite3_column_int(stmt, 2) != 0, .rule = rule ? rule : "" };

			fn(arg, &row);
			n++;
		}
	}
	if (rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot count what is in the ledger");
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	if (r == 0)
		*ret_n = n;
	return r;
}
