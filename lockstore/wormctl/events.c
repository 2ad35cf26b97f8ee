/* events: reads the ring of a share, with or without a daemon: what happens, what happened, who is told. */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/events/event_json.h"
#include "lockstore/events/event_registry.h"
#include "lockstore/events/event_ring.h"
#include "lockstore/events/event_sink.h"
#include "lockstore/wormctl/events.h"
#include "lockstore/wormctl/one_share.h"

#define POLL_MS 50	/* as long as a new event may wait for us */
#define BUFFER_BYTES 262144

struct events_query {
	struct wormctl *ctl;
	struct one_share one;
	struct event_ring *ring;
	char ring_path[4096];
	ino_t ring_ino;
	uint64_t from, to, count;	/* to, count: 0: no end */
	bool has_from, refused, by_uid;
	uid_t uid;
	const char *consumer;		/* --consumer, or the name after a verb */
	const char *consumer_verb;
	struct events_sse sse;
	bool by_type, types[EVENT_TYPES];
	const char *glob;		/* of a path from the share's root */
	struct event_json json;
	uint64_t found, missing;
};

/* ---- the ring ---- */

static int open_ring(struct events_query *q, struct failure *f)
{
	struct share *share = q->one.share;
	struct stat st;
	int r;

	if (!share->state_dir)
		return fail(f, -EACCES, "cannot find the events of %s: only root or the user who mounted it may read them", quoted(share->dir));
	snprintf(q->ring_path, sizeof(q->ring_path), "%s/" EVENT_RING_FILE, share->state_dir);
	r = q->consumer || q->consumer_verb ? event_ring_open_shared(q->ring_path, &q->ring) : event_ring_open_readonly(q->ring_path, &q->ring);
	if (r == -ENOENT)
		return fail(f, r, "there are no events in %s: mount the share with -o events=on, or name its state with --state-dir DIR",
			    quoted(share->state_dir));
	if (r < 0)
		return fail(f, r, "cannot read the events in %s: %s", quoted(q->ring_path),
			    r == -EBADMSG ? "it is not a ring of this version" : strerror(-r));
	if (stat(q->ring_path, &st) == 0)
		q->ring_ino = st.st_ino;
	return 0;
}

/* A daemon that makes the ring another size begins a new file; numbers go on. */
static int reopen_if_replaced(struct events_query *q, struct event_cursor *cursor)
{
	struct event_ring *ring;
	struct stat st;
	int r;

	if (stat(q->ring_path, &st) < 0 || st.st_ino == q->ring_ino)
		return 0;
	r = event_ring_open_readonly(q->ring_path, &ring);
	if (r < 0)
		return r;
	event_ring_close(q->ring);
	q->ring = ring;
	q->ring_ino = st.st_ino;
	return event_ring_seek(ring, cursor->seq, cursor);
}

/* ---- which ---- */

static bool below(const char *dir, const struct event_text *path)
{
	size_t len = strlen(dir);

	return len == 0 || (path->len >= len && memcmp(path->bytes, dir, len) == 0 && (path->len == len || path->bytes[len] == '/'));
}

static bool path_matches(const struct events_query *q, const struct event_text *path)
{
	char text[EVENT_PATH_MAX + 1];

	if (q->one.path && !below(q->one.path, path))
		return false;
	if (!q->glob)
		return true;
	memcpy(text, path->bytes, path->len);
	text[path->len] = '\0';
	return fnmatch(q->glob, text, FNM_LEADING_DIR) == 0;
}

static bool matches(const struct events_query *q, const struct event *ev)
{
	if (ev->type == EVENT_GAP)
		return true;	/* nobody knows what is missing */
	if (q->by_type && !q->types[ev->type])
		return false;
	if (q->refused && !(ev->flags & EVENT_REFUSED))
		return false;
	if (q->by_uid && !(ev->has & EVENT_HAS_ACTOR && ev->actor.uid == q->uid))
		return false;
	if (!q->one.path && !q->glob)
		return true;
	return (ev->has & EVENT_HAS_PATH && path_matches(q, &ev->path)) ||
	       (ev->has & EVENT_HAS_TARGET && ev->type != EVENT_SYMLINK && path_matches(q, &ev->target));
}

/* ---- a line ---- */

static void print_text(const struct event_text *text)
{
	char copy[EVENT_PATH_MAX + 1];

	memcpy(copy, text->bytes, text->len);
	copy[text->len] = '\0';
	print_name(stdout, copy);
}

static void print_line(const struct event *ev)
{
	time_t second = ev->time_ns / 1000000000;
	char date[32];
	struct tm tm;

	gmtime_r(&second, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	printf("%" PRIu64 " %s.%03dZ ", ev->seq, date, (int)(ev->time_ns % 1000000000 / 1000000));
	if (ev->has & EVENT_HAS_ACTOR)
		printf("%" PRIu32 " ", ev->actor.uid);
	else
		fputs("- ", stdout);
	if (ev->has & EVENT_HAS_COMM)
		print_text(&ev->comm);
	else
		putchar('-');
	printf(" %s", event_type_name(ev->type));
	if (ev->has & EVENT_HAS_ERROR && ev->error)
		printf(" %s", errno_name(ev->error));
	if (ev->has & EVENT_HAS_LOST)
		printf(" %" PRIu64 " lost", ev->lost);
	if (ev->has & EVENT_HAS_PATH) {
		fputs(" /", stdout);
		print_text(&ev->path);
	}
	if (ev->has & EVENT_HAS_TARGET) {
		fputs(ev->type == EVENT_SYMLINK ? " -> " : ev->flags & EVENT_EXCHANGE ? " <-> /" : " -> /", stdout);
		print_text(&ev->target);
	}
	if (ev->has & EVENT_HAS_DETAIL) {
		fputs("  (", stdout);
		print_text(&ev->detail);
		putchar(')');
	}
	putchar('\n');
}

static void print_event(struct events_query *q, const struct event *ev)
{
	static char line[EVENT_JSON_MAX];
	struct event_counts counts = { .dropped = event_ring_dropped(q->ring) };

	if (q->ctl->json)
		(void)!fwrite(line, 1, event_json_format(&q->json, ev, &counts, line), stdout);	/* finish_output() says so */
	else
		print_line(ev);
}

/* What was overwritten before we got there, as the ring would say it. */
static void print_overwritten(struct events_query *q, uint64_t first, uint64_t lost)
{
	struct event ev;

	event_ring_overwritten(q->ring, first, lost, &ev);
	q->missing += lost;
	if (q->consumer)
		event_registry_lost(q->ring, q->consumer, first, first + lost);
	print_event(q, &ev);
}

/* ---- tail, replay ---- */

static bool is_over(const struct events_query *q, uint64_t seq)
{
	return (q->count && q->found >= q->count) || (q->to && seq > q->to);
}

static void print_batch(struct events_query *q, const char *buf, ssize_t len)
{
	struct event ev;
	size_t at = 0;

	while (event_ring_next(buf, len, &at, &ev, &q->missing) > 0) {
		if (is_over(q, ev.seq))
			return;
		if (!matches(q, &ev))
			continue;
		if (ev.type == EVENT_GAP)
			q->missing += ev.lost;
		else
			q->found++;
		print_event(q, &ev);
	}
}

static int walk(struct events_query *q, bool follow, struct failure *f)
{
	uint64_t overwritten, from = q->has_from ? q->from : follow ? UINT64_MAX : 0;
	char *buf = malloc(BUFFER_BYTES);
	struct event_cursor cursor;
	ssize_t len;
	int r;

	r = buf ? event_ring_seek(q->ring, from, &cursor) : -ENOMEM;
	if (r == 0 && q->has_from && cursor.seq > from)
		print_overwritten(q, from, cursor.seq - from);
	while (r == 0 && !is_over(q, cursor.seq)) {
		uint64_t first = cursor.seq;

		len = event_ring_read(q->ring, &cursor, buf, BUFFER_BYTES, &overwritten);
		if (len < 0)
			r = len;
		if (overwritten)
			print_overwritten(q, first, overwritten);
		if (len > 0) {
			print_batch(q, buf, len);
			if (fflush(stdout) != 0)
				break;		/* whoever reads us has gone */
			continue;
		}
		if (r < 0 || !follow)
			break;
		usleep(POLL_MS * 1000);
		r = reopen_if_replaced(q, &cursor);
	}
	free(buf);
	return r < 0 ? fail(f, r, "cannot read the events in %s: %s", quoted(q->ring_path),
			    r == -EBADMSG ? "a record does not verify; 'wormctl events stats' says what there is" : strerror(-r)) : 0;
}

/* ---- consumers, stats ---- */

static void show_consumers(struct events_query *q)
{
	const struct event_consumer *all = event_ring_consumers(q->ring);
	struct event_ring_stats stats;
	struct failure never;

	event_ring_stats(q->ring, &stats);
	for (int i = 0; i < EVENT_RING_CONSUMERS; i++) {
		const struct event_consumer *c = &all[i];
		uint64_t seq = atomic_load(&c->seq), sent = atomic_load(&c->sent), dropped = atomic_load(&c->dropped), missed = atomic_load(&c->missed);
		uint64_t behind = stats.next_seq > seq ? stats.next_seq - seq : 0;
		bool in_use = atomic_load(&c->session) == stats.session && stats.writing;
		int error = atomic_load(&c->error);
		const char *state = !in_use ? "unused" : error ? errno_name(error) : "connected";
		char name[sizeof(c->name)];

		memcpy(name, c->name, sizeof(name));
		name[sizeof(name) - 1] = '\0';
		if (!name[0] || atomic_load(&c->registered))
			continue;
		q->found++;
		if (q->ctl->json) {
			(void)print_json(json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I}", "consumer", json_text(name), "state", state, "seq",
						   (json_int_t)seq, "behind", (json_int_t)behind, "sent", (json_int_t)sent, "dropped",
						   (json_int_t)dropped, "missed", (json_int_t)missed));
			continue;
		}
		print_name(stdout, name);
		printf(" %s\n  next %" PRIu64 ", %" PRIu64 " behind, %" PRIu64 " sent, %" PRIu64 " dropped, %" PRIu64 " missed\n", state, seq, behind,
		       sent, dropped, missed);
	}
	q->found += events_consumer(q->ctl, q->ring, "list", NULL, 0, &never);
}

static void show_stats(struct events_query *q)
{
	struct event_ring_stats s;

	event_ring_stats(q->ring, &s);
	q->found++;
	if (q->ctl->json) {
		(void)print_json(json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "ring", json_text(q->ring_path), "bytes",
					   (json_int_t)s.bytes, "used", (json_int_t)s.used_bytes, "noted", (json_int_t)s.noted, "dropped",
					   (json_int_t)s.dropped, "oldest", (json_int_t)s.oldest_seq, "next", (json_int_t)s.next_seq, "oldest_msn",
					   (json_int_t)s.oldest_msn, "next_msn", (json_int_t)s.next_msn, "session", (json_int_t)s.session,
					   "open", s.writing));
		return;
	}
	printf("ring ");
	print_name(stdout, q->ring_path);
	printf("\n  events   %" PRIu64 " to %" PRIu64 "\n  noted    %" PRIu64 "\n  dropped  %" PRIu64 "\n  bytes    %" PRIu64 " of %" PRIu64
	       "\n  session  %" PRIu32 "%s\n", s.oldest_seq, s.next_seq - 1, s.noted, s.dropped, s.used_bytes, s.bytes, s.session,
	       s.writing ? "" : ", closed");
}

/* ---- command ---- */

enum { OPT_FROM = OPT_OF_COMMAND, OPT_TO, OPT_COUNT, OPT_UID, OPT_PATH, OPT_TYPE, OPT_REFUSED, OPT_RAW, OPT_CONSUMER, OPT_LISTEN, OPT_TOKEN_FILE, OPT_ALLOW_REMOTE };

static int take_types(struct events_query *q, const char *value)
{
	char *copy = strdup(value), *glob, *save = NULL;
	bool good = copy && *copy;

	for (glob = copy ? strtok_r(copy, ":", &save) : NULL; glob && good; glob = strtok_r(NULL, ":", &save)) {
		good = false;
		for (unsigned type = 1; type < EVENT_TYPES; type++) {
			if (!event_type_name(type) || fnmatch(glob, event_type_name(type), 0) != 0)
				continue;
			q->types[type] = good = true;
		}
	}
	free(copy);
	q->by_type = true;
	return good ? -1 : wrong_usage(&command_events, "--type %s: there is no such event; docs/events.md lists them", quoted(value));
}

static int take_number(const char *name, uint64_t min, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(optarg, &end, 10);
	if (errno || *end || *optarg < '0' || *optarg > '9' || *ret < min)
		return wrong_usage(&command_events, "--%s %s: it is a number", name, quoted(optarg));
	return -1;
}

static int take_uid(struct events_query *q, const char *value)
{
	struct passwd *user = getpwnam(value);
	char *end;

	q->by_uid = true;
	q->uid = user ? user->pw_uid : strtoul(value, &end, 10);
	if (user || (*value >= '0' && *value <= '9' && !*end))
		return -1;
	return wrong_usage(&command_events, "--uid %s: no such user, and no number", quoted(value));
}

static int take_option(struct events_query *q, bool *raw, int c, char **argv)
{
	switch (c) {
	case OPT_FROM:
		q->has_from = true;
		return take_number("from", 0, &q->from);
	case OPT_TO:
		return take_number("to", 1, &q->to);
	case OPT_COUNT:
		return take_number("count", 1, &q->count);
	case OPT_UID:
		return take_uid(q, optarg);
	case OPT_PATH:
		q->glob = optarg[0] == '/' ? optarg + 1 : optarg;
		return -1;
	case OPT_TYPE:
		return take_types(q, optarg);
	case OPT_REFUSED:
		q->refused = true;
		return -1;
	case OPT_RAW:
		*raw = true;
		return -1;
	case OPT_LISTEN:
		q->sse.listen = optarg;
		return -1;
	case OPT_TOKEN_FILE:
		q->sse.token_file = optarg;
		return -1;
	case OPT_ALLOW_REMOTE:
		q->sse.allow_remote = true;
		return -1;
	case OPT_CONSUMER:
		q->consumer = optarg;
		return -1;
	}
	return common_option(q->ctl, &command_events, c, argv);
}

/* What stands behind `consumer`: VERB, NAME but for list, PATH. */
static int take_consumer(struct events_query *q, int nargs, char **args)
{
	bool list;

	if (nargs < 1 || !events_is_consumer_verb(args[0]))
		return wrong_usage(&command_events, nargs < 1 ? "consumer register, deregister, clear or list?" : "there is no 'events consumer %s'",
				   nargs < 1 ? "" : args[0]);
	list = strcmp(args[0], "list") == 0;
	if (q->consumer)
		return wrong_usage(&command_events, "--consumer is for tail and replay: name it behind 'consumer %s'", args[0]);
	if (!list && nargs < 2)
		return wrong_usage(&command_events, "consumer %s which NAME?", args[0]);
	if (nargs > (list ? 2 : 3))
		return wrong_usage(&command_events, "one share at a time");
	if (strcmp(args[0], "clear") == 0 && !q->to)
		return wrong_usage(&command_events, "clear up to which event? --to SEQ");
	q->consumer_verb = args[0];
	q->consumer = list ? NULL : args[1];
	return -1;
}

static int run_ring(struct events_query *q, const char *what, const char *path)
{
	bool tail = strcmp(what, "tail") == 0, replay = strcmp(what, "replay") == 0;
	struct failure f = { 0 }, lag;
	int r;

	r = one_share_find(&q->one, q->ctl, path, &f);
	if (r == 0)
		r = open_ring(q, &f);
	if (r == 0 && q->consumer && !q->consumer_verb) {
		r = events_find_consumer(q->ring, q->consumer, &q->from, &f);
		q->has_from = true;
	}
	/* Not before a clear: with events=strict the share may be waiting for it. */
	if (r == 0 && (replay || (q->consumer_verb && strcmp(q->consumer_verb, "register") == 0)))
		(void)share_sync(q->one.share, &lag);	/* a daemon that does not answer: what the ring has is read all the same */
	if (r == 0 && (tail || replay))
		r = walk(q, tail, &f);
	else if (r == 0 && strcmp(what, "sse") == 0)
		r = events_sse(q->ctl, q->ring_path, &q->sse, &f) < 0 ? f.error : 1;
	else if (r == 0 && q->consumer_verb)
		r = events_consumer(q->ctl, q->ring, q->consumer_verb, q->consumer,
				    strcmp(q->consumer_verb, "clear") == 0 ? q->to : q->has_from ? q->from : UINT64_MAX, &f);
	else if (r == 0 && strcmp(what, "consumers") == 0)
		show_consumers(q);
	else if (r == 0)
		show_stats(q);
	if (r > 0)
		q->found += r;
	event_ring_close(q->ring);
	one_share_fini(&q->one);
	if (r < 0)
		complain("%s", f.text);
	return r < 0 ? EXIT_COULD_NOT : q->missing || !q->found ? EXIT_NO : EXIT_YES;
}

static int run_events(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		COMMON_OPTIONS,
		{ "from", required_argument, NULL, OPT_FROM },
		{ "to", required_argument, NULL, OPT_TO },
		{ "count", required_argument, NULL, OPT_COUNT },
		{ "uid", required_argument, NULL, OPT_UID },
		{ "path", required_argument, NULL, OPT_PATH },
		{ "type", required_argument, NULL, OPT_TYPE },
		{ "refused", no_argument, NULL, OPT_REFUSED },
		{ "raw", no_argument, NULL, OPT_RAW },
		{ "consumer", required_argument, NULL, OPT_CONSUMER },
		{ "listen", required_argument, NULL, OPT_LISTEN },
		{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
		{ "allow-remote", no_argument, NULL, OPT_ALLOW_REMOTE },
		{ 0 },
	};
	static const char *const verbs[] = { "tail", "replay", "consumers", "consumer", "stats", "sse", "listen", "decode" };
	struct events_query q = { .ctl = ctl, .sse.listen = "127.0.0.1:0" };
	const char *what, *arg;
	bool raw = false, known = false;
	int c, r, nargs;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = take_option(&q, &raw, c, argv);
		if (r >= 0)
			return r;
	}
	what = optind < argc ? argv[optind] : "";
	nargs = argc - optind - 1;
	arg = nargs > 0 ? argv[optind + 1] : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		known |= strcmp(what, verbs[i]) == 0;
	if (!known)
		return wrong_usage(&command_events, *what ? "there is no 'events %s'" : "tail, replay, consumers, consumer, stats, sse, listen or decode?", what);
	if (strcmp(what, "consumer") == 0) {
		r = take_consumer(&q, nargs, argv + optind + 1);
		if (r >= 0)
			return r;
		arg = argv[optind + 1 + (q.consumer ? 2 : 1)];
		nargs = 0;
	}
	if (nargs > 1)
		return wrong_usage(&command_events, "one argument at a time");
	if (strcmp(what, "listen") == 0)
		return !arg ? wrong_usage(&command_events, "listen on which SOCKET?") :
		       finish_output(events_listen(arg, q.has_from ? q.from : UINT64_MAX, q.count));
	if (strcmp(what, "decode") == 0)
		return finish_output(events_decode(arg ? arg : "-", raw));
	return finish_output(run_ring(&q, what, arg));
}

const struct command command_events = {
	.name = "events",
	.summary = "what happens on a share: follow, replay or receive its events",
	.help =
	"Usage: wormctl events tail [--from SEQ] [OPTION]... [PATH]\n"
	"       wormctl events replay [--from SEQ] [--to SEQ] [OPTION]... [PATH]\n"
	"       wormctl events consumers|stats [PATH]\n"
	"       wormctl events consumer register [--from SEQ] NAME [PATH]\n"
	"       wormctl events consumer clear --to SEQ NAME [PATH]\n"
	"       wormctl events consumer deregister NAME [PATH]\n"
	"       wormctl events consumer list [PATH]\n"
	"       wormctl events sse [--listen ADDRESS:PORT] [--token-file FILE] [--allow-remote] [PATH]\n"
	"       wormctl events listen [--from MSN] [--count N] SOCKET\n"
	"       wormctl events decode [--raw] [FILE]\n"
	"\n"
	"A share that is mounted with -o events=on keeps its events in a ring on disk; docs/events.md tells what\n"
	"is in one. With and without a daemon; only root, or the user who runs the daemon, may. PATH names the\n"
	"share; tail, replay: what happened at and below it. Without: the share that the working directory is in,\n"
	"or the one that is mounted.\n"
	"\n"
	"tail prints what happens until it is killed; replay what is in the ring. A line has number, time (UTC),\n"
	"uid, command, type, error, and path. Numbers are without a gap but where events are missing: there is a\n"
	"line 'Gap', with how many. Who was stopped goes on with --from and the number after its last one.\n"
	"      --from SEQ     begin with this event [tail: what comes; replay: the oldest]\n"
	"      --consumer NAME\n"
	"                     begin with the first event that this consumer has not cleared\n"
	"      --to SEQ       end with this one\n"
	"      --count N      end after N events\n"
	"      --path GLOB    of the path from the share's root; what it matches, and all below\n"
	"      --type TYPES   names or globs: Create:Rename, Open*\n"
	"      --uid UID      by this user, a name or a number\n"
	"      --refused      only what a lock refused\n"
	"      --json         JSON, one object a line, as a json: sink has it\n"
	"\n"
	"consumers: who is sent events (-o events=KIND:WHERE) or reads them, how far, and what it was not sent.\n"
	"stats: the ring.\n"
	"\n"
	"consumer: who reads by himself has a place under a name, which outlives him and the daemon: register, read\n"
	"with tail or replay --consumer NAME, and clear, which says that all events up to SEQ are done.\n"
	"\n"
	"sse serves the events over HTTP as server-sent events, for EventSource and curl -N, and prints where.\n"
	"GET /v1/events?path=DIR&recursive=false&type=Create,Rename&refused=true&from=SEQ, or /v1/files/%2FDIR/notify\n"
	"as Qumulo has it. Last-Event-ID goes on behind that event.\n"
	"      --listen ADDRESS:PORT\n"
	"                     or unix:PATH [127.0.0.1 and any free port]\n"
	"      --token-file FILE\n"
	"                     what clients must send, in a file of mode 0600 [a new one, which is printed]\n"
	"      --allow-remote --listen may be an address that others reach; there is no TLS\n"
	"\n"
	"listen makes SOCKET and prints as JSON what a metadata server of BeeGFS 7 or 8, or a share that is mounted\n"
	"with -o events=beegfs7:SOCKET or beegfs8:SOCKET, sends. It takes a socket away that nobody listens on.\n"
	"      --from MSN     BeeGFS 8: begin with this message [what comes]\n"
	"\n"
	"decode prints packets of both as JSON: one in hexadecimal a line, or with --raw one that is the whole\n"
	"FILE [standard input].\n"
	"\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR\n"
	"\n"
	"Examples:\n"
	"  wormctl events tail --refused /srv/share\n"
	"  wormctl events replay --from 4711 --json /srv/share\n"
	"  wormctl events consumer register backup /srv/share\n"
	"  wormctl events tail --json --consumer backup /srv/share\n"
	"  wormctl events consumer clear --to 4711 backup /srv/share\n"
	"  wormctl events listen /run/beegfs.sock\n"
	"  echo 0a6576656e74730001 | wormctl events decode\n"
	"\n"
	"Exit codes: 0 events, or packets; 1 none, some are missing, or a packet is not sound; 2 could not.\n",
	.run = run_events,
};
