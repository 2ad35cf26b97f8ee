/* Who may: one user with a password, his logins, and access tokens. Not locked: the owner does that. */
#ifndef WORMFS_SESSIONS_H
#define WORMFS_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>

#define SESSIONS_MAX 10000		/* further logins push out the oldest */
#define SESSIONS_TOKENS_MAX 64		/* access tokens */

struct sessions;

int sessions_open(const char *user, const char *password, struct sessions **ret_sessions);
void sessions_close(struct sessions *s);

const char *sessions_user(const struct sessions *s);

/* A new access token, "access-v1:..."; text NULL: made up. The text lives as long as it is valid. -ENOSPC: too many. */
int sessions_add_token(struct sessions *s, const char *text, const char **ret_text);
/* -EACCES: wrong user or password. The text lives until the next login. */
int sessions_login(struct sessions *s, const char *user, const char *password, int64_t now_s, bool may_lock, const char **ret_token);

/* Of a login: may_lock as it was then, *ret_is_login true. Of an access token: *ret_is_login false.
 * -EACCES: no such token, or the login is older than lifetime_s. */
int sessions_check(struct sessions *s, const char *token, int64_t now_s, int64_t lifetime_s, bool *ret_is_login, bool *ret_may_lock);

/* Ends all logins; with tokens, also the access tokens. */
void sessions_expire(struct sessions *s, bool tokens);
unsigned sessions_count(const struct sessions *s);

#endif
