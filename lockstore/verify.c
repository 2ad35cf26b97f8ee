/* One table of kinds, one comparison for each pair of witnesses. */
#include "lockstore/verify.h"

#include <string.h>

#include "lockstore/retention.h"

static const struct { const char *name, *advice; } kinds[VERIFY_KINDS] = {
	[VERIFY_DATA] = { "data", "compare it with a backup, and check the disk" },
	[VERIFY_EDITED] = { "edited", "compare it with a backup: somebody changed it below the mount" },
	[VERIFY_REPLACED] = { "replaced", "get the file back; if it was restored on purpose, run wormctl reindex" },
	[VERIFY_MISSING] = { "missing", "get it back from a backup with its attributes, then run wormctl reindex" },
	[VERIFY_MOVED] = { "moved", "run wormctl reindex to learn its new name, then move it back with the mount stopped" },
	[VERIFY_STRIPPED] = { "stripped", "run wormctl status on it while it is mounted: the daemon writes the record again" },
	[VERIFY_UNVERIFIABLE] = { "unverifiable", "compare the key of the share with its copy; else compare the file with a backup" },
	[VERIFY_DIFFERS] = { "differs", "find out who changed it; wormctl reindex brings a ledger that lags up to date" },
	[VERIFY_FOREIGN] = { "foreign", "run wormctl reindex to take it into the ledger" },
	[VERIFY_COPIED] = { "copied", "find out which one is the original: wormctl list --json has the serial" },
	[VERIFY_UNLOGGED] = { "unlogged", "find out who locked it: wormctl audit show; a record that was made or brought in by hand has no line" },
	[VERIFY_LOG] = { "log", "run wormctl audit verify" },
};

const char *verify_kind_name(enum verify_kind kind)
{
	return kinds[kind].name;
}

const char *verify_kind_advice(enum verify_kind kind)
{
	return kinds[kind].advice;
}

static void compare_file(const struct verify_words *w, verify_fn fn, void *arg)
{
	const struct lock_record *rec = w->row.there ? &w->row.rec : &w->record.rec;
	char text[VERIFY_TEXT_BYTES];
	bool grows = rec->flags & RECORD_APPEND;

	if (!w->row.there && w->record.state != RECORD_GOOD)
		return;		/* nobody says what it should be */
	if (grows ? w->file.size_bytes < rec->size_bytes : w->file.size_bytes != rec->size_bytes) {
		snprintf(text, sizeof(text), "it has %llu bytes, and had %llu when it was locked",
			 (unsigned long long)w->file.size_bytes, (unsigned long long)rec->size_bytes);
		fn(arg, VERIFY_EDITED, text);
	} else if (!grows && w->file.mtime_ns != rec->mtime_ns) {
		fn(arg, VERIFY_EDITED, "its modification time is not what it was when it was locked");
	}
	if (w->row.has_digest && w->file.has_digest && memcmp(w->row.sha256, w->file.sha256, SHA256_BYTES) != 0)
		fn(arg, VERIFY_DATA, "its data has another SHA-256 than when it was locked");
}

/* Appends "; a on the file, b in the ledger". */
static void note(char text[VERIFY_TEXT_BYTES], const char *what, const char *on_file, const char *in_ledger)
{
	size_t len = strlen(text);

	snprintf(text + len, VERIFY_TEXT_BYTES - len, "%s%s is %s on the file and %s in the ledger", len ? ", " : "", what, on_file,
		 in_ledger);
}

static void note_number(char text[VERIFY_TEXT_BYTES], const char *what, uint64_t on_file, uint64_t in_ledger)
{
	char a[24], b[24];

	snprintf(a, sizeof(a), "%llu", (unsigned long long)on_file);
	snprintf(b, sizeof(b), "%llu", (unsigned long long)in_ledger);
	note(text, what, a, b);
}

static void note_time(char text[VERIFY_TEXT_BYTES], const char *what, int64_t on_file_s, int64_t in_ledger_s)
{
	char a[RETENTION_TEXT_BYTES], b[RETENTION_TEXT_BYTES];

	retention_format_until(on_file_s, a);
	retention_format_until(in_ledger_s, b);
	note(text, what, a, b);
}

static void compare_records(const struct lock_record *file, const struct verify_row *row, verify_fn fn, void *arg)
{
	char text[VERIFY_TEXT_BYTES] = "";
	uint16_t names = row->holds > UINT16_MAX ? UINT16_MAX : (uint16_t)row->holds;

	if (file->until_s != row->rec.until_s)
		note_time(text, "the end of retention", file->until_s, row->rec.until_s);
	if (file->generation != row->rec.generation)
		note_number(text, "the number of shortenings", file->generation, row->rec.generation);
	if (file->mode != row->rec.mode)
		note(text, "the mode", worm_mode_name(file->mode), worm_mode_name(row->rec.mode));
	if (file->holds != names)
		note_number(text, "the number of holds", file->holds, row->holds);
	if (file->serial != row->rec.serial)
		note_number(text, "the serial number", file->serial, row->rec.serial);
	if (file->committed_s != row->rec.committed_s)
		note_time(text, "the time of the lock", file->committed_s, row->rec.committed_s);
	if (file->size_bytes != row->rec.size_bytes)
		note_number(text, "the size", file->size_bytes, row->rec.size_bytes);
	else if (file->mtime_ns != row->rec.mtime_ns)
		note_number(text, "the modification time", (uint64_t)file->mtime_ns, (uint64_t)row->rec.mtime_ns);
	if ((file->flags ^ row->rec.flags) & RECORD_SETTLE)
		note(text, "settle time", "one", "another");
	if ((file->flags ^ row->rec.flags) & RECORD_APPEND)
		note(text, "append-only", file->flags & RECORD_APPEND ? "on" : "off", row->rec.flags & RECORD_APPEND ? "on" : "off");
	if (*text)
		fn(arg, VERIFY_DIFFERS, text);
}

/* Names, which the record only counts. */
static void compare_holds(const struct verify_words *w, verify_fn fn, void *arg)
{
	const struct verify_hold *hold = &w->log.hold;
	char text[VERIFY_TEXT_BYTES], more[48] = "";
	unsigned long long seq = hold->seq;

	if (!w->row.there || hold->what == HOLD_AGREES)
		return;
	if (hold->more)
		snprintf(more, sizeof(more), "; %u more holds disagree", hold->more);
	if (hold->what == HOLD_NOT_IN_LEDGER)
		snprintf(text, sizeof(text), "hold '%s' was placed by line %llu of the audit log and not released, and the ledger does not "
			 "have it%s", hold->name, seq, more);
	else if (hold->what == HOLD_RELEASED)
		snprintf(text, sizeof(text), "hold '%s' is in the ledger, and was released by line %llu of the audit log%s", hold->name, seq,
			 more);
	else
		snprintf(text, sizeof(text), "hold '%s' is in the ledger, and the audit log has no line that placed it, and was written at "
			 "that time%s", hold->name, more);
	fn(arg, VERIFY_DIFFERS, text);
}

/* The log knows a later date: somebody put it back, in one place or in all of them. */
static void compare_log(const struct verify_words *w, verify_fn fn, void *arg)
{
	bool record = w->record.state == RECORD_GOOD && retention_is_later(w->record.rec.until_s, w->log.until_s);
	bool row = w->row.there && retention_is_later(w->row.rec.until_s, w->log.until_s);
	char text[VERIFY_TEXT_BYTES], here[RETENTION_TEXT_BYTES], log[RETENTION_TEXT_BYTES];

	if (w->log.unlogged && (w->row.there || w->record.state == RECORD_GOOD))
		fn(arg, VERIFY_UNLOGGED, "the audit log has no line of its lock, and was written at that time");
	compare_holds(w, fn, arg);
	if (!w->log.dated || (!record && !row))
		return;
	retention_format_until(record ? w->record.rec.until_s : w->row.rec.until_s, here);
	retention_format_until(w->log.until_s, log);
	snprintf(text, sizeof(text), "the end of retention is %s %s, and %s by line %llu of the audit log", here,
		 record && row ? "on the file and in the ledger" : record ? "on the file" : "in the ledger", log,
		 (unsigned long long)w->log.seq);
	fn(arg, VERIFY_DIFFERS, text);
}

void verify_compare(const struct verify_words *w, verify_fn fn, void *arg)
{
	bool retained = w->row.retained || w->log.retained;

	compare_log(w, fn, arg);
	switch (w->file.where) {
	case FILE_MISSING:
		if (retained)
			fn(arg, VERIFY_MISSING, w->row.retained ? "the ledger knows it as locked, and it is gone" :
			   "the audit log knows it as locked, and it is gone");
		return;
	case FILE_MOVED:
		fn(arg, VERIFY_MOVED, "the locked file is there, but not under this name");
		return;
	case FILE_REPLACED:
		if (retained)
			fn(arg, VERIFY_REPLACED, "another file has its name, and the locked one is gone");
		return;
	case FILE_RESTORED:
		return;
	default:
		break;
	}
	switch (w->record.state) {
	case RECORD_NONE:
		if (w->row.there)
			fn(arg, VERIFY_STRIPPED, "the ledger knows it as locked, but its lock record is gone");
		break;
	case RECORD_BAD:
		fn(arg, VERIFY_UNVERIFIABLE, "its lock record does not verify: it was changed, or written with another key");
		break;
	case RECORD_NEWER:
		fn(arg, VERIFY_UNVERIFIABLE, "its lock record is of a version that this program does not know");
		break;
	case RECORD_GOOD:
		if (w->row.there)
			compare_records(&w->record.rec, &w->row, fn, arg);
		else
			fn(arg, VERIFY_FOREIGN, "it carries a good lock record, but the ledger does not know it");
		break;
	default:
		break;
	}
	compare_file(w, fn, arg);
}

/* The finaliser of MurmurHash3 (public domain), over the parts that no request changes. */
static uint64_t mix(uint64_t h, uint64_t value)
{
	h ^= value;
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

uint64_t verify_record_identity(const struct lock_record *rec)
{
	uint64_t h = mix(1, rec->serial);

	h = mix(h, (uint64_t)rec->committed_s);
	h = mix(h, rec->size_bytes);
	return mix(h, (uint64_t)rec->mtime_ns);
}
