/* Answers that no document confirms, and what a test wants otherwise: one table of named values, for the command line
 * (--set NAME=VALUE), for requests (PUT /mock/switches) and for the help text. Not locked: the owner does that. */
#ifndef WORMFS_SWITCHES_H
#define WORMFS_SWITCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

enum switch_id {
	/* Answers: "ok", or "STATUS" or "STATUS:ERROR_CLASS". */
	SW_SHORTEN, SW_SAME_END, SW_PAST_END, SW_NULL_VALUE, SW_NO_KEY, SW_UNKNOWN_KEY, SW_OFFSET, SW_WRONG_TYPE,
	SW_NO_PRIVILEGE, SW_NO_ACL, SW_READ_ONLY, SW_RENAME_LOCKED, SW_LINK_LOCKED, SW_NO_TOKEN, SW_PRECONDITION, SW_RECURSIVE_OFF,
	/* Choices. */
	SW_LOCK_UNASKED, SW_EXPIRED, SW_DATE, SW_ETAG, SW_ETAG_QUOTES, SW_PLUS, SW_UNAUTHORIZED_BODY, SW_LAST_PAGE, SW_ROLE_CHANGE,
	SW_NOTIFY, SW_DATA_ADMIN, SW_PRIVILEGE, SW_ACL, SW_INVENT,
	/* Numbers. */
	SW_LATENCY_MS, SW_KEEPALIVE_MS, SW_WATCH_BUFFER, SW_PAGE_MAX, SW_SESSION_S,
	/* Texts. */
	SW_VERSION,
	SW_COUNT
};

#define SWITCH_TEXT_BYTES 96

struct switches {
	char text[SW_COUNT][SWITCH_TEXT_BYTES];		/* as it was given */
	unsigned status[SW_COUNT];			/* answers: 0 is ok; choices: which, from 0 on; numbers: the number */
	unsigned class_at[SW_COUNT];			/* answers: where in text the error class begins, maybe at its end */
};

void switches_init(struct switches *s);
/* -ENOENT: no such switch. -EINVAL: not one of its values; *ret_expected says which there are. */
int switches_set(struct switches *s, const char *name, const char *value, const char **ret_expected);
json_t *switches_json(const struct switches *s);
/* "  NAME=DEFAULT  what it means", one a line. */
void switches_help(FILE *to);

/* The index of a choice, the number of a number, the status of an answer (0: ok). */
static inline unsigned switch_value(const struct switches *s, enum switch_id id)
{
	return s->status[id];
}

static inline const char *switch_error_class(const struct switches *s, enum switch_id id)
{
	return s->text[id] + s->class_at[id];
}

enum { EXPIRED_SHOWN, EXPIRED_NULL };
enum { LOCK_ABSENT, LOCK_NULL };
enum { SWITCH_YES, SWITCH_NO };
enum { ETAG_ATTRIBUTES, ETAG_DATA, ETAG_READ, ETAG_NONE };
enum { PLUS_LITERAL, PLUS_SPACE };
enum { BODY_JSON, BODY_EMPTY, BODY_HTML };
enum { LAST_PAGE_EMPTY, LAST_PAGE_ABSENT, LAST_PAGE_NULL };
enum { ROLE_AT_LOGIN, ROLE_AT_ONCE };
enum { NOTIFY_ENABLED, NOTIFY_DISABLED_ERROR, NOTIFY_DISABLED_IGNORE };
enum { ACL_WRITE, ACL_READ, ACL_NONE };

#endif
