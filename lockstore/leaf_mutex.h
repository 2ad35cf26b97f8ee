/* A mutex for a few instructions and never a system call: who meets it taken spins a little before it sleeps. To
 * wake a sleeper costs more than such a section takes, in a virtual machine a hundred times more. */
#ifndef WORMFS_LEAF_MUTEX_H
#define WORMFS_LEAF_MUTEX_H

#include <pthread.h>

static inline void leaf_mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
}

#endif
