/* Between lookout.c, census.c, lookout_json.c and lookout_metrics.c only. */
#ifndef WORMFS_WORMCTL_LOOKOUT_PRIVATE_H
#define WORMFS_WORMCTL_LOOKOUT_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lockstore/events/event_registry.h"
#include "lockstore/events/event_ring.h"
#include "lockstore/wormctl/census.h"
#include "lockstore/wormctl/lookout.h"
#include "lockstore/wormctl/output.h"

struct lookout_event {
	uint64_t seq;
	void *record;		/* as in the ring */
	size_t len;
};

/* Numbers of one daemon: where the refusals of a share without a ring come from. */
struct lookout_base {
	int64_t pid;
	uint64_t refused;
	bool known;
};

struct lookout {
	char *share, *state_dir;		/* constant */
	pthread_t events_thread, daemon_thread;
	pthread_mutex_t lock;			/* all below; never held across a call of the daemon, the ledger or the ring */
	pthread_cond_t wake;			/* CLOCK_MONOTONIC */
	bool stop;

	/* events_thread writes. */
	struct lookout_event events[LOOKOUT_EVENTS];	/* the oldest at nevents - nkept, modulo */
	uint64_t nevents;
	size_t nkept, kept_bytes;
	uint64_t next_seq, missed;
	bool has_ring;
	char ring_error[128];			/* "": none, or there is no ring */
	struct event_ring_stats ring;
	struct event_registered registered[EVENT_REGISTERED_MAX];	/* consumers that read the ring by themselves */
	unsigned nregistered;
	struct { int64_t minute; uint64_t refused; } minutes[LOOKOUT_MINUTES];

	/* daemon_thread writes. */
	json_t *mount;				/* what the daemon said last; NULL: none runs */
	char daemon_error[256];			/* why there is no answer */
	bool asking;
	int64_t asked_ns, answered_ns;		/* CLOCK_MONOTONIC */
	struct lookout_base base;
	struct census census;
	char census_error[256];
	bool has_push;
	uint64_t push_waiting, push_failed;	/* from the ledger */
};

int64_t lookout_mono_ns(void);
/* The daemon was asked and says nothing for so long. */
#define LOOKOUT_SILENT_NS 5000000000LL
bool lookout_daemon_silent_locked(const struct lookout *l);
/* Refusals of the minute that is so many minutes ago. */
uint64_t lookout_refused_locked(const struct lookout *l, int64_t minute);

/* A name of a sink or a cluster without what is nobody's business: user and password of a URL, its query. Into `out`. */
void lookout_public_name(const char *name, char *out, size_t size);

#endif
