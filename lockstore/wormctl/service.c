#include "lockstore/wormctl/service.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(((struct service_key *)0)->hash) == SHA256_DIGEST_LENGTH, "the hash has its place");

static int make_token(char token[SERVICE_TOKEN_ROOM], struct failure *f)
{
	unsigned char bytes[32];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return fail(f, -EIO, "cannot make a token: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(token + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static bool token_is_fine(const char *token)
{
	size_t len = strlen(token);

	return len >= SERVICE_TOKEN_MIN && len <= SERVICE_TOKEN_MAX &&
	       strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") == len;
}

static int read_token(const char *file, char token[SERVICE_TOKEN_ROOM], struct failure *f)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, token, SERVICE_TOKEN_ROOM - 1);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return fail(f, -error, "cannot read the token in %s: %s", quoted(file), strerror(error));
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return fail(f, -EPERM, "others may read the token in %s: chmod 600 it", quoted(file));
	token[n] = '\0';
	token[strcspn(token, "\r\n")] = '\0';
	if (!token_is_fine(token))
		return fail(f, -EINVAL, "the first line of %s is no token: %d to %d letters, digits and -._~+/=", quoted(file),
			    SERVICE_TOKEN_MIN, SERVICE_TOKEN_MAX);
	return 0;
}

int service_token(const char *file, char token[SERVICE_TOKEN_ROOM], struct failure *f)
{
	return file ? read_token(file, token, f) : make_token(token, f);
}

void service_key_of(const char *token, struct service_key *ret_key)
{
	SHA256((const unsigned char *)token, strlen(token), ret_key->hash);
}

bool service_key_fits(const struct service_key *key, const char *token)
{
	struct service_key given;

	service_key_of(token, &given);
	return CRYPTO_memcmp(given.hash, key->hash, sizeof(given.hash)) == 0;
}

bool service_key_fits_bearer(const struct service_key *key, const char *header)
{
	if (!header || strncasecmp(header, "Bearer ", 7) != 0)
		return false;
	header += 7;
	return service_key_fits(key, header + strspn(header, " "));
}

void service_begin(sigset_t *ret_ends)
{
	sigemptyset(ret_ends);
	sigaddset(ret_ends, SIGINT);
	sigaddset(ret_ends, SIGTERM);
	sigaddset(ret_ends, SIGHUP);
	pthread_sigmask(SIG_BLOCK, ret_ends, NULL);
	signal(SIGPIPE, SIG_IGN);
}

void service_wait(const sigset_t *ends)
{
	int got;

	(void)sigwait(ends, &got);	/* fails for a bad set only */
}

int service_fail_listen(const char *listen, int r, struct failure *f)
{
	if (r == -EPERM)
		return fail(f, r, "--listen %s: others could reach it; give an address of this machine's own (127.0.0.1:PORT), or "
			    "--allow-remote", quoted(listen));
	if (r == -EINVAL)
		return fail(f, r, "--listen %s: write ADDRESS:PORT, [::1]:PORT or unix:PATH", quoted(listen));
	return fail(f, r, "cannot listen on %s: %s", quoted(listen), strerror(-r));
}
