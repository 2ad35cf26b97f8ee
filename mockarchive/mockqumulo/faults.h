/* Faults on command: what goes wrong, with which requests, how often. Not locked: the owner does that. */
#ifndef WORMFS_FAULTS_H
#define WORMFS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define FAULTS_MAX 1000

enum fault_kind {
	FAULT_STATUS,		/* a reply with this status and error class */
	FAULT_NOT_JSON,		/* 200 and a page of HTML */
	FAULT_NO_LOCK,		/* 200 without `lock` */
	FAULT_HUGE,		/* the reply with `bytes` of padding more */
	FAULT_CUT,		/* the reply ends after `bytes` */
	FAULT_CLOSE_BEFORE,	/* the connection closes, nothing was done */
	FAULT_CLOSE_AFTER,	/* likewise, and it was done */
	FAULT_SLOW,		/* the reply in pieces of `bytes`, ms apart */
	FAULT_DELAY,		/* the reply ms later */
	FAULT_CHUNKED,		/* the reply without a length, in pieces of `bytes` */
};

struct fault {
	unsigned id;
	enum fault_kind kind;
	const char *name;
	unsigned status;
	char *error_class;
	bool applies;			/* the request is carried out all the same */
	unsigned retry_after_s;		/* 0: no such header */
	bool retry_after_date;
	unsigned ms;
	size_t bytes;
	char *method, *path;		/* NULL: any; path is a glob(7) of the raw path, without /api */
	uint64_t skip, times;		/* the first of those that match; then so many (0: without end) */
	double probability;		/* 1: always */
	uint64_t random;
	uint64_t matched, fired;
};

struct faults;

int faults_open(struct faults **ret_faults);
void faults_close(struct faults *f);

/* From {"kind": ..., ...}. -EINVAL: *ret_why is a constant. -ENOSPC. */
int faults_add(struct faults *f, json_t *spec, unsigned *ret_id, const char **ret_why);
/* 0: all. -ENOENT. */
int faults_remove(struct faults *f, unsigned id);
json_t *faults_json(const struct faults *f);

/* The first that fires; NULL: none. It stays as it is until the next add or remove. */
const struct fault *faults_match(struct faults *f, const char *method, const char *path);

#endif
