/* Logins in a ring, access tokens in a list. A login's token says where in the ring it is. */
#include "mockarchive/mockqumulo/sessions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#define TOKEN_BYTES 24

struct session {
	char token[2 + 2 * TOKEN_BYTES + 1];	/* "1:" and hexadecimal digits; "": ended */
	int64_t since_s;
	bool may_lock;
};

struct sessions {
	char *user, *password;
	char *tokens[SESSIONS_TOKENS_MAX];
	unsigned ntokens;
	struct session *ring;
	unsigned next;
};

static bool same(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && CRYPTO_memcmp(a, b, strlen(a)) == 0;
}

/* The digits begin with the place in the ring, so that a lookup is one comparison. */
static int make_token(unsigned place, char *ret_token, size_t size)
{
	unsigned char bytes[TOKEN_BYTES];
	size_t n = 2;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	bytes[0] = place >> 8;
	bytes[1] = place & 255;
	strcpy(ret_token, "1:");
	for (unsigned i = 0; i < sizeof(bytes); i++)
		n += snprintf(ret_token + n, size - n, "%02x", bytes[i]);
	return 0;
}

int sessions_open(const char *user, const char *password, struct sessions **ret_sessions)
{
	struct sessions *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->user = strdup(user);
	s->password = strdup(password);
	s->ring = calloc(SESSIONS_MAX, sizeof(*s->ring));
	if (!s->user || !s->password || !s->ring) {
		sessions_close(s);
		return -ENOMEM;
	}
	*ret_sessions = s;
	return 0;
}

void sessions_close(struct sessions *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->ntokens; i++)
		free(s->tokens[i]);
	free(s->ring);
	free(s->user);
	free(s->password);
	free(s);
}

const char *sessions_user(const struct sessions *s)
{
	return s->user;
}

int sessions_add_token(struct sessions *s, const char *text, const char **ret_text)
{
	char made[256];
	int r;

	if (s->ntokens == SESSIONS_TOKENS_MAX)
		return -ENOSPC;
	if (!text) {
		char digits[2 + 2 * TOKEN_BYTES + 1];

		r = make_token(0x6d6f, digits, sizeof(digits));
		if (r < 0)
			return r;
		snprintf(made, sizeof(made), "access-v1:%s==", digits + 2);
		text = made;
	}
	s->tokens[s->ntokens] = strdup(text);
	if (!s->tokens[s->ntokens])
		return -ENOMEM;
	*ret_text = s->tokens[s->ntokens++];
	return 0;
}

int sessions_login(struct sessions *s, const char *user, const char *password, int64_t now_s, bool may_lock, const char **ret_token)
{
	struct session *session = &s->ring[s->next];
	int r;

	if (!same(user, s->user) || !same(password, s->password))
		return -EACCES;
	r = make_token(s->next, session->token, sizeof(session->token));
	if (r < 0)
		return r;
	session->since_s = now_s;
	session->may_lock = may_lock;
	s->next = (s->next + 1) % SESSIONS_MAX;
	*ret_token = session->token;
	return 0;
}

int sessions_check(struct sessions *s, const char *token, int64_t now_s, int64_t lifetime_s, bool *ret_is_login, bool *ret_may_lock)
{
	const struct session *session;
	unsigned place;

	for (unsigned i = 0; i < s->ntokens; i++) {
		if (same(token, s->tokens[i])) {
			*ret_is_login = false;
			return 0;
		}
	}
	if (sscanf(token, "1:%4x", &place) != 1 || place >= SESSIONS_MAX)
		return -EACCES;
	session = &s->ring[place];
	if (!session->token[0] || !same(token, session->token) || now_s - session->since_s >= lifetime_s)
		return -EACCES;
	*ret_is_login = true;
	*ret_may_lock = session->may_lock;
	return 0;
}

void sessions_expire(struct sessions *s, bool tokens)
{
	memset(s->ring, 0, SESSIONS_MAX * sizeof(*s->ring));
	while (tokens && s->ntokens > 0)
		free(s->tokens[--s->ntokens]);
}

unsigned sessions_count(const struct sessions *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SESSIONS_MAX; i++)
		n += s->ring[i].token[0] != '\0';
	return n;
}
