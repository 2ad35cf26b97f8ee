/* The WLCG Tape REST API, version 1: stage requests, and what a client may ask about them. Requests live in memory and end with
 * the process; what they started is the archive's and goes on. Any thread; one lock, never held across a call of the archive's. */
#ifndef WORMFS_MOCKARCHIVE_REST_H
#define WORMFS_MOCKARCHIVE_REST_H

#include "mockarchive/archive.h"

#define REST_REQUESTS_MAX 10000		/* the oldest that is complete makes room; none is: 503 */
#define REST_FILES_MAX 1000000		/* of all requests together */

struct rest;

int rest_open(struct archive *archive, const char *site, struct rest **ret_rest);
void rest_close(struct rest *tape);
/* Files that found the queue full are asked for again. Called when something has happened in the archive. */
void rest_retry(struct rest *tape);
void rest_reset(struct rest *tape);

#endif
