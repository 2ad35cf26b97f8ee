/* The WLCG Tape REST API, version 1: stage requests, and what a client may ask about them. Requests are kept in a
 * directory, and a restart goes on with them. Any thread; one lock, never held across a call of the archive's. */
#ifndef WORMFS_MOCKARCHIVE_REST_H
#define WORMFS_MOCKARCHIVE_REST_H

#include "mockarchive/archive.h"

#define REST_REQUESTS_MAX 10000		/* the oldest that is complete makes room; none is: 503 */
#define REST_FILES_MAX 1000000		/* of all requests together */

struct rest;

int rest_open(struct archive *archive, const char *site, struct rest **ret_rest);
/* Once, before anybody else knows of it: requests are kept in this directory from now on, and those that are there are taken up. */
int rest_keep(struct rest *tape, const char *dir);
void rest_close(struct rest *tape);
/* Files that found the queue full are asked for again. Called when something has happened in the archive. */
void rest_retry(struct rest *tape);
void rest_reset(struct rest *tape);

#endif
