/* One thread accepts; each connection has a thread of its own, CONTROL_CLIENTS_MAX of them. Sockets
 * carry a time-out, so a silent client goes away by itself. */
#include "fs/control.h"
#include "fs/control_private.h"
#include "fs/events.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/actor.h"
#include "fs/append.h"
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/quota_limit.h"
#include "fs/refusal.h"
#include "fs/request.h"
#include "fs/state.h"
#include "fs/timekeeper.h"
#include "fs/trail.h"
#include "lockstore/audit.h"
#include "lockstore/control.h"
#include "lockstore/reindex.h"
#include "lockstore/thread.h"
#include "lockstore/verify.h"

#define IDLE_TIMEOUT_S 30
#define BACKLOG 1024		/* connections the kernel keeps waiting for a place */
#define SYNC_TIMEOUT_MS 30000
#define EVENTS_TIMEOUT_MS 1000	/* a ring that a strict consumer holds up is not waited for */
#define SYNC_SETTLE_MS 500

struct control {
	int listen_fd, stop_fd;
	pthread_t thread;
	sem_t places;			/* connections that may still come */
	pthread_mutex_t lock;		/* `client`: so that stop can end them */
	struct client *clients;
	pthread_cond_t gone;
};

/* ---- answers ---- */

/* `pass_fd` goes with the first byte; -1: none. */
static ssize_t send_with_fd(int fd, const char *text, size_t len, int pass_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (char *)text, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space) };

	if (pass_fd < 0)
		return send(fd, text, len, MSG_NOSIGNAL);
	memset(&control, 0, sizeof(control));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof(int));
	return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static int send_json_with_fd(int fd, json_t *json, int pass_fd)
{
	char *text = json_dumps(json, JSON_COMPACT), *p = text;
	size_t left;
	ssize_t n = 0;

	json_decref(json);
	if (!text)
		return -ENOMEM;
	left = strlen(text);
	text[left++] = '\n';	/* over the NUL: the length is known */
	for (; left > 0; p += n, left -= n) {
		n = send_with_fd(fd, p, left, pass_fd);
		if (n < 0)
			break;
		pass_fd = -1;
	}
	free(text);
	return n < 0 ? -errno : 0;
}

static int send_json(int fd, json_t *json)
{
	return send_json_with_fd(fd, json, -1);
}

static const char *errno_name(int r)
{
	const char *name = strerrorname_np(-r);

	return name ? name : "EIO";
}

json_t *control_ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

json_t *control_error(int r, const char *text)
{
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "errno", errno_name(r), "error", text ? text : strerror(-r));
}

int control_send(struct client *client, json_t *json)
{
	return json ? send_json(client->fd, json) : -ENOMEM;
}

/* ---- verbs ---- */

static json_t *verb_mount(struct client *client, const struct control_request *request, struct inode *ino)
{
	json_t *mount;
	int r = request_mount(client->fs, &mount);

	return r < 0 ? control_error(r, NULL) : json_pack("{s:b, s:o}", "ok", 1, "mount", mount);
}

static json_t *verb_explain(struct client *client, const struct control_request *request, struct inode *ino)
{
	json_t *file;
	int r = request_explain(client->fs, ino, &file);

	return r < 0 ? control_error(r, NULL) : json_pack("{s:b, s:o}", "ok", 1, "file", file);
}

static json_t *verb_commit(struct client *client, const struct control_request *request, struct inode *ino)
{
	int r = refusal_of_request(client->fs, ino, GUARD_COMMIT, lock_commit(client->fs, ino, "asked for"));

	switch (r) {
	case 0:
		return control_ok();
	case -EBUSY:
		return control_error(r, "a program still has it open or mapped for writing");
	case -EINVAL:
		return control_error(r, "only regular files can be locked");
	case -EOPNOTSUPP:
		return control_error(r, "nothing is locked on this mount (commit=never)");
	}
	return control_error(r, NULL);
}

static json_t *verb_append(struct client *client, const struct control_request *request, struct inode *ino)
{
	int r = refusal_of_request(client->fs, ino, GUARD_APPEND_ONLY, append_make(client->fs, ino, 0));

	switch (r) {
	case 0:
		return control_ok();
	case -EBUSY:
		return control_error(r, "a program has it open");
	case -EINVAL:
		return control_error(r, "only regular files can be append-only");
	case -EPERM:
		return control_error(r, "it is locked already");
	case -EOPNOTSUPP:
		return control_error(r, "nothing is locked on this mount (commit=never)");
	}
	return control_error(r, NULL);
}

static json_t *verb_extend(struct client *client, const struct control_request *request, struct inode *ino)
{
	char until[RETENTION_TEXT_BYTES];
	int64_t until_s;
	int r;

	r = request_extend(client->fs, ino, &request->until, &until_s);
	if (r == -EPERM)
		return control_error(r, "its retention ends later already: it can only be extended");
	if (r == -EINVAL)
		return control_error(r, "out of min and max of this mount, or the file is not locked");
	if (r < 0)
		return control_error(r, NULL);
	retention_format_until(until_s, until);
	return json_pack("{s:b, s:s}", "ok", 1, "until", until);
}

/* Why a privileged request failed, when it is that nobody could have proved it; else NULL. */
const char *control_audit_refusal(struct wormfs *fs)
{
	struct audit_status status = { 0 };

	if (fs->audit)
		audit_status(fs->audit, &status);
	return status.error ? "the audit log cannot be written, and without its line this is not done" : NULL;
}

static json_t *verb_clock_accept(struct client *client, const struct control_request *request, struct inode *ino)
{
	char now[RETENTION_TEXT_BYTES];
	int64_t gained_s;
	int r;

	r = timekeeper_accept(client->fs, request->reason, &gained_s);
	switch (r) {
	case 0:
		log_info("uid %u moved the clock forward by %lld s", client->peer.uid, (long long)gained_s);
		retention_format_until(clock_source_now_s(client->fs->clock), now);
		return json_pack("{s:b, s:I, s:s}", "ok", 1, "gained", (json_int_t)gained_s, "now", now);
	case -EALREADY:
		return control_error(r, "the clock is not behind the system's date, and it never goes back");
	case -EOPNOTSUPP:
		return control_error(r, "this mount has no clock of its own (-o clock)");
	case -EPERM:
		return control_error(r, "in compliance mode the system's date is taken over only while the kernel says that it is synchronised (NTP)");
	}
	return control_error(r, control_audit_refusal(client->fs));
}

static json_t *verb_sync(struct client *client, const struct control_request *request, struct inode *ino)
{
	int r;

	/* What was closed a moment ago is on its way: the kernel lets go of a file after close(2) has returned.
	 * A mapping that outlives its file does not hold the answer up. */
	for (int waited_ms = 0; request->closing && atomic_load(&client->fs->n_closing) > 0 && waited_ms < SYNC_SETTLE_MS; waited_ms += 2)
		usleep(2000);
	r = committer_flush(client->fs->committer, SYNC_TIMEOUT_MS);
	(void)audit_flush(client->fs->audit, SYNC_TIMEOUT_MS);	/* the status says when it cannot be written */
	events_sync(client->fs, EVENTS_TIMEOUT_MS);

	return r < 0 ? control_error(r, "the ledger cannot be written") : control_ok();
}

/* Whoever may ask is the user whom the share belongs to, or root: he could reach it without us, were it not covered. */
static json_t *verb_lower(struct client *client, const struct control_request *request, struct inode *ino)
{
	client->pass_fd = client->fs->root_fd;
	return control_ok();
}

static json_t *stats_json(const struct reindex_stats *s)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "files", (json_int_t)s->files, "locked", (json_int_t)s->locked,
			 "added", (json_int_t)s->added, "bad", (json_int_t)s->bad, "changed", (json_int_t)s->changed,
			 "missing", (json_int_t)s->missing, "pins", (json_int_t)s->pins, "errors", (json_int_t)s->errors);
}

static int send_progress(void *arg, const struct reindex_stats *so_far)
{
	struct client *client = arg;

	return send_json(client->fd, json_pack("{s:o}", "progress", stats_json(so_far))) < 0;
}

static json_t *verb_reindex(struct client *client, const struct control_request *request, struct inode *ino)
{
	char text[STATE_DAMAGE_BYTES];
	struct reindex_stats stats;
	int r;

	if (client->fs->limits)	/* a ledger that was restored says of the limits what once was */
		atomic_store(&client->fs->limits->recount, true);
	r = state_reindex(client->fs, send_progress, client, &stats);
	if (r < 0 && atomic_load(&client->fs->ledger_damaged)) {
		state_explain_damage(client->fs, text);
		return control_error(r, text);
	}
	if (r < 0)
		return control_error(r, ledger_error(client->fs->ledger));
	return json_pack("{s:b, s:o}", "ok", 1, "stats", stats_json(&stats));
}

static json_t *verb_policy(struct client *client, const struct control_request *request, struct inode *ino)
{
	return request_policy(client->fs, request->from);
}

static json_t *verb_policy_test(struct client *client, const struct control_request *request, struct inode *ino)
{
	return request_policy_test(client->fs, request);
}

static json_t *verb_policy_reload(struct client *client, const struct control_request *request, struct inode *ino)
{
	return request_policy_reload(client->fs, client->peer.uid);
}

/* The client's word: who may ask this may write the log itself. */
static json_t *verb_verified(struct client *client, const struct control_request *request, struct inode *ino)
{
	const char *below = request->below ? request->below : "";
	char text[512] = "";
	uint64_t found = 0;
	size_t len = 0;

	for (int kind = 0; kind < VERIFY_KINDS; kind++) {
		uint64_t n = request->kinds[kind];

		found += n;
		if (n && len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, ", %s %llu", verify_kind_name(kind), (unsigned long long)n);
	}
	trail_note(client->fs, AUDIT_VERIFY, found ? -EBADMSG : request->errors ? -EIO : 0,
		   "files %llu, bytes %llu, findings %llu, errors %llu%s%s%.1024s", (unsigned long long)request->files,
		   (unsigned long long)request->bytes, (unsigned long long)found, (unsigned long long)request->errors, text,
		   *below ? "; below " : "", below);
	return control_ok();
}

static const struct control_deed deeds[] = {
	{ CONTROL_MOUNT, verb_mount },
	{ CONTROL_EXPLAIN, verb_explain },
	{ CONTROL_COMMIT, verb_commit },
	{ CONTROL_APPEND, verb_append },
	{ CONTROL_EXTEND, verb_extend },
	{ CONTROL_CLOCK_ACCEPT, verb_clock_accept },
	{ CONTROL_SYNC, verb_sync },
	{ CONTROL_LOWER, verb_lower },
	{ CONTROL_REINDEX, verb_reindex },
	{ CONTROL_POLICY, verb_policy },
	{ CONTROL_POLICY_TEST, verb_policy_test },
	{ CONTROL_POLICY_RELOAD, verb_policy_reload },
	{ CONTROL_VERIFIED, verb_verified },
	{ 0 },
};

static const struct control_deed *const deed_tables[] = { deeds, control_hold_deeds, control_privilege_deeds, control_push_deeds, control_quota_deeds };

/* NULL: a verb without a deed, which no table of ours has. */
static control_run run_of(enum control_verb verb)
{
	for (size_t t = 0; t < sizeof(deed_tables) / sizeof(deed_tables[0]); t++)
		for (const struct control_deed *deed = deed_tables[t]; deed->run; deed++)
			if (deed->verb == verb)
				return deed->run;
	return NULL;
}

static bool client_may(const struct client *client, enum control_verb verb)
{
	switch (control_verb_who(verb)) {
	case WHO_ANYBODY:
		return true;
	case WHO_HOLDS:
		return client->privileged || role_has(client->fs->hold_role, &client->peer);
	case WHO_APPROVES:
		return client->privileged || role_has(client->fs->approve, &client->peer);
	case WHO_PRIVILEGED:
		break;
	}
	return client->privileged;
}

static json_t *run_verb(struct client *client, const struct control_request *request)
{
	control_run run = run_of(request->verb);
	struct inode *ino = NULL;
	json_t *answer;
	int r = 0;

	if (control_verb_has_file(request->verb))
		r = inode_walk(client->fs, request->path, &ino);
	if (r < 0)
		return control_error(r, NULL);
	answer = run(client, request, ino);
	inode_put(client->fs, ino);
	return answer;
}

static json_t *answer_request(struct client *client, struct control_request *request)
{
	char error[CONTROL_ERROR_BYTES];
	int r;

	if (!client_may(client, request->verb)) {
		log_warning("control: uid %u (pid %d) may not ask for '%s', refused", client->peer.uid, (int)client->peer.pid,
			    control_verb_name(request->verb));
		trail_note(client->fs, AUDIT_DENY_REQUEST, -EPERM, "%s: not for this user", control_verb_name(request->verb));
		return control_error(-EPERM, "only root and the daemon's user may ask that");
	}
	r = control_request_check(request, error);
	if (r < 0) {
		log_warning("control: uid %u (pid %d) asked for '%s' wrongly, refused: %s", client->peer.uid, (int)client->peer.pid,
			    control_verb_name(request->verb), error);
		return control_error(r, error);
	}
	return run_verb(client, request);
}

static json_t *answer_line(struct client *client, const char *line, size_t len)
{
	struct control_request request;
	const char *unknown;
	json_t *answer;
	int r;

	r = control_request_open(line, len, &request, &unknown);
	if (r == 0) {
		answer = answer_request(client, &request);
	} else if (r == -ENOSYS) {
		log_warning("control: uid %u (pid %d) asked for the unknown verb '%.40s', refused", client->peer.uid, (int)client->peer.pid,
			    unknown);
		answer = control_error(r, "there is no such verb");
	} else {
		log_warning("control: uid %u (pid %d) sent what is not a request, refused", client->peer.uid, (int)client->peer.pid);
		answer = control_error(r, "not a JSON object with a \"verb\"");
	}
	control_request_close(&request);
	return answer;
}

/* ---- connections ---- */

static void serve(struct client *client)
{
	char *line = malloc(CONTROL_LINE_MAX), *end;
	size_t filled = 0, n;
	ssize_t got;

	while (line) {
		got = recv(client->fd, line + filled, CONTROL_LINE_MAX - filled, 0);
		if (got <= 0)
			break;
		filled += got;
		while ((end = memchr(line, '\n', filled))) {
			json_t *answer;

			n = end - line + 1;
			client->pass_fd = -1;
			answer = answer_line(client, line, n - 1);
			if (send_json_with_fd(client->fd, answer, client->pass_fd) < 0)
				goto out;
			memmove(line, line + n, filled - n);
			filled -= n;
		}
		if (filled == CONTROL_LINE_MAX) {
			log_warning("control: uid %u (pid %d) sent a line of more than %d bytes, refused", client->peer.uid,
				    (int)client->peer.pid, CONTROL_LINE_MAX);
			(void)send_json(client->fd, control_error(-EMSGSIZE, "the line is too long"));	/* it is closed next */
			break;
		}
	}
out:
	free(line);
}

static void *client_thread(void *arg)
{
	struct client *client = arg, **p;
	struct control *control = client->fs->control;

	actor_set_peer(client->fd);
	serve(client);
	pthread_mutex_lock(&control->lock);
	for (p = &control->clients; *p != client; p = &(*p)->next)
		;
	*p = client->next;
	close(client->fd);
	sem_post(&control->places);
	pthread_cond_signal(&control->gone);
	pthread_mutex_unlock(&control->lock);
	free(client);
	return NULL;
}

static bool is_privileged(const struct peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

/* Root, the daemon's own user, and who has a role; without roles the socket's mode says the same. */
static bool may_ask(struct wormfs *fs, int fd, struct peer *ret_peer)
{
	if (peer_of_socket(fd, ret_peer) < 0)
		return false;
	if (is_privileged(ret_peer) || role_has(fs->hold_role, ret_peer) || role_has(fs->approve, ret_peer))
		return true;
	log_warning("control: uid %u (pid %d) may not ask, refused", ret_peer->uid, (int)ret_peer->pid);
	return false;
}

static void accept_one(struct wormfs *fs)
{
	struct timeval timeout = { .tv_sec = IDLE_TIMEOUT_S };
	struct control *control = fs->control;
	struct client *client;
	struct peer peer;
	int fd;

	fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		goto no_place;
	client = may_ask(fs, fd, &peer) ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		(void)send_json(fd, control_error(-EPERM, "only root and the daemon's user may ask"));	/* it is closed next */
		goto refuse;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	*client = (struct client){ .fs = fs, .fd = fd, .peer = peer, .privileged = is_privileged(&peer) };
	pthread_mutex_lock(&control->lock);
	client->next = control->clients;
	control->clients = client;
	if (thread_start(NULL, "control-client", client_thread, client) < 0) {
		control->clients = client->next;
		pthread_mutex_unlock(&control->lock);
		free(client);
		goto refuse;
	}
	pthread_mutex_unlock(&control->lock);
	return;
refuse:
	close(fd);
no_place:
	sem_post(&control->places);
}

static void *accept_thread(void *arg)
{
	struct wormfs *fs = arg;
	struct control *control = fs->control;

	for (;;) {
		struct pollfd fds[] = { { .fd = control->stop_fd, .events = POLLIN }, { .fd = control->listen_fd, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		if (!fds[1].revents)
			continue;
		while (sem_trywait(&control->places) < 0) {	/* all places taken: they end by time-out at the latest */
			if (poll(fds, 1, 5) > 0)
				return NULL;
		}
		accept_one(fs);
	}
}

/* The path of a state directory may be longer than a socket's may be: through its descriptor. */
static int bind_socket(struct wormfs *fs, int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int dirfd = open(fs->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool open_to_all;
	struct stat st;
	mode_t mask;
	int r;

	if (dirfd < 0)
		return -errno;
	(void)unlinkat(dirfd, CONTROL_SOCKET, 0);	/* of a daemon that was killed; we hold the lock */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET, dirfd);
	/* Who has a role must reach the socket: through the directory, which he cannot read, and nothing else in it is
	 * open to him. Then who asks is decided by accept_one() alone. */
	open_to_all = !role_is_empty(fs->hold_role) || !role_is_empty(fs->approve);
	if (fstat(dirfd, &st) < 0 || (open_to_all && fchmod(dirfd, 0711) < 0) ||
	    (!open_to_all && (st.st_mode & 0777) == 0711 && fchmod(dirfd, 0700) < 0)) {
		r = -errno;
		close(dirfd);
		return r;
	}
	mask = umask(open_to_all ? 0111 : 0177);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
	umask(mask);
	close(dirfd);
	return r;
}

int control_start(struct wormfs *fs)
{
	struct control *control = calloc(1, sizeof(*control));
	const char *bad = "";
	int r;

	if (!control)
		return -ENOMEM;
	for (int verb = 0; verb < CONTROL_VERBS; verb++)
		assert(run_of(verb));
	pthread_mutex_init(&control->lock, NULL);
	pthread_cond_init(&control->gone, NULL);
	sem_init(&control->places, 0, CONTROL_CLIENTS_MAX);
	r = role_parse(fs->opt.hold_role, &fs->hold_role, &bad);
	if (r == 0)
		r = role_parse(fs->opt.approve, &fs->approve, &bad);
	if (r < 0)
		complain("options 'hold_role', 'approve': '%s' is no user or @group", bad);	/* it was one a moment ago */
	control->stop_fd = eventfd(0, EFD_CLOEXEC);
	control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r == 0)
		r = control->stop_fd < 0 || control->listen_fd < 0 ? -errno : bind_socket(fs, control->listen_fd);
	if (r == 0) {
		fs->control = control;
		r = thread_start(&control->thread, "control", accept_thread, fs);
	}
	if (r < 0) {
		complain("cannot make the control socket '%s/" CONTROL_SOCKET "': %s", fs->state_dir, strerror(-r));
		close(control->listen_fd);
		close(control->stop_fd);
		free(control);
		fs->control = NULL;
	}
	return r;
}

void control_stop(struct wormfs *fs)
{
	struct control *control = fs->control;
	uint64_t one = 1;
	int dirfd;

	if (!control)
		return;
	if (write(control->stop_fd, &one, sizeof(one)) != sizeof(one))
		return;		/* cannot happen; better a leak than a hang */
	pthread_join(control->thread, NULL);
	pthread_mutex_lock(&control->lock);
	for (struct client *client = control->clients; client; client = client->next)
		shutdown(client->fd, SHUT_RDWR);
	while (control->clients)
		pthread_cond_wait(&control->gone, &control->lock);
	pthread_mutex_unlock(&control->lock);
	dirfd = open(fs->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd >= 0) {
		(void)unlinkat(dirfd, CONTROL_SOCKET, 0);	/* the next start does it otherwise */
		close(dirfd);
	}
	close(control->listen_fd);
	close(control->stop_fd);
	sem_destroy(&control->places);
	pthread_cond_destroy(&control->gone);
	pthread_mutex_destroy(&control->lock);
	free(control);
	role_free(fs->hold_role);
	role_free(fs->approve);
	fs->hold_role = fs->approve = NULL;
	fs->control = NULL;
}
