#include "fs/refusal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/actor.h"
#include "fs/hold.h"
#include "fs/lock.h"
#include "fs/lock_private.h"
#include "fs/log.h"
#include "fs/pin.h"
#include "fs/rule.h"
#include "fs/trail.h"

/* ---- the cause ---- */

static int add_hold(void *arg, const char *case_name, uid_t by, int64_t at_s)
{
	fprintf(arg, "%s '%s'", ftell(arg) ? "," : " under the hold", case_name);
	return 0;
}

/* '\n' between them in `names`. */
static void add_holds(FILE *out, const char *names)
{
	for (const char *p = names; p && *p; p += strcspn(p, "\n"), p += *p == '\n')
		fprintf(out, "%s '%.*s'", p == names ? " under the hold" : ",", (int)strcspn(p, "\n"), p);
}

/* Names from the ledger, of the file itself and of orders that cover it. */
static void say_holds_locked(FILE *out, struct wormfs *fs, struct inode *ino, enum guard_state state)
{
	char *own = NULL, *orders = NULL;
	struct file_key key;
	size_t own_len = 0;
	FILE *list;

	if (ino->rec && inode_key(fs, ino, &key) == 0 && (list = open_memstream(&own, &own_len))) {
		(void)ledger_holds(fs->ledger, &key, add_hold, list);	/* a ledger that fails: the count below */
		fclose(list);
	}
	if (hold_names_covering(fs, ino, state == GUARD_HELD ? COVER_COMING : COVER_LOCKED, &orders) < 0)
		orders = NULL;
	if (own && *own)
		fprintf(out, ",%s", own);
	else if (ino->seal_holds)
		fputc(',', out), add_holds(out, ino->seal_holds);
	else if (ino->rec && ino->rec->holds)
		fprintf(out, ", under %u hold%s whose names the ledger does not have", ino->rec->holds, ino->rec->holds == 1 ? "" : "s");
	if (orders && *orders) {
		fputs(state == GUARD_HELD ? "" : ",", out);
		add_holds(out, orders);
		fputs(" (an order)", out);
	}
	free(own);
	free(orders);
}

static int first_row(void *arg, const struct ledger_row *row)
{
	fprintf(arg, "'%s' below it is locked by %s%s%s%s", row->path, row->rule && *row->rule ? "rule '" : "the mount options",
		row->rule ? row->rule : "", row->rule && *row->rule ? "'" : "", row->holds || row->rec.holds ? ", under a hold" : "");
	return 1;
}

static void say_below(FILE *out, struct wormfs *fs, struct inode *dir)
{
	struct ledger_filter below = { 0 };
	char *path = NULL;

	if (inode_path(fs, dir, &path) < 0)
		return;
	below.prefix = path;
	if (ledger_each(fs->ledger, &below, first_row, out) == 0)
		fputs("a file below it is locked, and its row is not in the ledger yet", out);
	free(path);
}

static void say_cause_locked(FILE *out, struct wormfs *fs, struct inode *ino, enum guard_state state)
{
	char *rule;

	if (state == GUARD_PINNED) {
		say_below(out, fs, ino);
	} else if (state == GUARD_UNREADABLE) {
		fputs("its lock record cannot be read or verified", out);
	} else if (state == GUARD_HELD) {
		fputs(S_ISDIR(ino->type) ? "an order for what comes names what lies below it" : "its lock comes", out);
		say_holds_locked(out, fs, ino, state);
	} else if (ino->rec) {
		rule = rule_name(fs, ino->rec->rule);
		fprintf(out, "locked by %s%s%s", ino->rec->rule ? "rule '" : "the ", rule ? rule : "?", ino->rec->rule ? "'" : "");
		say_holds_locked(out, fs, ino, state);
		free(rule);
	} else if (state == GUARD_CLOSING) {
		fputs("idle for the time of its rule's or the mount's commit=idle", out);
	}
}

char *refusal_cause_locked(struct wormfs *fs, struct inode *ino, enum guard_state state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	say_cause_locked(out, fs, ino, state);
	if (fclose(out) != 0) {
		free(text);
		text = NULL;
	}
	return text;
}

/* ---- telling ---- */

void refusal_note_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, enum guard_state state, const char *why, int r)
{
	char *path, *cause;

	why = why ? why : guard_state_name(state);
	atomic_fetch_add(&fs->n_refused[op], 1);
	trail_refused_locked(fs, ino, op, why, r);
	if (!log_is_debug())
		return;
	path = lock_path_for_log(fs, ino);
	cause = refusal_cause_locked(fs, ino, state);
	log_debug("refused %s of '%s' to uid %u with %s: %s%s%s%s", guard_op_name(op), path ? path : "?", actor_get().uid,
		  strerrorname_np(-r), why, cause && *cause ? " (" : "", cause ? cause : "", cause && *cause ? ")" : "");
	free(cause);
	free(path);
}

int refusal_of_request_locked(struct wormfs *fs, struct inode *ino, enum guard_op op, int r)
{
	enum guard_state state;
	const char *why;

	switch (r) {
	case -EBUSY: why = "a program still has it open or mapped for writing"; break;
	case -EOPNOTSUPP: why = "nothing is locked here (commit=never)"; break;
	case -EINVAL: why = "no regular file, or not a value that can be asked for"; break;
	case -ENOSYS: why = "no such request"; r = -EPERM; break;
	default: return r;	/* done, told by who asked the guard, or no refusal */
	}
	state = S_ISREG(ino->type) ? lock_state_locked(fs, ino) : pin_is_set(fs, ino) ? GUARD_PINNED : GUARD_OPEN;
	refusal_note_locked(fs, ino, op, state, why, r);
	return r;
}

int refusal_of_request(struct wormfs *fs, struct inode *ino, enum guard_op op, int r)
{
	if (r == 0)
		return 0;
	pthread_mutex_lock(&ino->lock);
	r = refusal_of_request_locked(fs, ino, op, r);
	pthread_mutex_unlock(&ino->lock);
	return r;
}
