/* What is stored is one moment: at boottime B of boot I, when the system's date was W, the clock stood at C. From
 * there on it is C + (boottime - B), so `offset` = C - B is all that a reader needs; it only ever grows. */
#include "lockstore/own_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/record.h"

#define NS INT64_C(1000000000)
#define MAGIC "wormfs clock 1\n"	/* 16 bytes with its NUL */
#define SLOT_STRIDE 4096		/* a sector, and a page, each */

/* In the byte order of the machine, whose boots it counts. */
struct slot {
	char magic[16];
	uint64_t generation;	/* the higher one is in force */
	int64_t clock_ns, wall_ns, boot_ns, budget_ns;
	char boot_id[OWN_CLOCK_BOOT_ID_BYTES];
	uint8_t mac[RECORD_MAC_BYTES];	/* of all before */
};

struct own_clock {
	struct own_clock_seam seam;	/* constant */
	struct record_key *key;
	int fd;
	char boot_id[OWN_CLOCK_BOOT_ID_BYTES];
	_Atomic int64_t offset_ns;	/* now = boottime + offset; changed under the lock, only upwards */
	pthread_mutex_t lock;		/* guards the rest; held while the state is written, which no reader waits for */
	int64_t budget_ns, seen_ns;	/* boottime up to which the budget was refilled */
	int64_t written_ns;		/* boottime of the last write */
	uint64_t generation;
	int error;
};

/* ---- the system's time ---- */

static int64_t ns_of(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);	/* fails only for a clock that does not exist */
	return t.tv_sec * NS + t.tv_nsec;
}

static int64_t system_wall_ns(void *arg)
{
	return ns_of(CLOCK_REALTIME);
}

static int64_t system_boot_ns(void *arg)
{
	return ns_of(CLOCK_BOOTTIME);
}

static void system_boot_id(void *arg, char ret_boot_id[OWN_CLOCK_BOOT_ID_BYTES])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	memset(ret_boot_id, 0, OWN_CLOCK_BOOT_ID_BYTES);
	if (f && fgets(ret_boot_id, OWN_CLOCK_BOOT_ID_BYTES, f))
		ret_boot_id[strcspn(ret_boot_id, "\n")] = '\0';
	if (f)
		fclose(f);
}

static const struct own_clock_seam system_seam = {
	.wall_ns = system_wall_ns, .boot_ns = system_boot_ns, .boot_id = system_boot_id,
};

static int64_t wall_ns(struct own_clock *clock)
{
	return clock->seam.wall_ns(clock->seam.arg);
}

static int64_t boot_ns(struct own_clock *clock)
{
	return clock->seam.boot_ns(clock->seam.arg);
}

/* ---- the state file ---- */

static int read_slot(struct own_clock *clock, unsigned i, struct slot *ret_slot)
{
	uint8_t mac[RECORD_MAC_BYTES];
	struct slot slot;
	int r;

	if (pread(clock->fd, &slot, sizeof(slot), (off_t)i * SLOT_STRIDE) != sizeof(slot))
		return -ENOENT;
	r = record_key_mac(clock->key, &slot, offsetof(struct slot, mac), mac);
	if (r < 0)
		return r;
	if (memcmp(slot.magic, MAGIC, sizeof(slot.magic)) != 0 || memcmp(slot.mac, mac, sizeof(mac)) != 0 ||
	    slot.boot_id[sizeof(slot.boot_id) - 1] || slot.budget_ns < 0 || slot.budget_ns > OWN_CLOCK_BUDGET_S * NS)
		return -EBADMSG;
	*ret_slot = slot;
	return 0;
}

/* The later of the two that are whole. -ENOENT: none is. */
static int read_state(struct own_clock *clock, struct slot *ret_slot)
{
	struct slot slot;
	bool found = false;
	int r;

	for (unsigned i = 0; i < 2; i++) {
		r = read_slot(clock, i, &slot);
		if (r == -EIO)
			return r;
		if (r < 0 || (found && ret_slot->generation > slot.generation))
			continue;
		*ret_slot = slot;
		found = true;
	}
	return found ? 0 : -ENOENT;
}

/* Into the slot that is not in force. `gained`: the clock is about to move by it. */
static int write_state_locked(struct own_clock *clock, int64_t gained_ns)
{
	struct slot slot = { .magic = MAGIC, .generation = clock->generation + 1, .budget_ns = clock->budget_ns };
	int r;

	slot.boot_ns = boot_ns(clock);
	slot.wall_ns = wall_ns(clock);
	slot.clock_ns = slot.boot_ns + atomic_load(&clock->offset_ns) + gained_ns;
	memcpy(slot.boot_id, clock->boot_id, sizeof(slot.boot_id));
	r = record_key_mac(clock->key, &slot, offsetof(struct slot, mac), slot.mac);
	if (r == 0 && pwrite(clock->fd, &slot, sizeof(slot), (off_t)(slot.generation % 2) * SLOT_STRIDE) != sizeof(slot))
		r = errno ? -errno : -EIO;
	if (r == 0 && fdatasync(clock->fd) < 0)
		r = -errno;
	clock->error = r;
	if (r < 0)
		return r;
	clock->generation = slot.generation;
	clock->written_ns = slot.boot_ns;
	return 0;
}

/* ---- the budget ---- */

static void refill_locked(struct own_clock *clock, int64_t uptime_ns)
{
	if (uptime_ns <= 0)
		return;
	clock->budget_ns += uptime_ns / 3600 * OWN_CLOCK_REFILL_S;
	if (clock->budget_ns > OWN_CLOCK_BUDGET_S * NS)
		clock->budget_ns = OWN_CLOCK_BUDGET_S * NS;
}

/* Believes as much of `wanted` as there is budget for. */
static int64_t spend_locked(struct own_clock *clock, int64_t wanted_ns)
{
	int64_t granted_ns = wanted_ns < clock->budget_ns ? wanted_ns : clock->budget_ns;

	if (granted_ns <= 0)
		return 0;
	clock->budget_ns -= granted_ns;
	return granted_ns;
}

/* Saturates: a date near the ends of time is only far away. */
static int64_t behind_ns(struct own_clock *clock)
{
	int64_t behind;

	if (__builtin_sub_overflow(wall_ns(clock), boot_ns(clock) + atomic_load(&clock->offset_ns), &behind))
		return INT64_MAX;
	return behind;
}

/* ---- open ---- */

static enum own_clock_start start_locked(struct own_clock *clock, const struct slot *slot, int64_t floor_s)
{
	int64_t now_boot_ns = boot_ns(clock), now_wall_ns = wall_ns(clock), clock_ns, from_ns;
	enum own_clock_start start = OWN_CLOCK_NEW_BOOT;

	clock->budget_ns = OWN_CLOCK_BUDGET_S * NS;
	if (!slot && floor_s <= 0) {
		atomic_store(&clock->offset_ns, now_wall_ns - now_boot_ns);
		return OWN_CLOCK_FIRST;
	}
	if (slot)
		clock->budget_ns = slot->budget_ns;
	if (slot && *slot->boot_id && strcmp(slot->boot_id, clock->boot_id) == 0 && now_boot_ns >= slot->boot_ns) {
		start = OWN_CLOCK_SAME_BOOT;
		clock_ns = slot->clock_ns + (now_boot_ns - slot->boot_ns);
		refill_locked(clock, now_boot_ns - slot->boot_ns);
	} else {
		start = slot ? OWN_CLOCK_NEW_BOOT : OWN_CLOCK_LOST;
		clock_ns = slot ? slot->clock_ns : floor_s * NS;
		from_ns = slot ? slot->wall_ns : floor_s * NS;
		clock_ns += spend_locked(clock, now_wall_ns > from_ns ? now_wall_ns - from_ns : 0);
	}
	if (clock_ns < floor_s * NS)
		clock_ns = floor_s * NS;
	atomic_store(&clock->offset_ns, clock_ns - now_boot_ns);
	return start;
}

int own_clock_open(const char *state_dir, struct record_key *key, int64_t floor_s, const struct own_clock_seam *seam,
		   struct own_clock **ret_clock, enum own_clock_start *ret_start)
{
	struct own_clock *clock = calloc(1, sizeof(*clock));
	struct slot slot;
	char *path = NULL;
	int r;

	if (!clock || asprintf(&path, "%s/" OWN_CLOCK_FILE, state_dir) < 0) {
		free(clock);
		return -ENOMEM;
	}
	clock->seam = seam ? *seam : system_seam;
	clock->key = key;
	pthread_mutex_init(&clock->lock, NULL);
	clock->seam.boot_id(clock->seam.arg, clock->boot_id);
	clock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	free(path);
	if (clock->fd < 0) {
		r = -errno;
		goto out;
	}
	r = read_state(clock, &slot);
	if (r < 0 && r != -ENOENT)
		goto out;
	if (r == 0)
		clock->generation = slot.generation;
	*ret_start = start_locked(clock, r == 0 ? &slot : NULL, floor_s);
	clock->seen_ns = boot_ns(clock);
	r = write_state_locked(clock, 0);
out:
	if (r < 0) {
		if (clock->fd >= 0)
			close(clock->fd);
		pthread_mutex_destroy(&clock->lock);
		free(clock);
		return r;
	}
	*ret_clock = clock;
	return 0;
}

void own_clock_close(struct own_clock *clock)
{
	if (!clock)
		return;
	pthread_mutex_lock(&clock->lock);
	refill_locked(clock, boot_ns(clock) - clock->seen_ns);
	(void)write_state_locked(clock, 0);	/* the older state is as exact within this boot, and safe after it */
	pthread_mutex_unlock(&clock->lock);
	close(clock->fd);
	pthread_mutex_destroy(&clock->lock);
	free(clock);
}

/* ---- while it runs ---- */

int64_t own_clock_now_s(struct own_clock *clock)
{
	return (boot_ns(clock) + atomic_load_explicit(&clock->offset_ns, memory_order_relaxed)) / NS;
}

int own_clock_tick(struct own_clock *clock, bool *ret_written)
{
	int64_t now_ns = boot_ns(clock), behind, granted_ns = 0;
	int r = 0;

	*ret_written = false;
	pthread_mutex_lock(&clock->lock);
	if (now_ns - clock->written_ns < OWN_CLOCK_WRITE_S * NS && !clock->error)
		goto out;
	refill_locked(clock, now_ns - clock->seen_ns);
	clock->seen_ns = now_ns;
	behind = behind_ns(clock);
	if (behind > OWN_CLOCK_TOLERANCE_S * NS)
		granted_ns = spend_locked(clock, behind);
	/* Stored first: a reader never sees a time that a kill takes back. */
	r = write_state_locked(clock, granted_ns);
	if (r == 0)
		atomic_fetch_add(&clock->offset_ns, granted_ns);
	else
		clock->budget_ns += granted_ns;
	*ret_written = r == 0;
out:
	pthread_mutex_unlock(&clock->lock);
	return r;
}

int own_clock_accept(struct own_clock *clock, int64_t *ret_gained_s)
{
	int64_t behind;
	int r;

	pthread_mutex_lock(&clock->lock);
	behind = behind_ns(clock);
	if (behind < NS) {
		r = -EALREADY;
		goto out;
	}
	/* Stored first, as above. */
	r = write_state_locked(clock, behind);
	if (r < 0)
		goto out;
	atomic_fetch_add(&clock->offset_ns, behind);
	*ret_gained_s = behind / NS;
out:
	pthread_mutex_unlock(&clock->lock);
	return r;
}

void own_clock_status(struct own_clock *clock, struct own_clock_status *ret_status)
{
	int64_t behind;

	pthread_mutex_lock(&clock->lock);
	behind = behind_ns(clock) / NS;
	*ret_status = (struct own_clock_status){
		.now_s = own_clock_now_s(clock), .wall_s = wall_ns(clock) / NS, .behind_s = behind, .budget_s = clock->budget_ns / NS,
		.skewed = behind > OWN_CLOCK_SKEWED_S || behind < -OWN_CLOCK_SKEWED_S, .error = clock->error,
	};
	pthread_mutex_unlock(&clock->lock);
}
