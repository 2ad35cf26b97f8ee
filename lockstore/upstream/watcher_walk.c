#include "lockstore/upstream/watcher_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int on_entry(void *arg, const char *path, const struct upstream_entry *entry)
{
	struct watcher *w = arg;

	if (strcmp(entry->type, WATCHER_REGULAR_FILE) != 0)
		return 0;
	w->walked++;
	watcher_file_met(w, path);
	return 0;
}

static void walk_done(struct watcher *w)
{
	watcher_tell(w, (struct watcher_news){ .event = WATCHER_SCANNED, .files = w->walked });
	walk_close(w->walk);
	w->walk = NULL;
	w->walked = 0;
}

static void page_failed(struct watcher *w, const struct upstream_reply *reply, const char *dir)
{
	char why[WATCHER_REASON_BYTES];
	int64_t ms;

	switch (reply->outcome) {
	case UPSTREAM_MISSING:
		if (!*dir)
			watcher_end(w, -ENODEV, "the directory is not there any more");
		walk_skip(w->walk);
		return;
	case UPSTREAM_DENIED:
	case UPSTREAM_REFUSED:
	case UPSTREAM_IS_LOCKED:
	case UPSTREAM_CHANGED:
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_UNREADABLE, .path = dir, .why = watcher_reason(reply, why) });
		w->totals.unreadable++;
		walk_skip(w->walk);
		return;
	default:
		break;
	}
	ms = watcher_backoff_ms(w, ++w->page_tries, WATCHER_RECONNECT_MAX_MS);
	if (ms < reply->retry_after_s * INT64_C(1000))
		ms = reply->retry_after_s * INT64_C(1000);
	if (w->config->once && w->page_tries > WATCHER_ONCE_TRIES) {
		watcher_end(w, -EIO, "the directory cannot be read: %s", watcher_reason(reply, why));
		return;
	}
	w->page_ms = watcher_now_ms() + ms;
	watcher_tell(w, (struct watcher_news){ .event = WATCHER_TROUBLE, .why = watcher_reason(reply, why), .retry_s = (unsigned)(ms / 1000 + 1) });
}

static void on_page(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct watcher *w = call->arg;
	const char *dir, *after;
	int r;

	w->page_busy = false;
	if (!w->walk || !walk_next(w->walk, &dir, &after))
		return;
	if (reply->outcome != UPSTREAM_DONE) {
		page_failed(w, reply, dir);
		return;
	}
	w->page_tries = 0;
	r = walk_page(w->walk, reply, on_entry, w);
	if (r == -ELOOP) {
		watcher_tell(w, (struct watcher_news){ .event = WATCHER_UNREADABLE, .path = dir, .why = "a page of it names itself as the next one" });
		w->totals.unreadable++;
		walk_skip(w->walk);
	} else if (r == -ENOSPC) {
		watcher_overflow(w);
	} else if (r < 0) {
		watcher_end(w, r, "cannot go on: %s", strerror(-r));
	}
}

static void start_walk(struct watcher *w)
{
	walk_close(w->walk);
	w->walk = NULL;
	w->walked = 0;
	w->scan_wanted = w->told_overflow = false;
	w->scan_ms = w->config->rescan_s ? watcher_now_ms() + w->config->rescan_s * INT64_C(1000) : INT64_MAX;
	if (walk_open("", w->config->recursive, &w->walk) < 0)
		watcher_end(w, -ENOMEM, "out of memory");
}

/* A page is fetched only when the table has room for all that it may bring: a walk does not run ahead of the locks. */
void watcher_walk(struct watcher *w)
{
	size_t room_max = (w->config->files_max ? w->config->files_max : SETTLING_FILES_MAX);
	unsigned limit = WALK_PAGE_ENTRIES < room_max / 2 ? WALK_PAGE_ENTRIES : (unsigned)(room_max / 2 ? room_max / 2 : 1);
	const char *dir, *after;
	int64_t now = watcher_now_ms();
	char *ref;
	int r;

	if (w->page_busy)
		return;
	if ((w->scan_wanted && !w->walk && settling_count(w->files) <= room_max / 2) || (!w->walk && now >= w->scan_ms))
		start_walk(w);
	if (!w->walk || w->end < 0)
		return;
	if (!walk_next(w->walk, &dir, &after)) {
		walk_done(w);
		return;
	}
	if (now < w->page_ms || now < w->paused_ms || settling_is_full(w->files) || settling_count(w->files) + limit > room_max)
		return;
	r = endpoint_ref(w->config->directory, dir, &ref);
	if (r < 0) {
		walk_skip(w->walk);
		return;
	}
	w->page.done = on_page;
	w->page.arg = w;
	r = qumulo_get_entries(w->config->qumulo, &w->page, ref, limit, *after ? after : NULL);
	free(ref);
	w->page_busy = r == 0;
	if (r < 0)
		w->page_ms = now + WATCHER_RETRY_FIRST_MS;
}
