/* A clock of its own: time that whoever sets the system's date cannot push forward, nor back.
 *
 * Within one boot it goes by CLOCK_BOOTTIME, which counts suspend and which nobody can set. Across a boot the system's
 * date says how much time has passed, and is believed only out of a budget: 24 h when it is full, refilled by
 * OWN_CLOCK_REFILL_S for each hour of uptime that was seen. The same budget is spent when the date is more than
 * OWN_CLOCK_TOLERANCE_S ahead. So a date that is moved at every boot gains a day, and 14 days a year: 138 s an hour is
 * what OceanStor allows, SnapLock and OneFS allow 7 days a year. It never goes back. What is not believed is no loss:
 * retention ends later. An administrator takes the date over once with own_clock_accept().
 *
 * Its state is OWN_CLOCK_FILE in the state directory, two slots with a MAC by the share's key, written in turn, so that a
 * torn write leaves the other one. Within a boot a state of any age is exact; it is written every OWN_CLOCK_WRITE_S, when
 * budget was spent, and at close, each time onto stable storage.
 * Reading the clock is two loads and a clock_gettime() without a system call; any thread. */
#ifndef WORMFS_OWN_CLOCK_H
#define WORMFS_OWN_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct record_key;
struct own_clock;

#define OWN_CLOCK_FILE "clock.state"
#define OWN_CLOCK_BUDGET_S 86400
#define OWN_CLOCK_REFILL_S 138		/* an hour */
#define OWN_CLOCK_TOLERANCE_S 60
#define OWN_CLOCK_SKEWED_S 86400	/* further from the system's date than this: "skewed" */
#define OWN_CLOCK_WRITE_S 60

#define OWN_CLOCK_BOOT_ID_BYTES 40

/* Where time comes from; tests pass their own. wall: CLOCK_REALTIME, boot: CLOCK_BOOTTIME, in ns; both are asked by any
 * thread. boot_id "": nobody knows, and every start counts as a new boot. */
struct own_clock_seam {
	int64_t (*wall_ns)(void *arg);
	int64_t (*boot_ns)(void *arg);
	void (*boot_id)(void *arg, char ret_boot_id[OWN_CLOCK_BOOT_ID_BYTES]);
	void *arg;
};

enum own_clock_start {
	OWN_CLOCK_SAME_BOOT,
	OWN_CLOCK_NEW_BOOT,
	OWN_CLOCK_FIRST,	/* no state, and nobody knows an earlier time: begins with the system's date */
	OWN_CLOCK_LOST,		/* no state that can be read: begins with floor_s, like a new boot */
};

/* floor_s: the latest time that somebody else remembers (the ledger), 0: nobody; it never begins earlier. seam NULL: the
 * system's. -EACCES, -ENOSPC etc.: the state cannot be written. */
int own_clock_open(const char *state_dir, struct record_key *key, int64_t floor_s, const struct own_clock_seam *seam,
		   struct own_clock **ret_clock, enum own_clock_start *ret_start);
/* Writes the state. NULL is fine. */
void own_clock_close(struct own_clock *clock);

int64_t own_clock_now_s(struct own_clock *clock);	/* UTC seconds */

/* Once a second or so, from one thread at a time: refills and spends the budget, writes the state when it is due.
 * *ret_written: it was. -errno: it could not be; asked again at the next call. */
int own_clock_tick(struct own_clock *clock, bool *ret_written);

/* Takes the system's date over, once. *ret_gained_s: by how much it moved. -EALREADY: it is not behind the system's date.
 * -errno: the state cannot be written, and nothing has changed. */
int own_clock_accept(struct own_clock *clock, int64_t *ret_gained_s);

struct own_clock_status {
	int64_t now_s, wall_s;
	int64_t behind_s;		/* the system's date is so far ahead; negative: it is behind */
	int64_t budget_s;
	bool skewed;
	int error;			/* of the last write of the state */
};
void own_clock_status(struct own_clock *clock, struct own_clock_status *ret_status);

#endif
