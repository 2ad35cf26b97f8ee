/* What keeper (pusher.c) and engine (push_engine.c) share. Nobody else includes this. */
#ifndef WORMFS_PUSHER_PRIVATE_H
#define WORMFS_PUSHER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "lockstore/upstream/breaker.h"
#include "lockstore/upstream/pusher.h"


enum job_step {
	JOB_LOOK_FIRST,		/* GET: an earlier request may have been carried out, or nobody knows what was */
	JOB_SEND,
	JOB_LOOK_AFTER,		/* GET: what the answer left open, or refused */
};

enum job_end {
	JOB_UNSENT,		/* given back: the breaker opened, or the end */
	JOB_TOLD,		/* proven */
	JOB_LATER,		/* what passes: tried again soon */
	JOB_REFUSED,		/* what does not pass by itself */
};

struct job {
	struct job *next;	/* queue, results, or the keeper's spare ones */
	struct job *next_same;	/* keeper: chain of the table of ids */
	int64_t id;
	struct file_key key;
	char *path, *ref;
	struct push_plan plan;
	unsigned tries;
	bool was_failed;	/* in the ledger before */
	enum job_step step;
	bool sent_again;	/* JOB_SEND came twice */
	enum job_end end;
	int status;
	unsigned retry_after_s;
	char class[UPSTREAM_CLASS_BYTES];
	char text[UPSTREAM_TEXT_BYTES];
	struct qumulo_call call;
};

struct waiter {
	struct waiter *next;
	struct file_key key;
	bool done;
	int r;
};

struct pusher {
	struct ledger *ledger;
	struct pusher_config config;
	char *root;
	unsigned retry_ms, outstanding_max;
	pthread_t keeper, engine;
	atomic_bool stopping;
	struct qumulo *qumulo;		/* the engine's; qumulo_wake() is everybody's */

	pthread_mutex_t lock;		/* all below; never held across a call of ledger, cluster or ops */
	pthread_cond_t news;		/* for the keeper: results, a kick, the end */
	pthread_cond_t waited;		/* for waiters */
	bool kicked;
	struct job *queue, **queue_tail;	/* to the engine */
	unsigned nqueued;
	struct job *results;		/* to the keeper */
	struct waiter *waiters;
	struct breaker breaker;
	char reason[PUSHER_REASON_BYTES];
	int64_t since_s, since_ms;
	uint64_t told, refused, requests;
	unsigned in_flight;
	bool checked;
	struct upstream_finding findings[UPSTREAM_CHECKS];
	bool has_skew, skew_said;
	int64_t skew_s;
};

int64_t pusher_now_ms(void);		/* monotonic */
void pusher_log(struct pusher *pusher, enum pusher_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

void *push_engine_run(void *pusher);

#endif
