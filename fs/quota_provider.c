/* The thread owns the providers but for their counters. It waits for its eventfd, and for the children of commands; a command that
 * has all the children it may have holds the queue back until one ends or is killed. */
#include "fs/quota_provider.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/events.h"
#include "fs/log.h"
#include "fs/quota_command.h"
#include "fs/quota_netlink.h"
#include "fs/quota_notice.h"
#include "fs/state.h"
#include "lockstore/events/event_json.h"
#include "lockstore/events/stdout_lines.h"
#include "lockstore/thread.h"

#define ANSWER_BYTES_MAX 65536	/* of an HTTP answer, which nobody reads */
#define VARIABLES 16
#define BUSY_MS 1	/* until events=json:- has written its line to stdout */

enum kind { KIND_STDOUT, KIND_COMMAND, KIND_HTTP, KIND_NETLINK };

struct provider {
	enum kind kind;
	const char *value;		/* of the options */
	struct quota_command command;
	CURL *easy;
	struct quota_netlink netlink;
	struct curl_slist *headers;
	struct stdout_lines out;
	bool failing;
	atomic_ullong n_told, n_failed;
};

struct item {
	struct quota_notice notice;	/* its path is ours */
	int64_t time_ns;
};

struct quota_providers {
	struct provider providers[QUOTA_PROVIDERS_MAX];
	unsigned n_providers;
	pthread_mutex_t lock;		/* queue, head, n, stopping; a leaf */
	struct item queue[QUOTA_PROVIDER_QUEUE];
	unsigned head, n;
	bool stopping, running;
	atomic_ullong n_lost;
	int wake_fd;
	pthread_t thread;
	struct event_json json;
	char line[EVENT_JSON_MAX];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Also the first failure after a success is told, and no other. `why` NULL: it took it. */
static void count(struct provider *p, const char *why)
{
	if (!why) {
		atomic_fetch_add(&p->n_told, 1);
		if (p->failing)
			log_info("quota_notify: '%s' takes notices again", p->value);
		p->failing = false;
		return;
	}
	atomic_fetch_add(&p->n_failed, 1);
	if (!p->failing)
		log_warning("quota_notify: '%s': %s, further failures are only counted", p->value, why);
	p->failing = true;
}

/* ---- stdout ---- */

static void tell_stdout(struct provider *p, const char *line, size_t len)
{
	int64_t until_ms = now_ms() + QUOTA_PROVIDER_WAIT_MS;
	size_t done = 0;

	while (done < len) {
		struct pollfd out = { .fd = p->out.fd, .events = POLLOUT };
		ssize_t n = stdout_lines_write(&p->out, line + done, len - done);
		int64_t left = until_ms - now_ms();

		if (n >= 0) {
			done += n;
			continue;
		}
		if ((n != -EAGAIN && n != -EBUSY) || left <= 0) {
			stdout_lines_give_up(&p->out);
			count(p, left <= 0 ? "nobody reads it" : strerror(-n));
			return;
		}
		poll(&out, n == -EAGAIN ? 1 : 0, n == -EAGAIN ? left : BUSY_MS);
	}
	count(p, NULL);
}

/* ---- command ---- */

struct environment {
	char *vars[VARIABLES + 1];
	unsigned n;
	bool failed;
};

static void add(struct environment *env, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct environment *env, const char *format, ...)
{
	va_list ap;

	if (env->n == VARIABLES) {
		env->failed = true;
		return;
	}
	va_start(ap, format);
	if (vasprintf(&env->vars[env->n], format, ap) < 0) {
		env->vars[env->n] = NULL;
		env->failed = true;
	} else {
		env->n++;
	}
	va_end(ap);
}

/* Nothing of the daemon's own environment, which may have a cluster's credentials. */
static void environment_init(struct environment *env, const struct quota_notice *notice, const char *json)
{
	const char *kind = event_quota_kind_name(notice->quota.kind), *warning = event_quota_warning_name(notice->quota.warning);
	const char *error = notice->error ? strerrorname_np(notice->error) : NULL;

	memset(env, 0, sizeof(*env));
	add(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add(env, "QUOTA_KIND=%s", kind ? kind : "");
	add(env, "QUOTA_WARNING=%s", warning ? warning : "");
	add(env, "QUOTA_ERROR=%s", error ? error : "");
	add(env, "QUOTA_PATH=%s%s", notice->path ? "/" : "", notice->path ? notice->path : "");
	add(env, "QUOTA_UID=%u", notice->actor.uid);
	add(env, "QUOTA_GID=%u", notice->actor.gid);
	add(env, "QUOTA_PID=%d", (int)notice->actor.pid);
	add(env, "QUOTA_COMMAND=%s", notice->comm);
	add(env, "QUOTA_DEVICE=%u:%u", notice->quota.major, notice->quota.minor);
	add(env, "QUOTA_COUNT=%u", notice->quota.count);
	add(env, "QUOTA_DETAIL=%s", notice->detail);
	add(env, "QUOTA_EVENT=%s", json);
}

static void environment_fini(struct environment *env)
{
	for (unsigned i = 0; i < env->n; i++)
		free(env->vars[i]);
}

static void tell_command(struct provider *p, const struct quota_notice *notice, const char *json)
{
	struct environment env;
	int r;

	environment_init(&env, notice, json);
	r = env.failed ? -ENOMEM : quota_command_start(&p->command, env.vars, now_ms());
	environment_fini(&env);
	if (r < 0)
		count(p, strerror(-r));
}

static void reap(struct provider *p)
{
	unsigned failed = 0, ended = quota_command_reap(&p->command, now_ms(), &failed);

	for (unsigned i = 0; i < ended; i++)
		count(p, i < failed ? "it failed, or was killed after its time" : NULL);
}

/* ---- HTTP ---- */

static size_t discard(char *data, size_t size, size_t n, void *arg)
{
	size_t *total = arg;

	*total += n;
	return *total <= ANSWER_BYTES_MAX ? n : 0;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int open_http(struct provider *p)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -EIO;
	p->easy = curl_easy_init();
	p->headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (!p->easy || !p->headers)
		return -ENOMEM;
	curl_easy_setopt(p->easy, CURLOPT_URL, p->value);
	curl_easy_setopt(p->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(p->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(p->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(p->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(p->easy, CURLOPT_QUICK_EXIT, 1L);	/* a name server that is silent holds up no unmount */
	curl_easy_setopt(p->easy, CURLOPT_TIMEOUT_MS, (long)QUOTA_PROVIDER_WAIT_MS);
	curl_easy_setopt(p->easy, CURLOPT_USERAGENT, "wormfs/" WORMFS_VERSION);
	curl_easy_setopt(p->easy, CURLOPT_HTTPHEADER, p->headers);
	curl_easy_setopt(p->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(p->easy, CURLOPT_WRITEFUNCTION, discard);
	return 0;
}

static void tell_http(struct provider *p, const char *json, size_t len)
{
	char why[64];
	long status = 0;
	size_t answer = 0;
	CURLcode code;

	curl_easy_setopt(p->easy, CURLOPT_WRITEDATA, &answer);
	curl_easy_setopt(p->easy, CURLOPT_POSTFIELDS, json);
	curl_easy_setopt(p->easy, CURLOPT_POSTFIELDSIZE, (long)len);
	code = curl_easy_perform(p->easy);
	curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	snprintf(why, sizeof(why), "HTTP status %ld", status);
	count(p, code != CURLE_OK ? curl_easy_strerror(code) : status / 100 != 2 ? why : NULL);
}

/* ---- netlink ---- */

static void tell_netlink(struct provider *p, const struct quota_notice *notice)
{
	int r = notice->by_kernel ? -EOPNOTSUPP : quota_netlink_send(&p->netlink, &notice->quota, notice->actor.uid);

	if (r != -EOPNOTSUPP)	/* what it has no words for, or has heard already, is no failure of it */
		count(p, r < 0 ? strerror(-r) : NULL);
}

/* ---- the thread ---- */

static void tell(struct quota_providers *qp, const struct item *item)
{
	const struct event_counts none = { 0 };
	char *line = qp->line;
	struct event ev;
	size_t len;

	events_of_quota(&item->notice, &ev);
	ev.time_ns = item->time_ns;
	len = event_json_format(&qp->json, &ev, &none, line);
	for (unsigned i = 0; i < qp->n_providers; i++)
		if (qp->providers[i].kind == KIND_STDOUT)
			tell_stdout(&qp->providers[i], line, len);
	line[--len] = '\0';
	for (unsigned i = 0; i < qp->n_providers; i++) {
		if (qp->providers[i].kind == KIND_COMMAND)
			tell_command(&qp->providers[i], &item->notice, line);
		else if (qp->providers[i].kind == KIND_HTTP)
			tell_http(&qp->providers[i], line, len);
		else if (qp->providers[i].kind == KIND_NETLINK)
			tell_netlink(&qp->providers[i], &item->notice);
	}
}

/* Children that are left; *ret_full: some command has no room for another. */
static unsigned look_after_children(struct quota_providers *qp, bool *ret_full)
{
	unsigned n = 0;

	*ret_full = false;
	for (unsigned i = 0; i < qp->n_providers; i++) {
		reap(&qp->providers[i]);
		n += qp->providers[i].command.n_children;
		*ret_full |= qp->providers[i].command.n_children == QUOTA_COMMAND_CHILDREN;
	}
	return n;
}

static void wait_for_work(struct quota_providers *qp, bool stopping, int64_t end_ms)
{
	struct pollfd fds[1 + QUOTA_PROVIDERS_MAX * QUOTA_COMMAND_CHILDREN] = { { .fd = qp->wake_fd, .events = POLLIN } };
	int64_t now = now_ms();
	int timeout_ms = !stopping ? -1 : end_ms > now ? end_ms - now : 0;
	unsigned n = 1;
	uint64_t wakes;

	for (unsigned i = 0; i < qp->n_providers; i++)
		n += quota_command_poll(&qp->providers[i].command, now, fds + n, &timeout_ms);
	if (poll(fds, n, timeout_ms) > 0 && fds[0].revents)
		(void)!read(qp->wake_fd, &wakes, sizeof(wakes));	/* it does not block, and says nothing new */
}

static void *run(void *arg)
{
	struct quota_providers *qp = arg;
	int64_t end_ms = 0;

	for (;;) {
		bool full, stopping, any;
		unsigned children = look_after_children(qp, &full);
		struct item item;

		pthread_mutex_lock(&qp->lock);
		stopping = qp->stopping;
		if (stopping && end_ms == 0)
			end_ms = now_ms() + QUOTA_PROVIDER_WAIT_MS;
		any = qp->n > 0 && !full && !(stopping && now_ms() >= end_ms);
		if (any) {
			item = qp->queue[qp->head];
			qp->head = (qp->head + 1) % QUOTA_PROVIDER_QUEUE;
			qp->n--;
		}
		if (stopping && !any && ((qp->n == 0 && children == 0) || now_ms() >= end_ms)) {
			pthread_mutex_unlock(&qp->lock);
			return NULL;
		}
		pthread_mutex_unlock(&qp->lock);
		if (any) {
			tell(qp, &item);
			free((char *)item.notice.path);
		} else {
			wait_for_work(qp, stopping, end_ms);
		}
	}
}

static void wake(struct quota_providers *qp)
{
	uint64_t one = 1;

	(void)!write(qp->wake_fd, &one, sizeof(one));	/* full: it is awake already */
}

void quota_provider_put(struct wormfs *fs, const struct quota_notice *notice)
{
	struct quota_providers *qp = fs->quota_providers;
	struct item item = { .notice = *notice };
	struct timespec t;
	bool lost;

	if (!qp)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	item.time_ns = t.tv_sec * 1000000000LL + t.tv_nsec;
	item.notice.path = notice->path ? strdup(notice->path) : NULL;	/* without memory, without its path */
	pthread_mutex_lock(&qp->lock);
	lost = qp->n == QUOTA_PROVIDER_QUEUE || qp->stopping;
	if (!lost)
		qp->queue[(qp->head + qp->n++) % QUOTA_PROVIDER_QUEUE] = item;
	pthread_mutex_unlock(&qp->lock);
	if (lost) {
		atomic_fetch_add(&qp->n_lost, 1);
		free((char *)item.notice.path);
	}
	wake(qp);
}

/* ---- life ---- */

int quota_provider_check(const char *value)
{
	CURLU *url;
	char *user = NULL;
	bool ok;

	if (strcmp(value, "stdout") == 0 || strcmp(value, "netlink") == 0)
		return 0;
	if (strncmp(value, "command:", 8) == 0)
		return value[8] == '/' ? 0 : -EINVAL;
	if (strncmp(value, "http://", 7) != 0 && strncmp(value, "https://", 8) != 0)
		return -EINVAL;
	url = curl_url();
	if (!url)
		return -ENOMEM;
	ok = curl_url_set(url, CURLUPART_URL, value, 0) == CURLUE_OK;
	if (ok && curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
		ok = false;	/* all users see a command line */
	curl_free(user);
	curl_url_cleanup(url);
	return ok ? 0 : -EINVAL;
}

static int open_provider(struct provider *p, const char *value)
{
	struct stat st;

	p->value = value;
	if (strcmp(value, "stdout") == 0) {
		p->kind = KIND_STDOUT;
		return stdout_lines_open(&p->out);
	}
	if (strcmp(value, "netlink") == 0) {
		p->kind = KIND_NETLINK;
		return quota_netlink_open(&p->netlink);
	}
	if (strncmp(value, "command:", 8) != 0) {
		p->kind = KIND_HTTP;
		return open_http(p);
	}
	p->kind = KIND_COMMAND;
	p->command.path = value + 8;
	if (stat(p->command.path, &st) < 0 || access(p->command.path, X_OK) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -EACCES;
}

json_t *quota_provider_json(struct wormfs *fs)
{
	static const char *const names[] = { [KIND_STDOUT] = "stdout", [KIND_COMMAND] = "command", [KIND_HTTP] = "http",
					     [KIND_NETLINK] = "netlink" };
	struct quota_providers *qp = fs->quota_providers;
	json_t *list;

	if (!qp)
		return NULL;
	list = json_array();
	for (unsigned i = 0; list && i < qp->n_providers; i++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "kind", names[qp->providers[i].kind],
						      "told", (json_int_t)atomic_load(&qp->providers[i].n_told),
						      "failed", (json_int_t)atomic_load(&qp->providers[i].n_failed)));
	return json_pack("{s:o, s:I}", "providers", list, "lost", (json_int_t)atomic_load(&qp->n_lost));
}

int quota_provider_open(struct wormfs *fs)
{
	struct quota_providers *qp;
	int r;

	if (fs->opt.quota_nproviders == 0)
		return 0;
	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return -ENOMEM;
	fs->quota_providers = qp;
	pthread_mutex_init(&qp->lock, NULL);
	qp->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (qp->wake_fd < 0)
		return -errno;
	for (unsigned i = 0; i < fs->opt.quota_nproviders; i++) {
		qp->n_providers++;
		qp->providers[i].netlink.fd = qp->providers[i].out.fd = -1;
		r = open_provider(&qp->providers[i], fs->opt.quota_providers[i]);
		if (r < 0) {
			complain("quota_notify=%s: %s%s", fs->opt.quota_providers[i], strerror(-r), qp->providers[i].kind != KIND_NETLINK ||
				 r != -ENOENT ? "" : "; the kernel has VFS_DQUOT in its first network namespace only, and not every kernel has it");
			return r;
		}
	}
	r = thread_start(&qp->thread, "quota-notify", run, qp);
	qp->running = r == 0;
	return r;
}

void quota_provider_close(struct wormfs *fs)
{
	struct quota_providers *qp = fs->quota_providers;
	unsigned killed = 0;

	if (!qp)
		return;
	if (qp->running) {
		pthread_mutex_lock(&qp->lock);
		qp->stopping = true;
		pthread_mutex_unlock(&qp->lock);
		wake(qp);
		pthread_join(qp->thread, NULL);
	}
	for (unsigned i = 0; i < qp->n_providers; i++) {
		killed += quota_command_end(&qp->providers[i].command);
		if (qp->providers[i].easy)
			curl_easy_cleanup(qp->providers[i].easy);
		quota_netlink_close(&qp->providers[i].netlink);
		stdout_lines_close(&qp->providers[i].out);
		curl_slist_free_all(qp->providers[i].headers);
	}
	if (qp->n > 0 || killed > 0)
		log_warning("quota_notify: unmounted with %u notices not told and %u programs not ended, which were killed", qp->n, killed);
	for (unsigned i = 0; i < qp->n; i++)
		free((char *)qp->queue[(qp->head + i) % QUOTA_PROVIDER_QUEUE].notice.path);
	if (qp->wake_fd >= 0)
		close(qp->wake_fd);
	pthread_mutex_destroy(&qp->lock);
	fs->quota_providers = NULL;
	free(qp);
}
