/* What the parts of the ledger share, and the tests that make it fail. Nobody else includes this.
 *
 * Three connections a handle, so that nobody waits for what has nothing to do with it: changes wait
 * for changes only, look-ups never for a batch that is being written, listings for nobody. WAL lets
 * the readers go on beside the writer. A thread inside ledger_begin() reads on the writer, to see its
 * own changes. Order of locks: writer, then message; reader and scanner are held alone, then message. */
#ifndef WORMFS_LEDGER_PRIVATE_H
#define WORMFS_LEDGER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sqlite3.h>
#include <stdint.h>

#include "lockstore/ledger.h"

#define LEDGER_APPLICATION_ID 0x574f524d	/* "WORM" */
#define LEDGER_BUSY_TIMEOUT_MS 10000
#define LEDGER_PAGE_ROWS 1000			/* of a listing */
#define LEDGER_MESSAGE_BYTES 256
#define LEDGER_META_SHARE "share_id"

/* Prepared once a connection. */
enum ledger_statement {
	STMT_BEGIN, STMT_COMMIT, STMT_ROLLBACK,
	STMT_META_GET, STMT_META_SET, STMT_COUNTER_GET, STMT_COUNTER_SET, STMT_COUNTER_RAISE,
	STMT_PUT, STMT_ID, STMT_REMOVE_HOLDS, STMT_REMOVE, STMT_UNTIL, STMT_EXTEND, STMT_FIND,
	STMT_ANY, STMT_BELOW,
	STMT_HOLD_ADD, STMT_HOLD_RELEASE, STMT_HOLD_COUNT, STMT_HOLDS, STMT_REC_HOLDS,
	STMT_ORDER_NEW, STMT_ORDER_ADD, STMT_ORDER_COVER,
	STMT_PENDING_PUT, STMT_PENDING_REMOVE, STMT_PENDING_PAGE, STMT_PENDING_COUNT, STMT_PENDING_FIND,
	STMT_UNDIGESTED_PAGE, STMT_UNDIGESTED_COUNT, STMT_DIGEST_SET,
	STMT_PUSH_DUE, STMT_PUSH_COUNT, STMT_PUSH_COUNT_FAILED, STMT_PUSH_SENDING, STMT_PUSH_DONE, STMT_PUSH_SETTLED, STMT_PUSH_FAILED,
	STMT_PUSH_UNWANTED, STMT_PUSH_FIND, STMT_PUSH_NEXT_DUE, STMT_HOLD_RELEASED,
	NSTATEMENTS
};

struct ledger_conn {
	pthread_mutex_t lock;	/* recursive: the owner of a transaction comes back */
	sqlite3 *db;		/* the rest under lock; NULL: the ledger is read-only */
	sqlite3_stmt *stmts[NSTATEMENTS];
};

struct ledger {
	struct ledger_conn writer, reader, scanner;
	_Atomic uintptr_t owner;	/* thread inside ledger_begin(), which holds writer.lock; else 0 */
	uint64_t next_serial;	/* writer.lock: the counter is at least this; 0: not known */
	pthread_mutex_t message_lock;
	char message[LEDGER_MESSAGE_BYTES];	/* message_lock */
};

/* Is something to be sent? A term of the index file_unpushed: who asks with the same words is answered by it. Nothing is sent of
 * what is append-only (the cluster would refuse its appends), and no release but one that somebody asked for. */
#define LEDGER_PUSH_WAITS \
	"push > 0 AND (flags & 1) = 0 AND (pushed_until_s IS NULL OR until_s > pushed_until_s OR (push_state = 3 AND until_s <> pushed_until_s)" \
	" OR (holds + rec_holds > 0 AND pushed_hold <> 1) OR (holds + rec_holds = 0 AND pushed_hold <> 0 AND push_release <> 0))"

/* migrations[n] takes a database from version n to n + 1; the first makes an empty one. */
struct ledger_migration {
	const char *sql;
};
extern const struct ledger_migration ledger_migrations[LEDGER_SCHEMA_VERSION];

/* ledger_open() with another history: nmigrations is the version that this program writes. */
int ledger_open_versions(const char *state_dir, int flags, const char *share_id,
			 const struct ledger_migration *migrations, unsigned nmigrations,
			 struct ledger **ret_ledger);

/* ledger_schema.c. On failure ret_message says why, in one sentence. */

/* Makes `path` with the whole schema under another name first; 0 also when it is there meanwhile. */
int ledger_schema_create(const char *state_dir, const char *path, const char *share_id,
			 const struct ledger_migration *migrations, unsigned nmigrations,
			 char ret_message[LEDGER_MESSAGE_BYTES]);
/* -EBADMSG: not a ledger or a newer one. ret_version is what the file has. */
int ledger_schema_check(sqlite3 *db, unsigned nmigrations, unsigned *ret_version,
			char ret_message[LEDGER_MESSAGE_BYTES]);
/* All missing steps in one transaction: all or nothing. */
int ledger_schema_migrate(sqlite3 *db, const struct ledger_migration *migrations, unsigned nmigrations,
			  char ret_message[LEDGER_MESSAGE_BYTES]);
/* Every table is there. */
int ledger_schema_check_tables(sqlite3 *db, char ret_message[LEDGER_MESSAGE_BYTES]);

/* ledger.c */

/* The one place where codes of SQLite become errnos. `rc` is not SQLITE_OK. */
int ledger_errno(sqlite3 *db, int rc);
/* "what: message of SQLite", and the errno. */
int ledger_explain(sqlite3 *db, int rc, const char *what, char ret_message[LEDGER_MESSAGE_BYTES]);
int ledger_fail(struct ledger *ledger, struct ledger_conn *conn, int rc, const char *what);
/* The same for what is not SQLite's: returns r. */
int ledger_say(struct ledger *ledger, int r, const char *message);

/* A connection to read on, locked. */
struct ledger_conn *ledger_reading(struct ledger *ledger);
struct ledger_conn *ledger_scanning(struct ledger *ledger);
void ledger_unlock(struct ledger_conn *conn);

/* Brackets one change: a transaction of its own unless this thread is inside ledger_begin(). The
 * second returns r, or the error of the commit; call it only after a successful first. */
int ledger_change(struct ledger *ledger);
int ledger_change_end(struct ledger *ledger, int r);

/* Prepared, reset and ready to bind. The caller resets it when done: a statement left in the middle
 * would hold its snapshot. */
int ledger_prepare(struct ledger *ledger, struct ledger_conn *conn, enum ledger_statement which, const char *sql,
		   sqlite3_stmt **ret_stmt);
/* Runs a statement without rows to its end and resets it. */
int ledger_run(struct ledger *ledger, struct ledger_conn *conn, sqlite3_stmt *stmt, const char *what);

static inline void ledger_bind_key(sqlite3_stmt *stmt, int at, const struct file_key *key)
{
	sqlite3_bind_blob(stmt, at, key->bytes, key->len, SQLITE_STATIC);
}

/* ledger_rows.c: the number of the row of a key, on the writer. -ENOENT: none. */
int ledger_row_id(struct ledger *ledger, const struct file_key *key, sqlite3_int64 *ret_id);
/* Between ledger_change() and ledger_change_end(). -EEXIST: has it already. */
#define LEDGER_BY_ORDER ((uid_t)-1)	/* by whoever gave the order for what comes, else uid 0 */
int ledger_hold_insert(struct ledger *ledger, const struct file_key *key, const char *case_name, uid_t by, int64_t at_s);
/* The page of a listing as SQL; the caller frees it with sqlite3_free(). For the plan test, too. */
char *ledger_filter_sql(const struct ledger_filter *filter, bool bounded, bool count);

#endif
