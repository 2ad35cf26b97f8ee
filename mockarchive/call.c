/* Parked callers. All of them are in one list; one that may go on is moved to the answerers' queue. Always true: a call is in the
 * list only with its interrupt function set, and is freed only after that was taken back (libfuse holds the request's lock while the
 * function runs), so an interrupt never meets a call that is gone. */
#include "mockarchive/call.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/log.h"
#include "lockstore/thread.h"

enum { PARK = 1 };

static void park_locked(struct call *c)
{
	struct archive *a = c->a;

	c->parked = true;
	c->prev = NULL;
	c->next = a->waiting;
	if (a->waiting)
		a->waiting->prev = c;
	a->waiting = c;
	a->nwaiting++;
	a->count.waited++;
}

static void ready_locked(struct call *c)
{
	struct archive *a = c->a;

	if (c->prev)
		c->prev->next = c->next;
	else
		a->waiting = c->next;
	if (c->next)
		c->next->prev = c->prev;
	a->nwaiting--;
	c->parked = false;
	c->next = NULL;
	*a->ready_tail = c;
	a->ready_tail = &c->next;
	pthread_cond_signal(&a->ready);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct call *c = arg;
	struct archive *a = c->a;

	pthread_mutex_lock(&a->lock);
	c->interrupted = true;
	if (c->parked && !c->unkillable) {
		a->count.interrupted++;
		ready_locked(c);
	}
	pthread_mutex_unlock(&a->lock);
}

static fuse_ino_t wants_of(const struct call *c)
{
	return c->wants_of ? c->wants_of : c->nodeid;
}

void call_wake_file_locked(struct archive *a, uint64_t id, int error)
{
	struct file *f = file_find_locked(a, id);
	struct call *next;

	for (struct call *c = a->waiting; c; c = next) {
		next = c->next;
		if (c->waits != WAITS_FILE || wants_of(c) != id)
			continue;
		c->error = error;
		if (f && !error && !f->offline && !c->entered) {	/* it counts as reading from here on: nobody takes it away first */
			c->entered = true;
			c->file = f;
			f->uses++;
			file_ref_locked(f);
		}
		ready_locked(c);
	}
}

void call_wake_room_locked(struct archive *a)
{
	struct call *next;

	for (struct call *c = a->waiting; c; c = next) {
		next = c->next;
		if (c->waits == WAITS_ROOM)
			ready_locked(c);
	}
}

void call_due_locked(struct archive *a, uint64_t serial)
{
	for (struct call *c = a->waiting; c; c = c->next) {
		if (c->serial != serial)
			continue;
		if (c->waits == WAITS_FILE)
			c->error = -a->set.read_errno;
		c->due_ns = 0;
		ready_locked(c);
		return;
	}
}

void call_look_again_locked(struct archive *a)
{
	struct call *next;

	for (struct call *c = a->waiting; c; c = next) {
		next = c->next;
		if (c->waits == WAITS_ROOM)	/* a pin may have ended */
			ready_locked(c);
		if (c->waits != WAITS_RULE)
			continue;
		if (!faults_has_number(a->faults, c->hang_number, clock_now_locked(a)))
			ready_locked(c);
		else
			clock_look_later_locked(a);
	}
}

/* ---- deciding ---- */

char *call_path(struct archive *a, fuse_ino_t nodeid, const char *name)
{
	struct inode *ino = inode_get(a->fs, nodeid);
	char *dir = NULL, *path = NULL;

	if (!ino || inode_path(a->fs, ino, &dir) < 0)
		dir = strdup("");
	inode_put(a->fs, ino);
	if (!name || !dir)
		return dir;
	if (asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", name) < 0)
		path = NULL;
	free(dir);
	return path;
}

/* Rules are asked once a call. Without the lock. */
static void ask(struct call *c)
{
	unsigned rules, enabled;
	struct fault_query query = { .point = c->point, .can = c->can | FAULT_DO_ERRNO | FAULT_DO_DELAY | FAULT_DO_HANG | FAULT_DO_CRASH,
				     .copy = FAULT_COPY_FINAL, .has_caller = true, .uid = fuse_req_ctx(c->req)->uid, .pid = fuse_req_ctx(c->req)->pid,
				     .offset_bytes = c->offset, .len_bytes = c->size, .size_bytes = -1 };
	struct archive *a = c->a;
	struct fault_verdict v;
	uint64_t fired;
	struct file *f;
	char *path;

	c->asked = true;
	if (c->point == FAULT_POINTS)
		return;
	faults_count(a->faults, &rules, &enabled, &fired);
	if (!enabled)
		return;		/* without the path, which costs more than all else here */
	path = call_path(a, c->nodeid, c->name);
	if (!path)
		return;
	pthread_mutex_lock(&a->lock);
	f = c->name ? NULL : file_find_locked(a, c->nodeid);
	if (f)
		query.size_bytes = f->size_bytes;
	query.now_ns = clock_now_locked(a);
	pthread_mutex_unlock(&a->lock);
	query.path = path;
	faults_ask(a->faults, &query, &v);
	free(path);
	if (v.did & FAULT_DO_CRASH)
		kill(getpid(), SIGKILL);
	if (v.did & FAULT_DO_ERRNO)
		c->fault_error = v.error;
	else if (v.did & FAULT_DO_ENOSPC)
		c->fault_error = -ENOSPC;
	if (v.did & FAULT_DO_DELAY)
		c->delay_ns = v.delay_ns;
	if (v.did & FAULT_DO_RATE)
		c->delay_ns = clock_after(c->delay_ns, (int64_t)((double)c->size * ARCHIVE_NS / v.rate_bytes_s));
	if (v.did & FAULT_DO_CORRUPT)
		c->corrupt = v.corrupt;
	if (v.did & FAULT_DO_HANG) {
		c->waits = WAITS_RULE;
		c->hang_number = v.hang_number;
		c->unkillable = v.hang == FAULT_HANG_UNKILLABLE;
	}
}

/* The answer to who wants what is on tape. */
static int offline_locked(struct call *c, struct file *f)
{
	struct archive *a = c->a;
	const struct settings *s = &a->set;
	int r;

	switch (archive_shown_locked(a, f)) {
	case ARCHIVE_LOST:
		return -s->lost_errno;
	case ARCHIVE_DAMAGED:
		return -s->damaged_errno;
	case ARCHIVE_UNAVAILABLE:
		return -s->unavailable_errno;
	default:
		break;
	}
	if (f->gone && f->nreaders == 0)
		return -EIO;	/* deleted, and its copies with it */
	if (s->trigger == TRIGGER_EXPLICIT && !f->job)
		return -s->read_errno;
	r = robot_recall_locked(a, f, 0, NULL);
	if (r < 0)
		return r;
	if (c->nonblock && c->wants == WANTS_OPEN && s->nonblock_errno)
		return -s->nonblock_errno;
	if (s->answer == ANSWER_ERRNO)
		return -s->read_errno;
	if (s->answer == ANSWER_BLOCK_ERRNO) {
		/* The same for all of them: the kernel reads ahead, and then once more. */
		if (!f->patience_ns)
			f->patience_ns = clock_after(clock_now_locked(a), s->block_ns);
		if (clock_now_locked(a) >= f->patience_ns)
			return -s->read_errno;
		if (!c->serial) {
			c->serial = serial_locked(a);
			clock_add_locked(a, f->patience_ns, DUE_CALL, c->serial, 0);
		}
	}
	c->waits = WAITS_FILE;
	return PARK;
}

static int enter_locked(struct call *c)
{
	struct archive *a = c->a;
	struct file *f = file_find_locked(a, wants_of(c));
	int r;

	if (!f)
		return 0;
	if (f->busy) {
		c->waits = WAITS_FILE;
		return PARK;
	}
	if (f->offline && c->wants != WANTS_STILL && !(c->wants == WANTS_OPEN && a->set.trigger != TRIGGER_OPEN) &&
	    !(c->wants == WANTS_READ && c->offset + c->size <= f->stub_bytes) &&
	    !(c->wants == WANTS_READ && (uint64_t)c->offset >= f->size_bytes)) {
		r = offline_locked(c, f);
		if (r != 0 || f->offline)
			return r;
	}
	c->file = f;
	c->entered = true;
	f->uses++;
	file_ref_locked(f);
	return 0;
}

/* The disk cache has room for what is to be written, which is taken. */
static int take_room_locked(struct call *c)
{
	struct archive *a = c->a;
	struct file *f = c->room_of ? file_find_locked(a, c->room_of) : NULL;
	int r;

	if (!f || c->has_room || c->room_end <= f->disk_bytes)
		return 0;
	r = robot_room_locked(a, c->room_end - f->disk_bytes);
	if (r == -EAGAIN || (r == -ENOSPC && a->set.cache_full == FULL_WAIT && c->room_end <= a->set.cache_bytes)) {
		c->waits = WAITS_ROOM;
		if (r == -ENOSPC)
			clock_look_later_locked(a);
		return PARK;
	}
	c->waits = WAITS_NOT;
	c->has_room = r == 0;
	if (r == 0)
		file_charge_locked(a, f, c->room_end);
	return r;
}

/* 0: go on; PARK; -errno. */
static int decide_locked(struct call *c)
{
	struct archive *a = c->a;
	int r;

	if (c->interrupted && !c->unkillable && !c->entered)
		return -EINTR;
	if (c->error)
		return c->error;
	if (a->stopping)
		return -EIO;
	if (c->waits == WAITS_RULE) {
		if (faults_has_number(a->faults, c->hang_number, clock_now_locked(a))) {
			clock_look_later_locked(a);
			return PARK;
		}
		c->waits = WAITS_NOT;
		c->unkillable = false;
		c->serial = 0;
		if (c->interrupted)
			return -EINTR;
	}
	if (c->delay_ns > 0 && c->waits != WAITS_TIME) {
		c->waits = WAITS_TIME;
		c->serial = serial_locked(a);
		c->due_ns = clock_after(clock_now_locked(a), c->delay_ns);
		clock_add_locked(a, c->due_ns, DUE_CALL, c->serial, 0);
	}
	if (c->waits == WAITS_TIME) {
		if (clock_now_locked(a) < c->due_ns)	/* its event may have come before it was parked */
			return PARK;
		c->waits = WAITS_NOT;
		c->delay_ns = 0;
		c->serial = 0;
	}
	if (c->fault_error)
		return c->fault_error;
	r = take_room_locked(c);
	if (r != 0)
		return r;
	if (c->entered || c->wants == WANTS_NOTHING)
		return 0;
	return enter_locked(c);
}

/* ---- going on ---- */

static void leave(struct call *c)
{
	struct archive *a = c->a;

	if (!c->entered)
		return;
	pthread_mutex_lock(&a->lock);
	if (--c->file->uses == 0)
		pthread_cond_broadcast(&a->changed);
	file_unref_locked(a, c->file);
	pthread_mutex_unlock(&a->lock);
	c->entered = false;
}

static void end(struct call *c)
{
	if (!c->on_heap)
		return;
	free((char *)c->name);
	free((char *)c->name2);
	free((char *)c->value);
	free(c);
}

static char *copy_text(const char *text, bool *ok)
{
	char *copy = text ? strdup(text) : NULL;

	*ok &= !text || copy;
	return copy;
}

/* The request's own memory ends with its handler. */
static struct call *keep(const struct call *c)
{
	struct call *copy = malloc(sizeof(*copy));
	bool ok = true;

	if (!copy)
		return NULL;
	*copy = *c;
	copy->on_heap = true;
	copy->name = copy_text(c->name, &ok);
	copy->name2 = copy_text(c->name2, &ok);
	if (c->value) {
		copy->value = malloc(c->size ? c->size : 1);
		ok &= copy->value != NULL;
		if (copy->value)
			memcpy((char *)copy->value, c->value, c->size);
	}
	if (ok)
		return copy;
	end(copy);
	return NULL;
}

void call_go(struct call *c)
{
	struct archive *a = c->a;
	struct call *copy;
	int r;

	if (!c->asked)
		ask(c);
	for (;;) {
		pthread_mutex_lock(&a->lock);
		r = decide_locked(c);
		if (r == PARK && c->hooked) {
			park_locked(c);
			pthread_mutex_unlock(&a->lock);
			return;
		}
		pthread_mutex_unlock(&a->lock);
		if (r != PARK)
			break;
		copy = keep(c);
		if (!copy) {
			r = -ENOMEM;
			break;
		}
		c = copy;
		c->hooked = true;
		fuse_req_interrupt_func(c->req, on_interrupt, c);
	}
	if (c->hooked)
		fuse_req_interrupt_func(c->req, NULL, NULL);
	if (r < 0)
		fuse_reply_err(c->req, -r);
	else
		c->run(c);
	leave(c);
	end(c);
}

static void *answerer_thread(void *arg)
{
	struct archive *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stopping || a->ready_head) {
		struct call *c = a->ready_head;

		if (!c) {
			pthread_cond_wait(&a->ready, &a->lock);
			continue;
		}
		a->ready_head = c->next;
		if (!a->ready_head)
			a->ready_tail = &a->ready_head;
		pthread_mutex_unlock(&a->lock);
		call_go(c);
		pthread_mutex_lock(&a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

int call_start(struct archive *a)
{
	int r = 0;

	a->ready_tail = &a->ready_head;
	while (r == 0 && a->nanswerers < sizeof(a->answerers) / sizeof(a->answerers[0])) {
		r = thread_start(&a->answerers[a->nanswerers], "answer", answerer_thread, a);
		a->nanswerers += r == 0;
	}
	return r;
}

void call_stop(struct archive *a)
{
	pthread_mutex_lock(&a->lock);
	while (a->waiting) {
		a->waiting->error = -EIO;
		ready_locked(a->waiting);
	}
	pthread_cond_broadcast(&a->ready);
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->nanswerers; i++)
		pthread_join(a->answerers[i], NULL);
	a->nanswerers = 0;
}
