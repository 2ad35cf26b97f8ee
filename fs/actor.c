/* The caller is the thread's own. The names are shared: libfuse ends and begins threads all the time. */
#include "fs/actor.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KNOWN 64	/* commands that are remembered, by pid */
#define FRESH_S 1	/* a pid may run another program after that */

_Thread_local bool actor_sheltered;

static _Thread_local struct actor current;
static _Thread_local bool entered;
static _Thread_local unsigned request;

static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;	/* held for a look only */
static struct {
	pid_t pid;
	time_t read_s;
	char comm[ACTOR_COMM_BYTES];
} known[KNOWN];

void actor_shelter(void)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	actor_sheltered = true;
}

void actor_set(uid_t uid, gid_t gid, pid_t pid)
{
	current = (struct actor){ .uid = uid, .gid = gid, .pid = pid };
	entered = true;
	request += request + 1 ? 1 : 2;	/* never 0 again */
}

void actor_set_peer(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		actor_set(peer.uid, peer.gid, peer.pid);
	request = 0;
}

unsigned actor_request(void)
{
	return request;
}

struct actor actor_get(void)
{
	if (!entered)
		return (struct actor){ .uid = geteuid(), .gid = getegid(), .pid = getpid() };
	return current;
}

static void read_comm(pid_t pid, char comm[ACTOR_COMM_BYTES])
{
	char path[40];
	ssize_t n;
	int fd;

	comm[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);	/* a thread's id is found there, too: proc(5) */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, comm, ACTOR_COMM_BYTES - 1);
	close(fd);
	comm[n > 0 ? n : 0] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
}

static bool is_known(pid_t pid, time_t now_s, char comm[ACTOR_COMM_BYTES])
{
	unsigned i = (unsigned)pid % KNOWN;
	bool fresh;

	pthread_mutex_lock(&known_lock);
	fresh = known[i].pid == pid && now_s - known[i].read_s <= FRESH_S;
	if (fresh)
		memcpy(comm, known[i].comm, ACTOR_COMM_BYTES);
	pthread_mutex_unlock(&known_lock);
	return fresh;
}

void actor_comm(char ret_comm[ACTOR_COMM_BYTES])
{
	pid_t pid = entered ? current.pid : getpid();
	unsigned i = (unsigned)pid % KNOWN;
	struct timespec now;

	ret_comm[0] = '\0';
	if (pid <= 0)
		return;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (is_known(pid, now.tv_sec, ret_comm))
		return;
	read_comm(pid, ret_comm);
	pthread_mutex_lock(&known_lock);
	known[i].pid = pid;
	known[i].read_s = now.tv_sec;
	memcpy(known[i].comm, ret_comm, ACTOR_COMM_BYTES);
	pthread_mutex_unlock(&known_lock);
}
