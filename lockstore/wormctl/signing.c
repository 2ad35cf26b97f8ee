/* Owns a key of OpenSSL. It is written under another name and linked, so that two who make it at once get the same. */
#include "lockstore/wormctl/signing.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct signing_key {
	EVP_PKEY *pkey;
};

static int read_key(int dir_fd, EVP_PKEY **ret_pkey)
{
	int fd = openat(dir_fd, SIGNING_KEY_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	FILE *in;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) || (st.st_uid != 0 && st.st_uid != geteuid())) {
		close(fd);
		return -EPERM;
	}
	in = fdopen(fd, "r");
	if (!in) {
		close(fd);
		return -ENOMEM;
	}
	*ret_pkey = PEM_read_PrivateKey(in, NULL, NULL, (void *)"");
	fclose(in);
	if (*ret_pkey && EVP_PKEY_get_id(*ret_pkey) != EVP_PKEY_ED25519) {
		EVP_PKEY_free(*ret_pkey);
		*ret_pkey = NULL;
	}
	return *ret_pkey ? 0 : -EBADMSG;
}

static int make_key(int dir_fd)
{
	char temporary[64];
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *out = NULL;
	int fd, r = pkey ? 0 : -EIO;

	snprintf(temporary, sizeof(temporary), "." SIGNING_KEY_FILE ".%ld", (long)getpid());
	(void)unlinkat(dir_fd, temporary, 0);	/* of a process that was killed */
	fd = r < 0 ? -1 : openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (r == 0 && fd < 0)
		r = -errno;
	if (r < 0)
		goto out;
	out = fdopen(fd, "w");
	if (!out) {
		close(fd);
		r = -ENOMEM;
	} else if (!PEM_write_PKCS8PrivateKey(out, pkey, NULL, NULL, 0, NULL, NULL) || fflush(out) != 0 || fsync(fd) < 0) {
		r = -EIO;
	}
	if (out && fclose(out) != 0 && r == 0)
		r = -EIO;
	if (r == 0 && linkat(dir_fd, temporary, dir_fd, SIGNING_KEY_FILE, 0) < 0 && errno != EEXIST)
		r = -errno;
	(void)unlinkat(dir_fd, temporary, 0);
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
out:
	EVP_PKEY_free(pkey);
	return r;
}

int signing_key_open(const char *state_dir, struct signing_key **ret_key, struct failure *f)
{
	struct signing_key *key = calloc(1, sizeof(*key));
	int dir_fd, r;

	if (!key)
		return fail(f, -ENOMEM, "out of memory");
	dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir_fd < 0 ? -errno : read_key(dir_fd, &key->pkey);
	if (dir_fd >= 0 && r == -ENOENT) {
		r = make_key(dir_fd);
		if (r == 0)
			r = read_key(dir_fd, &key->pkey);
	}
	if (dir_fd >= 0)
		close(dir_fd);
	if (r < 0) {
		free(key);
		return fail(f, r, "cannot sign with %s/" SIGNING_KEY_FILE ": %s", quoted(state_dir),
			    r == -EPERM ? "others may read it; run: chmod 600" :
			    r == -EBADMSG ? "it is no Ed25519 key; move it away, and a new one is made" : strerror(-r));
	}
	*ret_key = key;
	return 0;
}

void signing_key_close(struct signing_key *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->pkey);
	free(key);
}

int signing_sign(struct signing_key *key, const void *bytes, size_t len_bytes, uint8_t ret_signature[SIGNATURE_BYTES])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = SIGNATURE_BYTES;
	int ok;

	ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
	     EVP_DigestSign(ctx, ret_signature, &len, bytes, len_bytes) == 1 && len == SIGNATURE_BYTES;
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -EIO;
}

int signing_write_public(struct signing_key *key, FILE *out)
{
	return PEM_write_PUBKEY(out, key->pkey) ? 0 : -EIO;
}

int signing_fingerprint(struct signing_key *key, char ret_text[SHA256_TEXT_BYTES])
{
	uint8_t sha256[SHA256_BYTES];
	unsigned char *der = NULL;
	int len = i2d_PUBKEY(key->pkey, &der), ok;

	ok = len > 0 && EVP_Digest(der, (size_t)len, sha256, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	if (!ok)
		return -EIO;
	sha256_format(sha256, ret_text);
	return 0;
}
