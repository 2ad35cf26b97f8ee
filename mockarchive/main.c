/* mockarchive: the command line, and the order in which things begin and end. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/daemon.h"
#include "fs/log.h"
#include "fs/state.h"
#include "fs/tier.h"
#include "mockarchive/ctl.h"
#include "mockarchive/ops.h"
#include "mockarchive/serve.h"
#include "mockarchive/tier.h"

#define SETS_MAX 128

static struct {
	bool foreground, debug, worm;
	const char *final, *store, *replica, *clock;
	const char *mount_options;
	const char *sets[SETS_MAX];	/* "profile" and NULL, or key=value, in their order */
	unsigned nsets;
	struct settings set;
	char *store_made;		/* temporary, and ours to remove */
	struct serve_options serve;
	unsigned nlisten;
	bool running;
} ours = { .clock = "real" };

static struct wormfs daemon_fs;
static struct serve *serve;
static struct tier tier;

/* ---- directories ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)remove(path);	/* a temporary directory that is left is no loss */
	return 0;
}

static void remove_temporary(char *path)
{
	if (path)
		(void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(path);
}

/* An existing directory, or one that is made now; absolute. */
static int use_directory(const char *path, const char *what, char **ret_path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		complain("cannot make the %s '%s': %s", what, path, strerror(errno));
		return -errno;
	}
	*ret_path = realpath(path, NULL);
	if (!*ret_path) {
		complain("%s '%s': %s", what, path, strerror(errno));
		return -errno;
	}
	return 0;
}

static int temporary_directory(char **ret_path)
{
	const char *tmp = getenv("TMPDIR");

	if (asprintf(ret_path, "%s/mockarchive-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
		return -ENOMEM;
	if (!mkdtemp(*ret_path)) {
		complain("cannot make the temporary directory '%s': %s; give one with --store", *ret_path, strerror(errno));
		free(*ret_path);
		*ret_path = NULL;
		return -errno;
	}
	(void)chmod(*ret_path, 0755);	/* its files have modes of their own */
	return 0;
}

static int make_below(const char *dir, const char *name, char **ret_path)
{
	char *path;
	int r;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return -ENOMEM;
	r = use_directory(path, "directory", ret_path);
	free(path);
	return r;
}

struct directories {
	char *store, *replica, *data, *tape, *state, *final;
};

static void directories_fini(struct directories *d)
{
	free(d->store);
	free(d->replica);
	free(d->data);
	free(d->tape);
	free(d->state);
	free(d->final);
}

static bool lies_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

static int make_directories(struct directories *d)
{
	int r = 0;

	if (ours.store) {
		r = use_directory(ours.store, "store", &d->store);
	} else {
		r = temporary_directory(&ours.store_made);
		d->store = r == 0 ? strdup(ours.store_made) : NULL;
	}
	if (r == 0)
		r = ours.replica ? use_directory(ours.replica, "replica", &d->replica) : make_below(d->store, "replica", &d->replica);
	if (r == 0)
		r = make_below(d->store, "data", &d->data);
	if (r == 0)
		r = make_below(d->store, "tape", &d->tape);
	if (r == 0)
		r = make_below(d->store, "state", &d->state);
	if (r == 0) {
		(void)chmod(d->tape, 0700);
		(void)chmod(d->state, 0700);
		if (mkdir(ours.final, 0755) < 0 && errno != EEXIST)
			r = use_directory(ours.final, "mount point", &d->final);
	}
	if (r == 0 && (lies_below(d->replica, d->data) || lies_below(d->data, d->replica))) {
		complain("the replica '%s' and the store '%s' must not lie in one another", d->replica, d->data);
		r = -EINVAL;
	}
	return r;
}

/* ---- the command line ---- */

static int print_profile(void *arg, const char *name, const char *help)
{
	printf("  %-20s%s\n", name, help);
	return 0;
}

static int print_setting(void *arg, const char *key, const char *value, const char *takes, const char *help)
{
	printf("  %s=%s\n      %s [%s]\n", key, takes, help, value);
	return 0;
}

static void print_help(void)
{
	struct settings s;

	settings_init(&s);
	fputs("Usage: mockarchive [-f] [-d] FINAL [--store DIR] [--replica DIR] [--profile NAME] [--set KEY=VALUE]... [--clock CLOCK]\n"
	      "                   [--http ADDRESS]... [--token TOKEN] [--allow-remote] [--site NAME] [-o OPTION,...]\n"
	      "       mockarchive ctl COMMAND...\n"
	      "\n"
	      "Mounts a tape archive that is none on FINAL: what is written there is copied to a tape that is a directory, and to a\n"
	      "replica; then its disk blocks go, and who reads it gets what a real archive says until it has been fetched back.\n"
	      "\n"
	      "  --store DIR       where it keeps its files: data, tape, state [a temporary directory, removed at the end]\n"
	      "  --replica DIR     the second copy, the same tree as FINAL [STORE/replica]\n"
	      "  --profile NAME    as which archive it behaves [eth-lts]\n"
	      "  --set KEY=VALUE   one switch; after the profile that is named before it\n"
	      "  --clock CLOCK     real, scaled:N (N archive seconds a second), manual [real]\n"
	      "  --http ADDRESS    control port: PORT (0: any), HOST:PORT, unix:PATH; said on stderr. Always: a socket in\n"
	      "                    /run/mockarchive, for mockarchive ctl\n"
	      "  --token TOKEN     who comes over TCP must send it (Authorization: Bearer TOKEN); @FILE: a file's first line\n"
	      "  --allow-remote    --http may be reached from other machines\n"
	      "  --site NAME       sitename of the tape REST API [mockarchive]\n"
	      "  -o worm,...       lock files when they are closed, with the options of wormfs(8); without worm nothing is locked\n"
	      "  -f, --foreground  stay in the foreground, log to stderr\n"
	      "  -d, --debug       and log more\n"
	      "  -h, --help        this text\n"
	      "  -V, --version     version\n"
	      "\n"
	      "Profiles:\n", stdout);
	(void)settings_each_profile(print_profile, NULL);
	fputs("\nSwitches, with [default]. TIME: 500ms, 5s, 2m, 1h, 1d. BYTES: 4096, 64K, 10M, 1G.\n", stdout);
	(void)settings_each(&s, print_setting, NULL);
	fputs("\nExit status: 0 mounted (or unmounted, with -f), 2 could not. See mockarchive(1).\n", stdout);
}

/* "worm" is ours; the rest is for wormfs. */
static char *take_worm(const char *list)
{
	char *out = malloc(strlen(list) + 1), *end = out;

	while (out && *list) {
		size_t n = 0;

		while (list[n] && list[n] != ',')
			n += list[n] == '\\' && list[n + 1] ? 2 : 1;
		if (n == 4 && strncmp(list, "worm", 4) == 0) {
			ours.worm = true;
		} else {
			if (end != out)
				*end++ = ',';
			memcpy(end, list, n);
			end += n;
		}
		list += n + (list[n] == ',');
	}
	if (out)
		*end = '\0';
	return out;
}

enum { OPT_STORE = 256, OPT_REPLICA, OPT_PROFILE, OPT_SET, OPT_CLOCK, OPT_HTTP, OPT_TOKEN, OPT_REMOTE, OPT_SITE };

/* TOKEN, or @FILE: its first line, which no list of processes shows. */
static int read_token(const char *arg)
{
	static char token[512];
	FILE *in;

	ours.serve.token = arg;
	if (*arg != '@')
		return 0;
	in = fopen(arg + 1, "re");
	if (!in || !fgets(token, sizeof(token), in))
		*token = '\0';
	if (in)
		fclose(in);
	token[strcspn(token, "\r\n")] = '\0';
	if (!*token) {
		complain("--token %s: %s", arg, in ? "the first line of the file must be the token" : strerror(errno));
		return -EINVAL;
	}
	ours.serve.token = token;
	return 0;
}

/* 0; 1: --help or --version was printed; -EINVAL after a line. */
static int parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "store", required_argument, NULL, OPT_STORE }, { "replica", required_argument, NULL, OPT_REPLICA },
		{ "profile", required_argument, NULL, OPT_PROFILE }, { "set", required_argument, NULL, OPT_SET },
		{ "clock", required_argument, NULL, OPT_CLOCK }, { "http", required_argument, NULL, OPT_HTTP },
		{ "token", required_argument, NULL, OPT_TOKEN }, { "allow-remote", no_argument, NULL, OPT_REMOTE },
		{ "site", required_argument, NULL, OPT_SITE }, { "foreground", no_argument, NULL, 'f' }, { "debug", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { 0 },
	};
	enum archive_clock_mode mode;
	double rate;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":fdhVo:", longs, NULL)) != -1) {
		switch (c) {
		case OPT_STORE: ours.store = optarg; break;
		case OPT_REPLICA: ours.replica = optarg; break;
		case OPT_CLOCK: ours.clock = optarg; break;
		case OPT_PROFILE:
		case OPT_SET:
			if (ours.nsets == SETS_MAX) {
				complain("more than %d switches", SETS_MAX);
				return -EINVAL;
			}
			if (c == OPT_SET && !strchr(optarg, '=')) {
				complain("--set %s: it is --set KEY=VALUE", optarg);
				return -EINVAL;
			}
			ours.sets[ours.nsets++] = optarg;
			break;
		case OPT_HTTP:
			if (ours.nlisten == SERVE_LISTEN_MAX - 1) {
				complain("more than %d addresses of --http", SERVE_LISTEN_MAX - 1);
				return -EINVAL;
			}
			ours.serve.listen[ours.nlisten++] = optarg;
			break;
		case OPT_TOKEN:
			if (read_token(optarg) < 0)
				return -EINVAL;
			break;
		case OPT_REMOTE: ours.serve.allow_remote = true; break;
		case OPT_SITE: ours.serve.site = optarg; break;
		case 'o': ours.mount_options = optarg; break;
		case 'f': ours.foreground = true; break;
		case 'd': ours.debug = true; break;
		case 'h': print_help(); return 1;
		case 'V': printf("mockarchive %s\n", WORMFS_VERSION); return 1;
		case ':':
			complain("%s needs a value; 'mockarchive --help' lists the options", argv[optind - 1]);
			return -EINVAL;
		default:
			complain("unknown argument '%s'; 'mockarchive --help' lists them", argv[optind - 1]);
			return -EINVAL;
		}
	}
	if (optind != argc - 1) {
		complain(optind == argc ? "where to? usage: mockarchive [-f] FINAL [--store DIR] [--replica DIR] ..." :
			 "one argument too many: '%s'; usage: mockarchive [-f] FINAL [--store DIR] [--replica DIR] ...", argv[argc - 1]);
		return -EINVAL;
	}
	ours.final = argv[optind];
	if (clock_parse(ours.clock, &mode, &rate) < 0) {
		complain("--clock %s: it is real, manual, or scaled:N with N from 0 to 1000000", ours.clock);
		return -EINVAL;
	}
	return 0;
}

static int apply_sets(void)
{
	char error[SETTING_ERROR_BYTES], key[64];

	settings_init(&ours.set);
	for (unsigned i = 0; i < ours.nsets; i++) {
		const char *text = ours.sets[i], *equals = strchr(text, '=');

		if (!equals) {
			if (settings_profile(&ours.set, text) < 0) {
				complain("there is no profile '%s'; 'mockarchive --help' lists them", text);
				return -EINVAL;
			}
			continue;
		}
		snprintf(key, sizeof(key), "%.*s", (int)(equals - text), text);
		if (settings_set(&ours.set, key, equals + 1, error) < 0) {
			complain("%s; 'mockarchive --help' lists the switches", error);
			return -EINVAL;
		}
	}
	return 0;
}

/* A value of -o with its commas and backslashes marked. */
static int add_escaped(char *out, size_t len_bytes, const char *text)
{
	size_t n = strlen(out);

	for (; *text; text++) {
		if (n + 3 > len_bytes)
			return -ENAMETOOLONG;
		if (*text == ',' || *text == '\\')
			out[n++] = '\\';
		out[n++] = *text;
	}
	out[n] = '\0';
	return 0;
}

/* The daemon's own options, as its command line has them. */
static int parse_for_daemon(const struct directories *d)
{
	char state[PATH_MAX * 2 + 64] = "state=", *rest = ours.mount_options ? take_worm(ours.mount_options) : NULL;
	char *argv[16] = { "mockarchive" };
	int argc = 1, r;

	if (ours.foreground)
		argv[argc++] = "-f";
	if (ours.debug)
		argv[argc++] = "-d";
	argv[argc++] = "-o";
	/* Everything goes through the daemon, which must see it, and answers may come from any of its threads. */
	argv[argc++] = "shared=no,passthrough=no,io_uring=no,splice=no";
	if (!ours.worm) {
		argv[argc++] = "-o";
		argv[argc++] = "commit=never,audit=off,digest=off";
	}
	r = add_escaped(state, sizeof(state), d->state);
	argv[argc++] = "-o";
	argv[argc++] = state;
	if (rest && *rest) {
		argv[argc++] = "-o";
		argv[argc++] = rest;
	}
	argv[argc++] = "--";
	argv[argc++] = d->data;
	argv[argc++] = (char *)ours.final;
	if (r == 0)
		r = options_parse(argc, argv, &daemon_fs.opt);
	free(rest);
	return r;
}

/* ---- life ---- */

static struct directories directories;

static int open_control(void)
{
	const char *which = "";
	int r = serve_open(the_archive, &ours.serve, &serve, &which);

	if (r == -EPERM)
		complain("--http %s: others could reach it; give an address of this machine's own (127.0.0.1), or --allow-remote", which);
	else if (r < 0)
		complain("cannot listen on '%s': %s", which ? which : "", strerror(-r));
	return r;
}

static int start(struct wormfs *fs)
{
	int r;

	fs->timeout_s = 0;	/* permissions on the way to a file are asked for at each step */
	r = archive_open(fs, &ours.set, ours.clock, directories.store, directories.replica, &the_archive);
	if (r == 0)
		r = file_scan(the_archive);
	if (r == 0)
		r = archive_start(the_archive);
	ours.running = r == 0;
	if (r == 0)
		r = open_control();
	return r;
}

static void mounted(struct wormfs *fs)
{
	char mode[40];

	snprintf(mode, sizeof(mode), "%s", ours.clock);
	log_info("archive on '%s', store '%s', replica '%s', profile %s, clock %s%s", fs->mountpoint, archive_store(the_archive),
		 archive_replica(the_archive), ours.set.profile, mode, ours.worm ? ", worm" : "");
	serve_start(serve);
	for (unsigned i = 0; serve_address(serve, i); i++)
		log_info("control at %s", serve_address(serve, i));
}

static void stop(struct wormfs *fs)
{
	if (ours.running)
		archive_stop(the_archive);	/* also ends what requests wait for */
	ours.running = false;
	serve_close(serve);
	serve = NULL;
}

int main(int argc, char **argv)
{
	int r;

	log_program = "mockarchive";
	if (argc > 1 && strcmp(argv[1], "ctl") == 0)
		return ctl_main(argc - 1, argv + 1);
	r = parse(argc, argv);
	if (r == 0)
		r = apply_sets();
	if (r == 0)
		r = make_directories(&directories);
	if (r == 0)
		r = parse_for_daemon(&directories);
	if (r == 0) {
		tier_init(&tier);
		tier.start = start;
		tier.mounted = mounted;
		tier.stop = stop;
		daemon_fs.tier = &tier;
		r = daemon_run(&daemon_fs);
		archive_close(the_archive);
		dotfile_close_all();
	} else {
		r = r < 0 ? EXIT_COULD_NOT : 0;
	}
	remove_temporary(ours.store_made);
	directories_fini(&directories);
	return r;
}
