/* status: why a file is as it is, in the daemon's own words; and how the daemons are.
 *
 * Of a file it prints what user.worm.explain says, which anybody may read who may read the file; without a
 * daemon, what offline.c finds. Of a mount it prints user.worm.mount. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/mounts.h"
#include "lockstore/wormctl/offline.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/paths.h"
#include "lockstore/wormctl/share.h"
#include "lockstore/wormctl/wormctl.h"

struct status {
	struct wormctl *ctl;
	struct offline *offline;
	uint64_t locked, open, failed;	/* files */
	uint64_t mounts, serving;	/* mounts; of these, with a daemon */
};

/* ---- one file ---- */

static int explain_by_xattr(const struct target *target, json_t **ret_file)
{
	char *text = malloc(XATTR_SIZE_MAX);
	ssize_t n;
	int r = 0;

	if (!text)
		return -ENOMEM;
	n = lower_getxattr(target->fd, XATTR_WORM_EXPLAIN, text, XATTR_SIZE_MAX);
	if (n < 0) {
		r = n;
	} else {
		*ret_file = json_loadb(text, n, 0, NULL);
		if (!json_is_object(*ret_file)) {
			json_decref(*ret_file);
			r = -EPROTO;
		}
	}
	free(text);
	return r;
}

static int explain_by_socket(const struct target *target, json_t **ret_file, struct failure *f)
{
	struct client *client;
	json_t *answer;
	char *path;
	int r;

	r = share_client(target->place->share, &client, f);
	if (r < 0)
		return r;
	if (control_path_encode(target->place->path, &path) < 0)
		return fail(f, -ENOMEM, "out of memory");
	r = client_call(client, json_pack("{s:s,s:s}", "verb", "explain", "path", path), NULL, NULL, &answer);
	free(path);
	if (r < 0)
		return fail(f, r, "cannot ask about %s: %s", quoted(target->shown),
			    *client_error(client) ? client_error(client) : strerror(-r));
	*ret_file = json_incref(json_object_get(answer, "file"));
	json_decref(answer);
	return json_is_object(*ret_file) ? 0 : fail(f, -EPROTO, "the daemon of %s says nothing about %s",
						     quoted(target->place->share->dir), quoted(target->shown));
}

/* user.* attributes are for regular files and directories that the caller may read; the rest the socket knows. */
static int explain(struct status *s, const struct target *target, json_t **ret_file, struct failure *f)
{
	struct share *share = target->place->share;
	struct failure by_socket;
	struct client *client;
	int r;

	if (!share->mounted && share_client(share, &client, f) < 0)
		return offline_explain(s->offline, target, ret_file, f);
	r = share->mounted ? explain_by_xattr(target, ret_file) : -ENODATA;
	if (r == 0)
		return 0;
	if (r == -EACCES || r == -ENODATA || r == -EPERM || r == -EOPNOTSUPP || r == -E2BIG || r == -ERANGE) {
		if (explain_by_socket(target, ret_file, &by_socket) == 0)
			return 0;
		if (by_socket.error != -EACCES && !client_is_absence(by_socket.error))
			return fail(f, by_socket.error, "%s", by_socket.text);
	}
	if (!S_ISREG(target->st.st_mode) && !S_ISDIR(target->st.st_mode)) {
		*ret_file = json_pack("{s:s,s:s,s:n,s:n,s:[],s:n,s:n,s:I,s:n,s:[],s:[],s:n}", "state", "open", "why",
				      "only regular files are locked", "until", "mode", "holds", "committed", "serial",
				      "size", (json_int_t)target->st.st_size, "rule", "refused", "allowed", "suspect");
		return *ret_file ? 0 : fail(f, -ENOMEM, "out of memory");
	}
	if (r == -EACCES)
		return fail(f, r, "cannot ask about %s: you may not read it; ask as its owner or as root",
			    quoted(target->shown));
	if (r == -EPROTO || r == -ENODATA)
		return fail(f, r, "what is mounted at %s does not answer as wormfs", quoted(share->dir));
	return fail(f, r, "cannot ask about %s: %s", quoted(target->shown), strerror(-r));
}

static void print_field(const char *name, const char *value)
{
	printf("  %-10s ", name);
	print_name(stdout, value);
	putchar('\n');
}

/* A list of strings on one line, "-" when it is empty. */
static void print_list(const char *name, const json_t *list)
{
	const json_t *item;
	size_t i;

	printf("  %-10s ", name);
	json_array_foreach(list, i, item) {
		fputs(i ? ", " : "", stdout);
		print_name(stdout, json_string_value(item) ? json_string_value(item) : "?");
	}
	puts(json_array_size(list) ? "" : "-");
}

static void print_optional(const json_t *object, const char *name)
{
	const char *value = json_get_text(object, name);

	if (*value)
		print_field(name, value);
}

/* "2030-01-01T00:00:00Z (in 120 days)" */
static void print_until(const json_t *file, int64_t now_s)
{
	const char *until = json_get_text(file, "until");
	struct retention end;

	if (!*until)
		return;
	printf("  %-10s ", "until");
	print_name(stdout, until);
	if (retention_parse(until, &end) == 0 && end.kind == RETENTION_DATE && end.seconds > now_s)
		printf(" (in %lld days)", (long long)(end.seconds - now_s) / 86400);
	else if (end.kind == RETENTION_DATE)
		printf(" (%lld days ago)", (long long)(now_s - end.seconds) / 86400);
	putchar('\n');
}

static void print_digest(const json_t *file)
{
	const char *sha256 = json_get_text(file, "sha256"), *digest = json_get_text(file, "digest");

	if (*sha256)
		print_field("sha256", sha256);
	else if (strncmp(digest, "off", 3) == 0)
		printf("  %-10s not taken: digest is %s\n", "sha256", digest);
	else if (*json_get_text(file, "committed"))
		print_field("sha256", "not taken yet");
}

static void print_pushed(const json_t *push)
{
	if (!json_is_object(push) || strcmp(json_get_text(push, "state"), "off") == 0)
		return;
	printf("  %-10s ", "cluster");
	print_name(stdout, json_get_text(push, "state"));
	if (*json_get_text(push, "error")) {
		fputs(": ", stdout);
		print_name(stdout, json_get_text(push, "error"));
	}
	putchar('\n');
}

static void print_file(const json_t *file, const char *shown, int64_t now_s)
{
	bool locked = *json_get_text(file, "committed");

	print_name(stdout, shown);
	putchar('\n');
	print_field("state", json_get_text(file, "state"));
	print_optional(file, "why");
	print_optional(file, "cause");
	print_optional(file, "settles");
	print_until(file, now_s);
	print_optional(file, "mode");
	if (locked || json_array_size(json_object_get(file, "holds")))
		print_list("holds", json_object_get(file, "holds"));
	print_optional(file, "committed");
	if (json_is_integer(json_object_get(file, "serial")))
		printf("  %-10s %lld\n", "serial", (long long)json_get_int(file, "serial"));
	printf("  %-10s %lld\n", "size", (long long)json_get_int(file, "size"));
	print_optional(file, "rule");
	print_pushed(json_object_get(file, "push"));
	print_digest(file);
	print_list("refused", json_object_get(file, "refused"));
	print_optional(file, "suspect");
}

/* The record is there: it may be closing or unreadable, and is locked all the same. */
static bool state_is_locked(const char *state)
{
	static const char *const locked[] = { "closing", "settling", "appendable", "retained", "expired", "unreadable" };

	for (size_t i = 0; i < ARRAY_SIZE(locked); i++)
		if (strcmp(state, locked[i]) == 0)
			return true;
	return false;
}

static int print_file_failure(struct status *s, const char *shown, const struct failure *f)
{
	json_t *row;

	s->failed++;
	if (!s->ctl->json) {
		complain("%s", f->text);
		return 0;
	}
	row = json_object();
	if (!row || json_set_path(row, shown) < 0) {
		json_decref(row);
		return -ENOMEM;
	}
	json_object_set_new(row, "ok", json_false());
	json_object_set_new(row, "errno", json_string(errno_name(-f->error)));
	json_object_set_new(row, "error", json_text(f->text));
	return print_json(row);
}

static int on_target(void *arg, const char *shown, const struct target *target, const struct failure *unreachable)
{
	struct status *s = arg;
	const struct share *share;
	struct failure f;
	json_t *file, *row;
	int r;

	if (!target)
		return print_file_failure(s, shown, unreachable);
	if (explain(s, target, &file, &f) < 0)
		return print_file_failure(s, shown, &f);
	share = target->place->share;
	if (state_is_locked(json_get_text(file, "state")))
		s->locked++;
	else
		s->open++;
	if (!s->ctl->json) {
		print_file(file, shown, share_now_s(share));
		json_decref(file);
		return 0;
	}
	row = json_object();	/* path first */
	if (!row || json_set_path(row, shown) < 0) {
		json_decref(row);
		json_decref(file);
		return -ENOMEM;
	}
	json_object_del(file, "path");
	json_object_update(row, file);
	json_object_set_new(row, "share", json_text(share->dir));
	if (!json_object_get(row, "enforced"))
		json_object_set_new(row, "enforced", json_true());
	r = print_json(row);
	json_decref(file);
	return r;
}

/* ---- mounts ---- */

static const char *yes_no(const json_t *object, const char *key)
{
	return json_get_bool(object, key) ? "yes" : "no";
}

static const char *on_off(const json_t *object, const char *key)
{
	return json_get_bool(object, key) ? "on" : "off";
}

/* "off (fuse.enable_uring is 0)" */
static void print_feature(const json_t *transport, const char *key, const char *why_key)
{
	const char *why = json_get_text(transport, why_key);

	printf("%s %s", key, on_off(transport, key));
	if (*why) {
		fputs(" (", stdout);
		print_name(stdout, why);
		putchar(')');
	}
	fputs(", ", stdout);
}

static void print_transport(const json_t *mount)
{
	const json_t *transport = json_object_get(mount, "transport");

	printf("  %-10s ", "transport");
	print_feature(transport, "io_uring", "io_uring_why");
	print_feature(transport, "passthrough", "passthrough_why");
	printf("splice %s, libfuse ", on_off(transport, "splice"));
	print_name(stdout, json_get_text(transport, "libfuse"));
	putchar('\n');
}

static void print_lower(const json_t *mount)
{
	const json_t *lower = json_object_get(mount, "lower");

	printf("  %-10s ", "lower");
	print_name(stdout, json_get_text(lower, "filesystem"));
	if (json_get_bool(lower, "xattr"))
		printf(", locks in %s. attributes", json_get_bool(lower, "xattr") ? json_get_text(lower, "namespace") : "");
	else
		fputs(", locks in the ledger only: it has no attributes", stdout);
	printf(", handles %s, leases %s, birth time %s\n", yes_no(lower, "handles"), yes_no(lower, "leases"),
	       yes_no(lower, "birth_time"));
}

static void print_ledger(const json_t *mount)
{
	const json_t *ledger = json_object_get(mount, "ledger");

	printf("  %-10s ", "ledger");
	print_name(stdout, json_get_text(ledger, "state"));
	printf(", %lld written, %lld waiting", (long long)json_get_int(ledger, "written"),
	       (long long)json_get_int(ledger, "queued"));
	if (json_get_int(ledger, "dropped"))
		printf(", %lld missing until: wormctl reindex", (long long)json_get_int(ledger, "dropped"));
	if (*json_get_text(ledger, "error")) {
		fputs(": ", stdout);
		print_name(stdout, json_get_text(ledger, "error"));
	}
	putchar('\n');
}

static void print_audit(const json_t *mount)
{
	const json_t *audit = json_object_get(mount, "audit");

	if (!audit)
		return;		/* a daemon of an older version */
	printf("  %-10s ", "audit log");
	print_name(stdout, json_get_text(audit, "state"));
	if (json_object_get(audit, "seq"))
		printf(", %lld lines, %lld since the mount, %lld repeats counted, %lld waiting, %lld lost",
		       (long long)json_get_int(audit, "seq"), (long long)json_get_int(audit, "written"),
		       (long long)json_get_int(audit, "repeats"), (long long)json_get_int(audit, "queued"),
		       (long long)json_get_int(audit, "lost"));
	if (*json_get_text(audit, "error")) {
		fputs(": ", stdout);
		print_name(stdout, json_get_text(audit, "error"));
	}
	putchar('\n');
}

static void print_digests(const json_t *mount)
{
	const json_t *digest = json_object_get(mount, "digest");

	printf("  %-10s %s, %lld pending, %lld taken since it was mounted", "digests", on_off(digest, "enabled"),
	       (long long)json_get_int(digest, "pending"), (long long)json_get_int(digest, "done"));
	if (json_get_int(digest, "failed"))
		printf(", %lld cannot be taken: wormctl verify tells why", (long long)json_get_int(digest, "failed"));
	putchar('\n');
}

static void print_push(const json_t *mount)
{
	const json_t *push = json_object_get(mount, "push");

	if (!json_is_object(push))
		return;
	printf("  %-10s ", "push");
	print_name(stdout, json_get_text(push, "target"));
	printf(": %s, %lld wait, %lld failed, %lld told since it was mounted\n", json_get_text(push, "state"),
	       (long long)json_get_int(push, "waiting"), (long long)json_get_int(push, "failed"), (long long)json_get_int(push, "told"));
}

static void print_policy(const json_t *mount)
{
	const char *hold = json_get_text(mount, "hold");

	printf("  %-10s ", "retention");
	print_name(stdout, json_get_text(mount, "retention"));
	fputs(", min ", stdout);
	print_name(stdout, json_get_text(mount, "min"));
	fputs(", max ", stdout);
	print_name(stdout, json_get_text(mount, "max"));
	fputs(", ", stdout);
	print_name(stdout, json_get_text(mount, "mode"));
	if (*hold) {
		fputs(", hold ", stdout);
		print_name(stdout, hold);
	}
	printf("\n  %-10s ", "commit");
	print_name(stdout, json_get_text(mount, "commit"));
	fputs(", sync ", stdout);
	print_name(stdout, json_get_text(mount, "sync"));
	printf(", shared %s\n", yes_no(mount, "shared"));
	if (json_is_object(json_object_get(mount, "rules"))) {
		printf("  %-10s %lld from ", "rules", (long long)json_get_int(json_object_get(mount, "rules"), "count"));
		print_name(stdout, json_get_text(json_object_get(mount, "rules"), "file"));
		puts(" (wormctl policy show)");
	}
}

/* A line only where there is something to say. */
static void print_shortage(const json_t *shortage)
{
	long long edquot = json_get_int(shortage, "edquot"), enospc = json_get_int(shortage, "enospc");
	long long at_close = json_get_int(shortage, "full_at_close");

	if (edquot + enospc + at_close > 0)
		printf("  %-10s %lld requests ran out of quota, %lld of room; full at %lld closes\n", "room", edquot, enospc, at_close);
}

static void print_limits(const json_t *quota)
{
	if (!json_is_object(quota))
		return;
	printf("  %-10s %lld from ", "limits", (long long)json_get_int(quota, "sections"));
	print_name(stdout, json_get_text(quota, "file"));
	printf(", %lld over soft, %lld used up; %lld requests refused%s; files that are not locked get no passthrough (wormctl quota list)\n",
	       (long long)json_get_int(quota, "soft"), (long long)json_get_int(quota, "over"), (long long)json_get_int(quota, "refused"),
	       json_get_bool(quota, "recount") ? "; some numbers may be wrong, the next mount counts anew" : "");
}

static void print_quota_notify(const json_t *notify)
{
	long long lost = json_get_int(notify, "lost");
	const json_t *provider;
	size_t i;

	if (!notify)
		return;
	printf("  %-10s ", "notified");
	json_array_foreach(json_object_get(notify, "providers"), i, provider) {
		fputs(i ? ", " : "", stdout);
		print_name(stdout, json_get_text(provider, "kind"));
		printf(" %lld", (long long)json_get_int(provider, "told"));
		if (json_get_int(provider, "failed"))
			printf(" (failed %lld)", (long long)json_get_int(provider, "failed"));
	}
	if (lost)
		printf("; %lld notices found no room and were not told", lost);
	putchar('\n');
}

static void print_quota_listen(const json_t *listen)
{
	long long overruns = json_get_int(listen, "overruns"), not_kernel = json_get_int(listen, "not_kernel");
	long long unreadable = json_get_int(listen, "unreadable"), warnings = json_get_int(listen, "warnings");
	bool listening = json_is_true(json_object_get(listen, "listening"));

	if (!listen || (listening && warnings + overruns + not_kernel + unreadable == 0))
		return;
	printf("  %-10s %lld warnings of the kernel; ignored: %lld not sent by it, %lld unreadable; lost some %lld times%s\n", "quotas",
	       warnings, not_kernel, unreadable, overruns, listening ? "" : "; no longer listened to");
}

static void print_counters(const json_t *mount)
{
	const json_t *descriptors = json_object_get(mount, "descriptors"), *number;
	json_t *refused = json_object_get(mount, "refused");
	const char *op;
	bool any = false;

	printf("  %-10s %lld inodes, %lld of %lld descriptors, %lld writers, %lld closing\n", "now",
	       (long long)json_get_int(mount, "inodes"), (long long)json_get_int(descriptors, "open"),
	       (long long)json_get_int(descriptors, "limit"), (long long)json_get_int(mount, "writers"),
	       (long long)json_get_int(mount, "closing"));
	printf("  %-10s %lld since it was mounted\n", "locked", (long long)json_get_int(mount, "locked"));
	printf("  %-10s ", "refused");
	json_object_foreach(refused, op, number) {
		if (!json_integer_value(number))
			continue;
		fputs(any ? ", " : "", stdout);
		print_name(stdout, op);
		printf(" %lld", (long long)json_integer_value(number));
		any = true;
	}
	puts(any ? "" : "-");
	print_shortage(json_object_get(mount, "shortage"));
	print_quota_notify(json_object_get(mount, "quota_notify"));
	print_quota_listen(json_object_get(mount, "quota_listen"));
	print_limits(json_object_get(mount, "quota"));
}

static void print_problems(const json_t *problems)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(problems, i, problem)
		print_field(i ? "" : "problems", json_string_value(problem) ? json_string_value(problem) : "?");
	if (!json_array_size(problems))
		print_field("problems", "-");
}

static void print_mount(const json_t *mount)
{
	print_name(stdout, json_get_text(mount, "mountpoint"));
	printf("\n  %-10s ", "share");
	print_name(stdout, json_get_text(mount, "share"));
	fputs(" (", stdout);
	print_name(stdout, json_get_text(mount, "share_id"));
	printf(")\n  %-10s wormfs ", "daemon");
	print_name(stdout, json_get_text(mount, "version"));
	printf(", pid %lld, uid %lld\n", (long long)json_get_int(mount, "pid"), (long long)json_get_int(mount, "uid"));
	print_field("state dir", json_get_text(mount, "state_dir"));
	printf("  %-10s ", "clock");
	print_name(stdout, json_get_text(mount, "clock"));
	fputs(", ", stdout);
	print_name(stdout, json_get_text(mount, "now"));
	if (json_object_get(mount, "clock_state")) {
		fputs(", ", stdout);
		print_name(stdout, json_get_text(json_object_get(mount, "clock_state"), "state"));
	}
	putchar('\n');
	print_policy(mount);
	print_transport(mount);
	print_lower(mount);
	print_ledger(mount);
	print_audit(mount);
	print_digests(mount);
	print_push(mount);
	print_counters(mount);
	print_problems(json_object_get(mount, "problems"));
}

static int show_mount(struct status *s, json_t *mount)
{
	s->mounts++;
	s->serving++;
	if (s->ctl->json)
		return print_json(json_incref(mount));
	print_mount(mount);
	return 0;
}

static int on_mount(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct status *s = arg;
	struct failure unreadable;

	if (share && share->mount)
		return show_mount(s, share->mount);
	if (share) {
		fail(&unreadable, -EACCES, "cannot ask the mount at %s: you may not read it", quoted(mount_point));
		f = &unreadable;
	}
	s->mounts++;
	s->failed++;
	if (!s->ctl->json) {
		complain("%s", f->text);
		return 0;
	}
	return print_json(json_pack("{s:o,s:b,s:s,s:o}", "mountpoint", json_text(mount_point), "ok", 0, "errno",
				    errno_name(-f->error), "error", json_text(f->text)));
}

/* The daemon that keeps its state in --state-dir, or what it left there. */
static int show_state_dir(struct status *s)
{
	struct share share = { .dir = (char *)s->ctl->state_dir, .inside = (char *)"", .id = (char *)"", .client_error = 1,
			       .state_dir = (char *)s->ctl->state_dir, .state_dir_given = true };
	json_t *answer = NULL, *health, *ledger;
	struct client *client;
	struct failure f;
	int r;

	if (share_client(&share, &client, &f) == 0) {
		r = client_call(client, json_pack("{s:s}", "verb", "mount"), NULL, NULL, &answer);
		if (r < 0) {
			complain("the daemon with its state in %s does not answer: %s", quoted(share.state_dir),
				 *client_error(client) ? client_error(client) : strerror(-r));
			s->failed++;
		} else {
			r = show_mount(s, json_object_get(answer, "mount"));
		}
		json_decref(answer);
		client_close(client);
		return r;
	}
	health = offline_health(&share);
	if (!health)
		return -ENOMEM;
	s->mounts++;
	if (s->ctl->json)
		return print_json(health);
	ledger = json_object_get(health, "ledger");
	print_name(stdout, share.state_dir);
	putchar('\n');
	print_field("daemon", "not running: nothing is enforced");
	print_field("ledger", json_get_text(ledger, "state"));
	if (json_object_get(ledger, "locked"))
		printf("  %-10s %lld files, %lld waiting to be\n", "locked", (long long)json_get_int(ledger, "locked"),
		       (long long)json_get_int(ledger, "pending"));
	print_problems(json_object_get(health, "problems"));
	json_decref(health);
	return 0;
}

static int run_status(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { 0 } };
	static const struct path_options plain;
	struct status s = { .ctl = ctl };
	struct shares *shares = NULL;
	struct failure f;
	int c, r;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = common_option(ctl, &command_status, c, argv);
		if (r >= 0)
			return r;
	}
	argc -= optind;
	argv += optind;
	r = shares_open(ctl, &shares);
	if (r == 0)
		r = offline_open(ctl, &s.offline);
	if (r < 0) {
		complain("%s", strerror(-r));
		shares_close(shares);
		return EXIT_COULD_NOT;
	}
	f.text[0] = '\0';
	if (argc)
		r = paths_each(shares, &plain, argc, argv, on_target, &s, &f);
	else if (ctl->state_dir)
		r = show_state_dir(&s);
	else
		r = shares_each_mount(shares, on_mount, &s);
	if (r < 0)
		complain("%s", f.text[0] ? f.text : strerror(-r));
	if (r == 0 && !argc && !s.mounts)
		complain("no share is mounted; ask about a file (wormctl status PATH) or a state directory "
			 "(wormctl status --state-dir DIR)");
	offline_close(s.offline);
	shares_close(shares);
	if (r < 0 || s.failed)
		return finish_output(EXIT_COULD_NOT);
	if (argc)
		return finish_output(s.open ? EXIT_NO : EXIT_YES);
	return finish_output(!s.serving ? EXIT_NO : EXIT_YES);
}

const struct command command_status = {
	.name = "status",
	.summary = "why a file is locked, until when, what is refused; how the mounts are",
	.help =
	"Usage: wormctl status [--json] [PATH]...\n"
	"\n"
	"With PATH: its state and why, the end of its retention, mode, holds, rule, SHA-256, and what is\n"
	"refused.\n"
	"Whoever may read the file may ask. States:\n"
	"  open        not locked             staging     not locked: its name says that it is not ready\n"
	"  pending     not locked, waits for a trigger or was interrupted\n"
	"  closing     locked; a program that had it open may still finish\n"
	"  retained    locked: a date ahead, no end, or a hold\n"
	"  expired     locked, but it may be deleted\n"
	"  settling    locked; its times, mode, owner, attributes and name may still be set for a while\n"
	"  appendable  what is written is locked, the end may grow\n"
	"  unreadable  its lock record cannot be read or verified: locked, and a person must look\n"
	"  pinned      a directory above locked files: it cannot be renamed\n"
	"With nothing mounted it answers from the record on the file and from the ledger, and says that\n"
	"nothing is enforced.\n"
	"\n"
	"Without PATH: every mount: share, daemon, retention, transport and why a feature is off, ledger,\n"
	"digests, counters since it was mounted, and problems that need a person.\n"
	"\n"
	"      --json         one JSON object a PATH or mount (wormctl(1) has the fields)\n"
	"      --state-dir DIR\n"
	"                     the state directory of the share, where the mount had -o state=DIR;\n"
	"                     without PATH: only that one\n"
	"      --key FILE     the key of the share, where the mount had -o key=FILE; to verify records\n"
	"                     when nothing is mounted\n"
	"\n"
	"Examples:\n"
	"  wormctl status report.pdf\n"
	"  wormctl status --json report.pdf | jq -r .until\n"
	"  wormctl status --json | jq -r '.problems[]'\n"
	"\n"
	"Exit codes: with PATH: 0 all are locked, 1 one is not, 2 could not ask.\n"
	"Without: 0 mounted, 1 nothing is mounted, 2 a mount does not answer.\n",
	.run = run_status,
};
