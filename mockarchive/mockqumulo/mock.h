/* The stand-in as a whole: what it holds, and one request on its way through it.
 *
 * Everything below is guarded by mock.lock, which is held while a request is judged and carried out and never while its
 * reply goes out; what a delayed reply waits for costs no thread and no lock. */
#ifndef WORMFS_MOCK_H
#define WORMFS_MOCK_H

#include <pthread.h>

#include <jansson.h>

#include "mockarchive/http_server.h"
#include "mockarchive/mockqumulo/faults.h"
#include "mockarchive/mockqumulo/files.h"
#include "mockarchive/mockqumulo/journal.h"
#include "mockarchive/mockqumulo/lock_rules.h"
#include "mockarchive/mockqumulo/notify.h"
#include "mockarchive/mockqumulo/route.h"
#include "mockarchive/mockqumulo/sessions.h"
#include "mockarchive/mockqumulo/switches.h"

#define PRIVILEGE_LOCK "PRIVILEGE_FS_FILE_LOCK_WRITE"

struct mock {
	pthread_mutex_t lock;
	struct switches switches;
	int64_t offset_ns;		/* the clock is CLOCK_REALTIME and this */
	bool frozen;			/* it stands at offset_ns since 1970 */
	struct sessions *sessions;
	struct files *files;
	struct faults *faults;
	struct journal *journal;
	struct notify *notify;
};

/* One request and the reply that is being made for it. */
struct exchange {
	struct mock *mock;
	struct http_request *req;
	const char *method, *path, *query, *body;
	size_t body_len;
	struct route route;
	bool may_lock;			/* the login's privilege */
	bool no_lock;			/* a fault: the lock is left out of the reply */
	/* The reply. */
	unsigned status;
	json_t *json;			/* or: */
	char *raw;			/* with raw_len bytes, of this type */
	size_t raw_len;
	const char *content_type;
	char etag[64];			/* "": none */
	const char *error_class;	/* of a refusal, for the journal; NULL: none */
	bool streaming;			/* answered already, by notify */
};

struct qtime mock_now(const struct mock *mock);

/* Replies with an error body. error_class and why are constants or texts of the switches. */
void exchange_refuse(struct exchange *x, unsigned status, const char *error_class, const char *why);
void exchange_refuse_by(struct exchange *x, const struct refusal *refusal);
/* An errno of the tree as the interface says it. */
void exchange_refuse_errno(struct exchange *x, int r);
/* The value of a query parameter that is a flag; "True" is one, too. */
bool exchange_flag(const struct exchange *x, const char *name);

/* Before a reply that is a stream: the headers, and the line in the journal. The request is not the exchange's any more. */
void exchange_begin_stream(struct exchange *x);

/* The handler of http_server.h; `owner` is the mock. */
void mock_handle(void *owner, struct http_request *req);

/* Endpoints of files (file_requests.c) and the control endpoints below /mock/ (control.c). */
void files_request(struct exchange *x);
void control_request(struct exchange *x);

#endif
