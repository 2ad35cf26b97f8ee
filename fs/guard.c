/* The errno table. A row an operation, a column a state; what it says is what happens, what is shown
 * and what the README prints. EPERM for every refusal that a lock causes: it is what Linux answers for
 * immutable files; EROFS would make programs give up on the whole mount, EACCES suggests that more
 * rights would help. EIO where nobody can say whether the file is locked. */
#include "fs/guard.h"

#include <errno.h>
#include <stddef.h>

struct row {
	const char *name;	/* for counters */
	const char *calls;	/* for people */
	int verdict[GUARD_STATES];
};

#define OK 0
#define NO (-EPERM)
#define IO (-EIO)
#define IV (-EINVAL)

/*                                                                                open closing settling retained expired append unread pinned held */
static const struct row table[GUARD_OPS] = {
	[GUARD_OPEN_READ] = { "open-read", "open O_RDONLY, read, mmap, stat, getxattr", { OK, OK, OK, OK, OK, OK, OK, OK, OK } },
	[GUARD_OPEN_WRITE] = { "open-write", "open with O_WRONLY, O_RDWR or O_TRUNC", { OK, NO, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_OPEN_APPEND] = { "open-append", "open for writing with O_APPEND", { OK, NO, NO, NO, NO, OK, IO, OK, OK } },
	[GUARD_WRITE] = { "write", "write on a handle opened before", { OK, OK, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_APPEND] = { "append", "write at the end, fallocate from the end on, likewise", { OK, OK, NO, NO, NO, OK, IO, OK, OK } },
	[GUARD_TRUNCATE] = { "truncate", "truncate (also to the same size)", { OK, NO, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_FTRUNCATE] = { "ftruncate", "ftruncate on a handle opened before", { OK, OK, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_FALLOCATE] = { "fallocate", "fallocate, every other, likewise", { OK, OK, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_COPY_TO] = { "copy-to", "copy_file_range into it, likewise", { OK, OK, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_UNLINK] = { "unlink", "unlink", { OK, NO, NO, NO, OK, NO, IO, OK, NO } },
	[GUARD_RENAME] = { "rename", "rename away", { OK, NO, OK, NO, NO, NO, IO, OK, OK } },
	[GUARD_REPLACE] = { "replace", "rename onto it, RENAME_EXCHANGE either side", { OK, NO, NO, NO, NO, NO, IO, OK, NO } },
	[GUARD_RENAME_DIR] = { "rename-dir", "rename or exchange of a directory", { OK, OK, OK, OK, OK, OK, IO, NO, OK } },
	[GUARD_LINK] = { "link", "link", { OK, NO, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_CHMOD_READONLY] = { "chmod-readonly", "chmod that only removes write bits", { OK, OK, OK, OK, OK, OK, IO, OK, OK } },
	[GUARD_CHMOD_WRITABLE] = { "chmod-writable", "chmod that only adds write bits", { OK, NO, OK, NO, NO, OK, IO, OK, OK } },
	[GUARD_CHMOD] = { "chmod", "any other chmod", { OK, NO, OK, NO, NO, NO, IO, OK, OK } },
	[GUARD_CHOWN] = { "chown", "chown", { OK, NO, OK, NO, NO, NO, IO, OK, OK } },
	[GUARD_UTIMENS] = { "utimens", "utimensat, touch", { OK, NO, OK, NO, NO, NO, IO, OK, OK } },
	[GUARD_SETXATTR] = { "setxattr", "setxattr, removexattr, ACLs", { OK, NO, OK, NO, NO, NO, IO, OK, OK } },
	[GUARD_SETFLAGS] = { "setflags", "chattr", { OK, NO, NO, NO, NO, NO, IO, OK, OK } },
	[GUARD_APPEND_ONLY] = { "append-only", "make it append-only (wormctl, user.worm.append, chattr +a)", { OK, NO, NO, NO, NO, OK, IO, IV, OK } },
	[GUARD_COMMIT] = { "commit", "commit (wormctl, user.worm.commit, chattr +i)", { OK, OK, OK, OK, OK, OK, IO, IV, OK } },
	[GUARD_EXTEND] = { "extend", "extend (wormctl, user.worm.until)", { IV, OK, OK, OK, OK, OK, IO, IV, IV } },
	[GUARD_HOLD] = { "hold", "place a hold (wormctl)", { IV, OK, OK, OK, OK, OK, IO, IV, IV } },
	[GUARD_RELEASE] = { "release", "release a hold (wormctl)", { IV, OK, OK, OK, OK, OK, IO, IV, IV } },
};

static const char *const state_names[GUARD_STATES] = {
	[GUARD_OPEN] = "open", [GUARD_CLOSING] = "closing", [GUARD_SETTLING] = "settling", [GUARD_RETAINED] = "retained", [GUARD_EXPIRED] = "expired",
	[GUARD_APPENDABLE] = "appendable", [GUARD_UNREADABLE] = "unreadable", [GUARD_PINNED] = "pinned", [GUARD_HELD] = "held",
};

int guard_verdict(enum guard_state state, enum guard_op op)
{
	if ((unsigned)state >= GUARD_STATES || (unsigned)op >= GUARD_OPS)
		return -EIO;	/* who cannot say must refuse */
	return table[op].verdict[state];
}

const char *guard_op_name(enum guard_op op)
{
	return table[op].name;
}

const char *guard_state_name(enum guard_state state)
{
	return state_names[state];
}

static const char *verdict_name(int verdict)
{
	switch (verdict) {
	case 0: return "ok";
	case -EPERM: return "EPERM";
	case -EIO: return "EIO";
	case -EINVAL: return "EINVAL";
	}
	return "?";
}

void guard_table_print(FILE *out)
{
	fputs("| call |", out);
	for (int s = 0; s < GUARD_STATES; s++)
		fprintf(out, " %s |", state_names[s]);
	fputs("\n|---|", out);
	for (int s = 0; s < GUARD_STATES; s++)
		fputs("---|", out);
	fputc('\n', out);
	for (int op = 0; op < GUARD_OPS; op++) {
		fprintf(out, "| %s |", table[op].calls);
		for (int s = 0; s < GUARD_STATES; s++)
			fprintf(out, " %s |", verdict_name(table[op].verdict[s]));
		fputc('\n', out);
	}
}
