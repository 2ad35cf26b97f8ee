/* push setup: the file with a cluster's address and credentials. A login is tried before anything is written. Secrets come from a
 * terminal, a file or stdin, never from the command line, and are wiped. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/wormctl/cluster.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/prompt.h"
#include "lockstore/wormctl/push.h"
#include "lockstore/wormctl/wormctl.h"

enum { OPT_TOKEN_FILE = OPT_OF_COMMAND, OPT_SECRET, OPT_USER, OPT_PASSWORD_FILE, OPT_NO_TEST, OPT_BATCH };

struct setup {
	struct wormctl *ctl;
	const char *token_file, *user_option, *password_file;
	bool no_test, batch;
	struct cluster cluster;		/* its options */
	/* owned */
	char *path;			/* of the settings */
	struct upstream_settings old;
	char *address, *root, *ca, *token, *user, *password;
	bool keep_secrets;
	struct prompt prompt;		/* fd -1: nobody to ask */
};

static void wipe(char *secret)
{
	if (secret)
		OPENSSL_cleanse(secret, strlen(secret));
	free(secret);
}

static int copy(char **to, const char *text)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
	return text && !*to ? -ENOMEM : 0;
}

/* ---- what is given by options ---- */

/* The first line. "-": stdin. */
static int read_secret(const char *path, char **ret_secret, struct failure *f)
{
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int r = 0;

	if (!in)
		return fail(f, -errno, "cannot read %s: %s", quoted(path), strerror(errno));
	setvbuf(in, NULL, _IONBF, 0);	/* on stdin a second secret may follow, and no buffer keeps one */
	n = getline(&line, &size, in);
	if (n > 0 && line[n - 1] == '\n')
		line[--n] = '\0';
	if (n > 0 && line[n - 1] == '\r')
		line[--n] = '\0';
	if (n <= 0 || strlen(line) != (size_t)n) {
		r = fail(f, -EINVAL, "%s has no secret in its first line", strcmp(path, "-") == 0 ? "stdin" : quoted(path));
		if (line)
			OPENSSL_cleanse(line, size);
		free(line);
	} else {
		*ret_secret = line;
	}
	if (in != stdin)
		fclose(in);
	return r;
}

static int take_options(struct setup *s, struct failure *f)
{
	int r = 0;

	if (s->token_file)
		r = read_secret(s->token_file, &s->token, f);
	if (r == 0 && s->password_file)
		r = read_secret(s->password_file, &s->password, f);
	if (r == 0 && (copy(&s->address, s->cluster.address) < 0 || copy(&s->root, s->cluster.root) < 0 ||
		       copy(&s->ca, s->cluster.ca) < 0 || copy(&s->user, s->user_option) < 0))
		r = fail(f, -ENOMEM, "out of memory");
	return r;
}

/* ---- what is asked ---- */

static int ask(struct setup *s, const char *question, const char *otherwise, char **to, struct failure *f)
{
	char *answer = NULL;
	int r = prompt_ask(&s->prompt, question, otherwise, &answer);

	if (r < 0)
		return fail(f, r, "nothing was written: %s", r == -ECANCELED ? "no answer" : strerror(-r));
	free(*to);
	*to = *answer ? answer : NULL;
	if (!*to)
		free(answer);
	return 0;
}

static int ask_secret(struct setup *s, const char *question, char **to, struct failure *f)
{
	int r = prompt_secret(&s->prompt, question, to);

	return r < 0 ? fail(f, r, "nothing was written: %s", r == -ECANCELED ? "no answer" : strerror(-r)) : 0;
}

static int ask_address(struct setup *s, struct failure *f)
{
	struct endpoint endpoint;
	int r;

	for (;;) {
		r = ask(s, "Cluster (HOST, HOST:PORT, or HOST/api for port 443)", s->old.cluster, &s->address, f);
		if (r < 0)
			return r;
		if (s->address && cluster_address_parse(s->address, &endpoint, NULL, f) == 0)
			return 0;
		complain("%s", s->address ? f->text : "a cluster is needed");
	}
}

static int ask_secrets(struct setup *s, struct failure *f)
{
	int r = ask_secret(s, s->old.has_secrets ? "Access token, not shown (empty: keep what is in the file; 'p': user and password)" :
			   "Access token, not shown (empty: user and password)", &s->token, f);

	if (r < 0)
		return r;
	if (!*s->token || (s->old.has_secrets && strcmp(s->token, "p") == 0)) {
		s->keep_secrets = !*s->token && s->old.has_secrets;
		wipe(s->token);
		s->token = NULL;
	}
	if (s->token || s->keep_secrets)
		return 0;
	while (r == 0 && !s->user)
		r = ask(s, "User", NULL, &s->user, f);
	if (r == 0)
		r = ask_secret(s, "Password, not shown", &s->password, f);
	return r;
}

/* Whatever no option said: from a person, else from what the file has. */
static int complete(struct setup *s, struct failure *f)
{
	bool person = s->prompt.fd >= 0;
	int r = 0;

	if (!s->address)
		r = person ? ask_address(s, f) : copy(&s->address, s->old.cluster);
	if (r == 0 && !s->address)
		return fail(f, -EINVAL, "which cluster? give --cluster HOST");
	if (r == 0 && person && !s->ca && !s->cluster.insecure)
		r = ask(s, "File with the CA's certificate (empty: the system's CAs)", s->old.ca, &s->ca, f);
	if (r == 0 && person && !s->root)
		r = ask(s, "The share's directory on the cluster (empty: not kept here)", s->old.root, &s->root, f);
	if (r < 0 || s->token || (s->user && s->password))
		return r < 0 && !*f->text ? fail(f, r, "out of memory") : r;
	if (s->user && person)
		return ask_secret(s, "Password, not shown", &s->password, f);
	if (s->user)
		return fail(f, -EINVAL, "the password of %s is missing: give --password-file FILE, or - for stdin", quoted(s->user));
	if (s->password)
		return fail(f, -EINVAL, "whose password? give --user NAME");
	if (person)
		return ask_secrets(s, f);
	s->keep_secrets = s->old.has_secrets;
	return s->keep_secrets ? 0 : fail(f, -EINVAL, "no credentials: give --token-file FILE, or --user NAME and --password-file FILE; - is stdin");
}

/* ---- the try ---- */

static int try_login(struct setup *s, bool *ret_good, struct failure *f)
{
	struct cluster cluster = { .address = s->address, .ca = s->ca ? s->ca : s->old.ca, .root = s->root ? s->root : s->old.root,
				   .insecure = s->cluster.insecure || (!s->ca && s->old.insecure),
				   .credentials_file = s->keep_secrets ? s->path : NULL };
	struct upstream_credentials *credentials = NULL;
	struct upstream_check check = { 0 };
	char error[CREDENTIALS_ERROR_BYTES];
	int r = 0;

	if (!s->keep_secrets)
		r = upstream_credentials_make(s->token, s->user, s->password, &credentials, error);
	if (r < 0)
		return fail(f, r, "%s", error);
	r = cluster_open(&cluster, credentials, 1, f);
	if (r < 0)
		goto out;
	check.endpoint = &cluster.endpoint;
	check.ca_file = cluster.ca_file;
	check.insecure = cluster.is_insecure;
	check.root = cluster.root_path;
	r = upstream_check_run(cluster.qumulo, &check);
	if (r < 0) {
		r = fail(f, r, "cannot ask the cluster: %s", strerror(-r));
		goto out;
	}
	cluster_print_check(s->ctl->json ? stdout : stderr, &check, s->ctl->json);
	if (check.findings[UPSTREAM_CHECK_CONNECTION].state == UPSTREAM_CHECK_UNKNOWN)
		r = fail(f, -EHOSTUNREACH, "nothing was written: the login could not be tried; --no-test writes without it");
	/* Without the privilege, or the directory, the file is right and something on the cluster is not. */
	*ret_good = check.logged_in;
out:
	cluster_close(&cluster);
	return r;
}

/* ---- the file ---- */

/* The default's directory is ours to make; another one has to be there. */
static int make_directory(const char *path, struct failure *f)
{
	char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
	int r = 0;

	if (slash && slash != dir) {
		*slash = '\0';
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			r = fail(f, -errno, "cannot make the directory %s: %s", quoted(dir), strerror(errno));
	}
	free(dir);
	return r;
}

/* The daemon takes everything but the credentials from its options. */
static void print_what_next(const struct setup *s, const char *address)
{
	const char *root = s->root ? s->root : s->old.root, *ca = s->ca ? s->ca : s->old.ca;
	bool insecure = s->cluster.insecure || (!s->ca && s->old.insecure);

	printf("%s is written. To push a share's locks: wormfs SHARE -o push=%s,push_root=", quoted(s->path), address);
	print_name(stdout, root ? root : "/PATH");
	if (insecure) {
		fputs(",push_insecure", stdout);
	} else if (ca) {
		fputs(",push_ca=", stdout);
		print_name(stdout, ca);
	}
	fputs(",push_credentials=", stdout);
	print_name(stdout, s->path);
	fputs("; to look: wormctl push check --config ", stdout);
	print_name(stdout, s->path);
	putchar('\n');
}

static int write_settings(struct setup *s, struct failure *f)
{
	struct upstream_setting settings[7];
	char error[CREDENTIALS_ERROR_BYTES], *whole = NULL;
	struct endpoint endpoint;
	size_t n = 0;
	int r;

	r = cluster_address_parse(s->address, &endpoint, &whole, f);
	if (r < 0)
		return r;
	settings[n++] = (struct upstream_setting){ "cluster", whole };
	if (s->root)
		settings[n++] = (struct upstream_setting){ "root", s->root };
	if (s->ca)
		settings[n++] = (struct upstream_setting){ "ca", s->ca };
	if (s->ca || s->cluster.insecure)
		settings[n++] = (struct upstream_setting){ "insecure", s->cluster.insecure ? "yes" : NULL };
	if (!s->keep_secrets) {	/* one way to log in; the other's secret is not left lying about */
		settings[n++] = (struct upstream_setting){ "token", s->token };
		settings[n++] = (struct upstream_setting){ "user", s->token ? NULL : s->user };
		settings[n++] = (struct upstream_setting){ "password", s->token ? NULL : s->password };
	}
	r = upstream_settings_write(s->path, settings, n, error);
	if (r < 0)
		r = fail(f, r, "%s", error);
	else if (!s->ctl->json)
		print_what_next(s, whole);
	free(whole);
	return r;
}

static int set_up(struct setup *s, bool is_default, int *ret_exit, struct failure *f)
{
	char error[CREDENTIALS_ERROR_BYTES];
	struct endpoint endpoint;
	bool good = true;
	int r;

	r = upstream_settings_read(s->path, &s->old, error);
	if (r < 0 && r != -ENOENT)
		return fail(f, r, "%s", error);
	if (s->old.readable)
		complain("warning: others could read %s until now: it gets mode 0600, think about changing the secret", quoted(s->path));
	r = take_options(s, f);
	if (r == 0)
		r = complete(s, f);
	if (r == 0)
		r = cluster_address_parse(s->address, &endpoint, NULL, f);
	if (r == 0 && s->root && endpoint_check_root(s->root) < 0)
		r = fail(f, -EINVAL, "%s is no directory of a cluster: give an absolute path without '.', '..' or '/' at its end", quoted(s->root));
	if (r == 0 && s->keep_secrets && s->old.readable && chmod(s->path, 0600) < 0)
		r = fail(f, -errno, "cannot change the mode of %s: %s", quoted(s->path), strerror(errno));
	if (r == 0 && !s->no_test)
		r = try_login(s, &good, f);
	if (r < 0)
		return r;
	if (!good) {
		complain("nothing was written: the cluster does not accept the credentials");
		*ret_exit = EXIT_NO;
		return 0;
	}
	r = is_default ? make_directory(s->path, f) : 0;
	return r < 0 ? r : write_settings(s, f);
}

static int run_setup(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		CLUSTER_OPTIONS,
		{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
		{ "token", required_argument, NULL, OPT_SECRET },	/* else they would stand for --token-file and --password-file */
		{ "password", required_argument, NULL, OPT_SECRET },
		{ "user", required_argument, NULL, OPT_USER },
		{ "password-file", required_argument, NULL, OPT_PASSWORD_FILE },
		{ "no-test", no_argument, NULL, OPT_NO_TEST },
		{ "batch", no_argument, NULL, OPT_BATCH },
		{ 0 },
	};
	struct setup s = { .ctl = ctl, .prompt = { -1 } };
	int c, r, code = EXIT_YES;
	struct failure f = { 0 };
	bool is_default;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case OPT_TOKEN_FILE: s.token_file = optarg; break;
		case OPT_USER: s.user_option = optarg; break;
		case OPT_PASSWORD_FILE: s.password_file = optarg; break;
		case OPT_NO_TEST: s.no_test = true; break;
		case OPT_BATCH: s.batch = true; break;
		case OPT_SECRET:
			return wrong_usage(&command_push_setup, "no secret on the command line, which others can see: give --token-file FILE or "
					   "--password-file FILE, - for stdin");
		case OPT_CREDENTIALS:
			return wrong_usage(&command_push_setup, "--credentials: name the file as FILE; secrets come from --token-file or --password-file");
		default:
			if (cluster_option(&s.cluster, c))
				break;
			r = common_option(ctl, &command_push_setup, c, argv);
			if (r >= 0)
				return r;
		}
	}
	if (argc - optind > 1 || (s.cluster.config && optind < argc))
		return wrong_usage(&command_push_setup, "one FILE at a time");
	if (s.token_file && (s.user_option || s.password_file))
		return wrong_usage(&command_push_setup, "a token, or a user and a password: not both");
	if (s.cluster.ca && s.cluster.insecure)
		return wrong_usage(&command_push_setup, "--ca checks the certificate, --insecure does not: one of them");
	is_default = optind == argc && !s.cluster.config;
	s.path = is_default ? cluster_default_config() : strdup(s.cluster.config ? s.cluster.config : argv[optind]);
	upstream_credentials_forbid_core();
	if (!s.batch && !s.token_file && !s.password_file)
		(void)prompt_open(&s.prompt);	/* nobody there: the options have to say all */
	r = s.path ? set_up(&s, is_default, &code, &f) : fail(&f, -ENOMEM, "out of memory");
	if (r < 0)
		complain("%s", f.text);
	prompt_close(&s.prompt);
	upstream_settings_fini(&s.old);
	wipe(s.token);
	wipe(s.password);
	free(s.user);
	free(s.address);
	free(s.root);
	free(s.ca);
	free(s.path);
	return finish_output(r < 0 ? EXIT_COULD_NOT : code);
}

const struct command command_push_setup = {
	.name = "push setup",
	.summary = "keep a cluster's address and credentials in a file",
	.help =
	"Usage: wormctl push setup [OPTION]... [FILE]\n"
	"\n"
	"Asks at the terminal for whatever no option gives (secrets are not shown), tries the login, and only then\n"
	"writes FILE, whole and with mode 0600. In a file that is there already only what was given changes; other\n"
	"keys and comments stay. FILE is what --config of wormctl and push_credentials of wormfs read. Without\n"
	"FILE: /etc/wormfs/push.conf as root, else ~/.config/wormfs/push.conf.\n"
	"\n"
	"      --cluster ADDRESS      HOST, HOST:PORT, or HOST/api for port 443 [port 8000, TLS]\n"
	"      --token-file FILE      an access token, the first line of FILE; - is stdin\n"
	"      --user NAME            a user instead of a token, and\n"
	"      --password-file FILE   his password, likewise\n"
	"      --ca FILE              certificate (PEM) that the cluster's is checked with [the system's]\n"
	"      --insecure             do not check it: anybody on the way can read the credentials\n"
	"      --root PATH            the share's directory, as the cluster calls it\n"
	"      --no-test              write without trying the login\n"
	"      --batch                never ask, also at a terminal\n"
	"\n"
	"Exit codes: 0 written, 1 the cluster does not accept the credentials, 2 could not; with 1 and 2 the file\n"
	"is as it was.\n"
	"\n"
	"Example: wormctl push setup\n"
	"         wormctl push setup --cluster cluster.example.com --ca /etc/ssl/cluster.pem --token-file - /etc/wormfs/push.conf <token\n",
	.run = run_setup,
};
