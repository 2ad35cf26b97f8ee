/* mockqumulo: command line to a serving stand-in. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "mockarchive/http_cert.h"
#include "mockarchive/mockqumulo/mock.h"
#include "mockarchive/mockqumulo/runtime_dir.h"

#define CERT_DAYS 30
#define THREADS_DEFAULT 2
#define BODY_MAX_BYTES (16 << 20)
#define HEAD_MAX_BYTES (112 << 10)	/* the longest path there is, with every byte as %XX, and the rest of a head */
#define CONNECTIONS_MAX 4096
#define PREFIX "mockqumulo."

struct options {
	const char *tree, *listen, *user, *password_file, *token_file, *cert_out, *clock, *state, *name;
	bool http, allow_remote;
	enum files_ids ids;
	unsigned threads, journal;
};

struct running {
	struct mock mock;
	struct http_server *server;
	struct runtime_dir *dir, *memory;
	char *password_path, *token_path, *cert_path, *cert_pem, *key_pem;
	char password[256];
	const char *token;
};

enum { OPT_TREE = 256, OPT_LISTEN, OPT_HTTP, OPT_USER, OPT_PASSWORD_FILE, OPT_TOKEN_FILE, OPT_CERT_OUT, OPT_CLOCK, OPT_LATENCY, OPT_SET,
	OPT_STATE, OPT_IDS, OPT_THREADS, OPT_JOURNAL, OPT_ALLOW_REMOTE, OPT_NAME };

static const struct option long_options[] = {
	{ "tree", required_argument, NULL, OPT_TREE },
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "http", no_argument, NULL, OPT_HTTP },
	{ "user", required_argument, NULL, OPT_USER },
	{ "password-file", required_argument, NULL, OPT_PASSWORD_FILE },
	{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
	{ "cert-out", required_argument, NULL, OPT_CERT_OUT },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "clock", required_argument, NULL, OPT_CLOCK },
	{ "latency", required_argument, NULL, OPT_LATENCY },
	{ "set", required_argument, NULL, OPT_SET },
	{ "state", required_argument, NULL, OPT_STATE },
	{ "ids", required_argument, NULL, OPT_IDS },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "allow-remote", no_argument, NULL, OPT_ALLOW_REMOTE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 }
};

static void help(void)
{
	printf("usage: mockqumulo [--tree DIR] [--listen ADDRESS:PORT] [options]\n"
		"A stand-in for the REST interface of Qumulo Core's file locks, written from public documents.\n"
		"It was never compared with a cluster; the switches below name every answer that is a guess.\n"
		"HTTP/1.1 only; a cluster may offer HTTP/2.\n\n"
		"  --tree DIR            the files: this directory (default: an empty one in memory)\n"
		"  --listen ADDR:PORT    where (default 127.0.0.1:0, any free port); also [::1]:PORT, unix:PATH\n"
		"  --http                without TLS\n"
		"  --allow-remote        also addresses that others can reach; /mock/ asks for no password\n"
		"  --user NAME           who may log in (default admin)\n"
		"  --password-file FILE  his password; made up, and written there, where there is no such file\n"
		"  --token-file FILE     an access token; likewise\n"
		"  --cert-out FILE       where to write the certificate, made anew at each start: a client's CA file\n"
		"  --name NAME           one more host name or address in the certificate\n"
		"  --clock WHEN          start at this time (2030-01-01T00:00:00Z), or so many seconds from now (+3600, -60)\n"
		"  --latency MS          from request to reply; the same as --set latency-ms=MS\n"
		"  --state FILE          keep the locks there over a restart\n"
		"  --ids inode|own       ids of files: their inode numbers (default), or counted from 2, the root\n"
		"  --journal N           requests to remember (default %u)\n"
		"  --threads N           polling threads (default %u)\n"
		"  --set NAME=VALUE      a switch, as below; also PUT /mock/switches {\"NAME\": \"VALUE\"}\n"
		"  --help, --version\n\n"
		"Faults, clock, journal and switches at run time: GET /mock/ lists the verbs; see mockqumulo(1).\n\n"
		"Switches, each with what is answered unless it is set:\n", JOURNAL_ENTRIES, THREADS_DEFAULT);
	switches_help(stdout);
}

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...)
{
	va_list args;

	fputs("mockqumulo: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return -EINVAL;
}

/* ---- the command line ---- */

static int set_switch(struct switches *s, const char *text)
{
	const char *equals = strchr(text, '='), *expected = NULL;
	char name[64];
	int r;

	if (!equals || (size_t)(equals - text) >= sizeof(name))
		return complain("--set '%s': not of the form NAME=VALUE", text);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	r = switches_set(s, name, equals + 1, &expected);
	if (r == -ENOENT)
		return complain("--set '%s': no such switch, --help lists them", text);
	return r < 0 ? complain("--set '%s': wants %s", text, expected) : 0;
}

static int parse_count(const char *option, const char *text, unsigned max, unsigned *ret_n)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n == 0 || n > max)
		return complain("--%s '%s': wants a number from 1 to %u", option, text, max);
	*ret_n = n;
	return 0;
}

static int parse_clock(struct mock *m, const char *text)
{
	struct timespec wall;
	struct qtime t;
	char *end;
	long long seconds;

	if (!text)
		return 0;
	if (*text == '+' || *text == '-') {
		errno = 0;
		seconds = strtoll(text, &end, 10);
		if (end == text + 1 || *end || errno || llabs(seconds) > 7000000000LL)
			return complain("--clock '%s': wants seconds, at most 7000000000", text);
		m->offset_ns = seconds * 1000000000LL;
		return 0;
	}
	if (qtime_parse(text, true, &t) < 0 || t.s > INT64_MAX / 1000000000 - 1)
		return complain("--clock '%s': wants a time like 2030-01-02T03:04:05Z, before 2262, or seconds like +3600", text);
	clock_gettime(CLOCK_REALTIME, &wall);
	m->offset_ns = t.s * 1000000000LL + t.ns - (wall.tv_sec * 1000000000LL + wall.tv_nsec);
	return 0;
}

static int parse_options(int argc, char **argv, struct options *o, struct switches *s)
{
	char latency[64];
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "hV", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_TREE: o->tree = optarg; break;
		case OPT_LISTEN: o->listen = optarg; break;
		case OPT_HTTP: o->http = true; break;
		case OPT_USER: o->user = optarg; break;
		case OPT_PASSWORD_FILE: o->password_file = optarg; break;
		case OPT_TOKEN_FILE: o->token_file = optarg; break;
		case OPT_CERT_OUT: o->cert_out = optarg; break;
		case OPT_NAME: o->name = optarg; break;
		case OPT_CLOCK: o->clock = optarg; break;
		case OPT_STATE: o->state = optarg; break;
		case OPT_ALLOW_REMOTE: o->allow_remote = true; break;
		case OPT_LATENCY:
			snprintf(latency, sizeof(latency), "latency-ms=%.40s", optarg);
			r = set_switch(s, latency);
			break;
		case OPT_SET:
			r = set_switch(s, optarg);
			break;
		case OPT_IDS:
			if (strcmp(optarg, "inode") != 0 && strcmp(optarg, "own") != 0)
				r = complain("--ids '%s': wants inode or own", optarg);
			o->ids = strcmp(optarg, "own") == 0 ? FILES_IDS_OWN : FILES_IDS_INODE;
			break;
		case OPT_THREADS:
			r = parse_count("threads", optarg, 64, &o->threads);
			break;
		case OPT_JOURNAL:
			r = parse_count("journal", optarg, 100000000, &o->journal);
			break;
		case 'h':
			help();
			exit(0);
		case 'V':
			printf("mockqumulo %s\n", WORMFS_VERSION);
			exit(0);
		default:
			r = complain("--help says what there is");
		}
	}
	if (r == 0 && optind < argc)
		r = complain("'%s': what is this? --help says what there is", argv[optind]);
	return r;
}

/* ---- what clients need ---- */

static int make_secret(char *ret_text, size_t size)
{
	unsigned char bytes[16];

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	for (size_t i = 0; i < sizeof(bytes) && 2 * i + 2 < size; i++)
		sprintf(ret_text + 2 * i, "%02x", bytes[i]);
	return 0;
}

/* The path given, or `name` in our own directory. */
static char *path_or(const struct running *run, const char *given, const char *name)
{
	return given ? strdup(given) : runtime_dir_join(run->dir, name);
}

static int open_password(struct running *run, const struct options *o)
{
	int r;

	run->password_path = path_or(run, o->password_file, "password");
	if (!run->password_path)
		return -ENOMEM;
	r = private_file_read(run->password_path, run->password, sizeof(run->password));
	if (r == -ENOENT) {
		r = make_secret(run->password, sizeof(run->password));
		if (r == 0)
			r = private_file_write(run->password_path, run->password);
	}
	if (r < 0)
		return complain("password file '%s': %s", run->password_path, r == -EPERM ? "others can read it, chmod 600" : strerror(-r));
	return sessions_open(o->user, run->password, &run->mock.sessions);
}

static int open_token(struct running *run, const struct options *o)
{
	char text[1024];
	int r;

	run->token_path = path_or(run, o->token_file, "token");
	if (!run->token_path)
		return -ENOMEM;
	r = private_file_read(run->token_path, text, sizeof(text));
	if (r == 0) {
		r = sessions_add_token(run->mock.sessions, text, &run->token);
	} else if (r == -ENOENT) {
		r = sessions_add_token(run->mock.sessions, NULL, &run->token);
		if (r == 0)
			r = private_file_write(run->token_path, run->token);
	}
	return r < 0 ? complain("token file '%s': %s", run->token_path, r == -EPERM ? "others can read it, chmod 600" : strerror(-r)) : 0;
}

static int open_cert(struct running *run, const struct options *o)
{
	int r;

	if (o->http)
		return 0;
	r = http_cert_make("mockqumulo", o->name, CERT_DAYS, &run->cert_pem, &run->key_pem);
	if (r < 0)
		return complain("no certificate could be made for '%s'", o->name ? o->name : "localhost");
	run->cert_path = path_or(run, o->cert_out, "ca.pem");
	if (!run->cert_path)
		return -ENOMEM;
	(void)unlink(run->cert_path);	/* of the last run; a failure shows in the next line */
	r = private_file_write(run->cert_path, run->cert_pem);
	if (r == 0 && chmod(run->cert_path, 0644) < 0)
		r = -errno;
	return r < 0 ? complain("certificate '%s': %s", run->cert_path, strerror(-r)) : 0;
}

/* ---- start and end ---- */

static int open_files(struct running *run, const struct options *o)
{
	const char *tree = o->tree;
	int r;

	if (!tree) {
		r = runtime_dir_open("/dev/shm", PREFIX "tree.", &run->memory);
		if (r < 0)
			return complain("no directory below /dev/shm: %s", strerror(-r));
		tree = runtime_dir_path(run->memory);
	}
	r = files_open(tree, o->ids, o->state, &run->mock.files);
	if (r == -EBADMSG)
		return complain("state '%s': a line of it is not one of ours", o->state);
	return r < 0 ? complain("tree '%s': %s", tree, strerror(-r)) : 0;
}

static int open_all(struct running *run, const struct options *o)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	struct http_server_options options = { .listen = o->listen, .allow_remote = o->allow_remote, .threads = o->threads,
		.body_max_bytes = BODY_MAX_BYTES, .head_max_bytes = HEAD_MAX_BYTES, .connections_max = CONNECTIONS_MAX, .no_date = true,
		.handler = mock_handle, .owner = &run->mock };
	int r;

	r = runtime_dir_open(base && *base ? base : "/tmp", PREFIX "run.", &run->dir);
	if (r < 0)
		return complain("no directory below '%s': %s", base && *base ? base : "/tmp", strerror(-r));
	if ((r = open_files(run, o)) < 0 || (r = open_password(run, o)) < 0 || (r = open_token(run, o)) < 0 || (r = open_cert(run, o)) < 0)
		return r;
	if ((r = faults_open(&run->mock.faults)) < 0 || (r = journal_open(o->journal, &run->mock.journal)) < 0)
		return complain("%s", strerror(-r));
	r = notify_open(&run->mock, &run->mock.notify);
	if (r < 0)
		return complain("no change notification: %s", strerror(-r));
	options.cert_pem = run->cert_pem;
	options.key_pem = run->key_pem;
	r = http_server_open(&options, &run->server);
	if (r == -EPERM)
		return complain("'%s' can be reached by others: --allow-remote if that is wanted", o->listen);
	return r < 0 ? complain("cannot listen at '%s': %s", o->listen, strerror(-r)) : 0;
}

static void close_all(struct running *run)
{
	http_server_close(run->server);
	notify_close(run->mock.notify);
	journal_close(run->mock.journal);
	faults_close(run->mock.faults);
	sessions_close(run->mock.sessions);
	files_close(run->mock.files);
	runtime_dir_close(run->memory);
	runtime_dir_close(run->dir);
	free(run->password_path);
	free(run->token_path);
	free(run->cert_path);
	free(run->cert_pem);
	free(run->key_pem);
	pthread_mutex_destroy(&run->mock.lock);
}

/* One "NAME VALUE" a line, for people and for scripts; the empty line says that it serves. */
static void announce(const struct running *run, const struct options *o)
{
	const char *address = http_server_address(run->server), *scheme = o->http ? "http" : "https";
	bool local = strncmp(address, "unix:", 5) == 0;

	printf("mockqumulo: a stand-in for Qumulo's REST interface, written from documents\n");
	printf(local ? "socket %s\n" : "url %s://%s\n", local ? address + 5 : scheme, address);
	printf("tree %s\n", o->tree ? o->tree : runtime_dir_path(run->memory));
	if (run->cert_path)
		printf("ca-file %s\n", run->cert_path);
	printf("token-file %s\nuser %s\npassword-file %s\n", run->token_path, o->user, run->password_path);
	if (!local)
		printf("try curl%s%s -H \"Authorization: Bearer $(cat '%s')\" %s://%s/v1/session/who-am-i\n", run->cert_path ? " --cacert " : "",
			run->cert_path ? run->cert_path : "", run->token_path, scheme, address);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct options options = { .listen = "127.0.0.1:0", .user = "admin", .threads = THREADS_DEFAULT, .journal = JOURNAL_ENTRIES };
	struct running run = { .mock.lock = PTHREAD_MUTEX_INITIALIZER };
	struct rlimit files;
	sigset_t signals;
	int caught, r;

	switches_init(&run.mock.switches);
	if (parse_options(argc, argv, &options, &run.mock.switches) < 0 || parse_clock(&run.mock, options.clock) < 0)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	/* Before there are threads, so that none of them takes these. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
		(void)setrlimit(RLIMIT_NOFILE, &files);	/* fewer connections, then */
	}
	r = open_all(&run, &options);
	if (r == 0) {
		announce(&run, &options);
		sigwait(&signals, &caught);
	}
	close_all(&run);
	return r < 0 ? 2 : 0;
}
