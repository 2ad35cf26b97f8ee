/* A client of Qumulo's REST interface: many calls in flight on few connections that are kept (HTTP/2 streams where the
 * cluster offers them). Logs in by itself, one login at a time, and once more when a token has run out: a 401 is replayed
 * once. Follows no redirects, uses no proxy, gives up a reply that is too long or too late.
 *
 * One thread at a time; only qumulo_wake() may be called by others. Nothing here waits but qumulo_run() and the calls that
 * say so. qumulo_init() once a process before threads. */
#ifndef WORMFS_UPSTREAM_QUMULO_H
#define WORMFS_UPSTREAM_QUMULO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lockstore/upstream/credentials.h"
#include "lockstore/upstream/endpoint.h"
#include "lockstore/upstream/reply.h"

#define QUMULO_CONNECTIONS 24		/* a node has room for 1,000 */
#define QUMULO_CONNECTIONS_MAX 256
#define QUMULO_STREAMS 100		/* calls on one connection of HTTP/2: what curl gives it, and servers allow (RFC 9113, 6.5.2) */
#define QUMULO_IN_FLIGHT 128
#define QUMULO_IN_FLIGHT_MAX 4096
#define QUMULO_CONNECT_TIMEOUT_MS 10000
#define QUMULO_TIMEOUT_MS 30000		/* a call as a whole */
#define QUMULO_VERSION_MIN "7.2.1"	/* the first with file locks */
#define QUMULO_PRIVILEGE "PRIVILEGE_FS_FILE_LOCK_WRITE"

struct qumulo;

struct qumulo_config {
	struct endpoint endpoint;
	struct upstream_credentials *credentials;	/* not owned, outlives the client; NULL: only questions that need none */
	const char *ca_file;				/* PEM; NULL: the system's. Copied */
	bool insecure;					/* the certificate is not looked at: whoever opens one must say so aloud */
	unsigned connections, in_flight;		/* 0: the defaults above */
	unsigned connect_timeout_ms, timeout_ms;	/* likewise */
};

int qumulo_init(void);
/* -ENOENT etc.: the CA file cannot be read. -ENOMEM. */
int qumulo_open(const struct qumulo_config *config, struct qumulo **ret_qumulo);
/* Calls in flight are dropped, without their done(). NULL is fine. */
void qumulo_close(struct qumulo *qumulo);

/* A call: the caller's storage, which lives until done() was called (it may free it, and start others). */
struct qumulo_call {
	enum upstream_question question;
	void (*done)(struct qumulo_call *call, struct upstream_reply *reply);	/* reply lives until it returns */
	void *arg;
	/* Ours: */
	char *path, *body;		/* freed after done() */
	const char *method;
	char if_match[UPSTREAM_ETAG_BYTES];
	uint64_t token_generation;	/* that it was sent with */
	bool replayed;
	struct qumulo_call *next;
};

/* Each fills in the call and starts it. -EAGAIN: as many as may be are in flight. -ENOMEM. done() is not called then. */

/* Only the keys that are in `set`: retention, and the hold when it is true. release: "legal_hold": false, and only where
 * somebody asked for a release. -EINVAL: nothing is set, or hold and release. if_match NULL: whatever version. */
int qumulo_set_lock(struct qumulo *qumulo, struct qumulo_call *call, const char *ref, const struct upstream_lock *set,
		    bool release, const char *if_match);
int qumulo_get_attributes(struct qumulo *qumulo, struct qumulo_call *call, const char *ref, bool lock);
/* `after`: of the page before; NULL: the first. At most `limit` entries, at most UPSTREAM_ENTRIES_MAX. */
int qumulo_get_entries(struct qumulo *qumulo, struct qumulo_call *call, const char *ref, unsigned limit, const char *after);
int qumulo_resolve(struct qumulo *qumulo, struct qumulo_call *call, const char *const *ids, size_t n);
int qumulo_get_version(struct qumulo *qumulo, struct qumulo_call *call);
int qumulo_who_am_i(struct qumulo *qumulo, struct qumulo_call *call);
/* A login that is a call of its own, to try a user and password. Its token is the reply's. */
int qumulo_login(struct qumulo *qumulo, struct qumulo_call *call, const char *user, const char *password);

/* Moves what can be moved, waits for something to move for at most timeout_ms, and calls done() of what is done.
 * -EIO: the library failed. */
int qumulo_run(struct qumulo *qumulo, unsigned timeout_ms);
/* Ends the wait of qumulo_run(). Any thread. */
void qumulo_wake(struct qumulo *qumulo);
unsigned qumulo_in_flight(const struct qumulo *qumulo);
unsigned qumulo_in_flight_max(const struct qumulo *qumulo);

/* One call from its start (`started`: what one of the above returned) to its reply, which the caller ends with
 * upstream_reply_fini(). 0, or why it could not be asked; what came of it is in the reply. For callers with nothing else in flight:
 *	r = qumulo_wait(q, &call, qumulo_get_version(q, &call), &reply); */
int qumulo_wait(struct qumulo *qumulo, struct qumulo_call *call, int started, struct upstream_reply *ret_reply);

/* "Qumulo Core 7.2.1" >= QUMULO_VERSION_MIN. -EINVAL: not a version. */
int qumulo_version_check(const char *version, bool *ret_new_enough);

/* For a stream that this client does not read itself (change notifications): the token to send. Logs in first where need be, and
 * waits. 0, or -EACCES and the reply says why. The text lives until the next call. */
int qumulo_token(struct qumulo *qumulo, const char **ret_token, struct upstream_reply *ret_reply);
/* TLS, time limits, no proxy, no redirects on a CURL easy handle (void * so that not everybody includes curl). */
void qumulo_set_transport(struct qumulo *qumulo, void *curl_easy);

#endif
