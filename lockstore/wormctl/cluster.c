#include "lockstore/wormctl/cluster.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool cluster_option(struct cluster *c, int option)
{
	switch (option) {
	case OPT_CONFIG: c->config = optarg; return true;
	case OPT_CLUSTER: c->address = optarg; return true;
	case OPT_CREDENTIALS: c->credentials_file = optarg; return true;
	case OPT_CA: c->ca = optarg; return true;
	case OPT_INSECURE: c->insecure = true; return true;
	case OPT_ROOT: c->root = optarg; return true;
	}
	return false;
}

char *cluster_default_config(void)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char *path = NULL;

	if (geteuid() == 0)
		return strdup("/etc/wormfs/push.conf");
	if (base && base[0] == '/')	/* a relative one is to be ignored. Source: XDG base directory spec */
		return asprintf(&path, "%s/wormfs/push.conf", base) < 0 ? NULL : path;
	if (!home || home[0] != '/') {
		const struct passwd *pw = getpwuid(geteuid());

		home = pw ? pw->pw_dir : "";
	}
	return asprintf(&path, "%s/.config/wormfs/push.conf", home) < 0 ? NULL : path;
}

/* The root of the share below the mount, from its daemon: no mount may be in the way. */
static void find_inode(struct cluster *c, struct share *share)
{
	struct client *client;
	struct failure nobody;
	struct stat st;
	int fd = -1;

	if (share_client(share, &client, &nobody) == 0 &&
	    client_call(client, json_pack("{s:s}", "verb", "lower"), NULL, NULL, NULL) == 0)
		fd = client_take_fd(client);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0) {
		c->inode = st.st_ino;
		c->has_inode = true;
	}
	close(fd);
}

int cluster_of_share(struct cluster *c, struct share *share, struct failure *f)
{
	const json_t *push = json_object_get(share->mount, "push");
	const char *text;

	if (!share->mount)
		return fail(f, -ENOENT, "nothing is mounted at %s: name the cluster with --config FILE or --cluster HOST", quoted(share->dir));
	if (!json_is_object(push))
		return fail(f, -ENOENT, "%s is mounted without -o push: name a cluster with --config FILE or --cluster HOST", quoted(share->dir));
	text = json_get_text(push, "target");
	c->address = c->address ? c->address : text;
	text = json_get_text(push, "root");
	c->root = c->root || !*text ? c->root : text;
	text = json_get_text(push, "credentials");
	c->credentials_file = c->credentials_file || !*text ? c->credentials_file : text;
	text = json_get_text(push, "ca");
	c->ca = c->ca || !*text ? c->ca : text;
	c->insecure |= json_get_bool(push, "insecure");
	find_inode(c, share);
	return 0;
}

int cluster_address_parse(const char *text, struct endpoint *ret_endpoint, char **ret_text, struct failure *f)
{
	char error[ENDPOINT_ERROR_BYTES], *whole;

	if (asprintf(&whole, "%s%s", strncmp(text, "qumulo:", 7) == 0 ? "" : "qumulo:", text) < 0)
		return fail(f, -ENOMEM, "out of memory");
	if (endpoint_parse(whole, ret_endpoint, error) < 0) {
		const char *what = strstr(error, ": ");	/* in front of it is the mount option's name */

		free(whole);
		return fail(f, -EINVAL, "%s is no address of a cluster: %s", quoted(text), what ? what + 2 : error);
	}
	if (ret_text)
		*ret_text = whole;
	else
		free(whole);
	return 0;
}

/* The settings' file is asked for what the options leave open. */
static int read_settings(struct cluster *c, struct failure *f)
{
	char error[CREDENTIALS_ERROR_BYTES];
	const char *path = c->config;
	int r;

	if (!path && c->address)
		return 0;
	if (!path) {
		c->made_config = cluster_default_config();
		if (!c->made_config)
			return fail(f, -ENOMEM, "out of memory");
		path = c->made_config;
	}
	r = upstream_settings_read(path, &c->settings, error);
	if (r == -ENOENT && !c->config)
		return fail(f, r, "which cluster? name it with --cluster HOST, or keep it in %s with wormctl push setup", quoted(path));
	if (r < 0)
		return fail(f, r, "%s", error);
	if (!c->address && !c->settings.cluster)
		return fail(f, -EINVAL, "%s names no cluster: add one with wormctl push setup, or give --cluster HOST", quoted(path));
	if (!c->credentials_file && c->settings.has_secrets)
		c->credentials_file = path;
	return 0;
}

int cluster_open(struct cluster *c, struct upstream_credentials *given, unsigned in_flight, struct failure *f)
{
	struct qumulo_config config = { .in_flight = in_flight };
	char error[CREDENTIALS_ERROR_BYTES];
	int r;

	c->credentials = given;
	r = read_settings(c, f);
	if (r < 0)
		return r;
	r = cluster_address_parse(c->address ? c->address : c->settings.cluster, &c->endpoint, NULL, f);
	if (r < 0)
		return r;
	c->ca_file = c->ca ? c->ca : c->settings.ca;
	c->root_path = c->root ? c->root : c->settings.root;
	c->is_insecure = c->insecure || (c->settings.insecure && !c->ca);
	if (c->root_path && endpoint_check_root(c->root_path) < 0)
		return fail(f, -EINVAL, "%s is no directory of a cluster: give an absolute path without '.', '..' or '/' at its end", quoted(c->root_path));
	if (!c->credentials) {
		r = upstream_credentials_open(c->credentials_file, &c->credentials, error);
		if (r < 0)
			return fail(f, r, "%s", error);
	}
	config.endpoint = c->endpoint;
	config.credentials = c->credentials;
	config.ca_file = c->ca_file;
	config.insecure = c->is_insecure;
	r = qumulo_init();
	if (r == 0)
		r = qumulo_open(&config, &c->qumulo);
	if (r < 0)
		return fail(f, r, c->ca_file ? "cannot use the certificates in '%.300s': %s" : "cannot talk to clusters%.0s: %s",
			    c->ca_file ? c->ca_file : "", strerror(-r));
	if (c->is_insecure && !c->endpoint.plain)
		complain("warning: nobody checks that %s is the cluster (insecure): anybody on the way can read the credentials", c->endpoint.url);
	return 0;
}

void cluster_close(struct cluster *c)
{
	qumulo_close(c->qumulo);
	upstream_credentials_close(c->credentials);
	upstream_settings_fini(&c->settings);
	free(c->made_config);
}

void cluster_print_check(FILE *out, const struct upstream_check *check, bool json)
{
	for (int i = 0; i < UPSTREAM_CHECKS; i++) {
		const struct upstream_finding *finding = &check->findings[i];

		if (json) {
			(void)print_json(json_pack("{s:s,s:s,s:o,s:o}", "check", upstream_check_name_text(i), "state",
						   upstream_check_state_text(finding->state), "what", json_text(finding->what), "do",
						   *finding->todo ? json_text(finding->todo) : json_null()));
			continue;
		}
		fprintf(out, "%s: %s: ", upstream_check_name_text(i), upstream_check_state_text(finding->state));
		print_name(out, finding->what);
		if (*finding->todo)
			fprintf(out, "; %s", finding->todo);
		putc('\n', out);
	}
}
