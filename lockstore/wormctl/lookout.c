/* The two threads of a lookout: one follows the ring of events, the other asks the daemon and walks along the ledger. Apart, since a
 * daemon that hangs holds up whoever asks it. What they found is put under the lock at once, and is never waited for. */
#include "lockstore/wormctl/lookout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/events/event_json.h"
#include "lockstore/ledger_push.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"
#include "lockstore/wormctl/client.h"
#include "lockstore/wormctl/lookout_private.h"

#define FOLLOW_MS 100			/* as long as a new event may wait for us */
#define ASK_MS 1000
#define RETRY_MS 1000			/* for a ring that is not there, or is damaged */
#define STOP_WAIT_S 2
#define READ_BYTES 262144
#define MINUTE_NS 60000000000LL

/* ---- both ---- */

int64_t lookout_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* False: the lookout ends. */
static bool pause_ms(struct lookout *l, int ms)
{
	int64_t until_ns = lookout_mono_ns() + ms * 1000000LL;
	struct timespec until = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };
	bool goes_on;

	pthread_mutex_lock(&l->lock);
	while (!l->stop && pthread_cond_timedwait(&l->wake, &l->lock, &until) != ETIMEDOUT)
		;
	goes_on = !l->stop;
	pthread_mutex_unlock(&l->lock);
	return goes_on;
}

static void note_refused_locked(struct lookout *l, int64_t time_ns, uint64_t n)
{
	int64_t minute = time_ns / MINUTE_NS;
	unsigned slot = (unsigned)(minute % LOOKOUT_MINUTES);

	if (minute < 0 || l->minutes[slot].minute > minute)
		return;		/* older than an hour */
	if (l->minutes[slot].minute != minute) {
		l->minutes[slot].minute = minute;
		l->minutes[slot].refused = 0;
	}
	l->minutes[slot].refused += n;
}

uint64_t lookout_refused_locked(const struct lookout *l, int64_t minute)
{
	unsigned slot = (unsigned)(minute % LOOKOUT_MINUTES);

	return l->minutes[slot].minute == minute ? l->minutes[slot].refused : 0;
}

/* ---- the ring ---- */

struct follower {
	struct lookout *l;
	struct event_ring *ring;
	struct event_cursor cursor;
	char path[4096];
	ino_t ino;
	char *buf;
};

static void drop_oldest_locked(struct lookout *l)
{
	struct lookout_event *oldest = &l->events[(l->nevents - l->nkept) % LOOKOUT_EVENTS];

	l->kept_bytes -= oldest->len;
	free(oldest->record);
	*oldest = (struct lookout_event){ 0 };
	l->nkept--;
}

static void keep_locked(struct lookout *l, uint64_t seq, const void *record, size_t len)
{
	void *copy = malloc(len);

	if (!copy) {
		l->missed++;
		return;
	}
	memcpy(copy, record, len);
	while (l->nkept && (l->nkept == LOOKOUT_EVENTS || l->kept_bytes + len > LOOKOUT_EVENT_BYTES))
		drop_oldest_locked(l);
	l->events[l->nevents++ % LOOKOUT_EVENTS] = (struct lookout_event){ .seq = seq, .record = copy, .len = len };
	l->nkept++;
	l->kept_bytes += len;
}

static void take_batch_locked(struct lookout *l, const char *buf, size_t len)
{
	struct event ev;
	size_t at = 0;
	ssize_t n;

	while ((n = event_ring_next(buf, len, &at, &ev, &l->missed)) > 0) {
		if (ev.flags & EVENT_REFUSED)
			note_refused_locked(l, ev.time_ns, 1);
		if (ev.type == EVENT_GAP)
			l->missed += ev.lost;
		l->next_seq = ev.seq + (ev.type == EVENT_GAP ? ev.lost : 1);
		keep_locked(l, ev.seq, buf + at - n, n);
	}
}

static void say_ring(struct lookout *l, bool has_ring, const char *error)
{
	pthread_mutex_lock(&l->lock);
	l->has_ring = has_ring;
	snprintf(l->ring_error, sizeof(l->ring_error), "%s", error);
	pthread_mutex_unlock(&l->lock);
}

static int open_ring(struct follower *f)
{
	struct event_ring_stats stats;
	struct stat st;
	uint64_t from;
	int r;

	if (stat(f->path, &st) < 0)
		return -errno;
	r = event_ring_open_readonly(f->path, &f->ring);
	if (r < 0)
		return r;
	f->ino = st.st_ino;
	event_ring_stats(f->ring, &stats);
	pthread_mutex_lock(&f->l->lock);
	from = f->l->next_seq;
	pthread_mutex_unlock(&f->l->lock);
	if (!from && stats.next_seq > LOOKOUT_LOOK_BACK)
		from = stats.next_seq - LOOKOUT_LOOK_BACK;
	r = event_ring_seek(f->ring, from, &f->cursor);
	if (r < 0) {
		event_ring_close(f->ring);
		f->ring = NULL;
	}
	return r;
}

static void close_ring(struct follower *f)
{
	event_ring_close(f->ring);
	f->ring = NULL;
}

/* True: there was something, and there may be more. */
static bool follow(struct follower *f, int *ret_error)
{
	struct event_ring_stats stats;
	uint64_t overwritten = 0;
	ssize_t len = event_ring_read(f->ring, &f->cursor, f->buf, READ_BYTES, &overwritten);

	event_ring_stats(f->ring, &stats);
	pthread_mutex_lock(&f->l->lock);
	f->l->ring = stats;
	f->l->nregistered = 0;
	for (unsigned i = 0; i < EVENT_RING_CONSUMERS && f->l->nregistered < EVENT_REGISTERED_MAX; i++)
		f->l->nregistered += event_registry_at(f->ring, i, &f->l->registered[f->l->nregistered]);
	f->l->missed += overwritten;
	if (len > 0)
		take_batch_locked(f->l, f->buf, len);
	pthread_mutex_unlock(&f->l->lock);
	*ret_error = len < 0 ? (int)len : 0;
	return len > 0;
}

static bool ring_was_replaced(const struct follower *f)
{
	struct stat st;

	return stat(f->path, &st) < 0 || st.st_ino != f->ino;
}

static void *events_main(void *arg)
{
	struct follower f = { .l = arg };
	bool goes_on = true, more;
	int r;

	snprintf(f.path, sizeof(f.path), "%s/" EVENT_RING_FILE, f.l->state_dir);
	f.buf = malloc(READ_BYTES);
	while (goes_on && f.buf) {
		r = f.ring ? 0 : open_ring(&f);
		if (r < 0) {
			say_ring(f.l, false, r == -ENOENT ? "" : r == -EBADMSG ? "not a ring of this version" : strerror(-r));
			goes_on = pause_ms(f.l, RETRY_MS);
			continue;
		}
		say_ring(f.l, true, "");
		more = follow(&f, &r);
		goes_on = pause_ms(f.l, more ? 0 : FOLLOW_MS);
		if (r < 0) {
			say_ring(f.l, true, r == -EBADMSG ? "a record does not verify" : strerror(-r));
			goes_on = pause_ms(f.l, RETRY_MS);
		}
		if (r < 0 || (!more && ring_was_replaced(&f)))
			close_ring(&f);
	}
	close_ring(&f);
	free(f.buf);
	return NULL;
}

int lookout_events(struct lookout *l, uint64_t after, char **ret_text, size_t *ret_len)
{
	struct event_json format = { 0 };
	struct event_counts none = { 0 };
	char *line = malloc(EVENT_JSON_MAX), *text = NULL;
	uint64_t next, first, skipped = 0;
	size_t len = 0, n = 0;
	FILE *out = line ? open_memstream(&text, &len) : NULL;

	if (!out) {
		free(line);
		return -ENOMEM;
	}
	pthread_mutex_lock(&l->lock);
	first = l->nevents - l->nkept;
	if (after == UINT64_MAX)
		first = l->nkept > LOOKOUT_ANSWER_EVENTS ? l->nevents - LOOKOUT_ANSWER_EVENTS : first;
	else if (l->nkept && l->events[first % LOOKOUT_EVENTS].seq > after + 1)
		skipped = l->events[first % LOOKOUT_EVENTS].seq - after - 1;
	next = after == UINT64_MAX ? 0 : after;
	fprintf(out, "{\"missed\":%llu,\"skipped\":%llu,\"events\":[", (unsigned long long)l->missed, (unsigned long long)skipped);
	for (uint64_t i = first; i < l->nevents && n < LOOKOUT_ANSWER_EVENTS && ftell(out) < LOOKOUT_ANSWER_BYTES; i++) {
		const struct lookout_event *kept = &l->events[i % LOOKOUT_EVENTS];
		struct event ev;

		if ((after != UINT64_MAX && kept->seq <= after) || event_ring_record(kept->record, kept->len, &ev) < 0)
			continue;
		fputs(n++ ? "," : "", out);
		/* Without its newline. */
		(void)!fwrite(line, 1, event_json_format(&format, &ev, &none, line) - 1, out);	/* fclose() tells */
		next = kept->seq;
	}
	pthread_mutex_unlock(&l->lock);
	fprintf(out, "],\"next\":%llu}", (unsigned long long)next);
	free(line);
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

/* ---- the daemon ---- */

bool lookout_daemon_silent_locked(const struct lookout *l)
{
	return l->asking && lookout_mono_ns() - l->asked_ns > LOOKOUT_SILENT_NS;
}

static uint64_t sum_of(json_t *numbers)
{
	uint64_t sum = 0;
	const char *name;
	json_t *n;

	json_object_foreach(numbers, name, n)
		sum += (uint64_t)json_integer_value(n);
	return sum;
}

/* Where there is no ring, refusals a minute are what the daemon's counters grew by. */
static void take_counters_locked(struct lookout *l, json_t *mount)
{
	uint64_t refused = sum_of(json_object_get(mount, "refused"));
	int64_t pid = json_get_int(mount, "pid");

	if (!l->has_ring && l->base.known && l->base.pid == pid && refused > l->base.refused)
		note_refused_locked(l, wall_ns(), refused - l->base.refused);
	l->base = (struct lookout_base){ .pid = pid, .refused = refused, .known = true };
}

static void ask_daemon(struct lookout *l, struct client **client)
{
	json_t *answer = NULL, *mount, *old;
	char why[256] = "";
	int r;

	pthread_mutex_lock(&l->lock);
	l->asking = true;
	l->asked_ns = lookout_mono_ns();
	pthread_mutex_unlock(&l->lock);
	r = *client ? 0 : client_connect(l->state_dir, client);
	if (r == 0)
		r = client_call(*client, json_pack("{s:s}", "verb", "mount"), NULL, NULL, &answer);
	mount = json_object_get(answer, "mount");
	if (r == 0 && !json_is_object(mount))
		r = -EPROTO;
	if (r < 0) {
		snprintf(why, sizeof(why), "%s", client_is_absence(r) || r == -ECONNRESET ? "not mounted: nothing is enforced" :
			 r == -EACCES ? "only root, or the user who mounted the share, may ask its daemon" : strerror(-r));
		client_close(*client);
		*client = NULL;
	}
	pthread_mutex_lock(&l->lock);
	old = l->mount;
	l->mount = r == 0 ? json_incref(mount) : NULL;
	if (r == 0)
		take_counters_locked(l, mount);
	memcpy(l->daemon_error, why, sizeof(why));
	l->asking = false;
	l->answered_ns = lookout_mono_ns();
	pthread_mutex_unlock(&l->lock);
	json_decref(old);
	json_decref(answer);
}

/* ---- the ledger ---- */

/* Opened each time: it may be made anew, and its daemon come and go. */
static void walk_ledger(struct lookout *l, struct census *walk)
{
	int64_t mono_ms = lookout_mono_ns() / 1000000;
	uint64_t waiting = 0, failed = 0;
	char why[256] = "";
	struct ledger *ledger = NULL;
	int r;

	r = ledger_open(l->state_dir, LEDGER_READONLY, NULL, &ledger);
	if (r < 0) {
		snprintf(why, sizeof(why), "%s", r == -ENOENT ? "there is no ledger" : ledger_error(NULL));
		census_begin(walk, wall_ns() / 1000000000, 0);	/* from the start when it is there again */
	} else {
		if (census_is_due(walk, mono_ms))
			census_begin(walk, wall_ns() / 1000000000, mono_ms);
		r = census_step(walk, ledger);
		if (r == 0)
			r = ledger_push_count(ledger, &waiting, &failed);
		if (r < 0)
			snprintf(why, sizeof(why), "%s", ledger_error(ledger));
	}
	ledger_close(ledger);
	pthread_mutex_lock(&l->lock);
	if (walk->complete || !l->census.complete)
		l->census = *walk;
	memcpy(l->census_error, why, sizeof(why));
	l->has_push = r == 0;
	l->push_waiting = waiting;
	l->push_failed = failed;
	pthread_mutex_unlock(&l->lock);
}

static void *daemon_main(void *arg)
{
	struct lookout *l = arg;
	struct census *walk = calloc(1, sizeof(*walk));
	struct client *client = NULL;

	if (walk)
		do {
			ask_daemon(l, &client);
			walk_ledger(l, walk);
		} while (pause_ms(l, ASK_MS));
	client_close(client);
	free(walk);
	return NULL;
}

/* ---- open and close ---- */

static void free_lookout(struct lookout *l)
{
	while (l->nkept)
		drop_oldest_locked(l);
	json_decref(l->mount);
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	free(l->share);
	free(l->state_dir);
	free(l);
}

static void tell_to_stop(struct lookout *l)
{
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

int lookout_open(const char *share, const char *state_dir, struct lookout **ret_lookout)
{
	struct lookout *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	monotonic_cond_init(&l->wake);
	l->share = strdup(share);
	l->state_dir = strdup(state_dir);
	snprintf(l->daemon_error, sizeof(l->daemon_error), "not asked yet");
	r = l->share && l->state_dir ? thread_start(&l->events_thread, "events-read", events_main, l) : -ENOMEM;
	if (r < 0) {
		free_lookout(l);
		return r;
	}
	r = thread_start(&l->daemon_thread, "status", daemon_main, l);
	if (r < 0) {
		tell_to_stop(l);
		pthread_join(l->events_thread, NULL);
		free_lookout(l);
		return r;
	}
	*ret_lookout = l;
	return 0;
}

int lookout_close(struct lookout *l)
{
	struct timespec until;
	int r;

	if (!l)
		return 0;
	tell_to_stop(l);
	pthread_join(l->events_thread, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_WAIT_S;
	r = -pthread_timedjoin_np(l->daemon_thread, NULL, &until);
	if (r < 0)
		return r;
	free_lookout(l);
	return 0;
}
