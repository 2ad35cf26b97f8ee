/* How a thread of ours begins. */
#ifndef WORMFS_THREAD_H
#define WORMFS_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

/* It shows as `name` (the first 15 bytes of it) in top -H, in perf and where stacks are printed. Signals do not reach it: they are for the
 * thread that waits for them, and one that lands elsewhere wakes nobody; a fault of its own still ends the process. ret_thread: to be
 * joined; NULL: detached. 0 or -errno. */
static inline int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *arg), void *arg)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	pthread_t own, *thread = ret_thread ? ret_thread : &own;
	sigset_t blocked, before;
	char shown[16];
	int r;

	sigfillset(&blocked);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&blocked, faults[i]);
	/* A thread begins with the mask of the one that starts it. */
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	r = -pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return r;
	snprintf(shown, sizeof(shown), "%s", name);
	(void)pthread_setname_np(*thread, shown);
	if (!ret_thread)
		pthread_detach(own);
	return 0;
}

#endif
