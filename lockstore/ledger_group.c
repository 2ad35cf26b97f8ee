/* Sums over the ledger for a report. Each is one statement of its own on the scanner, not kept: a report is rare,
 * and a look-up must not wait for it. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/retention.h"

#define WORD_UNSPECIFIED "-9223372036854775808"
#define WORD_INFINITE "9223372036854775807"

static const char *const group_sql[] = {
	/* held before retained: a hold is what a person asked for. */
	[LEDGER_BY_STATE] =
		"SELECT CASE WHEN holds + rec_holds > 0 THEN 'held'"
		" WHEN until_s > ?1 OR until_s = " WORD_UNSPECIFIED " THEN 'retained' ELSE 'expired' END AS name,"
		" count(*), sum(size_bytes) FROM file GROUP BY name ORDER BY name",
	[LEDGER_BY_MODE] =
		"SELECT mode AS name, count(*), sum(size_bytes) FROM file GROUP BY name ORDER BY name",
	[LEDGER_BY_RULE] =
		"SELECT rule AS name, count(*), sum(size_bytes) FROM file GROUP BY name ORDER BY name",
	[LEDGER_BY_HOLD] =
		"SELECT hold.name AS name, count(*), sum(size_bytes) FROM hold JOIN file ON file.id = hold.file"
		" GROUP BY hold.name ORDER BY hold.name",
	[LEDGER_BY_EXPIRY] =
		"SELECT CASE until_s WHEN " WORD_UNSPECIFIED " THEN 'unspecified' WHEN " WORD_INFINITE " THEN 'infinite'"
		" ELSE strftime('%Y-%m', until_s, 'unixepoch') END AS name, count(*), sum(size_bytes)"
		" FROM file GROUP BY name ORDER BY name",
	[LEDGER_BY_DIGEST] =
		"SELECT CASE WHEN sha256 IS NULL THEN 'pending' ELSE 'known' END AS name, count(*), sum(size_bytes)"
		" FROM file GROUP BY name ORDER BY name",
};

struct group {
	char *name;
	uint64_t files, bytes;
};

static int read_groups(sqlite3_stmt *stmt, enum ledger_group by, struct group **ret_groups, size_t *ret_n, int *ret_rc)
{
	size_t n = 0, max = 0;
	int rc, r = 0;

	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *name = by == LEDGER_BY_MODE ? worm_mode_name((enum worm_mode)sqlite3_column_int(stmt, 0)) :
				   (const char *)sqlite3_column_text(stmt, 0);

		if (n == max) {
			struct group *grown = reallocarray(*ret_groups, max * 2 + 16, sizeof(*grown));

			if (!grown)
				return -ENOMEM;
			*ret_groups = grown;
			max = max * 2 + 16;
		}
		(*ret_groups)[n] = (struct group){ strdup(name ? name : ""), (uint64_t)sqlite3_column_int64(stmt, 1),
						   (uint64_t)sqlite3_column_int64(stmt, 2) };
		r = (*ret_groups)[n].name ? 0 : -ENOMEM;
		*ret_n = ++n;
	}
	*ret_rc = r == 0 ? rc : SQLITE_DONE;
	return r;
}

int ledger_group(struct ledger *ledger, enum ledger_group by, int64_t now_s, ledger_group_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	struct group *groups = NULL;
	sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	int rc, r;

	rc = sqlite3_prepare_v2(conn->db, group_sql[by], -1, &stmt, NULL);
	r = rc == SQLITE_OK ? 0 : ledger_fail(ledger, conn, rc, "cannot sum up the ledger");
	if (r == 0) {
		sqlite3_bind_int64(stmt, 1, now_s);	/* refused where it is not used, and means nothing then */
		r = read_groups(stmt, by, &groups, &n, &rc);
		if (r == 0 && rc != SQLITE_DONE)
			r = ledger_fail(ledger, conn, rc, "cannot sum up the ledger");
	}
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = fn(arg, groups[i].name, groups[i].files, groups[i].bytes);
	for (size_t i = 0; i < n; i++)
		free(groups[i].name);
	free(groups);
	return r;
}
