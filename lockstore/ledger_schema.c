/* The tables of the ledger: how they are made, recognised and brought up to date.
 *
 * A file at its final name always has the whole schema: it is made under another name and linked.
 * Nothing is written to a database that is not ours or newer than this program. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* file_path carries what most filters ask, so that a row is read only when it matches; its order is
 * the order of a listing. key makes equal paths distinct for the cursor. */
static const char version_1[] =
	"CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE counter(name TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;"
	"INSERT INTO counter VALUES('serial', 1);"
	"CREATE TABLE file("
	"  id INTEGER PRIMARY KEY,"
	"  key BLOB NOT NULL UNIQUE,"
	"  path BLOB NOT NULL,"
	"  flags INTEGER NOT NULL,"
	"  mode INTEGER NOT NULL,"
	"  rec_holds INTEGER NOT NULL,"		/* the count in the record */
	"  rec_rule INTEGER NOT NULL,"
	"  committed_s INTEGER NOT NULL,"
	"  until_s INTEGER NOT NULL,"		/* retention.h; the two words are the ends of int64 */
	"  serial INTEGER NOT NULL,"
	"  size_bytes INTEGER NOT NULL,"
	"  mtime_ns INTEGER NOT NULL,"
	"  uid INTEGER NOT NULL,"
	"  gid INTEGER NOT NULL,"
	"  holds INTEGER NOT NULL,"		/* the number of its rows in hold */
	"  rule TEXT NOT NULL,"
	"  sha256 BLOB);"
	"CREATE INDEX file_path ON file(path, key, until_s, holds, rec_holds);"
	"CREATE INDEX file_uid ON file(uid, path, key);"
	"CREATE INDEX file_held ON file(path, key) WHERE holds + rec_holds > 0;"
	"CREATE TABLE hold("
	"  file INTEGER NOT NULL,"		/* file.id */
	"  name TEXT NOT NULL,"
	"  by_uid INTEGER NOT NULL,"
	"  at_s INTEGER NOT NULL,"
	"  PRIMARY KEY(file, name)) WITHOUT ROWID;"
	"CREATE TABLE pending("
	"  key BLOB PRIMARY KEY,"
	"  path BLOB NOT NULL,"
	"  reason INTEGER NOT NULL,"
	"  since_s INTEGER NOT NULL,"
	"  due_s INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX pending_due ON pending(due_s, key);";

/* Requests: orders about holds (ledger_orders.h), the generation of a record, requests that wait for a second person. */
static const char version_2[] =
	"ALTER TABLE file ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;"	/* record.h */
	"CREATE TABLE hold_order("
	"  id INTEGER PRIMARY KEY AUTOINCREMENT,"	/* never given twice */
	"  name TEXT NOT NULL,"
	"  state INTEGER NOT NULL,"		/* enum order_state */
	"  future INTEGER NOT NULL,"
	"  by_uid INTEGER NOT NULL,"
	"  at_s INTEGER NOT NULL,"
	"  reason TEXT NOT NULL,"
	"  files INTEGER NOT NULL DEFAULT 0,"
	"  bytes INTEGER NOT NULL DEFAULT 0);"
	"CREATE INDEX hold_order_name ON hold_order(name);"
	"CREATE TABLE hold_path("
	"  path BLOB NOT NULL,"
	"  ord INTEGER NOT NULL,"		/* hold_order.id */
	"  tree INTEGER NOT NULL,"		/* and all below it */
	"  PRIMARY KEY(path, ord)) WITHOUT ROWID;"
	"CREATE INDEX hold_path_ord ON hold_path(ord, path, tree);"
	"CREATE TABLE approval("
	"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  verb TEXT NOT NULL,"
	"  key BLOB NOT NULL,"
	"  path BLOB NOT NULL,"
	"  until_s INTEGER NOT NULL,"		/* shorten: the new end */
	"  reason TEXT NOT NULL,"
	"  by_uid INTEGER NOT NULL,"
	"  at_s INTEGER NOT NULL,"
	"  expires_s INTEGER NOT NULL);";

/* Rows without a digest, in the order in which they came: small when all is digested, whatever the table is. */
static const char version_3_digests[] =
	"CREATE INDEX file_undigested ON file(id) WHERE sha256 IS NULL;";

/* Locks pushed to a cluster (ledger_push.h). What waits is what the index has: a row is in it by what it says, not because somebody
 * put it there, so no crash can forget one. The same words are LEDGER_PUSH_WAITS. */
static const char version_4_push[] =
	"ALTER TABLE file ADD COLUMN push INTEGER NOT NULL DEFAULT 0;"		/* enum ledger_push */
	"ALTER TABLE file ADD COLUMN pushed_until_s INTEGER;"			/* NULL: none was */
	"ALTER TABLE file ADD COLUMN pushed_hold INTEGER NOT NULL DEFAULT 0;"	/* enum ledger_pushed_hold */
	"ALTER TABLE file ADD COLUMN push_release INTEGER NOT NULL DEFAULT 0;"	/* somebody released a hold since it was pushed */
	"ALTER TABLE file ADD COLUMN push_state INTEGER NOT NULL DEFAULT 0;"	/* enum ledger_push_state */
	"ALTER TABLE file ADD COLUMN push_due_ms INTEGER NOT NULL DEFAULT 0;"	/* wall time; 0: at once */
	"ALTER TABLE file ADD COLUMN push_tries INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE file ADD COLUMN push_status INTEGER NOT NULL DEFAULT 0;"	/* of HTTP, 0: none came */
	"ALTER TABLE file ADD COLUMN push_class TEXT;"
	"ALTER TABLE file ADD COLUMN push_error TEXT;"
	"CREATE INDEX file_unpushed ON file(push_due_ms, id) WHERE " LEDGER_PUSH_WAITS ";"
	"CREATE INDEX file_push_failed ON file(id) WHERE push_state >= 2;";

/* Limits of our own and what is used of them (ledger_limits.h). */
static const char version_5_limits[] =
	"CREATE TABLE quota_usage("
	"  key BLOB PRIMARY KEY,"		/* limit_section.key */
	"  id INTEGER NOT NULL,"
	"  bytes INTEGER NOT NULL,"
	"  files INTEGER NOT NULL,"
	"  bytes_since_s INTEGER NOT NULL,"	/* clock of retention: over soft since then, 0: not */
	"  files_since_s INTEGER NOT NULL,"
	"  bytes_advisory INTEGER NOT NULL,"
	"  bytes_soft INTEGER NOT NULL,"
	"  bytes_hard INTEGER NOT NULL,"
	"  files_advisory INTEGER NOT NULL,"
	"  files_soft INTEGER NOT NULL,"
	"  files_hard INTEGER NOT NULL,"
	"  grace_s INTEGER NOT NULL) WITHOUT ROWID;";

const struct ledger_migration ledger_migrations[LEDGER_SCHEMA_VERSION] = {
	{ version_1 },
	{ version_2 },
	{ version_3_digests },
	{ version_4_push },
	{ version_5_limits },
};

static int read_pragma(sqlite3 *db, const char *sql, int64_t *ret_value)
{
	sqlite3_stmt *stmt;
	int rc;

	rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_ERROR : rc;
}

int ledger_schema_check(sqlite3 *db, unsigned nmigrations, unsigned *ret_version,
			char ret_message[LEDGER_MESSAGE_BYTES])
{
	int64_t id, version;
	int rc;

	rc = read_pragma(db, "PRAGMA application_id", &id);
	if (rc == SQLITE_OK)
		rc = read_pragma(db, "PRAGMA user_version", &version);
	if (rc != SQLITE_OK)
		return ledger_explain(db, rc, "cannot read the ledger", ret_message);
	if (id != LEDGER_APPLICATION_ID || version < 1) {
		snprintf(ret_message, LEDGER_MESSAGE_BYTES, "the database is not a ledger of wormfs");
		return -EBADMSG;
	}
	if (version > nmigrations) {
		snprintf(ret_message, LEDGER_MESSAGE_BYTES,
			 "the ledger has schema %lld, this program knows up to %u", (long long)version, nmigrations);
		return -EBADMSG;
	}
	*ret_version = (unsigned)version;
	return 0;
}

int ledger_schema_migrate(sqlite3 *db, const struct ledger_migration *migrations, unsigned nmigrations,
			  char ret_message[LEDGER_MESSAGE_BYTES])
{
	char sql[64], what[64] = "cannot upgrade the ledger";
	int64_t version;
	int rc, r;

	rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return ledger_explain(db, rc, what, ret_message);
	/* Again, now that nobody else can be upgrading it. */
	rc = read_pragma(db, "PRAGMA user_version", &version);
	for (; rc == SQLITE_OK && version < nmigrations; version++) {
		snprintf(what, sizeof(what), "cannot upgrade the ledger to schema %lld", (long long)version + 1);
		rc = sqlite3_exec(db, migrations[version].sql, NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK) {
		snprintf(sql, sizeof(sql), "PRAGMA user_version=%u", nmigrations);
		rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		return 0;
	r = ledger_explain(db, rc, what, ret_message);
	(void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);	/* may have happened by itself */
	return r;
}

int ledger_schema_check_tables(sqlite3 *db, char ret_message[LEDGER_MESSAGE_BYTES])
{
	static const char *const questions[] = {
		"SELECT name, value FROM meta LIMIT 0",
		"SELECT next FROM counter LIMIT 0",
		"SELECT id, key, path, flags, mode, rec_holds, rec_rule, committed_s, until_s, serial, size_bytes,"
		" mtime_ns, uid, gid, holds, rule, sha256, generation, push, pushed_until_s, pushed_hold, push_release, push_state,"
		" push_due_ms, push_tries, push_status, push_class, push_error FROM file LIMIT 0",
		"SELECT file, name, by_uid, at_s FROM hold LIMIT 0",
		"SELECT key, path, reason, since_s, due_s FROM pending LIMIT 0",
		"SELECT id, name, state, future, by_uid, at_s, reason, files, bytes FROM hold_order LIMIT 0",
		"SELECT path, ord, tree FROM hold_path LIMIT 0",
		"SELECT id, verb, key, path, until_s, reason, by_uid, at_s, expires_s FROM approval LIMIT 0",
		"SELECT key, id, bytes, files, bytes_since_s, files_since_s, bytes_advisory, bytes_soft, bytes_hard, files_advisory,"
		" files_soft, files_hard, grace_s FROM quota_usage LIMIT 0",
	};

	for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
		int rc = sqlite3_exec(db, questions[i], NULL, NULL, NULL);

		/* "no such table" has only the general code; every damage has one of its own. */
		if (rc == SQLITE_ERROR) {
			snprintf(ret_message, LEDGER_MESSAGE_BYTES, "the ledger's tables are not ours: %s",
				 sqlite3_errmsg(db));
			return -EBADMSG;
		}
		if (rc != SQLITE_OK)
			return ledger_explain(db, rc, "cannot read the ledger", ret_message);
	}
	return 0;
}

static int write_new(const char *path, const char *share_id, const struct ledger_migration *migrations,
		     unsigned nmigrations, char ret_message[LEDGER_MESSAGE_BYTES])
{
	static const char what[] = "cannot make the ledger";
	sqlite3 *db = NULL;
	char *sql = NULL;
	int rc, r;

	rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_extended_result_codes(db, 1);
		/* A kill leaves a file that nobody will open: no journal, the caller syncs the whole. */
		sql = sqlite3_mprintf("PRAGMA journal_mode=OFF; PRAGMA application_id=%d", LEDGER_APPLICATION_ID);
		rc = sql ? sqlite3_exec(db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
		sqlite3_free(sql);
		sql = NULL;
	}
	if (rc != SQLITE_OK) {
		r = ledger_explain(db, rc, what, ret_message);
		goto out;
	}
	r = ledger_schema_migrate(db, migrations, nmigrations, ret_message);
	if (r < 0 || !share_id)
		goto out;
	sql = sqlite3_mprintf("INSERT INTO meta VALUES(%Q, %Q)", LEDGER_META_SHARE, share_id);
	rc = sql ? sqlite3_exec(db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
	if (rc != SQLITE_OK)
		r = ledger_explain(db, rc, what, ret_message);
out:
	sqlite3_free(sql);
	sqlite3_close(db);
	return r;
}

/* What a ledger that is gone left behind: SQLite would carry its pages over into the new file. */
static int remove_stale(const char *path)
{
	static const char *const suffixes[] = { "-wal", "-shm", "-journal" };
	char *name;

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		int r = 0;

		if (asprintf(&name, "%s%s", path, suffixes[i]) < 0)
			return -ENOMEM;
		if (unlink(name) < 0 && errno != ENOENT)
			r = -errno;
		free(name);
		if (r < 0)
			return r;
	}
	return 0;
}

/* One creator at a time. Bounded, since the lock is on a directory that others may lock as well. */
static int lock_directory(int dir_fd)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (int waited_ms = 0; flock(dir_fd, LOCK_EX | LOCK_NB) < 0; waited_ms += 10) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (waited_ms >= LEDGER_BUSY_TIMEOUT_MS)
			return -EBUSY;
		(void)nanosleep(&pause, NULL);	/* a signal only makes the next look earlier */
	}
	return 0;
}

int ledger_schema_create(const char *state_dir, const char *path, const char *share_id,
			 const struct ledger_migration *migrations, unsigned nmigrations,
			 char ret_message[LEDGER_MESSAGE_BYTES])
{
	char *temporary = NULL;
	int dir_fd, fd = -1, r;

	ret_message[0] = '\0';
	dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		r = -errno;
		goto out;
	}
	r = lock_directory(dir_fd);
	if (r < 0 || access(path, F_OK) == 0)
		goto out;
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		temporary = NULL;
		r = -ENOMEM;
		goto out;
	}
	fd = mkostemp(temporary, O_CLOEXEC);	/* mode 0600, which SQLite gives the files beside it, too */
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = write_new(temporary, share_id, migrations, nmigrations, ret_message);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	/* Before the name is final: closing any descriptor of a file drops all locks of this process on it.
	 * Source: fcntl(2), record locks. */
	close(fd);
	fd = -1;
	if (r == 0)
		r = remove_stale(path);
	if (r == 0 && (link(temporary, path) < 0 || fsync(dir_fd) < 0))
		r = -errno;
	(void)unlink(temporary);	/* a leftover is a second name, or a file that nobody opens */
out:
	if (r < 0 && !ret_message[0])
		snprintf(ret_message, LEDGER_MESSAGE_BYTES, "cannot make the ledger in '%.128s': %s", state_dir,
			 strerror(-r));
	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	free(temporary);
	return r;
}
