/* Orders about holds: what was decided, and how far it is.
 *
 * A path is asked for as it is and for each directory above it, so "a" never covers "a1", and no pattern is
 * matched. Listings read everything they need before they call back. */
#include "lockstore/ledger_orders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/ledger_private.h"

#define ORDER_COLUMNS "id, name, state, future, by_uid, at_s, reason, files, bytes"
#define PAGE_PATHS 1000

/* One statement that is not run often enough to be kept. */
static int prepare(struct ledger *ledger, struct ledger_conn *conn, const char *sql, sqlite3_stmt **ret_stmt)
{
	int rc = conn->db ? sqlite3_prepare_v2(conn->db, sql, -1, ret_stmt, NULL) : SQLITE_READONLY;

	return rc == SQLITE_OK ? 0 : ledger_fail(ledger, conn, rc, "cannot ask the ledger for orders");
}

/* Runs one change with a number bound to ?1. *ret_changes may be NULL. */
static int change_one(struct ledger *ledger, const char *sql, int64_t id, int *ret_changes)
{
	sqlite3_stmt *stmt = NULL;
	int r;

	r = prepare(ledger, &ledger->writer, sql, &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot change an order");
	sqlite3_finalize(stmt);
	if (r == 0 && ret_changes)
		*ret_changes = sqlite3_changes(ledger->writer.db);
	return r;
}

int ledger_order_new(struct ledger *ledger, const struct hold_order *order, int64_t *ret_id)
{
	sqlite3_stmt *stmt;
	int64_t id = 0;
	int r;

	if (!case_name_is_valid(order->name))
		return ledger_say(ledger, -EINVAL, "the name of a hold is 1 to 128 bytes of UTF-8 without '/'");
	if (strlen(order->reason) > LEDGER_REASON_MAX_BYTES)
		return ledger_say(ledger, -EINVAL, "the reason is too long");
	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_ORDER_NEW,
			   "INSERT INTO hold_order(name, state, future, by_uid, at_s, reason) VALUES(?1, 0, ?2, ?3, ?4, ?5)", &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, order->name, -1, SQLITE_STATIC);
		sqlite3_bind_int(stmt, 2, order->future);
		sqlite3_bind_int64(stmt, 3, order->by);
		sqlite3_bind_int64(stmt, 4, order->at_s);
		sqlite3_bind_text(stmt, 5, order->reason, -1, SQLITE_STATIC);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot note an order");
		id = sqlite3_last_insert_rowid(ledger->writer.db);
	}
	r = ledger_change_end(ledger, r);
	if (r == 0)
		*ret_id = id;
	return r;
}

int ledger_order_add(struct ledger *ledger, int64_t id, const char *path, bool tree)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_ORDER_ADD,
			   "INSERT INTO hold_path(path, ord, tree) SELECT ?1, id, ?3 FROM hold_order WHERE id = ?2"
			   " ON CONFLICT DO UPDATE SET tree = max(tree, excluded.tree)", &stmt);
	if (r == 0) {
		sqlite3_bind_blob64(stmt, 1, path, strlen(path), SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 2, id);
		sqlite3_bind_int(stmt, 3, tree);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot note a path of an order");
		if (r == 0 && sqlite3_changes(ledger->writer.db) == 0)
			r = -ENOENT;
	}
	return ledger_change_end(ledger, r);
}

int ledger_order_decide(struct ledger *ledger, int64_t id, enum order_state state)
{
	int n = 0, r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = change_one(ledger, state == ORDER_RELEASING ? "UPDATE hold_order SET state = 3 WHERE id = ?1 AND state = 0" :
							 "UPDATE hold_order SET state = 1 WHERE id = ?1 AND state = 0", id, &n);
	if (r == 0 && n == 0)
		r = -ENOENT;
	return ledger_change_end(ledger, r);
}

/* Placed trees of the case at or below a released one. Bytes are compared, so that no path is a pattern. */
#define FORGET_TREES \
	"DELETE FROM hold_path WHERE ord IN (SELECT id FROM hold_order WHERE state = 2" \
	"  AND name = (SELECT name FROM hold_order WHERE id = ?1))" \
	" AND EXISTS (SELECT 1 FROM hold_path ours WHERE ours.ord = ?1 AND ours.tree AND (length(ours.path) = 0" \
	"  OR ours.path = hold_path.path" \
	"  OR substr(hold_path.path, 1, length(ours.path) + 1) = CAST(ours.path || x'2f' AS BLOB)))"

int ledger_order_end_future(struct ledger *ledger, int64_t id)
{
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = change_one(ledger, FORGET_TREES, id, NULL);
	if (r == 0)
		r = change_one(ledger, "UPDATE hold_order SET future = 0 WHERE future AND state = 2"
			       " AND name = (SELECT name FROM hold_order WHERE id = ?1)"
			       " AND NOT EXISTS (SELECT 1 FROM hold_path WHERE ord = hold_order.id)", id, NULL);
	return ledger_change_end(ledger, r);
}

static int drop(struct ledger *ledger, int64_t id)
{
	int r;

	r = change_one(ledger, "DELETE FROM hold_path WHERE ord = ?1", id, NULL);
	return r < 0 ? r : change_one(ledger, "DELETE FROM hold_order WHERE id = ?1", id, NULL);
}

int ledger_order_done(struct ledger *ledger, int64_t id, uint64_t files, uint64_t bytes)
{
	sqlite3_stmt *stmt = NULL;
	int n = 0, r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = change_one(ledger, "UPDATE hold_order SET state = 2 WHERE id = ?1 AND state = 1", id, &n);
	if (r == 0 && n == 0) {
		/* A release: with the last file the case is over, and what was said about it goes to the audit log. */
		r = change_one(ledger, "DELETE FROM hold_order WHERE state = 2 AND NOT future"
			       " AND name = (SELECT name FROM hold_order WHERE id = ?1)"
			       " AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.name = hold_order.name)", id, NULL);
		if (r == 0)
			r = change_one(ledger, "DELETE FROM hold_path WHERE ord NOT IN (SELECT id FROM hold_order)", id, NULL);
		if (r == 0)
			r = drop(ledger, id);
	} else if (r == 0)
		r = change_one(ledger, "DELETE FROM hold_path WHERE ord = ?1 AND tree = 0", id, NULL);
	if (r == 0 && n)
		r = prepare(ledger, &ledger->writer, "UPDATE hold_order SET files = ?2, bytes = ?3 WHERE id = ?1", &stmt);
	if (r == 0 && n) {
		sqlite3_bind_int64(stmt, 1, id);
		sqlite3_bind_int64(stmt, 2, (int64_t)files);
		sqlite3_bind_int64(stmt, 3, (int64_t)bytes);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot end an order");
	}
	sqlite3_finalize(stmt);
	return ledger_change_end(ledger, r);
}

int ledger_order_drop(struct ledger *ledger, int64_t id)
{
	int r = ledger_change(ledger);

	return r < 0 ? r : ledger_change_end(ledger, drop(ledger, id));
}

int ledger_orders_drop_listed(struct ledger *ledger)
{
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = change_one(ledger, "DELETE FROM hold_path WHERE ord IN (SELECT id FROM hold_order WHERE state = ?1)", ORDER_LISTED, NULL);
	if (r == 0)
		r = change_one(ledger, "DELETE FROM hold_order WHERE state = ?1", ORDER_LISTED, NULL);
	return ledger_change_end(ledger, r);
}

/* The strings live until the next step of stmt. */
static struct hold_order order_of(sqlite3_stmt *stmt)
{
	const char *name = (const char *)sqlite3_column_text(stmt, 1), *reason = (const char *)sqlite3_column_text(stmt, 6);

	return (struct hold_order){
		.id = sqlite3_column_int64(stmt, 0),
		.name = name ? name : "",
		.state = (enum order_state)sqlite3_column_int(stmt, 2),
		.future = sqlite3_column_int(stmt, 3),
		.by = (uid_t)sqlite3_column_int64(stmt, 4),
		.at_s = sqlite3_column_int64(stmt, 5),
		.reason = reason ? reason : "",
		.files = (uint64_t)sqlite3_column_int64(stmt, 7),
		.bytes = (uint64_t)sqlite3_column_int64(stmt, 8),
	};
}

struct order_list {
	struct hold_order *orders;	/* their strings are copies */
	size_t count;
};

static void list_fini(struct order_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free((char *)list->orders[i].name);
		free((char *)list->orders[i].reason);
	}
	free(list->orders);
}

static int list_add(struct order_list *list, const struct hold_order *order)
{
	struct hold_order *grown = reallocarray(list->orders, list->count + 1, sizeof(*grown)), *o;

	if (!grown)
		return -ENOMEM;
	list->orders = grown;
	o = &grown[list->count++];
	*o = *order;
	o->name = strdup(order->name);
	o->reason = strdup(order->reason);
	return o->name && o->reason ? 0 : -ENOMEM;
}

static int each_of(struct ledger *ledger, const char *sql, const char *name, int64_t id, ledger_order_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	struct order_list list = { 0 };
	sqlite3_stmt *stmt = NULL;
	int rc = SQLITE_DONE, r;

	r = prepare(ledger, conn, sql, &stmt);
	if (r == 0 && name)
		sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	else if (r == 0)
		sqlite3_bind_int64(stmt, 1, id);	/* refused where there is no parameter, and means nothing */
	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct hold_order order = order_of(stmt);

		r = list_add(&list, &order);
	}
	if (r == 0 && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the orders");
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	if (r == 0 && id && !list.count)
		r = -ENOENT;
	for (size_t i = 0; r == 0 && fn && i < list.count; i++)
		r = fn(arg, &list.orders[i]);
	list_fini(&list);
	return r;
}

int ledger_orders(struct ledger *ledger, const char *name, ledger_order_fn fn, void *arg)
{
	if (name)
		return each_of(ledger, "SELECT " ORDER_COLUMNS " FROM hold_order WHERE name = ?1 ORDER BY id", name, 0, fn, arg);
	return each_of(ledger, "SELECT " ORDER_COLUMNS " FROM hold_order ORDER BY id", NULL, 0, fn, arg);
}

int ledger_order_find(struct ledger *ledger, int64_t id, ledger_order_fn fn, void *arg)
{
	return each_of(ledger, "SELECT " ORDER_COLUMNS " FROM hold_order WHERE id = ?1", NULL, id, fn, arg);
}

/* Paths greater than `after` (after_len bytes; SIZE_MAX: from the first), one behind the other in *ret_text, each behind its
 * flag byte and with its NUL. */
static int read_paths(struct ledger *ledger, int64_t id, const char *after, size_t after_len, char **ret_text, size_t *ret_n)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	char *text = NULL, *grown;
	sqlite3_stmt *stmt = NULL;
	size_t len = 0, n = 0;
	int rc = SQLITE_DONE, r;

	r = prepare(ledger, conn, after_len == SIZE_MAX ?
		    "SELECT path, tree FROM hold_path WHERE ord = ?1 ORDER BY path LIMIT ?2" :
		    "SELECT path, tree FROM hold_path WHERE ord = ?1 AND path > ?3 ORDER BY path LIMIT ?2", &stmt);
	if (r < 0)
		goto out;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int(stmt, 2, PAGE_PATHS);
	if (after_len != SIZE_MAX)
		sqlite3_bind_blob64(stmt, 3, after, after_len, SQLITE_STATIC);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const void *path = sqlite3_column_blob(stmt, 0);
		size_t path_len = (size_t)sqlite3_column_bytes(stmt, 0);

		grown = realloc(text, len + path_len + 2);
		if (!grown) {
			r = -ENOMEM;
			break;
		}
		text = grown;
		text[len++] = sqlite3_column_int(stmt, 1) ? 't' : 'f';
		if (path_len)
			memcpy(text + len, path, path_len);
		len += path_len;
		text[len++] = '\0';
		n++;
	}
	if (r == 0 && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the paths of an order");
	sqlite3_finalize(stmt);
out:
	ledger_unlock(conn);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_n = n;
	return 0;
}

int ledger_order_paths(struct ledger *ledger, int64_t id, ledger_order_path_fn fn, void *arg)
{
	char *text = NULL, *next = NULL, *p, *last = NULL;
	size_t n, last_len = SIZE_MAX;
	int r;

	do {
		r = read_paths(ledger, id, last, last_len, &next, &n);
		free(text);	/* `last` was in it */
		text = r == 0 ? next : NULL;
		p = text;
		for (size_t i = 0; r == 0 && i < n; i++) {
			r = fn(arg, p + 1, *p == 't');
			last = p + 1;
			last_len = strlen(last);
			p = last + last_len + 1;
		}
	} while (r == 0 && n == PAGE_PATHS);
	free(text);
	return r;
}

int ledger_orders_cover(struct ledger *ledger, const char *path, enum order_cover which, ledger_order_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	size_t len = strlen(path);
	sqlite3_stmt *stmt;
	int rc, r, n = 0;

	r = ledger_prepare(ledger, conn, STMT_ORDER_COVER,
			   "SELECT o.id, o.name, o.state, o.future, o.by_uid, o.at_s, o.reason, o.files, o.bytes"
			   " FROM hold_path p JOIN hold_order o ON o.id = p.ord WHERE p.path = ?1 AND (p.tree OR ?2)"
			   " AND CASE WHEN ?3 THEN o.future AND o.state IN (1, 2) ELSE o.state = 1 END ORDER BY o.id", &stmt);
	/* Itself, then each directory above it, the root last. */
	for (size_t at = len; r == 0;) {
		sqlite3_bind_blob64(stmt, 1, path, at, SQLITE_STATIC);
		sqlite3_bind_int(stmt, 2, at == len);
		sqlite3_bind_int(stmt, 3, which == COVER_COMING);
		while (r >= 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			struct hold_order order = order_of(stmt);

			n++;
			r = fn ? fn(arg, &order) : 0;
		}
		if (r >= 0 && rc != SQLITE_DONE)
			r = ledger_fail(ledger, conn, rc, "cannot look for the orders of a file");
		sqlite3_reset(stmt);
		if (r < 0 || at == 0)
			break;
		r = 0;
		while (at > 0 && path[--at] != '/')
			;
	}
	ledger_unlock(conn);
	return r < 0 ? r : n;
}

/* Numbers of one row. */
static int ask_numbers(struct ledger *ledger, const char *sql, const char *path, int64_t *ret_a, int64_t *ret_b)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	sqlite3_stmt *stmt = NULL;
	int rc, r;

	r = prepare(ledger, conn, sql, &stmt);
	if (r == 0) {
		if (path)
			sqlite3_bind_blob64(stmt, 1, path, strlen(path), SQLITE_STATIC);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW) {
			*ret_a = sqlite3_column_int64(stmt, 0);
			*ret_b = sqlite3_column_int64(stmt, 1);
		} else {
			r = ledger_fail(ledger, conn, rc, "cannot count the orders");
		}
	}
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	return r;
}

int ledger_orders_below(struct ledger *ledger, const char *path)
{
	int64_t found = 0, none;
	int r;

	r = ask_numbers(ledger, "SELECT EXISTS(SELECT 1 FROM hold_path p JOIN hold_order o ON o.id = p.ord"
			" WHERE o.future AND o.state IN (1, 2) AND (length(?1) = 0 OR p.path = ?1"
			" OR substr(p.path, 1, length(?1) + 1) = CAST(?1 || x'2f' AS BLOB))), 0", path, &found, &none);
	return r < 0 ? r : found != 0;
}

int ledger_orders_count(struct ledger *ledger, uint64_t *ret_placing, uint64_t *ret_future)
{
	int64_t placing = 0, future = 0;
	int r;

	r = ask_numbers(ledger, "SELECT coalesce(sum(state = 1), 0), coalesce(sum(future AND state IN (1, 2)), 0) FROM hold_order",
			NULL, &placing, &future);
	if (r == 0) {
		*ret_placing = (uint64_t)placing;
		*ret_future = (uint64_t)future;
	}
	return r;
}

int ledger_cases(struct ledger *ledger, const char *name, ledger_case_fn fn, void *arg)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	struct hold_case *cases = NULL, *grown;
	sqlite3_stmt *stmt = NULL;
	size_t n = 0;
	int rc = SQLITE_DONE, r;

	r = prepare(ledger, conn, name ?
		    "SELECT ?1, count(file.id), coalesce(sum(size_bytes), 0), coalesce(min(at_s), 0), coalesce(max(at_s), 0)"
		    " FROM hold JOIN file ON file.id = hold.file WHERE hold.name = ?1" :
		    "SELECT name, sum(n), sum(bytes), max(first), max(last) FROM ("
		    " SELECT hold.name AS name, count(*) AS n, sum(size_bytes) AS bytes, min(at_s) AS first, max(at_s) AS last"
		    "  FROM hold JOIN file ON file.id = hold.file GROUP BY hold.name"
		    " UNION ALL SELECT DISTINCT name, 0, 0, 0, 0 FROM hold_order WHERE state <> 0) GROUP BY name ORDER BY name", &stmt);
	if (r == 0 && name)
		sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(stmt, 0);

		grown = reallocarray(cases, n + 1, sizeof(*cases));
		if (!grown) {
			r = -ENOMEM;
			break;
		}
		cases = grown;
		cases[n] = (struct hold_case){ strdup(text ? text : ""), (uint64_t)sqlite3_column_int64(stmt, 1),
					       (uint64_t)sqlite3_column_int64(stmt, 2), sqlite3_column_int64(stmt, 3),
					       sqlite3_column_int64(stmt, 4) };
		if (!cases[n++].name)
			r = -ENOMEM;
	}
	if (r == 0 && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the cases");
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = fn(arg, &cases[i]);
	for (size_t i = 0; i < n; i++)
		free((char *)cases[i].name);
	free(cases);
	return r;
}
