#include "lockstore/wormctl/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static volatile sig_atomic_t caught;

static void on_signal(int signal_number)
{
	caught = signal_number;
}

int prompt_open(struct prompt *prompt)
{
	prompt->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	return prompt->fd < 0 ? -errno : 0;
}

void prompt_close(struct prompt *prompt)
{
	if (prompt->fd >= 0)
		close(prompt->fd);
	prompt->fd = -1;
}

static void say(struct prompt *prompt, const char *text)
{
	(void)!write(prompt->fd, text, strlen(text));	/* a terminal that is gone is found by the read */
}

/* A line, a byte at a time: what is behind it is the next question's. `waiting`: the signals that are blocked while it waits, so that one
 * that comes just before is not slept over; NULL: as they are. -EINTR: one came. */
static int read_line(struct prompt *prompt, const sigset_t *waiting, char **ret_line)
{
	char *line = malloc(PROMPT_MAX_BYTES);
	size_t len = 0;
	int r = 0;

	if (!line)
		return -ENOMEM;
	while (r == 0) {
		struct pollfd ready = { .fd = prompt->fd, .events = POLLIN };
		ssize_t n = ppoll(&ready, 1, NULL, waiting);

		if (n > 0)
			n = read(prompt->fd, line + len, 1);
		if (n < 0)
			r = -errno;
		else if (n == 0)
			r = -ECANCELED;
		else if (line[len] == '\n')
			break;
		else if (++len == PROMPT_MAX_BYTES)
			r = -E2BIG;
	}
	if (r < 0) {
		OPENSSL_cleanse(line, PROMPT_MAX_BYTES);
		free(line);
		return r == -EIO ? -ECANCELED : r;
	}
	if (len > 0 && line[len - 1] == '\r')
		len--;
	line[len] = '\0';
	*ret_line = line;
	return 0;
}

int prompt_ask(struct prompt *prompt, const char *question, const char *otherwise, char **ret_answer)
{
	char *line;
	int r;

	say(prompt, question);
	if (otherwise && *otherwise) {
		say(prompt, " [");
		say(prompt, otherwise);
		say(prompt, "]");
	}
	say(prompt, ": ");
	do
		r = read_line(prompt, NULL, &line);
	while (r == -EINTR);
	if (r < 0)
		return r;
	if (!*line && otherwise) {
		free(line);
		line = strdup(otherwise);
		if (!line)
			return -ENOMEM;
	}
	*ret_answer = line;
	return 0;
}

int prompt_secret(struct prompt *prompt, const char *question, char **ret_secret)
{
	struct sigaction action = { .sa_handler = on_signal }, before[SIGNALS];
	struct termios seen, hidden;
	sigset_t ours, mask;
	int r;

	sigemptyset(&ours);
	for (size_t i = 0; i < SIGNALS; i++)
		sigaddset(&ours, signals[i]);
	do {
		if (tcgetattr(prompt->fd, &seen) < 0)
			return -errno;
		hidden = seen;
		hidden.c_lflag &= ~(tcflag_t)ECHO;
		caught = 0;
		sigprocmask(SIG_BLOCK, &ours, &mask);
		for (size_t i = 0; i < SIGNALS; i++)
			sigaction(signals[i], &action, &before[i]);
		r = tcsetattr(prompt->fd, TCSAFLUSH, &hidden) < 0 ? -errno : 0;
		if (r == 0) {
			say(prompt, question);
			say(prompt, ": ");
			r = read_line(prompt, &mask, ret_secret);
		}
		(void)tcsetattr(prompt->fd, TCSAFLUSH, &seen);	/* gone: nothing to set right */
		say(prompt, "\n");
		for (size_t i = 0; i < SIGNALS; i++)
			sigaction(signals[i], &before[i], NULL);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		if (caught)
			raise(caught);
	} while (r == -EINTR);	/* stopped by SIGTSTP, and back: asked again */
	return r;
}
