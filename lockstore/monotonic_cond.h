/* A condition whose pthread_cond_timedwait(3) counts by CLOCK_MONOTONIC: who moves the date moves no time-out. */
#ifndef WORMFS_MONOTONIC_COND_H
#define WORMFS_MONOTONIC_COND_H

#include <pthread.h>
#include <time.h>

static inline void monotonic_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

#endif
