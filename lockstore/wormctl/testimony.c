/* The table is indexed by serial number, a hole where there is none. Read and written with pread() and pwrite(), not
 * mapped: a full disk is an error then, no SIGBUS. */
#include "lockstore/wormctl/testimony.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/audit_files.h"
#include "lockstore/control.h"
#include "lockstore/witness.h"
#include "lockstore/wormctl/testimony_holds.h"

#define CHUNK 1024	/* locks, when the table is gone through */

struct testimony {
	struct subject *subject;
	pthread_mutex_t lock;		/* the rest */
	int table_fd;
	struct testimony_holds *holds;	/* NULL: no line says anything of a hold */
	uint64_t max_serial, last_seq, off_seq;
	struct witness_cover cover;
	int64_t read_ms;		/* when reading began last */
	struct testimony_damage *damage;	/* while it is opened */
	testimony_fn fn;		/* while the unmarked ones are told */
	void *arg;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* ---- the table ---- */

static int make_table(const char *state_dir)
{
	const char *tmp = getenv("TMPDIR");
	const char *const dirs[] = { state_dir, tmp && *tmp ? tmp : "/var/tmp" };
	int fd = -1, r = 0;

	for (size_t i = 0; fd < 0 && i < ARRAY_SIZE(dirs); i++) {
		char *path = path_join(dirs[i], "verify.XXXXXX");

		if (!path)
			return -ENOMEM;
		fd = mkostemp(path, O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
		if (fd >= 0)
			(void)unlink(path);	/* one that stays is only litter */
		free(path);
	}
	return fd < 0 ? r : fd;
}

/* All zero where nothing was put. */
static int get_locked(struct testimony *t, uint64_t serial, struct witness_lock *ret)
{
	ssize_t n;

	*ret = (struct witness_lock){ 0 };
	if (serial > t->max_serial)
		return 0;
	n = pread(t->table_fd, ret, sizeof(*ret), (off_t)(serial * sizeof(*ret)));
	return n == (ssize_t)sizeof(*ret) ? 0 : n < 0 ? -errno : -EIO;
}

static int put_locked(struct testimony *t, uint64_t serial, const struct witness_lock *lock)
{
	ssize_t n = pwrite(t->table_fd, lock, sizeof(*lock), (off_t)(serial * sizeof(*lock)));

	if (n != (ssize_t)sizeof(*lock))
		return n < 0 ? -errno : -ENOSPC;
	if (serial > t->max_serial)
		t->max_serial = serial;
	return 0;
}

/* ---- lines ---- */

static uint32_t hash_of(const char *text)
{
	uint32_t h = 2166136261u;	/* FNV-1a. Source: RFC 9923 */

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

/* *ret points into `json`. False: not an event that is known. */
static bool line_of(const json_t *json, struct witness_line *ret)
{
	const char *event = json_get_text(json, "event"), *key = json_get_text(json, "key");
	struct retention clock;

	if (audit_event_parse(event, strlen(event), &ret->event) < 0 || retention_parse(json_get_text(json, "clock"), &clock) < 0)
		return false;
	ret->seq = (uint64_t)json_get_int(json, "seq");
	ret->clock_s = retention_until(&clock, 0);
	ret->refused = strcmp(json_get_text(json, "result"), "OK") != 0;
	ret->detail = json_get_text(json, "detail");
	ret->key_hash = *key ? hash_of(key) : 0;
	return true;
}

static int take_holds_locked(struct testimony *t, uint64_t serial, const struct witness_line *line)
{
	const char *names;
	enum witness_hold what = witness_hold_of(line, &names);
	int r = 0;

	if (what == WITNESS_HOLD_NONE)
		return 0;
	if (!t->holds)
		r = testimony_holds_open(&t->holds);
	return r < 0 ? r : testimony_holds_put(t->holds, serial, line->key_hash, names, what, line->seq);
}

static int take_locked(struct testimony *t, const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, 0, NULL);
	struct witness_line line;
	struct witness_lock lock;
	uint64_t serial = (uint64_t)json_get_int(json, "serial");
	int r = 0;

	if (json && line_of(json, &line)) {
		r = witness_cover_line(&t->cover, &line);
		if (r == 0 && serial && serial < TESTIMONY_SERIAL_MAX)
			r = get_locked(t, serial, &lock);
		if (r == 0 && serial && serial < TESTIMONY_SERIAL_MAX) {
			witness_fold(&lock, &line);
			r = put_locked(t, serial, &lock);
		}
		if (r == 0 && serial && serial < TESTIMONY_SERIAL_MAX)
			r = take_holds_locked(t, serial, &line);
		t->last_seq = line.seq;
	}
	json_decref(json);
	return r;
}

static int on_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	return take_locked(arg, text, len);
}

static void on_damage(void *arg, enum audit_finding finding, const struct audit_at *at, uint64_t seq, const char *sentence)
{
	struct testimony *t = arg;

	if (finding == AUDIT_TORN)
		return;
	witness_cover_gap(&t->cover, t->last_seq);
	if (t->damage->findings++)
		return;
	snprintf(t->damage->file, sizeof(t->damage->file), "%s", at->file ? at->file : "");
	t->damage->line = at->line;
	snprintf(t->damage->what, sizeof(t->damage->what), "%s", sentence);
}

static int on_new_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	struct testimony *t = arg;
	struct audit_link link;
	unsigned long long seq;

	if (!whole || sscanf(text, "{\"seq\":%20llu", &seq) != 1 || seq <= t->last_seq || audit_line_check(text, len, &link) < 0)
		return 0;
	return take_locked(t, text, len);
}

/* ---- open and close ---- */

/* What the ledger remembers: the last line, and the last one before a mount without a log. */
static int read_heads(struct testimony *t, struct audit_head *ret_head)
{
	struct audit_head off;
	char *value;
	int n = 0;

	if (ledger_meta_get(t->subject->ledger, AUDIT_META_HEAD, &value) == 0) {
		n = audit_head_parse(value, ret_head) == 0;
		free(value);
	}
	if (ledger_meta_get(t->subject->ledger, AUDIT_META_OFF, &value) == 0) {
		if (audit_head_parse(value, &off) == 0)
			t->off_seq = off.seq;
		free(value);
	}
	return n;
}

int testimony_open(struct subject *subject, struct testimony **ret, struct testimony_damage *ret_damage)
{
	struct testimony *t = calloc(1, sizeof(*t));
	struct audit_verified verified;
	struct audit_head head;
	int r, nheads;

	*ret = NULL;
	*ret_damage = (struct testimony_damage){ 0 };
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->subject = subject;
	t->damage = ret_damage;
	t->read_ms = now_ms();
	r = t->table_fd = make_table(subject->share->state_dir);
	nheads = r < 0 ? 0 : read_heads(t, &head);
	if (r >= 0)
		r = audit_files_read(subject->share->state_dir, 0, &head, (size_t)nheads, on_damage, on_line, t, &verified);
	t->damage = NULL;
	/* While a log is off, nobody writes down who deletes. */
	if (t->off_seq > t->cover.gap_seq)
		t->cover.gap_seq = t->off_seq;
	if (r < 0)
		testimony_close(t);
	else
		*ret = t;
	return r == -ENOENT ? 0 : r;
}

void testimony_close(struct testimony *t)
{
	if (!t)
		return;
	if (t->table_fd >= 0)
		close(t->table_fd);
	testimony_holds_close(t->holds);
	witness_cover_fini(&t->cover);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

int testimony_refresh(struct testimony *t, int64_t since_ms)
{
	int r = 0;

	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	if (t->read_ms <= since_ms) {
		t->read_ms = now_ms();
		r = audit_files_each(t->subject->share->state_dir, on_new_line, t);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* ---- what it says ---- */

int testimony_say(struct testimony *t, const struct lock_record *rec, struct verify_log *ret)
{
	struct witness_lock lock;
	int r;

	*ret = (struct verify_log){ 0 };
	if (!t || rec->serial == 0 || rec->serial >= TESTIMONY_SERIAL_MAX)
		return 0;
	pthread_mutex_lock(&t->lock);
	r = get_locked(t, rec->serial, &lock);
	if (r == 0)
		witness_say(&t->cover, &lock, rec->committed_s, t->subject->now_s, !t->subject->online, ret);
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* A walk through two lists in order: the names of the ledger, and those of the log. */
struct compare {
	struct testimony *t;
	struct verify_hold *ret;
	struct hold_said said;		/* the next one of the log; name "": no more */
};

static void tell(struct compare *c, int what, const char *name, uint64_t seq)
{
	if (what == HOLD_AGREES)
		return;
	if (c->ret->what != HOLD_AGREES) {
		c->ret->more++;
		return;
	}
	c->ret->what = what;
	c->ret->seq = seq;
	snprintf(c->ret->name, sizeof(c->ret->name), "%s", name);
}

static int next_said(struct compare *c)
{
	int r = c->t->holds ? testimony_holds_next(c->t->holds, &c->said) : 0;

	if (r <= 0)
		*c->said.name = '\0';
	return r < 0 ? r : 0;
}

/* The log's names before `name`; all, when that is NULL. */
static int tell_before(struct compare *c, const char *name)
{
	int r = 0;

	while (r == 0 && *c->said.name && (!name || strcmp(c->said.name, name) < 0)) {
		tell(c, witness_say_hold(&c->t->cover, c->said.what, c->said.seq, false, 0, !c->t->subject->online), c->said.name, c->said.seq);
		r = next_said(c);
	}
	return r;
}

static int compare_name(void *arg, const char *name, uid_t by, int64_t at_s)
{
	struct compare *c = arg;
	bool said;
	int r = tell_before(c, name);

	if (r < 0)
		return r;
	said = strcmp(c->said.name, name) == 0;
	tell(c, witness_say_hold(&c->t->cover, said ? c->said.what : WITNESS_HOLD_NONE, c->said.seq, true, at_s, !c->t->subject->online),
	     name, c->said.seq);
	return said ? next_said(c) : 0;
}

int testimony_say_holds(struct testimony *t, const struct ledger_row *row, struct verify_hold *ret)
{
	struct compare c = { .t = t, .ret = ret };
	struct witness_lock lock;
	int r;

	*ret = (struct verify_hold){ 0 };
	if (!t || row->rec.serial == 0 || row->rec.serial >= TESTIMONY_SERIAL_MAX)
		return 0;
	pthread_mutex_lock(&t->lock);
	r = get_locked(t, row->rec.serial, &lock);
	if (r == 0 && (t->holds || row->holds) && !(lock.flags & (WITNESS_AMBIGUOUS | WITNESS_HOLDS_CUT))) {
		if (t->holds)
			r = testimony_holds_of(t->holds, row->rec.serial);
		if (r == 0)
			r = next_said(&c);
		if (r == 0)
			r = ledger_holds(t->subject->ledger, &row->key, compare_name, &c);
		if (r == 0)
			r = tell_before(&c, NULL);
		if (t->holds)
			testimony_holds_end(t->holds);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

int testimony_mark(struct testimony *t, uint64_t serial)
{
	struct witness_lock lock;
	int r;

	if (!t || serial > t->max_serial)
		return 0;
	pthread_mutex_lock(&t->lock);
	r = get_locked(t, serial, &lock);
	lock.flags |= WITNESS_SEEN;
	if (r == 0 && lock.seq)
		r = put_locked(t, serial, &lock);
	pthread_mutex_unlock(&t->lock);
	return r;
}

static bool is_wanted(const struct testimony *t, const struct witness_lock *lock)
{
	struct verify_log says;

	if (!(lock->flags & WITNESS_COMMITTED) || lock->flags & WITNESS_SEEN)
		return false;
	witness_say(&t->cover, lock, 0, t->subject->now_s, !t->subject->online, &says);
	return says.retained;
}

/* Sets WITNESS_WANTED where it belongs. */
static int choose(struct testimony *t, uint64_t *ret_wanted)
{
	struct witness_lock locks[CHUNK];
	ssize_t n;

	*ret_wanted = 0;
	for (uint64_t first = 0; first <= t->max_serial; first += (uint64_t)n / sizeof(*locks)) {
		off_t data = lseek(t->table_fd, (off_t)(first * sizeof(*locks)), SEEK_DATA);
		bool changed = false;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;	/* nothing behind it */
		if (data > 0)	/* serial numbers are given out in blocks, and a mount begins with a new one */
			first = (uint64_t)data / sizeof(*locks);
		n = pread(t->table_fd, locks, sizeof(locks), (off_t)(first * sizeof(*locks)));
		if (n < (ssize_t)sizeof(*locks))
			return n < 0 ? -errno : -EIO;
		for (size_t i = 0; i < (size_t)n / sizeof(*locks); i++) {
			if (!is_wanted(t, &locks[i]))
				continue;
			locks[i].flags |= WITNESS_WANTED;
			changed = true;
			++*ret_wanted;
		}
		if (changed && pwrite(t->table_fd, locks, (size_t)n, (off_t)(first * sizeof(*locks))) != n)
			return -EIO;
	}
	return 0;
}

static void key_of(const char *text, struct file_key *ret)
{
	ret->len = 0;
	for (unsigned byte; ret->len < FILE_KEY_MAX_BYTES && sscanf(text, "%2x", &byte) == 1; text += 2)
		ret->bytes[ret->len++] = (uint8_t)byte;
}

static int tell_line(void *arg, const struct audit_at *at, const char *text, size_t len, bool whole)
{
	struct testimony *t = arg;
	struct witness_line line;
	struct witness_lock lock = { 0 };
	struct file_key key;
	char *decoded = NULL;
	const char *path;
	uint64_t serial;
	json_t *json;
	int r = 0;

	if (!whole || !strstr(text, "\"event\":\"commit\""))
		return 0;
	json = json_loadb(text, len, 0, NULL);
	serial = (uint64_t)json_get_int(json, "serial");
	if (json && line_of(json, &line) && line.event == AUDIT_COMMIT && serial && serial < TESTIMONY_SERIAL_MAX)
		r = get_locked(t, serial, &lock);
	if (r == 0 && lock.flags & WITNESS_WANTED && line.seq == lock.commit_seq) {
		lock.flags &= ~(uint32_t)WITNESS_WANTED;
		r = put_locked(t, serial, &lock);
		path = json_get_text(json, "path");
		if (*json_get_text(json, "path_encoded") && control_path_decode(json_get_text(json, "path_encoded"), &decoded) == 0)
			path = decoded;
		key_of(json_get_text(json, "key"), &key);
		if (r == 0 && *path)
			r = t->fn(t->arg, path, &key, serial, line.clock_s, line.seq);
		lock.flags |= WITNESS_SEEN;
		r = r == 0 ? put_locked(t, serial, &lock) : r == 1 ? 0 : r;
		free(decoded);
	}
	json_decref(json);
	return r;
}

int testimony_each_unmarked(struct testimony *t, testimony_fn fn, void *arg)
{
	uint64_t wanted;
	int r;

	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	r = choose(t, &wanted);
	t->fn = fn;
	t->arg = arg;
	if (r == 0 && wanted)
		r = audit_files_each(t->subject->share->state_dir, tell_line, t);
	pthread_mutex_unlock(&t->lock);
	return r;
}
