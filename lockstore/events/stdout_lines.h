/* stdout, where several modules write lines: each line leaves whole, whoever else writes, and however little a pipe takes at once. Each
 * writer owns a struct stdout_lines and writes from one thread at a time; writers are of any threads. Nobody waits in here. */
#ifndef WORMFS_STDOUT_LINES_H
#define WORMFS_STDOUT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct stdout_lines {
	int fd;			/* for poll(2) only; -1: closed */
	bool is_socket, is_file;	/* is_file: regular, takes all at once */
	bool may_block;		/* the description of fd 1 itself: others set its flags */
};

int stdout_lines_open(struct stdout_lines *ret_out);

/* Bytes that have left: less than `len` where stdout is full, or where another writer waits for the end of a line. The rest has to follow.
 * -EAGAIN: full, poll(2) says when not. -EBUSY: another one is within a line, or is next; soon again. Else -errno, and what has left
 * of a line is given up. */
ssize_t stdout_lines_write(struct stdout_lines *out, const char *buf, size_t len);

/* The rest of a line does not follow: whoever writes next begins a new one. Nothing to do between lines. */
void stdout_lines_give_up(struct stdout_lines *out);
/* Gives up, too. A closed one is fine. */
void stdout_lines_close(struct stdout_lines *out);

#endif
