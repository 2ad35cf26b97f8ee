#include "fs/timekeeper.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/state.h"
#include "fs/rule.h"
#include "fs/trail.h"
#include "lockstore/own_clock.h"
#include "lockstore/retention.h"

#define META_CLOCK "clock"	/* in the ledger: the latest time that was told it, in seconds */
#define LATEST_S INT64_C(9000000000)	/* the year 2255: nanoseconds in an int64 end soon after */

struct timekeeper {
	enum own_clock_start start;
	/* timekeeper_tick()'s own */
	bool skewed;
	int error;
};

/* ---- begin ---- */

/* What the ledger remembers, 0: nothing. */
static int64_t remembered_s(struct wormfs *fs)
{
	int64_t t_s = 0;
	char *value;

	if (ledger_meta_get(fs->ledger, META_CLOCK, &value) == 0) {
		t_s = strtoll(value, NULL, 10);
		free(value);
	}
	return t_s > 0 && t_s < LATEST_S ? t_s : 0;
}

static int open_own(struct wormfs *fs, bool share_is_new)
{
	struct own_clock *own;
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/" OWN_CLOCK_FILE, fs->state_dir);
	fs->state_made |= access(path, F_OK) < 0 ? STATE_MADE_CLOCK : 0;
	r = own_clock_open(fs->state_dir, fs->key, remembered_s(fs), NULL, &own, &fs->timekeeper->start);
	if (r < 0) {
		complain("cannot write the state of the clock '%s': %s; make room or repair it", path, strerror(-r));
		return r;
	}
	if (fs->timekeeper->start == OWN_CLOCK_LOST)
		log_warning("the state of the clock '%s' is missing or damaged: it begins with the latest time that the ledger knows, and "
			    "a day at most more", path);
	else if (fs->timekeeper->start == OWN_CLOCK_FIRST && !share_is_new)
		log_warning("nobody remembers the clock of '%s': it begins with the system's date; check that date", fs->share);
	r = clock_source_open_own(own, &fs->clock);
	if (r < 0)
		own_clock_close(own);
	return r;
}

int timekeeper_open(struct wormfs *fs, bool share_is_new)
{
	int r;

	fs->timekeeper = calloc(1, sizeof(*fs->timekeeper));
	if (!fs->timekeeper)
		return -ENOMEM;
	if (!fs->opt.clock || strcmp(fs->opt.clock, "own") == 0)
		return open_own(fs, share_is_new);
	r = clock_source_open(fs->opt.clock, &fs->clock);
	if (r < 0)
		complain("cannot use clock=%s: %s", fs->opt.clock, strerror(-r));
	return r;
}

static struct own_clock *own_of(struct wormfs *fs)
{
	return fs->clock ? clock_source_own(fs->clock) : NULL;
}

static int remember(struct wormfs *fs)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, clock_source_now_s(fs->clock));
	return ledger_meta_set(fs->ledger, META_CLOCK, text);
}

void timekeeper_close(struct wormfs *fs)
{
	if (own_of(fs) && fs->ledger && !fs->state_made)
		(void)remember(fs);	/* the state file has it, too */
	clock_source_close(fs->clock);
	fs->clock = NULL;
	free(fs->timekeeper);
	fs->timekeeper = NULL;
}

void timekeeper_mounted(struct wormfs *fs)
{
	static const char *const starts[] = {
		[OWN_CLOCK_SAME_BOOT] = "went on within the same boot", [OWN_CLOCK_NEW_BOOT] = "went on after a boot",
		[OWN_CLOCK_FIRST] = "began with the system's date", [OWN_CLOCK_LOST] = "its state was lost: began with what the ledger knew",
	};
	struct own_clock_status status;

	if (!own_of(fs)) {
		log_warning("clock=%s: who sets the system's date%s ends retention; for tests and CI only", clock_source_name(fs->clock),
			    strcmp(clock_source_name(fs->clock), "wall") == 0 ? "" : " or that file");
		trail_note(fs, AUDIT_CLOCK_START, 0, "%s: can be moved", clock_source_name(fs->clock));
		return;
	}
	own_clock_status(own_of(fs), &status);
	trail_note(fs, AUDIT_CLOCK_START, fs->timekeeper->start == OWN_CLOCK_LOST ? -EBADMSG : 0,
		   "%s; the system's date is %lld s ahead, budget %lld s", starts[fs->timekeeper->start], (long long)status.behind_s,
		   (long long)status.budget_s);
}

/* ---- go on ---- */

static void say_skew(struct wormfs *fs, const struct own_clock_status *s)
{
	if (s->skewed) {
		log_warning("the clock of '%s' and the system's date differ by %lld s: retention goes by the clock; if the date is right: "
			    "wormctl clock accept", fs->share, (long long)llabs(s->behind_s));
		trail_note(fs, AUDIT_CLOCK_SKEWED, -ERANGE, "the system's date is %lld s ahead, budget %lld s", (long long)s->behind_s,
			   (long long)s->budget_s);
	} else {
		log_info("the clock of '%s' and the system's date agree again", fs->share);
		trail_note(fs, AUDIT_CLOCK_OK, 0, "the system's date is %lld s ahead", (long long)s->behind_s);
	}
}

void timekeeper_tick(struct wormfs *fs)
{
	struct timekeeper *t = fs->timekeeper;
	struct own_clock_status status;
	bool written;
	int r;

	if (!own_of(fs))
		return;
	r = own_clock_tick(own_of(fs), &written);
	if (r < 0 && !t->error)
		log_warning("cannot write the state of the clock in '%s': %s, it goes on; a crash of the machine now would set it back",
			    fs->state_dir, strerror(-r));
	t->error = r;
	if (written)
		(void)remember(fs);	/* a ledger that fails remembers an earlier time */
	own_clock_status(own_of(fs), &status);
	if (status.skewed != t->skewed)
		say_skew(fs, &status);
	t->skewed = status.skewed;
}

/* The kernel's word: somebody disciplines its clock. Source: adjtimex(2), TIME_ERROR and STA_UNSYNC. */
static bool is_synchronised(void)
{
	struct timex tx = { 0 };
	int state = adjtimex(&tx);

	return state >= 0 && state != TIME_ERROR && !(tx.status & STA_UNSYNC);
}

int timekeeper_accept(struct wormfs *fs, const char *reason, int64_t *ret_gained_s)
{
	struct own_clock_status status;
	int r;

	if (!own_of(fs))
		return -EOPNOTSUPP;
	own_clock_status(own_of(fs), &status);
	if (status.behind_s < 1)
		return -EALREADY;
	if (rule_has_compliance(fs) && !is_synchronised()) {
		trail_note(fs, AUDIT_CLOCK_ACCEPT, -EPERM, "the system's date is not synchronised; reason: %s", reason);
		return -EPERM;
	}
	r = trail_before_locked(fs, NULL, AUDIT_CLOCK_ACCEPT, "forward by %lld s to the system's date; reason: %s",
				(long long)status.behind_s, reason);
	if (r < 0)
		return r;
	r = own_clock_accept(own_of(fs), ret_gained_s);
	if (r < 0)
		trail_note(fs, AUDIT_CLOCK_ACCEPT, r, "not done; reason: %s", reason);
	else
		(void)remember(fs);	/* the state file has it */
	return r;
}

/* ---- shown ---- */

json_t *timekeeper_json(struct wormfs *fs)
{
	char wall[RETENTION_TEXT_BYTES];
	struct own_clock_status s;

	if (!own_of(fs)) {
		retention_format_until(time(NULL), wall);
		return json_pack("{s:s, s:s, s:I, s:n, s:b}", "state", "movable", "system", wall, "behind",
				 (json_int_t)(time(NULL) - clock_source_now_s(fs->clock)), "budget", "synchronised", is_synchronised());
	}
	own_clock_status(own_of(fs), &s);
	retention_format_until(s.wall_s, wall);
	return json_pack("{s:s, s:s, s:I, s:I, s:b}", "state", s.skewed ? "skewed" : "ok", "system", wall, "behind", (json_int_t)s.behind_s,
			 "budget", (json_int_t)s.budget_s, "synchronised", is_synchronised());
}

void timekeeper_add_problems(struct wormfs *fs, json_t *list)
{
	struct own_clock_status s;
	char text[240];

	if (!own_of(fs)) {
		snprintf(text, sizeof(text), "the clock can be moved (-o clock=%s): for tests only", clock_source_name(fs->clock));
		json_array_append_new(list, json_string(text));
		return;
	}
	own_clock_status(own_of(fs), &s);
	if (s.skewed) {
		snprintf(text, sizeof(text), "the clock of retention and the system's date differ by %lld s; if the date is right: wormctl clock accept",
			 (long long)llabs(s.behind_s));
		json_array_append_new(list, json_string(text));
	}
	if (s.error) {
		snprintf(text, sizeof(text), "the state of the clock cannot be written: %s", strerror(-s.error));
		json_array_append_new(list, json_string(text));
	}
}
