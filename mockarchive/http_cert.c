/* Self-signed certificates, by libcrypto. */
#include "mockarchive/http_cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *common_name, const char *name, unsigned valid_days)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	unsigned char serial[16], address[16];
	char names[512] = "DNS:localhost,IP:127.0.0.1,IP:::1";
	BIGNUM *number;
	bool ok;

	if (name) {
		bool is_ip = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
		size_t n = strlen(names);

		/* A comma would start another entry. */
		if (strchr(name, ',') || strlen(name) > 255)
			return false;
		snprintf(names + n, sizeof(names) - n, ",%s:%s", is_ip ? "IP" : "DNS", name);
	}
	if (RAND_bytes(serial, sizeof(serial)) != 1)
		return false;
	serial[0] &= 0x7f;	/* a serial is positive */
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
	BN_free(number);
	/* An hour early, for clients whose clock is behind. Extensions: what OpenSSL's strict check wants of a CA. */
	return ok && X509_set_version(cert, 2) == 1 && X509_set_pubkey(cert, key) == 1 &&
		X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
		X509_time_adj_ex(X509_getm_notAfter(cert), (int)valid_days, 0, NULL) &&
		X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
		X509_set_issuer_name(cert, subject) == 1 &&
		add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
		add_extension(cert, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
		add_extension(cert, NID_ext_key_usage, "serverAuth") &&
		add_extension(cert, NID_subject_key_identifier, "hash") &&
		add_extension(cert, NID_authority_key_identifier, "keyid:always") &&
		add_extension(cert, NID_subject_alt_name, names) &&
		X509_sign(cert, key, EVP_sha256()) > 0;
}

static char *text_of(BIO *bio)
{
	char *data;
	long n = BIO_get_mem_data(bio, &data);

	return n > 0 ? strndup(data, n) : NULL;
}

int http_cert_make(const char *common_name, const char *name, unsigned valid_days, char **ret_cert_pem, char **ret_key_pem)
{
	BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
	char *cert_pem = NULL, *key_pem = NULL;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	int r = -EIO;

	if (!cert_bio || !key_bio || !key || !cert || !fill(cert, key, common_name, name, valid_days))
		goto out;
	if (PEM_write_bio_X509(cert_bio, cert) != 1 || PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		goto out;
	cert_pem = text_of(cert_bio);
	key_pem = text_of(key_bio);
	if (!cert_pem || !key_pem) {
		r = -ENOMEM;
		goto out;
	}
	*ret_cert_pem = cert_pem;
	*ret_key_pem = key_pem;
	cert_pem = key_pem = NULL;
	r = 0;
out:
	free(cert_pem);
	free(key_pem);
	X509_free(cert);
	EVP_PKEY_free(key);
	BIO_free(key_bio);
	BIO_free(cert_bio);
	return r;
}
