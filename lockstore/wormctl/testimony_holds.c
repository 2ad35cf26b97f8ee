/* One table, one transaction that is never ended: nobody else reads it, and it goes with its connection. */
#include "lockstore/wormctl/testimony_holds.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct testimony_holds {
	sqlite3 *db;
	sqlite3_stmt *put, *each;
};

static int errno_of(int rc)
{
	switch (rc) {
	case SQLITE_OK:
	case SQLITE_DONE:
		return 0;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	default:
		return -EIO;
	}
}

int testimony_holds_open(struct testimony_holds **ret)
{
	struct testimony_holds *holds = calloc(1, sizeof(*holds));
	int rc;

	if (!holds)
		return -ENOMEM;
	rc = sqlite3_open_v2("", &holds->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(holds->db,
				  "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"
				  "CREATE TABLE said (serial INTEGER, name BLOB, key_hash INTEGER, what INTEGER, seq INTEGER,"
				  " PRIMARY KEY (serial, name)) WITHOUT ROWID", NULL, NULL, NULL);
	/* No file has the hash 0 here: once two files were meant, every later line differs, too. */
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(holds->db,
					"INSERT INTO said VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET seq = excluded.seq,"
					" what = CASE WHEN key_hash = excluded.key_hash THEN excluded.what ELSE ?6 END,"
					" key_hash = CASE WHEN key_hash = excluded.key_hash THEN key_hash ELSE 0 END", -1, &holds->put, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(holds->db, "SELECT name, what, seq FROM said WHERE serial = ?1 ORDER BY name", -1, &holds->each, NULL);
	if (rc != SQLITE_OK) {
		testimony_holds_close(holds);
		return errno_of(rc);
	}
	*ret = holds;
	return 0;
}

void testimony_holds_close(struct testimony_holds *holds)
{
	if (!holds)
		return;
	sqlite3_finalize(holds->put);
	sqlite3_finalize(holds->each);
	sqlite3_close(holds->db);
	free(holds);
}

int testimony_holds_put(struct testimony_holds *holds, uint64_t serial, uint32_t key_hash, const char *names, enum witness_hold what,
			uint64_t seq)
{
	int rc = SQLITE_DONE;

	for (size_t len; *names && rc == SQLITE_DONE; names += len + (names[len] == '\n')) {
		len = strcspn(names, "\n");
		if (len == 0 || len > CASE_NAME_MAX_BYTES)
			continue;
		sqlite3_bind_int64(holds->put, 1, (sqlite3_int64)serial);
		sqlite3_bind_blob(holds->put, 2, names, (int)len, SQLITE_STATIC);
		sqlite3_bind_int64(holds->put, 3, key_hash ? key_hash : 1);
		sqlite3_bind_int(holds->put, 4, what);
		sqlite3_bind_int64(holds->put, 5, (sqlite3_int64)seq);
		sqlite3_bind_int(holds->put, 6, WITNESS_HOLD_TRIED);
		rc = sqlite3_step(holds->put);
		sqlite3_reset(holds->put);
	}
	return errno_of(rc);
}

int testimony_holds_of(struct testimony_holds *holds, uint64_t serial)
{
	return errno_of(sqlite3_bind_int64(holds->each, 1, (sqlite3_int64)serial));
}

int testimony_holds_next(struct testimony_holds *holds, struct hold_said *ret)
{
	int rc = sqlite3_step(holds->each), len;
	const void *name;

	if (rc != SQLITE_ROW)
		return errno_of(rc);
	name = sqlite3_column_blob(holds->each, 0);
	len = sqlite3_column_bytes(holds->each, 0);
	if (!name || len <= 0 || len > CASE_NAME_MAX_BYTES)
		return -EIO;
	memcpy(ret->name, name, (size_t)len);
	ret->name[len] = '\0';
	ret->what = (enum witness_hold)sqlite3_column_int(holds->each, 1);
	ret->seq = (uint64_t)sqlite3_column_int64(holds->each, 2);
	return 1;
}

void testimony_holds_end(struct testimony_holds *holds)
{
	sqlite3_reset(holds->each);
}
