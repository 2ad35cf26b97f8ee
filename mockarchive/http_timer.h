/* One thread that calls back when a time has come. Times are CLOCK_MONOTONIC, nanoseconds. */
#ifndef WORMFS_HTTP_TIMER_H
#define WORMFS_HTTP_TIMER_H

#include <stdint.h>

struct http_timer;

/* Lives in what it wakes, which must outlast the call of fn; at most once in the timer at a time. */
struct http_timer_entry {
	int64_t due_ns;
	void (*fn)(struct http_timer_entry *entry);	/* in the timer's thread, with none of its locks held */
};

int64_t http_timer_now_ns(void);

int http_timer_open(struct http_timer **ret_timer);
/* Calls what is still in it, early, and ends the thread. */
void http_timer_close(struct http_timer *timer);

/* Any thread, also from fn. -ENOMEM: not taken. */
int http_timer_add(struct http_timer *timer, struct http_timer_entry *entry);

#endif
