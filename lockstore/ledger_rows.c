/* Rows of the ledger: merged, found, listed.
 *
 * A listing reads a page into memory, lets go of the connection and only then calls back: the
 * callback may take its time, and may use the ledger. A merge is monotonic, so that events that come
 * twice or late change nothing for the worse. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/sha256.h"

#define ROW_COLUMNS "key, path, flags, mode, rec_holds, rec_rule, committed_s, until_s, serial, size_bytes," \
	" mtime_ns, uid, gid, holds, rule, sha256, generation"

/* max() is retention_is_later(): the two words are the ends of int64. */
static const char put_sql[] =
	"INSERT INTO file(key, path, flags, mode, rec_holds, rec_rule, committed_s, until_s, serial, size_bytes,"
	" mtime_ns, uid, gid, rule, sha256, holds, generation, push)"
	" VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, coalesce(?14, ''), ?15, 0, ?16, ?17)"
	" ON CONFLICT(key) DO UPDATE SET path = excluded.path,"
	/* Append-only is the weaker lock, and only an empty file goes back to it. */
	" flags = CASE WHEN size_bytes = 0 THEN excluded.flags ELSE flags & excluded.flags END,"
	" mode = max(mode, excluded.mode),"
	" rec_holds = excluded.rec_holds, rec_rule = excluded.rec_rule, rule = coalesce(?14, rule),"
	/* A date is made earlier only by a new generation of the record: what is older cannot bring the late one back. */
	" until_s = CASE WHEN excluded.generation > generation THEN excluded.until_s"
	"   WHEN excluded.generation < generation THEN until_s ELSE max(until_s, excluded.until_s) END,"
	" generation = max(generation, excluded.generation),"
	" size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns,"
	" uid = excluded.uid, gid = excluded.gid, push = CASE WHEN excluded.push = 1 THEN 1 ELSE push END,"
	/* What was digested must still be what is there: an append-only file grows. */
	" sha256 = coalesce(excluded.sha256,"
	"   CASE WHEN size_bytes = excluded.size_bytes AND mtime_ns = excluded.mtime_ns THEN sha256 END)";

/* Rows in memory: fixed parts in an array, strings in one buffer that may move while it grows. */
struct page_row {
	struct ledger_row row;
	size_t path_at, rule_at, sha256_at;	/* in text; SIZE_MAX: NULL */
};

struct page {
	struct page_row *rows;
	size_t nrows, max_rows;
	char *text;
	size_t text_len, text_size;
};

static int page_init(struct page *page, size_t max_rows)
{
	*page = (struct page){ .max_rows = max_rows };
	page->rows = malloc(max_rows * sizeof(*page->rows));
	return page->rows ? 0 : -ENOMEM;
}

static void page_fini(struct page *page)
{
	free(page->rows);
	free(page->text);
}

/* With a NUL behind it. */
static int page_text(struct page *page, const void *bytes, int len, size_t *ret_at)
{
	size_t need = page->text_len + (size_t)len + 1;

	if (need > page->text_size) {
		size_t size = need < 512 ? 512 : need * 2;
		char *text = realloc(page->text, size);

		if (!text)
			return -ENOMEM;
		page->text = text;
		page->text_size = size;
	}
	if (len)
		memcpy(page->text + page->text_len, bytes, (size_t)len);
	page->text[page->text_len + (size_t)len] = '\0';
	*ret_at = page->text_len;
	page->text_len = need;
	return 0;
}

/* -EIO: a row that we cannot have written. */
static int page_add(struct page *page, sqlite3_stmt *stmt)
{
	struct page_row *p = &page->rows[page->nrows];
	int key_len = sqlite3_column_bytes(stmt, 0), sha_len = sqlite3_column_bytes(stmt, 15);
	int r;

	if (key_len <= 0 || key_len > FILE_KEY_MAX_BYTES || (sha_len && sha_len != SHA256_BYTES))
		return -EIO;
	*p = (struct page_row){
		.row = {
			.rec = {
				.flags = (uint8_t)sqlite3_column_int(stmt, 2),
				.mode = (uint8_t)sqlite3_column_int(stmt, 3),
				.holds = (uint16_t)sqlite3_column_int(stmt, 4),
				.rule = (uint16_t)sqlite3_column_int(stmt, 5),
				.committed_s = sqlite3_column_int64(stmt, 6),
				.until_s = sqlite3_column_int64(stmt, 7),
				.serial = (uint64_t)sqlite3_column_int64(stmt, 8),
				.size_bytes = (uint64_t)sqlite3_column_int64(stmt, 9),
				.mtime_ns = sqlite3_column_int64(stmt, 10),
				.generation = (uint8_t)sqlite3_column_int(stmt, 16),
			},
			.uid = (uid_t)sqlite3_column_int64(stmt, 11),
			.gid = (gid_t)sqlite3_column_int64(stmt, 12),
			.holds = (uint32_t)sqlite3_column_int64(stmt, 13),
			.no_digest = !sha_len && sqlite3_column_type(stmt, 15) != SQLITE_NULL,
		},
		.sha256_at = SIZE_MAX,
	};
	p->row.key.len = (uint8_t)key_len;
	memcpy(p->row.key.bytes, sqlite3_column_blob(stmt, 0), (size_t)key_len);
	r = page_text(page, sqlite3_column_blob(stmt, 1), sqlite3_column_bytes(stmt, 1), &p->path_at);
	if (r == 0)
		r = page_text(page, sqlite3_column_text(stmt, 14), sqlite3_column_bytes(stmt, 14), &p->rule_at);
	if (r == 0 && sha_len)
		r = page_text(page, sqlite3_column_blob(stmt, 15), sha_len, &p->sha256_at);
	if (r == 0)
		page->nrows++;
	return r;
}

static const struct ledger_row *page_row(struct page *page, size_t i)
{
	struct page_row *p = &page->rows[i];

	p->row.path = page->text + p->path_at;
	p->row.rule = page->text + p->rule_at;
	p->row.sha256 = p->sha256_at == SIZE_MAX ? NULL : (const uint8_t *)page->text + p->sha256_at;
	return &p->row;
}

/* Steps through what is left of stmt, at most max_rows, and resets it. */
static int page_fill(struct ledger *ledger, struct ledger_conn *conn, sqlite3_stmt *stmt, struct page *page)
{
	int rc = SQLITE_DONE, r = 0;

	page->nrows = 0;
	page->text_len = 0;
	while (r == 0 && page->nrows < page->max_rows && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		r = page_add(page, stmt);
	if (r == -EIO)
		ledger_say(ledger, r, "a row of the ledger has a key or a digest of the wrong length");
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, "cannot list the ledger");
	sqlite3_reset(stmt);
	return r;
}

static bool path_is_good(const char *path)
{
	return path && path[0] && path[0] != '/' && path[strlen(path) - 1] != '/';
}

/* A record that comes from elsewhere (a restore, another gateway, a lost ledger) may carry a number
 * that ours would still give out. Costs nothing in the usual case. */
static int raise_serial(struct ledger *ledger, uint64_t serial)
{
	sqlite3_stmt *stmt;
	int r;

	if (serial < ledger->next_serial || serial >= INT64_MAX)
		return 0;
	r = ledger_prepare(ledger, &ledger->writer, STMT_COUNTER_RAISE,
			   "UPDATE counter SET next = max(next, ?1) WHERE name = 'serial'", &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)serial + 1);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot raise the serial number");
	if (r == 0)
		ledger->next_serial = serial + 1;
	return r;
}

/* row->hold: names that came with the lock. */
static int insert_holds(struct ledger *ledger, const struct ledger_row *row)
{
	char name[LEDGER_CASE_MAX_BYTES + 1];
	const char *p = row->hold, *end;
	int r = 0;

	for (; r == 0 && *p; p = *end ? end + 1 : end) {
		end = strchrnul(p, '\n');
		if ((size_t)(end - p) >= sizeof(name))
			return ledger_say(ledger, -EINVAL, "the name of a hold is too long");
		memcpy(name, p, (size_t)(end - p));
		name[end - p] = '\0';
		r = ledger_hold_insert(ledger, &row->key, name, LEDGER_BY_ORDER, row->rec.committed_s);
		if (r == -EEXIST)
			r = 0;
	}
	return r;
}

int ledger_put(struct ledger *ledger, const struct ledger_row *row)
{
	const struct lock_record *rec = &row->rec;
	sqlite3_stmt *stmt;
	int r;

	if (!row->key.len || row->key.len > FILE_KEY_MAX_BYTES || !path_is_good(row->path))
		return ledger_say(ledger, -EINVAL, "a row needs a key and a path below the share");
	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_PUT, put_sql, &stmt);
	if (r < 0)
		goto out;
	ledger_bind_key(stmt, 1, &row->key);
	sqlite3_bind_blob64(stmt, 2, row->path, strlen(row->path), SQLITE_STATIC);
	sqlite3_bind_int(stmt, 3, rec->flags);
	sqlite3_bind_int(stmt, 4, rec->mode);
	sqlite3_bind_int(stmt, 5, rec->holds);
	sqlite3_bind_int(stmt, 6, rec->rule);
	sqlite3_bind_int64(stmt, 7, rec->committed_s);
	sqlite3_bind_int64(stmt, 8, rec->until_s);
	sqlite3_bind_int64(stmt, 9, (int64_t)rec->serial);
	sqlite3_bind_int64(stmt, 10, (int64_t)rec->size_bytes);
	sqlite3_bind_int64(stmt, 11, rec->mtime_ns);
	sqlite3_bind_int64(stmt, 12, row->uid);
	sqlite3_bind_int64(stmt, 13, row->gid);
	sqlite3_bind_text(stmt, 14, row->rule, -1, SQLITE_STATIC);
	sqlite3_bind_blob(stmt, 15, row->sha256, row->sha256 ? SHA256_BYTES : 0, SQLITE_STATIC);
	sqlite3_bind_int(stmt, 16, rec->generation);
	sqlite3_bind_int(stmt, 17, row->push);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot put a file into the ledger");
	if (r == 0)
		r = raise_serial(ledger, rec->serial);
	if (r == 0 && row->hold)
		r = insert_holds(ledger, row);
out:
	return ledger_change_end(ledger, r);
}

int ledger_row_id(struct ledger *ledger, const struct file_key *key, sqlite3_int64 *ret_id)
{
	sqlite3_stmt *stmt;
	int rc, r;

	r = ledger_prepare(ledger, &ledger->writer, STMT_ID, "SELECT id FROM file WHERE key = ?1", &stmt);
	if (r < 0)
		return r;
	ledger_bind_key(stmt, 1, key);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_id = sqlite3_column_int64(stmt, 0);
	else
		r = rc == SQLITE_DONE ? -ENOENT : ledger_fail(ledger, &ledger->writer, rc, "cannot find a file");
	sqlite3_reset(stmt);
	return r;
}

static int run_with_id(struct ledger *ledger, enum ledger_statement which, const char *sql, sqlite3_int64 id)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_prepare(ledger, &ledger->writer, which, sql, &stmt);
	if (r < 0)
		return r;
	sqlite3_bind_int64(stmt, 1, id);
	return ledger_run(ledger, &ledger->writer, stmt, "cannot remove a file from the ledger");
}

int ledger_remove(struct ledger *ledger, const struct file_key *key)
{
	sqlite3_int64 id;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_row_id(ledger, key, &id);
	if (r == 0)
		r = run_with_id(ledger, STMT_REMOVE_HOLDS, "DELETE FROM hold WHERE file = ?1", id);
	if (r == 0)
		r = run_with_id(ledger, STMT_REMOVE, "DELETE FROM file WHERE id = ?1", id);
	return ledger_change_end(ledger, r == -ENOENT ? 0 : r);
}

int ledger_extend(struct ledger *ledger, const struct file_key *key, int64_t until_s)
{
	sqlite3_stmt *stmt;
	int64_t old = 0;
	int rc, r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_UNTIL, "SELECT until_s FROM file WHERE key = ?1", &stmt);
	if (r < 0)
		goto out;
	ledger_bind_key(stmt, 1, key);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		old = sqlite3_column_int64(stmt, 0);
	else
		r = rc == SQLITE_DONE ? -ENOENT : ledger_fail(ledger, &ledger->writer, rc, "cannot find a file");
	sqlite3_reset(stmt);
	if (r < 0 || old == until_s)
		goto out;
	if (!retention_is_later(old, until_s)) {
		r = -EPERM;
		goto out;
	}
	r = ledger_prepare(ledger, &ledger->writer, STMT_EXTEND, "UPDATE file SET until_s = ?2 WHERE key = ?1", &stmt);
	if (r < 0)
		goto out;
	ledger_bind_key(stmt, 1, key);
	sqlite3_bind_int64(stmt, 2, until_s);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot extend the retention of a file");
out:
	return ledger_change_end(ledger, r);
}

int ledger_find(struct ledger *ledger, const struct file_key *key, ledger_row_fn fn, void *arg)
{
	struct ledger_conn *conn;
	struct page_row one;
	struct page page = { .rows = &one, .max_rows = 1 };
	sqlite3_stmt *stmt;
	int r;

	conn = ledger_reading(ledger);
	r = ledger_prepare(ledger, conn, STMT_FIND, "SELECT " ROW_COLUMNS " FROM file WHERE key = ?1", &stmt);
	if (r == 0) {
		ledger_bind_key(stmt, 1, key);
		r = page_fill(ledger, conn, stmt, &page);
	}
	ledger_unlock(conn);
	if (r == 0 && page.nrows == 0)
		r = -ENOENT;
	if (r == 0 && fn)
		r = fn(arg, page_row(&page, 0));
	free(page.text);
	return r;
}

/* Parameters of the listing: where it goes on, where it ends, and one for each filter. */
enum { P_PATH = 1, P_KEY, P_END, P_UID, P_HOLD, P_NOW, P_BEFORE, P_RULE };

#define WORD_UNSPECIFIED "-9223372036854775808"
#define WORD_INFINITE "9223372036854775807"

/* The index is named, so that no statistics make SQLite choose one that needs a sort of all rows. */
char *ledger_filter_sql(const struct ledger_filter *f, bool bounded, bool count)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	bool held = f->hold || f->state == LEDGER_HELD;

	sqlite3_str_appendall(s, count ? "SELECT count(*)" : "SELECT " ROW_COLUMNS);
	sqlite3_str_appendf(s, " FROM file INDEXED BY %s WHERE (path, key) > (?1, ?2)",
			    held ? "file_held" : f->by_uid ? "file_uid" : "file_path");
	if (bounded)
		sqlite3_str_appendall(s, " AND path < ?3");
	if (f->by_uid)
		sqlite3_str_appendall(s, " AND uid = ?4");
	if (held)
		sqlite3_str_appendall(s, " AND holds + rec_holds > 0");
	if (f->hold)
		sqlite3_str_appendall(s, " AND EXISTS(SELECT 1 FROM hold WHERE hold.file = file.id AND hold.name = ?5)");
	if (f->state == LEDGER_RETAINED)
		sqlite3_str_appendall(s, " AND (until_s > ?6 OR until_s = " WORD_UNSPECIFIED
				      " OR until_s = " WORD_INFINITE ")");
	if (f->state == LEDGER_EXPIRED)
		sqlite3_str_appendall(s, " AND until_s <= ?6 AND until_s > " WORD_UNSPECIFIED
				      " AND until_s < " WORD_INFINITE " AND holds + rec_holds = 0");
	if (f->by_expiry)
		sqlite3_str_appendall(s, " AND until_s < ?7 AND until_s > " WORD_UNSPECIFIED);
	if (f->rule)
		sqlite3_str_appendall(s, " AND rule = ?8");
	if (!count)
		sqlite3_str_appendf(s, " ORDER BY path, key LIMIT %d", LEDGER_PAGE_ROWS);
	return sqlite3_str_finish(s);
}

/* One stretch of paths: greater than (path, key), less than end (NULL: no end). */
struct range {
	char *path, *end;
	size_t path_len, end_len;
	struct file_key key;
};

static void range_fini(struct range *range)
{
	free(range->path);
	free(range->end);
}

/* The file or directory `prefix` itself lies apart from what is below it: "a" < "a-b" < "a/x". So a
 * listing has two stretches, which lie in this order. All rows are one stretch. */
static int range_init(struct range *range, const char *prefix, int which)
{
	size_t len = prefix ? strlen(prefix) : 0;

	*range = (struct range){ .path = malloc(len + 1), .path_len = len };
	if (!range->path)
		return -ENOMEM;
	if (!len)
		return 0;
	range->end = malloc(len + 1);
	if (!range->end)
		return -ENOMEM;
	memcpy(range->path, prefix, len);
	memcpy(range->end, prefix, len);
	range->end_len = len + 1;
	if (which == 0) {
		range->end[len] = '\0';	/* the next after "a" of all byte strings */
	} else {
		range->path[range->path_len++] = '/';
		range->end[len] = '/' + 1;
	}
	return 0;
}

/* Starts behind `after`, where that lies in this stretch or behind it. */
static int range_skip(struct range *range, const char *after_path, const struct file_key *after_key)
{
	size_t len = strlen(after_path), common = len < range->path_len ? len : range->path_len;
	int order = memcmp(after_path, range->path, common);
	char *path;

	if (order < 0 || (order == 0 && len < range->path_len))
		return 0;
	path = realloc(range->path, len + 1);
	if (!path)
		return -ENOMEM;
	memcpy(path, after_path, len);
	range->path = path;
	range->path_len = len;
	range->key = *after_key;
	return 0;
}

static int prepare_listing(struct ledger *ledger, struct ledger_conn *conn, const struct ledger_filter *f,
			   bool bounded, bool count, sqlite3_stmt **ret_stmt)
{
	char *sql = ledger_filter_sql(f, bounded, count);
	int rc;

	if (!sql)
		return -ENOMEM;
	rc = sqlite3_prepare_v2(conn->db, sql, -1, ret_stmt, NULL);
	sqlite3_free(sql);
	return rc == SQLITE_OK ? 0 : ledger_fail(ledger, conn, rc, "cannot list the ledger");
}

/* A parameter that the statement has not is refused with SQLITE_RANGE, and means nothing. */
static void bind_listing(sqlite3_stmt *stmt, const struct ledger_filter *f, const struct range *range)
{
	sqlite3_bind_blob64(stmt, P_PATH, range->path, range->path_len, SQLITE_STATIC);
	ledger_bind_key(stmt, P_KEY, &range->key);
	if (range->end)
		sqlite3_bind_blob64(stmt, P_END, range->end, range->end_len, SQLITE_STATIC);
	if (f->by_uid)
		sqlite3_bind_int64(stmt, P_UID, f->uid);
	if (f->hold)
		sqlite3_bind_text(stmt, P_HOLD, f->hold, -1, SQLITE_STATIC);
	if (f->state == LEDGER_RETAINED || f->state == LEDGER_EXPIRED)
		sqlite3_bind_int64(stmt, P_NOW, f->now_s);
	if (f->by_expiry)
		sqlite3_bind_int64(stmt, P_BEFORE, f->expires_before_s);
	if (f->rule)
		sqlite3_bind_text(stmt, P_RULE, f->rule, -1, SQLITE_STATIC);
}

static int range_go_on(struct range *range, const struct ledger_row *last)
{
	size_t len = strlen(last->path);
	char *path = realloc(range->path, len + 1);

	if (!path)
		return -ENOMEM;
	memcpy(path, last->path, len);
	range->path = path;
	range->path_len = len;
	range->key = last->key;
	return 0;
}

static int each_in_range(struct ledger *ledger, const struct ledger_filter *f, struct range *range,
			 struct page *page, ledger_row_fn fn, void *arg)
{
	struct ledger_conn *conn;
	sqlite3_stmt *stmt;
	int r;

	do {
		conn = ledger_scanning(ledger);
		r = prepare_listing(ledger, conn, f, range->end, false, &stmt);
		if (r == 0) {
			bind_listing(stmt, f, range);
			r = page_fill(ledger, conn, stmt, page);
			sqlite3_finalize(stmt);
		}
		ledger_unlock(conn);
		if (r == 0 && page->nrows)
			r = range_go_on(range, page_row(page, page->nrows - 1));
		for (size_t i = 0; r == 0 && i < page->nrows; i++)
			r = fn(arg, page_row(page, i));
	} while (r == 0 && page->nrows == page->max_rows);
	return r;
}

int ledger_each(struct ledger *ledger, const struct ledger_filter *filter, ledger_row_fn fn, void *arg)
{
	int nranges = filter->prefix && filter->prefix[0] ? 2 : 1;
	struct page page;
	struct range range;
	int r;

	r = page_init(&page, LEDGER_PAGE_ROWS);
	for (int i = 0; r == 0 && i < nranges; i++) {
		r = range_init(&range, filter->prefix, i);
		if (r == 0 && filter->after_path)
			r = range_skip(&range, filter->after_path, filter->after_key);
		if (r == 0)
			r = each_in_range(ledger, filter, &range, &page, fn, arg);
		range_fini(&range);
	}
	page_fini(&page);
	return r;
}

static int count_in_range(struct ledger *ledger, const struct ledger_filter *f, const struct range *range,
			  uint64_t *count)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	sqlite3_stmt *stmt;
	int rc, r;

	r = prepare_listing(ledger, conn, f, range->end, true, &stmt);
	if (r == 0) {
		bind_listing(stmt, f, range);
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW)
			*count += (uint64_t)sqlite3_column_int64(stmt, 0);
		else
			r = ledger_fail(ledger, conn, rc, "cannot count the ledger's rows");
		sqlite3_finalize(stmt);
	}
	ledger_unlock(conn);
	return r;
}

int ledger_count(struct ledger *ledger, const struct ledger_filter *filter, uint64_t *ret_count)
{
	int nranges = filter->prefix && filter->prefix[0] ? 2 : 1;
	uint64_t count = 0;
	struct range range;
	int r = 0;

	for (int i = 0; r == 0 && i < nranges; i++) {
		r = range_init(&range, filter->prefix, i);
		if (r == 0)
			r = count_in_range(ledger, filter, &range, &count);
		range_fini(&range);
	}
	if (r == 0)
		*ret_count = count;
	return r;
}

int ledger_has_below(struct ledger *ledger, const char *path)
{
	struct ledger_conn *conn;
	struct range range = { 0 };
	sqlite3_stmt *stmt;
	int rc, r;

	r = range_init(&range, path, 1);
	if (r < 0)
		goto out;
	conn = ledger_reading(ledger);
	if (!path[0])
		r = ledger_prepare(ledger, conn, STMT_ANY, "SELECT EXISTS(SELECT 1 FROM file)", &stmt);
	else
		r = ledger_prepare(ledger, conn, STMT_BELOW,
				   "SELECT EXISTS(SELECT 1 FROM file WHERE path = ?1)"
				   " OR EXISTS(SELECT 1 FROM file WHERE path >= ?2 AND path < ?3)", &stmt);
	if (r == 0) {
		if (path[0]) {
			sqlite3_bind_blob64(stmt, 1, path, strlen(path), SQLITE_STATIC);
			sqlite3_bind_blob64(stmt, 2, range.path, range.path_len, SQLITE_STATIC);
			sqlite3_bind_blob64(stmt, 3, range.end, range.end_len, SQLITE_STATIC);
		}
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW)
			r = sqlite3_column_int(stmt, 0);
		else
			r = ledger_fail(ledger, conn, rc, "cannot look below a directory");
		sqlite3_reset(stmt);
	}
	ledger_unlock(conn);
out:
	range_fini(&range);
	return r;
}
