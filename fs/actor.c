/* All of it is the thread's own: no lock. */
#include "fs/actor.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KNOWN 8		/* commands a thread remembers */
#define FRESH_S 1	/* a pid may run another program after that */

static _Thread_local struct actor current;
static _Thread_local bool entered;

static _Thread_local struct {
	pid_t pid;
	time_t read_s;
	char comm[ACTOR_COMM_BYTES];
} known[KNOWN];

void actor_set(uid_t uid, gid_t gid, pid_t pid)
{
	current = (struct actor){ .uid = uid, .gid = gid, .pid = pid };
	entered = true;
}

void actor_set_peer(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		actor_set(peer.uid, peer.gid, peer.pid);
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

const char *actor_comm(void)
{
	pid_t pid = entered ? current.pid : getpid();
	unsigned i = (unsigned)pid % KNOWN;
	struct timespec now;

	if (pid <= 0)
		return "";
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (known[i].pid != pid || now.tv_sec - known[i].read_s > FRESH_S) {
		read_comm(pid, known[i].comm);
		known[i].pid = pid;
		known[i].read_s = now.tv_sec;
	}
	return known[i].comm;
}
