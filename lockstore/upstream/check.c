#include "lockstore/upstream/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIRECTORY "FS_FILE_TYPE_DIRECTORY"

/* todo is a literal; "" = nothing. */
static void __attribute__((format(printf, 5, 6)))
say(struct upstream_check *check, enum upstream_check_name name, enum upstream_check_state state, const char *todo, const char *format, ...)
{
	struct upstream_finding *finding = &check->findings[name];
	va_list ap;

	finding->state = state;
	snprintf(finding->todo, sizeof(finding->todo), "%s", todo);
	va_start(ap, format);
	(void)vsnprintf(finding->what, sizeof(finding->what), format, ap);	/* cut when too long: still a sentence */
	va_end(ap);
}

/* What a person is told of a reply that is none of the expected ones. */
static const char *reason(const struct upstream_reply *reply, char text[UPSTREAM_CHECK_TEXT_BYTES])
{
	if (!reply->status)
		return reply->text;
	snprintf(text, UPSTREAM_CHECK_TEXT_BYTES, "HTTP status %d%s%s%s%s", reply->status, *reply->error_class ? " " : "", reply->error_class,
		 *reply->text ? ": " : "", reply->text);
	return text;
}

static void say_connection(struct upstream_check *check, const struct upstream_reply *reply)
{
	const char *url = check->endpoint->url;
	char text[UPSTREAM_CHECK_TEXT_BYTES];

	if (!reply->status) {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_UNKNOWN, strstr(reply->text, "certificate") ?
		    "fetch the cluster's CA certificate and name it with --ca or push_ca" :
		    "look whether host and port are right, the cluster is up, and no firewall is between",
		    "%s does not answer: %s", url, reply->text);
	} else if (reply->outcome == UPSTREAM_BUSY || reply->outcome == UPSTREAM_AWAY) {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_UNKNOWN, "wait, or look at the cluster's health", "%s cannot say now: %s", url,
		    reason(reply, text));
	} else if (check->endpoint->plain) {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_NOTE, "", "%s answers, without TLS, on this machine", url);
	} else if (check->insecure) {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_NOTE, "name the CA's certificate instead of asking for insecure",
		    "%s answers, and nobody looked whether it is the cluster (insecure)", url);
	} else if (check->ca_file) {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_GOOD, "", "%s answers, its certificate is good by '%.200s'", url,
		    check->ca_file);
	} else {
		say(check, UPSTREAM_CHECK_CONNECTION, UPSTREAM_CHECK_GOOD, "", "%s answers, its certificate is good by the system's CAs", url);
	}
}

static void say_version(struct upstream_check *check, const struct upstream_reply *reply)
{
	char text[UPSTREAM_CHECK_TEXT_BYTES];
	bool new_enough;

	if (reply->outcome != UPSTREAM_DONE)
		say(check, UPSTREAM_CHECK_VERSION, UPSTREAM_CHECK_UNKNOWN, "look whether the address is that of a Qumulo cluster's REST interface",
		    "no version: %s", reason(reply, text));
	else if (qumulo_version_check(reply->version, &new_enough) < 0)
		say(check, UPSTREAM_CHECK_VERSION, UPSTREAM_CHECK_WARNING, "look whether it is at least " QUMULO_VERSION_MIN,
		    "'%.100s' is no version that is known", reply->version);
	else if (!new_enough)
		say(check, UPSTREAM_CHECK_VERSION, UPSTREAM_CHECK_FAILED, "upgrade the cluster", "%.100s has no file locks, which came with "
		    QUMULO_VERSION_MIN, reply->version);
	else
		say(check, UPSTREAM_CHECK_VERSION, UPSTREAM_CHECK_GOOD, "", "%.100s", reply->version);
}

static void say_clock(struct upstream_check *check, const struct upstream_reply *reply, int64_t before_s, int64_t after_s)
{
	int64_t apart_s = 0;

	if (!reply->date_s) {
		say(check, UPSTREAM_CHECK_CLOCK, UPSTREAM_CHECK_NOTE, "keep both in step (NTP): a cluster ends locks by its own clock",
		    "the cluster does not say what time it has");
		return;
	}
	if (reply->date_s < before_s)
		apart_s = before_s - reply->date_s;
	else if (reply->date_s > after_s)
		apart_s = reply->date_s - after_s;
	if (apart_s > UPSTREAM_CHECK_CLOCK_S)
		say(check, UPSTREAM_CHECK_CLOCK, UPSTREAM_CHECK_WARNING, "set both by NTP: a cluster ends locks by its own clock",
		    "the cluster's clock is %" PRId64 " s %s this machine's", apart_s, reply->date_s > after_s ? "ahead of" : "behind");
	else
		say(check, UPSTREAM_CHECK_CLOCK, UPSTREAM_CHECK_GOOD, "", "within %d s of this machine's", UPSTREAM_CHECK_CLOCK_S);
}

static void say_privilege(struct upstream_check *check, const struct upstream_reply *reply)
{
	char text[UPSTREAM_CHECK_TEXT_BYTES];
	const char *who = reply->who ? reply->who : "?";

	if (reply->outcome == UPSTREAM_UNAUTHORISED)
		say(check, UPSTREAM_CHECK_PRIVILEGE, UPSTREAM_CHECK_FAILED, "give a token that is not expired or the right password: wormctl push setup",
		    "the cluster does not accept the credentials (%s)", reason(reply, text));
	else if (reply->outcome != UPSTREAM_DONE)
		say(check, UPSTREAM_CHECK_PRIVILEGE, reply->outcome == UPSTREAM_DENIED ? UPSTREAM_CHECK_FAILED : UPSTREAM_CHECK_UNKNOWN,
		    "try again, or look at the user's roles on the cluster", "not known who we are there: %s", reason(reply, text));
	else if (!upstream_reply_has_privilege(reply, QUMULO_PRIVILEGE))
		say(check, UPSTREAM_CHECK_PRIVILEGE, UPSTREAM_CHECK_FAILED, "add it to a role of the user on the cluster, then log in anew or restart",
		    "'%.100s' has not " QUMULO_PRIVILEGE, who);
	else
		say(check, UPSTREAM_CHECK_PRIVILEGE, UPSTREAM_CHECK_GOOD, "", "'%.100s' has " QUMULO_PRIVILEGE, who);
}

static void say_root(struct upstream_check *check, const struct upstream_reply *reply)
{
	char text[UPSTREAM_CHECK_TEXT_BYTES], *end;
	uint64_t id;

	if (reply->outcome == UPSTREAM_MISSING) {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_FAILED, "name the directory as the cluster knows it, not as the export shows it",
		    "there is no '%.200s' on the cluster", check->root);
	} else if (reply->outcome == UPSTREAM_DENIED) {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_FAILED, "give the user read and write access there", "'%.200s' may not be read: %s",
		    check->root, reason(reply, text));
	} else if (reply->outcome != UPSTREAM_DONE) {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_UNKNOWN, "", "'%.200s' was not found out about: %s", check->root, reason(reply, text));
	} else if (reply->type && strcmp(reply->type, DIRECTORY) != 0) {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_FAILED, "name the directory that the share is on the cluster",
		    "'%.200s' is no directory", check->root);
	} else if (check->has_inode && reply->id) {
		errno = 0;
		id = strtoull(reply->id, &end, 10);
		if (errno || *end || id != check->inode)
			say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_NOTE, "make sure that it is the share's directory: put a file there and look",
			    "'%.200s' is a directory, and its id %.20s is not the inode number %" PRIu64 " of the share here", check->root,
			    reply->id, check->inode);
		else
			say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_GOOD, "", "'%.200s' is a directory, and its id is the share's inode number",
			    check->root);
	} else {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_GOOD, "", "'%.200s' is a directory", check->root);
	}
}

/* ---- the calls ---- */

static void on_root(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct upstream_check *check = call->arg;

	say_root(check, reply);
	check->done(check, 0);
}

static void on_who(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct upstream_check *check = call->arg;
	char *ref;
	int r;

	say_privilege(check, reply);
	check->logged_in = reply->outcome == UPSTREAM_DONE || reply->outcome == UPSTREAM_DENIED;
	if (!check->root) {
		check->done(check, 0);
		return;
	}
	if (reply->outcome == UPSTREAM_UNAUTHORISED) {
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_UNKNOWN, "", "not asked: the credentials are not accepted");
		check->done(check, 0);
		return;
	}
	r = endpoint_ref(check->root, "", &ref);
	if (r == 0) {
		call->done = on_root;
		r = qumulo_get_attributes(check->qumulo, call, ref, true);
		free(ref);
	}
	if (r < 0)
		check->done(check, r);
}

static void on_version(struct qumulo_call *call, struct upstream_reply *reply)
{
	struct upstream_check *check = call->arg;
	int r;

	say_connection(check, reply);
	if (check->findings[UPSTREAM_CHECK_CONNECTION].state == UPSTREAM_CHECK_UNKNOWN) {
		check->done(check, 0);
		return;
	}
	say_version(check, reply);
	say_clock(check, reply, check->before_s, time(NULL));
	call->done = on_who;
	r = qumulo_who_am_i(check->qumulo, call);
	if (r < 0)
		check->done(check, r);
}

int upstream_check_start(struct qumulo *qumulo, struct upstream_check *check)
{
	for (int i = 0; i < UPSTREAM_CHECKS; i++)
		say(check, i, UPSTREAM_CHECK_UNKNOWN, "", "not asked: there is no connection");
	if (!check->root)
		say(check, UPSTREAM_CHECK_ROOT, UPSTREAM_CHECK_NOTE, "", "no directory was named");
	check->logged_in = false;
	check->qumulo = qumulo;
	check->before_s = time(NULL);
	check->call.done = on_version;
	check->call.arg = check;
	return qumulo_get_version(qumulo, &check->call);
}

struct waiting {
	bool done;
	int error;
};

static void on_waited(struct upstream_check *check, int error)
{
	struct waiting *waiting = check->arg;

	waiting->done = true;
	waiting->error = error;
}

int upstream_check_run(struct qumulo *qumulo, struct upstream_check *check)
{
	struct waiting waiting = { .done = false };
	int r;

	check->done = on_waited;
	check->arg = &waiting;
	r = upstream_check_start(qumulo, check);
	while (r == 0 && !waiting.done)
		r = qumulo_run(qumulo, 1000);
	return r < 0 ? r : waiting.error;
}

const char *upstream_check_name_text(enum upstream_check_name name)
{
	static const char *const names[] = { "connection", "version", "privilege", "root", "clock" };

	return names[name];
}

const char *upstream_check_state_text(enum upstream_check_state state)
{
	static const char *const names[] = { "ok", "note", "warning", "failed", "unknown" };

	return names[state];
}

enum upstream_check_state upstream_check_worst(const struct upstream_check *check)
{
	enum upstream_check_state worst = UPSTREAM_CHECK_GOOD;

	for (int i = 0; i < UPSTREAM_CHECKS; i++)
		if (check->findings[i].state > worst)
			worst = check->findings[i].state;
	return worst;
}
