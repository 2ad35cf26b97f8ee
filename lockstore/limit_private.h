/* Between limit.c and limit_file.c; nobody else includes it. */
#ifndef WORMFS_LIMIT_PRIVATE_H
#define WORMFS_LIMIT_PRIVATE_H

#include <pthread.h>

#include "lockstore/limit.h"

struct entry {
	struct limit_section section;	/* constant, but for limits_set_id() */
	struct limit_usage usage;	/* limits.lock, with all below */
	bool at_advisory[LIMIT_RESOURCES], at_hard[LIMIT_RESOURCES];
};

struct limits {
	struct entry *entries;
	size_t n, size;
	int *by_path;			/* the directories, in order of their names */
	size_t ndirectories;
	int *by_uid;			/* the users, in order of their numbers: each write asks */
	size_t nusers;
	bool has[LIMIT_RULE + 1];
	bool adrift;			/* lock */
	pthread_mutex_t lock;		/* a leaf */
};

/* The limited directory around a directory of this name, which may be limited itself. */
int limits_around(const struct limits *limits, const char *name);

#endif
