/* A TLS certificate made on the spot: P-256, signed by itself, so that it is also the CA file that a client is given.
 * For localhost, 127.0.0.1, ::1 and one name more. */
#ifndef WORMFS_HTTP_CERT_H
#define WORMFS_HTTP_CERT_H

#include <stdint.h>

/* `name` (NULL: none) is a DNS name or an IP address. PEM texts, the caller's to free(). -EIO: libcrypto failed. */
int http_cert_make(const char *common_name, const char *name, unsigned valid_days, char **ret_cert_pem, char **ret_key_pem);

#endif
