/* One thread accepts; each connection has a thread of its own, CONTROL_CLIENTS_MAX of them. Sockets
 * carry a time-out, so a silent client goes away by itself. */
#include "fs/control.h"

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
#include "fs/lock.h"
#include "fs/log.h"
#include "fs/request.h"
#include "fs/state.h"
#include "fs/timekeeper.h"
#include "lockstore/audit.h"
#include "lockstore/control.h"
#include "lockstore/reindex.h"

#define IDLE_TIMEOUT_S 30
#define BACKLOG 1024		/* connections the kernel keeps waiting for a place */
#define SYNC_TIMEOUT_MS 30000
#define SYNC_SETTLE_MS 500

struct control {
	int listen_fd, stop_fd;
	pthread_t thread;
	sem_t places;			/* connections that may still come */
	pthread_mutex_t lock;		/* `client`: so that stop can end them */
	struct client *clients;
	pthread_cond_t gone;
};

struct client {
	struct wormfs *fs;
	int fd;
	uid_t uid;
	struct client *next;
};

/* ---- answers ---- */

static int send_json(int fd, json_t *json)
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
		n = send(fd, p, left, MSG_NOSIGNAL);
		if (n < 0)
			break;
	}
	free(text);
	return n < 0 ? -errno : 0;
}

static const char *errno_name(int r)
{
	const char *name = strerrorname_np(-r);

	return name ? name : "EIO";
}

static json_t *answer_ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

static json_t *answer_error(int r, const char *text)
{
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "errno", errno_name(r), "error", text ? text : strerror(-r));
}

/* ---- verbs ---- */

struct verb {
	const char *name;
	bool has_path;
	json_t *(*run)(struct client *client, json_t *request, struct inode *ino);
};

static json_t *verb_mount(struct client *client, json_t *request, struct inode *ino)
{
	json_t *mount;
	int r = request_mount(client->fs, &mount);

	return r < 0 ? answer_error(r, NULL) : json_pack("{s:b, s:o}", "ok", 1, "mount", mount);
}

static json_t *verb_explain(struct client *client, json_t *request, struct inode *ino)
{
	json_t *file;
	int r = request_explain(client->fs, ino, &file);

	return r < 0 ? answer_error(r, NULL) : json_pack("{s:b, s:o}", "ok", 1, "file", file);
}

static json_t *verb_commit(struct client *client, json_t *request, struct inode *ino)
{
	int r = lock_commit(client->fs, ino, "asked for");

	switch (r) {
	case 0:
		return answer_ok();
	case -EBUSY:
		return answer_error(r, "a program still has it open or mapped for writing");
	case -EINVAL:
		return answer_error(r, "only regular files can be locked");
	case -EOPNOTSUPP:
		return answer_error(r, "nothing is locked on this mount (commit=never)");
	}
	return answer_error(r, NULL);
}

static json_t *verb_extend(struct client *client, json_t *request, struct inode *ino)
{
	const char *text = json_string_value(json_object_get(request, "until"));
	char until[RETENTION_TEXT_BYTES];
	int64_t until_s;
	int r;

	if (!text)
		return answer_error(-EINVAL, "\"until\" is missing");
	r = request_extend(client->fs, ino, text, &until_s);
	if (r == -EPERM)
		return answer_error(r, "its retention ends later already: it can only be extended");
	if (r == -EINVAL)
		return answer_error(r, "not a date or period, out of min and max of this mount, or the file is not locked");
	if (r < 0)
		return answer_error(r, NULL);
	retention_format_until(until_s, until);
	return json_pack("{s:b, s:s}", "ok", 1, "until", until);
}

/* Why a privileged request failed, when it is that nobody could have proved it; else NULL. */
static const char *audit_refusal(struct wormfs *fs)
{
	struct audit_status status = { 0 };

	if (fs->audit)
		audit_status(fs->audit, &status);
	return status.error ? "the audit log cannot be written, and without its line this is not done" : NULL;
}

static json_t *verb_hold(struct client *client, json_t *request, struct inode *ino)
{
	const char *name = json_string_value(json_object_get(request, "case"));
	int r;

	if (!name)
		return answer_error(-EINVAL, "\"case\" is missing");
	r = lock_hold(client->fs, ino, name, client->uid);
	if (r == 0)
		log_info("uid %u placed hold '%s' on a file", client->uid, name);
	if (r == -EEXIST)
		return answer_error(r, "it is under this hold already");
	if (r == -EINVAL)
		return answer_error(r, "it is not locked, or this is no name for a hold");
	return r < 0 ? answer_error(r, NULL) : answer_ok();
}

static json_t *verb_release(struct client *client, json_t *request, struct inode *ino)
{
	const char *name = json_string_value(json_object_get(request, "case"));
	int r;

	if (!name)
		return answer_error(-EINVAL, "\"case\" is missing");
	r = lock_release(client->fs, ino, name);
	if (r == 0)
		log_info("uid %u released hold '%s' of a file", client->uid, name);
	if (r == -ENOENT)
		return answer_error(r, "it is not under this hold");
	if (r == -EINVAL)
		return answer_error(r, "it is not locked");
	return r < 0 ? answer_error(r, audit_refusal(client->fs)) : answer_ok();
}

static json_t *verb_clock_accept(struct client *client, json_t *request, struct inode *ino)
{
	const char *reason = json_string_value(json_object_get(request, "reason"));
	char now[RETENTION_TEXT_BYTES];
	int64_t gained_s;
	int r;

	if (!reason || !*reason)
		return answer_error(-EINVAL, "\"reason\" is missing: it goes to the audit log");
	r = timekeeper_accept(client->fs, reason, &gained_s);
	switch (r) {
	case 0:
		log_info("uid %u moved the clock forward by %lld s", client->uid, (long long)gained_s);
		retention_format_until(clock_source_now_s(client->fs->clock), now);
		return json_pack("{s:b, s:I, s:s}", "ok", 1, "gained", (json_int_t)gained_s, "now", now);
	case -EALREADY:
		return answer_error(r, "the clock is not behind the system's date, and it never goes back");
	case -EOPNOTSUPP:
		return answer_error(r, "this mount has no clock of its own (-o clock)");
	case -EPERM:
		return answer_error(r, "in compliance mode the system's date is taken over only while the kernel says that it is synchronised (NTP)");
	}
	return answer_error(r, audit_refusal(client->fs));
}

static json_t *verb_sync(struct client *client, json_t *request, struct inode *ino)
{
	int r;

	/* What was closed a moment ago is on its way: the kernel lets go of a file after close(2) has returned.
	 * A mapping that outlives its file does not hold the answer up. */
	for (int waited_ms = 0; atomic_load(&client->fs->n_closing) > 0 && waited_ms < SYNC_SETTLE_MS; waited_ms += 2)
		usleep(2000);
	r = committer_flush(client->fs->committer, SYNC_TIMEOUT_MS);
	(void)audit_flush(client->fs->audit, SYNC_TIMEOUT_MS);	/* the status says when it cannot be written */

	return r < 0 ? answer_error(r, "the ledger cannot be written") : answer_ok();
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

static json_t *verb_reindex(struct client *client, json_t *request, struct inode *ino)
{
	struct reindex_stats stats;
	int r;

	r = state_reindex(client->fs, send_progress, client, &stats);
	if (r < 0)
		return answer_error(r, ledger_error(client->fs->ledger));
	return json_pack("{s:b, s:o}", "ok", 1, "stats", stats_json(&stats));
}

static const struct verb verbs[] = {
	{ "mount", false, verb_mount },
	{ "explain", true, verb_explain },
	{ "commit", true, verb_commit },
	{ "extend", true, verb_extend },
	{ "hold", true, verb_hold },
	{ "release", true, verb_release },
	{ "clock_accept", false, verb_clock_accept },
	{ "sync", false, verb_sync },
	{ "reindex", false, verb_reindex },
};

static json_t *run_verb(struct client *client, const struct verb *verb, json_t *request)
{
	const char *text = json_string_value(json_object_get(request, "path"));
	struct inode *ino = NULL;
	json_t *answer;
	char *path;
	int r;

	if (!verb->has_path)
		return verb->run(client, request, NULL);
	if (!text)
		return answer_error(-EINVAL, "\"path\" is missing");
	r = control_path_decode(text, &path);
	if (r < 0)
		return answer_error(r, "\"path\" is not a path below the share");
	r = inode_walk(client->fs, path, &ino);
	free(path);
	if (r < 0)
		return answer_error(r, NULL);
	answer = verb->run(client, request, ino);
	inode_put(client->fs, ino);
	return answer;
}

static json_t *answer_line(struct client *client, const char *line, size_t len)
{
	json_error_t error;
	json_t *request, *answer = NULL;
	const char *name;

	request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	name = json_string_value(json_object_get(request, "verb"));
	if (!name) {
		log_warning("control: uid %u sent what is not a request, refused", client->uid);
		json_decref(request);
		return answer_error(-EINVAL, "not a JSON object with a \"verb\"");
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && !answer; i++)
		if (strcmp(verbs[i].name, name) == 0)
			answer = run_verb(client, &verbs[i], request);
	if (!answer) {
		log_warning("control: uid %u asked for the unknown verb '%.40s', refused", client->uid, name);
		answer = answer_error(-ENOSYS, "there is no such verb");
	}
	json_decref(request);
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
			n = end - line + 1;
			if (send_json(client->fd, answer_line(client, line, n - 1)) < 0)
				goto out;
			memmove(line, line + n, filled - n);
			filled -= n;
		}
		if (filled == CONTROL_LINE_MAX) {
			log_warning("control: uid %u sent a line of more than %d bytes, refused", client->uid, CONTROL_LINE_MAX);
			(void)send_json(client->fd, answer_error(-EMSGSIZE, "the line is too long"));	/* it is closed next */
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

/* Root and the daemon's own user; the socket's mode says the same. */
static bool may_ask(int fd, uid_t *ret_uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	*ret_uid = peer.uid;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	log_warning("control: uid %u may not ask, refused", peer.uid);
	return false;
}

static void accept_one(struct wormfs *fs)
{
	struct timeval timeout = { .tv_sec = IDLE_TIMEOUT_S };
	struct control *control = fs->control;
	struct client *client;
	pthread_attr_t attr;
	pthread_t thread;
	uid_t uid;
	int fd;

	fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		goto no_place;
	client = may_ask(fd, &uid) ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		(void)send_json(fd, answer_error(-EPERM, "only root and the daemon's user may ask"));	/* it is closed next */
		goto refuse;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	*client = (struct client){ .fs = fs, .fd = fd, .uid = uid };
	pthread_mutex_lock(&control->lock);
	client->next = control->clients;
	control->clients = client;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, client_thread, client) != 0) {
		control->clients = client->next;
		pthread_mutex_unlock(&control->lock);
		pthread_attr_destroy(&attr);
		free(client);
		goto refuse;
	}
	pthread_mutex_unlock(&control->lock);
	pthread_attr_destroy(&attr);
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
	mode_t mask;
	int r;

	if (dirfd < 0)
		return -errno;
	(void)unlinkat(dirfd, CONTROL_SOCKET, 0);	/* of a daemon that was killed; we hold the lock */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET, dirfd);
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
	umask(mask);
	close(dirfd);
	return r;
}

int control_start(struct wormfs *fs)
{
	struct control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	pthread_mutex_init(&control->lock, NULL);
	pthread_cond_init(&control->gone, NULL);
	sem_init(&control->places, 0, CONTROL_CLIENTS_MAX);
	control->stop_fd = eventfd(0, EFD_CLOEXEC);
	control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r = control->stop_fd < 0 || control->listen_fd < 0 ? -errno : bind_socket(fs, control->listen_fd);
	if (r == 0) {
		fs->control = control;
		r = -pthread_create(&control->thread, NULL, accept_thread, fs);
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
	fs->control = NULL;
}
