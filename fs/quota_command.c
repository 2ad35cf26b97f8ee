/* A child leads a process group of its own, so that what it started goes with it. Its pidfd says when it has ended; until it is
 * reaped here, its number is nobody else's. */
#include "fs/quota_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int spawn(const char *path, char *const *env, pid_t *ret_pid)
{
	char *argv[] = { (char *)path, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t all, none;
	int r;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&actions);
	/* We ignore SIGPIPE and block some: it shall not. */
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, 0, 1);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	if (r == 0)
		r = posix_spawn(ret_pid, path, &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -r;
}

int quota_command_start(struct quota_command *command, char *const *env, int64_t now_ms)
{
	pid_t pid;
	int r;

	if (command->n_children == QUOTA_COMMAND_CHILDREN)
		return -EBUSY;
	r = spawn(command->path, env, &pid);
	if (r < 0)
		return r;
	command->children[command->n_children].pid = pid;
	command->children[command->n_children].kill_at_ms = now_ms + QUOTA_COMMAND_TIMEOUT_MS;
	/* Close on exec by itself. -1: it is looked for once a second. */
	command->children[command->n_children].pidfd = syscall(SYS_pidfd_open, pid, 0);
	command->n_children++;
	return 0;
}

unsigned quota_command_poll(const struct quota_command *command, int64_t now_ms, struct pollfd *ret_fds, int *timeout_ms)
{
	for (unsigned i = 0; i < command->n_children; i++) {
		int64_t left = command->children[i].kill_at_ms - now_ms;

		if (command->children[i].pidfd < 0 && left > 1000)
			left = 1000;
		if (left < 0)
			left = 0;
		if (*timeout_ms < 0 || left < *timeout_ms)
			*timeout_ms = left;
		ret_fds[i] = (struct pollfd){ .fd = command->children[i].pidfd, .events = POLLIN };
	}
	return command->n_children;
}

/* True: it is gone, and its place is another's. */
static bool reap(struct quota_command *command, unsigned i, int options, int *ret_status)
{
	pid_t pid = command->children[i].pid;

	if (waitpid(pid, ret_status, options) == 0)
		return false;
	if (command->children[i].pidfd >= 0)
		close(command->children[i].pidfd);
	command->children[i] = command->children[--command->n_children];
	return true;
}

unsigned quota_command_reap(struct quota_command *command, int64_t now_ms, unsigned *ret_failed)
{
	unsigned before = command->n_children, failed = 0;

	for (unsigned i = 0; i < command->n_children;) {
		int status = -1;
		bool late = now_ms >= command->children[i].kill_at_ms;

		if (late)
			(void)kill(-command->children[i].pid, SIGKILL);	/* ESRCH: it has just ended */
		if (!reap(command, i, late ? 0 : WNOHANG, &status))
			i++;
		else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			failed++;
	}
	*ret_failed = failed;
	return before - command->n_children;
}

unsigned quota_command_end(struct quota_command *command)
{
	unsigned n = command->n_children;

	while (command->n_children > 0) {
		int status;

		(void)kill(-command->children[0].pid, SIGKILL);
		(void)reap(command, 0, 0, &status);
	}
	return n;
}
