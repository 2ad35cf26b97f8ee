/* The ledger: its connections, transactions, errors, and the small tables (meta, counters).
 *
 * Between ledger_begin() and the end of the transaction its thread holds writer.lock, so that no
 * change of another thread can slip into a batch and be rolled back with it. SQLite may end a
 * transaction by itself when the disk is full; every later change of that batch then fails, and none
 * becomes a transaction of its own. */
#include "lockstore/ledger_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(ledger_migrations) / sizeof(ledger_migrations[0]) == LEDGER_SCHEMA_VERSION,
	       "every version has its step");

static _Thread_local char open_message[LEDGER_MESSAGE_BYTES];	/* of a handle that there never was */
static _Thread_local char said_message[LEDGER_MESSAGE_BYTES];
static _Thread_local char this_thread_has_this;	/* its address tells threads apart; gettid() is a system call */

int ledger_errno(sqlite3 *db, int rc)
{
	int system = db ? sqlite3_system_errno(db) : 0;

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOTADB:
		return -EBADMSG;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return system > 0 ? -system : -EIO;
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_NOMEM)
			return -ENOMEM;
		return system == ENOSPC || system == EDQUOT ? -ENOSPC : system == EROFS ? -EROFS : -EIO;
	default:
		return -EIO;
	}
}

int ledger_explain(sqlite3 *db, int rc, const char *what, char ret_message[LEDGER_MESSAGE_BYTES])
{
	int r = ledger_errno(db, rc);

	snprintf(ret_message, LEDGER_MESSAGE_BYTES, "%s: %s (%s)", what,
		 db ? sqlite3_errmsg(db) : sqlite3_errstr(rc), strerror(-r));
	return r;
}

int ledger_fail(struct ledger *ledger, struct ledger_conn *conn, int rc, const char *what)
{
	int r;

	pthread_mutex_lock(&ledger->message_lock);
	r = ledger_explain(conn->db, rc, what, ledger->message);
	pthread_mutex_unlock(&ledger->message_lock);
	return r;
}

int ledger_say(struct ledger *ledger, int r, const char *message)
{
	pthread_mutex_lock(&ledger->message_lock);
	snprintf(ledger->message, sizeof(ledger->message), "%s", message);
	pthread_mutex_unlock(&ledger->message_lock);
	return r;
}

const char *ledger_error(struct ledger *ledger)
{
	if (!ledger)
		return open_message;
	pthread_mutex_lock(&ledger->message_lock);
	memcpy(said_message, ledger->message, sizeof(said_message));
	pthread_mutex_unlock(&ledger->message_lock);
	return said_message;
}

static uintptr_t this_thread(void)
{
	return (uintptr_t)&this_thread_has_this;
}

static bool in_own_transaction(struct ledger *ledger)
{
	/* Only the owner itself can find its own number here. */
	return atomic_load_explicit(&ledger->owner, memory_order_relaxed) == this_thread();
}

struct ledger_conn *ledger_reading(struct ledger *ledger)
{
	struct ledger_conn *conn = in_own_transaction(ledger) ? &ledger->writer : &ledger->reader;

	pthread_mutex_lock(&conn->lock);
	return conn;
}

struct ledger_conn *ledger_scanning(struct ledger *ledger)
{
	struct ledger_conn *conn = in_own_transaction(ledger) ? &ledger->writer : &ledger->scanner;

	pthread_mutex_lock(&conn->lock);
	return conn;
}

void ledger_unlock(struct ledger_conn *conn)
{
	pthread_mutex_unlock(&conn->lock);
}

int ledger_prepare(struct ledger *ledger, struct ledger_conn *conn, enum ledger_statement which, const char *sql,
		   sqlite3_stmt **ret_stmt)
{
	int rc;

	if (!conn->stmts[which]) {
		rc = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &conn->stmts[which], NULL);
		if (rc != SQLITE_OK)
			return ledger_fail(ledger, conn, rc, "cannot ask the ledger");
	}
	*ret_stmt = conn->stmts[which];
	return 0;
}

int ledger_run(struct ledger *ledger, struct ledger_conn *conn, sqlite3_stmt *stmt, const char *what)
{
	int rc, r = 0;

	do {
		rc = sqlite3_step(stmt);
	} while (rc == SQLITE_ROW);
	if (rc != SQLITE_DONE)
		r = ledger_fail(ledger, conn, rc, what);
	sqlite3_reset(stmt);	/* returns the error of the step again */
	return r;
}

static int run_fixed(struct ledger *ledger, enum ledger_statement which, const char *sql, const char *what)
{
	sqlite3_stmt *stmt = NULL;
	int r;

	r = ledger_prepare(ledger, &ledger->writer, which, sql, &stmt);
	return r < 0 ? r : ledger_run(ledger, &ledger->writer, stmt, what);
}

/* The caller holds writer.lock. */
static int start_transaction(struct ledger *ledger)
{
	if (!ledger->writer.db)
		return ledger_say(ledger, -EROFS, "the ledger is open for reading only");
	return run_fixed(ledger, STMT_BEGIN, "BEGIN IMMEDIATE", "cannot begin a change of the ledger");
}

static void undo_transaction(struct ledger *ledger)
{
	ledger->next_serial = 0;
	if (sqlite3_get_autocommit(ledger->writer.db))
		return;		/* SQLite has done it already */
	if (run_fixed(ledger, STMT_ROLLBACK, "ROLLBACK", "cannot undo") < 0)
		/* Out of memory for the statement: this way needs none that is cached. */
		(void)sqlite3_exec(ledger->writer.db, "ROLLBACK", NULL, NULL, NULL);
}

static int end_transaction(struct ledger *ledger)
{
	int r;

	if (sqlite3_get_autocommit(ledger->writer.db))
		return -EIO;	/* the error that ended it has been reported, its message stays */
	r = run_fixed(ledger, STMT_COMMIT, "COMMIT", "cannot make a change of the ledger durable");
	if (r < 0)
		undo_transaction(ledger);
	return r;
}

int ledger_begin(struct ledger *ledger)
{
	int r;

	if (in_own_transaction(ledger))
		return ledger_say(ledger, -EINVAL, "a transaction of the ledger is open already");
	pthread_mutex_lock(&ledger->writer.lock);
	r = start_transaction(ledger);
	if (r < 0)
		pthread_mutex_unlock(&ledger->writer.lock);
	else
		atomic_store_explicit(&ledger->owner, this_thread(), memory_order_relaxed);
	return r;
}

int ledger_commit(struct ledger *ledger)
{
	int r;

	if (!in_own_transaction(ledger))
		return ledger_say(ledger, -EINVAL, "no transaction of the ledger is open");
	r = end_transaction(ledger);
	if (r < 0)
		ledger->next_serial = 0;
	atomic_store_explicit(&ledger->owner, 0, memory_order_relaxed);
	pthread_mutex_unlock(&ledger->writer.lock);
	return r;
}

void ledger_rollback(struct ledger *ledger)
{
	if (!in_own_transaction(ledger))
		return;
	undo_transaction(ledger);
	atomic_store_explicit(&ledger->owner, 0, memory_order_relaxed);
	pthread_mutex_unlock(&ledger->writer.lock);
}

int ledger_change(struct ledger *ledger)
{
	int r;

	pthread_mutex_lock(&ledger->writer.lock);
	if (!in_own_transaction(ledger))
		r = start_transaction(ledger);
	else
		r = sqlite3_get_autocommit(ledger->writer.db) ? -EIO : 0;
	if (r < 0)
		pthread_mutex_unlock(&ledger->writer.lock);
	return r;
}

int ledger_change_end(struct ledger *ledger, int r)
{
	if (!in_own_transaction(ledger)) {
		if (r < 0)
			undo_transaction(ledger);
		else
			r = end_transaction(ledger);
	}
	pthread_mutex_unlock(&ledger->writer.lock);
	return r;
}

/* `immutable`: SQLite takes no locks and needs no -shm file; only for a file that nobody changes. */
static char *database_uri(const char *path, bool immutable)
{
	static const char hex[] = "0123456789ABCDEF";
	char *uri = malloc(3 * strlen(path) + sizeof("file:?immutable=1")), *p = uri;

	if (!uri)
		return NULL;
	p = stpcpy(p, "file:");
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c > ' ' && c < 127 && !strchr("?#%", c)) {
			*p++ = (char)c;
		} else {
			*p++ = '%';
			*p++ = hex[c >> 4];
			*p++ = hex[c & 15];
		}
	}
	strcpy(p, immutable ? "?immutable=1" : "");
	return uri;
}

static int connect(struct ledger_conn *conn, const char *path, bool write, bool immutable)
{
	char *uri = database_uri(path, immutable);
	int flags = (write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
	int rc;

	if (!uri)
		return ledger_explain(NULL, SQLITE_NOMEM, "cannot open the ledger", open_message);
	rc = sqlite3_open_v2(uri, &conn->db, flags, NULL);
	free(uri);
	if (rc != SQLITE_OK)
		return ledger_explain(conn->db, rc, "cannot open the ledger", open_message);
	if (write && sqlite3_db_readonly(conn->db, "main") == 1) {
		/* SQLite falls back to reading by itself, whatever the reason. */
		int r = access(path, W_OK) < 0 ? -errno : -EROFS;

		snprintf(open_message, sizeof(open_message), "the ledger cannot be written: %s", strerror(-r));
		return r;
	}
	sqlite3_extended_result_codes(conn->db, 1);
	sqlite3_busy_timeout(conn->db, LEDGER_BUSY_TIMEOUT_MS);
	sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);	/* no script in the file */
	rc = sqlite3_exec(conn->db, "PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY;"
			  "PRAGMA cell_size_check=ON; PRAGMA synchronous=FULL;", NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : ledger_explain(conn->db, rc, "cannot open the ledger", open_message);
}

/* There are changes beside the file that are not carried over yet. */
static bool has_log(const char *path)
{
	struct stat st;
	char *wal;
	bool has;

	if (asprintf(&wal, "%s-wal", path) < 0)
		return true;
	has = stat(wal, &st) == 0 ? st.st_size > 0 : errno != ENOENT;
	free(wal);
	return has;
}

/* Somebody may have the ledger open. */
static bool has_shared_memory(const char *path)
{
	char *shm;
	bool has;

	if (asprintf(&shm, "%s-shm", path) < 0)
		return true;
	has = access(shm, F_OK) == 0 || errno != ENOENT;
	free(shm);
	return has;
}

static int set_wal(sqlite3 *db)
{
	sqlite3_stmt *stmt = NULL;
	bool is_wal = false;
	int rc;

	rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(stmt);
		is_wal = rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") == 0;
		sqlite3_finalize(stmt);
	}
	if (is_wal)
		return 0;
	if (rc != SQLITE_ROW)
		return ledger_explain(db, rc, "cannot open the ledger's log", open_message);
	snprintf(open_message, sizeof(open_message),
		 "the filesystem of the state directory cannot map shared memory, which the ledger needs");
	return -EOPNOTSUPP;
}

static void conn_init(struct ledger_conn *conn)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&conn->lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

static void conn_fini(struct ledger_conn *conn)
{
	for (int i = 0; i < NSTATEMENTS; i++)
		sqlite3_finalize(conn->stmts[i]);
	sqlite3_close(conn->db);
	pthread_mutex_destroy(&conn->lock);
}

static int open_write(struct ledger *ledger, const char *path, const struct ledger_migration *migrations,
		      unsigned nmigrations)
{
	bool log = has_log(path);
	unsigned version;
	int r;

	r = connect(&ledger->writer, path, true, false);
	if (r < 0)
		return r;
	/* Until it is known to be ours, nothing is carried over into it. */
	if (log)
		sqlite3_db_config(ledger->writer.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	r = ledger_schema_check(ledger->writer.db, nmigrations, &version, open_message);
	if (r < 0)
		return r;
	if (version == nmigrations) {	/* before set_wal(), which writes; an older one is checked when upgraded */
		r = ledger_schema_check_tables(ledger->writer.db, open_message);
		if (r < 0)
			return r;
	}
	r = set_wal(ledger->writer.db);
	if (r < 0)
		return r;
	sqlite3_db_config(ledger->writer.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	if (version < nmigrations) {
		r = ledger_schema_migrate(ledger->writer.db, migrations, nmigrations, open_message);
		if (r < 0)
			return r;
	}
	r = connect(&ledger->reader, path, false, false);
	if (r < 0)
		return r;
	return connect(&ledger->scanner, path, false, false);
}

/* -EUCLEAN: of an older schema. */
static int open_readers(struct ledger *ledger, const char *path, bool immutable, unsigned nmigrations)
{
	unsigned version;
	int r;

	r = connect(&ledger->reader, path, false, immutable);
	if (r < 0)
		return r;
	r = ledger_schema_check(ledger->reader.db, nmigrations, &version, open_message);
	if (r < 0)
		return r;
	if (version < nmigrations) {
		snprintf(open_message, sizeof(open_message),
			 "the ledger has the older schema %u: it must be opened for writing once", version);
		return -EUCLEAN;
	}
	return connect(&ledger->scanner, path, false, immutable);
}

static int open_read(struct ledger *ledger, const char *path, unsigned nmigrations)
{
	int r;

	r = open_readers(ledger, path, false, nmigrations);
	/* Where we cannot make the -shm file, SQLite does not read a WAL database that nobody has open. But then
	 * the file alone is the whole truth, and nobody changes it. */
	if (r < 0 && r != -EBADMSG && r != -EUCLEAN && !has_log(path) && !has_shared_memory(path)) {
		sqlite3_close(ledger->reader.db);
		ledger->reader.db = NULL;
		r = open_readers(ledger, path, true, nmigrations);
	}
	return r == -EUCLEAN ? -EROFS : r;
}

static int check_share(struct ledger *ledger, const char *share_id)
{
	char *value = NULL;
	int r;

	r = ledger_meta_get(ledger, LEDGER_META_SHARE, &value);
	if (r == -ENOENT || (r == 0 && strcmp(value, share_id) != 0)) {
		snprintf(open_message, sizeof(open_message), "the ledger belongs to share '%.100s', not to '%.100s'",
			 value ? value : "", share_id);
		r = -EXDEV;
	} else if (r < 0) {
		memcpy(open_message, ledger->message, sizeof(open_message));
	}
	free(value);
	return r;
}

int ledger_open_versions(const char *state_dir, int flags, const char *share_id,
			 const struct ledger_migration *migrations, unsigned nmigrations,
			 struct ledger **ret_ledger)
{
	struct ledger *ledger = NULL;
	struct stat st;
	char *path = NULL;
	int r;

	open_message[0] = '\0';
	ledger = calloc(1, sizeof(*ledger));
	if (!ledger || asprintf(&path, "%s/%s", state_dir, LEDGER_FILE) < 0) {
		free(ledger);
		return -ENOMEM;
	}
	conn_init(&ledger->writer);
	conn_init(&ledger->reader);
	conn_init(&ledger->scanner);
	pthread_mutex_init(&ledger->message_lock, NULL);
	if (stat(path, &st) < 0) {
		r = -errno;
		if (r == -ENOENT && (flags & LEDGER_CREATE) && !(flags & LEDGER_READONLY))
			r = ledger_schema_create(state_dir, path, share_id, migrations, nmigrations, open_message);
		else
			snprintf(open_message, sizeof(open_message), "cannot open the ledger '%.128s': %s", path,
				 strerror(-r));
		if (r < 0)
			goto out;
	}
	if (flags & LEDGER_READONLY)
		r = open_read(ledger, path, nmigrations);
	else
		r = open_write(ledger, path, migrations, nmigrations);
	if (r < 0)
		goto out;
	r = ledger_schema_check_tables(ledger->reader.db, open_message);
	if (r < 0)
		goto out;
	if (share_id) {
		r = check_share(ledger, share_id);
		if (r < 0)
			goto out;
	}
	*ret_ledger = ledger;
	ledger = NULL;
	r = 0;
out:
	ledger_close(ledger);
	free(path);
	return r;
}

int ledger_open(const char *state_dir, int flags, const char *share_id, struct ledger **ret_ledger)
{
	return ledger_open_versions(state_dir, flags, share_id, ledger_migrations, LEDGER_SCHEMA_VERSION, ret_ledger);
}

void ledger_close(struct ledger *ledger)
{
	if (!ledger)
		return;
	/* The writer last: the last connection carries the log over into the file, and removes it. */
	conn_fini(&ledger->scanner);
	conn_fini(&ledger->reader);
	conn_fini(&ledger->writer);
	pthread_mutex_destroy(&ledger->message_lock);
	free(ledger);
}

int ledger_meta_get(struct ledger *ledger, const char *name, char **ret_value)
{
	struct ledger_conn *conn = ledger_reading(ledger);
	sqlite3_stmt *stmt;
	char *value;
	int rc, r;

	r = ledger_prepare(ledger, conn, STMT_META_GET, "SELECT value FROM meta WHERE name = ?1", &stmt);
	if (r < 0)
		goto out;
	sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		value = strdup((const char *)sqlite3_column_text(stmt, 0));
		r = value ? 0 : -ENOMEM;
		if (value)
			*ret_value = value;
	} else {
		r = rc == SQLITE_DONE ? -ENOENT : ledger_fail(ledger, conn, rc, "cannot read a value of the ledger");
	}
	sqlite3_reset(stmt);
out:
	ledger_unlock(conn);
	return r;
}

int ledger_meta_set(struct ledger *ledger, const char *name, const char *value)
{
	sqlite3_stmt *stmt;
	int r;

	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_META_SET,
			   "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
			   &stmt);
	if (r == 0) {
		sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, value, -1, SQLITE_STATIC);
		r = ledger_run(ledger, &ledger->writer, stmt, "cannot store a value in the ledger");
	}
	return ledger_change_end(ledger, r);
}

int ledger_reserve_serials(struct ledger *ledger, uint64_t n, uint64_t *ret_first)
{
	sqlite3_stmt *stmt;
	int64_t first = 0;
	int rc, r;

	/* A batch that is undone would give its numbers out again. */
	if (n == 0 || in_own_transaction(ledger))
		return ledger_say(ledger, -EINVAL, "serial numbers are reserved in a transaction of their own");
	r = ledger_change(ledger);
	if (r < 0)
		return r;
	r = ledger_prepare(ledger, &ledger->writer, STMT_COUNTER_GET, "SELECT next FROM counter WHERE name = 'serial'",
			   &stmt);
	if (r < 0)
		goto out;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		first = sqlite3_column_int64(stmt, 0);
	else
		r = rc == SQLITE_DONE ? ledger_say(ledger, -EIO, "the ledger has lost its serial numbers") :
					ledger_fail(ledger, &ledger->writer, rc, "cannot read the serial number");
	sqlite3_reset(stmt);
	if (r < 0)
		goto out;
	if (first < 1 || n > (uint64_t)(INT64_MAX - first)) {
		r = ledger_say(ledger, -EOVERFLOW, "the ledger has no more serial numbers");
		goto out;
	}
	r = ledger_prepare(ledger, &ledger->writer, STMT_COUNTER_SET,
			   "UPDATE counter SET next = ?1 WHERE name = 'serial'", &stmt);
	if (r < 0)
		goto out;
	sqlite3_bind_int64(stmt, 1, first + (int64_t)n);
	r = ledger_run(ledger, &ledger->writer, stmt, "cannot reserve serial numbers");
	if (r == 0)
		ledger->next_serial = (uint64_t)first + n;
out:
	r = ledger_change_end(ledger, r);
	if (r == 0)
		*ret_first = (uint64_t)first;
	return r;
}

int ledger_check(struct ledger *ledger)
{
	struct ledger_conn *conn = ledger_scanning(ledger);
	sqlite3_stmt *stmt = NULL;
	const char *found;
	int rc, r = 0;

	rc = sqlite3_prepare_v2(conn->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		found = (const char *)sqlite3_column_text(stmt, 0);
		if (!found || strcmp(found, "ok") != 0)
			r = ledger_say(ledger, -EIO, found ? found : "the ledger is damaged");
	} else {
		r = ledger_fail(ledger, conn, rc, "cannot check the ledger");
	}
	sqlite3_finalize(stmt);
	ledger_unlock(conn);
	return r;
}
