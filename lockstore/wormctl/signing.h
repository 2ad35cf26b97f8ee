/* The key that exports are signed with: Ed25519, in the state directory, made when it is first needed. The public part goes
 * with every export; who wants to be sure of it compares its fingerprint with one noted at another time. */
#ifndef WORMFS_WORMCTL_SIGNING_H
#define WORMFS_WORMCTL_SIGNING_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lockstore/sha256.h"
#include "lockstore/wormctl/output.h"

#define SIGNING_KEY_FILE "export.key"	/* PKCS #8 in PEM, mode 0600 */
#define SIGNATURE_BYTES 64

struct signing_key;

/* Makes it if it is missing. An error comes with *f. */
int signing_key_open(const char *state_dir, struct signing_key **ret_key, struct failure *f);
void signing_key_close(struct signing_key *key);

/* -EIO: the crypto library failed, or `out`. */
int signing_sign(struct signing_key *key, const void *bytes, size_t len_bytes, uint8_t ret_signature[SIGNATURE_BYTES]);
int signing_write_public(struct signing_key *key, FILE *out);	/* SubjectPublicKeyInfo in PEM */
/* SHA-256 of the public key (DER), in hexadecimal. */
int signing_fingerprint(struct signing_key *key, char ret_text[SHA256_TEXT_BYTES]);

#endif
