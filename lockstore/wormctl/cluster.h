/* Which cluster a command talks to, and as whom: from its options, from the file of `wormctl push setup`, or from a mounted share. */
#ifndef WORMFS_WORMCTL_CLUSTER_H
#define WORMFS_WORMCTL_CLUSTER_H

#include <jansson.h>

#include "lockstore/upstream/check.h"
#include "lockstore/upstream/qumulo.h"
#include "lockstore/upstream/settings.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

/* Long options that name a cluster. Values behind those of a command: it begins its own at OPT_OF_COMMAND. */
enum { OPT_CONFIG = OPT_OF_COMMAND + 100, OPT_CLUSTER, OPT_CREDENTIALS, OPT_CA, OPT_INSECURE, OPT_ROOT };
#define CLUSTER_OPTIONS \
	{ "config", required_argument, NULL, OPT_CONFIG }, \
	{ "cluster", required_argument, NULL, OPT_CLUSTER }, \
	{ "credentials", required_argument, NULL, OPT_CREDENTIALS }, \
	{ "ca", required_argument, NULL, OPT_CA }, \
	{ "insecure", no_argument, NULL, OPT_INSECURE }, \
	{ "root", required_argument, NULL, OPT_ROOT }
#define CLUSTER_HELP \
	"      --config FILE        the file of wormctl push setup: cluster, root, CA and credentials\n" \
	"                           [/etc/wormfs/push.conf as root, else ~/.config/wormfs/push.conf]\n" \
	"      --cluster ADDRESS    HOST, HOST:PORT, or HOST/api for port 443 [port 8000, TLS]\n" \
	"      --credentials FILE   a token, or user and password; also what qq keeps [FILE of --config, else\n" \
	"                           $WORMFS_PUSH_TOKEN, or $WORMFS_PUSH_USER and $WORMFS_PUSH_PASSWORD]\n" \
	"      --ca FILE            certificate (PEM) that the cluster's is checked with [the system's]\n" \
	"      --insecure           do not check it: anybody on the way can read the credentials\n"

struct cluster {
	/* as asked for: set by cluster_option(), or by the caller. They live in argv. */
	const char *config, *address, *credentials_file, *ca, *root;
	bool insecure;
	/* since cluster_open() */
	struct endpoint endpoint;
	struct upstream_settings settings;
	struct upstream_credentials *credentials;
	struct qumulo *qumulo;
	const char *ca_file, *root_path;	/* NULL: the system's; not named */
	bool is_insecure;
	/* since cluster_of_share() */
	bool has_inode;			/* of the share's root below the mount */
	uint64_t inode;
	char *made_config;
};

/* True when the option was one of CLUSTER_OPTIONS. */
bool cluster_option(struct cluster *cluster, int option);

/* Reads the settings, then the credentials, and opens a client; asks nobody anything. given: credentials that are not in a
 * file, taken over; NULL: as above. Says on stderr when nobody checks the certificate. */
int cluster_open(struct cluster *cluster, struct upstream_credentials *given, unsigned in_flight, struct failure *f);
void cluster_close(struct cluster *cluster);

/* What the daemon of the share pushes to, and with what: sets what cluster_open() reads, but for what options said. The share lives longer.
 * -ENOENT: it is not mounted, or pushes nothing. */
int cluster_of_share(struct cluster *cluster, struct share *share, struct failure *f);

/* "HOST" and "qumulo:HOST" alike. */
int cluster_address_parse(const char *text, struct endpoint *ret_endpoint, char **ret_text, struct failure *f);

/* Where the settings are when nobody says so. The caller frees. NULL: out of memory. */
char *cluster_default_config(void);

/* The findings of a check: a line each on `out`, or JSON. */
void cluster_print_check(FILE *out, const struct upstream_check *check, bool json);

#endif
